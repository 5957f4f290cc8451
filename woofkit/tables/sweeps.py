"""The kept runs of sweeps and the learning rates that their searches chose, as tables in markdown."""

import ast

import pandas as pd

from woofkit.config import METHODS
from woofkit.results import METHOD_NAMES, percent, set_apart
from woofkit.sweeps.results import SAME, data_words
from woofkit.tables import markdown_table

SEARCH = r"lr(-.*)?"  # the names of grids that search a learning rate; all others are tested
# What a grid varies, or which setting a search is for, in words; the parts "seeds-" and "lr-" of a name left out.
WORDS = {
    "paper-lr": "seeds, the paper's rate",
    "best-lr": "seeds, the best rate",
    "full-paper-lr": "the paper's rate",
    "full-best-lr": "the best rate",
    "pose": "the pose in place of the breed",
    "more": "other parts of the model",
    "mlp": "LoRA on the MLPs",
    "all-layers": "LoRA on all layers",
    "labels": "labels, equal epochs",
    "labels-10": "a tenth of the labels, equal steps",
    "epochs": "epochs",
    "epochs-20": "20 epochs",
    "ranks": "rank",
    "rank-1": "rank 1",
    "rank-64": "rank 64",
    "targets": "layers",
    "batch-256": "batches of 256",
    "paper-text": "the paper's split, as its text says",
    "paper-rate": "the same, at the rate of its figures",
    "paper-grey": "as its text says, but grey",
    "paper-squeeze": "as its text says, but squeezed to a square",
    "paper-imagenet-norm": "as its text says, but ImageNet's mean and deviation",
    "paper-code": "the paper's split, as its code does",
}
VARIED = {"labels": "label_fraction", "epochs": "epochs", "ranks": "rank", "targets": "targets"}  # of other grids: none
HEAD = ("what varies", "method", "learning rate", "setting", "seeds", "test accuracy (95% interval)")
RATES_HEAD = ("searched for", "method", "validation accuracy by learning rate", "seeds", "chosen", "at an edge")


def kept_markdown(runs: pd.DataFrame) -> str:
    """The rows of `kept_runs` as tables in markdown, one per sweep, with a line for the runs that differ in seed alone.

    Searches are left out: `rates_markdown` has them.
    """
    runs = runs[~runs["grid"].str.fullmatch(SEARCH)]
    return "\n\n".join(_sweep_markdown(name, own) for name, own in runs.groupby("sweep"))


def _sweep_markdown(name: str, runs: pd.DataFrame) -> str:
    """The table of one sweep's runs, with what they were trained on above it, and dates and machines below."""
    lines = []
    for grid in runs["grid"].unique():
        varied = VARIED.get(grid, "")
        rows = runs[runs["grid"] == grid].sort_values(["lr", varied] if varied else "lr", kind="stable")
        rows = rows.sort_values("method", key=lambda methods: methods.map(METHODS.index), kind="stable")
        for _, own in rows.groupby("method"):
            rows.loc[own.index, "apart"] = [", ".join(settings) for settings in set_apart(own["other"])]
        for _, same in rows.groupby(list(SAME), sort=False, dropna=False):
            first = same.iloc[0]
            setting = ", ".join(filter(None, [_in_words(varied, first.get(varied)), first["apart"]]))
            value = percent(same["test_accuracy"].mean())
            interval = f"({100 * first['low']:.1f} to {100 * first['high']:.1f})"
            method = METHOD_NAMES.get(first["method"], first["method"])
            rate = "-" if first["method"] == "zero-shot" else f"{first['lr']:g}"
            lines.append((_grid_words(grid), method, rate, setting, str(len(same)), f"{value} {interval}"))
    dates = sorted(runs["date"].str[:10].unique())
    count = len(runs.drop_duplicates(["method", *SAME[2:], "seed"]))
    note = f"{count} runs; the interval counts seeds and images, with one seed the images alone. Measured "
    note += f"{' to '.join(dict.fromkeys((dates[0], dates[-1])))}, {'; '.join(sorted(runs['machine'].unique()))}."
    return f"Sweep `{name}`, {data_words(runs)}:\n\n{markdown_table(HEAD, lines, 'llrlrr')}\n\n{note}"


def rates_markdown(runs: pd.DataFrame) -> str:
    """What the searches among the rows of `kept_runs` tried and chose: one line per sweep, search and method.

    Chosen is the rate with the best mean validation accuracy over seeds, among equals the smallest, as a sweep does;
    a rate that lacks a seed, whose training diverged or has not ended yet, is not. A chosen rate at an edge may have a
    better one beyond.
    """
    parts = []
    for sweep, own in runs[runs["grid"].str.fullmatch(SEARCH)].groupby("sweep"):
        lines = []
        for (grid, method), tried in own.groupby(["grid", "method"], sort=False):
            rates = tried.groupby("lr")["val_accuracy"].agg(["mean", "size"])
            whole = rates[rates["size"] == rates["size"].max()]["mean"]
            best = whole.idxmax()
            cells = [
                f"{lr:g}: {percent(mean) if lr in whole else 'lacks a seed'}" for lr, mean in rates["mean"].items()
            ]
            edge = "yes" if best in (rates.index[0], rates.index[-1]) else "no"
            words = (_grid_words(grid), METHOD_NAMES.get(method, method), ", ".join(cells))
            lines.append((*words, str(rates["size"].max()), f"{best:g}", edge))
        parts.append(f"Sweep `{sweep}`, {data_words(own)}:\n\n{markdown_table(RATES_HEAD, lines, 'lllrrl')}")
    return "\n\n".join(parts)


def _grid_words(grid: str) -> str:
    """A grid's name in words; as it is where none are known."""
    if grid == "lr":
        return "the usual setting"
    return WORDS.get(grid.removeprefix("lr-").removeprefix("seeds-"), f"`{grid}`")


def _in_words(setting: str, value: str | float | None) -> str:
    """The value of a setting that a grid varies; "" where it varies none."""
    match setting:
        case "targets":
            return " and ".join(f"`{target}`" for target in ast.literal_eval(value))
        case "label_fraction":
            return f"{100 * value:.0f}% of the labels"
        case "epochs":
            return f"{value} epoch{'s' if value > 1 else ''}"
    return f"rank {value:g}" if setting else ""
