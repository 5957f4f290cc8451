"""The ViT that is pretrained: made with random weights, fed pictures of another size, judged."""

from __future__ import annotations

import numpy as np
import timm
import torch
from torch import nn

from tools.backbone.recipe import Recipe
from woofkit.fast.forward import prefer_fast_attention
from woofkit.sketch.litter import SIBLINGS

MODEL = "vit_tiny_patch16_224"


def new_model(recipe: Recipe) -> nn.Module:
    """Return a ViT-Tiny with random weights at the first stage's size."""
    model = timm.create_model(MODEL, num_classes=recipe.num_breeds, img_size=recipe.stages[0].size)
    return prefer_fast_attention(model, torch.device("cpu"))  # with so few tokens explicit attention wins anywhere


def resize_input(model: nn.Module, size: int, optimizers: tuple[torch.optim.Optimizer, ...] = ()) -> None:
    """Let the model take pictures of `size` pixels; timm resamples its position embedding into a new parameter."""
    old = model.pos_embed
    model.set_input_size(size)
    for optimizer in optimizers:
        optimizer.state.pop(old, None)
        for group in optimizer.param_groups:
            group["params"] = [model.pos_embed if p is old else p for p in group["params"]]


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
        with torch.autocast(device.type, torch.bfloat16):
            logits.append(model(batch.to(device)).float().cpu())
    scores = torch.cat(logits)
    truth = (torch.arange(len(pictures)) % num_breeds)[:, None]
    order = scores.argsort(dim=1, descending=True)
    return {
        "top1": round(float((order[:, :1] == truth).float().mean()), 4),
        "top5": round(float((order[:, :5] == truth).any(1).float().mean()), 4),
        "family": round(float((order[:, :1] // SIBLINGS == truth // SIBLINGS).float().mean()), 4),
    }
