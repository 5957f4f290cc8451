"""Drawings for pretraining, made once and kept as memory-mapped files; an interrupted run goes on where it was."""

from __future__ import annotations

import hashlib
import json
import time
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tools.backbone.files import short_hash, write_json
from woofkit.sketch.drawing import Drawing, draw_dog
from woofkit.sketch.traits import Traits

SAVE_DRAWINGS = 2000  # drawings from one printed line, and one note of what is on the disk, to the next


class DrawingCache(NamedTuple):
    """Drawings of one size; number i shows breed i % len(breeds).

    `images` (N, S, S, 3) and `masks` (N, S, S), the parts of the dog, are uint8 and memory-mapped; `seconds`
    of wall time went into drawing them.
    """

    images: np.ndarray
    masks: np.ndarray
    seconds: float


def _draw(index: int, breeds: list[Traits], seed: int, size: int) -> Drawing:
    return draw_dog(breeds[index % len(breeds)], seed=seed, index=index, size=size)


def _open(path: Path, shape: tuple[int, ...], begun: bool) -> np.ndarray:
    return np.lib.format.open_memmap(path, "r+") if begun else np.lib.format.open_memmap(path, "w+", np.uint8, shape)


def draw_cache(folder: Path, breeds: list[Traits], seed: int, size: int, number: int, workers: int) -> DrawingCache:
    """Return `number` drawings of `size` pixels a side; made by the first call, found by the next."""
    # Named after a few drawings: a change of the drawing code that changes none of them keeps the cache.
    sample = [_draw(i, breeds, seed, 64) for i in range(40)]
    pixels = hashlib.sha256(b"".join(d.image.tobytes() + d.mask.tobytes() for d in sample)).hexdigest()
    stem = f"litter-{size}px-{number}-{short_hash([list(map(str, breeds)), seed, pixels])}"
    paths = folder / f"{stem}.npy", folder / f"{stem}-masks.npy"
    note = folder / f"{stem}.json"
    state = {"drawn": 0, "seconds": 0.0}
    if all(path.exists() for path in (note, *paths)):
        state = json.loads(note.read_text())
    else:
        note.unlink(missing_ok=True)  # what it counts is gone
    if state["drawn"] < number:
        folder.mkdir(parents=True, exist_ok=True)
        images = _open(paths[0], (number, size, size, 3), state["drawn"] > 0)
        masks = _open(paths[1], (number, size, size), state["drawn"] > 0)
        first, earlier, begun = state["drawn"], state["seconds"], time.monotonic()
        with get_context("spawn").Pool(workers) as pool:
            work = partial(_draw, breeds=breeds, seed=seed, size=size)
            for i, drawing in enumerate(pool.imap(work, range(first, number), chunksize=64), start=first):
                images[i], masks[i] = drawing.image, drawing.mask
                if (i + 1) % SAVE_DRAWINGS == 0 or i + 1 == number:
                    images.flush()
                    masks.flush()
                    seconds = time.monotonic() - begun
                    # After the pixels: what the note counts is on the disk.
                    state = {"drawn": i + 1, "seconds": round(earlier + seconds, 3)}
                    write_json(note, state)
                    rate = (i + 1 - first) / seconds
                    left = (number - i - 1) / rate
                    print(
                        f"drawing at {size} px  {i + 1:,}/{number:,}  {rate:.0f} images/s  "
                        f"{int(left // 60)}:{int(left % 60):02d} left",
                        flush=True,
                    )
    return DrawingCache(*(np.load(path, mmap_mode="r") for path in paths), state["seconds"])
