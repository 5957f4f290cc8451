"""Hypotheses, their verdicts and the recommendations as tables."""

from collections.abc import Sequence

import pandas as pd

from woofkit.claims.effects import Effect, Effects, Key
from woofkit.claims.hypotheses import HYPOTHESES
from woofkit.claims.recommendations import NEEDS, decide
from woofkit.claims.verdicts import Condition, Judgement
from woofkit.stats.power import detectable_difference
from woofkit.tables import markdown_table


def hypotheses_markdown(num_images: int) -> str:
    """The hypotheses as a table in markdown, and the smallest difference that so many test images can show."""
    head = ["", "claim", "the paper's words", "our hypothesis", "holds if", "measured by"]
    rows = [
        (
            f"**{each.id}**",
            each.claim,
            each.paper,
            each.statement,
            "<br>".join(map(_in_words, each.conditions)),
            each.test,
        )
        for each in HYPOTHESES
    ]
    return f"{markdown_table(head, rows)}\n\n{_can_show(num_images)}"


def _can_show(num_images: int) -> str:
    try:
        points = 100 * detectable_difference(num_images)
    except ValueError:  # so few images
        return f"{num_images:,} test images show no difference of accuracy with any certainty."
    return (
        f"{num_images:,} test images show a difference of accuracy from **{points:.1f} points** on (McNemar's test at "
        "5 %, with power 80 %, if a tenth of the images is classified differently)."
    )


def _in_words(condition: Condition) -> str:
    bound = condition.limit + (condition.margin if condition.above else -condition.margin)
    return f"{condition.key} {'at least' if condition.above else 'at most'} {bound:g}"


def verdict_frame(judgements: Sequence[Judgement]) -> pd.DataFrame:
    """One row per condition, for `plots.verdict_table` and for reading; conditions not measured have no numbers."""
    rows = []
    for hypothesis, findings, judged, p_value in judgements:
        for condition, effect, verdict in findings:
            numbers = dict(zip(("value", "low", "high"), effect or (float("nan"),) * 3, strict=False))
            row = {"hypothesis": hypothesis.id, "claim": hypothesis.claim or hypothesis.id, **vars(condition)}
            row |= {"unit": condition.key.quantity.unit, "verdict": verdict, **numbers}
            row |= {"p_value": p_value, "of_the_claim": judged, "source": effect.source if effect else ""}
            rows.append(row)
    return pd.DataFrame(rows)


def decisions_markdown(effects: Effects) -> str:
    """The table in markdown: one row per need, with the advice and the effect that it rests on."""
    rows = []
    for need in NEEDS:
        key = next((key for key in need.keys if key in effects), need.keys[0])
        effect = effects.get(key)
        rows.append((need.question, f"**{decide(need, effect)}**", _evidence(key, effect)))
    return markdown_table(("you need", "take", "because"), rows)


def _evidence(key: Key, effect: Effect | None) -> str:
    if effect is None:
        return str(key)
    if key.quantity.unit == "times":
        numbers = f"{effect.value:.2f} times"
        numbers += f" ({effect.low:.2f} to {effect.high:.2f})" if effect.low < effect.high else ""
    else:
        numbers = "{:+.1f} points ({:+.1f} to {:+.1f})".format(*(100 * number for number in effect[:3]))
    return f"{key}: {numbers}; {effect.source}"
