"""What a run costs: peak memory, and what machine and software it ran on."""

import ctypes
import gc
import os
import platform
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import psutil
import torch

from woofkit.config import PROJECT_ROOT

MEGABYTE = 1e6
PACKAGES = ("torch", "torchvision", "timm", "numpy", "pillow")


class PeakMemory:
    """Filled in by `measure_peak_memory`: the highest use within the block beyond that at its start, in MB."""

    megabytes: float = float("nan")


@contextmanager
def measure_peak_memory(device: torch.device, interval: float = 0.02) -> Iterator[PeakMemory]:
    """Measure the peak memory a block adds: the allocator's on a GPU, the process's resident set on a CPU.

    The CPU figure is sampled every `interval` seconds, so a shorter peak may be missed. Outside Linux, memory that
    the process has freed but kept when the block starts is not counted again.
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
    _return_freed_memory()
    process, finished = psutil.Process(), threading.Event()
    start = highest = process.memory_info().rss

    def sample() -> None:
        nonlocal highest
        while not finished.wait(interval):
            highest = max(highest, process.memory_info().rss)

    sampler = threading.Thread(target=sample, daemon=True)
    sampler.start()
    try:
        yield peak
    finally:
        finished.set()
        sampler.join()
        peak.megabytes = (max(highest, process.memory_info().rss) - start) / MEGABYTE


def _return_freed_memory() -> None:
    gc.collect()
    with suppress(AttributeError, OSError):  # glibc alone can be told to
        ctypes.CDLL(None).malloc_trim(0)


def describe_machine(device: torch.device) -> str:
    """The device in words: "2 cores, AMD EPYC" or the name of the GPU."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        name = names[0] if names else name
    return f"{os.cpu_count()} cores, {name}"


def describe_environment(device: torch.device) -> dict[str, str]:
    """Date (UTC), machine, versions and git commit: recorded with a run, and never part of what makes it equal."""
    commit = ""
    with suppress(OSError):  # a machine without git
        head = ["git", "rev-parse", "HEAD"]
        commit = subprocess.run(head, cwd=PROJECT_ROOT, capture_output=True, text=True, check=False).stdout.strip()
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": describe_machine(device),
        "python": platform.python_version(),
        **{package: version(package) for package in PACKAGES},
        "commit": commit or "unknown",
    }
