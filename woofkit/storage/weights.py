"""Weight files: read without running code, compared tensor by tensor, checked by their checksum."""

import hashlib
import json
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor

from woofkit.config import ConfigError

TRANSFORM_METADATA = {  # what a safetensors file may say of its transform, and how to read it
    "mean": lambda text: tuple(json.loads(text)),
    "std": lambda text: tuple(json.loads(text)),
    "crop_pct": float,
    "interpolation": str,
}
WEIGHT_FORMATS = (".safetensors", ".npz", ".pth", ".pt", ".bin")


def hash_tensors(tensors: dict[str, Tensor]) -> str:
    """SHA-256 (hex) over names, types, shapes and bytes, in order of name."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)};".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and the metadata of a safetensors file. Raises SafetensorError or OSError."""
    with safe_open(path, framework="pt") as file:
        return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}  # noqa: SIM118


def _read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        if path.suffix == ".safetensors":
            return read_safetensors(path)
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
