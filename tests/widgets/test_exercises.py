"""The exercises' check cells: right for the solution, a word for every wrong answer, and never an error."""

import math
import re

import nbformat
import numpy as np
import pytest
import torch

from woofkit.models import build_model
from woofkit.study import NOTEBOOKS, NOTEBOOKS_DIR
from woofkit.widgets.exercises import as_number, attempt


@pytest.mark.parametrize("answer", [None, "", "3,457", (3, 457), [], [1, 2], {}, torch.zeros(3), np.zeros(2), len])
def test_what_is_no_number_is_nan(answer):
    assert math.isnan(as_number(answer))


@pytest.mark.parametrize(("answer", "number"), [(3, 3), (0.29, 0.29), ("6", 6), (torch.tensor(2.0), 2), (True, 1)])
def test_what_is_a_number_is_that(answer, number):
    assert as_number(answer) == number


def test_an_attempt_gives_the_result_or_the_error_in_words():
    assert attempt(len, "dog") == 3
    assert attempt(len, 3) == "TypeError: object of type 'int' has no len()"


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_every_exercise_has_a_folded_solution_minutes_and_a_difficulty(name):
    notebook = nbformat.read(NOTEBOOKS_DIR / f"{name}.ipynb", as_version=4)
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    exercises = re.findall(r"^\*\*(\d)\. .+ \((●+○*), (\d+) min\)\*\*", text, flags=re.M)
    assert [number for number, *_ in exercises] == ["1", "2"]
    assert all(len(dots) == 3 for _, dots, _ in exercises)
    assert text.count("<details><summary><b>Solution</b></summary>") == 2
    assert text.count("<details>") == text.count("</details>")
    assert text.count("Run this to check the answer") == 2


ANSWERS = [
    0,
    1,
    -3,
    2.9,
    math.nan,
    math.inf,
    10**400,
    "6",
    "3,457",
    (3, 457),
    [],
    [38, 6],
    (0.5, 0.3, 0.2),
    "neither",
    np.zeros(3),
    torch.zeros(2),
    {},
    len,
]
KNOWN = {
    "01_data_exploration": {"images_needed": 3457},
    "02_full_finetune": {"parameters_of_a_block": 444_864, "usual_loss": 0.0023 * 3929 / 31},
    "05_comparison": {"smallest_k": 6, "tasks_needed": 3},
}


def namespace(notebook):
    """What the check cells of number answers need, without running the notebook."""
    from woofkit.claims.paper import images_per_batch

    return {
        "build_model": build_model,
        "images_per_batch": images_per_batch,
        "labels": np.zeros(500),
        "backbone": 22.12e6,
        "adapter": 0.72e6,
        "as_number": as_number,
        "attempt": attempt,
    }


def check_cell(name, variable):
    notebook = nbformat.read(NOTEBOOKS_DIR / f"{name}.ipynb", as_version=4)
    [cell] = [cell for cell in notebook.cells if cell.cell_type == "code" and f"if {variable} is None:" in cell.source]
    return cell.source


@pytest.mark.parametrize(("name", "variable"), [(name, each) for name, known in KNOWN.items() for each in known])
def test_a_check_cell_answers_anything_with_words(name, variable, capsys):
    source = check_cell(name, variable)
    for answer in [*ANSWERS, None, KNOWN[name][variable]]:
        exec(source, namespace(name) | {variable: answer})
        words = capsys.readouterr().out
        if answer is None:
            assert words == "Not answered yet.\n"
        elif answer is KNOWN[name][variable] or (variable == "smallest_k" and str(answer) == "6"):
            assert words.startswith("Right"), (answer, words)
        else:
            assert words.startswith("Wrong"), (answer, words)
