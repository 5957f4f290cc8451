"""Adapter files: what LoRA trained, the settings it was made with, and which base it belongs to.

The file holds every trained tensor (lora_A, lora_B, lora_bias and all of `modules_to_save`): LoRA matrices
without the head and norm that were trained beside them are not the model.
"""

import json
from dataclasses import asdict
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from woofkit.config import ConfigError, LoRAConfig
from woofkit.lora import add_lora, lora_layers, remove_lora
from woofkit.models import hash_tensors, tensor_differences
from woofkit.results import write_atomic

FORMAT = "woofkit-lora-1"


def adapter_tensors(model: nn.Module, config: LoRAConfig) -> dict[str, Tensor]:
    """The tensors that make up the adapter, by name in the adapted model, whether or not they are frozen now."""
    prefixes = (*(f"{name}.lora_" for name in lora_layers(model)), *(f"{name}." for name in config.modules_to_save))
    return {name: parameter.detach() for name, parameter in model.named_parameters() if name.startswith(prefixes)}


def hash_base(model: nn.Module, config: LoRAConfig) -> str:
    """SHA-256 of the frozen weights an adapter stands on: all but `modules_to_save`, by their original names."""
    saved = tuple(name + "." for name in config.modules_to_save)
    state = {key.replace(".base.", "."): tensor for key, tensor in model.state_dict().items() if "lora_" not in key}
    return hash_tensors({key: tensor for key, tensor in state.items() if not key.startswith(saved)})


def save_adapter(model: nn.Module, config: LoRAConfig, path: Path) -> None:
    """Write the adapter of an unmerged LoRA model to a safetensors file.

    Raises:
        ValueError: the model has no active LoRA, or it was made with other settings than `config`.
    """
    layers = lora_layers(model)
    if not layers:
        raise ValueError("the model has no active LoRA to save: add it, or call unmerge_lora(model) first")
    for name, layer in layers.items():
        if (layer.lora_A.shape[0], layer.scaling, layer.lora_bias is not None) != (
            config.rank, config.scaling, config.bias,
        ):  # fmt: skip
            raise ValueError(f"{name} was made with other settings than the config to save: {layer.extra_repr()}")
    tensors = {name: tensor.cpu().contiguous() for name, tensor in adapter_tensors(model, config).items()}
    metadata = {"format": FORMAT, "config": json.dumps(asdict(config)), "base": hash_base(model, config)}
    write_atomic(path, lambda temporary: save_file(tensors, temporary, metadata))


def load_adapter(model: nn.Module, path: Path) -> nn.Module:
    """Put a saved adapter on `model`, the base it was trained on, in place, and return the model.

    Raises:
        ConfigError: the file is damaged or of another kind, its base differs, or its tensors do not fit.
            The model is then as it was.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ConfigError(f"adapter file {path} is missing, damaged or not safetensors: {error}") from error
    if metadata.get("format") != FORMAT:
        found = metadata.get("format")
        raise ConfigError(f"{path.name} is not an adapter file: its format is {found!r}, not {FORMAT!r}")
    try:
        config, base = LoRAConfig(**json.loads(metadata["config"])), metadata["base"]
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"{path.name} does not say how its adapter was made: {error!r}") from error
    found = hash_base(model, config)
    if found != base:
        raise ConfigError(
            f"{path.name} belongs to another base: its hash is {base[:12]}..., this model's {found[:12]}..."
        )
    trainable = [parameter.requires_grad for parameter in model.parameters()]
    add_lora(model, config)
    if problems := tensor_differences(adapter_tensors(model, config), tensors):
        for parameter, before in zip(remove_lora(model).parameters(), trainable, strict=True):
            parameter.requires_grad_(before)
        raise ConfigError(f"{path.name} does not fit the model: {'; '.join(problems)}")
    model.load_state_dict(tensors, strict=False)  # names and shapes were compared above; the base stays
    return model
