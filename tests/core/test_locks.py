"""The lock of a folder: held by one process at a time, also among machines that share its files."""

import multiprocessing
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import nullcontext

import pytest

from woofkit import files
from woofkit.config import ConfigError
from woofkit.files import hold

LEASE = 1.5
HOLDER = """
import platform, socket, sys, time
from pathlib import Path
from woofkit import files
files.LEASE, host = float(sys.argv[1]), sys.argv[2]
socket.gethostname = platform.node = lambda: host
with files.hold(Path(sys.argv[3]), "busy", lambda line: print(line, flush=True)):
    print("held", flush=True)
    while True:
        time.sleep(0.01)
"""


@pytest.fixture
def holder(tmp_path, monkeypatch):
    """Start a process that holds the lock, as if on this or another machine; it is there once it says so."""
    monkeypatch.setattr(files, "LEASE", LEASE)
    begun = []

    def start(host: str = socket.gethostname()) -> subprocess.Popen:
        command = [sys.executable, "-c", HOLDER, str(LEASE), host, str(tmp_path / "lease")]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        begun.append(subprocess.Popen(command, **pipes))
        assert begun[-1].stdout.readline() == "held\n"
        return begun[-1]

    yield start
    for process in begun:
        process.kill()
        process.communicate()


def taken(lock) -> float:
    """The seconds until this process has the lock."""
    begin = time.monotonic()
    with hold(lock, "busy", lambda line: None):
        return time.monotonic() - begin


def kill(process: subprocess.Popen) -> None:
    process.kill()
    process.wait()


def test_a_living_owner_is_waited_for_or_named(holder, tmp_path):
    owner = holder()
    with (
        pytest.raises(ConfigError, match=rf"^{owner.pid} on {socket.gethostname()}, since \d\d:\d\d is at work$"),
        hold(tmp_path / "lease", "{owner} is at work", wait=False),
    ):
        pass
    lines = []

    def wait():
        with hold(tmp_path / "lease", "another trains", lines.append):
            lines.append("mine")

    waiting = threading.Thread(target=wait)
    waiting.start()
    time.sleep(2 * LEASE)
    assert lines == ["another trains"]
    kill(owner)
    waiting.join(LEASE)
    assert lines == ["another trains", "mine"]
    assert not (tmp_path / "lease").exists()


def test_a_dead_owner_of_this_machine_gives_way_at_once(holder, tmp_path):
    kill(holder())
    assert taken(tmp_path / "lease") < LEASE / 3


def test_an_owner_on_another_machine_counts_as_dead_once_it_gives_no_sign_of_life(holder, tmp_path):
    kill(holder("elsewhere"))
    assert taken(tmp_path / "lease") >= LEASE


@pytest.mark.parametrize("alive", [True, False])
def test_who_does_not_wait_looks_whether_another_machine_still_works(holder, tmp_path, alive):
    owner, lines = holder("elsewhere"), []
    if not alive:
        kill(owner)
    refused = pytest.raises(ConfigError, match="^busy$") if alive else nullcontext()
    with refused, hold(tmp_path / "lease", "busy", lines.append, wait=False):
        pass
    assert re.match(r"another process \(\d+ on elsewhere, since .*\) holds .*lease: looking for 2 s", lines[0])


@pytest.mark.parametrize("content", [b"", b"filelock/2\npid=1", bytes(80), b"\xff\n"])
def test_an_owner_that_was_killed_as_it_wrote_its_name_is_not_waited_for(tmp_path, monkeypatch, content):
    monkeypatch.setattr("filelock._soft._exclusive._recovery.MALFORMED_LOCK_AGE_THRESHOLD", 0.2)  # seconds
    (tmp_path / "lease").write_bytes(content)
    assert taken(tmp_path / "lease") < 10
    assert not (tmp_path / "lease").exists()


def test_an_owner_that_still_writes_its_name_keeps_the_lock(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "LEASE", LEASE)
    lock = tmp_path / "lease"
    with hold(lock, "busy"):
        whole = lock.read_bytes()
        with lock.open("r+b") as writing:
            writing.truncate()
            files._fill_empty(lock)
            assert lock.read_bytes() == b"\n"
            writing.write(whole)
        with pytest.raises(ConfigError, match="^busy$"), hold(lock, "busy", wait=False):
            pass


@pytest.mark.parametrize(
    ("owner", "words"),
    [
        (
            {"pid": "7", "host": "elm?pidns-f00", "since": "2020-01-31T12:00:00+00:00"},
            r"7 on elm, since 2020-01-31 \d\d:\d\d",
        ),
        ({"pid": "7", "host": "elm", "since": "yesterday"}, "7 on elm"),
        ({}, "unknown so far"),
    ],
)
def test_an_owner_in_words(owner, words):
    assert re.fullmatch(words, files._describe_owner(owner))


def test_an_owner_that_was_suspended_too_long_is_stopped(holder, tmp_path):
    owner = holder()
    owner.send_signal(signal.SIGSTOP)
    with hold(tmp_path / "lease", "busy", lambda line: None):
        owner.send_signal(signal.SIGCONT)
        _, error = owner.communicate(timeout=20)
    assert "ConfigError: stopped: for 2 s this process gave no sign of life in" in error
    assert not (tmp_path / "lease").exists()


def _enter_in_turn(path, steps: int) -> None:
    for _ in range(steps):
        with hold(path / "lease", "busy", lambda line: None):
            inside = path / "inside"
            inside.touch(exist_ok=False)
            inside.unlink()


def test_no_two_processes_are_ever_inside(tmp_path):
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_enter_in_turn, args=(tmp_path, 10)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0]
