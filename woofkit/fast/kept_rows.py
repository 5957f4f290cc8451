"""What costs time and stays the same, kept in one file that later runs map into memory instead of making it again.

    <name>-<split>-<size>px-<N>-<hash>.npy     decoded or drawn images, uint8 (N, 3, size, size)

The hash stands for everything that decides the content. The files may be deleted at any time.
"""

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import psutil
import torch

from woofkit.config import ConfigError
from woofkit.files import hold, write_atomic

Shape = tuple[int, ...]


def kept_rows(
    path: Path,
    shape: Shape,
    rows: Callable[[], Iterator[torch.Tensor]],
    log: Callable[[str], None],
    dtype: torch.dtype = torch.uint8,
) -> torch.Tensor:
    """The tensor of `shape` whose rows `rows()` yields, from the file `path`; it is written where it lacks.

    The tensor is a private view of the file: it takes no memory of its own, and what is written into it stays in this
    process. A damaged file is made again; where none can be written, the rows stay in memory. `log` gets a line then,
    and where another process makes the same file, for which this one waits.

    Raises:
        OSError: an image cannot be read.
    """
    damaged = False
    if path.exists():
        try:
            return _map(path, shape, dtype)
        except Exception as error:  # numpy raises many kinds for a damaged header
            log(f"cache: {path} is damaged ({error}); it is made again")
            damaged = True
    unreadable: list[OSError] = []

    def watched() -> Iterator[torch.Tensor]:
        try:
            yield from rows()
        except OSError as error:
            unreadable.append(error)
            raise

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with hold(path.with_suffix(".lease"), f"another process ({{owner}}) makes {path.name}: waiting for it", log):
            if damaged or not path.exists():
                with closing(watched()) as made:
                    write_atomic(path, lambda temporary: _write(temporary, shape, made, dtype))
        return _map(path, shape, dtype)
    except OSError as error:
        if error in unreadable:  # the fault is the image's and not the cache's
            raise
        why = error.strerror or error
        log(f"cache: {path.parent} cannot be written ({why}); the {shape[0]:,} images stay in memory")
        return rows_in_memory(shape, rows(), dtype)


def require_rows_fit(name: str, count: int, row_bytes: int, folder: Path) -> None:
    """Make sure that so many rows can be kept, in files in `folder` or in memory, before any is made.

    Raises:
        ConfigError: there is room in neither; the message has `name`, and how many rows would fit.
    """
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    disk, memory = shutil.disk_usage(folder).free, psutil.virtual_memory().available
    if count * row_bytes > max(disk, memory):
        needed, disk_free, memory_free = (f"{size / 1e9:,.0f} GB" for size in (count * row_bytes, disk, memory))
        raise ConfigError(
            f"{name} = {count:,} images take {needed}, and {disk_free} of disk and {memory_free} of memory are free: "
            f"{max(disk, memory) // row_bytes:,} images fit"
        )


def rows_in_memory(shape: Shape, rows: Iterator[torch.Tensor], dtype: torch.dtype = torch.uint8) -> torch.Tensor:
    """All rows as one tensor of `shape`."""
    whole = torch.empty(shape, dtype=dtype)
    for index, row in enumerate(rows):
        whole[index] = row
    return whole


def _map(path: Path, shape: Shape, dtype: torch.dtype) -> torch.Tensor:
    kept, expected = np.load(path, mmap_mode="c"), _numpy(dtype)  # "c": writing copies the page, the file stays
    if kept.shape != shape or kept.dtype != expected:
        raise ValueError(f"it holds {kept.dtype} {kept.shape}, not {expected} {shape}")
    if path.stat().st_size != kept.offset + kept.nbytes:
        raise ValueError("it is longer than what was written")
    return torch.from_numpy(kept)


def _numpy(dtype: torch.dtype) -> np.dtype:
    return torch.empty(0, dtype=dtype).numpy().dtype


def _write(path: Path, shape: Shape, rows: Iterator[torch.Tensor], dtype: torch.dtype) -> None:
    """Write rows one after the other as an .npy file.

    Not through a memory map: there a disk that fills up ends the process instead of raising OSError.
    """
    size = int(np.prod(shape)) * dtype.itemsize
    if shutil.disk_usage(path.parent).free < size:
        raise OSError(errno.ENOSPC, f"{os.strerror(errno.ENOSPC)}: {size / 1e6:,.0f} MB are needed")
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": _numpy(dtype).str, "fortran_order": False, "shape": shape})
        for row in rows:
            file.write(row.contiguous().numpy())
