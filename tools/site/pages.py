"""Pages: parts in, one HTML page out. pandoc reads Markdown, draws formulas as MathML and colours code."""

import html
import json
import re
import subprocess
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pypandoc

from woofkit.config import ConfigError

PANDOC = Path(__file__).with_name("pandoc")
OPTIONS = ("--to=html5", "--mathml", "--toc", "--toc-depth=3", "--wrap=none", f"--template={PANDOC / 'page.html'}")
WARNED = re.compile(
    r"\[WARNING\] Could not convert TeX math (.*?), rendering as TeX:\n(?:.*?\n  (unexpected .*?)\n)?", re.S
)
# What pandoc leaves of a formula, or did not take for one: "$ x $" and "$\frac{1$" stay words, while "$5" is a price.
FORMULA = r'<span class="math \w+">(?P<formula>.*?)</span>|(?P<words>\$(?!\d)[^$<]+\$)'
LEFT = re.compile(rf"<!-- from (?P<place>.*?) -->|<(code|pre|math|style)\b.*?</\2>|{FORMULA}|<\w[^>]*>", re.S)
# TeX's space around a function: "p ln p". pandoc leaves it to the browser, and browsers leave it out.
FUNCTION = r'<mrow><mi mathvariant="normal">\w+</mi><mo>&#8289;</mo></mrow>'
SPACE = re.compile(rf"(?<=[^−]</m[in]>)(?={FUNCTION})|(?<=<mo>&#8289;</mo></mrow>)(?=<m[^o])")


@dataclass(frozen=True)
class Part:
    """What stands on a page: `text` of a `kind` ("markdown", "code" or finished "html").

    `place` says where it comes from, for messages; `style` is the class of the box around code.
    """

    kind: str
    text: str
    place: str
    style: str = ""


def make_page(name: str, parts: Sequence[Part], notebooks: Collection[str], frame: Mapping[str, str]) -> str:
    """Return the page `name` as HTML; its first heading is its title.

    `notebooks` have a page each: links to NAME.ipynb lead to NAME.html. `frame` is what page.html asks for.
    Raises ConfigError, naming place and formula, if one cannot be drawn, and for whatever else pandoc warns of.
    """
    page = {"meta": dict(frame), "pages": list(notebooks), "parts": [asdict(part) for part in parts]}
    command = [pypandoc.get_pandoc_path(), f"--from={PANDOC / 'reader.lua'}", *OPTIONS]
    done = subprocess.run(command, input=json.dumps(page), capture_output=True, encoding="utf-8", check=False)
    reasons = dict(WARNED.findall(done.stderr))
    place = name
    for found in LEFT.finditer(done.stdout.partition("<main")[2]):
        place = found["place"] or place
        formula = html.unescape(found["formula"] or found["words"] or "")
        if formula:
            reason = reasons.get(formula.strip("$")) or "no space may follow its first $, and every { needs a }"
            raise ConfigError(f"{place}: the formula {formula!r} cannot be drawn: {reason}")
    if done.returncode or done.stderr:
        raise ConfigError(f"{name}: pandoc says {done.stderr.strip() or done.returncode}")
    return SPACE.sub('<mspace width="0.167em"></mspace>', done.stdout)
