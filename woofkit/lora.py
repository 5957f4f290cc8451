"""Low-Rank Adaptation (Hu et al. 2022, https://arxiv.org/abs/2106.09685) of a model's linear layers.

A frozen weight W (out x in) is left as it is and learns an update of low rank beside it:

    h = W x + scaling * B A x        A: (rank, in), B: (out, rank), scaling = alpha / rank

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


class LoRALinear(nn.Module):
    """A linear layer with a trainable low-rank update: `base(x) + scaling * (B A x + lora_bias)`.

    Args:
        base: the layer as it was; it is frozen, and neither copied nor changed.
        config: rank, alpha, dropout (on the adapter's input), bias and start of A.

    Shapes: x (..., in) -> (..., out); lora_A (rank, in); lora_B (out, rank); lora_bias (out,) or None.
    """

    def __init__(self, base: nn.Linear, config: LoRAConfig):
        super().__init__()
        self.base = base.requires_grad_(False)
        self.scaling = config.scaling
        self.enabled = True
        like = {"device": base.weight.device, "dtype": base.weight.dtype}
        self.lora_A = nn.Parameter(torch.empty(config.rank, base.in_features, **like))
        self.lora_B = nn.Parameter(torch.zeros(base.out_features, config.rank, **like))
        self.lora_bias = nn.Parameter(torch.zeros(base.out_features, **like)) if config.bias else None
        self.dropout = nn.Dropout(config.dropout) if config.dropout else nn.Identity()
        if config.init_std is None:
            nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))
        else:
            nn.init.normal_(self.lora_A, std=config.init_std)

    def forward(self, x: Tensor) -> Tensor:
        if not self.enabled:
            return self.base(x)
        low_rank = F.linear(self.dropout(x), self.lora_A)  # (..., rank)
        # scaled here, where there are `rank` numbers a token, and not in the output, where there are `out`
        return self.base(x) + F.linear(low_rank * self.scaling, self.lora_B, self.delta_bias())

    def delta_weight(self) -> Tensor:
        """The update of the weight, scaling * B A, of shape (out, in)."""
        return self.scaling * self.lora_B @ self.lora_A

    def delta_bias(self) -> Tensor | None:
        """The update of the bias, of shape (out,), or None without a trained bias."""
        return None if self.lora_bias is None else self.scaling * self.lora_bias

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
        return f"rank={self.lora_A.shape[0]}, scaling={self.scaling:g}, bias={self.lora_bias is not None}"


def lora_layers(model: nn.Module) -> dict[str, LoRALinear]:
    """The model's active LoRA layers by name; empty if there are none, or all are merged."""
    return {name: module for name, module in model.named_modules() if isinstance(module, LoRALinear)}


def target_layers(model: nn.Module, targets: tuple[str, ...]) -> dict[str, nn.Linear]:
    """The linear layers whose dotted name ends in one of `targets`, whole parts only, in the model's order.

    Raises:
        ValueError: a target matches no linear layer; the message lists the suffixes that would.
    """
    linears = {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    for target in targets:
        if not any(_is_suffix(target, name) for name in linears):
            known = sorted({".".join(name.split(".")[-2:]) for name in linears})
            raise ValueError(f"target {target!r} matches no linear layer of the model: there are {', '.join(known)}")
    return {name: linear for name, linear in linears.items() if any(_is_suffix(t, name) for t in targets)}


def count_lora_parameters(model: nn.Module, config: LoRAConfig) -> int:
    """Predict, from shapes alone, how many parameters `add_lora(model, config)` will train.

    rank * (in + out) for every targeted layer, `out` more with a bias, and all of `modules_to_save`.
    """
    layers = target_layers(model, config.targets)
    count = 0
    for layer in layers.values():
        count += config.rank * (layer.in_features + layer.out_features) + config.bias * layer.out_features
    saved = {p for module in _saved_modules(model, config, layers) for p in module.parameters()}  # each counts once
    return count + sum(p.numel() for p in saved)


def add_lora(model: nn.Module, config: LoRAConfig) -> nn.Module:
    """Freeze `model`, put an adapter on every targeted linear layer, and unfreeze `modules_to_save`.

    Raises:
        ValueError: LoRA is already there, a target or a module to save matches nothing, or a module to save holds
            a target. Nothing is changed then.
    """
    if lora_layers(model) or _merged_layers(model):
        raise ValueError("the model has LoRA already: call remove_lora(model) first")
    layers = target_layers(model, config.targets)
    saved = _saved_modules(model, config, layers)
    model.requires_grad_(False)
    for name, linear in layers.items():
        _replace(model, name, LoRALinear(linear, config).train(linear.training))
    for module in saved:
        module.requires_grad_(True)
    return model


def merge_lora(model: nn.Module) -> nn.Module:
    """Replace every LoRA layer by one plain linear layer: same outputs, no extra cost, the original key names.

    The adapters are kept aside, out of `state_dict`, so that `unmerge_lora` gives them back unchanged.

    Raises:
        ValueError: there is nothing to merge.
    """
    for name, layer in _require_layers(model).items():
        linear = layer.merged()
        linear.unmerged = (layer,)  # a tuple hides the module from parameters() and state_dict()
        _replace(model, name, linear)
    return model


def unmerge_lora(model: nn.Module) -> nn.Module:
    """Undo `merge_lora` exactly: the frozen weights and the adapters are the very tensors they were.

    Raises:
        ValueError: nothing is merged.
    """
    merged = _merged_layers(model)
    if not merged:
        raise ValueError("the model has no merged LoRA: call merge_lora(model) first")
    for name, linear in merged.items():
        _replace(model, name, linear.unmerged[0].to(linear.weight.device).train(linear.training))
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
        _replace(model, name, layer.base)
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


def _is_suffix(target: str, name: str) -> bool:
    return name == target or name.endswith("." + target)


def _replace(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, module)


def _saved_modules(model: nn.Module, config: LoRAConfig, layers: dict[str, nn.Linear]) -> list[nn.Module]:
    for name in config.modules_to_save:
        for target in layers:
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
