"""Hypotheses, their register, their verdicts and the recommendations as tables and sentences."""

from collections.abc import Sequence
from math import isnan

import pandas as pd

from woofkit.claims.effects import Effect, Effects
from woofkit.claims.error_rates import WORST, interval_coverage, verdict_rates
from woofkit.claims.hypotheses import HYPOTHESES, POINT
from woofkit.claims.laws import ALL_LAYERS, LAWS, Law, judge_law
from woofkit.claims.recommendations import NEEDS, Need, advise
from woofkit.claims.register import CHANGED_IN_ALL, FIRST_VERDICTS, REGISTER
from woofkit.claims.verdicts import CONTRADICTED, SUPPORTED, UNMEASURED, Condition, Judgement, p_values
from woofkit.results import METHOD_NAMES
from woofkit.stats.power import decidable_difference, detectable_difference
from woofkit.sweeps.results import kept_runs
from woofkit.tables import markdown_table, p_in_words

NAMES = METHOD_NAMES | {ALL_LAYERS: "LoRA on all layers"}


def hypotheses_markdown() -> str:
    """The hypotheses as a table in markdown."""
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
    return markdown_table(head, rows)


def power_markdown(num_images: int) -> str:
    """What can be shown, in sentences: by one run of each method on so many test images, and by five on 5,000."""
    return f"{_can_show(num_images)} {_seeds_can_show()}"


def error_rates_markdown(studies: int = 1000) -> str:
    """How often the verdicts would be wrong, and an interval miss, in so many simulated studies of each kind."""
    seeds, images = 5, 1000
    cases = zip(("by one of its conditions, the others surely hold", "by all of its conditions"), WORST, strict=True)
    rows = []
    for words, distances in cases:
        rates = verdict_rates(HYPOTHESES, distances, studies)
        rows.append((words, *(f"{rate:.1%}" for rate in rates)))
    head = ("every hypothesis lies at its threshold", "one is called supported", "contradicted", "either")
    error = 2 * (0.05 * 0.95 / studies) ** 0.5
    held = interval_coverage(seeds, images, studies)
    return (
        f"{markdown_table(head, rows, 'lrrr')}\n\nShares of {studies:,} simulated studies of all {len(HYPOTHESES)} "
        f"hypotheses; 2.5% of each kind and 5% of either are allowed. The 95% interval of the difference of two "
        f"methods ({seeds} seeds each, {images:,} images) held the true one in **{held:.1%}** of as many. So few "
        f"studies tell such shares to about {100 * error:.1f} points."
    )


def _seeds_can_show() -> str:
    runs = kept_runs("sketchwoof")
    groups = runs[runs["grid"] == "seeds-best-lr"].groupby("method")["test_accuracy"]
    spread = float((groups.var() * (groups.size() - 1)).sum() / (groups.size() - 1).sum()) ** 0.5
    seeds, images = 5, 5000
    points = 100 * decidable_difference(seeds, images, spread, margin=POINT)
    return (
        f"With {seeds} seeds of each method and {images:,} test images, a lead has to be about **{points:.1f} points** "
        f"to be supported in 80% of such tests, before Holm's correction. The margin is {100 * POINT:g} of them, and "
        f"the seeds of a method differ by {100 * spread:.1f} points (standard deviation)."
    )


def _can_show(num_images: int) -> str:
    try:
        points = 100 * detectable_difference(num_images)
    except ValueError:  # so few images
        return f"{num_images:,} test images cannot show a difference of accuracy with any certainty."
    return (
        f"{num_images:,} test images can show a difference of accuracy of **{points:.1f} points** or more (by "
        "McNemar's test, in 80% of such tests, if the models differ on a tenth of the images)."
    )


def _in_words(condition: Condition) -> str:
    """What a condition says, with its threshold where the sentence lacks one."""
    wanted = _wanted(condition)
    named = condition.threshold == 0 or wanted in condition.statement
    return condition.statement if named else f"{condition.statement} ({wanted})"


def _wanted(condition: Condition) -> str:
    """What the effect has to be, such as "at least 1 point"."""
    if condition.threshold == 0:
        return "above 0" if condition.above else "below 0"
    unit = condition.key.quantity.unit
    number = _scaled(condition.threshold, unit)
    with_unit = f"{number}%" if unit == "%" else f"{number} {unit.removesuffix('s') if number == '1' else unit}"
    return f"{'at least' if condition.above else 'at most'} {with_unit}".rstrip()


def _scaled(number: float, unit: str) -> str:
    """A number as it is shown beside its unit: fractions with the unit "points" or "%" times 100."""
    return f"{100 * number if unit in ('points', '%') else number:.3g}".replace("-", "−")


def register_markdown() -> str:
    """The register in markdown: when each hypothesis was stated, its data first seen, and what has changed since."""
    rows = [(f"**{name}**", entry.stated, entry.seen, entry.changes) for name, entry in REGISTER.items()]
    table = markdown_table(("", "stated", "first data seen", "changed since"), rows)
    return f"{table}\n\nChanged in all of them: {' '.join(CHANGED_IN_ALL)}"


def changes_markdown(judgements: Sequence[Judgement]) -> str:
    """The first verdict on each hypothesis on drawings, today's, and what is otherwise now: a table in markdown."""
    rows = []
    for each in judgements:
        entry = REGISTER[each.hypothesis.id]
        if each.verdict == UNMEASURED:
            now = "not measured in the new form"
        else:
            now = f"**{each.verdict}**, {'kept' if each.verdict == entry.before else 'changed'}"
        rows.append((_name(each), f"**{entry.before}**: {entry.found}", now, entry.since))
    return markdown_table(("", f"on {FIRST_VERDICTS}", "now", "why"), rows)


def _name(judgement: Judgement) -> str:
    return " ".join(filter(None, (judgement.hypothesis.id, judgement.hypothesis.claim)))


def judgements_markdown(judgements: Sequence[Judgement]) -> str:
    """One row per hypothesis: its verdict, the p-value of that verdict, why it is undecided, and what kind it is."""
    rows = []
    for each in judgements:
        why = each.why if isnan(each.p_value) else p_in_words(each.p_value)
        rows.append((_name(each), each.hypothesis.statement, f"**{each.verdict}**", why, each.kind))
    return markdown_table(("", "hypothesis", "verdict", "corrected p of the verdict, or the reason", "kind"), rows)


def sentence(judgement: Judgement) -> str:
    """What a student may say of a hypothesis, in one sentence with the number that decides it."""
    statement, verdict = judgement.hypothesis.statement, judgement.verdict
    if verdict == UNMEASURED:
        return f"Not measured: {statement}."
    if verdict == SUPPORTED:
        rows = "; ".join(
            f"{condition.statement} ({_shown(condition, effect)})" for condition, effect, _ in judgement.findings
        )
        return f"Supported: {statement}. {rows[0].upper()}{rows[1:]}."
    if verdict == CONTRADICTED:
        condition, effect, _ = min(judgement.findings, key=lambda found: p_values(*found[:2]).short)
        found = f"{condition.key} is {_shown(condition, effect)}, and not {_wanted(condition)}"
        return f"Contradicted: {statement}. But {found}."
    return f"Undecided: {statement} ({judgement.why})."


def _shown(condition: Condition, effect: Effect) -> str:
    """The value with its interval, if it has one, and its unit."""
    unit = condition.key.quantity.unit
    value, low, high = (_scaled(number, unit) for number in effect[:3])
    value += unit if unit == "%" else ""
    shown = f"{value} ({low} to {high})" if effect.low < effect.high else value
    return shown if unit == "%" else f"{shown} {unit}".rstrip()


def verdict_frame(judgements: Sequence[Judgement]) -> pd.DataFrame:
    """One row per condition, for `plots.verdict_table` and for reading; conditions not measured have no numbers."""
    rows = []
    for judgement in judgements:
        hypothesis, findings, judged, p_value, why = judgement
        for condition, effect, verdict in findings:
            numbers = dict(zip(("value", "low", "high"), effect or (float("nan"),) * 3, strict=False))
            row = {"hypothesis": hypothesis.id, "claim": hypothesis.claim, "says": hypothesis.statement}
            row |= {
                **vars(condition),
                "statement": _in_words(condition),
                "threshold": condition.threshold,
                "unit": condition.key.quantity.unit,
                "verdict": verdict,
                **numbers,
            }
            row |= {"p_value": p_value, "of_the_claim": judged, "why": why, "kind": judgement.kind}
            row |= {"source": effect.source if effect else ""}
            rows.append(row)
    return pd.DataFrame(rows)


def laws_markdown(effects: Effects, worlds: Sequence[str]) -> str:
    """What is known, from where, and in each world whether it is found, with the numbers: a table in markdown."""
    rows = []
    for law in LAWS:
        known = law.statement + (f" (here {law.here})" if law.here else "")
        rows.append((known, f"[{law.source}]({law.url})", *(_law_in(law, effects, world) for world in worlds)))
    return markdown_table(("what is known", "from", *(f"on {world}" for world in worlds)), rows)


def _law_in(law: Law, effects: Effects, world: str) -> str:
    """Whether a law agrees with a world, by which numbers, and whether these were new when it was written down."""
    words = {SUPPORTED: "agrees", CONTRADICTED: "disagrees", UNMEASURED: UNMEASURED}
    verdict, findings = judge_law(law, effects, world)
    if verdict == UNMEASURED:
        return UNMEASURED
    found = dict.fromkeys(f"{each.statement}: {_shown(each, effect)}" for each, effect, _ in findings)
    kind = "confirmatory" if all(effect.confirmatory for _, effect, _ in findings) else "exploratory"
    return f"**{words.get(verdict, 'open')}** ({kind}). {'; '.join(found)}"


def decisions_markdown(effects: Effects, worlds: Sequence[str], needs: Sequence[Need] = NEEDS) -> str:
    """The recommendations in markdown: one row per need, and per world the methods that nothing is shown to beat."""
    rows = [(need.question, *(_advice(need, effects, world) for world in worlds)) for need in needs]
    return markdown_table(("if you need", *(f"take, judging by {world}" for world in worlds)), rows)


def _advice(need: Need, effects: Effects, world: str) -> str:
    unbeaten, beaten = advise(need, effects, world)
    if not unbeaten and not beaten:
        return "not measured"
    lines = [f"**{' or '.join(NAMES[method] for method in unbeaten)}**"]
    for method, (key, effect) in beaten.items():
        winner = key.second if key.first == method else key.first
        if key.quantity.unit == "times":
            form = ".2f" if effect.value < 10 else ",.0f"
            lines.append(f"{NAMES[method]} takes {_interval(effect, 1, form)} times what {NAMES[winner]} takes")
        else:
            lines.append(f"{NAMES[method]} is {_interval(effect, 100, '.1f')} points behind {NAMES[winner]}")
    return "<br>".join(lines)


def _interval(effect: Effect, factor: int, form: str) -> str:
    value, low, high = (f"{factor * number:{form}}" for number in effect[:3])
    return f"{value} ({low} to {high})" if low != high else value
