"""Low-Rank Adaptation (Hu et al. 2022, https://arxiv.org/abs/2106.09685) of a model's linear layers.

The verbs work in place on a model that knows nothing of them, and return it:

    add_lora -> train -> merge_lora <-> unmerge_lora -> remove_lora;  with adapters_disabled(model): ...

The layer itself, `LoRALinear`, is in lora_linear.py.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from woofkit.config import LoRAConfig
from woofkit.lora_linear import LoRALinear
from woofkit.targets import Target, adapter_size, find_targets

__all__ = ["LoRALinear", "add_lora", "adapters_disabled", "count_lora_parameters", "lora_layers", "merge_lora",
           "remove_lora", "replace_module", "unmerge_lora"]  # fmt: skip

SWAPPED = "_swapped"  # where a model remembers, by name, the adapter's module and the base's that it stands for


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
