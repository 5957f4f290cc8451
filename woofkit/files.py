"""Files that are written whole or not at all, locks that hold across machines, and what is noted of a measurement."""

import hashlib
import json
import os
import platform
import re
import secrets
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from woofkit.config import PROJECT_ROOT, ConfigError
from woofkit.faults import failed_write

if TYPE_CHECKING:
    import pandas as pd
    import torch

RESULTS = PROJECT_ROOT / "data" / "results"  # small tables of finished measurements, committed
LEASE = 60.0  # seconds without a sign of life after which an owner on another machine counts as dead
PACKAGES = ("torch", "torchvision", "timm", "numpy", "pillow")
ABANDONED_SECONDS = 24 * 3600
_TEMPORARY = re.compile(r"\..+\.(?:(?P<machine>[0-9a-f]{8})-)?(?P<process>\d+)-[0-9a-f]{8}\.tmp")


def write_atomic(path: Path, write: Callable[[Path], Any]) -> None:
    """Let `write` fill a temporary file beside `path`, then rename it: `path` is whole or not there.

    A failed write leaves no file behind, and what a process that was killed has left in the folder is removed. What is
    renamed is on the disk before it has its name: a power cut leaves no empty file that passes for whole.

    Raises:
        OSError: the file cannot be written, whatever the library that writes it has raised; it names `path`.
    """
    remove_leftovers(path.parent)
    temporary = temporary_path(path)
    try:
        write(temporary)
        _sync(temporary)
        os.replace(temporary, path)
        _sync(path.parent)
    except Exception as error:
        said = failed_write(error, path)
        if said is error:
            raise
        raise said from error
    finally:
        temporary.unlink(missing_ok=True)


def temporary_path(path: Path) -> Path:
    """A name beside `path` for what is being written, which says whose it is."""
    return path.with_name(f".{path.name}.{_machine()}-{os.getpid()}-{secrets.token_hex(4)}.tmp")


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files, and folders, that killed processes have left in a folder.

    What belongs to a living process stays. Of another machine's processes, which may share the folder, nothing is
    known: what they have left stays for a day.
    """
    with suppress(OSError):
        for entry in os.scandir(folder):
            if found := _TEMPORARY.fullmatch(entry.name):
                own = found["machine"] == _machine()
                if (own and not psutil.pid_exists(int(found["process"]))) or (not own and _is_old(entry)):
                    shutil.rmtree(entry) if entry.is_dir(follow_symlinks=False) else os.unlink(entry)


def _is_old(entry: os.DirEntry) -> bool:
    return time.time() - entry.stat().st_mtime > ABANDONED_SECONDS


@cache
def _machine() -> str:
    """What tells the machines that share a folder apart, and the containers on them, which count processes anew."""
    try:
        processes = os.readlink("/proc/self/ns/pid")
    except OSError:
        processes = ""
    return hashlib.sha256(f"{platform.node()} {processes}".encode()).hexdigest()[:8]


def require_folder(name: str, folder: Path) -> None:
    """Make sure that files can be written to `folder`, before work starts whose results shall go there.

    Nothing is left behind: of a folder that is not there yet, its nearest parent is asked.

    Raises:
        ConfigError: it is a file, or cannot be made or written; the message has `name` and why.
    """
    try:
        if "\0" in str(folder):
            raise ValueError("a NUL in its name")
        there = folder
        while not there.exists() and there != there.parent:
            there = there.parent
        probe = there / f".{secrets.token_hex(8)}.tmp"
        probe.touch()
        probe.unlink()
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ConfigError(
            f"{name} {str(folder)!r} cannot be written ({why}): allowed is a folder of your own"
        ) from error


def require_room(name: str, folder: Path, size: float) -> None:
    """Make sure that `size` bytes can be written to `folder`, which need not be there yet, before work starts.

    Raises:
        ConfigError: the disk has less room; the message has `name` and both sizes.
    """
    there = folder
    while not there.exists() and there != there.parent:
        there = there.parent
    free = shutil.disk_usage(there).free
    if free < size:
        raise ConfigError(
            f"{name} {str(folder)!r} has room for {free / 1e6:,.0f} MB, and {size / 1e6:,.0f} are needed: make room, "
            "or name another folder"
        )


def _sync(path: Path) -> None:
    """Let the disk have what was written to a file, or which names a folder holds."""
    with suppress(OSError):  # a file system, or Windows for a folder, may have no such thing
        descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as readable JSON, atomically."""
    write_atomic(path, lambda temporary: temporary.write_text(json.dumps(value, indent=2) + "\n"))


def write_table(table: "pd.DataFrame", path: Path) -> None:
    """Write a table as CSV, atomically."""
    write_atomic(path, lambda temporary: table.to_csv(temporary, index=False))


@contextmanager
def hold(path: Path, busy: str, log: Callable[[str], None] = print, *, wait: bool = True) -> Iterator[None]:
    """Hold the lock that a file stands for, among all processes and machines that see the file.

    The owner writes its machine and process into the file and touches it every third of LEASE seconds. Where another
    process holds it, `log` gets the sentence `busy`, and this one waits. From a dead owner on this machine it is taken
    at once; from one on another machine once nothing has touched the file for LEASE seconds, by the clock of the one
    who waits. In `busy`, "{owner}" stands for the process that holds it: "12345 on elm, since 10:32".

    An owner that was suspended for so long that another took its place is stopped where it is.

    Raises:
        ConfigError: another process holds it, and `wait` is False; the message is `busy`. Or this one has lost it.
    """
    import ctypes

    from filelock import SoftFileLease, Timeout

    class Lost(BaseException):  # what is handled as an error inside shall not catch it
        pass

    owner = threading.get_ident()

    def stop(_: Any) -> None:  # called by the thread that touches the file
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(owner), ctypes.py_object(Lost))

    path.parent.mkdir(parents=True, exist_ok=True)
    lock = SoftFileLease(path, lease_duration=LEASE, on_compromise=stop, thread_local=False)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        holder = _read_owner(path)
        busy = busy.replace("{owner}", who := _describe_owner(holder))
        if holder.get("machine") == _machine() and not wait:
            raise ConfigError(busy) from None
        log(busy if wait else f"another process ({who}) holds {path}: looking for {LEASE:.0f} s whether it still works")
        try:
            patience = -1 if wait else 1.2 * LEASE
            lock.acquire(patience, min(1.0, LEASE / 10), cancel_check=lambda: _fill_empty(path))
        except Timeout:
            raise ConfigError(busy) from None
    _append(path, f"machine={_machine()}\nsince={datetime.now(UTC).isoformat(timespec='seconds')}\n")
    try:
        yield
    except Lost:
        raise ConfigError(
            f"stopped: for {LEASE:.0f} s this process gave no sign of life in {path}, and another took its place"
        ) from None
    finally:
        lock.release()


def _read_owner(path: Path) -> dict[str, str]:
    """What the owner of a lock has written of itself: pid, host, machine, since. One that is just at it gets time."""
    owner = {}
    for _ in range(10):
        with suppress(OSError, UnicodeDecodeError):  # released just now, or not written to its end
            lines = path.read_text(encoding="utf-8").splitlines()
            owner = {name: value for name, _, value in (line.partition("=") for line in lines)}
        if "since" in owner:
            break
        time.sleep(0.02)
    return owner


def _describe_owner(owner: dict[str, str]) -> str:
    if not owner.get("pid"):
        return "unknown so far"
    words = f"{owner['pid']} on {owner.get('host', '').split('?')[0]}"  # what follows is the container's number
    with suppress(ValueError, KeyError):
        since = datetime.fromisoformat(owner["since"]).astimezone()
        today = since.date() == datetime.now().astimezone().date()
        words += f", since {since:{'%H:%M' if today else '%Y-%m-%d %H:%M'}}"
    return words


def _fill_empty(path: Path) -> bool:
    """Put a line break into a lock's file that is empty, and return False: nobody stops waiting.

    An owner that was killed, or lost its power, before it had written its name leaves an empty file, which filelock
    would take for one of its old versions' and wait for without end. One that it cannot read it takes over after two
    seconds. An owner that still writes its name writes over the line break.
    """
    with suppress(OSError):
        if path.stat().st_size == 0:
            _append(path, "\n")
    return False


def _append(path: Path, text: str) -> None:
    """Append to a file, which is not made anew if it is gone."""
    with suppress(OSError):
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)
        try:
            os.write(descriptor, text.encode())
        finally:
            os.close(descriptor)


def describe_machine(device: "torch.device") -> str:
    """The device in words: "2 cores, AMD EPYC" or the name of the GPU."""
    if device.type == "cuda":
        import torch

        return torch.cuda.get_device_name(device)
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        name = names[0] if names else name
    return f"{os.cpu_count()} cores, {name}"


def describe_environment(device: "torch.device") -> dict[str, str]:
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
