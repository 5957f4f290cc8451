"""What a model sees in a set of images: its predictions and a map of each kind, all on one scale.

A map is (grid height, grid width) in multiples of the even share: 1 is what every patch would have if the map were
spread evenly, so maps of any kind, model and picture size can be laid side by side.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from woofkit.attention import attention_rollout, class_relevance, cls_attention, record_attention, token_layout
from woofkit.attention_measures import center_gaussian_map, random_map, to_shares
from woofkit.config import ConfigError, require_choice
from woofkit.preprocess import Transform

KINDS = {
    "attention": "attention of CLS in the last block",
    "rollout": "attention rollout",
    "relevance": "class relevance",
}
BASELINES = ("random", "centre")  # maps that know nothing of the picture
BATCH = 16  # images at once: recording all layers takes 11 MB an image with gradients


class View(NamedTuple):
    """Logits (N, C), the classes int64 (N,) that relevance is about, and kind -> maps (N, grid height, grid width)."""

    logits: Tensor
    classes: Tensor
    maps: dict[str, Tensor]

    @property
    def probabilities(self) -> Tensor:
        """Softmax of the logits, (N, C)."""
        return self.logits.softmax(dim=1)


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
    device = next(model.parameters()).device
    for start in range(0, len(pixels), BATCH):
        images = transform.normalize(pixels[start : start + BATCH].to(device))
        yield images, None if classes is None else classes[start : start + BATCH].to(device)


def _look_at(
    model: nn.Module, images: Tensor, kinds: Sequence[str], classes: Tensor | None
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    relevance = "relevance" in kinds
    layout = token_layout(model, tuple(images.shape[-2:]))
    layers = None if relevance or "rollout" in kinds else -1
    with torch.set_grad_enabled(relevance), record_attention(model, layers, gradients=relevance) as recorder:
        logits = model(images)
    classes = logits.argmax(dim=1) if classes is None else classes
    maps = {}
    for kind in kinds:
        if kind == "attention":
            made = cls_attention(recorder.maps[:, -1:], *layout).mean(dim=(1, 2))
        elif kind == "rollout":
            made = attention_rollout(recorder.maps, *layout)
        else:
            score = logits.gather(1, classes[:, None]).sum()
            made = class_relevance(recorder.maps, recorder.gradients(score), *layout)
        maps[kind] = to_even(made).cpu()
    return logits.detach().cpu(), classes.cpu(), maps
