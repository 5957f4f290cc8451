"""The pretraining loop: a ViT on stages of growing pictures along one learning rate curve, resumable."""

import sys
import time
from collections import deque
from pathlib import Path

import numpy as np
import timm
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from tqdm import tqdm

from tools.backbone.batches import make_batch
from tools.backbone.drawings import DrawingCache
from tools.backbone.recipe import MODEL, Recipe, lr_at, progress_of
from tools.backbone.tasks import new_heads, task_loss
from woofkit.fast.forward import prefer_fast_attention
from woofkit.files import write_atomic

SAVE_SECONDS = 180
MEAN_STEPS = 20  # the line of progress shows the mean of so many steps
BAR = "{l_bar}{bar}| {elapsed}<{remaining}{postfix}"  # of tqdm; the whole schedule is 1


def new_model(recipe: Recipe) -> nn.Module:
    """Return a ViT-Tiny with random weights at the first stage's size."""
    model = timm.create_model(MODEL, num_classes=recipe.num_breeds, img_size=recipe.stages[0].size)
    return prefer_fast_attention(model, torch.device("cpu"))  # with so few tokens explicit attention wins anywhere


def resize_input(model: nn.Module, size: int, optimizers: tuple[Optimizer, ...] = ()) -> None:
    """Let the model take pictures of `size` pixels; timm resamples its position embedding into a new parameter."""
    old = model.pos_embed
    model.set_input_size(size)
    for optimizer in optimizers:
        optimizer.state.pop(old, None)
        for group in optimizer.param_groups:
            group["params"] = [model.pos_embed if p is old else p for p in group["params"]]


def make_optimizers(recipe: Recipe, model: nn.Module, heads: nn.ModuleDict) -> tuple[Optimizer, Optimizer]:
    """Return Muon for the weight matrices of the blocks and AdamW for the rest; biases and norms are not decayed."""
    matrices = [p for block in model.blocks for p in block.parameters() if p.ndim == 2]
    in_muon = {id(p) for p in matrices}
    rest = [p for p in [*model.parameters(), *heads.parameters()] if id(p) not in in_muon]
    # match_rms_adamw: updates on AdamW's scale, whatever the shape of the matrix.
    decay = recipe.weight_decay
    muon = torch.optim.Muon(matrices, lr=recipe.muon_lr, weight_decay=decay, adjust_lr_fn="match_rms_adamw")
    groups = [
        {"params": [p for p in rest if p.ndim > 1], "weight_decay": decay},
        {"params": [p for p in rest if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return muon, torch.optim.AdamW(groups, lr=recipe.lr)


def set_lr(optimizers: tuple[Optimizer, ...], recipe: Recipe, progress: float) -> None:
    """Give every parameter the learning rate of this point of the schedule, the same curve for both optimizers."""
    for optimizer in optimizers:
        peak = recipe.muon_lr if isinstance(optimizer, torch.optim.Muon) else recipe.lr
        for group in optimizer.param_groups:
            group["lr"] = peak / recipe.lr * lr_at(recipe, progress)


def train(
    recipe: Recipe, drawings: dict[int, DrawingCache], traits: Tensor, *, minutes: float, state_path: Path
) -> tuple[nn.Module, dict]:
    """Train until the recipe is done or the minutes are over; continue from `state_path` where it is there.

    Args:
        drawings: by their pixels a side; number i shows breed i % num_breeds.
        traits: (num_breeds, T) from `trait_table`, what the second task must name; on the device to train on.

    Returns:
        The model at the size reached, and the log: pictures seen and seconds by stage, the size.
    """
    torch.manual_seed(recipe.seed)
    model = new_model(recipe)
    heads = new_heads(model.num_features, traits.shape[1])
    log = {"seen": [0] * len(recipe.stages), "seconds": [0.0] * len(recipe.stages), "size": recipe.stages[0].size}
    state = torch.load(state_path, map_location="cpu", weights_only=True) if state_path.exists() else None
    if state:
        log = state["log"]
        resize_input(model, log["size"])
    model, heads = model.to(traits.device), heads.to(traits.device)
    optimizers = make_optimizers(recipe, model, heads)
    parts = {"model": model, "heads": heads, **{type(o).__name__: o for o in optimizers}}
    if state:
        for name, part in parts.items():
            part.load_state_dict(state[name])

    def save() -> None:
        now = {name: part.state_dict() for name, part in parts.items()} | {"log": log}
        write_atomic(state_path, lambda temporary: torch.save(now, temporary))

    model.train()
    recent = deque(maxlen=MEAN_STEPS)  # (loss, share of breeds named right) of the last steps
    begun = saved = time.monotonic()
    start, seldom = progress_of(recipe, log["seen"]), 0.1 if sys.stderr.isatty() else 30
    bar = tqdm(desc="pretraining", total=1, initial=start, mininterval=seldom, bar_format=BAR)
    for number, stage in enumerate(recipe.stages):
        if log["seen"][number] < stage.images and log["size"] != stage.size:
            resize_input(model, stage.size, optimizers)
            log["size"] = stage.size
        while log["seen"][number] < stage.images and time.monotonic() - begun < 60 * minutes:
            step_begun = time.monotonic()
            set_lr(optimizers, recipe, progress_of(recipe, log["seen"]))
            batch = make_batch(drawings[stage.drawn], stage, recipe, log["seen"][number] // recipe.batch_size)
            total, *losses = task_loss(model, heads, batch, traits, recipe)
            for optimizer in optimizers:
                optimizer.zero_grad()
            total.backward()
            nn.utils.clip_grad_norm_([*model.parameters(), *heads.parameters()], 1.0)
            for optimizer in optimizers:
                optimizer.step()
            log["seen"][number] += recipe.batch_size
            log["seconds"][number] += time.monotonic() - step_begun
            recent.append(losses)
            loss, right = np.mean(recent, axis=0)
            bar.set_postfix_str(f"{stage.size} px, loss {loss:.3f}, accuracy {right:.1%}", refresh=False)
            bar.update(progress_of(recipe, log["seen"]) - bar.n)
            if time.monotonic() - saved > SAVE_SECONDS:
                save()
                saved = time.monotonic()
    bar.close()
    save()
    return model, log
