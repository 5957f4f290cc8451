"""What shifted images take from each method, as a table in markdown."""

from woofkit.claims.effects import Effect, Effects, Key, Quantity, shifted_by
from woofkit.config import METHODS
from woofkit.measure.shifts import DRAWN_SHIFTS, SHIFTS
from woofkit.results import METHOD_NAMES
from woofkit.tables import markdown_table, signed_points


def shifts_markdown(effects: Effects, world: str) -> str:
    """One row per shift: what it takes from each method in a world, and LoRA's loss beside that of full fine-tuning.

    A line says so where none has been measured there.
    """

    def effect(first: str, second: str, shift: str) -> Effect | None:
        return effects.get(Key(Quantity.SHIFTED, first, second, shifted_by(shift), world))

    shifts = {name: name for name in (*SHIFTS, *DRAWN_SHIFTS)} | {"": f"the first {len(SHIFTS)} together"}
    methods = [method for method in METHODS if any(effect(method, "", shift) for shift in shifts)]
    if not methods:
        return f"What shifted {world} take from each method has not been measured yet: `python -m woofkit evidence`."
    rows = [
        [
            words,
            *(signed_points(effect(method, "", shift)) for method in methods),
            signed_points(effect("lora", "full", shift)),
        ]
        for shift, words in shifts.items()
        if any(effect(method, "", shift) for method in methods)
    ]
    head = ["shift", *(METHOD_NAMES[method] for method in methods), "LoRA minus full fine-tuning"]
    note = (
        f"Points of accuracy beside the usual {world}, at each method's best learning rate; 95% intervals, uncorrected."
    )
    return f"{markdown_table(head, rows, 'l' + 'r' * (len(methods) + 1))}\n\n{note}"
