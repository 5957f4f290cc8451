"""Every loss of a training is looked at, and the first that is no number ends it: a GPU need not wait for that."""

import math
from collections import deque
from typing import NamedTuple

import torch
from torch import Tensor, nn


class _Seen(NamedTuple):
    """One step: where it was, its loss and the norm of its gradients (nan: not known), and when they are there."""

    place: str
    first: bool
    numbers: Tensor  # (2,), on the CPU
    copied: torch.cuda.Event | None


class LossGuard:
    """Ends a training at the first loss that is no number, and says whether the weights or the rate are to blame.

    On a GPU it never waits for a step: losses are looked at once they have arrived, a few steps later.

    Raises:
        FloatingPointError: a weight is no number before training.
    """

    def __init__(self, model: nn.Module, lr: float, batch_size: int):
        self.model, self.lr, self.batch_size = model, lr, batch_size
        self.stale, self.last = False, ""  # are gradients of an earlier step; what is known of the last one
        self.pending: deque[_Seen] = deque()
        if name := _no_number(model):
            raise FloatingPointError(
                f"{name} holds nan or inf before training: the weights are to blame, and not the lr"
            )

    def step(self, loss: Tensor, epoch: int, step: int, lr: float, size: int) -> None:
        """Look at the loss of a step (from 0) on `size` images in an epoch (from 1); the weights are updated already.

        Raises:
            FloatingPointError: this loss, or on a GPU that of an earlier step, is no number.
        """
        gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
        norm = torch.full_like(loss, math.nan)
        if gradients and (size < self.batch_size or not self.stale):
            norm = torch.nn.utils.get_total_norm(gradients).to(loss.dtype)
        # What a GPU replays keeps its gradients to itself: after a step that is not replayed, `grad` are of that one.
        self.stale = loss.is_cuda and (self.stale or size < self.batch_size)
        numbers = torch.stack([loss, norm]).detach().to("cpu", non_blocking=True)
        copied = None
        if loss.is_cuda:
            copied = torch.cuda.Event()
            copied.record()
        self.pending.append(_Seen(f"step {step + 1}, in epoch {epoch}, at lr {lr:g}", step == 0, numbers, copied))
        while self.pending and (self.pending[0].copied is None or self.pending[0].copied.query()):
            self._judge(self.pending.popleft())

    def end_epoch(self, epoch: int) -> None:
        """Look at what is left of an epoch, and at the weights, which its last step has updated.

        Raises:
            FloatingPointError: a loss or a weight is no number.
        """
        while self.pending:
            if self.pending[0].copied is not None:
                self.pending[0].copied.synchronize()
            self._judge(self.pending.popleft())
        if name := _no_number(self.model):
            raise FloatingPointError(
                f"{name} holds nan or inf after the last step of epoch {epoch}{self.last}: "
                f"try a lower lr than {self.lr:g}"
            )

    def _judge(self, seen: _Seen) -> None:
        loss, norm = seen.numbers.tolist()
        if not math.isfinite(loss):
            raise FloatingPointError(f"the loss is {loss} in {seen.place}: {self._blame(seen, norm)}")
        if math.isfinite(norm):
            self.last = f" (the norm of the gradients was {norm:.3g} in {seen.place})"

    def _blame(self, seen: _Seen, norm: float) -> str:
        if seen.first:
            return (
                "nothing had been trained yet, so the size of the weights, or the transform's mean and std, are to "
                f"blame and not the lr (the norm of the gradients was {norm:.3g})"
            )
        return f"the weights were numbers before training{self.last}, so try a lower lr than {self.lr:g}"


def _no_number(model: nn.Module) -> str | None:
    """The name of the first parameter that holds nan or inf."""
    for name, parameter in model.named_parameters():
        if parameter.is_floating_point() and not parameter.detach().isfinite().all():
            return name
    return None
