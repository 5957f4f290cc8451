"""What is known of the photographs alone: the steps from the paper's text to its code, and what the leak brings."""

from woofkit.claims.effects import WORLDS, Effect, Effects, Key, Quantity
from woofkit.claims.leak import SEEN
from woofkit.claims.steps import SPLIT, STEPS
from woofkit.results import METHOD_NAMES
from woofkit.tables import markdown_table, signed_points

WORLD = WORLDS["imagewoof"]
METHODS = ("full", "lora")
NOT_YET = (
    "Not measured yet. `python -m woofkit sweep photographs-small` and then `python -m woofkit evidence "
    "photographs-small` measure it on two cores; on a GPU, take `photographs`."
)


def steps_markdown(effects: Effects) -> str:
    """The steps from the paper's text to its code in markdown: what each does to full fine-tuning and to LoRA.

    `effects` are those of `effects.kept_effects`. A line says so where no step has been measured.
    """
    rows, sources = [_row("everything as in the text", effects, SPLIT)], set()
    for setting in STEPS.values():
        gains = [effects.get(Key(Quantity.GAIN, method, setting=setting, world=WORLD)) for method in METHODS]
        rows.append(_row(setting, effects, setting, *gains))
        sources |= {gain.source for gain in gains if gain}
    if not sources:
        return NOT_YET
    head = ["what changes", *(f"{METHOD_NAMES[method]} gains" for method in METHODS), "full fine-tuning leads LoRA by"]
    note = f"In points, with 95% intervals that are not corrected; exploratory. {'; '.join(sorted(sources))}."
    return f"{markdown_table(head, rows, 'lrrr')}\n\n{note}"


def _row(words: str, effects: Effects, setting: str, *gains: Effect | None) -> list[str]:
    lead = effects.get(Key(Quantity.ACCURACY, *METHODS, setting, WORLD))
    return [words, *(signed_points(gain) for gain in gains or (None, None)), signed_points(lead)]


def leak_markdown(effects: Effects) -> str:
    """How much better each method is on test images that its backbone has seen, as a table in markdown."""
    gains = {method: effects.get(Key(Quantity.GAIN, method, setting=SEEN, world=WORLD)) for method in METHOD_NAMES}
    rows = [[METHOD_NAMES[method], signed_points(gain)] for method, gain in gains.items() if gain]
    if not rows:
        return NOT_YET
    if lead := effects.get(Key(Quantity.LEAD, "lora", "full", SEEN, WORLD)):
        rows.append(["LoRA's lead over full fine-tuning", signed_points(lead)])
    sources = "; ".join(sorted({gain.source for gain in gains.values() if gain}))
    table = markdown_table(["", "seen in pretraining minus not seen"], rows, "lr")
    return f"{table}\n\nIn points, with 95% intervals that are not corrected. {sources}."
