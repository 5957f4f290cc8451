"""Check answers that are numbers or a word; each truth is computed from the formula, the model or the paper's table."""

from functools import cache
from typing import Any

from torch import nn

from woofkit.claims.paper import images_per_batch
from woofkit.config import LoRAConfig
from woofkit.lora import adapter_shapes, find_targets
from woofkit.models import build_model
from woofkit.widgets.exercises.answers import UNANSWERED, as_number, checker, shown, unanswered

MODEL = "vit_tiny_patch16_224"


@checker
def check_images_needed(answer: Any) -> str:
    """How many test images give a 95% interval of at most ± 1 point at an accuracy of 90%."""
    if unanswered(answer):
        return UNANSWERED
    n = as_number(answer)
    if 0 < n < 1:
        return "Wrong: this is a share; write how many images."
    if not (1 <= n < 1e12 and n.is_integer()):
        return f"Wrong: write one whole number of images, at least 1 and without a comma, not {shown(answer)}."
    half_width = 100 * 1.96 * (0.9 * 0.1 / n) ** 0.5
    small = "Wrong: too few" if half_width > 1.0005 else "Wrong: fewer are enough" if half_width < 0.98 else "Right"
    hint = ""
    if abs(n - 0.9 * 0.1 * (1.96 / 0.02) ** 2) < 2:
        hint = " The interval reaches 1 point to each side, 2 in all."
    elif abs(n - 0.9 * 0.1 / 0.01**2) < 2:
        hint = " The factor 1.96 is missing."
    return f"{small}. With {n:,.0f} images the interval is ± {half_width:.2f} points.{hint}"


@checker
def check_block_parameters(answer: Any) -> str:
    """How many parameters one block of ViT-Tiny has."""
    if unanswered(answer):
        return UNANSWERED
    counts = _block_counts()
    counted, n = sum(counts.values()), as_number(answer)
    if n == counted:
        return "Right."
    biases = sum(count for name, count in counts.items() if name.endswith("bias") and "norm" not in name)
    norm = counts["norm1.weight"] + counts["norm1.bias"]
    missing = {
        counted - biases: "the biases of the four linear layers are missing",
        counted - norm: "there are two LayerNorms, and each has a weight and a bias",
        counted - 2 * norm: "the two LayerNorms are missing",
        counted - biases - 2 * norm: "the biases and both LayerNorms are missing",
        12 * counted: "this is all twelve blocks; count one",
    }
    if n in missing:
        return f"Wrong: {missing[n]}."
    return f"Wrong: PyTorch counts something else than {shown(answer)} (one whole number, without a comma in it)."


@cache
def _block_counts() -> dict[str, int]:
    block = build_model(MODEL, weights=None).blocks[0]
    return {name: parameter.numel() for name, parameter in block.named_parameters()}


@checker
def check_usual_loss(answer: Any) -> str:
    """What the paper's test loss, 0.0023, is as a mean per image."""
    if unanswered(answer):
        return UNANSWERED
    factor, n = images_per_batch("test"), as_number(answer)
    if abs(n - 0.0023 * factor) < 0.006:
        return "Right."
    if n != n:
        return "Wrong: write one number, with a point: 0.5, not 0,5."
    if abs(n - 0.0023 / factor) < 1e-5:
        return "Wrong: multiply, do not divide: the paper divided by the images instead of the batches."
    return "Wrong: multiply by the number of images in a batch, on average: images divided by batches."


@checker
def check_paper_count(adapters: Any, biases: Any, norm_and_head: Any) -> str:
    """The three parts of the paper's 177,418, counted from the shapes of its adapter on ViT-Tiny."""
    if unanswered(adapters, biases, norm_and_head):
        return UNANSWERED
    model, lora = build_model(MODEL, weights=None), LoRAConfig.paper()
    shapes = [adapter_shapes(target, lora) for target in find_targets(model, lora).values()]
    due = {
        "adapters": sum(a * b + c * d for (a, b), (c, d) in shapes),
        "biases": sum(c for _, (c, _) in shapes),
        "norm and head": _size(model.norm) + _size(model.head),
    }
    given = dict(zip(due, map(as_number, (adapters, biases, norm_and_head)), strict=True))
    wrong = [f"{name}: {_part_hint(name, given[name], due, model)}" for name in due if given[name] != due[name]]
    return f"Wrong. {'; '.join(wrong)}." if wrong else f"Right: {sum(due.values()):,} in all."


def _size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _part_hint(name: str, given: float, due: dict[str, int], model: nn.Module) -> str:
    """What may have been forgotten."""
    depth, right = len(model.blocks), due[name]
    if given != given:
        return "write one whole number, without a comma"
    if name != "norm and head" and given * depth == right:
        return f"this is one block, and there are {depth}"
    hints = {
        "adapters": {
            depth * 12 * (192 + 576): "`proj` is missing",
            depth * 12 * (192 + 192): "`qkv` is missing",
            depth * 12 * (192 + 192 + 576): "A appears twice, once for `qkv` and once for `proj`",
            depth * (192 * 576 + 192 * 192): "this is the matrices themselves; A and B are smaller",
        },
        "biases": {depth * 576: "`proj` is missing", depth * 192: "`qkv` is missing"},
        "norm and head": {
            _size(model.norm): "the head is missing",
            _size(model.head): "the norm is missing",
            right - len(model.head.bias): "the head has a bias",
            right - len(model.norm.bias): "the norm has a weight and a bias",
        },
    }
    return hints[name].get(int(given) if given.is_integer() else -1, "count again, with the shapes above")


@checker
def check_who_moves(answer: Any, grad_A: Any, grad_B: Any) -> str:
    """Which of A and B get a gradient other than zero; "none", 0 and [] are words for "neither"."""
    if unanswered(answer):
        return UNANSWERED
    moving = [name for name, grad in {"A": grad_A, "B": grad_B}.items() if grad is not None and bool(grad.any())]
    due = {0: "neither", 1: "".join(moving), 2: "both"}[len(moving)].lower()
    words = shown(answer).strip().lower().strip("'\"")
    same = {"none": "neither", "no one": "neither", "nobody": "neither", "nothing": "neither", "0": "neither"}
    same |= {"[]": "neither", "()": "neither", "a and b": "both", "ab": "both", "lora_a": "a", "lora_b": "b"}
    said = same.get(words, words)
    if said == due:
        return "Right: the gradient of B contains A x, and that of A contains B transposed."
    if said not in ("a", "b", "both", "neither"):
        return f'Wrong: answer "A", "B", "both" or "neither", not {shown(answer)}.'
    return "Wrong: print trial.lora_A.grad and trial.lora_B.grad; is any number in them other than zero?"


@checker
def check_smallest_k(answer: Any, images: int) -> str:
    """The fewest images, all won by one model, that make p < 0.05 in McNemar's exact test."""
    if unanswered(answer):
        return UNANSWERED
    k = as_number(answer)
    if not (k.is_integer() and 1 <= k <= 1000):
        return f"Wrong: k is a whole number of images, from 1 on, not {shown(answer)}."
    fewer, p = (2 * 0.5**each for each in (k - 1, k))
    if p < 0.05 <= fewer:
        return f"Right: on this test of {images} images that is a difference of {100 * k / images:.1f} points."
    if p < 0.05:
        return f"Wrong: p = {p:.3g}, but a smaller k is enough."
    return f"Wrong: p = {p:.3g}, too large." + (" Both sides count: the factor 2." if k == 5 else "")


@checker
def check_tasks_needed(answer: Any, backbone: float, adapter: float) -> str:
    """From how many tasks on LoRA takes less than half the space of as many whole models, in bytes."""
    if unanswered(answer):
        return UNANSWERED
    n = as_number(answer)
    if not (n.is_integer() and 1 <= n <= 1e9):
        return f"Wrong: a whole number of tasks, from 1 on, not {shown(answer)}."
    fewer, share = ((backbone + each * adapter) / (each * backbone) for each in (max(n - 1, 1), n))
    if share < 0.5 and (n == 1 or fewer >= 0.5):
        return f"Right: with {n:.0f} tasks LoRA takes {share:.0%} of the space."
    why = ", but fewer tasks are enough" if share < 0.5 else ""
    if 0.5 <= share < 0.505:
        why = ", which is half the space and not less"
    return f"Wrong: with {n:.0f} tasks LoRA takes {share:.0%} of the space{why}."
