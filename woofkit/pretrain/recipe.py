"""What is trained on, for how long and at which learning rate: everything that decides the backbone's weights."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from woofkit.sketch.traits import CHOICES, NUMBERS, Traits

# Streams of drawings that no split of the study's ten breeds uses.
LITTER_SEED, TRAIN_SEED, VAL_SEED = 20260, 7_000_001, 7_000_002


@dataclass(frozen=True)
class Stage:
    """Train on `images` pictures (repeats counted) of `size` pixels, made from drawings of `drawn` pixels."""

    size: int
    images: int
    drawn: int


@dataclass(frozen=True)
class Recipe:
    """Small pictures first, because they are cheap; full size last, because that is what the study uses."""

    num_breeds: int = 200
    stages: tuple[Stage, ...] = (Stage(96, 160_000, 112), Stage(160, 20_000, 224), Stage(224, 13_000, 224))
    drawings: tuple[tuple[int, int], ...] = ((112, 48_000), (224, 12_000))  # (pixels a side, how many)
    num_val: int = 1_000
    batch_size: int = 64
    lr: float = 1e-3
    weight_decay: float = 0.05
    warmup: float = 0.05  # share of the schedule
    label_smoothing: float = 0.1
    trait_weight: float = 1.0  # of the second task: name the breed's traits
    seed: int = 0

    def scaled(self, factor: float) -> Recipe:
        """The same recipe with `factor` times the pictures, drawn and seen."""
        if factor == 1:
            return self
        return replace(
            self,
            stages=tuple(replace(s, images=max(self.batch_size, int(s.images * factor))) for s in self.stages),
            drawings=tuple((size, max(self.num_breeds, int(n * factor))) for size, n in self.drawings),
            num_val=max(self.num_breeds, int(self.num_val * min(1.0, factor))),
        )


def progress_of(recipe: Recipe, seen: list[int]) -> float:
    """Return how far the schedule is, 0 to 1, counted in pixels: a large picture takes longer than a small one."""
    done = sum(n * s.size**2 for n, s in zip(seen, recipe.stages, strict=True))
    return done / sum(s.images * s.size**2 for s in recipe.stages)


def lr_at(recipe: Recipe, progress: float) -> float:
    """Return the learning rate: linear warm-up, then a cosine to zero."""
    if progress < recipe.warmup:
        return recipe.lr * (progress + 1e-3) / recipe.warmup
    return recipe.lr * 0.5 * (1 + math.cos(math.pi * (progress - recipe.warmup) / (1 - recipe.warmup)))


def trait_table(breeds: list[Traits]) -> Tensor:
    """Return the breeds' traits (B, T), each 0 to 1: the numbers as they are, every word as 0 or 1."""
    rows = []
    for breed in breeds:
        words = [float(getattr(breed, name) == word) for name, allowed in CHOICES.items() for word in allowed]
        rows.append([getattr(breed, name) for name in NUMBERS] + words)
    return torch.tensor(rows, dtype=torch.float32)


def make_batch(pictures: np.ndarray, stage: Stage, recipe: Recipe, step: int) -> tuple[Tensor, np.ndarray]:
    """Return batch number `step` of a stage: float (B, 3, S, S) in -1 to 1, and which drawings (B,) they are.

    Cut, flipped and tinted at random, but a function of its arguments alone: a resumed run sees what an
    unbroken one would have seen.
    """
    batch_size = min(recipe.batch_size, len(pictures))
    epoch, place = divmod(step, len(pictures) // batch_size)
    order = np.random.default_rng([recipe.seed, stage.size, epoch]).permutation(len(pictures))
    chosen = np.sort(order[place * batch_size : (place + 1) * batch_size])
    rng = np.random.default_rng([recipe.seed, stage.size, epoch, place])
    batch = torch.from_numpy(pictures[chosen]).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)
    cut = stage.size if stage.drawn < 1.3 * stage.size else int(stage.drawn * rng.uniform(0.8, 1.0))
    corners = rng.integers(0, stage.drawn - cut + 1, (len(batch), 2)).tolist()
    batch = torch.stack([image[:, r : r + cut, c : c + cut] for image, (r, c) in zip(batch, corners, strict=True)])
    if cut != stage.size:
        batch = F.interpolate(batch, size=stage.size, mode="bilinear", antialias=True)
    flip = torch.from_numpy(rng.uniform(size=len(batch)) < 0.5)
    batch[flip] = batch[flip].flip(3)
    tint = torch.from_numpy(rng.uniform(0.9, 1.1, (len(batch), 3, 1, 1)).astype(np.float32))
    return ((batch + 1) * tint - 1).clamp_(-1, 1), chosen
