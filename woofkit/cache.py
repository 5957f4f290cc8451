"""Images decoded or drawn once, kept as a file of pixels that later runs find, check and map into memory.

    <name>-<split>-<size>px-<N>-<hash>.npy     uint8 (N, 3, size, size)
    <name>-<split>-<size>px-<N>-<hash>.json    its shape, bytes and checksum: written last, so there means whole

The hash stands for what decides the pixels. Both files may be deleted at any time.
"""

import errno
import hashlib
import io
import json
import os
import shutil
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import fields
from pathlib import Path

import numpy as np
import PIL
import torch
from PIL import Image

from woofkit.config import PROJECT_ROOT
from woofkit.data import WoofDataset
from woofkit.preprocess import Transform, iter_pixels, load_pixels
from woofkit.results import write_atomic, write_json

PACKAGE = Path(__file__).parent
CACHE = PROJECT_ROOT / "data" / "cache"
BLOCK = 2**24  # bytes read at a time


def cached_pixels(
    dataset: WoofDataset,
    transform: Transform,
    *,
    fingerprint: str,
    folder: Path | None = None,
    progress: bool = True,
    report: Callable[[str], None] | None = None,
) -> torch.Tensor:
    """The pixels that `load_pixels` gives, uint8 (N, 3, H, W), from a file where an earlier call has left one.

    The tensor is a private view of the file: it takes no memory of its own, and what is written into it stays
    in this process. A damaged file is made again; where none can be written, the pixels stay in memory.

    Args:
        fingerprint: `dataset.fingerprint()`, which callers have at hand and which reads every photograph.
        folder: where the files are; None is data/cache.
        report: gets a line where a file is damaged or cannot be written; None prints it.

    Raises:
        OSError: an image cannot be read; the message names it.
    """
    report = report or (lambda line: print(line, flush=True))
    path = _path(folder or CACHE, dataset, transform, fingerprint)
    shape = (len(dataset), 3, transform.size, transform.size)
    if path.exists():
        damage = _damage(path, shape)
        if not damage:
            return _map(path)
        report(f"cache: {path} {damage}; it is made again")
    failure = _build(path, shape, dataset, transform, progress)
    if not failure:
        return _map(path)
    report(f"cache: {path.parent} cannot be written ({failure}); the {len(dataset):,} images stay in memory")
    return load_pixels(dataset, transform, progress)


def _path(folder: Path, dataset: WoofDataset, transform: Transform, fingerprint: str) -> Path:
    geometry = {field.name: str(getattr(transform, field.name)) for field in fields(transform)}
    del geometry["mean"], geometry["std"]  # applied to each batch
    # Pillow decodes and resizes; a sample shows a change of how it, or this package, does so
    sample = np.random.default_rng(0).integers(0, 256, (97, 131, 3), dtype=np.uint8)
    cut = hashlib.sha256(transform.geometry(Image.fromarray(sample)).tobytes()).hexdigest()
    decisive = json.dumps([fingerprint, geometry, PIL.__version__, cut, _drawing_code(dataset)], sort_keys=True)
    digest = hashlib.sha256(decisive.encode()).hexdigest()[:12]
    return folder / f"{dataset.name}-{dataset.split}-{transform.size}px-{len(dataset)}-{digest}.npy"


def _drawing_code(dataset: WoofDataset) -> str:
    """The hash of the code that draws, "" for photographs: the fingerprint has seen only a sample of the drawings."""
    if not dataset.drawn:
        return ""
    sources = sorted((PACKAGE / "sketch").glob("*.py"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()


def _note(path: Path) -> Path:
    return path.with_suffix(".json")


def _map(path: Path) -> torch.Tensor:
    return torch.from_numpy(np.load(path, mmap_mode="c"))  # "c": writing copies the page, the file stays


def _damage(path: Path, shape: tuple[int, ...]) -> str:
    """What is wrong with a file, or "". Reading all of it also brings it into the system's memory."""
    try:
        expected = json.loads(_note(path).read_text())
        crc = size = 0
        with path.open("rb") as file:
            while block := file.read(BLOCK):
                crc, size = zlib.crc32(block, crc), size + len(block)
    except FileNotFoundError:
        return "has no note of its checksum"
    except (OSError, ValueError) as error:
        return f"cannot be checked ({error})"
    found = {"shape": list(shape), "bytes": size, "crc32": crc}
    return "" if found == expected else "is damaged: its shape, length or checksum is not what was written"


def _build(path: Path, shape: tuple[int, ...], dataset: WoofDataset, transform: Transform, progress: bool) -> str:
    """Write the file and its note; return why they cannot be written, or ""."""
    unreadable = []

    def images() -> Iterator[torch.Tensor]:
        try:
            yield from iter_pixels(dataset, transform, progress)
        except OSError as error:
            unreadable.append(error)
            raise

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with closing(images()) as pixels:
            written = {}
            write_atomic(path, lambda temporary: written.update(_write(temporary, shape, pixels)))
        write_json(_note(path), written)
    except OSError as error:
        if error in unreadable:  # the fault is the image's and not the cache's
            raise
        return error.strerror or str(error)
    return ""


def _write(path: Path, shape: tuple[int, ...], images: Iterator[torch.Tensor]) -> dict:
    """Write images one after the other as an .npy file; return its note.

    Not through a memory map: there a disk that fills up ends the process instead of raising OSError.
    """
    header = io.BytesIO()
    layout = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(header, layout)
    size = header.tell() + int(np.prod(shape))
    if shutil.disk_usage(path.parent).free < size:
        raise OSError(errno.ENOSPC, f"{os.strerror(errno.ENOSPC)}: {size / 1e6:,.0f} MB are needed")
    with path.open("wb") as file:
        file.write(header.getvalue())
        crc = zlib.crc32(header.getvalue())
        for image in images:
            block = image.contiguous().numpy()
            file.write(block)
            crc = zlib.crc32(block, crc)
    return {"shape": list(shape), "bytes": size, "crc32": crc}
