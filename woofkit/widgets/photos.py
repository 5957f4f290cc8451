"""Read one's own picture for a model."""

import torch

from woofkit.config import ConfigError, resolve_path
from woofkit.data import Transform
from woofkit.datasets.pictures import read_picture

ALLOWED = "allowed is the path of a picture such as ~/dog.jpg (or .png, .webp, ...)"


def read_photo(path: str, transform: Transform) -> torch.Tensor:
    """Read a picture as `read_picture` does and cut it to the model's input: uint8 (3, size, size).

    A relative path starts at the project's folder; "~" is the home folder.

    Raises:
        ConfigError: no path, no such file, or no picture that can be read.
    """
    if not path.strip():
        raise ConfigError(f"There is no path: {ALLOWED}.")
    try:
        file = resolve_path(path)
        if not file.is_file():
            raise ConfigError(f"There is no file {file}: {ALLOWED}.")
        return torch.from_numpy(transform.geometry(read_picture(file))).permute(2, 0, 1).contiguous()
    except OSError as error:
        raise ConfigError(f"{error}: {ALLOWED}.") from error
    except RuntimeError as error:  # "~" of somebody who is not known here
        raise ConfigError(f"{path} has no home folder: {ALLOWED}.") from error
