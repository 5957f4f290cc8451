"""What a model sees in a set of images: its predictions and a map of each kind, all on one scale.

A map is (grid height, grid width) in multiples of the even share: 1 is what every patch would have if the map were
spread evenly, so maps of any kind, model and picture size can be laid side by side.
"""

from collections.abc import Iterator, Sequence
from itertools import repeat
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
from woofkit.data import Images
from woofkit.explain.measures import center_gaussian_map, random_map, to_shares

KINDS = {
    "attention": "attention of CLS in the last block",
    "rollout": "attention rollout",
    "relevance": "class relevance",
}
BASELINES = ("random", "centre")  # maps that know nothing of the picture


class Explanations(NamedTuple):
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
    if (pooling := getattr(model, "global_pool", "token")) != "token":
        raise ConfigError(f"no attention maps of this {name}: its head reads all patches ({pooling!r}), not CLS")
    if image_size % grid[0] or image_size % grid[1]:
        raise ConfigError(f"no attention maps of this {name}: {image_size} pixels are no multiple of {grid} patches")


def explain_images(
    model: nn.Module, images: Images, kinds: Sequence[str] = tuple(KINDS), classes: Tensor | None = None
) -> Explanations:
    """Run the model on images and make their maps, in multiples of the even share.

    Args:
        images: their labels are not used.
        kinds: which maps, of `KINDS`.
        classes: int64 (N,), the classes that relevance is about; None takes each prediction.

    Raises:
        ConfigError: an unknown kind, or no image.
    """
    for kind in kinds:
        require_choice("kind", kind, tuple(KINDS))
    if len(images) == 0:
        raise ConfigError("there is no image to explain")
    batch = recordable_images(model, tuple(images.pixels.shape[-2:]))
    asked = repeat(None) if classes is None else classes.split(batch)
    inputs = model_inputs(model, images, batch)
    parts = [_explain_batch(model, *pair, kinds) for pair in zip(inputs, asked, strict=classes is not None)]
    logits, classes = (torch.cat([part[place] for part in parts]) for place in (0, 1))
    return Explanations(logits, classes, {kind: torch.cat([part.maps[kind] for part in parts]) for kind in kinds})


def model_inputs(model: nn.Module, images: Images, batch: int) -> Iterator[Tensor]:
    """Yield the images as the model takes them: float32 (B, 3, H, W) on its device, `batch` or fewer at once."""
    device = next(model.parameters()).device
    for pixels in images.pixels.split(batch):
        yield images.transform.normalize(pixels.to(device))


def baseline_maps(grid: tuple[int, int], count: int, seed: int = 0) -> dict[str, Tensor]:
    """`count` maps of each of `BASELINES`, in multiples of the even share; the random ones differ."""
    random = torch.stack([random_map(grid, seed=seed * count + image) for image in range(count)])
    return {"random": to_even(random), "centre": to_even(center_gaussian_map(grid).expand(count, *grid))}


def to_even(maps: Tensor) -> Tensor:
    """Scale maps (..., height, width) to multiples of the even share: each has the mean 1."""
    return to_shares(maps) * (maps.shape[-2] * maps.shape[-1])


def _explain_batch(model: nn.Module, inputs: Tensor, classes: Tensor | None, kinds: Sequence[str]) -> Explanations:
    relevance = "relevance" in kinds
    layers = None if relevance or "rollout" in kinds else -1  # all of them, or the last alone
    layout = token_layout(model, tuple(inputs.shape[-2:]))
    with torch.set_grad_enabled(relevance), record_attention(model, layers, gradients=relevance) as recorder:
        logits = model(inputs)
    attention = recorder.maps  # (B, layers, heads, tokens, tokens)
    classes = logits.argmax(dim=1) if classes is None else classes.to(inputs.device)
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
    return Explanations(logits.detach().cpu(), classes.cpu(), maps)
