"""What pretraining keeps on disk: drawn pictures, its checkpoint, the weights it ships and their numbers."""

from __future__ import annotations

import hashlib
import json
import os
import time
from datetime import date
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save
from torch import nn

from woofkit.sketch import Traits, draw_dog


def short_hash(settings: object) -> str:
    """Return eight hex digits that stand for settings."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()[:8]


def _draw(index: int, breeds: list[Traits], seed: int, size: int) -> np.ndarray:
    return draw_dog(breeds[index % len(breeds)], seed=seed, index=index, size=size).image


def draw_cache(folder: Path, breeds: list[Traits], seed: int, size: int, number: int, workers: int) -> np.ndarray:
    """Return uint8 pictures (number, size, size, 3), memory-mapped; picture i shows breed i % len(breeds).

    They are drawn on the first call and found on the next.
    """
    # Named after the pixels of a few drawings: a change of the drawing code that changes none keeps the cache.
    sample = hashlib.sha256(b"".join(_draw(i, breeds, seed, 64).tobytes() for i in range(40))).hexdigest()
    path = folder / f"litter-{size}px-{number}-{short_hash([list(map(str, breeds)), seed, sample])}.npy"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".npy.part")
        pictures = np.lib.format.open_memmap(part, "w+", np.uint8, (number, size, size, 3))
        begun = time.monotonic()
        with get_context("spawn").Pool(workers) as pool:
            work = partial(_draw, breeds=breeds, seed=seed, size=size)
            for i, picture in enumerate(pool.imap(work, range(number), chunksize=64)):
                pictures[i] = picture
                if (i + 1) % 2000 == 0 or i + 1 == number:
                    rate = (i + 1) / (time.monotonic() - begun)
                    left = (number - i - 1) / rate
                    print(f"drawing at {size} px  {i + 1:,}/{number:,}  {rate:.0f} images/s  "
                          f"{int(left // 60)}:{int(left % 60):02d} left", flush=True)  # fmt: skip
        pictures.flush()
        os.replace(part, path)
    return np.load(path, mmap_mode="r")


def save_state(path: Path, state: dict) -> None:
    """Write a checkpoint; a file that is there stays whole until the new one is."""
    part = path.with_suffix(".part")
    torch.save(state, part)
    os.replace(part, path)


def load_state(path: Path) -> dict | None:
    """Return the checkpoint, without executing anything in it, or None."""
    return torch.load(path, map_location="cpu", weights_only=True) if path.exists() else None


def write_weights(model: nn.Module, path: Path, num_classes: int) -> str:
    """Write the weights in half precision with what a user must know to feed them; return their sha256."""
    path.parent.mkdir(parents=True, exist_ok=True)
    half = json.dumps([0.5, 0.5, 0.5])
    metadata = {"mean": half, "std": half, "crop_pct": "1.0", "interpolation": "bicubic",
                "num_classes": str(num_classes)}  # fmt: skip
    part = path.with_suffix(".part")
    tensors = {k: v.detach().cpu().half().contiguous() for k, v in model.state_dict().items()}
    part.write_bytes(_sorted_header(save(tensors, metadata)))
    digest = hashlib.sha256(part.read_bytes()).hexdigest()
    os.replace(part, path)
    note = path.with_suffix(path.suffix + ".sha256")
    note.with_suffix(".part").write_text(f"{digest}  {path.name}\n")
    os.replace(note.with_suffix(".part"), note)
    return digest


def _sorted_header(blob: bytes) -> bytes:
    """Return safetensors bytes with the header's keys sorted: the library leaves their order to chance."""
    length = int.from_bytes(blob[:8], "little")
    header = json.dumps(json.loads(blob[8 : 8 + length]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + blob[8 + length :]


def write_json(path: Path, content: dict) -> None:
    """Write a small table of results."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(json.dumps(content, indent=2) + "\n")
    os.replace(part, path)


def machine() -> dict:
    """Return what the numbers were measured with."""
    return {"date": date.today().isoformat(), "cpu_cores": os.cpu_count(), "torch": torch.__version__,
            "precision": "bf16 autocast"}  # fmt: skip
