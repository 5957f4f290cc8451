"""What the notebooks may not say, and what they may not leave out."""

import re

import nbformat
import pytest

from woofkit.config import PROJECT_ROOT

NOTEBOOKS = sorted((PROJECT_ROOT / "notebooks").glob("0*.ipynb"))


def sentences(path):
    """Every sentence of a notebook's text."""
    cells = [cell.source for cell in nbformat.read(path, 4).cells if cell.cell_type == "markdown"]
    return [sentence for cell in cells for sentence in re.split(r"(?<=[.?!:])\s+|\n+", cell)]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_no_difference_is_read_off_bars_that_overlap(path):
    for sentence in sentences(path):
        if re.search("overlap", sentence, re.I) and re.search("no difference", sentence, re.I):
            assert sentence.rstrip("*").endswith("?"), sentence


def test_where_maps_are_laid_on_parts_it_is_said_that_the_backbone_was_taught_them():
    [path] = [path for path in NOTEBOOKS if path.stem.startswith("04")]
    cells = [cell.source for cell in nbformat.read(path, 4).cells]
    taught = [number for number, cell in enumerate(cells) if "backbone was taught the parts of dogs" in cell]
    drawn = next(number for number, cell in enumerate(cells) if '"04_parts"' in cell)
    assert taught[0] < drawn
    assert any(cells[number].startswith("**Limits.**") for number in taught)
