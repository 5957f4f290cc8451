"""Files of others: pictures, weights and adapters that are odd, or damaged."""

import argparse
import copy
import io
import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

from tools.fuzz.training import damage
from tools.fuzz.trial import Outcome, Place, find_run, in_child
from woofkit.adapters import export_peft, import_peft, load_adapter, put_on, read_adapter
from woofkit.config import ConfigError
from woofkit.models import build_model
from woofkit.storage.peft import CONFIG_FILE, WEIGHTS_FILE

MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I;16", "I", "F")
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF", "PPM", "TGA", "EPS", "ICO", "PDF")
SIDES = (1, 2, 7, 40, 300, 5000)


def odd_picture(place: Place) -> str:
    """An odd or damaged picture among others"""
    choose, folder = place.random.choice, place.fresh() / "pictures"
    shutil.copytree(place.folder / "pictures", folder)
    mode, form, size = choose(MODES), choose(FORMATS), (choose(SIDES), choose(SIDES))
    content = io.BytesIO()
    try:
        Image.new("RGB", size).convert(mode if "I" not in mode and mode != "F" else "L").convert(mode).save(
            content, form
        )
    except (OSError, ValueError, KeyError):  # a format that has no such mode
        content = io.BytesIO(place.random.randbytes(choose([0, 10, 10_000])))
    file = folder / "class-0" / choose(["odd.png", "odd.JPEG", "._odd.png", "\udcff.png", "\u202e.jpg", "0.png"])
    file.write_bytes(content.getvalue() or b"-")
    how = damage(place, file) if choose([True, False]) else ""
    done = place.train(place.fresh(), data_dir=str(folder), epochs=1, skip_unreadable=choose(["true", "false"]))
    return _refused_or_done(done, f"{mode} {form} {size} {how} {ascii(file.name)}")


def _refused_or_done(done: Outcome, what: str) -> str:
    """ "" for a process that ended well or with a sentence, otherwise what was wrong with it."""
    if done.fault or done.status not in (0, 1, 2):
        return f"{what}: {done.fault or done.status}"
    return "" if done.status == 0 or "error: " in done.said else f"{what}: nothing was said"


WRAPPINGS: dict[str, Callable[[dict], Any]] = {
    "plain": lambda tensors: tensors,
    "state_dict": lambda tensors: {"state_dict": tensors, "epoch": 3},
    "model and arguments": lambda tensors: {"model": tensors, "args": argparse.Namespace(lr=1)},
    "prefix": lambda tensors: {f"module.{name}": tensor for name, tensor in tensors.items()},
    "no head": lambda tensors: {name: tensor for name, tensor in tensors.items() if "head" not in name},
    "half": lambda tensors: {name: tensor.half() for name, tensor in tensors.items()},
    "whole numbers": lambda tensors: {name: tensor.to(torch.int8) for name, tensor in tensors.items()},
    "lacks one": lambda tensors: dict(list(tensors.items())[1:]),
    "one more": lambda tensors: tensors | {"more": torch.ones(3)},
    "other shapes": lambda tensors: {name: tensor[..., :1] for name, tensor in tensors.items()},
    "sparse": lambda tensors: {name: tensor.to_sparse() for name, tensor in tensors.items()},
    "list": lambda tensors: list(tensors.values()),
    "code": lambda tensors: _Code(),
}


class _Code:
    """An object that, unpickled, writes a file."""

    def __reduce__(self) -> tuple:
        return Path.touch, (Path("/tmp/woofkit-evil"),)


def odd_weights(place: Place) -> str:
    """Weights in an odd wrapping, with odd numbers, or damaged"""
    choose = place.random.choice
    name, wrapping = choose(list(WRAPPINGS.items()))
    tensors = {key: tensor.clone() for key, tensor in build_model("test_vit", weights="random").state_dict().items()}
    number = choose([0.0, 0.0, float("nan"), float("inf"), 1e38])
    if number:
        choose(list(tensors.values())).view(-1)[0] = number
    wrapped, file = (
        wrapping(tensors),
        place.fresh() / choose(["w.pth", "w.pth.tar", "w.ckpt", "w.safetensors", "w.bin"]),
    )
    if file.suffix == ".safetensors" and name not in ("plain", "half", "no head"):
        file = file.with_suffix(".pth")
    if file.suffix == ".safetensors":
        metadata = choose([{}, {"mean": "[1"}, {"std": "[0, 0, 0]"}, {"crop_pct": "nan"}, {"interpolation": "odd"}])
        save_file({key: tensor.contiguous() for key, tensor in wrapped.items()}, file, metadata)
    else:
        torch.save(wrapped, file)
    how = damage(place, file) if choose([True, False, False]) else ""
    done = place.train(place.fresh(), weights=str(file), epochs=1)
    if done.status == 0 and not np.isfinite(number):
        return f"{name} {file.name}: {number} was taken"
    if Path("/tmp/woofkit-evil").exists():
        return f"{name} {file.name}: its code ran"
    return _refused_or_done(done, f"{name} {file.name} {number} {how}")


PATTERNS = ("(.*)*(.*)*(.*)*(.*)*X", "(a+)+$", "[", "head", "", "blocks.0.attn.qkv", "(?P<x>", "\\")
VALUES = (None, True, -1, 0, 3, 10**30, 0.5, float("nan"), "", "all-linear", [], ["qkv"], {}, {"qkv": 0}, "r" * 10_000)


def odd_adapter(place: Place) -> str:
    """An adapter, or a PEFT folder, that is odd or damaged"""
    choose, folder = place.random.choice, place.fresh()
    model = build_model("test_vit", weights="random", num_classes=2)
    shutil.copy(find_run(place.folder / "undisturbed-lora") / "adapter.safetensors", folder)
    whole = copy.deepcopy(model)
    adapter = read_adapter(whole, folder / "adapter.safetensors")
    export_peft(put_on(whole, adapter), adapter.config, folder / "peft")
    read: Callable[[], Any] = partial(import_peft, model, folder / "peft")
    kind = choose(["file", "folder", "settings", "pattern"])
    if kind == "file":
        how = damage(place, folder / "adapter.safetensors")
        read = partial(load_adapter, model, folder / "adapter.safetensors")
    elif kind == "folder":
        how = damage(place, folder / "peft" / choose([CONFIG_FILE, WEIGHTS_FILE]))
    else:
        settings = json.loads((folder / "peft" / CONFIG_FILE).read_text())
        name = choose([*settings, "peft_type", "modules_to_save"])
        change = {"alpha_pattern": {choose(PATTERNS): 4}} if kind == "pattern" else {name: choose(VALUES)}
        (folder / "peft" / CONFIG_FILE).write_text(json.dumps(settings | change))
        how = str(change)[:60]

    def work() -> int:
        try:
            read()
        except ConfigError as error:
            print("error:", error)
            return 1
        return 0 if all(tensor.isfinite().all() for tensor in model.state_dict().values()) else 5

    return _refused_or_done(in_child(work), f"{kind} {how}")
