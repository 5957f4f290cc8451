"""The kept runs of sweeps, as a table in markdown."""

import ast

import pandas as pd

from woofkit.config import METHODS
from woofkit.results import METHOD_NAMES, percent, set_apart
from woofkit.sweeps.results import SAME
from woofkit.tables import markdown_table

WORDS = {
    "seeds-paper-lr": "seeds, the report's rate",
    "seeds-best-lr": "seeds, the best rate",
    "full-paper-lr": "the report's rate",
    "full-best-lr": "the best rate",
    "labels": "labels",
    "epochs": "epochs",
    "ranks": "rank",
    "targets": "layers",
}
VARIES = {"labels": "label_fraction", "epochs": "epochs", "ranks": "rank", "targets": "targets"}  # a grid's setting


def kept_markdown(runs: pd.DataFrame) -> str:
    """The rows of `kept_runs` as a table in markdown: a line for runs that differ in their seed alone."""
    lines = []
    runs = runs[runs["grid"].isin(WORDS)]
    for grid, words in WORDS.items():
        rows = runs[runs["grid"] == grid].sort_values(["lr", *filter(None, [VARIES.get(grid)])], kind="stable")
        rows = rows.sort_values("method", key=lambda each: each.map(METHODS.index), kind="stable")
        for _, own in rows.groupby("method"):
            rows.loc[own.index, "apart"] = [", ".join(words) for words in set_apart(own["other"])]
        for _, same in rows.groupby(list(SAME), sort=False, dropna=False):
            first = same.iloc[0]
            setting = ", ".join(filter(None, [_in_words(first, VARIES.get(grid, "")), first["apart"]]))
            own = {name: first[f"test_accuracy_{name}"] for name in ("low", "high")}  # all that older tables have
            ends = [first[name] if pd.notna(first[name]) else end for name, end in own.items()]
            value = "{} ({:.1f} to {:.1f})".format(percent(same["test_accuracy"].mean()), *(100 * end for end in ends))
            name = METHOD_NAMES.get(first["method"], first["method"])
            lines.append((words, name, f"{first['lr']:g}", setting, str(len(same)), value))
    head = ("what varies", "method", "learning rate", "setting", "seeds", "test accuracy (95 % interval)")
    dates, machines = sorted(runs["date"].str[:10].unique()), sorted(runs["machine"].unique())
    count = len(runs.drop_duplicates(["method", *SAME[2:], "seed"]))
    note = f"{count} runs; the interval counts seeds and images, with one seed the images alone. "
    note += f"Measured {' to '.join(dict.fromkeys((dates[0], dates[-1])))}, {'; '.join(machines)}."
    return f"{markdown_table(head, lines, 'llrlrr')}\n\n{note}"


def _in_words(row: pd.Series, name: str) -> str:
    if name == "targets":
        return " and ".join(f"`{target}`" for target in ast.literal_eval(row["targets"]))
    if name == "label_fraction":
        return f"{row[name]:.0%} of the labels".replace("%", " %")
    if name == "epochs":
        return f"{row[name]} epoch{'s' if row[name] > 1 else ''}"
    return f"rank {row[name]:g}" if name else ""
