"""Adapter files: what LoRA trained, the settings it was made with, and which base it belongs to.

The file holds every trained tensor (lora_A, lora_B, lora_bias and all of `modules_to_save`): LoRA matrices
without the head and norm that were trained beside them are not the model.
"""

import copy
import json
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from woofkit.config import ConfigError, LoRAConfig
from woofkit.lora import LoRALinear, lora_layers
from woofkit.models import hash_tensors, tensor_differences
from woofkit.peft_format import read_peft, write_peft
from woofkit.results import write_atomic
from woofkit.swapping import Adapter, base_in_place, swap_adapter
from woofkit.targets import adapter_shapes, find_targets

__all__ = ["Adapter", "adapter_tensors", "export_peft", "hash_base", "import_peft", "load_adapter", "read_adapter",
           "save_adapter", "swap_adapter"]  # fmt: skip

FORMAT = "woofkit-lora-1"
OWN = {"base", "lora_A", "lora_B", "lora_bias"}  # what is part of an adapted layer


def adapter_tensors(model: nn.Module, config: LoRAConfig) -> dict[str, Tensor]:
    """The tensors that make up the adapter, by name in the adapted model, whether or not they are frozen now."""
    prefixes = (*(f"{name}.lora_" for name in lora_layers(model)), *(f"{name}." for name in config.modules_to_save))
    return {name: parameter.detach() for name, parameter in model.named_parameters() if name.startswith(prefixes)}


def hash_base(model: nn.Module, config: LoRAConfig) -> str:
    """SHA-256 of the frozen weights an adapter stands on: all but `modules_to_save`, by their original names."""
    saved = tuple(name + "." for name in config.modules_to_save)
    state = {key.replace(".base.", "."): tensor for key, tensor in model.state_dict().items() if "lora_" not in key}
    return hash_tensors({key: tensor for key, tensor in state.items() if not key.startswith(saved)})


def save_adapter(model: nn.Module, config: LoRAConfig, path: str | Path) -> None:
    """Write the adapter of an unmerged LoRA model to a safetensors file.

    Raises:
        ValueError: the model has no active LoRA, or it was made with other settings than `config`.
    """
    require_made_with(model, config)
    tensors = {name: tensor.cpu().contiguous() for name, tensor in adapter_tensors(model, config).items()}
    metadata = {"format": FORMAT, "config": json.dumps(asdict(config)), "base": hash_base(model, config)}
    write_atomic(Path(path), lambda temporary: save_file(tensors, temporary, metadata))


def require_made_with(model: nn.Module, config: LoRAConfig) -> None:
    """Raise ValueError unless the model has active LoRA layers, and made with `config`."""
    layers = lora_layers(model)
    if not layers:
        raise ValueError("the model has no active LoRA to save: add it, or call unmerge_lora(model) first")
    saved = tuple(f"{name}." for name in config.modules_to_save)
    others = {name: p.requires_grad for name, p in model.named_parameters() if not OWN & {*name.split(".")}}
    lost = [name for name, trains in others.items() if trains and not name.startswith(saved)]
    if lost and not all(others.values()):  # where all train, nothing was frozen for an adapter's sake
        raise ValueError(f"{lost[0]} trains and would be lost: modules_to_save of the config to save lack it")
    targets = find_targets(model, config)
    if missing := [name for name in targets if name not in layers]:
        raise ValueError(f"{missing[0]} is a target of the config to save, and has no adapter")
    for name, layer in layers.items():
        same = (layer.rank, layer.scaling, layer.lora_bias is not None) == (config.rank, config.scaling, config.bias)
        same = same and name in targets and layer.parts == targets[name].parts
        if not same or layer.lora_A.shape != adapter_shapes(targets[name], config)[0]:
            raise ValueError(f"{name} was made with other settings than the config to save: {layer.extra_repr()}")


def read_adapter(model: nn.Module, path: str | Path) -> Adapter:
    """Read an adapter's file for `model`, its base, whether or not another adapter is swapped in.

    The model computes what it did; the layers that the adapter will stand on are frozen. A head for another
    number of classes is welcome: the file holds all of it.

    Raises:
        ConfigError: the file is damaged or of another kind, its base differs, or its tensors do not fit.
    """
    path = Path(path)
    tensors, metadata = _read_file(path)
    try:
        config, base = LoRAConfig(**json.loads(metadata["config"])), metadata["base"]
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"{path.name} does not say how its adapter was made: {error!r}") from error
    with base_in_place(model):
        found = hash_base(model, config)
        if found != base:
            raise ConfigError(
                f"{path.name} belongs to another base: its hash is {base[:12]}..., this model's {found[:12]}..."
            )
        return build_adapter(model, config, tensors, path.name)


def build_adapter(model: nn.Module, config: LoRAConfig, tensors: dict[str, Tensor], source: str) -> Adapter:
    """Make an adapter for `model` out of its tensors; `source` names them in a message.

    Raises:
        ConfigError: the tensors do not fit the model and the config.
    """
    try:
        targets = find_targets(model, config)
        saved = {name: _resized(model.get_submodule(name), tensors, name) for name in config.modules_to_save}
    except (ValueError, AttributeError) as error:  # AttributeError: torch's, for a submodule that is not there
        raise ConfigError(f"{source} does not fit the model: {error}") from error
    expected = {}
    for name, target in targets.items():
        shape_A, shape_B = adapter_shapes(target, config)
        shapes = {"lora_A": shape_A, "lora_B": shape_B} | ({"lora_bias": shape_B[:1]} if config.bias else {})
        expected |= {f"{name}.{kind}": torch.empty(shape, device="meta") for kind, shape in shapes.items()}
    for name, module in saved.items():
        expected |= {f"{name}.{key}": parameter for key, parameter in module.named_parameters()}
    if problems := tensor_differences(expected, tensors):
        raise ConfigError(f"{source} does not fit the model: {'; '.join(problems)}")
    with torch.random.fork_rng(devices=[]):  # the start of A is overwritten: reading takes nothing from chance
        modules = {name: LoRALinear(linear, config, parts) for name, (linear, parts) in targets.items()} | saved
    for name, module in modules.items():
        own = {key.removeprefix(f"{name}."): tensor for key, tensor in tensors.items() if key.startswith(f"{name}.")}
        module.load_state_dict(own, strict=False)  # names and shapes were compared above; the base stays
        module.train(model.training)
    return Adapter(config, modules)


def load_adapter(model: nn.Module, path: str | Path) -> nn.Module:
    """Put a saved adapter on `model`, the base it was trained on, in place, and return the model.

    As after `add_lora`, the adapter and its `modules_to_save` are trainable and all else is frozen.

    Raises:
        ConfigError: as `read_adapter`. The model is then as it was.
        ValueError: the model has LoRA already.
    """
    return put_on(model, read_adapter(_without_lora(model), path))


def export_peft(model: nn.Module, config: LoRAConfig, folder: str | Path) -> None:
    """Write the adapter of an unmerged LoRA model as a folder for `peft.PeftModel.from_pretrained(base, folder)`.

    Head, norm and bias go along. PEFT does not record the base: it is the caller's to keep.

    Raises:
        ValueError: as `save_adapter`.
    """
    require_made_with(model, config)
    saved = {name: tensor for name, tensor in adapter_tensors(model, config).items() if ".lora_" not in name}
    write_peft(model, config, saved, Path(folder))


def import_peft(model: nn.Module, folder: str | Path) -> LoRAConfig:
    """Put an adapter that PEFT saved on `model`, the base it was trained on, in place; return its settings.

    As after `load_adapter`, it alone is trainable. `save_adapter(model, config, path)` makes it a file of ours.

    Raises:
        ConfigError: a file is missing or damaged, the adapter does what `LoRALinear` cannot (DoRA, say), or its
            tensors do not fit the model. The model is then as it was.
        ValueError: the model has LoRA already.
    """
    config, tensors = read_peft(_without_lora(model), Path(folder))
    put_on(model, build_adapter(model, config, tensors, str(folder)))
    return config


def put_on(model: nn.Module, adapter: Adapter) -> nn.Module:
    """Swap an adapter in and leave only it trainable."""
    model.requires_grad_(False)
    swap_adapter(model, adapter)
    for name in adapter.config.modules_to_save:
        adapter.modules[name].requires_grad_(True)
    return model


def _without_lora(model: nn.Module) -> nn.Module:
    if lora_layers(model):
        raise ValueError("the model has LoRA already: call remove_lora(model) first, or swap_adapter")
    return model


def _resized(module: nn.Module, tensors: dict[str, Tensor], name: str) -> nn.Module:
    """A copy of a module to save; a linear one with as many outputs as its tensors have."""
    weight = tensors.get(f"{name}.weight")
    if isinstance(module, nn.Linear) and weight is not None and weight.ndim == 2:
        settings = {"bias": module.bias is not None, "device": module.weight.device, "dtype": module.weight.dtype}
        return nn.utils.skip_init(nn.Linear, module.in_features, len(weight), **settings)
    return copy.deepcopy(module)


def _read_file(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ConfigError(f"adapter file {path} is missing, damaged or not safetensors: {error}") from error
    if metadata.get("format") != FORMAT:
        found = metadata.get("format")
        raise ConfigError(f"{path.name} is not an adapter file: its format is {found!r}, not {FORMAT!r}")
    return tensors, metadata
