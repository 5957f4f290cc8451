"""Adapters and checkpoints: saved, loaded, and exchanged on one base.

An adapter file holds every trained tensor (lora_A, lora_B, lora_bias and all of `modules_to_save`), the settings it
was made with, and the hash of the base it belongs to: LoRA matrices without the head and norm that were trained
beside them are not the model.
"""

import copy
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from woofkit.config import ConfigError, LoRAConfig, TrainConfig
from woofkit.files import write_atomic
from woofkit.lora import SWAPPED, LoRALinear, adapter_shapes, find_targets, lora_layers, replace_module, saved_names
from woofkit.models import build_for, new_model
from woofkit.results import is_finished, read_classes, read_config, read_record, whole_file
from woofkit.storage.weights import (
    hash_tensors,
    read_safetensors,
    require_numbers,
    safetensors_bytes,
    tensor_differences,
)


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
    return {
        name: original
        for name, (put_in, original) in model.__dict__.get(SWAPPED, {}).items()
        if put_in in (here.get(name), *getattr(here.get(name), "unmerged", ()))
    }


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


FORMAT = "woofkit-lora-1"
OWN = {"base", "lora_A", "lora_B", "lora_bias"}  # what is part of an adapted layer


def adapter_tensors(model: nn.Module, config: LoRAConfig) -> dict[str, Tensor]:
    """The tensors that make up the adapter, by name in the adapted model, whether or not they are frozen now."""
    prefixes = (*(f"{name}.lora_" for name in lora_layers(model)), *(f"{name}." for name in saved_names(model, config)))
    return {name: parameter.detach() for name, parameter in model.named_parameters() if name.startswith(prefixes)}


def hash_base(model: nn.Module, config: LoRAConfig) -> str:
    """SHA-256 of the frozen weights an adapter stands on: all but `modules_to_save`, by their original names."""
    saved = tuple(name + "." for name in saved_names(model, config))
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
    content = safetensors_bytes(tensors, metadata)
    write_atomic(Path(path), lambda temporary: temporary.write_bytes(content))


def require_made_with(model: nn.Module, config: LoRAConfig) -> None:
    """Raise ValueError unless the model has active LoRA layers, and made with `config`."""
    layers = lora_layers(model)
    if not layers:
        raise ValueError("the model has no active LoRA to save: add it, or call unmerge_lora(model) first")
    saved = tuple(f"{name}." for name in saved_names(model, config))
    others = {name: p.requires_grad for name, p in model.named_parameters() if not OWN & {*name.split(".")}}
    lost = [name for name, trains in others.items() if trains and not name.startswith(saved)]
    if lost and not all(others.values()):  # where all train, nothing was frozen for an adapter's sake
        raise ValueError(f"{lost[0]} trains and would be lost: modules_to_save of the config to save lack it")
    targets = find_targets(model, config)
    if missing := [name for name in targets if name not in layers]:
        raise ValueError(f"{missing[0]} is a target of the config to save, and has no adapter")
    for name, layer in layers.items():
        made = (layer.rank, layer.scaling, layer.lora_bias is not None, layer.parts, layer.lora_A.shape)
        wanted = (config.rank, config.scaling, config.bias)
        if name not in targets or made != (*wanted, targets[name].parts, adapter_shapes(targets[name], config)[0]):
            raise ValueError(f"{name} was made with other settings than the config to save: {layer.extra_repr()}")


def read_adapter(model: nn.Module, path: str | Path) -> Adapter:
    """Read an adapter's file for `model`, its base, whether or not another adapter is swapped in.

    The model computes what it did; the layers that the adapter will stand on are frozen. A head for another
    number of classes is welcome: the file holds all of it.

    Raises:
        ConfigError: the file is damaged or of another kind, its base differs, or its tensors do not fit.
    """
    path = Path(path)
    if hasattr(model, "_orig_mod"):
        raise ConfigError(f"this model is compiled: load {path.name} before torch.compile")
    try:
        tensors, metadata = read_safetensors(path)
    except (SafetensorError, OSError) as error:
        raise ConfigError(f"adapter file {path} is missing, damaged or not safetensors: {error}") from error
    if (found := metadata.get("format")) != FORMAT:
        raise ConfigError(f"{path.name} is not an adapter file: its format is {found!r}, not {FORMAT!r}")
    try:
        config, base = LoRAConfig(**json.loads(metadata["config"])), metadata["base"]
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path.name} does not say how its adapter was made: {error!r}") from error
    with base_in_place(model):
        if (found := hash_base(model, config)) != base:
            _require_format(model, tensors, path.name)
            raise ConfigError(
                f"{path.name} belongs to another base: its hash is {base[:12]}..., this model's {found[:12]}..."
            )
        return build_adapter(model, config, tensors, path.name)


def _require_format(model: nn.Module, tensors: dict[str, Tensor], source: str) -> None:
    """Raise ConfigError where a base is another because its numbers are of another format than the adapter's."""
    here = next(model.parameters()).dtype
    made = next((tensor.dtype for name, tensor in tensors.items() if name.endswith(".lora_A")), here)
    if made != here:
        here, made = (str(dtype).removeprefix("torch.") for dtype in (here, made))
        raise ConfigError(
            f"this model is {here}, the base of {source} was {made}: load the adapter first, then convert"
        )


def build_adapter(model: nn.Module, config: LoRAConfig, tensors: dict[str, Tensor], source: str) -> Adapter:
    """Make an adapter for `model` out of its tensors; `source` names them in a message.

    Raises:
        ConfigError: the tensors do not fit the model and the config, or one holds nan.
    """
    require_numbers(tensors, source)
    try:
        targets = find_targets(model, config)
        saved = {name: _resized(model.get_submodule(name), tensors, name) for name in saved_names(model, config)}
    except (ValueError, AttributeError) as error:  # AttributeError: torch's, for a submodule that is not there
        raise ConfigError(f"{source} does not fit the model: {error}") from error
    expected = {f"{name}.{key}": tensor for name, module in saved.items() for key, tensor in module.named_parameters()}
    for name, target in targets.items():
        shape_A, shape_B = adapter_shapes(target, config)
        shapes = {"lora_A": shape_A, "lora_B": shape_B} | ({"lora_bias": shape_B[:1]} if config.bias else {})
        expected |= {f"{name}.{kind}": torch.empty(shape, device="meta") for kind, shape in shapes.items()}
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
    from woofkit.storage.peft import write_peft

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
    from woofkit.storage.peft import read_peft

    config, tensors = read_peft(_without_lora(model), Path(folder))
    put_on(model, build_adapter(model, config, tensors, str(folder)))
    return config


def put_on(model: nn.Module, adapter: Adapter) -> nn.Module:
    """Swap an adapter in and leave only it trainable."""
    model.requires_grad_(False)
    swap_adapter(model, adapter)
    for name in saved_names(model, adapter.config):
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


# What a finished run keeps of its model; where a method trained a few parameters of it, TRAINED holds those.
CHECKPOINTS = {"full": "model.safetensors", "zero-shot": "model.safetensors", "lora": "adapter.safetensors"}
TRAINED = "trained.safetensors"


def save_run_model(run: Path, model: nn.Module, config: TrainConfig) -> Path:
    """Write what the run keeps of its model, which is on the CPU, into its folder; return the file."""
    file = run / CHECKPOINTS.get(config.method, TRAINED)
    if config.method == "lora":
        save_adapter(model, config.lora, file)
    else:
        write_atomic(file, lambda temporary: save_file(_state_to_save(model, config.method), temporary))
    return file


def load_run_model(run: Path) -> nn.Module:
    """The model of a finished run, in eval mode; LoRA's with its adapters on and unmerged.

    Raises:
        ConfigError: the run is not finished, its weights are damaged or do not fit, or the weights that it started
            from are no longer where they were.
    """
    if not is_finished(run):
        raise ConfigError(f"run {run} is not finished: run_training with the same settings finishes it")
    settings, classes = read_config(run), read_classes(run)
    anywhere = str(run) if settings["dataset"] == "folder" else ""  # its images may be gone
    config = TrainConfig(**settings | {"data_dir": anywhere})
    if config.method == "lora":
        return load_adapter(new_model(config, classes), whole_file(run, CHECKPOINTS["lora"])).eval()
    model = build_for(config, classes)
    path = whole_file(run, CHECKPOINTS.get(config.method, TRAINED))
    if path.name == TRAINED:
        expected = read_record(run)["identity"]["initial_weights"]
        if (found := hash_tensors(model.state_dict())) != expected:
            raise ConfigError(
                f"{run.name} started from other weights than these: hash {expected[:12]}..., here {found[:12]}..."
            )
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ConfigError(f"{path} is missing or damaged: {error}") from error
    if problems := tensor_differences(_state_to_save(model, config.method), tensors):
        raise ConfigError(f"the weights in {run} do not fit their settings: {'; '.join(problems)}")
    model.load_state_dict(tensors, strict=False)
    return model.eval()


def _state_to_save(model: nn.Module, method: str) -> dict[str, Tensor]:
    """What a checkpoint holds: the whole model, or, where only some of it trained, that."""
    if method in CHECKPOINTS:
        return model.state_dict()
    return {name: parameter.detach() for name, parameter in model.named_parameters() if parameter.requires_grad}
