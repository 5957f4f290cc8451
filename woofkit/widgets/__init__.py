"""Explorers for JupyterLab, each with a figure beside it for paper, or where no kernel runs."""

from woofkit.widgets.browser import browser_figure, dataset_browser
from woofkit.widgets.calculator import calculator_figure, lora_calculator
from woofkit.widgets.dog import draw_your_own_dog, own_dog_figure
from woofkit.widgets.explorer import attention_explorer, explorer_figure
from woofkit.widgets.monitor import TrainingMonitor
from woofkit.widgets.runs import runs_explorer, runs_figure

__all__ = [
    "TrainingMonitor",
    "attention_explorer",
    "browser_figure",
    "calculator_figure",
    "dataset_browser",
    "draw_your_own_dog",
    "explorer_figure",
    "lora_calculator",
    "own_dog_figure",
    "runs_explorer",
    "runs_figure",
]
