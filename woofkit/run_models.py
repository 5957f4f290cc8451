"""The model of a finished run: written into its folder, and built again from it."""

import json
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from woofkit.adapters import load_adapter, save_adapter
from woofkit.config import ConfigError, TrainConfig
from woofkit.methods import build_for, new_model
from woofkit.models import hash_tensors, tensor_differences
from woofkit.results import is_finished, read_config, write_atomic

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
    config = TrainConfig(**{**read_config(run), "data_dir": ""})  # its images may be gone
    if config.method == "lora":
        return load_adapter(new_model(config), run / CHECKPOINTS["lora"]).eval()
    model = build_for(config)
    path = run / CHECKPOINTS.get(config.method, TRAINED)
    if path.name == TRAINED:
        _require_base(model, run)
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ConfigError(f"{path} is missing or damaged: {error}") from error
    if problems := tensor_differences(_state_to_save(model, config.method), tensors):
        raise ConfigError(f"the weights in {run} do not fit their settings: {'; '.join(problems)}")
    model.load_state_dict(tensors, strict=False)
    return model.eval()


def _require_base(model: nn.Module, run: Path) -> None:
    expected = json.loads((run / "config.json").read_text())["identity"]["initial_weights"]
    found = hash_tensors(model.state_dict())
    if found != expected:
        raise ConfigError(
            f"{run.name} started from other weights than these: hash {expected[:12]}..., here {found[:12]}..."
        )


def _state_to_save(model: nn.Module, method: str) -> dict[str, Tensor]:
    """What a checkpoint holds: the whole model, or, where only some of it trained, that."""
    if method in CHECKPOINTS:
        return model.state_dict()
    return {name: parameter.detach() for name, parameter in model.named_parameters() if parameter.requires_grad}
