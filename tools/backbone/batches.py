"""Batches for pretraining: drawings cut, flipped and tinted at random, with what each patch shows."""

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tools.backbone.drawings import DrawingCache
from tools.backbone.recipe import Recipe, Stage
from woofkit.sketch.layers import PARTS

PATCH = 16  # pixels a side
SAMPLES = 8  # mask pixels looked at along a patch's side


class Batch(NamedTuple):
    """Inputs and targets of one step.

    `images` (B, 3, S, S) float in -1 to 1; `parts` (B, patches, len(PARTS)), the share of each patch that each
    part covers; `drawings` (B,), their places in the cache.
    """

    images: Tensor
    parts: Tensor
    drawings: np.ndarray


def part_shares(masks: Tensor) -> Tensor:
    """Return the share of every patch that each part covers, (B, G * G, len(PARTS)), the patches row by row.

    `masks` (B, G * SAMPLES, G * SAMPLES) are positions in PARTS.
    """
    grid = masks.shape[1] // SAMPLES
    tiles = masks.view(-1, grid, SAMPLES, grid, SAMPLES).transpose(2, 3).reshape(-1, grid**2, SAMPLES**2)
    return torch.stack([(tiles == part).float().mean(2) for part in range(len(PARTS))], dim=2)


def make_batch(cache: DrawingCache, stage: Stage, recipe: Recipe, step: int) -> Batch:
    """Return batch number `step` of a stage: the same whether or not the run was interrupted before."""
    batch_size = min(recipe.batch_size, len(cache.images))
    epoch, place = divmod(step, len(cache.images) // batch_size)
    order = np.random.default_rng([recipe.seed, stage.size, epoch]).permutation(len(cache.images))
    chosen = np.sort(order[place * batch_size : (place + 1) * batch_size])

    rng = np.random.default_rng([recipe.seed, stage.size, epoch, place])
    cut = stage.size if stage.drawn < 1.3 * stage.size else int(stage.drawn * rng.uniform(0.8, 1.0))
    corners = rng.integers(0, stage.drawn - cut + 1, (batch_size, 2))
    steps = np.where(rng.uniform(size=batch_size) < 0.5, -1, 1)  # -1: flipped, its columns read from the right
    tint = torch.from_numpy(rng.uniform(0.9, 1.1, (batch_size, 3, 1, 1)).astype(np.float32))

    # The masks are only sampled, and the pictures stay uint8 until they are cut: a batch must cost next to nothing.
    samples = stage.size // PATCH * SAMPLES
    offsets = ((np.arange(samples) + 0.5) * cut / samples).astype(int)
    images, masks = [], []
    for i, (row, column), way in zip(chosen, corners, steps, strict=True):
        images.append(cache.images[i, row : row + cut, column : column + cut][:, ::way])
        masks.append(cache.masks[i][np.ix_(row + offsets, column + offsets)][:, ::way])
    pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
    if cut != stage.size:
        pixels = F.interpolate(pixels, size=stage.size, mode="bilinear", antialias=True)
    pixels = pixels.contiguous().float().mul_(tint / 127.5).sub_(1).clamp_(-1, 1)
    return Batch(pixels, part_shares(torch.from_numpy(np.stack(masks))), chosen)
