"""A training step as one CUDA graph: a GPU replays its thousand kernels, instead of waiting for each to be launched.

The first steps run as they are, the next one is recorded, and from then on whole batches are copied into the recorded
step's inputs. The kernels are the same and in the same order, and so are the numbers.
"""

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor

from woofkit.fast.forward import Step

WARM_UP = 3  # steps in which libraries choose their kernels and take their workspace; no recording may hold that


class Recorder(Protocol):
    """What `GraphedStep` needs of a device."""

    def warm_up(self, work: Callable[[], Any]) -> Any:
        """Do `work` where it can be recorded later; return its result."""

    def record(self, work: Callable[[], Any]) -> tuple[Callable[[], None], Any]:
        """Record `work` without doing it; return what replays it, and its result, which each replay fills anew."""


class CudaRecorder:
    """Records with torch.cuda.CUDAGraph, and warms up on a stream of its own, as PyTorch asks for."""

    def __init__(self, device: torch.device):
        self.device, self.stream = device, torch.cuda.Stream(device)

    def warm_up(self, work: Callable[[], Any]) -> Any:
        """As `Recorder`."""
        self.stream.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(self.stream):
            result = work()
        torch.cuda.current_stream(self.device).wait_stream(self.stream)
        return result

    def record(self, work: Callable[[], Any]) -> tuple[Callable[[], None], Any]:
        """As `Recorder`."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=self.stream):
            result = work()
        return graph.replay, result


class GraphedStep:
    """`step` for batches of `batch_size`, recorded once; smaller batches, as the last of an epoch, run as they are.

    What the step returns is overwritten by the next step. The optimizer must be one that can be recorded
    (`capturable=True`, its learning rate a tensor on the device).
    """

    def __init__(self, step: Step, batch_size: int, recorder: Recorder):
        self.step, self.batch_size, self.recorder = step, batch_size, recorder
        self.steps_seen, self.replay = 0, None

    def __call__(self, images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """As `step`."""
        if len(images) != self.batch_size:
            return self.step(images, targets)
        if self.steps_seen < WARM_UP:
            self.steps_seen += 1
            return self.recorder.warm_up(lambda: self.step(images, targets))
        if self.replay is None:
            self.images, self.targets = images.clone(), targets.clone()
            self.replay, self.result = self.recorder.record(lambda: self.step(self.images, self.targets))
        self.images.copy_(images)
        self.targets.copy_(targets)
        self.replay()
        return self.result
