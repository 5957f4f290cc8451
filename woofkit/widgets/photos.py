"""Read one's own picture for a model, whether it is grey, transparent or lying on its side."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps

from woofkit.config import ConfigError, resolve_path
from woofkit.data import Transform

ALLOWED = "allowed is the path of a picture such as ~/dog.jpg (or .png, .webp, ...)"
LONGEST = 20  # times its width; a longer picture would need much memory, and show a stripe
UNREADABLE = (OSError, RuntimeError, SyntaxError, ValueError, Image.DecompressionBombError)  # what PIL raises


def read_photo(path: str, transform: Transform) -> torch.Tensor:
    """Read a picture, turned upright, on white, and cut to the model's input: uint8 (3, size, size).

    A relative path starts at the project's folder; "~" is the home folder.

    Raises:
        ConfigError: no path, no such file, no picture, or one more than LONGEST times as long as wide.
    """
    if not path.strip():
        raise ConfigError(f"There is no path: {ALLOWED}.")
    try:
        file = resolve_path(path)
        if not file.is_file():
            raise ConfigError(f"There is no file {file}: {ALLOWED}.")
        with Image.open(file) as opened:
            image = _plain(ImageOps.exif_transpose(opened))
        long, short = max(image.size), min(image.size)
        if long > LONGEST * short:
            raise ConfigError(f"{file.name} is {long} pixels long and {short} wide: allowed is {LONGEST} to 1 at most.")
        return torch.from_numpy(transform.geometry(image)).permute(2, 0, 1).contiguous()
    except ConfigError:
        raise
    except UNREADABLE as error:
        raise ConfigError(f"{Path(path).name} cannot be opened as a picture: {ALLOWED}.") from error


def _plain(image: Image.Image) -> Image.Image:
    """RGB of 8 bits."""
    if image.mode.startswith(("I", "F")):  # 16 bits and more: PIL would cut off what is above 255
        values = np.asarray(image, dtype=float)
        image = Image.fromarray((255 * (values - values.min()) / max(np.ptp(values), 1e-9)).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")
