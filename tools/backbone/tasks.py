"""What the model is taught at once, and judged by: the breed, its traits, the parts of the dog in each patch."""

from contextlib import AbstractContextManager

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tools.backbone.batches import Batch
from tools.backbone.recipe import Recipe
from woofkit.fast.runtime import Runtime, pick_precision
from woofkit.sketch.layers import PARTS
from woofkit.sketch.litter import SIBLINGS
from woofkit.sketch.traits import CHOICES, NUMBERS, Traits


def trait_table(breeds: list[Traits]) -> Tensor:
    """Return the breeds' traits (B, T), each 0 to 1: the numbers as they are, every word as 0 or 1."""
    rows = []
    for breed in breeds:
        words = [float(getattr(breed, name) == word) for name, allowed in CHOICES.items() for word in allowed]
        rows.append([getattr(breed, name) for name in NUMBERS] + words)
    return torch.tensor(rows, dtype=torch.float32)


def new_heads(num_features: int, num_traits: int) -> nn.ModuleDict:
    """Return the linear heads of the two auxiliary tasks, which are dropped after pretraining."""
    return nn.ModuleDict({"traits": nn.Linear(num_features, num_traits), "parts": nn.Linear(num_features, len(PARTS))})


def mixed_precision(device: torch.device) -> AbstractContextManager:
    """bf16 where the device multiplies in it; elsewhere float32, as an emulated bf16 takes ten times as long."""
    return Runtime(device, pick_precision("auto", device)).autocast()


def task_loss(
    model: nn.Module, heads: nn.ModuleDict, batch: Batch, traits: Tensor, recipe: Recipe
) -> tuple[Tensor, float, float]:
    """Return the loss of all three tasks, the breeds' part of it, and the share of breeds named right.

    `traits` (num_breeds, T) come from `trait_table`.
    """
    device = traits.device
    labels = torch.from_numpy(batch.drawings % recipe.num_breeds).to(device)
    with mixed_precision(device):
        tokens = model.forward_features(batch.images.to(device))
        features = model.forward_head(tokens, pre_logits=True)
        logits = model.head(features).float()
        named = heads["traits"](features).float()
        parts = heads["parts"](tokens[:, model.num_prefix_tokens :]).float()
    breed = F.cross_entropy(logits, labels, label_smoothing=recipe.label_smoothing)
    loss = breed + recipe.trait_weight * F.binary_cross_entropy_with_logits(named, traits[labels])
    # cross_entropy wants the classes second: (B, parts, patches), for the shares as for the logits.
    loss = loss + recipe.part_weight * F.cross_entropy(parts.transpose(1, 2), batch.parts.to(device).transpose(1, 2))
    return loss, breed.item(), (logits.argmax(1) == labels).float().mean().item()


@torch.inference_mode()
def accuracies(model: nn.Module, pictures: np.ndarray, num_breeds: int, batch_size: int = 50) -> dict[str, float]:
    """Return how often the model is right on pictures (N, S, S, 3) whose picture i shows breed i % num_breeds.

    "top1": it names the breed; "top5": the breed is among its five first; "family": it names the breed or one
    of its siblings in the litter.
    """
    model.eval()
    device = next(model.parameters()).device
    logits = []
    for start in range(0, len(pictures), batch_size):
        batch = torch.tensor(pictures[start : start + batch_size]).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)
        with mixed_precision(device):
            logits.append(model(batch.to(device)).float().cpu())
    scores = torch.cat(logits)
    truth = (torch.arange(len(pictures)) % num_breeds)[:, None]
    order = scores.argsort(dim=1, descending=True)
    return {
        "top1": round(float((order[:, :1] == truth).float().mean()), 4),
        "top5": round(float((order[:, :5] == truth).any(1).float().mean()), 4),
        "family": round(float((order[:, :1] // SIBLINGS == truth // SIBLINGS).float().mean()), 4),
    }
