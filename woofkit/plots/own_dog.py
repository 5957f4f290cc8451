"""A drawn dog beside what models say of it: bars with their numbers, as HTML large enough for a lecture hall."""

from collections.abc import Mapping, Sequence
from html import escape

import numpy as np
from PIL import Image

from woofkit.plots.page import encoded, img
from woofkit.plots.style import method_color, method_name

SIDE = 360  # pixels of the picture as it is shown, at most
TOP = 3


def own_dog_page(
    picture: np.ndarray,
    alt: str,
    answers: Mapping[str, np.ndarray],
    class_names: Sequence[str],
    distances: Mapping[str, float],
    lines: Sequence[str],
) -> str:
    """The drawing, uint8 (H, W, 3), beside each model's most probable classes, and sentences below them.

    Args:
        answers: model -> probabilities (C,), from 0 to 1.
        distances: breed -> how far the dog's traits are from it; a class that is not in it has none.
    """
    blocks = "".join(_answer(*answer, class_names, distances) for answer in answers.items())
    words = "<br>".join(map(escape, lines))
    return f"""<div style="display: flex; flex-flow: row wrap; gap: 10px 28px; align-items: flex-start">
<div style="flex: 0 1 {SIDE}px">{img(encoded(Image.fromarray(picture)), alt)}</div>
<div role="status" style="flex: 1 1 520px">{blocks}<p style="margin-top: 16px">{words}</p></div>
</div>"""


def answer_in_words(model: str, probabilities: np.ndarray, class_names: Sequence[str]) -> str:
    """ "LoRA says Samoyed, 97 %"."""
    first = int(np.argmax(probabilities))
    return f"{method_name(model)} says {class_names[first]}, {100 * probabilities[first]:.0f} %"


def _answer(model: str, probabilities: np.ndarray, class_names: Sequence[str], distances: Mapping[str, float]) -> str:
    rows = []
    for label in np.argsort(-probabilities, kind="stable")[:TOP]:
        name, share = class_names[label], 100 * float(probabilities[label])
        bar = f'<div style="width: {share:.2f}%; height: 100%; background: {method_color(model)}"></div>'
        distance = f"distance {distances[name]:.2f}" if name in distances else ""
        rows.append(
            f'<span>{escape(name)}</span><div style="height: 0.9em; background: #8883">{bar}</div>'
            f'<span style="text-align: right">{share:.0f} %</span><span>{distance}</span>'
        )
    grid = "display: grid; grid-template-columns: 220px 1fr 56px auto; gap: 2px 12px; align-items: center"
    words = escape(answer_in_words(model, probabilities, class_names))
    look = f"{grid}; font-size: 19px; line-height: 1.35; margin-bottom: 12px; white-space: nowrap"
    return f'<p style="font-size: 24px; margin: 0 0 4px"><b>{words}</b></p><div style="{look}">{"".join(rows)}</div>'
