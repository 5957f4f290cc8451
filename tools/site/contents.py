"""The contents page: what the study is, its results, and a card for each notebook."""

import re
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from tools.site.figures import first_picture, thumbnail
from tools.site.pages import Executed, template
from tools.site.words import PageRenderer, plain
from woofkit.config import PROJECT_ROOT, ConfigError

README = PROJECT_ROOT / "README.md"
# The figure that stands for a notebook; without it, the first one that the notebook draws.
COVERS = {
    "01_data_exploration": "01_contact_sheet.png",
    "02_full_finetune": "02_learning_curves.png",
    "03_lora_finetune": "03_by_hand.png",
    "04_attention_maps": "04_attention.png",
    "05_comparison": "05_accuracy.png",
}


def contents_page(notebooks: Sequence[Executed], results: str, figures: Path, profile: str, made: datetime) -> str:
    """Return the contents page as HTML; `results` is the study's table, in Markdown, `figures` its folder of figures.

    Raises ConfigError if README.md, which says what the study is, has no title or no words under it.
    """
    title, about = read_about(README)
    words = PageRenderer("results.md")
    return template("contents.html.j2").render(
        title=plain(words.render(title)),
        about=words.render(about),
        results=words.render(results),
        cards=[_card(executed, figures) for executed in notebooks],
        profile=profile,
        made=made,
        finished=max((executed.finished for executed in notebooks if executed.finished), default=None),
    )


def read_about(readme: Path) -> tuple[str, str]:
    """Return the title and the first paragraph of README.md. Raises ConfigError if they are not there."""
    found = re.match(r"# (.+)\n\n((?:[^\n]+\n)+)", readme.read_text(encoding="utf-8") if readme.is_file() else "")
    if not found:
        raise ConfigError(f"{readme} must begin with '# TITLE', an empty line and a paragraph that says what this is")
    return found[1], found[2]


def _card(executed: Executed, figures: Path) -> dict:
    path = figures / COVERS.get(executed.name, "")
    picture = path.read_bytes() if path.is_file() else first_picture(executed.notebook)
    return {
        "name": executed.name,
        "title": executed.title,
        "aims": PageRenderer(executed.name).render(_aims(executed)),
        "picture": thumbnail(picture) if picture else None,
        "alt": f"A figure of notebook {executed.title}",
    }


def _aims(executed: Executed) -> str:
    """What the notebook says one can do after it, or else its first paragraph, in Markdown."""
    source = next(cell.source for cell in executed.notebook.cells if cell.cell_type == "markdown")
    goals = re.search(r"^(?:\*\*.+\*\*\n)?(?:- .+(?:\n|$))+", source, flags=re.MULTILINE)
    paragraphs = [part for part in re.split(r"\n\s*\n", source) if not part.startswith("#")]
    return goals[0] if goals else paragraphs[0] if paragraphs else ""
