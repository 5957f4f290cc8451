"""The pretraining loop: stages of growing pictures along one learning rate curve, resumable."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from tools.backbone import files
from tools.backbone.batches import make_batch
from tools.backbone.drawings import DrawingCache
from tools.backbone.model import new_model, resize_input
from tools.backbone.optimizers import make_optimizers, set_lr
from tools.backbone.recipe import Recipe, progress_of
from tools.backbone.tasks import new_heads, task_loss

SAVE_SECONDS = 180
PRINT_STEPS = 20


def train(
    recipe: Recipe,
    drawings: dict[int, DrawingCache],
    traits: Tensor,
    *,
    minutes: float,
    state_path: Path,
    device: str = "cpu",
) -> tuple[nn.Module, dict]:
    """Train until the recipe is done or the minutes are over; go on from `state_path` where it is there.

    Args:
        drawings: by their pixels a side; number i shows breed i % num_breeds.
        traits: (num_breeds, T) from `trait_table`, what the second task must name.

    Returns:
        The model at the size reached, and the log: pictures seen and seconds by stage, the size.
    """
    torch.manual_seed(recipe.seed)
    model = new_model(recipe)
    heads = new_heads(model.num_features, traits.shape[1])
    log = {"seen": [0] * len(recipe.stages), "seconds": [0.0] * len(recipe.stages), "size": recipe.stages[0].size}
    state = files.load_state(state_path)
    if state:
        log = state["log"]
        resize_input(model, log["size"])
    model, heads, traits = model.to(device), heads.to(device), traits.to(device)
    optimizers = make_optimizers(recipe, model, heads)
    saved_parts = {"model": model, "heads": heads, **{type(o).__name__: o for o in optimizers}}
    if state:
        for name, part in saved_parts.items():
            part.load_state_dict(state[name])
        print(f"going on after {sum(log['seen']):,} pictures", flush=True)

    def save() -> None:
        files.save_state(state_path, {k: v.state_dict() for k, v in saved_parts.items()} | {"log": log})

    model.train()
    begun = saved = time.monotonic()
    first = progress_of(recipe, log["seen"])
    for number, stage in enumerate(recipe.stages):
        if log["seen"][number] < stage.images and log["size"] != stage.size:
            resize_input(model, stage.size, optimizers)
            log["size"] = stage.size
        losses, hits, tick = [], [], time.monotonic()
        while log["seen"][number] < stage.images and time.monotonic() - begun < 60 * minutes:
            step_begun = time.monotonic()
            set_lr(optimizers, recipe, progress_of(recipe, log["seen"]))
            batch = make_batch(drawings[stage.drawn], stage, recipe, log["seen"][number] // recipe.batch_size)
            total, loss, right = task_loss(model, heads, batch, traits, recipe)
            for optimizer in optimizers:
                optimizer.zero_grad()
            total.backward()
            nn.utils.clip_grad_norm_([*model.parameters(), *heads.parameters()], 1.0)
            for optimizer in optimizers:
                optimizer.step()
            losses.append(loss)
            hits.append(right)
            log["seen"][number] += recipe.batch_size
            log["seconds"][number] += time.monotonic() - step_begun
            if len(losses) == PRINT_STEPS:
                done, now = progress_of(recipe, log["seen"]), time.monotonic()
                left = max(0.0, 1 - done) * (now - begun) / (done - first)
                rate = PRINT_STEPS * recipe.batch_size / (now - tick)
                print(
                    f"{stage.size:3d} px  {log['seen'][number]:>7,}/{stage.images:,} pictures  "
                    f"loss {np.mean(losses):.3f}  accuracy {100 * np.mean(hits):.1f} %  {rate:.1f} images/s  "
                    f"{int(left // 60)}:{int(left % 60):02d} left",
                    flush=True,
                )
                losses, hits, tick = [], [], now
            if time.monotonic() - saved > SAVE_SECONDS:
                save()
                saved = time.monotonic()
    save()
    return model, log
