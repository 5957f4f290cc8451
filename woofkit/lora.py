"""Low-Rank Adaptation (Hu et al. 2022, https://arxiv.org/abs/2106.09685) of a model's linear layers.

A frozen weight W (out x in) is left as it is and learns an update of low rank beside it:

    h = W x + scaling * B A x        A: (rank, in), B: (out, rank), scaling = alpha / rank

In rsLoRA the scaling is alpha / sqrt(rank), so that the update keeps its size as the rank grows.

B starts at zero, so that the adapted model equals the original before its first step. The verbs work
in place on a model that knows nothing of them, and return it:

    add_lora -> train -> merge_lora <-> unmerge_lora -> remove_lora;  with adapters_disabled(model): ...
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from woofkit.config import LoRAConfig
from woofkit.targets import FUSED, Target, adapter_shapes, adapter_size, find_targets

SWAPPED = "_swapped"  # where a model remembers, by name, the adapter's module and the base's that it stands for


class LoRALinear(nn.Module):
    """A linear layer with a trainable low-rank update: `base(x) + scaling * (B A x + lora_bias)`.

    Args:
        base: the layer as it was; it is frozen, and neither copied nor changed.
        config: rank, alpha, dropout (on the adapter's input), bias and start of A.
        parts: for a fused projection of queries, keys and values: those to adapt, such as "qv". The other
            rows of the output are the base's.

    Shapes: x (..., in) -> (..., out); lora_A (rank, in); lora_B (out, rank); lora_bias (out,) or None. With parts,
    out stands for the adapted rows, and lora_A is (len(parts) * rank, in) unless they share one A.
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
        self.dropout = nn.Dropout(config.dropout) if config.dropout else nn.Identity()
        if config.init_std is None:
            nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))
        else:
            nn.init.normal_(self.lora_A, std=config.init_std)

    def forward(self, x: Tensor) -> Tensor:
        y = self.base(x)
        if not self.enabled:
            return y
        # scaled here, where a token has `rank` numbers, and not in the output
        low_rank = F.linear(self.dropout(x), self.lora_A) * self.scaling  # (..., rank)
        bias = None if self.lora_bias is None else self.scaling * self.lora_bias
        if not self.parts:
            return y + F.linear(low_rank, self.lora_B, bias)
        for rows, columns, adapted in self.pieces():
            part = F.linear(low_rank[..., columns], self.lora_B[adapted])
            y[..., rows] += part if bias is None else part + bias[adapted]
        return y

    def delta_weight(self) -> Tensor:
        """The update of the weight, scaling * B A, of shape (out, in); zero in rows that are not adapted."""
        delta = self.base.weight.new_zeros(self.base.weight.shape)
        for rows, columns, adapted in self.pieces():
            delta[rows] = self.scaling * self.lora_B[adapted] @ self.lora_A[columns]
        return delta

    def delta_bias(self) -> Tensor | None:
        """The update of the bias, of shape (out,), or None without a trained bias."""
        if self.lora_bias is None:
            return None
        delta = self.lora_bias.new_zeros(self.base.out_features)
        for rows, _, adapted in self.pieces():
            delta[rows] = self.scaling * self.lora_bias[adapted]
        return delta

    def pieces(self) -> list[tuple[slice, slice, slice]]:
        """For each part: its rows of the output, its rows of lora_A, its rows of lora_B and lora_bias."""
        if not self.parts:
            return [(slice(None), slice(None), slice(None))]
        d, one_each = self.base.out_features // 3, len(self.lora_A) > self.rank
        starts = [(d * FUSED.index(part), self.rank * i * one_each, d * i) for i, part in enumerate(self.parts)]
        return [(slice(q, q + d), slice(a, a + self.rank), slice(b, b + d)) for q, a, b in starts]

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """A plain linear layer that computes the same: weight W + scaling * B A, bias b + scaling * lora_bias."""
        biases = [bias for bias in (self.base.bias, self.delta_bias()) if bias is not None]
        weight = self.base.weight + self.delta_weight()
        out_features, in_features = weight.shape
        like = {"device": weight.device, "dtype": weight.dtype}
        linear = nn.utils.skip_init(nn.Linear, in_features, out_features, bias=bool(biases), **like)
        linear.weight.copy_(weight)
        if biases:
            linear.bias.copy_(sum(biases))
        return linear.requires_grad_(False).train(self.training)

    def extra_repr(self) -> str:
        settings = f"rank={self.rank}, scaling={self.scaling:g}, bias={self.lora_bias is not None}"
        return settings + (f", parts={self.parts}" if self.parts else "")


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
    model.requires_grad_(False)
    for name, (linear, parts) in targets.items():
        replace_module(model, name, LoRALinear(linear, config, parts).train(linear.training))
    for module in saved:
        module.requires_grad_(True)
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


def _saved_modules(model: nn.Module, config: LoRAConfig, targets: dict[str, Target]) -> list[nn.Module]:
    for name in config.modules_to_save:
        for target in targets:
            if f"{target}.".startswith(f"{name}."):  # its base would be frozen and trained at once
                raise ValueError(f"module to save {name!r} holds the target {target!r}: a layer is either of them")
    return [_saved_module(model, name) for name in config.modules_to_save]


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
