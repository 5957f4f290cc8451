"""Who watches a long training: a `Monitor`, and lines on how far it is and how long it will take."""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

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
        cores = "its core" if threads == 1 else f"its {threads} cores"
        return f"got {got:.0%} of {cores}: other programs are at work, and it took more than twice its time"


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


def reported(items: Sequence, title: str, unit: str, log: Callable[[str], None] | None) -> Iterator:
    """The items, with the lines of a `progress_bar` where there is a log."""
    if not log:
        yield from items
        return
    with progress_bar(len(items), title, unit, log) as bar:
        for item in items:
            yield item
            bar.update()


class _Lines:
    """A file for tqdm whose lines go to a log."""

    def __init__(self, log: Callable[[str], None]):
        self.log = log

    def write(self, text: str) -> None:
        if line := text.strip():
            self.log(line)

    def flush(self) -> None:
        """Nothing is held back."""
