"""timm Vision Transformers: their weights, their transform, their original head, their parameters.

Weights are loaded strictly: a missing, unexpected or misshapen tensor is an error that names it. Only the
classification head may differ, and it is replaced on purpose; `original_head` gives back the one that came along.
"""

import hashlib
import json
from difflib import get_close_matches
from pathlib import Path
from typing import NamedTuple

import numpy as np
import timm
import torch
from safetensors import safe_open
from timm.data import resolve_model_data_config
from torch import Tensor, nn

from woofkit.config import PROJECT_ROOT, ConfigError, require_range, resolve_path

BUNDLED_MODEL = "vit_tiny_patch16_224"
BUNDLED_WEIGHTS = PROJECT_ROOT / "data" / "backbone" / "vit_tiny_patch16_224.sketch.safetensors"
TRANSFORM_METADATA = {  # what a safetensors file may say of its transform, and how to read it
    "mean": lambda text: tuple(json.loads(text)),
    "std": lambda text: tuple(json.loads(text)),
    "crop_pct": float,
    "interpolation": str,
}
WEIGHT_FORMATS = (".safetensors", ".npz", ".pth", ".pt", ".bin")


class ParameterCount(NamedTuple):
    total: int
    trainable: int


def build_model(name: str, num_classes: int = 10, weights: str | Path | None = "bundled", seed: int = 0) -> nn.Module:
    """Build a timm Vision Transformer in eval mode, with pretrained weights and a new head.

    Args:
        name: timm's model name, such as "vit_tiny_patch16_224".
        num_classes: size of the new head (weights normal with std 0.02, bias zero).
        weights: "bundled" (this project's, for vit_tiny_patch16_224), "timm" (downloaded by timm), the path of a
            .safetensors, .npz (JAX) or .pth file, or None or "random" for random weights.
        seed: of the new head and of random weights.

    Raises:
        ConfigError: unknown model or weights, or a file that does not fit the model, with what differs.
    """
    require_range("num_classes", num_classes, 1, 1_000_000)
    model = _pretrained_model(name, weights, seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model.reset_classifier(num_classes)
        nn.init.normal_(model.head.weight, std=0.02)
        nn.init.zeros_(model.head.bias)
    return model


def original_head(name: str, weights: str | Path | None) -> nn.Linear:
    """The classification head that came with the weights, for zero-shot and for measuring forgetting.

    Raises:
        ConfigError: random weights have no head worth the name; else as `build_model`.
    """
    if weights in (None, "random"):
        raise ConfigError("random weights have no original head: choose weights='bundled', 'timm' or a path")
    return _pretrained_model(name, weights, seed=0).head


def data_config(model: nn.Module) -> dict:
    """timm's data settings for the model: input_size (C, H, W), mean, std, crop_pct, interpolation."""
    return resolve_model_data_config(model)


def count_parameters(model: nn.Module) -> ParameterCount:
    """Count all and the trainable parameters (numbers, not tensors)."""
    sizes = [(p.numel(), p.requires_grad) for p in model.parameters()]
    return ParameterCount(sum(n for n, _ in sizes), sum(n for n, trainable in sizes if trainable))


def hash_tensors(tensors: dict[str, Tensor]) -> str:
    """SHA-256 (hex) over names, types, shapes and bytes, in order of name."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)};".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _pretrained_model(name: str, weights: str | Path | None, seed: int) -> nn.Module:
    if not timm.is_model(name):
        close = get_close_matches(name, timm.list_models(), n=3) or [BUNDLED_MODEL]
        raise ConfigError(f"unknown model {name!r}: timm has, for example, {', '.join(close)}")
    try:
        timm.get_pretrained_cfg(name)
    except RuntimeError as error:  # the part after the dot, which picks one of timm's weights
        known = ", ".join(timm.list_pretrained(f"{name.partition('.')[0]}.*"))
        raise ConfigError(f"unknown weights in model name {name!r}: timm has {known}") from error
    if weights in (None, "random"):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return _vision_transformer(name).eval()
    if weights == "timm":
        return _from_timm(name)
    if weights == "bundled":
        if name != BUNDLED_MODEL:
            raise ConfigError(f"weights='bundled' are for {BUNDLED_MODEL!r}, not {name!r}: choose 'timm' or a path")
        verify_checksum(BUNDLED_WEIGHTS)
        return _from_file(name, BUNDLED_WEIGHTS)
    return _from_file(name, resolve_path(weights))


def _vision_transformer(name: str, **settings) -> nn.Module:
    model = timm.create_model(name, **settings)
    if not isinstance(getattr(model, "head", None), nn.Linear) or not hasattr(model, "blocks"):
        raise ConfigError(f"model {name!r} is not a Vision Transformer with a linear head: try {BUNDLED_MODEL!r}")
    return model


def _from_timm(name: str) -> nn.Module:
    try:
        return _vision_transformer(name, pretrained=True).eval()
    except ConfigError:
        raise
    except Exception as error:  # the hub client raises many kinds; each means that the weights did not come
        raise ConfigError(
            f"timm's weights for {name!r} could not be loaded ({type(error).__name__}): without internet, pass the "
            f"path of a {', '.join(WEIGHT_FORMATS)} file as weights"
        ) from error


def _from_file(name: str, path: Path) -> nn.Module:
    if not path.is_file():
        raise ConfigError(f"weights file {path} does not exist: allowed are 'bundled', 'timm', 'random' or a path")
    if path.suffix not in WEIGHT_FORMATS:
        raise ConfigError(f"weights file {path.name}: format {path.suffix!r} is not one of {', '.join(WEIGHT_FORMATS)}")
    if path.suffix == ".npz":
        num_classes, count = _npz_sizes(path)
        model = _vision_transformer(name, num_classes=num_classes)
        if count != count_parameters(model).total:  # timm would ignore what is too much
            expected = f"{count_parameters(model).total:,}"
            raise ConfigError(f"weights file {path.name} does not fit {name!r}: {count:,} parameters, not {expected}")
        try:
            model.load_pretrained(str(path))
        except Exception as error:
            raise ConfigError(f"weights file {path.name} does not fit {name!r}: {error}") from error
        return model.eval()
    tensors, metadata = _read_tensors(path)
    num_classes = len(tensors["head.bias"]) if "head.bias" in tensors else 0
    overlay = {key: read(metadata[key]) for key, read in TRANSFORM_METADATA.items() if key in metadata}
    model = _vision_transformer(name, num_classes=num_classes or 1, pretrained_cfg_overlay=overlay)
    if problems := tensor_differences(model.state_dict(), tensors):
        raise ConfigError(f"weights file {path.name} does not fit {name!r}: {'; '.join(problems)}")
    model.load_state_dict(tensors, strict=True)
    return model.eval()


def _read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt") as file:
                return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}  # noqa: SIM118
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)  # never runs code from the file
    except Exception as error:
        raise ConfigError(f"weights file {path.name} is damaged or not a weights file: {error}") from error
    for key in ("model", "state_dict"):  # the usual wrappings of published checkpoints
        if isinstance(checkpoint, dict) and isinstance(checkpoint.get(key), dict):
            checkpoint = checkpoint[key]
    if not isinstance(checkpoint, dict) or not all(isinstance(value, Tensor) for value in checkpoint.values()):
        raise ConfigError(f"weights file {path.name} holds no state dict of tensors")
    return checkpoint, {}


def tensor_differences(expected: dict[str, Tensor], given: dict[str, Tensor]) -> list[str]:
    """What keeps `given` from being loaded as `expected`: missing, unexpected and misshapen tensors, in words."""
    problems = [f"missing {key}" for key in expected if key not in given]
    problems += [f"unexpected {key}" for key in given if key not in expected]
    for key in expected:
        if key in given and expected[key].shape != given[key].shape:
            problems.append(f"{key} has shape {tuple(given[key].shape)} instead of {tuple(expected[key].shape)}")
    return problems if len(problems) <= 5 else [*problems[:5], f"and {len(problems) - 5} more"]


def _npz_sizes(path: Path) -> tuple[int, int]:
    """The number of classes and of all parameters in a JAX checkpoint."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            sizes = {key: arrays[key].size for key in arrays.files}
        return next(size for key, size in sizes.items() if key.endswith("head/bias")), sum(sizes.values())
    except Exception as error:  # numpy raises many kinds for a damaged archive
        raise ConfigError(f"weights file {path.name} is not a JAX ViT checkpoint with a head") from error


def verify_checksum(path: Path) -> None:
    """Compare a file with the sha256 that stands in `<name>.sha256` beside it.

    Raises:
        ConfigError: either file is missing, or the sums differ.
    """
    note = path.with_suffix(path.suffix + ".sha256")
    if not path.is_file() or not note.is_file():
        raise ConfigError(f"{path.name} or {note.name} is missing in {path.parent}: check out again or `make backbone`")
    expected = note.read_text().split()[0]
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != expected:
        raise ConfigError(f"{path.name} is damaged: sha256 {found[:12]}..., expected {expected[:12]}...")
