"""Check what a student writes about LoRA: its forward and merge, its training, a rank of one's own, an exchange."""

import copy
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from woofkit.adapters import load_adapter, save_adapter
from woofkit.config import ConfigError, LoRAConfig, StudyConfig
from woofkit.data import load_pixels, make_transform
from woofkit.lora import LoRALinear, add_lora, count_lora_parameters
from woofkit.models import data_config, new_model
from woofkit.results import is_finished, read_config, read_metrics
from woofkit.train import load_splits
from woofkit.widgets.exercises.answers import (
    UNANSWERED,
    Failed,
    as_number,
    attempt,
    checker,
    close,
    recognised,
    shown,
    tensor_trouble,
    unanswered,
)
from woofkit.widgets.own_path import own_path

IN, OUT, RANK, STEPS = 5, 7, 2, 20


def _layer(zero_B: bool = False) -> LoRALinear:
    """A small adapted layer without a bias whose B is not zero unless asked; the same numbers each time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        layer = LoRALinear(nn.Linear(IN, OUT, bias=False), LoRAConfig(rank=RANK, alpha=3.0))
        if not zero_B:
            nn.init.normal_(layer.lora_B)
    return layer


def _numbers(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(4))


# --- forward and merge ---


@checker
def check_lora(forward: Any, merge: Any) -> str:
    """Try `forward(x, W, A, B, scaling)` and `merge(W, A, B, scaling)` against LoRA's laws and `LoRALinear`."""
    layer, x = _layer(), _numbers(3, IN)
    W, A, B, scaling = layer.base.weight.detach(), layer.lora_A.detach(), layer.lora_B.detach(), layer.scaling
    given = attempt(forward, x, W, A, B, scaling)
    merged = attempt(merge, W, A, B, scaling)
    if (unanswered(forward) or unanswered(given)) and (unanswered(merge) or unanswered(merged)):
        return UNANSWERED
    trouble = _forward_trouble(forward, given, layer, x) or _merge_trouble(merged, layer)
    trouble = trouble or _changed(forward, x, W, A, B, scaling) or _changed(merge, W, A, B, scaling)
    if trouble:
        return f"Wrong: {trouble}."
    return "Right: at B = 0 it is the frozen layer, it equals LoRALinear, and merged it computes the same."


def _forward_trouble(forward: Callable, given: Any, layer: LoRALinear, x: Tensor) -> str:
    W, A, B, scaling = layer.base.weight, layer.lora_A, layer.lora_B, layer.scaling
    if isinstance(given, Failed) and "shape" in given:
        return (
            f"lora_forward: the matrices do not fit ({shown(given, 90)}). x has shape (..., in), one row per input, so"
            " W x is written x @ W.T"
        )
    if trouble := tensor_trouble(given, (len(x), OUT)):
        return f"lora_forward: {trouble}"
    Wx, BAx = x @ W.T, x @ A.T @ B.T
    mistakes = {
        "the scaling is missing: B A x is multiplied by it": Wx + BAx,
        "the scaling belongs to B A x alone, and not to W x": scaling * (Wx + BAx),
        "the scaling belongs to B A x, and not to W x": scaling * Wx + BAx,
        "W x is missing: this is only what the adapter adds": scaling * BAx,
        "this is the frozen layer alone: B A x is missing": Wx,
        "the adapter adds B A x, it does not subtract it": Wx - scaling * BAx,
        "the scaling is alpha / r already: do not divide by r again": Wx + scaling / RANK * BAx,
        "the scaling is used twice": Wx + scaling**2 * BAx,
    }
    at_zero = attempt(forward, x, W.detach(), A.detach(), torch.zeros_like(B), scaling)
    if not close(given, layer(x)):
        found = recognised(given, mistakes)
        law = "" if close(at_zero, Wx) else "; and at B = 0 it must be W x, which it is not"
        return f"lora_forward: {found or 'it differs from W x + scaling · B A x' + law}"
    for more in (_numbers(2, 3, IN), _numbers(IN)):
        if not close(attempt(forward, more, W.detach(), A.detach(), B.detach(), scaling), layer(more)):
            return (
                f"lora_forward: right for x of shape (3, {IN}), and wrong for {tuple(more.shape)}; use .T or F.linear"
            )
    return ""


def _merge_trouble(merged: Any, layer: LoRALinear) -> str:
    W, delta = layer.base.weight, layer.delta_weight()
    if isinstance(merged, Failed) and "shape" in merged:
        return f"lora_merge: the matrices do not fit ({shown(merged, 90)}). B is (out, r), A is (r, in): B comes first"
    if trouble := tensor_trouble(merged, (OUT, IN)):
        return f"lora_merge: {trouble}"
    mistakes = {
        "the scaling is missing": W + delta / layer.scaling,
        "W is missing: the merged weight is W plus the update": delta,
        "W as it was is not merged: add the update": W,
        "the scaling belongs to B A alone, and not to W": layer.scaling * W + delta,
        "the update is added, not subtracted": W - delta,
    }
    if not close(merged, W + delta):
        return f"lora_merge: {recognised(merged, mistakes) or 'x @ merged.T does not equal what the two paths give'}"
    return ""


def _changed(function: Callable, *arguments: Any) -> str:
    """Say that a function changes what it is given. (`attempt` copies, so here the copies are made outside.)"""
    handed = [each.clone() if isinstance(each, Tensor) else each for each in arguments]
    attempt(lambda: function(*handed) is None)
    kept = all(one.equal(other) for one, other in zip(handed, arguments, strict=True) if isinstance(one, Tensor))
    words = "changes a matrix it was given: `+=` works in place, `W + update` makes a new one"
    return "" if kept else f"{function.__name__} {words}"


# --- twenty steps ---


@checker
def check_twenty_steps(train: Any) -> str:
    """Try `train(layer, x, y, lr)`: twenty steps of plain gradient descent on A and B, by the mean squared error."""
    x, y, lr = _numbers(4, IN), _numbers(4, OUT).flip(0), 0.01
    layer = _layer(zero_B=True)
    layer.base.weight.requires_grad_(True)  # so that whoever trains all parameters moves it
    start = copy.deepcopy(layer)
    if unanswered(train):
        return UNANSWERED
    result = attempt(train, layer, x, y, lr)
    if isinstance(result, Failed):
        return f"Wrong: your function gives no result: {result}."
    parts = {"W": "base.weight", "A": "lora_A", "B": "lora_B"}
    before, after = dict(start.named_parameters()), dict(layer.named_parameters())
    if not all(tensor.isfinite().all() for tensor in after.values()):
        return "Wrong: the weights have become NaN or infinite. Do the gradients of all steps add up, or is lr squared?"
    moved = [name for name, key in parts.items() if not after[key].equal(before[key])]
    if not moved:
        words = "Wrong: nothing has moved. Is the loss's backward() called, and then a step taken on A and B?"
        return words if not unanswered(result) else UNANSWERED
    if "W" in moved:
        return "Wrong: W has moved. In LoRA only A and B train: give the optimizer those two, not layer.parameters()."
    if "A" not in moved:
        return "Wrong: only B has moved. A trains too, from the second step on, when B is no longer zero."
    due = _way(start, _trained(start, x, y, lr))
    given, size = _way(start, layer), due.abs().max()
    if close(given / size, due / size):
        before_loss, after_loss = (F.mse_loss(each(x), y).item() for each in (start, layer))
        return f"Right: W has not moved, A and B have, and the loss fell from {before_loss:.3f} to {after_loss:.3f}."
    mistakes: dict[str, dict[str, float]] = {
        "the gradients of earlier steps add up: set them to zero before each step": {"added": 1},
        "the steps go uphill: subtract lr times the gradient": {"uphill": 1},
        "the loss is the mean of the squares, and yours is their sum": {"factor": y.numel()},
        "the learning rate was not used": {"factor": 1 / lr},
    }
    for steps in [each for each in range(1, 2 * STEPS + 2) if each != STEPS]:
        mistakes[f"that was {steps} step{'s' * (steps != 1)}, and the exercise asks for {STEPS}"] = {"steps": steps}
    usual = f"A and B are not where {STEPS} steps of plain gradient descent (SGD) take them"
    ways = {words: _way(start, _trained(start, x, y, lr, **flaw)) / size for words, flaw in mistakes.items()}
    return f"Wrong: {recognised(given / size, ways) or usual}."


def _way(start: LoRALinear, end: LoRALinear) -> Tensor:
    """How far A and B have moved, as one vector."""
    pairs = ((start.lora_A, end.lora_A), (start.lora_B, end.lora_B))
    return torch.cat([(after - before).detach().flatten() for before, after in pairs])


def _trained(start: LoRALinear, x: Tensor, y: Tensor, lr: float, **flaw: float) -> LoRALinear:
    """The layer after gradient descent; with a flaw, after what a mistake would do."""
    layer = copy.deepcopy(start)
    weights = [layer.lora_A, layer.lora_B]
    optimizer = torch.optim.SGD(weights, lr=lr, maximize=bool(flaw.get("uphill")))
    for _ in range(int(flaw.get("steps", STEPS))):
        if not flaw.get("added"):
            optimizer.zero_grad()
        (flaw.get("factor", 1.0) * F.mse_loss(layer(x), y)).backward()
        optimizer.step()
    return layer


# --- a rank of one's own ---


@checker
def check_own_rank(study: StudyConfig, rank: Any, parameters: Any, accuracy: Any, run_rank: Any) -> str:
    """Compare predictions with `run_rank(rank)`, the folder of a run that this trains.

    Nothing is trained before both predictions are there: how many `parameters` will train, and the lowest and highest
    `accuracy` on test, in per cent, that would not be a surprise.
    """
    if unanswered(parameters, accuracy):
        return UNANSWERED
    if not isinstance(rank, int) or isinstance(rank, bool) or not 1 <= rank <= 192:
        return f"Wrong: the rank is a whole number from 1 to 192, not {shown(rank)}."
    bounds = attempt(lambda: [as_number(bound) for bound in accuracy])
    if isinstance(bounds, Failed) or len(bounds) != 2 or not 0 <= bounds[0] <= bounds[1] <= 100:
        return f"Wrong: predict two accuracies in per cent, the lower first, as in (70, 80), not {shown(accuracy)}."
    if bounds[1] <= 1 and bounds != [0, 0]:
        return "Wrong: write the accuracies in per cent: 80, not 0.8."
    config = replace(study, rank=rank).train_config("lora")
    counted = count_lora_parameters(new_model(config), config.lora)
    guess = as_number(parameters)
    if not guess.is_integer():
        return f"Wrong: predict one whole number of parameters, without a comma in it, not {shown(parameters)}."
    folder = attempt(run_rank, rank, seconds=None)
    if unanswered(folder):
        return "The predictions are noted. Now let run_rank return the folder that run_training gives."
    if trouble := _run_trouble(folder, config.to_dict()):
        return f"Wrong: {trouble}."
    measured = 100 * read_metrics(Path(folder))["test_accuracy"]
    foreseen = bounds[0] <= measured <= bounds[1]
    surprise = "as you predicted." if foreseen else "which is a surprise. What explains it?"
    count = f"Right: {counted:,} parameters train" if guess == counted else _off(guess, counted, rank)
    return f"{count}. At rank {rank} the test accuracy is {measured:.1f}%, {surprise}"


def _off(guess: float, counted: int, rank: int) -> str:
    """How far a count is from the right one, and why it may be."""
    fixed = "the head, the norm and the biases train too, whatever the rank"
    hint = fixed if guess < counted else "each layer trains r (in + out) numbers, and out more with a bias"
    return f"Wrong: {guess:,.0f} parameters predicted, {counted:,} train at rank {rank} ({hint})"


def _run_trouble(folder: Any, due: dict[str, Any]) -> str:
    """Say why this is not the folder of a finished run with the settings that are due, or ""."""
    if isinstance(folder, Failed):
        return f"run_rank gives no run: {folder}"
    path = attempt(Path, folder)
    if isinstance(path, Failed) or attempt(is_finished, path) is not True:
        return f"run_rank must return the folder of a finished run, as run_training does, not {shown(folder)}"
    made = read_config(path)
    differ = [name for name in due if name not in ("device", "precision") and made.get(name, due[name]) != due[name]]
    if "method" in differ:
        return f"the run trained by method {made['method']}, and the exercise asks for LoRA"
    if "lora" in differ:
        return f"the run has rank {made['lora']['rank']}, and you predicted for {due['lora']['rank']}"
    if differ:
        return f"the run changed more than the rank: {', '.join(differ)}"
    return ""


# --- an adapter exchanged ---


@checker
def check_exchange(ask: Any, study: StudyConfig, neighbours_file: Any = None) -> str:
    """Try `ask(base, path, images)`: the labels that `base` names with the adapter in a file, and is then as it was.

    A made-up adapter is tried twice. With `neighbours_file`, the path of a real one, its answers to test images too.
    """
    config = study.train_config("lora")
    base = new_model(config).eval()
    transform = make_transform(data_config(base), study.preprocess)
    test = load_splits(config, transform.size)["test"]
    some = test.subset(range(min(20, len(test))))
    images = transform.normalize(load_pixels(some, transform, progress=False))
    with torch.inference_mode():
        before = base(images)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "neighbour.safetensors"
        expected = _made_up_adapter(base, path, images)
        for turn in ("first", "second"):
            given = attempt(ask, base, path, images)
            if unanswered(ask) or unanswered(given):
                return UNANSWERED
            if trouble := _labels_trouble(given, expected, before):
                again = "" if turn == "first" else " the second time, with the adapter of the first still on"
                return f"Wrong{again}: {trouble}."
            if not _same(base, images, before):
                return "Wrong: afterwards the base is not what it was: swap_adapter(base, None) takes the adapter off."
    if unanswered(neighbours_file):
        return "Right: the adapter answers, and the base is back to the last bit. Now ask a neighbour for a file."
    return _neighbours_words(ask, base, images, some.labels, neighbours_file)


def _made_up_adapter(base: nn.Module, path: Path, images: Tensor) -> Tensor:
    """Save an adapter with random numbers for `base`, and return the labels (N,) that it gives."""
    config = LoRAConfig(rank=3, alpha=3.0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        model = add_lora(copy.deepcopy(base), config)
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                nn.init.normal_(parameter, std=0.5 if "lora_" in name else 1.0)
    save_adapter(model, config, path)
    with torch.inference_mode():
        return model.eval()(images).argmax(1)


def _labels_trouble(given: Any, expected: Tensor, before: Tensor) -> str:
    if isinstance(given, Failed) and "LoRA already" in given:
        return f"an adapter is on already ({given})"
    shape = getattr(given, "shape", None)
    if shape is not None and tuple(shape) == tuple(before.shape):
        return "these are logits, one per class; the label of an image is where its logit is highest: argmax(1)"
    if trouble := tensor_trouble(given, expected.shape):
        return trouble
    if close(given, before.argmax(1)) and not close(given, expected):
        return "these are the answers of the base alone: the adapter was not on"
    return "" if close(given, expected) else "these are not the labels that the base names with this adapter"


def _same(base: nn.Module, images: Tensor, before: Tensor) -> bool:
    with torch.inference_mode():
        now = attempt(base.eval(), images, seconds=None)  # in this thread: another may add up in another order
    return isinstance(now, Tensor) and now.shape == before.shape and now.equal(before)


def _neighbours_words(ask: Any, base: nn.Module, images: Tensor, labels: Any, file: Any) -> str:
    if not isinstance(file, str | Path) or not str(file).strip():
        return f"Wrong: neighbours_file is the path of a file, such as 'adapter.safetensors', not {shown(file)}."
    try:
        path = own_path(str(file))
        load_adapter(copy.deepcopy(base), path)
    except (ConfigError, OSError) as error:
        return f"Your function is right, and this file is not for it: {shown(error, 200)}"
    given = attempt(ask, base, path, images)
    if trouble := tensor_trouble(given, (len(images),)):
        return f"Wrong: {trouble}."
    right = int((torch.as_tensor(given) == torch.as_tensor(labels)).sum())
    return f"Right: your base with your neighbour's adapter names {right} of {len(labels)} test images rightly."
