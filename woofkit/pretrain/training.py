"""The pretraining loop: stages of growing pictures along one learning rate curve, resumable."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import timm
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from woofkit.pretrain import files
from woofkit.pretrain.recipe import Recipe, lr_at, make_batch, progress_of
from woofkit.sketch.litter import SIBLINGS

MODEL = "vit_tiny_patch16_224"
SAVE_SECONDS = 180
PRINT_STEPS = 20


def new_model(recipe: Recipe, num_traits: int) -> tuple[nn.Module, nn.Linear]:
    """Return a ViT-Tiny with random weights at the first stage's size, and the head of the second task."""
    torch.manual_seed(recipe.seed)
    model = timm.create_model(MODEL, num_classes=recipe.num_breeds, img_size=recipe.stages[0].size)
    for block in model.blocks:  # on a CPU, in bf16 and with so few tokens, plain attention is the faster one
        block.attn.fused_attn = False
    return model, nn.Linear(model.num_features, num_traits)


def make_optimizer(recipe: Recipe, parameters: list[nn.Parameter]) -> torch.optim.AdamW:
    """Return AdamW that decays matrices and leaves biases and norms alone."""
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": recipe.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=recipe.lr)


def resize_input(model: nn.Module, size: int, optimizer: torch.optim.Optimizer | None = None) -> None:
    """Let the model take pictures of `size` pixels; timm resamples its position embedding into a new parameter."""
    old = model.pos_embed
    model.set_input_size(size)
    if optimizer is not None:
        optimizer.state.pop(old, None)
        for group in optimizer.param_groups:
            group["params"] = [model.pos_embed if p is old else p for p in group["params"]]


def train(
    recipe: Recipe,
    pictures: dict[int, np.ndarray],
    traits: Tensor,
    *,
    minutes: float,
    state_path: Path,
    device: str = "cpu",
) -> tuple[nn.Module, dict]:
    """Train until the recipe is done or the minutes are over; go on from `state_path` where it is there.

    Args:
        pictures: by size: uint8 (N, S, S, 3); picture i shows breed i % num_breeds.
        traits: (num_breeds, T) from `trait_table`, what the second task must name.

    Returns:
        The model at the size reached, and the log: pictures seen and seconds by stage, the size.
    """
    model, trait_head = new_model(recipe, traits.shape[1])
    log = {"seen": [0] * len(recipe.stages), "seconds": [0.0] * len(recipe.stages), "size": recipe.stages[0].size}
    state = files.load_state(state_path)
    if state:
        log = state["log"]
        resize_input(model, log["size"])
    model, trait_head, traits = model.to(device), trait_head.to(device), traits.to(device)
    optimizer = make_optimizer(recipe, [*model.parameters(), *trait_head.parameters()])
    saved_parts = {"model": model, "trait_head": trait_head, "optimizer": optimizer}
    if state:
        for name, part in saved_parts.items():
            part.load_state_dict(state[name])
        print(f"going on after {sum(log['seen']):,} pictures", flush=True)

    model.train()
    begun = saved = time.monotonic()
    first = progress_of(recipe, log["seen"])
    for number, stage in enumerate(recipe.stages):
        if log["seen"][number] < stage.images and log["size"] != stage.size:
            resize_input(model, stage.size, optimizer)
            log["size"] = stage.size
        losses, hits, tick = [], [], time.monotonic()
        while log["seen"][number] < stage.images and time.monotonic() - begun < 60 * minutes:
            step_begun = time.monotonic()
            step = log["seen"][number] // recipe.batch_size
            for group in optimizer.param_groups:
                group["lr"] = lr_at(recipe, progress_of(recipe, log["seen"]))
            images, chosen = make_batch(pictures[stage.drawn], stage, recipe, step)
            labels = torch.from_numpy(chosen % recipe.num_breeds).to(device)
            with torch.autocast(device, torch.bfloat16):
                features = model.forward_head(model.forward_features(images.to(device)), pre_logits=True)
                logits, named = model.head(features).float(), trait_head(features).float()
            loss = F.cross_entropy(logits, labels, label_smoothing=recipe.label_smoothing)
            second = F.binary_cross_entropy_with_logits(named, traits[labels])
            optimizer.zero_grad()
            (loss + recipe.trait_weight * second).backward()
            nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], 1.0)
            optimizer.step()
            losses.append(loss.item())
            hits.append(float((logits.argmax(1) == labels).float().mean()))
            log["seen"][number] += recipe.batch_size
            log["seconds"][number] += time.monotonic() - step_begun
            if len(losses) == PRINT_STEPS:
                done, now = progress_of(recipe, log["seen"]), time.monotonic()
                left = (1 - done) * (now - begun) / (done - first)
                rate = PRINT_STEPS * recipe.batch_size / (now - tick)
                print(f"{stage.size:3d} px  {log['seen'][number]:>7,}/{stage.images:,} pictures  "
                      f"loss {np.mean(losses):.3f}  accuracy {100 * np.mean(hits):.1f} %  {rate:.1f} images/s  "
                      f"{int(left // 60)}:{int(left % 60):02d} left", flush=True)  # fmt: skip
                losses, hits, tick = [], [], now
            if time.monotonic() - saved > SAVE_SECONDS:
                files.save_state(state_path, {k: v.state_dict() for k, v in saved_parts.items()} | {"log": log})
                saved = time.monotonic()
    files.save_state(state_path, {k: v.state_dict() for k, v in saved_parts.items()} | {"log": log})
    return model, log


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
