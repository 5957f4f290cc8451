"""Every table in markdown."""

from collections.abc import Iterable, Sequence


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]], align: str = "") -> str:
    """A table in markdown; `align` has one letter per column, "l" or "r", and "" aligns all to the left."""
    marks = ["---:" if letter == "r" else "---" for letter in align or "l" * len(head)]
    titles = " ".join(f"| {title}".rstrip() for title in head)
    return "\n".join([f"{titles} |", f"|{'|'.join(marks)}|", *(f"| {' | '.join(cells)} |" for cells in rows)])


def signed_points(found: Sequence[float] | None) -> str:
    """A difference of accuracies (value, low, high, ...) in points, with its sign; a dash where there is none."""
    if found is None:
        return "-"
    value, low, high = (f"{100 * number:+.1f}".replace("-", "−") for number in found[:3])
    return f"{value} ({low} to {high})"
