"""What pretraining writes: its checkpoint, the weights it ships and their numbers; nothing half-written is left."""

from __future__ import annotations

import hashlib
import json
import os
from datetime import date
from pathlib import Path

import torch
from safetensors.torch import save
from torch import nn


def short_hash(settings: object) -> str:
    """Return eight hex digits that stand for settings."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()[:8]


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
    metadata = {
        "mean": half,
        "std": half,
        "crop_pct": "1.0",
        "interpolation": "bicubic",
        "num_classes": str(num_classes),
    }
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
    return {
        "date": date.today().isoformat(),
        "cpu_cores": os.cpu_count(),
        "torch": torch.__version__,
        "precision": "bf16 autocast",
    }
