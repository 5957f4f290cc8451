"""What is frozen is computed once: the tokens that enter the first block with something to train are kept in a file.

A probe trains its head, `last` its last blocks, an adapter may keep to the upper blocks. Everything below gives the
same tokens for an image in every epoch, and in every other run on the same images and weights. So these tokens take
the images' place, and a training begins where something changes:

    <images>-block<start>-<precision>-<hash>.npy     (N, tokens, D), float32 or the bits of bfloat16
"""

import hashlib
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import timm
import torch
from timm.layers import DropPath, PatchDropout
from torch import Tensor, nn
from tqdm.auto import tqdm

from woofkit.fast.forward import embed, reads_class_token_alone, tokens_after
from woofkit.fast.kept_rows import kept_rows
from woofkit.fast.memory import measure_peak_memory
from woofkit.fast.runtime import Runtime

KEPT_AS = {"fp32": torch.float32, "bf16": torch.bfloat16}  # the format in which a run computes
AFTER_BLOCKS = ("norm", "fc_norm", "head")


class Images(Protocol):
    """What is needed of `data.Images`: pixels uint8 (N, 3, H, W), and what normalises a batch of them."""

    pixels: Tensor
    transform: Any

    def __len__(self) -> int: ...


class FrozenCost(NamedTuple):
    """What it took to compute what is frozen: blocks, seconds, and the highest use of memory in MB; 0 if nothing is."""

    blocks: int = 0
    seconds: float = 0.0
    megabytes: float = 0.0

    def added_to(self, costs: dict[str, Any], images: int) -> dict[str, Any]:
        """The costs of a training on so many images, as metrics.json has them, with this as a part of them."""
        if not self.blocks or not costs:
            return costs
        seconds = costs["train_seconds"] + self.seconds
        whole = {"train_seconds": seconds, "images_per_second": images / seconds}
        peak = {"peak_memory_mb": max(costs["peak_memory_mb"], self.megabytes)}
        return costs | whole | peak | {"frozen_blocks": self.blocks, "frozen_seconds": self.seconds}


class AsTheyAre:
    """Stands in the place of a transform where tokens stand in the place of images."""

    def normalize(self, tokens: Tensor) -> Tensor:
        """The tokens in float32, in which they pass from block to block."""
        return tokens.float()


def start_late(
    model: nn.Module,
    images: Mapping[str, Images],
    runtime: Runtime,
    augment: str,
    files: Mapping[str, Path],
    log: Callable[[str], None],
) -> tuple[Runtime, dict[str, Images], FrozenCost]:
    """A runtime that starts at the first block that trains, the tokens that enter it, split by split, and their cost.

    The first two are as they were given where nothing is gained, or where the disk has no room. The model is moved to
    the runtime's device; `files` has, for each split, the file of its pixels, beside which its tokens are kept.
    """
    start = where_to_start(model, runtime, augment)
    if not start:
        return runtime, dict(images), FrozenCost()
    late = replace(runtime, start=start)
    shapes = {split: _shape(model, len(each), start) for split, each in images.items()}
    size = sum(torch.Size(shape).numel() for shape in shapes.values()) * KEPT_AS[runtime.precision].itemsize
    folder = next(iter(files.values())).parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:  # a folder that is only for reading; nothing can be kept there
        return runtime, dict(images), FrozenCost()
    if 2 * size > (free := shutil.disk_usage(folder).free):
        log(
            f"frozen blocks are computed in every epoch: to keep what they give takes {size / 1e6:,.0f} MB twice over, "
            f"and {folder} has {free / 1e6:,.0f} MB left"
        )
        return runtime, dict(images), FrozenCost()
    log(f"blocks 1 to {start} are frozen: what they give is computed once and kept ({size / 1e6:,.0f} MB)")
    begin, kept = time.perf_counter(), {}
    with measure_peak_memory(runtime.device) as memory:
        runtime.prepare(model).eval()
        weights = frozen_hash(model, start)
        for split, each in images.items():
            decisive = hashlib.sha256(f"{weights} {each.transform} {runtime.device.type}".encode()).hexdigest()[:12]
            name = f"{files[split].stem}-block{start}-{runtime.precision}-{decisive}.npy"
            tokens = kept_tokens(model, each, shapes[split], files[split].with_name(name), late, log)
            kept[split] = replace(each, pixels=late.near(tokens), transform=AsTheyAre())
    return late, kept, FrozenCost(start, time.perf_counter() - begin, memory.megabytes)


def where_to_start(model: nn.Module, runtime: Runtime, augment: str) -> int:
    """The block at which a training may begin; 0 where what lies below is not the same in every epoch."""
    if not runtime.fast or augment != "none" or not reads_class_token_alone(model):
        return 0
    start = first_trained_block(model) if any(each.requires_grad for each in model.parameters()) else 0
    below = [
        model.patch_drop,
        model.pos_drop,
        *(module for block in model.blocks[:start] for module in block.modules()),
    ]
    return 0 if any(_is_random(module) for module in below) else start


def first_trained_block(model: nn.Module) -> int:
    """The first block that trains, from 0; the depth if only what comes after the blocks does; 0 if the stem does."""
    first = len(model.blocks)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            first = min(first, _place(name, first))
    return first


def _place(name: str, depth: int) -> int:
    """The block to which a tensor of the model belongs; 0 for the stem, and `depth` for what comes after the blocks."""
    part, *rest = name.split(".")
    if part in AFTER_BLOCKS:
        return depth
    return int(rest[0]) if part == "blocks" else 0


def _is_random(module: nn.Module) -> bool:
    if isinstance(module, nn.Dropout):
        return module.p > 0
    if isinstance(module, DropPath):
        return module.drop_prob > 0
    return isinstance(module, PatchDropout)


def frozen_hash(model: nn.Module, start: int) -> str:
    """Stands for what decides which tokens enter block `start`: weights and versions."""
    digest, depth = hashlib.sha256(f"{start} {timm.__version__} {torch.__version__}".encode()), len(model.blocks)
    for name, tensor in sorted(model.state_dict().items()):
        if _place(name, depth) < start:
            digest.update(f"{name} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def kept_tokens(
    model: nn.Module,
    images: Images,
    shape: tuple[int, int, int],
    path: Path,
    runtime: Runtime,
    log: Callable[[str], None],
) -> Tensor:
    """The tokens of all images that enter block `runtime.start`, from the file `path` where it is; else into it.

    Returns:
        `shape` (N, tokens, D), with one token behind the last block, in the format of KEPT_AS.
    """
    dtype = KEPT_AS[runtime.precision]
    bits = torch.int16 if dtype == torch.bfloat16 else dtype  # files have no bfloat16

    def rows() -> Iterator[Tensor]:
        with tqdm(total=len(images), desc=f"Blocks 1 to {runtime.start}", unit=" images") as bar:
            for pixels in images.pixels.split(runtime.evaluation_batch):
                tokens = _tokens(model, images.transform.normalize(pixels.to(runtime.device)), runtime)
                yield from tokens.to(dtype).cpu().view(bits)
                bar.update(len(pixels))

    return kept_rows(path, shape, rows, log, bits).view(dtype)


def _shape(model: nn.Module, count: int, start: int) -> tuple[int, int, int]:
    height, width = model.patch_embed.grid_size
    tokens = height * width + model.num_prefix_tokens if start < len(model.blocks) else 1
    return count, tokens, model.embed_dim


@torch.inference_mode()
def _tokens(model: nn.Module, images: Tensor, runtime: Runtime) -> Tensor:
    with runtime.autocast():
        return tokens_after(model, embed(model, images), 0, runtime.start)
