"""The kept runs of sweeps, as a table in markdown."""

import ast

import pandas as pd

from woofkit.config import METHODS
from woofkit.results import METHOD_NAMES, percent, set_apart
from woofkit.sweeps.results import SAME
from woofkit.tables import markdown_table

# By grid: its name in words, and the setting that it varies.
GRIDS = {
    "seeds-paper-lr": ("seeds, the paper's rate", ""),
    "seeds-best-lr": ("seeds, the best rate", ""),
    "full-paper-lr": ("the paper's rate", ""),
    "full-best-lr": ("the best rate", ""),
    "labels": ("labels", "label_fraction"),
    "epochs": ("epochs", "epochs"),
    "ranks": ("rank", "rank"),
    "targets": ("layers", "targets"),
}
HEAD = ("what varies", "method", "learning rate", "setting", "seeds", "test accuracy (95% interval)")


def kept_markdown(runs: pd.DataFrame) -> str:
    """The rows of `kept_runs` as a table in markdown: one line for the runs that differ in their seed alone."""
    lines = []
    runs = runs[runs["grid"].isin(GRIDS)]
    for end in ("low", "high"):  # older tables have none for a single seed: there it is the run's own
        runs = runs.assign(**{end: runs[end].fillna(runs[f"test_accuracy_{end}"])})
    for grid, (words, varied) in GRIDS.items():
        rows = runs[runs["grid"] == grid].sort_values(["lr", varied] if varied else "lr", kind="stable")
        rows = rows.sort_values("method", key=lambda methods: methods.map(METHODS.index), kind="stable")
        for _, own in rows.groupby("method"):
            rows.loc[own.index, "apart"] = [", ".join(settings) for settings in set_apart(own["other"])]
        for _, same in rows.groupby(list(SAME), sort=False, dropna=False):
            first = same.iloc[0]
            setting = ", ".join(filter(None, [_in_words(varied, first.get(varied)), first["apart"]]))
            value = percent(same["test_accuracy"].mean())
            interval = f"({100 * first['low']:.1f} to {100 * first['high']:.1f})"
            name = METHOD_NAMES.get(first["method"], first["method"])
            lines.append((words, name, f"{first['lr']:g}", setting, str(len(same)), f"{value} {interval}"))
    dates = sorted(runs["date"].str[:10].unique())
    count = len(runs.drop_duplicates(["method", *SAME[2:], "seed"]))
    note = f"{count} runs; the interval counts seeds and images, with one seed the images alone. Measured "
    note += f"{' to '.join(dict.fromkeys((dates[0], dates[-1])))}, {'; '.join(sorted(runs['machine'].unique()))}."
    return f"{markdown_table(HEAD, lines, 'llrlrr')}\n\n{note}"


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
