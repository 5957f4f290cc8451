"""The checkpoint of a training: whole, of the run that it lies in, and with one before it to fall back on.

PyTorch writes a zip archive whose entries have checksums but does not look at them when it reads, so a file with a
flipped bit would be trained on.
"""

import os
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from woofkit.faults import lacks_memory
from woofkit.files import write_atomic


def save_checkpoint(path: Path, state: Mapping[str, Any]) -> None:
    """Write what a training needs to go on; the checkpoint before it stays beside it."""
    if path.exists():
        os.replace(path, before(path))
    owned = {**state, "run": path.parent.name}
    write_atomic(path, lambda temporary: torch.save(owned, temporary))


def load_checkpoint(
    path: Path, trainable: Mapping[str, Tensor], device: torch.device, log: Callable[[str], None]
) -> dict[str, Any]:
    """The last good state of the run in whose folder `path` lies; {} if there is none.

    A file that is damaged, of another run, or of other tensors than `trainable` is passed over with a sentence.
    """
    for file in (path, before(path)):
        if not file.exists():
            continue
        try:
            state = _read(file, device)
            if problem := _foreign(state, path.parent.name, trainable):
                log(f"{file.name} is not this run's ({problem}): passed over")
                continue
            return state
        except Exception as error:  # zipfile, pickle and PyTorch raise many kinds for a damaged file
            if lacks_memory(error):
                raise
            why = (str(error) or type(error).__name__).splitlines()[0]
            log(f"{file.name} is damaged ({why}): passed over")
    return {}


def room_for_training(model: nn.Module) -> int:
    """Bytes on the disk that the run of a model takes at most: two checkpoints, a third being written, and the weights.

    A checkpoint has what trains four times: as it is, as it was best, and Adam's two means.
    """
    sizes = [(parameter.nbytes, parameter.requires_grad) for parameter in model.parameters()]
    return sum(size for size, _ in sizes) + 3 * 4 * sum(size for size, trains in sizes if trains)


def remove_checkpoints(path: Path) -> None:
    """Remove a finished run's checkpoint, and the one before it."""
    for file in (path, before(path)):
        file.unlink(missing_ok=True)


@torch.no_grad()
def copy_into(parameters: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> None:
    """Give parameters the values that a checkpoint has for their names."""
    for name, parameter in parameters.items():
        parameter.copy_(tensors[name])


def before(path: Path) -> Path:
    """Where the checkpoint before the last is."""
    return path.with_name(f"{path.stem}.before{path.suffix}")


def _read(file: Path, device: torch.device) -> dict[str, Any]:
    with zipfile.ZipFile(file) as archive:
        if bad := archive.testzip():
            raise ValueError(f"the checksum of {bad} is wrong")
    return torch.load(file, map_location=device, weights_only=True)


def _foreign(state: Any, run: str, trainable: Mapping[str, Tensor]) -> str:
    """Why a state does not belong to a run, or ""."""
    if not isinstance(state, dict) or not {"history", "best", "optimizer", "tensors", "run"} <= state.keys():
        return "it has not what a training needs to go on"
    if state["run"] != run:
        return f"it was written for {state['run']}"
    shapes = {name: tuple(tensor.shape) for name, tensor in state["tensors"].items()}
    if shapes != {name: tuple(tensor.shape) for name, tensor in trainable.items()}:
        return "its tensors are others"
    return ""
