"""The optimizers of pretraining and their learning rate."""

from __future__ import annotations

import torch
from torch import nn

from tools.backbone.recipe import Recipe, lr_at


def make_optimizers(
    recipe: Recipe, model: nn.Module, heads: nn.ModuleDict
) -> tuple[torch.optim.Muon, torch.optim.AdamW]:
    """Return Muon for the weight matrices of the blocks and AdamW for the rest.

    Biases and norms are not decayed.
    """
    matrices = [p for block in model.blocks for p in block.parameters() if p.ndim == 2]
    in_muon = {id(p) for p in matrices}
    rest = [p for p in [*model.parameters(), *heads.parameters()] if id(p) not in in_muon]
    # match_rms_adamw: updates on AdamW's scale, whatever the shape of the matrix.
    muon = torch.optim.Muon(
        matrices, lr=recipe.muon_lr, weight_decay=recipe.weight_decay, adjust_lr_fn="match_rms_adamw"
    )
    adamw = torch.optim.AdamW(
        [
            {"params": [p for p in rest if p.ndim > 1], "weight_decay": recipe.weight_decay},
            {"params": [p for p in rest if p.ndim <= 1], "weight_decay": 0.0},
        ],
        lr=recipe.lr,
    )
    return muon, adamw


def set_lr(optimizers: tuple[torch.optim.Optimizer, ...], recipe: Recipe, progress: float) -> None:
    """Give every parameter the learning rate of this point of the schedule, the same curve for both optimizers."""
    for optimizer in optimizers:
        peak = recipe.muon_lr if isinstance(optimizer, torch.optim.Muon) else recipe.lr
        for group in optimizer.param_groups:
            group["lr"] = peak / recipe.lr * lr_at(recipe, progress)
