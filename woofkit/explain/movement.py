"""How far attention has moved from where it was, and what kind of attention it is, by layer and head.

Attention is as it was recorded, (batch, layers, heads, tokens, tokens); its rows sum to 1.
"""

import torch
from torch import Tensor, nn

from woofkit.attention import record_attention, recordable_images, token_layout
from woofkit.data import Images
from woofkit.explain.maps import model_inputs
from woofkit.explain.measures import corner_density

BATCH = 32  # images at once where no attention is recorded


def jensen_shannon(first: Tensor, second: Tensor) -> Tensor:
    """How far two attentions of the same images are apart: (batch, layers, heads) in bits, the mean over rows.

    JS(p, q) = H((p + q) / 2) - (H(p) + H(q)) / 2 is 0 where a token gathers from the same tokens as before, and 1
    where it gathers from wholly different ones (Lin 1991, https://doi.org/10.1109/18.61115).
    """
    if first.shape != second.shape:
        raise ValueError(f"attention of shapes {tuple(first.shape)} and {tuple(second.shape)} cannot be compared")
    middle = (first + second) / 2
    divergence = _nats(middle) - (_nats(first) + _nats(second)) / 2
    return divergence.clamp(min=0).mean(dim=-1) / torch.log(torch.tensor(2.0))


def attention_entropy(attention: Tensor) -> Tensor:
    """How widely tokens look: (batch, layers, heads) in nats, the mean over rows; ln n if evenly over n tokens."""
    return _nats(attention).mean(dim=-1)


def attention_distance(attention: Tensor, grid: tuple[int, int], num_prefix_tokens: int = 1) -> Tensor:
    """How far patches look, on average: (batch, layers, heads) in patches.

    The distance between a patch and those that it attends to, weighted by its attention to patches alone, as in
    Figure 7 of Dosovitskiy et al. 2021 (https://arxiv.org/abs/2010.11929).
    """
    patches = attention[..., num_prefix_tokens:, num_prefix_tokens:]
    rows, columns = torch.meshgrid(torch.arange(grid[0]), torch.arange(grid[1]), indexing="ij")
    places = torch.stack([rows.flatten(), columns.flatten()], dim=1).to(patches)  # (patches, 2)
    distances = torch.cdist(places, places)
    return ((patches * distances).sum(dim=-1) / patches.sum(dim=-1)).mean(dim=-1)


@torch.no_grad()
def token_norms(model: nn.Module, images: Tensor) -> Tensor:
    """Length of each patch's token after the last block, before the final norm: (batch, grid height, grid width).

    Tokens much longer than the others are used as scratch paper, and what attends to them says nothing of the image
    (Darcet et al. 2024, https://arxiv.org/abs/2309.16588).
    """
    tokens = model.forward_intermediates(images, indices=1, norm=False, intermediates_only=True)[0]
    return tokens.norm(dim=1)  # (batch, dim, height, width) before


def measure_norms(model: nn.Module, images: Images) -> dict[str, Tensor]:
    """What is unusual about the lengths of patch tokens: measure -> (N,)."""
    norms = torch.cat([token_norms(model, inputs).cpu() for inputs in model_inputs(model, images, BATCH)])
    return {
        "largest token / mean token": norms.amax(dim=(1, 2)) / norms.mean(dim=(1, 2)),
        "corner tokens / mean token": corner_density(norms),
    }


def measure_movement(original: nn.Module, model: nn.Module, images: Images) -> dict[str, Tensor]:
    """How `model` attends to images, and how far from `original`: measure -> (N, layers, heads).

    "divergence" (bits), "entropy" (nats) and "distance" (patches) are those of this module.
    """
    batch = recordable_images(model, tuple(images.pixels.shape[-2:]), megabytes=250)
    parts = [_movement_of(original, model, inputs) for inputs in model_inputs(model, images, batch)]
    return {measure: torch.cat([part[measure] for part in parts]) for measure in parts[0]}


def _movement_of(original: nn.Module, model: nn.Module, inputs: Tensor) -> dict[str, Tensor]:
    recorded = []
    for each in (original, model):
        with torch.inference_mode(), record_attention(each) as recorder:
            each(inputs)
        recorded.append(recorder.maps)
    before, after = recorded
    found = {
        "divergence": jensen_shannon(before, after),
        "entropy": attention_entropy(after),
        "distance": attention_distance(after, *token_layout(model, tuple(inputs.shape[-2:]))),
    }
    return {measure: values.cpu() for measure, values in found.items()}


def _nats(rows: Tensor) -> Tensor:
    return torch.special.entr(rows).sum(dim=-1)
