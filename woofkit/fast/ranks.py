"""One training on several devices: processes that torchrun starts, each of which computes its share of every batch.

    torchrun --nproc-per-node 4 -m woofkit train --method full

Each process, a rank, holds the whole model and takes every `count`-th image of a batch: the same batch, in the same
order and with the same augmentation, as one process would take whole. Before a step all ranks average their gradients,
weighted by their numbers of images. So every rank takes the same step, to the bit, and it is that of one process, but
for rounding.

PyTorch's own DistributedDataParallel averages in a forward of its own. The shortcuts of this room call the model's
parts, would go past it, and nothing would be averaged, without a word. One `all_reduce` after the backward pass cannot
be passed by, and shares of unequal size, empty shares and batches in parts come out right. What it gives up: gradients
are not sent while others are still computed, which matters where a model is large and the line between devices slow.
"""

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NoReturn, TypeVar

import torch
from torch import Tensor, distributed
from torch.optim import Optimizer

from woofkit.config import ConfigError
from woofkit.fast.forward import Step

T = TypeVar("T")
# One rank may decode a million images, or wait for another job's run, while the others wait for it. That a rank has
# died is noticed at once, however long this is.
TIMEOUT = timedelta(days=7)
ENDED = (
    "the processes of this training were ended, as one of them failed or was stopped: the same command goes on after "
    "the last whole epoch"
)


@dataclass(frozen=True)
class Ranks:
    """This process's place (from 0) among the `count` processes of a training; alone, every method is trivial.

    All ranks must call the same methods in the same order; where one has died, the others get a ConnectionError.
    """

    place: int = 0
    count: int = 1

    @classmethod
    def join(cls, device: torch.device) -> "Ranks":
        """Meet the other processes that torchrun has started; without torchrun, or of one process, there are none.

        A process on a GPU takes the one that has its number on this machine.

        Raises:
            ConfigError: there are fewer GPUs here than processes.
        """
        if not distributed.is_available() or not distributed.is_torchelastic_launched():
            return cls()
        place, count, number = (int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
        if count == 1:
            return cls()
        if device.type == "cuda":
            if number >= (found := torch.cuda.device_count()):
                raise ConfigError(f"torchrun started a process for GPU {number + 1} of this machine, which has {found}")
            torch.cuda.set_device(number)
        if not distributed.is_initialized():
            signal.signal(signal.SIGTERM, _end)  # from torchrun, as soon as one of the processes has failed
            # a Python object, such as a rank's word that training shall stop, goes by gloo and waits for no GPU
            distributed.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo", timeout=TIMEOUT)
        return cls(place, count)

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes and speaks."""
        return self.place == 0

    @property
    def described(self) -> dict[str, int]:
        """What is noted of a measurement: the number of processes, if there are several."""
        return {"processes": self.count} if self.count > 1 else {}

    @property
    def share(self) -> slice:
        """Of any batch, the images that are this rank's: every `count`-th. Some batches may have none for it."""
        return slice(self.place, None, self.count)

    def size(self, batch: int) -> int:
        """How many images of a batch of so many are this rank's."""
        return len(range(batch)[self.share])

    def repeated(self, step: Step, optimizer: Optimizer) -> Step:
        """A training step that this rank takes with the others even if it has no image of a small batch."""

        def with_others(images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
            if len(images):
                return step(images, targets)
            optimizer.zero_grad(set_to_none=True)
            self.average_gradients(optimizer, 0)
            optimizer.step()
            return images.new_zeros(()), images.new_zeros(0, 1)

        return with_others if self.count > 1 else step

    def average_gradients(self, optimizer: Optimizer, images: int) -> None:
        """Turn gradients that are means over `images` of this rank into means over the images of all ranks."""
        if self.count == 1:
            return
        trained = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        for parameter in trained:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        number = trained[0].new_full((1,), images)
        flat = self.sum(torch.cat([*(parameter.grad.flatten() * images for parameter in trained), number]))
        *gradients, number = flat.split([*(parameter.numel() for parameter in trained), 1])
        for parameter, gradient in zip(trained, gradients, strict=True):
            parameter.grad.copy_((gradient / number).view_as(parameter))

    def evaluated(self, number: int) -> slice:
        """Which of `number` images this rank evaluates: its share, or all, where some ranks would have none."""
        return self.share if number >= self.count else slice(None)

    def gather(self, rows: Tensor, number: int) -> Tensor:
        """The rows of all `number` images, (number, ...), of which `rows` are those that this rank `evaluated`."""
        whole = rows.new_zeros(number, *rows.shape[1:])
        if number >= self.count or self.first:
            whole[self.evaluated(number)] = rows
        return self.sum(whole)

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum of all ranks' tensors, in place; the same bits on every rank."""
        if self.count > 1:
            _together(distributed.all_reduce, tensor)
        return tensor

    def any(self, flag: bool) -> bool:
        """Whether one of the ranks says True."""
        return bool(self.sum(torch.tensor(int(flag))))

    def once(self, work: Callable[..., T], *arguments: Any) -> T:
        """What `work` gives on the first rank, which alone does it; all get it. For small Python objects."""
        found = [work(*arguments) if self.first else None]
        if self.count > 1:
            _together(distributed.broadcast_object_list, found, device=torch.device("cpu"))
        return found[0]

    def in_turn(self, work: Callable[..., T], *arguments: Any, **settings: Any) -> T:
        """Do `work` on the first rank, and then on the others, which find the files that the first has left."""
        if self.first:
            found = work(*arguments, **settings)
        self.wait()
        return found if self.first else work(*arguments, **settings)

    def wait(self) -> None:
        """Wait until all ranks are here."""
        self.any(False)

    def agree(self, what: str, value: Any) -> None:
        """Make sure that all ranks have the same value; `what` says, in the plural, what it is.

        Raises:
            ConfigError: this rank has others than the first.
        """
        if self.once(lambda: value) != value:
            raise ConfigError(f"process {self.place} has other {what} than process 0: all must have the same files")


def first_rank() -> bool:
    """Whether this process speaks for its training: it is alone, or the first that torchrun has started."""
    return not distributed.is_available() or not distributed.is_initialized() or distributed.get_rank() == 0


def _together(operation: Callable, *arguments: Any, **settings: Any) -> None:
    """Do what all ranks take part in. Raises ConnectionError where one of them has ended."""
    try:
        operation(*arguments, **settings)
    except RuntimeError as error:  # in the words of gloo or NCCL
        raise ConnectionError(ENDED) from error


def _end(*_: Any) -> NoReturn:
    raise ConnectionError(ENDED)
