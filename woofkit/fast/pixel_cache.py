"""Decoded or drawn images, kept in one file that later runs map into memory instead of making them again.

    <name>-<split>-<size>px-<N>-<hash>.npy     uint8 (N, 3, size, size)

The hash stands for everything that decides the pixels. The files may be deleted at any time.
"""

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import torch

from woofkit.files import write_atomic

Shape = tuple[int, int, int, int]


def kept_pixels(
    path: Path, shape: Shape, images: Callable[[], Iterator[torch.Tensor]], log: Callable[[str], None]
) -> torch.Tensor:
    """The pixels that `images()` yields, one uint8 (3, H, W) each, from the file `path`; it is written where it lacks.

    The tensor is a private view of the file: it takes no memory of its own, and what is written into it stays in this
    process. A damaged file is made again; where none can be written, the pixels stay in memory. `log` gets a line then.

    Raises:
        OSError: an image cannot be read.
    """
    if path.exists():
        try:
            return _map(path, shape)
        except Exception as error:  # numpy raises many kinds for a damaged header
            log(f"cache: {path} is damaged ({error}); it is made again")
    unreadable: list[OSError] = []

    def watched() -> Iterator[torch.Tensor]:
        try:
            yield from images()
        except OSError as error:
            unreadable.append(error)
            raise

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with closing(watched()) as made:
            write_atomic(path, lambda temporary: _write(temporary, shape, made))
        return _map(path, shape)
    except OSError as error:
        if error in unreadable:  # the fault is the image's and not the cache's
            raise
        why = error.strerror or error
        log(f"cache: {path.parent} cannot be written ({why}); the {shape[0]:,} images stay in memory")
        return pixels_in_memory(shape, images())


def pixels_in_memory(shape: Shape, images: Iterator[torch.Tensor]) -> torch.Tensor:
    """All images, one uint8 (3, H, W) each, as one tensor of `shape` (N, 3, H, W)."""
    pixels = torch.empty(shape, dtype=torch.uint8)
    for index, image in enumerate(images):
        pixels[index] = image
    return pixels


def _map(path: Path, shape: Shape) -> torch.Tensor:
    pixels = np.load(path, mmap_mode="c")  # "c": writing copies the page, the file stays
    if pixels.shape != shape or pixels.dtype != np.uint8:
        raise ValueError(f"it holds {pixels.dtype} {pixels.shape}, not uint8 {shape}")
    if path.stat().st_size != pixels.offset + pixels.nbytes:
        raise ValueError("it is longer than what was written")
    return torch.from_numpy(pixels)


def _write(path: Path, shape: Shape, images: Iterator[torch.Tensor]) -> None:
    """Write images one after the other as an .npy file.

    Not through a memory map: there a disk that fills up ends the process instead of raising OSError.
    """
    size = int(np.prod(shape))
    if shutil.disk_usage(path.parent).free < size:
        raise OSError(errno.ENOSPC, f"{os.strerror(errno.ENOSPC)}: {size / 1e6:,.0f} MB are needed")
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
        for image in images:
            file.write(image.contiguous().numpy())
