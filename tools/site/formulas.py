"""Formulas: LaTeX in, MathML out, which browsers draw by themselves."""

from xml.etree import ElementTree

from latex2mathml.converter import convert

# How many parts an element has; the converter leaves one out where a brace is missing.
PARTS = {"mfrac": 2, "mroot": 2, "msub": 2, "msup": 2, "munder": 2, "mover": 2, "msubsup": 3, "munderover": 3}
NAMESPACE = ' xmlns="http://www.w3.org/1998/Math/MathML"'  # HTML knows <math> without it


def to_mathml(formula: str, block: bool = False) -> str:
    """Return a formula, LaTeX without its dollar signs, as MathML; `block`: on a line of its own.

    Raises ValueError that says what it cannot read: an unknown command, a brace or an argument that is missing.
    """
    try:
        math = ElementTree.fromstring(convert(formula, display="block" if block else "inline").replace(NAMESPACE, ""))
    except Exception as error:  # the converter has a dozen exceptions without a common base, and IndexError besides
        raise ValueError(f"{type(error).__name__} {error}".strip()) from error
    _check(math, formula)
    _tidy(math)
    math.set("alttext", formula.strip())
    return ElementTree.tostring(math, encoding="unicode")


def _check(math: ElementTree.Element, formula: str) -> None:
    """The converter takes what it does not know for a letter, and a brace that is missing for the end."""
    bare = formula.replace(r"\{", "").replace(r"\}", "")
    if bare.count("{") != bare.count("}"):
        raise ValueError("braces { } do not match")
    for element in math.iter():
        if (element.text or "").startswith("\\"):
            raise ValueError(f"unknown command {element.text}")
        if len(element) != PARTS.get(element.tag, len(element)):
            raise ValueError(f"an argument is missing: {element.tag} has {len(element)}, not {PARTS[element.tag]}")


def _tidy(math: ElementTree.Element) -> None:
    """Put right what browsers, which follow MathML Core, would draw otherwise than TeX."""
    for row in [element for element in math.iter() if element.tag not in PARTS]:
        tidied: list[ElementTree.Element] = []
        for element in row:
            before = tidied[-1] if tidied else None
            if element.tag == "mspace" and not element.get("width", "")[:1].isdigit():
                continue  # "negativethinmathspace" is a mistake to a browser
            if element.text == ":":
                element.tag = "mo"
            if before is not None:
                if _upright(before) and _upright(element):
                    before.text += element.text  # one word, for screen readers too
                    continue
                if element.text in ("+", "−") and before.tag == "mo" and before.text not in (")", "]", "}", "|", "!"):
                    element.set("form", "prefix")  # a sign, not a sum
                if _operand(before) and _operand(element) and (_named(before) or _named(element)):
                    tidied.append(ElementTree.Element("mspace", width="0.167em"))  # p ln p
            tidied.append(element)
        row[:] = tidied


def _upright(element: ElementTree.Element) -> bool:
    return element.tag == "mi" and element.get("mathvariant") == "normal"


def _operand(element: ElementTree.Element) -> bool:
    return element.tag not in ("mo", "mspace", "mrow", "mtext")


def _named(element: ElementTree.Element) -> bool:
    """Is it a function such as ln, also with an index?"""
    name = element[0] if element.tag in PARTS else element
    return name.tag == "mi" and len(name.text or "") > 1
