"""One picture: which files are pictures, and how any of them is read as a person sees it.

All pictures that come from files are read here, photographs of ImageWoof too. What a file holds decides, not its name.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from woofkit.faults import lacks_shared_memory

if TYPE_CHECKING:
    from torch.utils.data import DataLoader

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")  # decoders of others need programs, or are little tested
PIXELS = 80_000_000  # more would take gigabytes while it is decoded
LONGEST = 20  # times its width; a longer picture, cut to a square of its short side, would need as much
NO_PICTURES = {".h5", ".hdf", ".grib", ".bufr", ".pdf", ".mpg", ".mpeg", ".wmf", ".emf", ".eps", ".ps", ".fit", ".fits"}
UNKNOWN_TO_PILLOW = {".heic", ".heif", ".hif"}  # of phones; they are pictures, and named when they cannot be read
WHITE = (255, 255, 255)
MAX_WORKERS = 8  # processes that read or draw


def in_processes(pictures: Any, batch_size: int, few: int) -> "DataLoader":
    """Lists of what `pictures[0]`, `pictures[1]`, ... give, in order, read or drawn by other processes.

    As many as PyTorch has threads. There are none where there are at most `few` pictures, which are done before others
    have started, or where /dev/shm has no room for them. What comes should be arrays: tensors would need more of it.
    """
    import torch
    from torch.utils.data import DataLoader

    workers = min(torch.get_num_threads(), MAX_WORKERS) if len(pictures) > few else 1
    alone = workers == 1 or lacks_shared_memory()
    return DataLoader(pictures, batch_size, num_workers=0 if alone else workers, collate_fn=list)


def pictures_below(folder: Path) -> list[Path]:
    """Every file below a folder that ends like an image, at any depth, in order; hidden ones do not count.

    Of a file it gives that file, if its name ends like an image's.
    """
    Image.init()
    suffixes = (Image.registered_extensions().keys() | UNKNOWN_TO_PILLOW) - NO_PICTURES
    paths = sorted(folder.rglob("*")) if folder.is_dir() else [folder]
    return [
        path
        for path in paths
        if path.suffix.lower() in suffixes
        and not any(part.startswith((".", "__MACOSX")) for part in path.relative_to(folder).parts)
        and path.is_file()
    ]


def read_picture(path: Path) -> Image.Image:
    """Read an image of one of FORMATS as RGB, as a person would see it.

    The camera's orientation is applied, transparency lies on white, more than 8 bits are scaled to 8, and of an
    animation the first frame counts. How large it is, is asked before it is decoded.

    Raises:
        OSError: it cannot be read; the message names the file and says why.
    """
    try:
        with Image.open(path, formats=FORMATS) as file:
            _require_size(*file.size)
            file.load()
            return _plain(ImageOps.exif_transpose(file))
    except Exception as error:  # Pillow's readers raise many kinds
        raise OSError(f"{path} cannot be read ({_reason(path, error)})") from error


def why_unreadable(path: Path, error: OSError) -> str:
    """The reason alone in what `read_picture` has raised for a file."""
    return str(error).removeprefix(f"{path} cannot be read (").removesuffix(")")


def named_in_utf8(name: str) -> bool:
    """Whether a file's name is text; other names, which Linux allows, fit into no table."""
    return not any("\ud800" <= letter <= "\udfff" for letter in name)


def shown(name: str) -> str:
    """A file's name as text that can be printed, whatever its bytes."""
    return name.encode("utf-8", "backslashreplace").decode()


def _require_size(width: int, height: int) -> None:
    if width * height > PIXELS:
        raise ValueError(f"{width} x {height} pixels: allowed are {PIXELS // 10**6} million")
    if max(width, height) > LONGEST * min(width, height):
        raise ValueError(f"{width} x {height} pixels: allowed is one side {LONGEST} times as long as the other")


def _plain(image: Image.Image) -> Image.Image:
    """RGB of 8 bits on white."""
    if image.mode.startswith("I") or image.mode == "F":
        image = _to_8_bits(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        ground = Image.new("RGBA", image.size, (*WHITE, 255))
        image = Image.alpha_composite(ground, image)
    return image.convert("RGB")


def _to_8_bits(image: Image.Image) -> Image.Image:
    """16 bits are scaled by their range; 32 bits and floats, which have none, by what the image holds."""
    values = np.asarray(image, dtype=np.float64)
    if not (finite := np.isfinite(values)).all():  # a pixel without a value is as dark as the darkest
        values = np.where(finite, values, values[finite].min() if finite.any() else 0.0)
    low, high = (0.0, 65535.0) if image.mode.startswith("I;16") else (values.min(), values.max())
    if image.mode == "I" and values.min() >= 0 and values.max() <= 65535:  # 16 bits in a wider format
        low, high = 0.0, 65535.0
    return Image.fromarray(((values - low) / ((high - low) or 1) * 255).round().astype(np.uint8))


def _reason(path: Path, error: Exception) -> str:
    """Why a picture cannot be read, in a few words without its folder's name."""
    if isinstance(error, UnidentifiedImageError):
        with path.open("rb") as file:
            box = file.read(12)[4:8]  # b"ftyp": the container of HEIC and AVIF, and of films
            if box == b"ftyp" or path.suffix.lower() in UNKNOWN_TO_PILLOW:
                return "it is HEIC, AVIF or a film: export it as JPEG"
        return f"it is no {', '.join(FORMATS[:-1])} or {FORMATS[-1]}"
    if isinstance(error, MemoryError):
        return "it takes more memory than there is"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split()) or type(error).__name__
