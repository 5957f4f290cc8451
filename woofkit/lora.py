"""Low-Rank Adaptation (LoRA; Hu et al. 2022, https://arxiv.org/abs/2106.09685) of a model's linear layers.

A frozen weight W (out x in) stays as it is and learns an update of low rank beside it:

    h = W x + scaling * B A x        A: (rank, in), B: (out, rank), scaling = alpha / rank

B starts at zero, so the adapted layer equals the frozen one before its first step. `LoRALinear` is that layer; the
verbs below work in place on a model that knows nothing of LoRA, and return it:

    add_lora -> train -> merge_lora <-> unmerge_lora -> remove_lora;  with adapters_disabled(model): ...

timm computes queries, keys and values with one layer, `attn.qkv`, of 3 d outputs: rows 0 to d - 1 are the queries, the
next d the keys, the last d the values. The target "attn.qkv" adapts it as one matrix; "attn.qkv[qv]" adapts only the
rows of the queries and the values, as the LoRA paper does.
"""

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from woofkit.config import LoRAConfig

SWAPPED = "_swapped"  # where a model remembers, by name, an adapter's module and the base's module that it replaces


class LoRALinear(nn.Module):
    """A linear layer with a trainable low-rank update: `base(x) + scaling * (B A x + lora_bias)`.

    Args:
        base: the layer as it was; it is frozen, and neither copied nor changed.
        config: rank, alpha, dropout (on the adapter's input), bias and the start of A.
        parts: for a fused projection of queries, keys and values, those to adapt, such as "qv". The other rows of the
            output are the base's.

    Shapes: x (..., in) -> (..., out); lora_A (rank, in); lora_B (out, rank); lora_bias (out,) or None. With parts,
    out stands for the adapted rows, and lora_A is (len(parts) * rank, in) unless the parts share one A.
    """

    def __init__(self, base: nn.Linear, config: LoRAConfig, parts: str = ""):
        super().__init__()
        self.base = base.requires_grad_(False)
        self.rank, self.scaling, self.parts = config.rank, config.scaling, parts
        self.enabled = True
        shape_A, shape_B = adapter_shapes(Target(base, parts), config)
        like = {"device": base.weight.device, "dtype": base.weight.dtype}
        self.lora_A = nn.Parameter(torch.empty(shape_A, **like))
        self.lora_B = nn.Parameter(torch.zeros(shape_B, **like))
        self.lora_bias = nn.Parameter(torch.zeros(shape_B[0], **like)) if config.bias else None
        self.dropout = nn.Dropout(config.dropout)
        if config.init_std is None:
            nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))
        else:
            nn.init.normal_(self.lora_A, std=config.init_std)

    def forward(self, x: Tensor) -> Tensor:
        if not self.enabled:
            return self.base(x)
        A, B, bias = self.matrices()
        Ax = F.linear(self.dropout(x), A)  # (..., rank)
        BAx = F.linear(Ax, B, bias)  # (..., out)
        return self.base(x) + self.scaling * BAx

    def matrices(self) -> tuple[Tensor, Tensor, Tensor | None]:
        """A (R, in), B (out, R) and the trained bias (out,) or None, over all rows of the output.

        R is the rank, or the rows of all parts' A's. Rows of B and of the bias that are not adapted are zero, and where
        each part has its own A, B is block-diagonal: so B A is the unscaled update of the whole layer.
        """
        if not self.parts:
            return self.lora_A, self.lora_B, self.lora_bias
        d, own_A = self.base.out_features // len(FUSED), len(self.lora_A) > self.rank
        B = self.lora_B.new_zeros(self.base.out_features, len(self.lora_A))
        bias = None if self.lora_bias is None else self.lora_bias.new_zeros(self.base.out_features)
        for i, part in enumerate(self.parts):
            start, column = d * FUSED.index(part), self.rank * i * own_A
            B[start : start + d, column : column + self.rank] = self.lora_B[d * i : d * i + d]
            if bias is not None:
                bias[start : start + d] = self.lora_bias[d * i : d * i + d]
        return self.lora_A, B, bias

    def delta_weight(self) -> Tensor:
        """The update of the weight, scaling * B A, of shape (out, in); zero in rows that are not adapted."""
        A, B, _ = self.matrices()
        with torch.autocast(A.device.type, enabled=False):  # it would round a small update to half precision
            return self.scaling * B @ A

    def adapted(self) -> tuple[Tensor, Tensor | None]:
        """The weight W + scaling * B A, (out, in), and the bias b + scaling * lora_bias, (out,) or None."""
        delta = self.matrices()[2]
        biases = [self.base.bias, None if delta is None else self.scaling * delta]
        biases = [bias for bias in biases if bias is not None]
        return self.base.weight + self.delta_weight(), sum(biases) if biases else None

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """A plain linear layer that computes the same."""
        weight, bias = self.adapted()
        out_features, in_features = weight.shape
        like = {"device": weight.device, "dtype": weight.dtype}
        linear = nn.utils.skip_init(nn.Linear, in_features, out_features, bias=bias is not None, **like)
        linear.weight.copy_(weight)
        if bias is not None:
            linear.bias.copy_(bias)
        return linear.requires_grad_(False).train(self.training)

    def extra_repr(self) -> str:
        settings = f"rank={self.rank}, scaling={self.scaling:g}, bias={self.lora_bias is not None}"
        return settings + (f", parts={self.parts}" if self.parts else "")


FUSED = "qkv"  # the name of a fused projection, and its parts in order


class Target(NamedTuple):
    """A layer to adapt: the linear layer, and which of "qkv" are meant ("" is all of it, as one matrix)."""

    linear: nn.Linear
    parts: str


def find_targets(model: nn.Module, config: LoRAConfig) -> dict[str, Target]:
    """The layers that `config.targets` and `config.blocks` choose, by name, in the model's order.

    A target matches whole parts of a dotted name: "attn.proj" is never "patch_embed.proj".

    Raises:
        ValueError: a target matches no linear layer of the chosen blocks, or parts of a layer that is no fused
            projection; two targets claim one layer; the blocks are not in the model.
    """
    linears = {
        name.removesuffix(".base"): module for name, module in model.named_modules() if isinstance(module, nn.Linear)
    }  # a layer that is adapted already keeps its name
    candidates = {name: linear for name, linear in linears.items() if _in_blocks(name, config.blocks)}
    if config.blocks:
        last = max((block_of(name) for name in linears if block_of(name) is not None), default=-1)
        if config.blocks[1] > last + 1:
            raise ValueError(f"blocks {config.blocks} reach beyond the model's {last + 1}")
    chosen: dict[str, Target] = {}
    for target in config.targets:
        suffix, parts = split_target(target)
        matches = [name for name in candidates if name == suffix or name.endswith("." + suffix)]
        if not matches:
            blocks = config.blocks
            where = f"linear layer of blocks {blocks[0]} to {blocks[1] - 1}" if blocks else "linear layer of the model"
            known = sorted({".".join(name.split(".")[-2:]) for name in candidates})
            raise ValueError(f"target {target!r} matches no {where}: there are {', '.join(known)}")
        for name in matches:
            if parts and (not name.endswith(FUSED) or linears[name].out_features % 3):
                raise ValueError(f"target {target!r} names parts of a fused projection, and {name} is none")
            if name in chosen and chosen[name].parts != parts:
                raise ValueError(f"targets {', '.join(map(repr, config.targets))} claim {name} twice")
            chosen[name] = Target(linears[name], parts)
    return {name: chosen[name] for name in linears if name in chosen}


def split_target(target: str) -> tuple[str, str]:
    """Split "attn.qkv[qv]" into ("attn.qkv", "qv"), and "attn.proj" into ("attn.proj", "")."""
    suffix, _, parts = target.partition("[")
    return suffix, parts.removesuffix("]")


def block_of(name: str) -> int | None:
    """The number of the transformer block that a dotted name lies in, or None."""
    found = re.search(r"(?:^|\.)blocks\.(\d+)\.", name)
    return int(found[1]) if found else None


def adapter_shapes(target: Target, config: LoRAConfig) -> tuple[tuple[int, int], tuple[int, int]]:
    """The shapes of lora_A and lora_B on a target.

    With d = out / 3 and P parts: A is (rank, in), B (P d, rank), where the parts share one A; with one each
    A is (P rank, in), their A's stacked. A whole layer is one part of d = out.
    """
    linear, parts = target
    rows = linear.out_features * len(parts) // 3 if parts else linear.out_features
    stacked = 1 if config.shared_A or not parts else len(parts)
    return (stacked * config.rank, linear.in_features), (rows, config.rank)


def adapter_size(target: Target, config: LoRAConfig) -> int:
    """How many numbers an adapter on a target trains."""
    (rows_A, columns_A), (rows_B, columns_B) = adapter_shapes(target, config)
    return rows_A * columns_A + rows_B * columns_B + config.bias * rows_B


def _in_blocks(name: str, blocks: tuple[int, int] | None) -> bool:
    block = block_of(name)
    return blocks is None or (block is not None and blocks[0] <= block < blocks[1])


def lora_layers(model: nn.Module) -> dict[str, LoRALinear]:
    """The model's active LoRA layers by name; empty if there are none, or all are merged."""
    return {name: module for name, module in model.named_modules() if isinstance(module, LoRALinear)}


def count_lora_parameters(model: nn.Module, config: LoRAConfig) -> int:
    """Predict, from shapes alone, how many parameters `add_lora(model, config)` will train.

    rank * (in + out) for every targeted layer, `out` more with a bias, and all of `modules_to_save`. Of a fused
    projection with P of its three parts of d rows: rank * (in + P d) where they share one A, P * rank * (in + d)
    with one each, and P d more with a bias.
    """
    targets = find_targets(model, config)
    count = sum(adapter_size(target, config) for target in targets.values())
    saved = {p for module in _saved_modules(model, config, targets) for p in module.parameters()}  # each counts once
    return count + sum(p.numel() for p in saved)


def add_lora(model: nn.Module, config: LoRAConfig) -> nn.Module:
    """Freeze `model`, put an adapter on every targeted linear layer, and unfreeze `modules_to_save`.

    Raises:
        ValueError: LoRA is already there, a target or a module to save matches nothing, or a module to save holds
            a target. Nothing is changed then.
    """
    if lora_layers(model) or _merged_layers(model):
        raise ValueError("the model has LoRA already: call remove_lora(model) first")
    targets = find_targets(model, config)
    saved = _saved_modules(model, config, targets)
    call_projections(model).requires_grad_(False)
    for name, (linear, parts) in targets.items():
        replace_module(model, name, LoRALinear(linear, config, parts).train(linear.training))
    for module in saved:
        module.requires_grad_(True)
    return model


def call_projections(model: nn.Module) -> nn.Module:
    """Let every attention call its `qkv` as a layer, in place: with a bias of its own, EVA's reads only its weight."""
    for module in model.modules():
        if hasattr(module, "qkv_bias_separate"):
            module.qkv_bias_separate = True
    return model


def merge_lora(model: nn.Module) -> nn.Module:
    """Replace every LoRA layer by one plain linear layer: same outputs, no extra cost, the original key names.

    The adapters are kept aside, out of `state_dict`, so that `unmerge_lora` gives them back unchanged.

    Raises ValueError where there is nothing to merge, or within `adapters_disabled`.
    """
    layers = _require_layers(model)
    if not all(layer.enabled for layer in layers.values()):
        raise ValueError("the adapters are switched off: merge them outside of adapters_disabled")
    for name, layer in layers.items():
        linear = layer.merged()
        linear.unmerged = (layer,)  # a tuple hides the module from parameters() and state_dict()
        replace_module(model, name, linear)
    return model


def unmerge_lora(model: nn.Module) -> nn.Module:
    """Undo `merge_lora` exactly: the frozen weights and the adapters are the very tensors they were.

    Raises ValueError where nothing is merged.
    """
    merged = _merged_layers(model)
    if not merged:
        raise ValueError("the model has no merged LoRA: call merge_lora(model) first")
    for name, linear in merged.items():
        replace_module(model, name, linear.unmerged[0].to(linear.weight).train(linear.training))
    return model


def remove_lora(model: nn.Module) -> nn.Module:
    """Take the adapters off, merged or not, and leave the base layers as they were before `add_lora`.

    What `modules_to_save` learned stays, and every parameter is trainable again, as in a fresh model.

    Raises:
        ValueError: the model has no LoRA.
    """
    if _merged_layers(model):
        unmerge_lora(model)
    for name, layer in _require_layers(model).items():
        replace_module(model, name, layer.base)
    model.__dict__.pop(SWAPPED, None)
    return model.requires_grad_(True)


@contextmanager
def adapters_disabled(model: nn.Module) -> Iterator[nn.Module]:
    """Within the block every LoRA layer is its base layer; afterwards each is as it was, also after an exception.

    What `modules_to_save` learned (the head, say) stays in place.

    Raises:
        ValueError: the model has no LoRA, or it is merged and cannot be switched off.
    """
    if _merged_layers(model):
        raise ValueError("merged adapters cannot be switched off: call unmerge_lora(model) first")
    layers = _require_layers(model).values()
    before = [layer.enabled for layer in layers]
    try:
        for layer in layers:
            layer.enabled = False
        yield model
    finally:
        for layer, enabled in zip(layers, before, strict=True):
            layer.enabled = enabled


def replace_module(model: nn.Module, name: str, module: nn.Module) -> None:
    """Put `module` where the dotted `name` is."""
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, module)


def final_norm(model: nn.Module) -> str:
    """The name of the norm after the blocks: "norm", or "fc_norm" where it comes after pooling."""
    after_pooling = any(True for _ in getattr(model, "fc_norm", nn.Identity()).parameters())
    return "fc_norm" if after_pooling else "norm"


def saved_names(model: nn.Module, config: LoRAConfig) -> tuple[str, ...]:
    """The names of `modules_to_save` in this model: its final norm is "norm" in the settings, wherever it stands."""
    return tuple(final_norm(model) if name == "norm" else name for name in config.modules_to_save)


def _saved_modules(model: nn.Module, config: LoRAConfig, targets: dict[str, Target]) -> list[nn.Module]:
    for name in saved_names(model, config):
        for target in targets:
            if f"{target}.".startswith(f"{name}."):  # its base would be frozen and trained at once
                raise ValueError(f"module to save {name!r} holds the target {target!r}: a layer is either of them")
    return [_saved_module(model, name) for name in saved_names(model, config)]


def _saved_module(model: nn.Module, name: str) -> nn.Module:
    try:
        return model.get_submodule(name)
    except AttributeError:
        known = ", ".join(child for child, module in model.named_children() if any(True for _ in module.parameters()))
        raise ValueError(f"module to save {name!r} is not in the model: at its top are {known}") from None


def _require_layers(model: nn.Module) -> dict[str, LoRALinear]:
    layers = lora_layers(model)
    if not layers:
        raise ValueError("the model has no active LoRA layer: call add_lora(model, config) first")
    return layers


def _merged_layers(model: nn.Module) -> dict[str, nn.Linear]:
    return {name: module for name, module in model.named_modules() if hasattr(module, "unmerged")}
