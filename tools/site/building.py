"""Write the site of a finished study: every page is made and checked before one is written, and all appear at once."""

import html
import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from pathlib import Path

from tools.overview import answer_markdown
from tools.site.bets import bets_parts
from tools.site.checks import check_self_contained, portable
from tools.site.notebooks import Executed, notebook_parts, read_executed
from tools.site.pages import Part, make_page
from woofkit.config import PROJECT_ROOT, ConfigError, resolve_path
from woofkit.files import require_folder
from woofkit.study import NOTEBOOKS, read_study_table

README = PROJECT_ROOT / "README.md"
GLOSSARY = PROJECT_ROOT / "docs" / "glossary.md"
SITE = "site"  # the folder's name in the study's


def write_site(profile: str = "demo", runs_dir: str = "runs") -> Path:
    """Make the site of an executed study in runs_dir/profile/site and return its contents page.

    What breaks off leaves the site that was there, whole, or none. Raises ConfigError, before anything is written, if
    the study is not finished, has a formula that cannot be drawn, or shows what does not lie in its notebooks.
    """
    runs = resolve_path(runs_dir)
    results = read_study_table(runs / profile, profile)
    require_folder("the folder for the site", runs / profile)
    notebooks = [read_executed(runs / profile / "notebooks" / f"{name}.ipynb") for name in NOTEBOOKS]
    pages = {"index.html": make_page("index", contents_parts(notebooks, results, profile), NOTEBOOKS, {})}
    words = Part("markdown", GLOSSARY.read_text(encoding="utf-8"), GLOSSARY.name)
    pages["glossary.html"] = make_page("glossary", [words], NOTEBOOKS, {"ran": "The words of these pages."})
    frame = {"ran": "Answer before you look: the notebooks ask these questions, and then answer them."}
    pages["bets.html"] = make_page("bets", bets_parts(notebooks), NOTEBOOKS, frame)
    neighbours = ("", *NOTEBOOKS, "")
    for before, executed, after in zip(neighbours, notebooks, neighbours[2:], strict=False):
        ran = _ran(profile, executed.finished) + (f" in {executed.minutes} minutes" if executed.minutes else "")
        frame = {"before": before, "after": after, "ran": f"{ran}."}
        pages[f"{executed.name}.html"] = make_page(executed.name, notebook_parts(executed), NOTEBOOKS, frame)
    pages = {name: portable(page, runs) for name, page in pages.items()}
    for name, page in pages.items():
        check_self_contained(name, page, pages)
    write_folder(runs / profile / SITE, pages)
    return runs / profile / SITE / "index.html"


def contents_parts(notebooks: Sequence[Executed], results: str, profile: str) -> list[Part]:
    """Return what stands on the contents page: what the study is and found, the run's `results`, and cards.

    Raises ConfigError if README.md, which says what the study is, has no title or no words under it.
    """
    about = re.match(r"# .+\n\n(?:[^\n]+\n)+", README.read_text(encoding="utf-8") if README.is_file() else "")
    if not about:
        raise ConfigError(f"{README} must begin with '# TITLE', an empty line and a paragraph that says what this is")
    ran = html.escape(_ran(profile, max(executed.finished for executed in notebooks)))
    made = f'<p class="note">{ran}; these pages were made on {datetime.now():%Y-%m-%d at %H:%M}.</p>'
    parts = [Part("markdown", f"{about[0]}\n{made}", README.name)]
    parts.append(Part("markdown", found_markdown(notebooks), "what was found"))
    parts.append(Part("markdown", f"## This run\n\n{results}\n\n## The notebooks", "results.md"))
    return parts + [Part("markdown", _card(executed), executed.name) for executed in notebooks]


def found_markdown(notebooks: Sequence[Executed]) -> str:
    """What the study has found, from the committed measurements, and the table under "The answer" of a notebook."""
    table = next(filter(None, map(_answer, notebooks)), "")
    words = (
        "New words are in the [glossary](../docs/glossary.md). To bet before you read, print the "
        "[sheet of bets](bets.html)."
    )
    found = f"## What we found\n\n{answer_markdown()}\n\n{words}"
    return f"{found}\n\n## Which method should you use?\n\n{table}" if table else found


def _answer(executed: Executed) -> str:
    """The table that a notebook shows under its heading "The answer"; "" where there is none."""
    for words, shown in pairwise(executed.cells):
        if words.cell_type == "markdown" and re.search("^## The answer$", words.source, flags=re.MULTILINE):
            outputs = [output.get("data", {}).get("text/markdown") for output in shown.get("outputs", [])]
            return next(filter(None, outputs), "")
    return ""


def _card(executed: Executed) -> str:
    """Title, aims (the first list, with the line above it) and first picture of a notebook."""
    first = next(cell.source for cell in executed.cells if cell.cell_type == "markdown")
    aims = re.search(r"^(?:\*\*.+\*\*\n)?(?:- .+(?:\n|$))+", first, flags=re.MULTILINE)
    data = (output.get("data", {}) for cell in executed.cells for output in cell.get("outputs", []))
    picture = next(("".join(shown["image/png"].split()) for shown in data if "image/png" in shown), "")
    image = f'<img src="data:image/png;base64,{picture}">'
    cover = f'<div><a href="{executed.name}.html" tabindex="-1">{image}</a></div>' if picture else ""
    words = f"### [{executed.title}]({executed.name}.ipynb)\n\n<div>\n\n{aims[0] if aims else ''}\n\n</div>"
    return f'<article class="card">\n\n{words}\n\n{cover}\n\n</article>'


def _ran(profile: str, finished: str) -> str:
    return f"Profile {profile}" + (f", run on {finished}" if finished else "")


def write_folder(folder: Path, files: Mapping[str, str]) -> None:
    """Write text files into a folder that replaces the one of that name, whole; if that fails, the old one stays."""
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.", suffix=".tmp") as beside:
        new, old = Path(beside) / "new", Path(beside) / "old"
        new.mkdir()
        for name, text in files.items():
            (new / name).write_text(text, encoding="utf-8")
        try:
            if folder.exists():
                os.replace(folder, old)  # a folder cannot replace one that is not empty
            os.replace(new, folder)
        finally:
            if old.exists() and not folder.exists():
                os.replace(old, folder)
