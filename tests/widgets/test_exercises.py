"""The exercises: right for the solution, a sentence on the mistake for every wrong answer, and never an error."""

import re
import sys
from dataclasses import replace
from types import SimpleNamespace

import nbformat
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from woofkit import data
from woofkit.adapters import read_adapter, save_adapter, swap_adapter
from woofkit.config import LoRAConfig, StudyConfig
from woofkit.data import load_dataset
from woofkit.lora import LoRALinear, add_lora
from woofkit.models import new_model
from woofkit.study import NOTEBOOKS_DIR
from woofkit.train import run_training
from woofkit.widgets import exercises
from woofkit.widgets.exercises import answers, transformer

WITH_EXERCISES = [path.stem for path in sorted(NOTEBOOKS_DIR.glob("0[1-5]_*.ipynb"))]
UNANSWERED = "Not answered yet."


class Unprintable:
    def __str__(self):
        raise ValueError("no words for this")

    __repr__ = __str__


def nothing(*_arguments):
    return None


def raises(*_arguments):
    raise KeyError("dog")


def leaves(*_arguments):
    sys.exit()


ODD = [
    0,
    1,
    -3,
    2.9,
    float("nan"),
    float("inf"),
    10**400,
    "6",
    "3,457",
    "",
    (3, 457),
    [],
    [38, 6],
    (0.5, 0.3, 0.2),
    "neither",
    np.zeros(3),
    torch.zeros(2),
    {},
    len,
    object(),
    Unprintable(),
    float,
    raises,
    leaves,
]


@pytest.fixture
def study(tmp_path, monkeypatch):
    """A study whose runs take a second: 10 drawings, the smallest Vision Transformer."""
    monkeypatch.setitem(data.SKETCH_SIZES, "val", 10)
    sizes = {"num_train": 10, "num_test": 20, "epochs": 1, "batch_size": 4, "precision": "fp32"}
    return StudyConfig(profile="tiny", model_name="test_vit", weights="random", runs_dir=str(tmp_path), rank=2, **sizes)


# --- what every check does ---


@pytest.mark.parametrize("answer", [None, "", "3,457", (3, 457), [], [1, 2], {}, torch.zeros(3), np.zeros(2), len])
def test_what_is_no_number_is_nan(answer):
    assert np.isnan(exercises.as_number(answer))


@pytest.mark.parametrize(("answer", "number"), [(3, 3), (0.29, 0.29), ("6", 6), (torch.tensor(2.0), 2), (True, 1)])
def test_what_is_a_number_is_that(answer, number):
    assert exercises.as_number(answer) == number


def test_an_attempt_gives_the_result_or_the_error_in_words():
    assert exercises.attempt(len, "dog") == 3
    assert exercises.attempt(len, 3) == "TypeError: object of type 'int' has no len()"
    assert exercises.attempt(leaves) == "SystemExit: "
    assert exercises.attempt(7) == "write a function, not 7"


def test_a_function_that_does_not_end_is_stopped():
    turns = []

    def endless():
        while True:
            try:
                turns.append(1)
            except Exception:  # what a student's loop may swallow
                continue

    assert "had not ended after 0.2 seconds" in exercises.attempt(endless, seconds=0.2)
    for _ in range(100):
        before = len(turns)
        if exercises.attempt(lambda: None) is None and len(turns) == before:
            return
    pytest.fail("it still runs")


def test_a_function_cannot_spoil_the_tensors_it_gets():
    given = torch.ones(3)
    exercises.attempt(lambda tensor: tensor.zero_(), given)
    assert given.sum() == 3


# --- the notebooks' cells ---


def exercise_cells(name):
    """Of each exercise its answer cell, its check cell and its solution's code."""
    cells = nbformat.read(NOTEBOOKS_DIR / f"{name}.ipynb", as_version=4).cells
    tagged = {
        tag: [cell.source for cell in cells if tag in cell.metadata.get("tags", [])]
        for tag in ("answer", "check", "solution")
    }
    codes = [re.search(r"```python\n(.+?)\n```", solution, flags=re.S)[1] for solution in tagged["solution"]]
    return list(zip(tagged["answer"], tagged["check"], codes, strict=True))


@pytest.mark.parametrize("name", WITH_EXERCISES)
def test_every_exercise_has_a_hint_a_folded_solution_minutes_and_a_difficulty(name):
    notebook = nbformat.read(NOTEBOOKS_DIR / f"{name}.ipynb", as_version=4)
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    text = text[text.index("## Exercises") :]
    numbered = re.findall(r"^\*\*(\d)\. .+? \((●+○*), (\d+) min\)\*\*", text, flags=re.M)
    count = len(exercise_cells(name))
    assert [number for number, *_ in numbered] == [str(each) for each in range(1, count + 1)]
    assert all(len(dots) == 3 for _, dots, _ in numbered)
    assert text.count("<details><summary><b>Solution</b></summary>") == count
    assert text.count("<details><summary>Hint</summary>") == count
    assert text.count("<details>") == text.count("</details>")
    assert text.count("Run this to check the answer") == count


def test_at_least_eight_exercises_want_code():
    cells = [cell for name in WITH_EXERCISES for cell, _, _ in exercise_cells(name)]
    assert len([cell for cell in cells if "def " in cell]) >= 8


@pytest.fixture
def material(study):
    """What the notebooks' own cells leave for their exercises, by notebook."""
    train, test = (load_dataset("sketchwoof", split=split, num=20) for split in ("train", "test"))
    maps = torch.rand(2, 4, 4, generator=torch.Generator().manual_seed(0))
    own = {"torch": torch, "nn": nn, "np": np, "study": study, "replace": replace, "run_training": run_training}
    own |= {"LoRALinear": LoRALinear, "LoRAConfig": LoRAConfig, "load_dataset": load_dataset}
    own |= {"source": {}, "train": train, "test": test, "labels": np.zeros(500)}
    own |= {"explained": {"lora": SimpleNamespace(maps={"attention": maps})}}
    sizes = {"full": 22.12e6, "lora": 0.72e6}
    return own | {name: SimpleNamespace(checkpoint_bytes=size) for name, size in sizes.items()}


@pytest.mark.parametrize("name", WITH_EXERCISES)
def test_each_solution_is_right_and_the_empty_cell_is_not_answered(name, material, capsys):
    for number, (answer, check, solution) in enumerate(exercise_cells(name), start=1):
        namespace = dict(material)
        exec(answer, namespace)
        exec(check, namespace)
        words = capsys.readouterr().out
        assert words.startswith(("Not answered yet.", "Not mended yet.")), (name, number, words)
        exec(solution, namespace)
        exec(check, namespace)
        words = capsys.readouterr().out.splitlines()[-1]  # after the lines of a training
        right = "Right" in words or (number == 5 and name.startswith("03") and "At rank 1" in words)
        assert right, (name, number, words)


# --- numbers ---

ZERO, ONE = torch.zeros(2), torch.ones(2)
NUMBERS = {  # check: (further arguments, the right answers, wrong answers with a word on the mistake)
    exercises.check_images_needed: (
        (),
        [3457, 3458, 3500],
        {
            3000: "too few",
            9000: "fewer are enough",
            900: "1.96",
            864: "2 in all",
            0.5: "a share",
            3457.4: "whole number",
        },
    ),
    exercises.check_block_parameters: (
        (),
        [444_864, "444864"],
        {443_136: "biases", 444_480: "two LayerNorms", 444_096: "two LayerNorms", 442_368: "both", 5_338_368: "twelve"},
    ),
    exercises.check_usual_loss: (
        (),
        [0.0023 * 3929 / 31, 0.29],
        {"0,29": "0.5, not 0,5", 0.3: "images divided by batches", 0.0023 * 31 / 3929: "multiply, do not divide"},
    ),
    exercises.check_smallest_k: ((500,), [6, "6"], {5: "factor 2", 7: "smaller k", 2.5: "whole number", 0: "from 1"}),
    exercises.check_tasks_needed: ((22.12e6, 0.72e6), [3], {2: "takes 53%", 9: "fewer tasks", -1: "from 1 on"}),
    exercises.check_who_moves: (
        (ZERO, ZERO),
        ["neither", "Neither ", "none", "nobody", 0, []],
        {"A": "grad", "both": "grad", "C": 'answer "A"'},
    ),
}


@pytest.mark.parametrize("check", NUMBERS, ids=lambda check: check.__name__)
def test_numbers_are_judged_with_a_word_on_the_mistake(check, capsys):
    more, right, wrong = NUMBERS[check]
    for answer in right:
        check(answer, *more)
        words = capsys.readouterr().out
        assert words.startswith("Right"), (answer, words)
    for answer, hint in wrong.items():
        check(answer, *more)
        words = capsys.readouterr().out
        assert words.startswith("Wrong"), (answer, words)
        assert hint in words
    for answer in (None, ...):
        check(answer, *more)
        assert capsys.readouterr().out.strip() == UNANSWERED
    for answer in [each for each in ODD if not _among(each, right)]:
        check(answer, *more)
        words = capsys.readouterr().out
        assert words.startswith("Wrong"), (check, words)
        assert "cannot be judged" not in words


def _among(answer, right):
    return any(type(answer) in (int, str, list) and answer == each for each in right)


def test_the_papers_three_parts_are_judged_one_by_one(capsys):
    right = (165_888, 9_216, 2_314)
    given = [
        (right, "Right: 177,418 in all."),
        ((13_824, 768, 2_314), "adapters: this is one block, and there are 12; biases: this is one block"),
        ((12 * 12 * 768, 12 * 192, 384), "`proj` is missing; biases: `qkv` is missing; norm and head: the head is"),
        ((165_888, 6_912, 2_304), "biases: `proj` is missing; norm and head: the head has a bias"),
        ((12 * 12 * 960, 0, 1_930), "A appears twice"),
        (("165888", np.int64(9216), torch.tensor(2314)), "Right"),
        (("many", [1], None), "adapters: write one whole number"),
        ((np.zeros(3), torch.ones(2), Unprintable()), "write one whole number"),
        ((None, None, ...), UNANSWERED),
    ]
    for parts, words in given:
        exercises.check_paper_count(*parts)
        assert words in capsys.readouterr().out


def test_who_moves_follows_the_gradients(capsys):
    exercises.check_who_moves("b", ZERO, ONE)
    exercises.check_who_moves("both", ONE, ONE)
    assert capsys.readouterr().out.count("Right") == 2


def test_rollout_by_hand_names_the_mistake(capsys):
    attention = torch.tensor([[[0.6, 0.2, 0.2], [0.4, 0.6, 0], [0, 0, 1]], [[0.2, 0.8, 0], [0, 1, 0], [0, 0, 1]]])
    given = {
        (0.38, 0.06): "Right",
        ("0.38", "0.06"): "Right",
        (0.52, 0.04): "the identity is missing",
        (0.8, 0.0): "the last block alone",
        (38, 6): "not per cent",
        (0.38,): "two shares",
        (0.56, 0.38, 0.06): "two shares",
        (0.1, 0.2): "the first row of the second block",
    }
    for shares, words in given.items():
        exercises.check_rollout_by_hand(shares, attention)
        assert words in capsys.readouterr().out
    for odd in ODD:
        exercises.check_rollout_by_hand(odd, attention)
        words = capsys.readouterr().out
        assert words.startswith("Wrong"), (odd, words)
        assert "cannot be judged" not in words


# --- functions ---


def forward(x, W, A, B, scaling):
    return x @ W.T + scaling * (x @ A.T @ B.T)


def merge(W, A, B, scaling):
    return W + scaling * B @ A


def merge_in_place(W, A, B, scaling):
    W += scaling * B @ A
    return W


LORA = {
    "the scaling is missing": (lambda x, W, A, B, s: x @ W.T + x @ A.T @ B.T, merge),
    "to B A x alone": (lambda x, W, A, B, s: s * (x @ W.T + x @ A.T @ B.T), merge),
    "W x is missing": (lambda x, W, A, B, s: s * (x @ A.T @ B.T), merge),
    "the frozen layer alone": (lambda x, W, A, B, s: x @ W.T, merge),
    "does not subtract": (lambda x, W, A, B, s: x @ W.T - s * (x @ A.T @ B.T), merge),
    "do not divide by r again": (lambda x, W, A, B, s: x @ W.T + s / len(A) * (x @ A.T @ B.T), merge),
    "the scaling is used twice": (lambda x, W, A, B, s: x @ W.T + s * s * (x @ A.T @ B.T), merge),
    "written x @ W.T": (lambda x, W, A, B, s: W @ x + s * B @ A @ x, merge),
    "It is transposed": (lambda x, W, A, B, s: forward(x, W, A, B, s).T, merge),
    "at B = 0 it must be W x": (lambda x, W, A, B, s: forward(x, W, A, B, s) + 1, merge),
    "wrong for (2, 3, 5)": (lambda x, W, A, B, s: torch.einsum("ni,oi->no", x, W + s * B @ A), merge),
    "lora_forward: your function returns nothing": (nothing, merge),
    "KeyError: 'dog'": (raises, merge),
    "holds NaN": (lambda x, W, A, B, s: forward(x, W, A, B, s) * float("nan"), merge),
    "lora_merge: your function returns nothing": (forward, nothing),
    "B comes first": (forward, lambda W, A, B, s: W + s * A @ B),
    "lora_merge: the scaling is missing": (forward, lambda W, A, B, s: W + B @ A),
    "W is missing": (forward, lambda W, A, B, s: s * B @ A),
    "not merged": (forward, lambda W, A, B, s: W),
    "lora_merge: the scaling belongs to B A alone": (forward, lambda W, A, B, s: s * (W + B @ A)),
    "changes a matrix it was given": (forward, merge_in_place),
}


def test_loras_forward_and_merge_are_held_to_the_laws(capsys):
    exercises.check_lora(forward, merge)
    assert capsys.readouterr().out.startswith("Right: at B = 0")
    for hint, pair in LORA.items():
        exercises.check_lora(*pair)
        words = capsys.readouterr().out
        assert words.startswith("Wrong"), (hint, words)
        assert hint in words


def train(layer, x, y, lr, *, steps=20, zero=True, weights=("lora_A", "lora_B"), loss=F.mse_loss, sign=1):
    weights = [dict(layer.named_parameters())[name] for name in weights]
    optimizer = torch.optim.SGD(weights, lr=lr)
    for _ in range(steps):
        if zero:
            layer.zero_grad()
        (sign * loss(layer(x), y)).backward()
        optimizer.step()


def changed(**flaw):
    return lambda *arguments: train(*arguments, **flaw)


def with_adam(layer, x, y, lr):
    optimizer = torch.optim.Adam([layer.lora_A, layer.lora_B], lr=lr)
    for _ in range(20):
        optimizer.zero_grad()
        F.mse_loss(layer(x), y).backward()
        optimizer.step()


TWENTY = {
    "that was 19 steps": changed(steps=19),
    "that was 1 step, and": lambda *a: (train(*a, steps=1), a[0].lora_A.data.add_(0.0)),
    "the gradients of earlier steps add up": changed(zero=False),
    "W has moved": changed(weights=("lora_A", "lora_B", "base.weight")),
    "only B has moved": changed(weights=("lora_B",)),
    "nothing has moved": lambda *a: (train(*a, weights=("lora_A",)), 1),
    "the steps go uphill": changed(sign=-1),
    "their sum": changed(loss=lambda one, other: F.mse_loss(one, other, reduction="sum"), steps=20),
    "plain gradient descent (SGD)": with_adam,
    "NaN or infinite": lambda layer, *_: layer.lora_A.data.fill_(float("nan")),
    "KeyError: 'dog'": raises,
    "SystemExit": leaves,
    "write a function, not 20": 20,
}


def test_twenty_steps_are_compared_with_gradient_descent(capsys):
    exercises.check_twenty_steps(train)
    assert capsys.readouterr().out.startswith("Right: W has not moved")
    exercises.check_twenty_steps(nothing)
    assert capsys.readouterr().out.strip() == UNANSWERED
    for hint, function in TWENTY.items():
        exercises.check_twenty_steps(function)
        words = capsys.readouterr().out
        if hint == "that was 1 step, and":  # in the first step B alone moves
            hint = "only B has moved"
        assert hint in words, (hint, words)


def test_a_block_is_compared_with_timms_and_each_flaw_is_named(capsys):
    block, x = transformer._block()
    torch.testing.assert_close(transformer.written_out(block, x), block(x))
    exercises.check_block(transformer.written_out)
    assert capsys.readouterr().out.startswith("Right")
    for hint, flaw in transformer.FLAWS.items():
        exercises.check_block(lambda block, x, flaw=flaw: transformer.written_out(block, x, **flaw))
        assert capsys.readouterr().out == f"Wrong: {hint}.\n"
    given = {
        "call only norm1": lambda block, x: block(x),
        "return a tensor of shape (2, 5, 12); yours is (5, 12)": lambda block, x: x[0],
        "AttributeError": lambda block, x: block.attention(x),
        "is not what timm computes": lambda block, x: 2 * x,
    }
    for hint, function in given.items():
        exercises.check_block(function)
        assert hint in capsys.readouterr().out


def roll(attention, *, identity=1.0, normalise=True, backwards=False, heads="mean", column=False, first=1):
    fused = {"mean": attention.mean(1), "sum": attention.sum(1), "max": attention.amax(1)}[heads]
    eye = torch.eye(attention.shape[-1])
    mixed = fused + identity * eye
    mixed = mixed / mixed.sum(-1, keepdim=True) if normalise else mixed
    product = eye
    for block in mixed.flip(0) if backwards else mixed:
        product = block @ product
    return (product[:, 0] if column else product[0])[first:]


ROLLOUTS = {
    "the identity is missing": {"identity": 0},
    "divide each row by its sum": {"normalise": False},
    "in the wrong order": {"backwards": True},
    "CLS's column": {"column": True},
    "the heads are added up": {"heads": "sum"},
    "the strongest head": {"heads": "max"},
    "leave out what CLS keeps": {"first": 0},
}


def test_rollout_is_compared_with_woofkits(capsys):
    exercises.check_rollout(roll)
    assert capsys.readouterr().out.startswith("Right")
    for hint, flaw in ROLLOUTS.items():
        exercises.check_rollout(lambda attention, flaw=flaw: roll(attention, **flaw))
        words = capsys.readouterr().out
        assert words.startswith("Wrong"), words
        assert hint in words
    exercises.check_rollout(lambda attention: attention[-1].mean(0)[0, 1:])
    assert "the last block alone" in capsys.readouterr().out


def test_patches_used_names_the_mistake(capsys):
    maps = {"lora": torch.rand(2, 4, 4, generator=torch.Generator().manual_seed(0))}
    entr = torch.special.entr
    given = {
        "Right. Of 16 patches": lambda p: entr(p).sum().exp(),
        "0 · ln 0": lambda p: (-(p * p.log()).sum()).exp(),
        "not a matrix": lambda p: entr(p).exp(),
        "this is the entropy": lambda p: entr(p).sum(),
        "the sign is missing": lambda p: (-entr(p).sum()).exp(),
        "KeyError": raises,
        "the even map uses 16": lambda p: "many",
    }
    for hint, function in given.items():
        exercises.check_patches_used(function, maps)
        assert hint in capsys.readouterr().out


def toss(one, other, tosses, *, how="both"):
    n = one + other
    heads = np.random.default_rng(1).binomial(n, 0.5, tosses)
    far, own = abs(heads - n / 2), abs(one - n / 2)
    kinds = {"both": far >= own, "strict": far > own, "first": heads >= one, "upper": heads >= max(one, other)}
    kinds |= {"inside": far < own, "equal": far == own}
    return kinds[how].mean()


MCNEMAR = {
    ">=, not >": "strict",
    "count both sides: yours counts only": "first",
    "count both sides: a difference": "upper",
    "take 1 minus it": "inside",
    "exactly equal": "equal",
}


def test_mcnemar_is_compared_with_the_exact_test(capsys):
    exercises.check_mcnemar(toss)
    assert capsys.readouterr().out.startswith("Right")
    for hint, how in MCNEMAR.items():
        exercises.check_mcnemar(lambda *pair, how=how: toss(*pair, how=how))
        words = capsys.readouterr().out
        assert words.startswith("Wrong"), words
        assert hint in words
    exercises.check_mcnemar(lambda *pair: 100 * toss(*pair))
    assert "neither a count nor per cent" in capsys.readouterr().out
    exercises.check_mcnemar(lambda *pair: 0.5)
    assert "with 6 against 0 yours gives 0.500, and the exact test 0.031" in capsys.readouterr().out


def test_the_label_curve_is_mended_by_equal_steps(capsys):
    settings = (600, 32, 5)

    def equal_steps(fraction, images, batch, epochs):
        return round(epochs * -(-images // batch) / -(-round(images * fraction) // batch))

    given = {
        "Right: steps": equal_steps,
        "Not mended yet. Steps at each share of the labels: 100%: 95, 50%: 50, 10%: 10, 5%: 5": lambda f, n, b, e: e,
        "fewer labels make shorter epochs": lambda f, n, b, e: max(1, round(e * f)),
        "Wrong, but nearly": lambda f, n, b, e: round(e / f),
        "round them": lambda f, n, b, e: e * 19 / 7.3,
        "95 steps are needed": lambda f, n, b, e: 3 * e,
        "KeyError": raises,
    }
    for hint, function in given.items():
        exercises.check_label_curve(function, *settings)
        words = capsys.readouterr().out
        assert hint in words, (hint, words)


def test_shared_images_are_counted_whatever_the_splits(capsys):
    train, test = (load_dataset("sketchwoof", split=split, num=20) for split in ("train", "test"))
    given = {
        "Right. The two splits in question share 20 images": lambda one, other: len(set(one.keys) & set(other.keys)),
        "return how many there are": lambda one, other: set(one.keys) & set(other.keys),
        "instead of 7": lambda one, other: len(one.keys),
        "KeyError": raises,
        "has to return it": lambda one, other: print("20"),
    }
    for hint, function in given.items():
        exercises.check_shared_images(function, train, test, (train, train))
        assert hint in capsys.readouterr().out


CODE = {
    exercises.check_lora: lambda odd: (odd, odd),
    exercises.check_twenty_steps: lambda odd: (odd,),
    exercises.check_block: lambda odd: (odd,),
    exercises.check_rollout: lambda odd: (odd,),
    exercises.check_patches_used: lambda odd: (odd, {"lora": torch.ones(1, 2, 2)}),
    exercises.check_mcnemar: lambda odd: (odd,),
    exercises.check_label_curve: lambda odd: (odd, 600, 32, 5),
    exercises.check_shared_images: lambda odd: (odd, *_splits(), _splits()),
}


def _splits():
    return tuple(load_dataset("sketchwoof", split=split, num=20) for split in ("train", "test"))


@pytest.mark.parametrize("check", CODE, ids=lambda check: check.__name__)
def test_odd_functions_and_results_get_a_sentence(check, capsys):
    """An odd thing in the function's place, and a function that returns it."""
    for odd in [each for each in ODD if each is not len]:
        for function in (odd, lambda *_arguments, odd=odd: odd):
            check(*CODE[check](function))
            words = capsys.readouterr().out
            assert words.startswith(("Wrong", "Not answered yet.")), (odd, words)
            assert words.count("\n") == 1
            assert "cannot be judged" not in words, words
    for function in (None, ..., nothing, lambda *_arguments: ...):
        check(*CODE[check](function))
        assert capsys.readouterr().out.startswith(UNANSWERED)


@pytest.mark.parametrize("check", CODE, ids=lambda check: check.__name__)
def test_a_function_that_does_not_end_gets_a_sentence(check, monkeypatch, capsys):
    def endless(*_arguments):
        while True:
            pass

    monkeypatch.setattr(answers.attempt, "__kwdefaults__", {"seconds": 0.05})
    check(*CODE[check](endless))
    assert "had not ended" in capsys.readouterr().out


# --- a rank of one's own, and a neighbour's adapter ---


def test_a_rank_is_predicted_before_it_is_run(study, capsys):
    runs = []

    def run_rank(rank, **changes):
        runs.append(run_training(replace(study, rank=rank, **changes).train_config("lora"), study.run_root))
        return runs[-1]

    def say(*given):
        exercises.check_own_rank(study, *given)
        return capsys.readouterr().out.splitlines()[-1]

    counted = sum(p.numel() for p in _adapted(study, 1).parameters() if p.requires_grad)
    assert say(1, None, None, run_rank) == UNANSWERED
    refused = {
        "two accuracies": (1, 10, 80, run_rank),
        "in per cent": (1, 10, (0.7, 0.8), run_rank),
        "the lower first": (1, 10, (80, 70), run_rank),
        "from 1 to 192, not one": ("one", 10, (0, 100), run_rank),
        "not 0": (0, 10, (0, 100), run_rank),
        "one whole number of parameters": (1, "1,930", (0, 100), run_rank),
        "predictions are noted": (1, 10, (0, 100), nothing),
        "KeyError": (1, 10, (0, 100), raises),
        "the folder of a finished run": (1, 10, (0, 100), lambda rank: "nowhere"),
    }
    for hint, given in refused.items():
        assert hint in say(*given)
    assert not runs  # nothing is trained before the prediction is in order
    assert say(1, counted, (0, 100), run_rank).startswith(f"Right: {counted:,} parameters train. At rank 1")
    assert "Wrong: 7 parameters predicted" in say(1, 7, (0, 100), run_rank)
    assert "the norm and the biases" in say(1, 7, (0, 100), run_rank)
    assert "What explains it?" in say(1, counted, (99.9, 100), run_rank)
    assert "the run has rank 1, and you predicted for 3" in say(3, 10, (0, 100), lambda rank: run_rank(1))
    changed = say(1, counted, (0, 100), lambda rank: run_rank(rank, lr=1e-3))
    assert "the run changed more than the rank: lr" in changed
    full = run_training(study.train_config("full"), study.run_root)
    assert "method full" in say(1, counted, (0, 100), lambda rank: full)
    for odd in ODD:
        for given in (
            (odd, 5, (0, 100), run_rank),
            (1, odd, odd, run_rank),
            (1, 5, (0, 100), lambda rank, odd=odd: odd),
        ):
            words = say(*given)
            assert words.startswith("Wrong"), words
            assert "cannot be judged" not in words


def _adapted(study, rank):
    config = replace(study, rank=rank).train_config("lora")
    return add_lora(new_model(config), config.lora)


def test_a_neighbours_adapter_answers_and_the_base_is_given_back(study, tmp_path, capsys):
    def ask(base, path, images):
        swap_adapter(base, read_adapter(base, path))
        try:
            return base(images).detach().argmax(1)
        finally:
            swap_adapter(base, None)

    def ask_logits(base, path, images):
        swap_adapter(base, read_adapter(base, path))
        logits = base(images).detach()
        swap_adapter(base, None)
        return logits

    def left_on(base, path, images):
        swap_adapter(base, read_adapter(base, path))
        return base(images).detach().argmax(1)

    def say(*given):
        exercises.check_exchange(given[0], study, *given[1:])
        return capsys.readouterr().out.splitlines()[-1]

    config = study.train_config("lora")
    file = tmp_path / "theirs.safetensors"
    save_adapter(_adapted(study, 2), config.lora, file)
    (tmp_path / "words.safetensors").write_text("no adapter")
    assert say(ask) == (
        "Right: the adapter answers, and the base is back to the last bit. Now ask a neighbour for a file."
    )
    assert re.fullmatch(r"Right: your base with .* names \d+ of 20 test images rightly\.", say(ask, f'"{file}"'))
    assert "is missing, damaged or not safetensors" in say(ask, str(tmp_path / "absent.safetensors"))
    assert "is missing, damaged or not safetensors" in say(ask, tmp_path / "words.safetensors")
    assert "neighbours_file is the path of a file" in say(ask, 7)
    assert "argmax(1)" in say(ask_logits)
    assert "afterwards the base is not what it was" in say(left_on)
    assert "the base alone" in say(lambda base, path, images: base(images).detach().argmax(1))
    for odd in ("6", torch.zeros(20), Unprintable(), leaves):
        assert say(odd).startswith("Wrong")
        assert say(lambda *_arguments, odd=odd: odd).startswith("Wrong")
    assert say(nothing) == say(None) == UNANSWERED
