"""What a model sees in a set of images: its predictions and a map of each kind, all on one scale.

A map is (grid height, grid width) in multiples of the even share: 1 is what every patch would have if the map were
spread evenly, so maps of any kind, model and picture size can be laid side by side.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from woofkit.attention import (
    attention_rollout,
    class_relevance,
    cls_attention,
    record_attention,
    recordable_images,
    token_layout,
)
from woofkit.config import ConfigError, require_choice
from woofkit.data import Transform
from woofkit.explain.measures import center_gaussian_map, random_map, to_shares

KINDS = {
    "attention": "attention of CLS in the last block",
    "rollout": "attention rollout",
    "relevance": "class relevance",
}
BASELINES = ("random", "centre")  # maps that know nothing of the picture


class View(NamedTuple):
    """Logits (N, C), the classes int64 (N,) that relevance is about, and kind -> maps (N, grid height, grid width)."""

    logits: Tensor
    classes: Tensor
    maps: dict[str, Tensor]

    @property
    def probabilities(self) -> Tensor:
        """Softmax of the logits, (N, C)."""
        return self.logits.softmax(dim=1)


def require_maps(model: nn.Module, image_size: int) -> None:
    """Raise ConfigError, with the reason, for a model that has no maps or whose maps would mislead."""
    name = type(model).__name__
    try:
        with record_attention(model):
            grid, _ = token_layout(model, (image_size, image_size))
    except TypeError as error:
        raise ConfigError(f"no attention maps of this model: {error}") from error
    if getattr(model, "global_pool", "token") != "token":
        raise ConfigError(f"no attention maps of this {name}: its head reads the mean of all patches, not CLS")
    if image_size % grid[0] or image_size % grid[1]:
        raise ConfigError(f"no attention maps of this {name}: {image_size} pixels are no multiple of {grid} patches")


def look(
    model: nn.Module,
    pixels: Tensor,
    transform: Transform,
    kinds: Sequence[str] = tuple(KINDS),
    classes: Tensor | None = None,
) -> View:
    """Run the model on images and make their maps, in multiples of the even share.

    Args:
        pixels: uint8 (N, 3, H, W), as `load_pixels` gives them.
        kinds: which maps, of `KINDS`.
        classes: int64 (N,), what relevance is asked about; None asks about each prediction.

    Raises:
        ConfigError: an unknown kind, or no image.
    """
    for kind in kinds:
        require_choice("kind", kind, tuple(KINDS))
    if len(pixels) == 0:
        raise ConfigError("there is no image to look at")
    parts = [_look_at(model, images, kinds, chosen) for images, chosen in _inputs(model, pixels, transform, classes)]
    logits, asked = (torch.cat([part[place] for part in parts]) for place in (0, 1))
    return View(logits, asked, {kind: torch.cat([part[2][kind] for part in parts]) for kind in kinds})


def baseline_maps(grid: tuple[int, int], count: int, seed: int = 0) -> dict[str, Tensor]:
    """`count` maps of each of `BASELINES`, in multiples of the even share; the random ones differ."""
    random = torch.stack([random_map(grid, seed=seed * count + image) for image in range(count)])
    return {"random": to_even(random), "centre": to_even(center_gaussian_map(grid).expand(count, *grid))}


def to_even(maps: Tensor) -> Tensor:
    """Scale maps (..., height, width) to multiples of the even share: each has the mean 1."""
    return to_shares(maps) * (maps.shape[-2] * maps.shape[-1])


def _inputs(
    model: nn.Module, pixels: Tensor, transform: Transform, classes: Tensor | None
) -> Iterator[tuple[Tensor, Tensor | None]]:
    device, batch = next(model.parameters()).device, recordable_images(model, tuple(pixels.shape[-2:]))
    for start in range(0, len(pixels), batch):
        images = transform.normalize(pixels[start : start + batch].to(device))
        yield images, None if classes is None else classes[start : start + batch].to(device)


def _look_at(
    model: nn.Module, images: Tensor, kinds: Sequence[str], classes: Tensor | None
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    relevance = "relevance" in kinds
    layout = token_layout(model, tuple(images.shape[-2:]))
    layers = None if relevance or "rollout" in kinds else -1
    with torch.set_grad_enabled(relevance), record_attention(model, layers, gradients=relevance) as recorder:
        logits = model(images)
    attention = recorder.maps
    classes = logits.argmax(dim=1) if classes is None else classes
    maps = {}
    for kind in kinds:
        if kind == "attention":
            made = cls_attention(attention[:, -1:], *layout).mean(dim=(1, 2))
        elif kind == "rollout":
            made = attention_rollout(attention, *layout)
        else:
            score = logits.gather(1, classes[:, None]).sum()
            made = class_relevance(attention, recorder.gradients(score), *layout)
        maps[kind] = to_even(made).cpu()
    return logits.detach().cpu(), classes.cpu(), maps
