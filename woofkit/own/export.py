"""A finished run as files that work without woofkit: weights under timm's names, ONNX, an adapter, a card, a script."""

import copy
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from woofkit.adapters import export_peft
from woofkit.config import ConfigError
from woofkit.data import Transform
from woofkit.files import remove_leftovers, require_folder, temporary_path, write_json
from woofkit.lora import lora_layers, merge_lora
from woofkit.own.card import model_card
from woofkit.own.finished import COPIED_FILE, RUN_FILE, Finished, load_finished
from woofkit.own.predict import require_empty
from woofkit.own.scripts import script
from woofkit.results import read_metrics, read_record

TOLERANCE = 1e-4  # between logits that are to be the same
TRIED = 5  # images of noise on which logits are compared
ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
ONE_FILE = 1_500_000_000  # bytes of weights that ONNX keeps in one file: its format ends at 2 GB
NO_ONNX = 'no model.onnx, as {} cannot be imported: pip install -e ".[onnx]"'


def export_run(run: Path, folder: Path, log: Callable[[str], None] = print) -> Path:
    """Write a finished run's model into a new folder, all or nothing; return the folder.

    model.safetensors holds the merged model under timm's names, model.onnx the same where the packages are there,
    adapter/ what LoRA has learned, for PEFT. README.md is the model card; preprocess.json says what a picture has to go
    through first, and use_me.py and use_onnx.py do so. run.json is the run's config.json without where its images were.

    Raises:
        ConfigError: the folder holds something, or as `load_finished` of a run.
        FloatingPointError: what was written gives other logits than the run's model; nothing is left then.
    """
    require_empty(folder)
    require_folder("the folder to export to", folder)
    if run.is_dir() and not (run / RUN_FILE).is_file():
        raise ConfigError(f"{run} is not a run, as it has no {RUN_FILE}: allowed is the folder of a finished run")
    finished = load_finished(run)
    metrics, record = read_metrics(run), read_record(run)
    with _whole_folder(folder) as temporary:
        if lora_layers(finished.model):
            export_peft(finished.model, finished.config.lora, temporary / "adapter")
        tries = _noise(finished.transform)
        with torch.inference_mode():
            logits = finished.model(tries)
        plain = write_weights(finished, temporary / "model.safetensors")
        _require_equal("model.safetensors", _logits(plain, tries), logits)
        scripts = ["use_me.py"]
        if missing := [package for package in ONNX_PACKAGES if find_spec(package) is None]:
            log(NO_ONNX.format(", ".join(missing)))
        else:
            write_onnx(plain, tries[:1], temporary / "model.onnx")
            _require_equal("model.onnx", run_onnx(temporary / "model.onnx", tries), logits)
            scripts.append("use_onnx.py")
        write_json(temporary / "preprocess.json", describe(finished))
        record["config"]["data_dir"] = ""
        write_json(temporary / COPIED_FILE, record)
        for name in scripts:
            (temporary / name).write_text(script(name, finished.transform), encoding="utf-8")
        card = model_card(finished, metrics, tuple(path.name for path in temporary.iterdir()))
        (temporary / "README.md").write_text(card, encoding="utf-8")
    return folder


def describe(finished: Finished) -> dict:
    """What preprocess.json says: timm's name of the model, what a picture goes through, and the classes in order.

    resize is the shorter side before the crop from the centre; without a crop the whole picture is squeezed.
    """
    transform = finished.transform
    return {
        "model": finished.config.model_name,
        "size": transform.size,
        "resize": transform.resize,
        "crop": None if transform.resize is None else "center",
        "interpolation": transform.interpolation.name.lower(),
        "greyscale": transform.greyscale,
        "mean": list(transform.mean),
        "std": list(transform.std),
        "class_names": list(finished.class_names),
    }


def write_weights(finished: Finished, file: Path) -> nn.Module:
    """Write the merged model; return timm's own model with these weights, as anybody would load them.

    Raises:
        ConfigError: timm's model of this name has other weights.
    """
    model = copy.deepcopy(finished.model)
    if lora_layers(model):
        merge_lora(model)
    tensors = {name: tensor.cpu().contiguous() for name, tensor in model.state_dict().items()}
    save_file(tensors, file, {"format": "pt"})
    plain = timm.create_model(finished.config.model_name, num_classes=len(finished.class_names)).eval()
    try:
        plain.load_state_dict(tensors, strict=True)
    except RuntimeError as error:
        raise ConfigError(f"the weights do not fit timm's {finished.config.model_name!r}: {error}") from error
    return plain


def write_onnx(model: nn.Module, example: Tensor, file: Path) -> None:
    """Write a model as ONNX: "images" float (B, 3, H, W), normalised, to "logits" (B, C), for any B."""
    size = sum(parameter.nbytes for parameter in model.parameters())
    program = torch.onnx.export(
        model,
        (example,),
        dynamo=True,
        input_names=["images"],
        output_names=["logits"],
        dynamic_shapes=({0: torch.export.Dim.DYNAMIC},),
        verbose=False,
    )
    program.save(file, external_data=size > ONE_FILE)


def run_onnx(file: Path, images: Tensor) -> Tensor:
    """The logits (B, C) that onnxruntime computes from normalised images (B, 3, H, W), together and one by one.

    Raises:
        FloatingPointError: alone, an image has other logits than among others.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    [together] = session.run(None, {"images": images.numpy()})
    alone = [session.run(None, {"images": image[None].numpy()})[0] for image in images]
    _require_equal(f"{file.name}, one image at once,", torch.from_numpy(np.concatenate(alone)), torch.tensor(together))
    return torch.from_numpy(together)


def _noise(transform: Transform) -> Tensor:
    """Images of noise as the model takes them, (TRIED, 3, size, size); the same each time."""
    shape = (TRIED, 3, transform.size, transform.size)
    pixels = torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return transform.normalize(pixels)


@torch.inference_mode()
def _logits(model: nn.Module, images: Tensor) -> Tensor:
    return model(images)


def _require_equal(what: str, found: Tensor, expected: Tensor) -> None:
    apart = (found - expected).abs().max().item()
    if not apart <= TOLERANCE:
        raise FloatingPointError(
            f"{what} gives logits that are {apart:.2g} from those of the run, and {TOLERANCE:g} is allowed: "
            "nothing was exported"
        )


@contextmanager
def _whole_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder to fill, which takes the name of `folder` at the end of the block.

    After an exception, also an interrupt, it is gone.
    """
    folder = folder.absolute()
    folder.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(folder.parent)
    temporary = temporary_path(folder)
    temporary.mkdir()
    try:
        yield temporary
        if folder.is_dir():
            folder.rmdir()  # empty, and in the way on Windows
        os.replace(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
