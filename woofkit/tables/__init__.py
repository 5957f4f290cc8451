"""Every table in markdown."""

from collections.abc import Iterable, Sequence


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]], align: str = "") -> str:
    """A table in markdown; `align` has one letter per column, "l" or "r", and "" aligns all to the left."""
    marks = ["---:" if letter == "r" else "---" for letter in align or "l" * len(head)]
    titles = " ".join(f"| {title}".rstrip() for title in head)
    return "\n".join([f"{titles} |", f"|{'|'.join(marks)}|", *(f"| {' | '.join(cells)} |" for cells in rows)])


def p_in_words(p_value: float) -> str:
    """A p-value as it stands in a table: "p = 0.012", and "p < 0.0001" of smaller ones."""
    return f"p = {p_value:.2g}" if p_value > 1e-4 else "p < 0.0001"


def signed_points(found: Sequence[float] | None) -> str:
    """A difference of accuracies (value, low, high, ...) in points, with its sign; a dash where there is none."""
    if found is None:
        return "-"
    value, low, high = (f"{100 * number:+.1f}".replace("-", "−") for number in found[:3])
    return f"{value} ({low} to {high})"
