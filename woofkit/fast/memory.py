"""The memory of this process: kept for the next tensors, given back, and measured at its peak."""

import ctypes
import gc
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import torch

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


def _resident_bytes() -> int:
    if sys.platform == "linux":
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return 1024 * int(line.split()[1])
    return psutil.Process().memory_info().rss
