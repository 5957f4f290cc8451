"""The table of what was tried: printed, kept in data/results/ and shown in docs/running.md."""

from collections.abc import Collection
from pathlib import Path

import pandas as pd

from woofkit.files import RESULTS, write_table
from woofkit.tables import markdown_table

KEPT = RESULTS / "faults.csv"
COUNTS = ["tried", "survived", "lost", "tracebacks"]  # a traceback is one of those that are lost
ABOUT = ["commit", "machine", "date"]


def keep(rows: pd.DataFrame, kinds: Collection[str], path: Path = KEPT) -> None:
    """Put the rows of what was tried into the kept table, in the order of `kinds`; other kinds keep their rows."""
    if path.exists():
        before = pd.read_csv(path)
        rows = pd.concat([before[~before["kind"].isin(rows["kind"])], rows])
    order = {kind: place for place, kind in enumerate(kinds)}
    rows = rows[rows["kind"].isin(order)].sort_values("kind", key=lambda names: names.map(order))
    write_table(rows[["kind", *COUNTS, *ABOUT]], path)


def faults_markdown(rows: pd.DataFrame) -> str:
    """What was tried, with the sums of all kinds."""
    sums = ["all", *(str(rows[name].sum()) for name in COUNTS)]
    lines = [[row["kind"], *(str(row[name]) for name in COUNTS)] for _, row in rows.iterrows()]
    return markdown_table(["kind", *COUNTS], [*lines, sums], "lrrrr")
