"""Drawings for pretraining, made once and kept as memory-mapped files; an interrupted run continues where it was."""

import hashlib
import json
import sys
import time
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.lib.format import open_memmap
from tqdm import tqdm

from woofkit.files import write_json
from woofkit.sketch.drawing import Drawing, draw_dog
from woofkit.sketch.traits import Traits

SAVE_DRAWINGS = 2000  # drawings from one note of what is on the disk to the next


class DrawingCache(NamedTuple):
    """Drawings of one size; number i shows breed i % len(breeds).

    `images` (N, S, S, 3) and `masks` (N, S, S), the parts of the dog, are uint8 and memory-mapped; drawing them took
    `seconds` of wall time.
    """

    images: np.ndarray
    masks: np.ndarray
    seconds: float


def short_hash(settings: object) -> str:
    """Return eight hex digits that stand for settings."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()[:8]


def _draw(index: int, breeds: list[Traits], seed: int, size: int) -> Drawing:
    return draw_dog(breeds[index % len(breeds)], seed=seed, index=index, size=size)


def draw_cache(folder: Path, breeds: list[Traits], seed: int, size: int, number: int, workers: int) -> DrawingCache:
    """Return `number` drawings of `size` pixels a side; made by the first call, found by the next."""
    # Named after a few drawings: a change of the drawing code that changes none of them keeps the cache.
    sample = [_draw(i, breeds, seed, 64) for i in range(40)]
    pixels = hashlib.sha256(b"".join(d.image.tobytes() + d.mask.tobytes() for d in sample)).hexdigest()
    stem = f"litter-{size}px-{number}-{short_hash([list(map(str, breeds)), seed, pixels])}"
    paths, note = (folder / f"{stem}.npy", folder / f"{stem}-masks.npy"), folder / f"{stem}.json"
    if not all(path.exists() for path in paths):
        note.unlink(missing_ok=True)  # what it counts is gone
    state = json.loads(note.read_text()) if note.exists() else {"drawn": 0, "seconds": 0.0}
    first, earlier, begun = state["drawn"], state["seconds"], time.monotonic()
    if first < number:
        folder.mkdir(parents=True, exist_ok=True)
        mode = "r+" if first else "w+"
        images = open_memmap(paths[0], mode, np.uint8, (number, size, size, 3))
        masks = open_memmap(paths[1], mode, np.uint8, (number, size, size))
        with get_context("spawn").Pool(workers) as pool:
            drawn = pool.imap(partial(_draw, breeds=breeds, seed=seed, size=size), range(first, number), chunksize=64)
            seldom = 0.1 if sys.stderr.isatty() else 30  # seconds between two lines of progress
            bar = tqdm(drawn, f"drawing at {size} px", number, initial=first, mininterval=seldom, unit=" drawings")
            for i, drawing in enumerate(bar, start=first):
                images[i], masks[i] = drawing.image, drawing.mask
                if (i + 1) % SAVE_DRAWINGS == 0 or i + 1 == number:
                    images.flush()
                    masks.flush()
                    # After the pixels: what the note counts is on the disk.
                    state = {"drawn": i + 1, "seconds": round(earlier + time.monotonic() - begun, 3)}
                    write_json(note, state)
    return DrawingCache(*(np.load(path, mmap_mode="r") for path in paths), state["seconds"])
