"""What comes from outside: archives, servers and parameters."""

import hashlib
import io
import string
import tarfile
import threading
import time
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tools.fuzz.trial import Place, command, in_child
from woofkit.config import ConfigError
from woofkit.datasets import download
from woofkit.datasets.imagewoof import WNIDS, Archive, fetch_archive

FOLDER = "imagewoof2-160"


def good_files() -> dict[str, bytes]:
    """One image per breed and split, of bytes that nobody decodes."""
    return {
        f"{FOLDER}/{split}/{wnid}/{wnid}_0.JPEG": wnid.encode() * 60 for split in ("train", "val") for wnid in WNIDS
    }


def pack(members: list[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    """A .tgz of these members."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for member, content in members:
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return packed.getvalue()


def archive_of(content: bytes, url: str = "http://127.0.0.1:9/imagewoof2-160.tgz") -> Archive:
    """The archive with its right md5, of ten images per split."""
    return Archive(url, hashlib.md5(content).hexdigest(), FOLDER, len(WNIDS), len(WNIDS), most_bytes=10**6)


def hostile_archive(place: Place) -> str:
    """A hostile or broken archive with the right md5"""
    members = [(tarfile.TarInfo(name), content) for name, content in good_files().items()]
    for _ in range(place.random.randint(0, 3)):
        member = tarfile.TarInfo(
            place.random.choice(["../evil", "/tmp/woofkit-evil", f"{FOLDER}/../../evil", "a/b", FOLDER])
        )
        kinds = [tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.DIRTYPE]
        member.type = place.random.choice(kinds)
        member.linkname = place.random.choice(["/etc/passwd", "../../evil", "train", ""])
        content = bytes(place.random.choice([0, 10, 5 * 10**6])) if member.type == tarfile.REGTYPE else b""
        members.insert(place.random.randrange(len(members)), (member, content))
    packed = bytearray(pack(members))
    if place.random.random() < 0.3:
        packed = packed[: place.random.randrange(len(packed))]
    elif place.random.random() < 0.3:
        packed[place.random.randrange(len(packed))] ^= 1 << place.random.randrange(8)
    root = place.fresh() / "outer" / "data"
    root.mkdir(parents=True)
    (root / f"{FOLDER}.tgz").write_bytes(packed)
    done = in_child(partial(_fetch, archive_of(bytes(packed)), root))
    outside = [path for path in root.parent.iterdir() if path != root] + [Path("/tmp/woofkit-evil")]
    if wrote := [path for path in outside if path.exists()]:
        return f"wrote {wrote[0]}"
    if any(path.is_symlink() for path in root.rglob("*")):
        return "a link was unpacked"
    return done.fault


def _fetch(archive: Archive, root: Path) -> int:
    download.FIRST_PAUSE = 0.01
    try:
        fetch_archive(archive, root)
    except (ConfigError, ConnectionError) as error:
        print(error)
        return 1
    return 0


class Server(ThreadingHTTPServer):
    """Serves `content`, but its first answers are bad: as `moods` says, one after the other."""

    def __init__(self, content: bytes, moods: list[str]):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.content, self.moods, self.answers = content, moods, 0
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/{FOLDER}.tgz"


MOODS = ("break", "portal", "wrong range", "no range", "503", "416", "404", "odd length", "nothing", "slow")


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        content, start = self.server.content, int(self.headers.get("Range", "bytes=0-")[6:-1])
        self.server.answers += 1
        mood = self.server.moods.pop() if self.server.moods else "good"
        if mood == "no range":
            start = 0
        if mood in ("503", "416", "404"):
            return self._answer(int(mood), b"", {})
        if mood == "portal":
            return self._answer(200, b"<html>Sign in</html>", {"Content-Type": "text/html"})
        if mood == "nothing":
            return None
        if mood == "slow":
            time.sleep(0.3)
        if start >= len(content):
            return self._answer(416, b"", {"Content-Range": f"bytes */{len(content)}"})
        shift = 7 if mood == "wrong range" else 0
        span = {"Content-Range": f"bytes {start + shift}-{len(content) - 1}/{len(content)}"} if start else {}
        length = {"Content-Length": "abc"} if mood == "odd length" else {"Content-Length": str(len(content) - start)}
        body = content[start:]
        self._answer(206 if start else 200, body[: len(body) // 2] if mood == "break" else body, span | length)

    def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


def bad_server(place: Place) -> str:
    """A server that misbehaves, and SIGKILLs"""
    content = pack([(tarfile.TarInfo(name), data) for name, data in good_files().items()])
    server = Server(content, place.random.choices(MOODS, k=place.random.randint(1, 6)))
    root = place.fresh()
    if place.random.random() < 0.3:
        (root / f"{FOLDER}.tgz.part").write_bytes(content[: place.random.randrange(len(content))])
    try:
        for _ in range(8):  # what gives up goes on with the same command
            kill = place.random.uniform(0, 0.2) if place.random.random() < 0.2 else None
            done = in_child(partial(_fetch, archive_of(content, server.url), root), kill)
            if done.fault:
                return done.fault
            if done.status == 0:
                return _unpacked(root)
    finally:
        server.shutdown()
        server.server_close()
    return "it never ended well"


def two_downloads(place: Place) -> str:
    """Two downloads, with their unpacking, at once"""
    content = pack([(tarfile.TarInfo(name), data) for name, data in good_files().items()])
    server = Server(content, ["slow"])
    root, outcomes = place.fresh(), []
    if place.random.random() < 0.5:  # only the unpacking
        (root / f"{FOLDER}.tgz").write_bytes(content)
    fetch = partial(_fetch, archive_of(content, server.url), root)
    threads = [threading.Thread(target=lambda: outcomes.append(in_child(fetch))) for _ in range(2)]
    for thread in threads:
        thread.start()
        time.sleep(place.random.uniform(0, 0.05))
    for thread in threads:
        thread.join()
    server.shutdown()
    server.server_close()
    if wrong := [done.fault or done.said for done in outcomes if done.fault or done.status]:
        return wrong[0]
    return _unpacked(root) or ("it was downloaded twice" if server.answers > 1 else "")


def _unpacked(root: Path) -> str:
    for name, content in good_files().items():
        if (root / name).read_bytes() != content:
            return f"{name} is not what was packed"
    left = [path.name for path in root.iterdir() if path.name != FOLDER and not path.name.endswith(".lease")]
    return f"left behind: {left[0]}" if left else ""


NAMES = ("dataset", "scheme", "data_dir", "num_train", "num_test", "label_fraction", "model_name", "weights", "epochs")
NAMES += ("batch_size", "micro_batch", "checkpointing", "lr", "schedule", "precision", "augment", "seed", "rank")
NAMES += ("image_size", "runs_dir", "profile", "preprocess", "image_variant", "skip_unreadable", "use_amp", "Lr", "")
VALUES = ("", "0", "-1", "1e-3", "1e999", "nan", ".inf", "-.inf", "true", "null", "[]", "{}", "[1", "~nobody/x", "a\tb")
VALUES += (
    "/etc/passwd",
    "/proc/x",
    "../..",
    "9" * 5000,
    "a" * 300,
    "ä" * 200,
    "[" * 3000,
    "1_000",
    "0x10",
    "1:30",
    "!!python/x",
)
VALUES += (
    "2026-01-31",
    "'",
    '"',
    "&a *a",
    "|",
    "--",
    "-p",
    "%s",
    "\u202e",
    "\ud800",
    "5.0",
    "1e3",
    " 5 ",
    "no",
    "10000000",
)


def bad_parameters(place: Place) -> str:
    """Odd parameters on the command line and in a profile's file"""
    choose = place.random.choice
    pairs = [(choose(NAMES), choose(VALUES)) for _ in range(choose([1, 1, 2]))]
    if choose([True, False]):
        letters = string.printable + "äß\u2028"
        pairs[0] = (pairs[0][0], "".join(choose(letters) for _ in range(place.random.randint(1, 12))))
    words = ["train", "--method", choose(["full", "lora", "probe"])]
    if choose([True, True, False]):
        words += [word for name, value in pairs for word in ("-p", f"{name}={value}")]
    else:
        profile = place.fresh() / "odd.yaml"
        text = "\n".join(f"{name}: {value}" for name, value in pairs)
        profile.write_bytes(text.encode(errors="surrogatepass"))
        words += ["--profile", str(profile)]
    done = command(words, _stop_at_training)
    allowed = (0, 2)
    if done.fault or done.status not in allowed:
        return f"{pairs!r}"[:200] + f": {done.fault or done.status}"
    return "" if done.status == 0 or "error: " in done.said else f"{pairs!r}: nothing was said"


def _stop_at_training() -> None:
    """Let a command go as far as its training, and end well there."""
    from woofkit import train

    train.run_training = lambda *_, **__: (_ for _ in ()).throw(SystemExit(0))
