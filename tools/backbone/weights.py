"""The weights that pretraining ships: half precision, with what a user must know to feed them, and their sha256."""

import hashlib
import json
from pathlib import Path

from safetensors.torch import save
from torch import nn

from woofkit.files import write_atomic


def write_weights(model: nn.Module, path: Path, num_classes: int) -> str:
    """Write the weights as safetensors, and their sha256 beside them; return the sha256."""
    half = json.dumps([0.5, 0.5, 0.5])
    metadata = {
        "mean": half,
        "std": half,
        "crop_pct": "1.0",
        "interpolation": "bicubic",
        "num_classes": str(num_classes),
    }
    tensors = {name: tensor.detach().cpu().half().contiguous() for name, tensor in model.state_dict().items()}
    blob = _sorted_header(save(tensors, metadata))
    digest = hashlib.sha256(blob).hexdigest()
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, lambda temporary: temporary.write_bytes(blob))
    note = path.with_suffix(path.suffix + ".sha256")
    write_atomic(note, lambda temporary: temporary.write_text(f"{digest}  {path.name}\n"))
    return digest


def _sorted_header(blob: bytes) -> bytes:
    """Return safetensors bytes with the header's keys sorted: the library leaves their order to chance."""
    length = int.from_bytes(blob[:8], "little")
    header = json.dumps(json.loads(blob[8 : 8 + length]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + blob[8 + length :]
