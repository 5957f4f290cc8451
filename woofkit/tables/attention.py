"""What `python -m woofkit attention` found, in words and in markdown."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from woofkit.claims.effects import Quantity
from woofkit.explain.maps import KINDS
from woofkit.results import METHOD_NAMES
from woofkit.tables import markdown_table, p_in_words

MODELS = {"original": "original", **{method: METHOD_NAMES[method] for method in ("full", "lora")}}
DRAWN_ROWS = tuple(  # map, quantity, how many decimals
    (kind, quantity, digits)
    for kind in ("attention", "relevance")
    for quantity, digits in ((Quantity.FACE, 2), (Quantity.LEGS, 2), (Quantity.NO_DOG, 3))
)
ALL_ROWS = (
    ("", "divergence", 3),
    ("attention", "correlation with the original's", 2),
    ("attention", "density in the corners", 2),
    ("attention", "area under deletion, beyond the centre map's", 3),
    ("relevance", "area under deletion, beyond the centre map's", 3),
    ("attention", "area under insertion, beyond the centre map's", 3),
    ("relevance", "area under insertion, beyond the centre map's", 3),
)


def verdict_lines(record: Mapping[str, Any]) -> list[str]:
    """The verdicts in words: one line per claim and kind of map, then one for each of its conditions."""
    lines = []
    for claim, judged in record["verdicts"].items():
        lines.append(f"{claim}: {judged['statement']}")
        for kind, description in KINDS.items():
            lines.append(f"  by {description}: {_verdict(judged[kind])}")
            for found in judged[kind]["conditions"]:
                lines.append(f"    {found['verdict']}: {found['condition']}: {_interval(found, '.3f')}")
    return lines or ["Photographs have no masks, so the claims cannot be judged."]


def verdicts_markdown(record: Mapping[str, Any]) -> str:
    """The verdicts as a table in markdown: one row per claim with its verdict by each kind of map, then its conditions.

    A condition is judged alone. A claim is judged among all hypotheses, so it may be undecided above a decided row.
    """
    rows = []
    for claim, judged in record["verdicts"].items():
        rows.append([f"**{claim}**: {judged['statement']}", *(_verdict(judged[kind], "**") for kind in KINDS)])
        for findings in zip(*(judged[kind]["conditions"] for kind in KINDS), strict=True):
            cells = [f"{found['verdict']}: {_interval(found, '.2f')}" for found in findings]
            rows.append([f"judged alone: {findings[0]['condition']}", *cells])
    return markdown_table(["", *(f"by {description}" for description in KINDS.values())], rows)


def _verdict(judged: Mapping[str, Any], mark: str = "") -> str:
    """A claim's verdict with its corrected p or the reason why it is open; `mark` stands about the verdict."""
    why = judged.get("why", "") if judged["p_value"] is None else f"corrected {p_in_words(judged['p_value'])}"
    return f"{mark}{judged['verdict']}{mark}" + (f" ({why})" if why else "")


def measures_markdown(record: Mapping[str, Any], table: pd.DataFrame) -> str:
    """The main quantities as a table in markdown: one row each, one column per model, all with intervals."""
    found = table.fillna({"second": "", "map": ""}).set_index(["first", "second", "map", "quantity"])
    rows = []
    for kind, quantity, digits in (*(DRAWN_ROWS if record["verdicts"] else ()), *ALL_ROWS):
        cells = [_interval(found.loc[model, "", kind, quantity], f".{digits}f") for model in MODELS]
        difference = _interval(found.loc["lora", "full", kind, quantity], f"+.{digits}f")
        rows.append([KINDS.get(kind, "all blocks"), str(quantity), *cells, difference])
    head = ["map", "measure", *MODELS.values(), "LoRA minus full"]
    settings, environment = record["settings"], record["environment"]
    several = settings["seeds"] > 1
    models = f"{settings['seeds']} models of each kind" if several else "one model of each kind"
    how = f"profile {settings['profile']}, {settings['model_name']}, learning rate {settings['lr']:g}"
    notes = (
        f"{settings['dogs']} test images, {models} ({how}); means with 95% intervals over "
        f"{'images and seeds' if several else 'images'}. Densities: 1 is the even share. Areas are of the first seed's "
        f"models. Measured {environment['date'][:10]}, {environment['machine']}."
    )
    return f"{markdown_table(head, rows, 'll' + 'r' * (len(head) - 2))}\n\n{notes}"


def _interval(found: Mapping[str, Any], form: str) -> str:
    value, low, high = (format(found[name], form) for name in ("value", "low", "high"))
    return f"{value} ({low} to {high})"
