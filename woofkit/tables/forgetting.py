"""What runs have forgotten, as a table in markdown."""

import re
from collections.abc import Mapping

import pandas as pd

from woofkit.measure.forgetting import MEASURES
from woofkit.results import METHOD_NAMES, percent, set_apart
from woofkit.stats.seeds import mean_of_intervals
from woofkit.sweeps.results import pixels
from woofkit.tables import markdown_table

SAME = ("method", "lr", "rank", "targets", "blocks", "other")


def forgetting_markdown(table: pd.DataFrame) -> str:
    """The table in markdown: what runs have learned and what they have kept, one row for all seeds of a setting.

    The change's interval counts images, and seeds where there are several. Runs on fewer labels, or with more or fewer
    epochs than most, are left out. Where the table names its dataset, the size of the images is said.
    """
    measures = {name: words for name, words in MEASURES.items() if name in table}
    whole = table[table["label_fraction"].fillna(1) == 1]
    whole = whole[whole["epochs"].isna() | (whole["epochs"] == whole["epochs"].mode()[0])]
    whole = whole.assign(other=whole["other"].fillna("") if "other" in whole else "")
    for _, own in whole.groupby("method"):
        whole.loc[own.index, "apart"] = [", ".join(words) for words in set_apart(own["other"])]
    usual = {name: whole[name].dropna().mode()[:1].tolist() for name in ("rank", "targets", "blocks")}
    rows = [
        [
            _name(runs, usual),
            "-" if pd.isna(lr) else f"{lr:g}",
            "-" if runs["test_accuracy"].isna().all() else percent(runs["test_accuracy"].mean()),
            *(percent(runs[name].mean()) for name in measures),
            _change(runs),
        ]
        for (_, lr, *_), runs in whole.groupby(list(SAME), sort=False, dropna=False)
    ]
    head = ["method", "learning rate", "new task", *measures.values(), "change under the original head"]
    first, trained = table.iloc[0], ""
    if "dataset" in table:
        trained = f"; models trained on images of {' or '.join(pixels(table[table['test_accuracy'].notna()]))} pixels"
    notes = (
        f"{first['num_source_images']:,} images of the earlier task ({first['source']}){trained}; changes in points, "
        "with the 95% interval over images and, where there are several, over seeds. "
        f"Measured {first['date'][:10]}, {first['machine']}."
    )
    return f"{markdown_table(head, rows, 'l' + 'r' * (len(head) - 1))}\n\n{notes}"


def _name(runs: pd.DataFrame, usual: Mapping[str, list]) -> str:
    """The method of runs that differ in their seed alone, and what sets them apart from the usual ones."""
    first = runs.iloc[0]
    words = [METHOD_NAMES.get(first["method"], first["method"])]
    words += [
        f"{name} {_short(first[name])}"
        for name, most in usual.items()
        if pd.notna(first[name]) and first[name] not in most
    ]
    words += [first["apart"], f"{len(runs)} seeds" if len(runs) > 1 else ""]
    return ", ".join(filter(None, words))


def _change(runs: pd.DataFrame) -> str:
    """The mean change with its interval over images and seeds."""
    columns = ("head_change", "head_change_low", "head_change_high")
    value, low, high, _ = mean_of_intervals(*(runs[name] for name in columns))
    return f"{100 * value:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"


def _short(value: float | str) -> str:
    """A rank, or the names of layers, in words."""
    return f"{value:g}" if isinstance(value, float) else " and ".join(re.findall(r"[\w.\[\]]+", value.strip("[]")))
