"""What is trained on, for how long and at which learning rate: everything that decides the backbone's weights."""

import math
from dataclasses import dataclass, replace

MODEL = "vit_tiny_patch16_224"  # timm's name
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
    stages: tuple[Stage, ...] = (Stage(96, 180_000, 128), Stage(160, 36_000, 224), Stage(224, 32_000, 224))
    drawings: tuple[tuple[int, int], ...] = ((128, 80_000), (224, 16_000))  # (pixels a side, how many)
    num_val: int = 1_000
    batch_size: int = 64
    lr: float = 2e-3  # peak, of AdamW
    muon_lr: float = 4e-3  # peak, of Muon
    weight_decay: float = 0.05
    warmup: float = 0.05  # share of the schedule
    label_smoothing: float = 0.1
    trait_weight: float = 1.0  # of the second task: name the breed's traits
    part_weight: float = 1.0  # of the third: say which parts of the dog each patch shows
    seed: int = 0

    def scaled(self, factor: float) -> "Recipe":
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
    """Return AdamW's learning rate: linear warm-up, then a cosine to zero."""
    if progress < recipe.warmup:
        return recipe.lr * (progress + 1e-3) / recipe.warmup
    return recipe.lr * 0.5 * (1 + math.cos(math.pi * (progress - recipe.warmup) / (1 - recipe.warmup)))
