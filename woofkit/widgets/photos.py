"""Read one's own picture for a model."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from woofkit.config import ConfigError
from woofkit.data import Transform
from woofkit.datasets.pictures import read_picture, why_unreadable
from woofkit.widgets.own_path import own_path

ALLOWED = "allowed is the path of a picture such as ~/dog.jpg (or .png, .webp, ...)"


def read_photo(path: str, transform: Transform) -> torch.Tensor:
    """Read a picture as `read_picture` does and cut it to the model's input: uint8 (3, size, size).

    The path may be in quotes; a relative one starts at the notebook's folder, or else at the project's.

    Raises:
        ConfigError: no path, no such file, or no picture that can be read.
    """
    if not path.strip():
        raise ConfigError(f"There is no path: {ALLOWED}.")
    try:
        file = own_path(path)
        if not file.is_file():
            raise ConfigError(f"There is no file {file}: {ALLOWED}.")
        return torch.from_numpy(transform.geometry(read_picture(file))).permute(2, 0, 1).contiguous()
    except OSError as error:
        raise ConfigError(f"{error}: {ALLOWED}.") from error
    except RuntimeError as error:  # "~" of somebody who is not known here
        raise ConfigError(f"{path} has no home folder: {ALLOWED}.") from error


def decode_photo(name: str, content: bytes, transform: Transform) -> torch.Tensor:
    """Make of a picture's bytes what `read_photo` makes of its file; `name` stands in a refusal.

    Raises:
        ConfigError: no picture that can be read.
    """
    with TemporaryDirectory() as folder:
        file = Path(folder, "picture").with_suffix(Path(name).suffix)
        file.write_bytes(content)
        try:
            picture = read_picture(file)
        except OSError as error:
            raise ConfigError(f"{name} cannot be read ({why_unreadable(file, error)}): {ALLOWED}.") from error
    return torch.from_numpy(transform.geometry(picture)).permute(2, 0, 1).contiguous()


def own_photo_note(class_names: Sequence[str], drawn: bool | None = None) -> str:
    """What to bear in mind of an answer on an own photo; `drawn` None: not known what the models have seen."""
    seen = {
        True: "These models have only seen drawings of dogs, never a photograph",
        False: f"These models know {len(class_names)} classes",
        None: f"These models know {len(class_names)} classes, and if they were trained on drawings, no photograph",
    }[drawn]
    return f"{seen}. Whatever the picture shows, each must name one of its {len(class_names)} classes."
