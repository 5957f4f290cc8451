"""The training monitor: curves that grow while a cell trains, and a button that ends it and keeps what was learned."""

import math
import threading
import time
from collections.abc import Callable
from html import escape

from ipywidgets import HTML, FloatProgress

from woofkit.config import TrainConfig
from woofkit.plots.pages import img, live_curves
from woofkit.plots.style import method_color, method_name
from woofkit.progress import Means, ProgressLines
from woofkit.widgets.controls import in_lines
from woofkit.widgets.prompt import PromptButton

WORDS_EVERY = 0.5  # seconds between two lines of words
CURVES_EVERY, CURVES_SHARE = 2.0, 0.05  # seconds between two pictures, and the most of the time that they may take
STOP, STOPPING = "■ stop, and keep what was learned", "stopping ..."


class TrainingMonitor(ProgressLines):
    """What `run_training(config, root, monitor=...)` tells, as a widget: display `monitor.widget` before the call.

    JupyterLab 4.4 and newer deliver a click while the cell still runs. Elsewhere, interrupt the kernel instead: then
    training goes on after the last whole epoch when the cell is run again, but nothing is tested.
    """

    def __init__(self):
        super().__init__()
        self.heading, self.curves, self.message = HTML(), HTML(), HTML()
        self.bar = FloatProgress(min=0, max=1, layout={"width": "100%"})
        self.button = PromptButton(description=STOP, layout={"width": "auto"}, disabled=True)
        self.button.on_click(lambda _button: self.ask_to_stop())
        self.widget = in_lines([(self.heading,), (self.bar,), (self.button,), (self.message,)], self.curves)
        self.config: TrainConfig | None = None
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
        self.history = list(history)
        self._asked.clear()
        self.button.disabled, self.button.description = False, STOP
        self.bar.style.bar_color = method_color(config.method)
        self.bar.value = min(1.0, len(history) / config.epochs)
        self.message.value = ""
        self._begin = self._words_at = self._curves_at = time.monotonic()
        self._done_before, self._pause = len(history) * num_images, CURVES_EVERY
        self._say(f"{method_name(config.method)}, epoch {min(len(history) + 1, config.epochs)} of {config.epochs}")
        self._draw()

    def step(self, epoch: int, images: int, means: Callable[[], Means]) -> None:
        """Say how far training is, and now and then draw the epoch's means so far."""
        super().step(epoch, images, means)
        now = time.monotonic()
        if now - self._words_at < WORDS_EVERY:
            return
        self._words_at = now
        done, total = (epoch - 1) * self.num_images + images, self.config.epochs * self.num_images
        rate = (done - self._done_before) / (now - self._begin)
        left = round((total - done) / rate)
        self._say(
            f"{method_name(self.config.method)}, epoch {epoch} of {self.config.epochs}, {images:,} of "
            f"{self.num_images:,} images, {rate:.0f} images/s, {left // 60}:{left % 60:02d} left"
        )
        self.bar.value = done / total
        if now - self._curves_at >= self._pause and images < self.num_images:
            self._draw((done / self.num_images, *means()))

    def epoch(self, record: dict) -> None:
        """Draw the epoch."""
        super().epoch(record)
        self.history.append(record)
        self.bar.value = min(1.0, len(self.history) / self.config.epochs)
        self._draw()

    def stop(self) -> bool:
        """Whether the button was pressed."""
        return self._asked.is_set()

    def end(self, message: str) -> None:
        """Say what has become of the run."""
        super().end(message)
        self.button.disabled, self.button.description = True, STOP
        if self.config:  # else it broke off before it began
            self._say(f"{method_name(self.config.method)}, {len(self.history)} of {self.config.epochs} epochs")
        self.message.value = f'<p role="status">{escape(message)}</p>'

    def _say(self, words: str) -> None:
        self.heading.value = f"<p><b>{escape(words)}</b></p>"

    def _draw(self, running: tuple[float, float, float] | None = None) -> None:
        begin = time.monotonic()
        png = live_curves(self.history, self.config.epochs, self.num_images, self.config.method, running)
        self.curves.value = img(png, self._in_words())
        self._curves_at = time.monotonic()
        self._pause = max(CURVES_EVERY, (self._curves_at - begin) / CURVES_SHARE)

    def _in_words(self) -> str:
        """The curves for those who cannot see them."""
        if not self.history:
            return "Learning curves: no epoch has ended yet"
        last = self.history[-1]
        words = f"Learning curves: after epoch {last['epoch']} the training accuracy is {last['train_accuracy']:.1%}"
        if not math.isnan(last.get("val_accuracy", math.nan)):
            words += f", the validation accuracy {last['val_accuracy']:.1%}"
        return words
