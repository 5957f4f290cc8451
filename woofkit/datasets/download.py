"""A large file from the network: whole or not there, taken up where it broke off, never taken for what it is not."""

import os
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from woofkit.config import ConfigError
from woofkit.files import require_room

OFFLINE = "WOOFKIT_OFFLINE"
CHUNK = 1 << 16  # bytes read at most at once; what a broken line has brought is kept to the last byte
FRUITLESS = 5  # tries in a row that bring nothing, or next to nothing, after which a download is given up
FIRST_PAUSE = 0.25  # seconds, doubled before each further try
PATIENCE = 4.0  # seconds after which a network that does not answer counts as none
SILENCE = 30.0  # seconds without a byte, or with fewer than SLOWEST per second, after which a line counts as broken
SLOWEST = 1000  # bytes per second: the whole archive would take a day
GZIP = b"\x1f\x8b"


class OfflineError(ConnectionError):
    """The network is there or not: WOOFKIT_OFFLINE says that it is not to be used."""


class _TryAgainError(ConnectionError):
    """A try brought nothing; the next one may."""


def download(url: str, path: Path, most_bytes: int) -> None:
    """Download a .tgz file of at most `most_bytes` to `path`; what comes before the end is kept as `path`.part.

    A line that breaks, or lets next to nothing through, is taken up again while it brings SLOWEST bytes per second, and
    otherwise a few times more. Proxies are those of the environment.

    Raises:
        ConnectionError: there is no network, or the download broke off, and why.
        ConfigError: the file is larger than `most_bytes`, or there is no room for it.
    """
    import requests
    from urllib3.exceptions import HTTPError

    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    try:
        require_network(url)
        with part.open("ab") as file:
            fruitless = 0
            while True:
                start, begin = file.tell(), time.monotonic()
                try:
                    _append_rest(url, file, most_bytes)
                    break
                except (_TryAgainError, requests.RequestException, HTTPError, OSError) as error:
                    if isinstance(error, OSError) and error.errno and not isinstance(error, ConnectionError):
                        raise  # the disk's
                    if _is_final(error):
                        raise ConnectionError(str(error)) from error
                    brought = file.tell() - start
                    fruitful = brought > 0 and brought >= SLOWEST * (time.monotonic() - begin)
                    fruitless = 0 if fruitful else fruitless + 1
                    if fruitless == FRUITLESS:
                        raise ConnectionError(str(error)) from error
                    time.sleep(FIRST_PAUSE * 2**fruitless if fruitless else 0)
        os.replace(part, path)
    finally:
        if part.exists() and part.stat().st_size == 0:
            part.unlink()


def is_offline() -> bool:
    """Whether WOOFKIT_OFFLINE forbids the network, as on a node of a cluster that has none."""
    return os.environ.get(OFFLINE, "") not in ("", "0")


def require_network(url: str) -> None:
    """Raise ConnectionError, within seconds, if neither the host of `url` nor the proxy on the way to it answers.

    With WOOFKIT_OFFLINE set in the environment, to anything but 0, nobody is asked: an OfflineError.
    """
    import requests

    if is_offline():
        raise OfflineError(f"{OFFLINE} is set")

    proxy = requests.utils.select_proxy(url, requests.utils.get_environ_proxies(url))
    place = urlsplit(proxy if proxy and "://" in proxy else f"http://{proxy}" if proxy else url)
    address = (place.hostname or "", place.port or (443 if place.scheme == "https" else 80))
    failed: list[str] = []
    answered = threading.Event()

    def ask() -> None:
        try:
            socket.create_connection(address, timeout=PATIENCE).close()
        except OSError as error:
            failed.append(error.strerror or str(error))
        answered.set()

    threading.Thread(target=ask, daemon=True).start()  # as looking up a name cannot be hurried
    if not answered.wait(PATIENCE) or failed:
        why = failed[0] if failed else f"no answer in {PATIENCE:.0f} s"
        raise ConnectionError(f"{'the proxy ' if proxy else ''}{address[0]} cannot be reached ({why}): no network?")


def _append_rest(url: str, file: IO[bytes], most_bytes: int) -> None:
    """Append what `file` lacks of `url`."""
    import requests
    from tqdm.auto import tqdm

    start = file.tell()
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
    with requests.get(url, headers=headers, stream=True, timeout=SILENCE) as response:
        if response.status_code == 416:
            whole = re.fullmatch(r"bytes \*/(\d+)", response.headers.get("Content-Range", ""))
            if whole and int(whole[1]) == start:
                return  # all is there
            if whole and int(whole[1]) < start:  # a part of another file
                file.truncate(0)
                file.seek(0)
            raise _TryAgainError("the server does not go on from where the part ends")
        response.raise_for_status()
        content = _Content(response)
        if response.status_code == 206:
            if not re.match(rf"bytes {start}-\d+/", response.headers.get("Content-Range", "")):
                raise _TryAgainError("the server answered with another range than it was asked for")
        elif response.status_code == 200:  # the server sends everything from the beginning
            content.require_archive()
            file.truncate(0)
            file.seek(0)
        else:
            raise _TryAgainError(f"the server answered with status {response.status_code}")
        length = response.headers.get("Content-Length", "")
        total = file.tell() + int(length) if length.isdecimal() else None
        if total and total > most_bytes:
            raise _too_large(url, total, most_bytes)
        if total:
            require_room("the folder for downloads,", Path(file.name).parent, total - file.tell())
        name = url.rsplit("/", 1)[-1]
        with tqdm(desc=name, total=total, initial=file.tell(), unit="B", unit_scale=True) as bar:
            while chunk := content.read():
                bar.update(file.write(chunk))
                if file.tell() > most_bytes:
                    file.truncate(0)
                    raise _too_large(url, file.tell(), most_bytes)
        if total and file.tell() < total:
            raise _TryAgainError(f"the answer broke off after {file.tell():,} of {total:,} bytes")


class _Content:
    """The bytes of an answer as they come, the first of which can be looked at before."""

    def __init__(self, response: Any):  # requests is imported late
        self.response, self.first = response, b""
        self.brought, self.since = 0, time.monotonic()

    def require_archive(self) -> None:
        self.first = self.read()
        if self.first[:2] != GZIP[: len(self.first)] or not self.first:
            kind = self.response.headers.get("Content-Type", "something else")
            raise _NoArchiveError(
                f"the answer is no archive ({kind}). A network that wants you to sign in first answers so: open a "
                "page in your browser"
            )

    def read(self) -> bytes:
        """The next bytes, as many as have come; none at the end.

        Raises urllib3's HTTPError where the line breaks, and _TryAgainError where it is next to broken.
        """
        if self.first:
            first, self.first = self.first, b""
            return first
        seconds = time.monotonic() - self.since
        if seconds > SILENCE:
            if self.brought < SLOWEST * seconds:
                raise _TryAgainError(f"the server sent {self.brought:,} bytes in {seconds:.0f} s")
            self.brought, self.since = 0, time.monotonic()
        chunk = self.response.raw.read1(CHUNK)
        self.brought += len(chunk)
        return chunk


class _NoArchiveError(ConnectionError):
    """The answer is whole, and not what was asked for."""


def _is_final(error: Exception) -> bool:
    """Whether another try would end the same: a web page, or a file that is not there or not ours to have."""
    status = getattr(getattr(error, "response", None), "status_code", 0)
    return isinstance(error, _NoArchiveError) or (400 <= status < 500 and status not in (408, 416, 429))


def _too_large(url: str, size: int, most_bytes: int) -> ConfigError:
    return ConfigError(f"{url} is larger than it should be: {size / 1e6:,.0f} MB, and {most_bytes / 1e6:,.0f} at most")


@contextmanager
def offline_where_there_is_no_network() -> Iterator[None]:
    """Within the block, Hugging Face's hub is not waited for where it cannot be reached: it would be, for a minute."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    try:
        if not before:
            require_network(constants.ENDPOINT)
    except ConnectionError:
        constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before
