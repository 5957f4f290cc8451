"""Weight files: read without running code, whatever they are wrapped in; compared tensor by tensor; checksums."""

import hashlib
import json
import math
import pickle
import re
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from woofkit.config import ConfigError

WEIGHT_FORMATS = (".safetensors", ".npz", ".pth", ".pt", ".bin", ".ckpt", ".tar")  # .tar: .pth.tar, which is a .pth
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
WRAPPINGS = ("state_dict", "model_state_dict", "model")  # under which checkpoints keep a model's tensors
PREFIXES = ("module.", "model.", "_orig_mod.", "backbone.")  # which wrappers put before every name
SAVE_ALONE = "save a model's tensors alone, as torch.save(model.state_dict(), 'weights.pth') does"


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


def safetensors_bytes(tensors: dict[str, Tensor], metadata: dict[str, str]) -> bytes:
    """A safetensors file; equal tensors and metadata give equal bytes, as the library's own order is by chance."""
    content = save(tensors, metadata)
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    words = json.dumps(header, separators=(",", ":")).encode()
    words += b" " * (-len(words) % 8)  # tensors begin at a multiple of eight bytes
    return len(words).to_bytes(8, "little") + words + content[start:]


def read_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors of a weights file by their names in the model, and what it says of the transform.

    No code from the file is run. What a checkpoint keeps beside the tensors is left, and so are the prefixes of names
    that wrappers such as DataParallel, Lightning and torch.compile leave behind.

    Raises:
        ConfigError: the file is damaged, holds no tensors by name or more than tensors, or one holds nan.
    """
    source = f"weights file {path.name}"
    try:
        if path.suffix == ".safetensors":
            tensors, metadata = read_safetensors(path)
        else:
            tensors, metadata = _unwrapped(_load_pickle(path), source), {}
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(f"{source} is damaged or not a weights file: {_why(error)}") from error
    tensors = _without_prefixes(tensors, source)
    require_numbers(tensors, source)
    return tensors, _transform(metadata, source)


def _load_pickle(path: Path) -> Any:
    if zipfile.is_zipfile(path):  # PyTorch does not look at its checksums
        with zipfile.ZipFile(path) as archive:
            if bad := archive.testzip():
                raise ValueError(f"the checksum of {bad} is wrong")
    with warnings.catch_warnings(action="ignore"):  # each is about what is refused in words here
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            if kind := re.search(r"(?:GLOBAL|class) ([\w.]+)", str(error)):
                raise ConfigError(
                    f"weights file {path.name} holds Python objects ({kind[1]}) beside its tensors or instead of them, "
                    f"which are not read for safety: {SAVE_ALONE}"
                ) from error
            raise


def _why(error: Exception) -> str:
    """The first sentence of what a reader has said; PyTorch's advice to run code from the file is no help."""
    said = " ".join(str(error).split())
    return type(error).__name__ if "weights_only" in said or not said else said.split(". ")[0]


def _unwrapped(checkpoint: Any, source: str) -> dict[str, Tensor]:
    while isinstance(checkpoint, Mapping):
        inner = [checkpoint[key] for key in WRAPPINGS if isinstance(checkpoint.get(key), Mapping)]
        if not inner:
            break
        checkpoint = inner[0]
    if not isinstance(checkpoint, Mapping) or not all(isinstance(name, str) for name in checkpoint) or not checkpoint:
        raise ConfigError(f"{source} holds no state dict of tensors: {SAVE_ALONE}")
    if others := [name for name, value in checkpoint.items() if not isinstance(value, Tensor)]:
        kind = type(checkpoint[others[0]]).__name__
        raise ConfigError(f"{source} holds no state dict of tensors: {others[0]!r} is of type {kind}; {SAVE_ALONE}")
    return dict(checkpoint)


def _without_prefixes(tensors: dict[str, Tensor], source: str) -> dict[str, Tensor]:
    plain: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        short = name
        while short.startswith(PREFIXES):
            short = short.partition(".")[2]
        if short in plain:
            raise ConfigError(f"{source} holds {short!r} twice, once as {name!r}: {SAVE_ALONE}")
        plain[short] = tensor
    return plain


def require_numbers(tensors: Mapping[str, Tensor], source: str) -> None:
    """Raise ConfigError, with the tensor's name, for one that is not laid out as plain numbers, or holds nan or inf."""
    for name, tensor in tensors.items():
        if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_meta:
            kind = "quantized" if tensor.is_quantized else "empty" if tensor.is_meta else "sparse"
            raise ConfigError(f"{source}: the tensor {name} is {kind}, allowed are dense ones")
        if tensor.dtype in FLOATS and not tensor.float().isfinite().all():
            raise ConfigError(f"{source}: the tensor {name} holds nan or inf, as float32 at least, and cannot be used")


def _transform(metadata: Mapping[str, str], source: str) -> dict[str, Any]:
    """What a safetensors file says of the transform of its images, by timm's names."""
    found = {}
    for name, (allowed, read) in TRANSFORM.items():
        if name in metadata:
            try:
                found[name] = read(metadata[name])
            except (ValueError, TypeError, OverflowError, RecursionError) as error:
                raise ConfigError(
                    f"{source}: {name} = {metadata[name][:40]!r} in its metadata, allowed is {allowed}"
                ) from error
    return found


def _within(low: float, high: float) -> Callable[[Any], float]:
    def read(value: Any) -> float:
        if isinstance(value, bool) or not math.isfinite(number := float(value)) or not low <= number <= high:
            raise ValueError
        return number

    return read


def _per_channel(low: float, high: float) -> Callable[[str], tuple[float, ...]]:
    def read(text: str) -> tuple[float, ...]:
        red, green, blue = json.loads(text)
        return tuple(map(_within(low, high), (red, green, blue)))

    return read


def _interpolation(text: str) -> str:
    if text.upper() not in Image.Resampling.__members__:
        raise ValueError
    return text


TRANSFORM = {  # what a safetensors file may say of its transform: in words, and how it is read
    "mean": ("a list of three numbers from -100 to 100", _per_channel(-100, 100)),
    "std": ("a list of three numbers from 0.0001 to 100", _per_channel(1e-4, 100)),
    "crop_pct": ("a number from 0.1 to 2", _within(0.1, 2)),
    "interpolation": (", ".join(name.lower() for name in Image.Resampling.__members__), _interpolation),
}


def tensor_differences(expected: dict[str, Tensor], given: dict[str, Tensor]) -> list[str]:
    """What keeps `given` from being loaded as `expected`, in words.

    Tensors that are missing, unexpected, misshapen, or whole numbers or bools where numbers with a fraction belong.
    """
    problems = [f"missing {key}" for key in expected if key not in given]
    problems += [f"unexpected {key}" for key in given if key not in expected]
    for key in expected:
        if key in given and expected[key].shape != given[key].shape:
            problems.append(f"{key} has shape {tuple(given[key].shape)} instead of {tuple(expected[key].shape)}")
        elif key in given and expected[key].dtype in FLOATS and given[key].dtype not in FLOATS:
            kinds = [str(dtype).removeprefix("torch.") for dtype in (given[key].dtype, *FLOATS)]
            problems.append(f"{key} is {kinds[0]}: allowed are {', '.join(kinds[1:])}")
    return problems if len(problems) <= 5 else [*problems[:5], f"and {len(problems) - 5} more"]


def npz_sizes(path: Path) -> tuple[int, int]:
    """The number of classes and of all parameters in a JAX checkpoint.

    Raises:
        ConfigError: it is damaged or has no head, or an array is of whole numbers or holds nan.
    """
    source = f"weights file {path.name}"
    try:
        with np.load(path, allow_pickle=False) as arrays:
            found = {name: arrays[name] for name in arrays.files}
        classes = next(array.size for name, array in found.items() if name.endswith("head/bias"))
    except Exception as error:  # numpy raises many kinds for a damaged archive
        raise ConfigError(f"{source} is not a JAX ViT checkpoint with a head") from error
    for name, array in found.items():
        if array.dtype.kind != "f":
            raise ConfigError(f"{source}: {name} is {array.dtype}: allowed are numbers with a fraction")
    require_numbers({name: torch.from_numpy(array) for name, array in found.items()}, source)
    return classes, sum(array.size for array in found.values())


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
