"""The LoRA calculator: choose rank, layers and blocks, and see parameters, bytes, and how they add up."""

from dataclasses import replace
from typing import Any

from ipywidgets import HTML, HBox, IntRangeSlider, Label, VBox
from matplotlib.figure import Figure
from torch import nn

from woofkit.config import ConfigError, LoRAConfig
from woofkit.lora import Target, adapter_size, block_of, count_lora_parameters, find_targets, lora_layers
from woofkit.models import count_parameters
from woofkit.plots.pages import numbers_page, rank_lines_png, refusal
from woofkit.plots.weights import rank_figure
from woofkit.widgets.controls import LABEL, WIDE, checkbox, in_lines, slider
from woofkit.widgets.prompt import own_models, prompt

LAYERS = ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")
RANKS = (1, 2, 4, 8, 16, 32, 64, 128)
FLOAT_BYTES = 4  # of a parameter in a file
STATE_BYTES = 3 * FLOAT_BYTES  # in memory for a trained parameter: its gradient and Adam's two moments


def lora_calculator(model: nn.Module, start: LoRAConfig) -> VBox:
    """Make the controls (rank, layers, blocks, bias, norm) and the page of numbers with its curve over ranks.

    Args:
        model: a Vision Transformer without adapters; it stays as it is.
        start: the adapter shown first.

    Raises:
        ConfigError: the model has adapters, or none of the layers of a Vision Transformer's blocks.
    """
    model = own_models({"": model})[""]
    present, depth = _layers(model)
    linears = [target.linear for target in find_targets(model, replace(start, targets=present, blocks=None)).values()]
    highest = min(min(linear.in_features, linear.out_features) for linear in linears)  # no update has a higher one
    rank = slider("rank", max(highest, start.rank), start.rank)
    boxes = {name: checkbox(name, name in start.targets) for name in present}
    shown = (start.blocks[0] + 1, start.blocks[1]) if start.blocks else (1, depth)
    blocks = prompt(IntRangeSlider)(description="blocks", min=1, max=depth, value=shown, style=LABEL, layout=WIDE)
    bias = checkbox("a bias beside B", start.bias)
    norm = checkbox("train the final norm", "norm" in start.modules_to_save)
    page = HTML()

    def draw(_change: Any = None) -> None:
        chosen = tuple(name for name, box in boxes.items() if box.value)
        if not chosen:
            page.value = refusal("Choose at least one kind of layer.")
            return
        first, last = blocks.value
        config = LoRAConfig(
            rank=rank.value,
            targets=chosen,
            bias=bias.value,
            modules_to_save=("norm", "head") if norm.value else ("head",),
            blocks=(first - 1, last),
        )
        page.value = _page(model, config)

    for control in (rank, *boxes.values(), blocks, bias, norm):
        control.observe(draw, "value")
    draw()
    return in_lines(
        [(rank, blocks), (Label("adapt"), HBox(list(boxes.values()))), (bias, norm)], page, "LoRA calculator"
    )


def calculator_figure(model: nn.Module, config: LoRAConfig) -> Figure:
    """Draw the parameters of four choices of layers against the rank, with `config` and the paper's adapter.

    Raises ConfigError as `lora_calculator`.
    """
    present, _ = _layers(model)
    choices = {
        "chosen: " + " and ".join(config.targets): config.targets,
        "all linear layers of the blocks": present,
        "the MLP's": present[2:],
        "queries and values": ("attn.qkv[qv]",),
    }
    lines = {name: _counts(model, replace(config, targets=targets)) for name, targets in choices.items() if targets}
    return rank_figure(RANKS, lines, count_parameters(model).total, **_marks(model, config))


def sum_in_words(model: nn.Module, config: LoRAConfig) -> list[str]:
    """What `add_lora(model, config)` would train, one line per kind of layer and one for what is trained in full.

    Raises ValueError as `find_targets`.
    """
    kinds: dict[str, list[Target]] = {}
    for name, target in find_targets(model, config).items():
        kinds.setdefault(".".join(name.split(".")[-2:]), []).append(target)
    lines, left = [], count_lora_parameters(model, config)
    for kind, found in kinds.items():
        count = len(found) * adapter_size(found[0], config)
        width, height = found[0].linear.in_features, found[0].linear.out_features
        bias = f" + {height}" if config.bias else ""
        lines.append(f"{kind}: {len(found)} × ({config.rank} × ({width} + {height}){bias}) = {count:,}")
        left -= count
    return [*lines, f"{' and '.join(config.modules_to_save)}, trained in full: {left:,}"]


def _page(model: nn.Module, config: LoRAConfig) -> str:
    counts = trained, total = count_lora_parameters(model, config), count_parameters(model).total
    rows = [
        ("trained parameters", *(f"{count:,}" for count in counts)),
        ("file for one task", *(f"{FLOAT_BYTES * count / 1e6:.2f} MB" for count in counts)),
        ("gradients and Adam's moments", *(f"{STATE_BYTES * count / 1e6:.1f} MB" for count in counts)),
    ]
    picture = rank_lines_png(RANKS, {"these layers": _counts(model, config)}, total, **_marks(model, config))
    words = f"{trained:,} of {total:,} parameters: {100 * trained / total:.2f}% of the model"
    names, alt = ("this adapter", "full fine-tuning"), f"Trained parameters by rank; the star is at rank {config.rank}"
    return numbers_page(words, names, rows, sum_in_words(model, config), picture, alt)


def _counts(model: nn.Module, config: LoRAConfig) -> list[int]:
    return [count_lora_parameters(model, replace(config, rank=rank)) for rank in RANKS]


def _marks(model: nn.Module, config: LoRAConfig) -> dict[str, tuple[int, int]]:
    """(rank, parameters) of an adapter, and of the paper's: what `rank_lines` marks."""
    adapters = {"mark": config, "paper": LoRAConfig.paper()}
    return {name: (each.rank, count_lora_parameters(model, each)) for name, each in adapters.items()}


def _layers(model: nn.Module) -> tuple[tuple[str, ...], int]:
    """Which of LAYERS the model has, and in how many blocks."""
    if lora_layers(model):
        raise ConfigError("the model has adapters already: give the calculator one without, from build_model")
    names = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    present = tuple(layer for layer in LAYERS if any(name.endswith("." + layer) for name in names))
    depth = max((block_of(name) + 1 for name in names if block_of(name) is not None), default=0)
    if not present or not depth:
        raise ConfigError(f"{type(model).__name__} has none of the layers {', '.join(LAYERS)} in numbered blocks")
    return present, depth
