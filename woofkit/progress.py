"""Who watches a long training: a `Monitor`, lines on how far it is and how long it will take, or a `LossGuard`."""

import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn
from tqdm import tqdm

from woofkit.config import TrainConfig

PROGRESS_SECONDS = 30  # between two lines of progress
SECONDS_TO_JUDGE = 5.0  # an epoch that is shorter says little of the machine


class Timed:
    """An iterator that knows how many seconds were spent waiting for its items."""

    def __init__(self, items: Iterable):
        self.items, self.seconds = iter(items), 0.0

    def __iter__(self) -> Iterator:
        return self

    def __next__(self):
        start = time.perf_counter()
        try:
            return next(self.items)
        finally:
            self.seconds += time.perf_counter() - start


class Stopwatch:
    """The seconds of a training, without those of its watchers, and how much of the machine it got in them."""

    def __init__(self):
        self.start, self.computed, self.watched = time.perf_counter(), time.process_time(), 0.0

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave out what is done within."""
        begin = time.perf_counter()
        yield
        self.watched += time.perf_counter() - begin

    def read(self) -> float:
        """The seconds so far, more than 0."""
        return max(time.perf_counter() - self.start - self.watched, 1e-9)

    def lack(self, threads: int) -> str:
        """In words, that other programs have had more than half of the cores of so many threads; else ""."""
        got = (time.process_time() - self.computed) / (self.read() * threads)
        if self.read() <= SECONDS_TO_JUDGE or got >= 0.5:
            return ""
        return f"got {got:.0%} of its {threads} cores: other programs are at work, and it took more than twice its time"


class Means(NamedTuple):
    """Mean cross entropy and accuracy (0 to 1) over the images of an epoch so far."""

    loss: float
    accuracy: float


class Monitor:
    """Watches a training, and may end it. These methods do nothing: a monitor overrides those that it needs."""

    def begin(self, config: TrainConfig, num_images: int, history: list[dict]) -> None:
        """Training starts with `num_images` per epoch, or goes on after the epochs in `history`."""

    def step(self, epoch: int, images: int, means: Callable[[], Means]) -> None:
        """After each step: the epoch (from 1), its images so far, and a function that gives their means.

        On a GPU that function waits for the step.
        """

    def epoch(self, record: dict) -> None:
        """After each epoch: its record, as `fit` has it."""

    def stop(self) -> bool:
        """Whether training shall end here; asked after every step."""
        return False

    def log(self, line: str) -> None:
        """Something that is worth a line."""

    def end(self, message: str) -> None:
        """What has become of the run, in one sentence."""


class ProgressLines(Monitor):
    """Logs one line per epoch, and in long epochs one every PROGRESS_SECONDS: how far, how fast, how long to go.

    `progress` is the tqdm bar behind these lines, in images of all epochs.
    """

    def __init__(self, log: Callable[[str], None] | None = None):
        self.log = log or (lambda line: print(line, flush=True))

    def begin(self, config: TrainConfig, num_images: int, history: list[dict]) -> None:
        self.config, self.num_images = config, num_images
        self.progress = progress_bar(config.epochs * num_images, config.method, "images", self.log)
        self.progress.initial = self.progress.n = self.progress.last_print_n = len(history) * num_images  # done before

    def step(self, epoch: int, images: int, means: Callable[[], Means]) -> None:
        self.progress.set_description_str(f"{self.config.method:<5} epoch {epoch}/{self.config.epochs}", refresh=False)
        self.progress.update((epoch - 1) * self.num_images + images - self.progress.n)

    def epoch(self, record: dict) -> None:
        self.progress.last_print_t = time.time()  # this line stands for the bar's next one
        line = f"{self.config.method:<5} epoch {record['epoch']}/{self.config.epochs}  loss {record['train_loss']:.3f}"
        line += f"  accuracy {record['train_accuracy']:6.1%}"
        if not math.isnan(record["val_accuracy"]):
            line += f"  val {record['val_accuracy']:6.1%}"
        self.log(f"{line}  {record['images_per_second']:5.1f} images/s  {self.meter('{remaining} left')}")

    def end(self, message: str) -> None:
        self.log(message)

    def meter(self, form: str) -> str:
        """Write what the bar knows in a `bar_format` of tqdm, such as "{rate_noinv_fmt}, {remaining} left"."""
        return tqdm.format_meter(**self.progress.format_dict | {"bar_format": form})


def progress_bar(total: int, title: str, unit: str, log: Callable[[str], None]) -> tqdm:
    """A tqdm bar that logs lines: none at first, then one every PROGRESS_SECONDS, with rate and time left."""
    form = "{desc}  {n_fmt} of {total_fmt}{unit}  {rate_noinv_fmt}  {remaining} left"
    often = {"mininterval": PROGRESS_SECONDS, "maxinterval": math.inf, "miniters": 1, "delay": 1e-9, "smoothing": 0}
    often["position"] = 0  # beside another open bar, tqdm would write cursor moves into the log
    return tqdm(total=total, desc=title, unit=f" {unit}", file=_Lines(log), leave=False, bar_format=form, **often)


class _Lines:
    """A file for tqdm whose lines go to a log."""

    def __init__(self, log: Callable[[str], None]):
        self.log = log

    def write(self, text: str) -> None:
        if line := text.strip():
            self.log(line)

    def flush(self) -> None:
        """Nothing is held back."""


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
