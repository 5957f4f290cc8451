"""Explorers for JupyterLab; some have a still figure beside them, for a printed page or where no kernel runs."""

from woofkit.widgets.browser import dataset_browser
from woofkit.widgets.calculator import calculator_figure, lora_calculator
from woofkit.widgets.explorer import attention_explorer, explorer_figure
from woofkit.widgets.monitor import TrainingMonitor
from woofkit.widgets.own_dog import draw_your_own_dog
from woofkit.widgets.own_photo import own_photo_explorer
from woofkit.widgets.runs import runs_explorer, runs_figure

__all__ = [
    "TrainingMonitor",
    "attention_explorer",
    "calculator_figure",
    "dataset_browser",
    "draw_your_own_dog",
    "explorer_figure",
    "lora_calculator",
    "own_photo_explorer",
    "runs_explorer",
    "runs_figure",
]
