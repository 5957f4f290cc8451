"""On what machine, with which software and from which commit something was measured."""

import os
import platform
import subprocess
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import torch

from woofkit.config import PROJECT_ROOT

PACKAGES = ("torch", "torchvision", "timm", "numpy", "pillow")


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
    """Date (UTC), machine, versions and git commit: recorded with a run, and never part of what makes it equal.

    A commit with "+" is one whose files had been changed.
    """
    commit = _git("rev-parse", "HEAD")
    if commit and _git("status", "--porcelain", "--untracked-files=no"):
        commit += "+"
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": describe_machine(device),
        "python": platform.python_version(),
        **{package: version(package) for package in PACKAGES},
        "commit": commit or "unknown",
    }


def _git(*arguments: str) -> str:
    with suppress(OSError):  # a machine without git
        return subprocess.run(
            ["git", *arguments], cwd=PROJECT_ROOT, capture_output=True, text=True, check=False
        ).stdout.strip()
    return ""
