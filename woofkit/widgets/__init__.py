"""Explorers for JupyterLab, each with a figure beside it for paper, or where no kernel runs."""

from woofkit.widgets.explorer import attention_explorer, explorer_figure

__all__ = ["attention_explorer", "explorer_figure"]
