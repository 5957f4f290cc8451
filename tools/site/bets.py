"""A sheet of bets to print: what the notebooks ask before they answer it, with lines to write on."""

import re
from collections.abc import Sequence

from tools.site.notebooks import Executed
from tools.site.pages import Part
from woofkit.claims.hypotheses import HYPOTHESES
from woofkit.tables import markdown_table

END = re.compile(r"^## (Going further|Exercises)", re.MULTILINE)  # beyond a notebook's core story
HEADING_OR_QUESTION = re.compile(r"^##+ (?P<heading>.+)|\*\*(?P<question>(?:[^*\n]|\*\w+\*)+\?)\*\*", re.MULTILINE)
FOLDED = "<summary><b>Answer"  # what stands below a question that is answered when it is opened
ASKED = re.compile(r"\bwould \*?you\*? (?!have\b)")
INTRODUCTION = """# A sheet of bets

Name: <span class="blank"></span> Date: <span class="blank"></span>

Write your answers *before* you see a result. A wrong bet with a reason is worth more than a right one without."""
LINE = '<p class="line"></p>'


def bets_parts(notebooks: Sequence[Executed]) -> list[Part]:
    """Return what stands on the sheet: the hypotheses to bet on, and each notebook's questions with a line below."""
    rows = [(f"**{each.id}**", each.statement, "☐", "☐", "") for each in HYPOTHESES]
    hypotheses = markdown_table(["", "Will it hold?", "yes", "no", "found"], rows)
    parts = [Part("markdown", f"{INTRODUCTION}\n\n## The hypotheses\n\n{hypotheses}", "the sheet of bets")]
    parts.append(Part("html", '<h2 id="The-questions">The questions</h2><div class="bets">', "the sheet of bets"))
    for executed in notebooks:
        for section, question in questions(executed):
            words = f'<div class="bet">\n\n*{executed.name[:2]}, {section}*\\\n{question}\n\n{LINE}\n\n</div>'
            parts.append(Part("markdown", words, executed.name))
    return [*parts, Part("html", "</div>", "the sheet of bets")]


def questions(executed: Executed) -> list[tuple[str, str]]:
    """The bold questions of a notebook's core story that are bets, in order, each after its heading.

    A bet is a question with a folded answer, or one that asks what the reader would say.
    """
    found, section = [], executed.title
    for cell in executed.cells:
        if cell.cell_type != "markdown":
            continue
        story, *beyond = END.split(cell.source, maxsplit=1)
        for match in HEADING_OR_QUESTION.finditer(story):
            below = story[match.end() :].split("\n**")[0]  # up to the next question
            if match["heading"]:
                section = match["heading"]
            elif FOLDED in below or ASKED.search(match["question"]):
                found.append((section, match["question"]))
        if beyond:
            break
    return found
