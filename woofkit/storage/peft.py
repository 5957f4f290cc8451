"""Adapters as folders of Hugging Face PEFT: adapter_config.json and adapter_model.safetensors.

PEFT knows one A and one B per layer, so an adapter on parts of a fused projection is written as one on all of it:
B gets rows of zeros where nothing is adapted, and where each part has its own A, the A's are stacked and B becomes
block-diagonal. The update, scaling * B A, is the same matrix. Checked against PEFT 0.21.
"""

import json
import math
from contextlib import suppress
from pathlib import Path
from typing import Any

import regex
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from woofkit.config import ConfigError, LoRAConfig
from woofkit.files import write_atomic
from woofkit.lora import find_targets, lora_layers, saved_names
from woofkit.storage.weights import FLOATS, require_numbers

PREFIX = "base_model.model."
CONFIG_FILE, WEIGHTS_FILE = "adapter_config.json", "adapter_model.safetensors"
PATTERN_SECONDS = 0.5  # for one pattern on one name; those that people write take microseconds
REFUSED = {  # settings of PEFT that change what an adapter computes and that LoRALinear does not have
    "use_dora": (False, None),
    "bias": ("none", None),
    "fan_in_fan_out": (False, None),
    "use_qalora": (False, None),
    "layer_replication": (None,),
    "target_parameters": (None, []),
    "trainable_token_indices": (None,),
    "use_bdlora": (False, None),
    "alora_invocation_tokens": (None,),
    "arrow_config": (None,),
    "kasa_config": (None,),
    "velora_config": (None,),
    "monteclora_config": (None,),
    # Other starts ("pissa", "olora", ...) rewrite the base when PEFT loads them.
    "init_lora_weights": (True, False, None, "gaussian", "orthogonal", "eva"),
}


def write_peft(model: nn.Module, config: LoRAConfig, saved: dict[str, Tensor], folder: Path) -> None:
    """Write the adapter on `model`, with the tensors of its modules to save, for `PeftModel.from_pretrained`."""
    tensors = {PREFIX + name: tensor for name, tensor in saved.items()}
    ranks, alphas = {}, {}
    for name, layer in lora_layers(model).items():
        A, B, bias = layer.matrices()
        tensors |= {f"{PREFIX}{name}.lora_A.weight": A, f"{PREFIX}{name}.lora_B.weight": B}
        if bias is not None:
            tensors[f"{PREFIX}{name}.lora_B.bias"] = bias
        if len(A) != config.rank:
            ranks[name], alphas[name] = len(A), config.scaling * _divisor(len(A), config.rslora)
    settings = {
        "peft_type": "LORA",
        "task_type": None,
        "base_model_name_or_path": None,
        "inference_mode": True,
        "r": config.rank,
        "lora_alpha": config.alpha,
        "use_rslora": config.rslora,
        "lora_dropout": config.dropout,
        "target_modules": list(lora_layers(model)),
        "modules_to_save": list(saved_names(model, config)) or None,
        "bias": "none",
        "lora_bias": config.bias,
        "fan_in_fan_out": False,
        "init_lora_weights": True,
        "rank_pattern": ranks,
        "alpha_pattern": alphas,
    }
    tensors = {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / WEIGHTS_FILE, lambda path: save_file(tensors, path, {"format": "pt"}))
    write_atomic(folder / CONFIG_FILE, lambda path: path.write_text(json.dumps(settings, indent=2) + "\n"))


def read_peft(model: nn.Module, folder: Path) -> tuple[LoRAConfig, dict[str, Tensor]]:
    """Read a PEFT folder as the settings and the tensors, by woofkit's names, of an adapter for `model`.

    Layers of a lower rank than the highest are filled up with zeros, and another scaling goes into B: the updates
    are the same.

    Raises:
        ConfigError: a file is missing or damaged, or the adapter does what LoRALinear cannot; the message names it.
    """
    settings, tensors = _read_settings(folder / CONFIG_FILE), _read_weights(folder / WEIGHTS_FILE)
    _require_linear(model, tensors)
    ranks = _ranks(tensors, folder / WEIGHTS_FILE)
    rank, r, alpha = max(ranks.values()), settings["r"], settings["lora_alpha"]
    rslora = bool(settings.get("use_rslora"))
    saved = settings.get("modules_to_save") or ()
    config = LoRAConfig(
        rank=rank,
        alpha=alpha if rank == r else alpha / _divisor(r, rslora) * _divisor(rank, rslora),
        targets=_targets(model, settings, sorted(ranks)),
        bias=bool(settings.get("lora_bias")),
        rslora=rslora,
        dropout=float(settings.get("lora_dropout") or 0),
        modules_to_save=tuple(name for name in saved if any(key.startswith(f"{name}.") for key in tensors)),
    )
    renamed = {}
    for key, tensor in tensors.items():
        name, _, kind = key.partition(".lora_")
        if name in ranks:
            alpha_here = _pattern(settings.get("alpha_pattern"), name, alpha)
            factor = alpha_here / _divisor(ranks[name], rslora) / config.scaling
        if kind == "A.weight":
            key, tensor = f"{name}.lora_A", F.pad(tensor, (0, 0, 0, rank - ranks[name]))
        elif kind == "B.weight":
            key, tensor = f"{name}.lora_B", factor * F.pad(tensor, (0, rank - ranks[name]))
        elif kind == "B.bias":
            key, tensor = f"{name}.lora_bias", factor * tensor
        renamed[key] = tensor  # LoRALinear has no place for another kind, which is refused by name later
    return config, renamed


def _require_linear(model: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Raise ConfigError for an adapter on a convolution, as PEFT makes one where "proj" is a target."""
    modules = dict(model.named_modules())
    for name in {key.partition(".lora_")[0] for key in tensors if ".lora_" in key}:
        if isinstance(modules.get(name), nn.Conv1d | nn.Conv2d | nn.Conv3d):
            raise ConfigError(
                f"{WEIGHTS_FILE} adapts the convolution {name}, which LoRALinear cannot: train it with target_modules "
                "that name linear layers alone, such as ['attn.qkv', 'attn.proj']"
            )


def _ranks(tensors: dict[str, Tensor], path: Path) -> dict[str, int]:
    """The rank of every layer with LoRA. Raises ConfigError unless each has an A and a B that fit."""
    ranks = {}
    for name in sorted({key.partition(".lora_")[0] for key in tensors if ".lora_" in key}):
        A, B = (tensors.get(f"{name}.lora_{matrix}.weight") for matrix in "AB")
        if A is None or B is None:
            raise ConfigError(f"{path} lacks a matrix of {name}")
        if A.ndim != 2 or B.ndim != 2 or A.shape[0] != B.shape[1]:
            raise ConfigError(f"{path.name}: A {tuple(A.shape)} and B {tuple(B.shape)} of {name} do not fit")
        ranks[name] = len(A)
    if not ranks:
        raise ConfigError(f"{path} holds no LoRA matrix")
    return ranks


def _divisor(rank: int, rslora: bool) -> float:
    return math.sqrt(rank) if rslora else rank


def _pattern(patterns: dict | None, name: str, default: float) -> float:
    """The value that PEFT takes for a layer: the first pattern that matches its name or the end of it."""
    for pattern, value in (patterns or {}).items():
        try:
            if regex.match(rf"(.*\.)?({pattern})$", name, timeout=PATTERN_SECONDS):
                return value
        except regex.error as error:
            raise ConfigError(f"{CONFIG_FILE}: alpha_pattern {pattern!r} is not a regular expression") from error
        except (TimeoutError, MemoryError, RecursionError, OverflowError) as error:
            raise ConfigError(
                f"{CONFIG_FILE}: alpha_pattern {pattern[:60]!r} takes too long to match: name layers"
            ) from error
    return default


def _targets(model: nn.Module, settings: dict, layers: list[str]) -> tuple[str, ...]:
    """PEFT's suffixes where they choose exactly the adapted layers of the model, else the layers' full names."""
    suffixes = settings.get("target_modules")
    if isinstance(suffixes, list) and suffixes:
        with suppress(ValueError):
            if sorted(find_targets(model, LoRAConfig(targets=tuple(suffixes)))) == layers:
                return tuple(sorted(suffixes))
    return tuple(layers)


def _read_settings(path: Path) -> dict[str, Any]:
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is missing or damaged: {error}") from error
    kind = settings.get("peft_type") if isinstance(settings, dict) else None
    if kind != "LORA":
        raise ConfigError(f"{path} describes no LoRA adapter: its peft_type is {kind!r}, not 'LORA'")
    for name, allowed in REFUSED.items():
        if settings.get(name, allowed[0]) not in allowed:
            raise ConfigError(f"{path.name}: {name}={settings[name]!r} is not supported, only {allowed[0]!r}")
    kinds = {
        "r": _positive,
        "lora_alpha": _positive,
        "lora_dropout": lambda value: type(value) in (int, float),
        "alpha_pattern": lambda value: isinstance(value, dict) and all(map(_positive, value.values())),
        "modules_to_save": _strings,
        "target_modules": lambda value: isinstance(value, str) or _strings(value),
    }
    for name, fits in kinds.items():
        value = settings.get(name)
        left_out = value is None and name not in ("r", "lora_alpha")
        if not left_out and not fits(value):
            raise ConfigError(f"{path.name}: {name}={value!r} is not what PEFT writes there")
    return settings


def _positive(value: Any) -> bool:
    return type(value) in (int, float) and value > 0


def _strings(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _read_weights(path: Path) -> dict[str, Tensor]:
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ConfigError(f"{path} is missing or damaged: {error}") from error
    if foreign := [key for key in tensors if not key.startswith(PREFIX)]:
        raise ConfigError(f"{path.name} is not a file of PEFT: {foreign[0]!r} does not begin with {PREFIX!r}")
    if odd := [key for key, tensor in tensors.items() if tensor.dtype not in FLOATS]:
        kind = str(tensors[odd[0]].dtype).removeprefix("torch.")
        raise ConfigError(f"{path.name}: the tensor {odd[0]} is {kind}, allowed are numbers with a fraction")
    require_numbers(tensors, path.name)
    return {key.removeprefix(PREFIX): tensor for key, tensor in tensors.items()}
