"""What runs have forgotten, as a table in markdown."""

import re

import pandas as pd

from woofkit.measure.forgetting import MEASURES
from woofkit.results import METHOD_LABELS, percent, set_apart

SAME = ("method", "lr", "rank", "targets", "blocks", "other")


def forgetting_markdown(table: pd.DataFrame) -> str:
    """The table in markdown: a row for runs that differ in their seed alone, with what they learned and what they kept.

    The change's interval is over images for a single run, and from the lowest to the highest of several seeds. Runs on
    fewer labels, or with more or fewer epochs than most, are left out.
    """
    measures = {name: words for name, words in MEASURES.items() if name in table}
    head = ["method", "learning rate", "new task", *measures.values(), "change under the original head"]
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    whole = table[table["label_fraction"].fillna(1) == 1]
    whole = whole[whole["epochs"].isna() | (whole["epochs"] == whole["epochs"].mode()[0])]
    whole = whole.assign(other=whole["other"].fillna("") if "other" in whole else "")
    for _, own in whole.groupby("method"):
        whole.loc[own.index, "apart"] = [", ".join(words) for words in set_apart(own["other"])]
    usual = {name: whole[name].dropna().mode() for name in ("rank", "targets", "blocks")}
    for (method, lr, *_), runs in whole.groupby(list(SAME), sort=False, dropna=False):
        low, high = runs[["head_change_low", "head_change_high"]].to_numpy()[0]
        if len(runs) > 1:
            low, high = runs["head_change"].min(), runs["head_change"].max()
        learned = "-" if runs["test_accuracy"].isna().all() else percent(runs["test_accuracy"].mean())
        cells = ["-" if pd.isna(lr) else f"{lr:g}", learned, *(percent(runs[name].mean()) for name in measures)]
        change = f"{100 * runs['head_change'].mean():+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"
        first = runs.iloc[0]
        apart = [
            f"{name} {_short(first[name])}"
            for name, most in usual.items()
            if pd.notna(first[name]) and first[name] not in set(most[:1])
        ]
        seeds = [f"{len(runs)} seeds"] * (len(runs) > 1)
        name = ", ".join(filter(None, [METHOD_LABELS.get(method, method), *apart, first["apart"], *seeds]))
        lines.append("| " + " | ".join([name, *cells, change]) + " |")
    first = table.iloc[0]
    notes = (
        f"{first['num_source_images']:,} images of {first['source']}; changes in points, with the 95 % interval "
        "over images or, of several seeds, from the lowest to the highest. "
        f"Measured {first['date'][:10]}, {first['machine']}."
    )
    return "\n".join([*lines, "", notes])


def _short(value: float | str) -> str:
    """A rank, or the names of layers, in words."""
    return f"{value:g}" if isinstance(value, float) else " and ".join(re.findall(r"[\w.\[\]]+", value.strip("[]")))
