"""Hypotheses and recommendations, as tables in markdown."""

from collections.abc import Mapping

from woofkit.claims.hypotheses import HYPOTHESES
from woofkit.claims.recommendations import NEEDS, Need, decide
from woofkit.claims.verdicts import Condition, Effect
from woofkit.stats.power import detectable_difference


def hypotheses_markdown(num_images: int) -> str:
    """The hypotheses as a table in markdown, and the smallest difference that so many test images can show."""
    lines = ["| | claim | the report's words | our hypothesis | holds if | measured by |", "|---|---|---|---|---|---|"]
    for each in HYPOTHESES:
        conditions = "<br>".join(_in_words(condition) for condition in each.conditions)
        lines.append(f"| **{each.id}** | {each.claim} | {each.paper} | {each.statement} | {conditions} | {each.test} |")
    return "\n".join([*lines, "", _can_show(num_images)])


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
    sign = 1 if condition.above else -1
    bound = condition.limit + sign * condition.margin
    return f"{condition.effect} {'at least' if condition.above else 'at most'} {bound:g}"


def decisions_markdown(effects: Mapping[str, Effect]) -> str:
    """The table in markdown: a row a need, with the advice and the effect that it rests on."""
    lines = ["| you need | take | because |", "|---|---|---|"]
    for need in NEEDS:
        name = next((name for name in need.effects if name in effects), need.effects[0])
        effect = effects.get(name)
        lines.append(f"| {need.question} | **{decide(need, effect)}** | {_evidence(need, name, effect)} |")
    return "\n".join(lines)


def _evidence(need: Need, name: str, effect: Effect | None) -> str:
    if effect is None:
        return name
    if need.scale == "times":
        numbers = f"{effect.value:.2f} times"
        numbers += f" ({effect.low:.2f} to {effect.high:.2f})" if effect.low < effect.high else ""
    else:
        numbers = "{:+.1f} points ({:+.1f} to {:+.1f})".format(*(100 * number for number in effect[:3]))
    return f"{name}: {numbers}; {effect.source}"
