"""The training monitor: curves that grow while a cell trains, and a button that ends it and saves what was learned."""

import threading
import time
from collections.abc import Callable
from html import escape

import pandas as pd
from ipywidgets import HTML, FloatProgress

from woofkit.config import TrainConfig
from woofkit.plots.pages import curves_in_words, img, live_curves
from woofkit.plots.style import method_color, method_name
from woofkit.progress import Means, ProgressLines
from woofkit.widgets.controls import button, in_lines

WORDS_EVERY = 0.5  # seconds between two lines of words
CURVES_EVERY, CURVES_SHARE = 2.0, 0.05  # seconds between two pictures, and the most of the time that they may take
STOP, STOPPING = "■ stop, and save what was learned", "stopping ..."


class TrainingMonitor(ProgressLines):
    """What `run_training(config, root, monitor=...)` tells, as a widget: display `monitor.widget` before the call.

    JupyterLab 4.4 and newer deliver a click while the cell still runs. Elsewhere, interrupt the kernel instead: then
    training goes on after the last whole epoch when the cell is run again, but nothing is tested.
    """

    def __init__(self):
        super().__init__()
        self.heading, self.curves = HTML(), HTML()
        self.bar = FloatProgress(min=0, max=1, layout={"width": "100%"})
        self.button = button(STOP)
        self.button.disabled = True
        self.button.on_click(lambda _button: self.ask_to_stop())
        self.widget = in_lines([(self.heading,), (self.bar,), (self.button,)], self.curves, "training monitor")
        self._asked = threading.Event()  # the click comes in another thread than the one that trains
        self._say("Training has not begun.")

    def ask_to_stop(self) -> None:
        """End the training after its next step."""
        self._asked.set()
        self.button.disabled, self.button.description = True, STOPPING

    # --- what run_training calls ---

    def begin(self, config: TrainConfig, num_images: int, history: list[dict]) -> None:
        """Start anew, after the epochs in `history`."""
        super().begin(config, num_images, history)
        self.history, self._pause = list(history), CURVES_EVERY
        self._asked.clear()
        self.button.disabled, self.button.description = False, STOP
        self.bar.style.bar_color = method_color(config.method)
        self._words_at = time.monotonic()
        self._say_epoch(min(len(history) + 1, config.epochs))
        self._draw()

    def step(self, epoch: int, images: int, means: Callable[[], Means]) -> None:
        """Say how far training is, and now and then draw the epoch's means so far."""
        super().step(epoch, images, means)
        now = time.monotonic()
        if now - self._words_at < WORDS_EVERY:
            return
        self._words_at = now
        speed = self.meter("{rate_noinv_fmt}, {remaining} left")
        self._say_epoch(epoch, f", {images:,} of {self.num_images:,} images, {speed}")
        self.bar.value = self.progress.n / self.progress.total
        if now - self._curves_at >= self._pause and images < self.num_images:
            self._draw((self.progress.n / self.num_images, *means()))

    def epoch(self, record: dict) -> None:
        """Draw the epoch."""
        super().epoch(record)
        self.history.append(record)
        self._draw()

    def stop(self) -> bool:
        """Whether the button was pressed."""
        return self._asked.is_set()

    def end(self, message: str) -> None:
        """Say what has become of the run."""
        super().end(message)
        self.button.disabled, self.button.description = True, STOP
        self.heading.value = f'<p role="status"><b>{escape(message)}</b></p>'  # read out to those who cannot see it

    def _say(self, words: str) -> None:
        self.heading.value = f"<p><b>{escape(words)}</b></p>"

    def _say_epoch(self, epoch: int, more: str = "") -> None:
        self._say(f"{method_name(self.config.method)}, epoch {epoch} of {self.config.epochs}{more}")

    def _draw(self, running: tuple[float, float, float] | None = None) -> None:
        begin, method = time.monotonic(), self.config.method
        png = live_curves(self.history, self.config.epochs, self.num_images, method, running)
        words = "Learning curves: no epoch has ended yet"
        if self.history:
            words = curves_in_words(pd.DataFrame(self.history), method)
        self.curves.value = img(png, words)
        self.bar.value = (running[0] if running else len(self.history)) / self.config.epochs
        self._curves_at = time.monotonic()
        self._pause = max(CURVES_EVERY, (self._curves_at - begin) / CURVES_SHARE)
