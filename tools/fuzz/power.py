"""A disk whose power can be cut: an ext4 file system in a file, shut down without a word to it."""

import fcntl
import os
import struct
import subprocess
from pathlib import Path

SHUTDOWN, NO_LOG_FLUSH = 0x8004587D, 2  # EXT4_IOC_SHUTDOWN: nothing that is not on the disk yet gets there


class Disk:
    """A mounted ext4 image of 200 MB below `folder`; needs root and a loop device, else OSError."""

    def __init__(self, folder: Path):
        self.image, self.mounted = folder / "disk.img", folder / "mounted"

    def __enter__(self) -> "Disk":
        self.mounted.mkdir()
        with self.image.open("wb") as file:
            file.truncate(200 * 2**20)
        _run("mkfs.ext4", "-q", "-F", str(self.image))
        self._mount()
        return self

    def __exit__(self, *_: object) -> None:
        _run("umount", str(self.mounted))

    def cut_power(self) -> None:
        """Shut the file system down as it is on the disk now, and mount it again."""
        descriptor = os.open(self.mounted, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
        finally:
            os.close(descriptor)
        _run("umount", str(self.mounted))
        self._mount()

    def _mount(self) -> None:
        _run("mount", "-o", "loop", str(self.image), str(self.mounted))


def _run(*words: str) -> None:
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        raise OSError(f"{words[0]}: {done.stderr.strip() or done.returncode}")


def why_not(folder: Path) -> str:
    """Why no disk can be made here, in words; "" if one can."""
    try:
        with Disk(folder) as disk:
            disk.cut_power()
    except OSError as error:
        return str(error)
    return ""
