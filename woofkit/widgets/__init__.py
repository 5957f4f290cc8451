"""Explorers for JupyterLab, each with a figure beside it for paper, or where no kernel runs."""

from woofkit.widgets.calculator import calculator_figure, lora_calculator
from woofkit.widgets.explorer import attention_explorer, explorer_figure
from woofkit.widgets.monitor import TrainingMonitor

__all__ = ["TrainingMonitor", "calculator_figure", "lora_calculator", "attention_explorer", "explorer_figure"]
