"""Who watches a long training: lines on how far it is, how fast, and how long it will take; or a `Monitor`."""

import math
import time
from collections.abc import Callable
from typing import Protocol

from woofkit.config import TrainConfig
from woofkit.loop import Means

PROGRESS_SECONDS = 30  # between two lines within an epoch


class Monitor(Protocol):
    """What `run_training` tells somebody who watches, and may end it; `widgets.TrainingMonitor` is one."""

    def begin(self, config: TrainConfig, num_images: int, history: list[dict]) -> None:
        """Training starts with so many images an epoch, or goes on after the epochs in `history`."""

    def step(self, epoch: int, images: int, means: Callable[[], Means]) -> None:
        """After each step: the epoch (from 1), its images so far, and what gives their means."""

    def epoch(self, record: dict) -> None:
        """After each epoch: its record, as `fit` has it."""

    def stop(self) -> bool:
        """Whether training shall end here."""

    def end(self, message: str) -> None:
        """What has become of the run, in a sentence."""


def reporters(config: TrainConfig, num_images: int, report: Callable[[str], None]) -> tuple[Callable, Callable]:
    """The two callbacks of `fit`: a line an epoch, and in long epochs one every PROGRESS_SECONDS."""
    begin = last = time.perf_counter()
    first_epoch = 0  # later than 1 where a run is continued

    def time_left(epoch: int, images: int) -> str:
        done = (epoch - first_epoch) * num_images + images
        seconds = (time.perf_counter() - begin) / done * ((config.epochs - epoch + 1) * num_images - images)
        return f"{round(seconds) // 60}:{round(seconds) % 60:02d} left"

    def on_step(epoch: int, images: int, means: Callable[[], Means]) -> None:
        nonlocal first_epoch, last
        first_epoch = first_epoch or epoch
        if (now := time.perf_counter()) - last >= PROGRESS_SECONDS:
            last = now
            rate = ((epoch - first_epoch) * num_images + images) / (now - begin)
            report(f"{config.method:<5} epoch {epoch}/{config.epochs}  {images:,} of {num_images:,} images"
                   f"  {rate:5.1f} images/s  {time_left(epoch, images)}")  # fmt: skip

    def on_epoch(record: dict) -> None:
        nonlocal last
        last = time.perf_counter()
        line = f"{config.method:<5} epoch {record['epoch']}/{config.epochs}  loss {record['train_loss']:.3f}"
        line += f"  accuracy {record['train_accuracy']:6.1%}"
        if not math.isnan(record["val_accuracy"]):
            line += f"  val {record['val_accuracy']:6.1%}"
        left = time_left(record["epoch"], num_images)
        report(f"{line}  {record['images_per_second']:5.1f} images/s  {left}")

    return on_step, on_epoch


def watchers(
    config: TrainConfig, num_images: int, report: Callable[[str], None], monitor: Monitor | None = None
) -> dict[str, Callable]:
    """The callbacks of `fit` that tell `report` and, if there is one, the monitor."""
    line_a_step, line_an_epoch = reporters(config, num_images, report)
    if not monitor:
        return {"on_step": line_a_step, "on_epoch": line_an_epoch}

    def on_step(epoch: int, images: int, means: Callable[[], Means]) -> None:
        line_a_step(epoch, images, means)
        monitor.step(epoch, images, means)

    def on_epoch(record: dict) -> None:
        line_an_epoch(record)
        monitor.epoch(record)

    def on_start(history: list[dict]) -> None:
        monitor.begin(config, num_images, history)

    return {"on_start": on_start, "on_step": on_step, "on_epoch": on_epoch, "stop": monitor.stop}


def counter(title: str, total: int, unit: str, report: Callable[[str], None]) -> Callable[[int], None]:
    """A callback for the number done so far: a line every PROGRESS_SECONDS, with rate and time left."""
    begin = last = time.perf_counter()

    def on_done(done: int) -> None:
        nonlocal last
        now = time.perf_counter()
        if now - last >= PROGRESS_SECONDS and done < total:
            last = now
            left = round((now - begin) / done * (total - done))
            report(f"  {title}: {done:,} of {total:,} {unit}  {done / (now - begin):.1f} {unit}/s"
                   f"  {left // 60}:{left % 60:02d} left")  # fmt: skip

    return on_done
