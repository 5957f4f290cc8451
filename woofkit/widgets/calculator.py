"""The LoRA calculator: rank, layers and blocks in; parameters, bytes and the sum that they come from out."""

from dataclasses import replace
from typing import NamedTuple

from ipywidgets import HTML, Checkbox, HBox, IntRangeSlider, Label, VBox
from matplotlib.figure import Figure
from torch import nn

from woofkit.config import ConfigError, LoRAConfig
from woofkit.lora import adapter_size, block_of, count_lora_parameters, find_targets, lora_layers
from woofkit.models import count_parameters
from woofkit.plots.pages import numbers_page, rank_lines_png, refusal
from woofkit.plots.weights import rank_figure
from woofkit.widgets.controls import LABEL, WIDE, in_lines, slider, undisturbed

LAYERS = ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")
RANKS = (1, 2, 4, 8, 16, 32, 64, 128)
FLOAT_BYTES = 4  # of a parameter in a file
STATE_BYTES = 3 * FLOAT_BYTES  # kept for a trained parameter: its gradient and Adam's two moments


class AdapterCost(NamedTuple):
    """What an adapter trains and keeps; `total` is the model's own number of parameters, `lines` the sum in words."""

    parameters: int
    total: int
    lines: tuple[str, ...]


def adapter_cost(model: nn.Module, config: LoRAConfig) -> AdapterCost:
    """Count, from shapes alone, what `add_lora(model, config)` would train.

    Raises ValueError as `find_targets`.
    """
    targets = find_targets(model, config)
    kinds: dict[str, list] = {}
    for name, target in targets.items():
        kinds.setdefault(".".join(name.split(".")[-2:]), []).append(target)
    lines, adapters = [], 0
    for kind, found in kinds.items():
        one = adapter_size(found[0], config)
        width, height = found[0].linear.in_features, found[0].linear.out_features
        bias = f" + {height}" if config.bias else ""
        lines.append(f"{kind}: {len(found)} × ({config.rank} × ({width} + {height}){bias}) = {len(found) * one:,}")
        adapters += len(found) * one
    parameters = count_lora_parameters(model, config)
    lines.append(f"{' and '.join(config.modules_to_save)}, trained in full: {parameters - adapters:,}")
    return AdapterCost(parameters, count_parameters(model).total, tuple(lines))


def lora_calculator(model: nn.Module, start: LoRAConfig | None = None) -> VBox:
    """Make the controls (rank, layers, blocks, bias, norm) and the page of numbers with its curve over ranks.

    Args:
        model: a Vision Transformer without adapters; it stays as it is.
        start: the adapter shown first; None is the report's.

    Raises:
        ConfigError: the model has adapters, or none of the layers of a Vision Transformer's blocks.
    """
    start = start or LoRAConfig.paper()
    present, depth = _layers(model)
    linears = [target.linear for target in find_targets(model, replace(start, targets=present, blocks=None)).values()]
    highest = min(min(linear.in_features, linear.out_features) for linear in linears)  # no update has a higher one
    rank = slider("rank", max(highest, start.rank), start.rank)
    boxes = {name: _checkbox(name, name in start.targets) for name in present}
    blocks = IntRangeSlider(
        description="blocks",
        min=1,
        max=depth,
        style=LABEL,
        layout=WIDE,
        value=(start.blocks[0] + 1, start.blocks[1]) if start.blocks else (1, depth),
    )
    bias = _checkbox("a bias beside B", start.bias)
    norm = _checkbox("train the final norm", "norm" in start.modules_to_save)
    page = HTML()

    @undisturbed
    def draw(_change=None) -> None:
        chosen = tuple(name for name, box in boxes.items() if box.value)
        if not chosen:
            page.value = refusal("Choose at least one kind of layer.")
            return
        saved = ("norm", "head") if norm.value else ("head",)
        config = LoRAConfig(
            rank=rank.value,
            targets=chosen,
            bias=bias.value,
            modules_to_save=saved,
            blocks=(blocks.value[0] - 1, blocks.value[1]),
        )
        page.value = _page(model, config)

    for control in (rank, *boxes.values(), blocks, bias, norm):
        control.observe(draw, "value")
    draw()
    return in_lines([(rank, blocks), (Label("adapt"), HBox(list(boxes.values()))), (bias, norm)], page)


def calculator_figure(model: nn.Module, config: LoRAConfig) -> Figure:
    """Draw, for paper, the parameters of four choices of layers against the rank, with `config` and the report's.

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
    cost = adapter_cost(model, config)
    return rank_figure(RANKS, lines, cost.total, mark=(config.rank, cost.parameters), paper=_papers(model))


def _page(model: nn.Module, config: LoRAConfig) -> str:
    cost = adapter_cost(model, config)
    both = (cost.parameters, cost.total)
    rows = [
        ("trained parameters", *(f"{count:,}" for count in both)),
        ("file for one task", *(f"{FLOAT_BYTES * count / 1e6:.2f} MB" for count in both)),
        ("gradients and Adam's moments", *(f"{STATE_BYTES * count / 1e6:.1f} MB" for count in both)),
    ]
    picture = rank_lines_png(
        RANKS,
        {"these layers": _counts(model, config)},
        cost.total,
        mark=(config.rank, cost.parameters),
        paper=_papers(model),
    )
    words = f"{cost.parameters:,} of {cost.total:,} parameters: {100 * cost.parameters / cost.total:.2f} % of the model"
    return numbers_page(
        words,
        ("this adapter", "full fine-tuning"),
        rows,
        cost.lines,
        picture,
        f"Trained parameters against the rank; the star is at rank {config.rank}",
    )


def _counts(model: nn.Module, config: LoRAConfig) -> list[int]:
    return [count_lora_parameters(model, replace(config, rank=rank)) for rank in RANKS]


def _papers(model: nn.Module) -> tuple[int, int]:
    config = LoRAConfig.paper()
    return config.rank, count_lora_parameters(model, config)


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


def _checkbox(name: str, value: bool) -> Checkbox:
    return Checkbox(description=name, value=value, indent=False, style=LABEL, layout={"width": "auto"})
