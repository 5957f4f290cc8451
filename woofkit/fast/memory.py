"""The memory of this process: kept for the next tensors, given back, measured at its peak, and what fits into it."""

import ctypes
import gc
import math
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import torch
from timm.data import resolve_model_data_config
from torch import Tensor, nn

from woofkit.faults import LESS_MEMORY, lacks_memory

try:
    import resource
except ImportError:  # Windows
    resource = None

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_KEPT_BYTES, _KEPT_BYTES_BEFORE = 2**30, 2**25  # older versions of glibc allow no more than the second


def keep_freed_memory() -> None:
    """Let this process keep the memory that tensors free, for the next tensors, instead of giving it back.

    By default the C library returns every large block to the system, and each step of a training on a CPU has its
    activations' pages mapped and cleared anew. Only glibc can be told; elsewhere nothing happens.
    """
    library = _c_library()
    if not hasattr(library, "mallopt"):
        return
    for most in (_KEPT_BYTES, _KEPT_BYTES_BEFORE):
        if library.mallopt(_M_MMAP_THRESHOLD, most):
            library.mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
            return


def return_freed_memory() -> None:
    """Give the memory that this process has freed, but kept, back to the system; only glibc can be told to."""
    gc.collect()
    library = _c_library()
    if hasattr(library, "malloc_trim"):
        library.malloc_trim(0)


def _c_library() -> ctypes.CDLL | None:
    return ctypes.CDLL(None) if sys.platform == "linux" else None


MEGABYTE = 1e6


class PeakMemory:
    """Filled in by `measure_peak_memory`: the highest use within the block beyond that at its start, in MB."""

    megabytes: float = float("nan")


@contextmanager
def measure_peak_memory(device: torch.device, interval: float = 0.02) -> Iterator[PeakMemory]:
    """Measure the peak memory a block adds: the allocator's on a GPU, the process's own pages on a CPU.

    The CPU figure is sampled every `interval` seconds, so a shorter peak may be missed. On Linux, files that are
    mapped into memory are not counted; elsewhere they are, and what the process has freed but kept is not.
    """
    peak = PeakMemory()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        start = torch.cuda.memory_allocated(device)
        try:
            yield peak
        finally:
            peak.megabytes = (torch.cuda.max_memory_allocated(device) - start) / MEGABYTE
        return
    return_freed_memory()
    finished = threading.Event()
    start = highest = _resident_bytes()

    def sample() -> None:
        nonlocal highest
        while not finished.wait(interval):
            highest = max(highest, _resident_bytes())

    sampler = threading.Thread(target=sample, daemon=True)
    sampler.start()
    try:
        yield peak
    finally:
        finished.set()
        sampler.join()
        peak.megabytes = (max(highest, _resident_bytes()) - start) / MEGABYTE


# --- what fits ---

SHARE = 0.8  # of the memory that is free; the rest is for what no tensor shows


@contextmanager
def naming_what_fits(model: nn.Module, batch_size: int) -> Iterator[None]:
    """Let a lack of memory in the block, which trains `model`, be a MemoryError that names a batch which fits."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not lacks_memory(error):
            raise
        fits = 0
        with suppress(MemoryError, RuntimeError):  # where not even one image's pass fits
            fits = batch_that_fits(model)
        how = f"micro_batch={fits} fits and computes the same" if 0 < fits < batch_size else LESS_MEMORY
        raise MemoryError(f"the memory is not enough for batches of {batch_size:,} images: {how}") from error


def batch_that_fits(model: nn.Module) -> int:
    """How many images a training step of a timm model can take into the free memory: a power of two, or 0."""
    gc.collect()
    device = next(model.parameters()).device
    if device.type == "cuda":
        torch.cuda.empty_cache()
        free = torch.cuda.mem_get_info(device)[0]
    else:
        free = free_memory()
    steps = sum(3 * parameter.nbytes for parameter in model.parameters() if parameter.requires_grad)  # gradient, Adam
    shape = resolve_model_data_config(model)["input_size"]
    images = SHARE * (free - steps) / activation_bytes(model, torch.zeros(1, *shape, device=device))
    return 2 ** int(math.log2(images)) if images >= 1 else 0


def activation_bytes(model: nn.Module, images: Tensor) -> int:
    """Bytes that a forward pass over images (B, 3, H, W) keeps for the backward pass, each tensor counted once."""
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, int] = {}

    def count(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        logits = model(images)  # held, as what was freed could come twice at one address
    del logits
    return max(sum(kept.values()), images.nbytes)


def free_memory() -> int:
    """Bytes that this process may still take: of the machine, of its container, and of its own limit."""
    free = [psutil.virtual_memory().available]
    with suppress(OSError, ValueError):  # no such container, or no limit: "max"
        group = Path("/sys/fs/cgroup")
        free.append(int((group / "memory.max").read_text()) - int((group / "memory.current").read_text()))
    if resource and (limit := resource.getrlimit(resource.RLIMIT_AS)[0]) != resource.RLIM_INFINITY:
        free.append(limit - psutil.Process().memory_info().vms)
    return max(0, min(free))


def _resident_bytes() -> int:
    if sys.platform == "linux":
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return 1024 * int(line.split()[1])
    return psutil.Process().memory_info().rss
