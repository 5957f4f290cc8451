"""How well a model does on labelled images: `evaluate`, the counterpart of training, without gradients."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from woofkit.data import Transform, batches
from woofkit.speed import autocast, class_logits, keep_freed_memory, pick_precision, prefer_fast_attention


class Evaluation(NamedTuple):
    """logits (N, C) float32 and labels (N,) int64 on the CPU; mean cross entropy; accuracy in 0..1."""

    logits: Tensor
    labels: Tensor
    loss: float
    accuracy: float


@torch.inference_mode()
def evaluate(
    model: nn.Module,
    pixels: Tensor,
    labels: np.ndarray | Tensor,
    transform: Transform,
    *,
    batch_size: int = 64,
    precision: str = "fp32",
    device: torch.device | str = "cpu",
) -> Evaluation:
    """Classify every image of `pixels`, uint8 (N, 3, H, W), in eval mode; the model's mode is put back.

    `precision` is "fp32", "bf16", or "auto" (`speed.pick_precision`).

    Raises:
        ValueError: there are no images.
    """
    if len(pixels) == 0:
        raise ValueError("evaluate got no images: pass at least one")
    device = torch.device(device)
    precision = pick_precision(precision, device)
    was_training = model.training
    prefer_fast_attention(model.to(device).eval(), device)
    keep_freed_memory()
    try:
        logits = []
        for images, _ in batches(pixels, labels, batch_size, transform=transform, device=device):
            with autocast(device, precision):
                logits.append(class_logits(model, images).float().cpu())
    finally:
        model.train(was_training)
    logits, labels = torch.cat(logits), torch.as_tensor(labels, dtype=torch.int64).cpu()
    correct = (logits.argmax(1) == labels).float()
    return Evaluation(logits, labels, F.cross_entropy(logits, labels).item(), correct.mean().item())
