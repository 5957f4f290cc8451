"""Widgets without a kernel: what they last showed, as plain HTML.

An executed notebook keeps the state of its widgets: id -> {model_name, state, buffers}. From it, `widget_html` writes a
widget and all within it: boxes as boxes, words and pictures as they are, a control as its name and its value, to be
read and not to be moved. A kind that is not known shows nothing.
"""

import html
from collections.abc import Callable, Mapping
from typing import Any

State = Mapping[str, Any]  # id -> {model_name, state, buffers}, as the notebook keeps it
NOTE = "Static view: open the notebook to use the controls."
# Settings of a box's layout that go into its style; a width is left to the page, which may be narrower than the lab.
LAYOUT = {
    "flex_flow": "flex-flow",
    "justify_content": "justify-content",
    "align_items": "align-items",
    "grid_template_columns": "grid-template-columns",
    "grid_gap": "gap",
}


def widget_html(model_id: str, state: State) -> str:
    """Return the static view of the widget `model_id`, with a note if it has controls; "" if it is not in `state`."""
    view = _widget(model_id, state)
    if not view:
        return ""
    if 'class="control"' not in view and "<button" not in view:
        return f'<div class="widget">{view}</div>'
    note = f'<p class="note">{NOTE}</p>'
    return f'<div class="widget still" role="group" aria-label="static view of a widget">{view}{note}</div>'


def _widget(reference: str, state: State) -> str:
    model = state.get(reference.removeprefix("IPY_MODEL_"))
    if model is None:
        return ""
    own = model.get("state", {})
    layout = state.get(str(own.get("layout")).removeprefix("IPY_MODEL_"), {}).get("state", {})
    if layout.get("display") == "none" or layout.get("visibility") == "hidden":
        return ""
    kind = model.get("model_name", "")
    if kind in BOXES:
        return _box(kind, own, layout, state)
    if kind not in LEAVES:
        return f"<!-- no static view of {html.escape(kind).replace('--', '')} -->"
    return LEAVES[kind](own, model.get("buffers", []))


def _box(kind: str, own: Mapping, layout: Mapping, state: State) -> str:
    # The classes are those of the lab, so that the style a widget brings along finds what it is for.
    children = [_widget(child, state) for child in own.get("children", [])]
    if BOXES[kind] == "pages":  # Tab and Accordion: their pages one below the other; Stack: the one that was open
        titles = own.get("titles") or [own.get("_titles", {}).get(str(n), "") for n in range(len(children))]
        children = [
            f'<section><p class="title">{html.escape(title or "")}</p>{child}</section>'
            for title, child in zip(titles, children, strict=False)
        ]
    elif BOXES[kind] == "stack":
        children = [child for n, child in enumerate(children) if n == own.get("selected_index")]
    look = {"stack": "vbox", "pages": "vbox"}.get(BOXES[kind], BOXES[kind])
    classes = " ".join(["widget-box", f"widget-{look}", *own.get("_dom_classes", [])])
    rules = "; ".join(f"{css}: {layout[name]}" for name, css in LAYOUT.items() if layout.get(name))
    style = f' style="{html.escape(rules)}"' if rules else ""
    return f'<div class="{html.escape(classes)}"{style}>{"".join(children)}</div>'


def _control(own: Mapping, value: str) -> str:
    name = html.escape(str(own.get("description") or ""))
    name = f'<span class="name">{name}</span> ' if name else ""
    return f'<span class="control" aria-disabled="true">{name}<span class="value">{html.escape(value)}</span></span>'


def _markup(own: Mapping, _buffers: list) -> str:
    return f'<div class="widget-html">{own.get("value", "")}</div>'


def _label(own: Mapping, _buffers: list) -> str:
    return f'<span class="widget-label">{html.escape(str(own.get("value", "")))}</span>'


def _image(own: Mapping, buffers: list) -> str:
    data = next((buffer["data"] for buffer in buffers if buffer["path"] == ["value"]), "")
    kind = {"jpg": "jpeg", "svg": "svg+xml"}.get(own.get("format", "png"), own.get("format", "png"))
    return f'<img src="data:image/{html.escape(kind)};base64,{html.escape("".join(data.split()))}">' if data else ""


def _choice(own: Mapping, _buffers: list) -> str:
    labels, index = own.get("_options_labels", []), own.get("index")
    chosen = index if isinstance(index, (list, tuple)) else [] if index is None else [index]
    joint = " to " if "SelectionRange" in own.get("_model_name", "") else ", "
    return _control(own, joint.join(str(labels[n]) for n in chosen) or "none")


def _number(own: Mapping, _buffers: list) -> str:
    value = own.get("value")
    values = value if isinstance(value, (list, tuple)) else [value]
    return _control(own, " to ".join(_formatted(each, own.get("readout_format", "")) for each in values))


def _formatted(value: Any, pattern: str) -> str:
    if isinstance(value, (int, float)) and pattern:
        try:
            return format(int(value) if pattern == "d" else value, pattern)
        except ValueError:  # a pattern of JavaScript's that Python does not know
            pass
    return "none" if value is None else str(value)


def _text(own: Mapping, _buffers: list) -> str:
    return _control(own, str(own.get("value") or "") or "empty")


def _flag(own: Mapping, _buffers: list) -> str:
    return _control(own, "yes" if own.get("value") else "no")


def _button(own: Mapping, _buffers: list) -> str:
    return f'<button type="button" disabled>{html.escape(str(own.get("description") or ""))}</button>'


def _progress(own: Mapping, _buffers: list) -> str:
    low, high, value = (float(own.get(name, default)) for name, default in (("min", 0), ("max", 100), ("value", 0)))
    words = html.escape(str(own.get("description") or ""))
    bar = f'<progress max="{high - low:g}" value="{value - low:g}" aria-label="{words or "progress"}"></progress>'
    return f"<span>{words} {bar}</span>"


def _output(own: Mapping, _buffers: list) -> str:
    return "".join(map(_one_output, own.get("outputs", [])))


def _one_output(output: Mapping) -> str:
    data = output.get("data", {})
    if "text/html" in data:
        return "".join(data["text/html"])
    if "image/png" in data:
        return f'<img src="data:image/png;base64,{html.escape("".join("".join(data["image/png"]).split()))}">'
    words = "".join(output.get("text", "") or data.get("text/plain", ""))
    return f"<pre>{html.escape(words)}</pre>" if words else ""


BOXES = {
    "BoxModel": "hbox",
    "HBoxModel": "hbox",
    "VBoxModel": "vbox",
    "GridBoxModel": "gridbox",
    "TabModel": "pages",
    "AccordionModel": "pages",
    "StackModel": "stack",
}
# "PasswordModel" is not among them, and never should be.
LEAVES: dict[str, Callable[[Mapping, list], str]] = {
    **dict.fromkeys(("HTMLModel", "HTMLMathModel"), _markup),
    "LabelModel": _label,
    "ImageModel": _image,
    **dict.fromkeys(
        (
            "DropdownModel",
            "SelectModel",
            "RadioButtonsModel",
            "SelectMultipleModel",
            "ToggleButtonsModel",
            "SelectionSliderModel",
            "SelectionRangeSliderModel",
        ),
        _choice,
    ),
    **dict.fromkeys(
        (
            "IntSliderModel",
            "FloatSliderModel",
            "FloatLogSliderModel",
            "IntRangeSliderModel",
            "FloatRangeSliderModel",
            "IntTextModel",
            "FloatTextModel",
            "BoundedIntTextModel",
            "BoundedFloatTextModel",
            "PlayModel",
        ),
        _number,
    ),
    **dict.fromkeys(("TextModel", "TextareaModel", "ComboboxModel", "ColorPickerModel"), _text),
    **dict.fromkeys(("CheckboxModel", "ToggleButtonModel", "ValidModel"), _flag),
    **dict.fromkeys(("ButtonModel", "FileUploadModel"), _button),
    **dict.fromkeys(("IntProgressModel", "FloatProgressModel"), _progress),
    "OutputModel": _output,
}
