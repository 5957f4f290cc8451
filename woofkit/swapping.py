"""Adapters that change places on one base: modules are exchanged, nothing is computed.

A model that carries an adapter remembers, beside each of its modules, the module of the base that it stands for.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from torch import nn

from woofkit.config import LoRAConfig
from woofkit.lora import SWAPPED, LoRALinear, replace_module


class Adapter(NamedTuple):
    """An adapter in memory, made for one base: the modules to put in the base's place, by name."""

    config: LoRAConfig
    modules: dict[str, nn.Module]


def swap_adapter(model: nn.Module, adapter: Adapter | None) -> nn.Module:
    """Put `adapter` in the place of the one that is on, in place; None gives back the base, all of it.

    Nothing is computed and no tensor copied (but where the model has moved to another device or type since):
    modules change places. What trains is left as it is; `load_adapter` leaves only the adapter trainable.

    Raises:
        ValueError: LoRA is on that was not swapped in, and has no way back to a base; or the adapter was read for
            another model. Nothing is changed then.
    """
    originals = _originals(model)
    for name, module in model.named_modules():
        if (isinstance(module, LoRALinear) or hasattr(module, "unmerged")) and name not in originals:
            raise ValueError(f"the LoRA on {name} was not swapped in: call remove_lora(model) first")
    modules = adapter.modules if adapter else {}
    here = dict(model.named_modules()) | originals
    if any(isinstance(module, LoRALinear) and module.base is not here.get(name) for name, module in modules.items()):
        raise ValueError("the adapter was read for another model: read_adapter(model, file) makes it for this one")
    like = next(model.parameters())
    for name, module in (originals | modules).items():
        replace_module(model, name, module.to(like.device, like.dtype).train(model.training))
    model.__dict__[SWAPPED] = {name: (module, here[name]) for name, module in modules.items()}
    return model


def _originals(model: nn.Module) -> dict[str, nn.Module]:
    """The base's modules whose places are taken by an adapter that was swapped in, merged or not."""
    here = dict(model.named_modules())
    return {name: original for name, (put_in, original) in model.__dict__.get(SWAPPED, {}).items()
            if put_in in (here.get(name), *getattr(here.get(name), "unmerged", ()))}  # fmt: skip


@contextmanager
def base_in_place(model: nn.Module) -> Iterator[None]:
    """Within the block the model is its base; afterwards what was swapped in is back, also after an exception."""
    originals = _originals(model)
    before = {name: model.get_submodule(name) for name in originals}
    try:
        for name, module in originals.items():
            replace_module(model, name, module)
        yield
    finally:
        for name, module in before.items():
            replace_module(model, name, module)
