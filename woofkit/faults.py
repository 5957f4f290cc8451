"""What the machine does to a program, in one sentence: disks, folders of others, memory, networks, signals.

A traceback is for mistakes of the program's own. Whatever else ends a command or a cell is said with what can be done
about it.
"""

import errno
import os
import re
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

SHARED_MEMORY = "/dev/shm"
ELSEWHERE = "set runs_dir to a folder of yours, such as ~/woof-runs"
LESS_MEMORY = "take a smaller batch_size, or micro_batch=8 or checkpointing=true, which need less for the same result"
REPORT = (
    "This is a mistake in woofkit itself, not in what you asked for. Please report it to whoever gave you woofkit, "
    "with the lines above and the command."
)
_NO_MEMORY = re.compile(
    r"out of memory|not enough memory|can.?t allocate memory|cannot allocate memory|bad_alloc"
    r"|could not (create|execute) a primitive",  # oneDNN's words
    re.I,
)
_NO_SHARED_MEMORY = re.compile(r"/torch_|shared memory|\bshm\b|bus error", re.I)
_NOT_WRITTEN = re.compile(r"unexpected pos|PytorchStreamWriter|I/O error|os error \d+", re.I)  # PyTorch, safetensors
_ENDED = re.compile(r"DataLoader worker .*(exited unexpectedly|killed by signal)", re.I)


def explain(error: BaseException) -> str:
    """One sentence on what the machine did to the program, and what to do; "" for a mistake of the program's own."""
    text = " ".join(str(error).split())
    if lacks_memory(error):
        return text if isinstance(error, MemoryError) and ":" in text else f"the memory is not enough: {LESS_MEMORY}"
    if isinstance(error, OSError):
        return _explain_file(error, text)
    if not isinstance(error, RuntimeError):
        return ""
    if _NO_SHARED_MEMORY.search(text):
        return _shared_memory()
    if _NOT_WRITTEN.search(text):
        return f"a file could not be written to its end, most often as the disk is full: make room, or {ELSEWHERE}"
    if _ENDED.search(text):
        return "the system ended a process that reads images, most often for want of memory: close other programs"
    if "can't start new thread" in text:
        return "the system lets this program start no more threads (ulimit -u)"
    return ""


def lacks_memory(error: BaseException) -> bool:
    """Whether Python, NumPy or PyTorch, on a CPU or a GPU, got no more memory."""
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and bool(_NO_MEMORY.search(str(error))))


def lacks_shared_memory() -> bool:
    """Whether /dev/shm, without which processes cannot speak to each other on Linux, is full or cannot be written."""
    try:
        return shutil.disk_usage(SHARED_MEMORY).free < 2**20 or not os.access(SHARED_MEMORY, os.W_OK)
    except OSError:  # another system's
        return False


def failed_write(error: Exception, path: os.PathLike) -> Exception:
    """What to raise for a file that could not be written: an OSError with `path`, also where a library raised another.

    PyTorch speaks of an "unexpected pos" where the disk is full, and safetensors of an "I/O error". A mistake of the
    program's own comes back as it is.
    """
    if isinstance(error, OSError):
        if error.errno:
            error.filename, error.filename2 = str(path), None
        return error
    if not _NOT_WRITTEN.search(str(error)):
        return error
    number = re.search(r"os error (\d+)", str(error))
    code = int(number[1]) if number else errno.ENOSPC
    return OSError(code, os.strerror(code), str(path))


def _explain_file(error: OSError, text: str) -> str:
    if not error.errno:  # ours, Pillow's or the network's: it is a sentence already
        return text or type(error).__name__
    file, why = str(error.filename or ""), (error.strerror or text).lower()
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        if file.startswith(SHARED_MEMORY) or (not file and lacks_shared_memory()):
            return _shared_memory()
        return f"the disk is full, {file or 'a file'} was not written: make room, or {ELSEWHERE}"
    if error.errno == errno.EFBIG:
        return f"{file or 'a file'} was not written, as files may not be so large here (ulimit -f)"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{file or 'a file'} cannot be opened ({why}): if it is a run's, {ELSEWHERE}"
    if error.errno == errno.ENAMETOOLONG:
        return f"a name is too long for the disk: {file}"
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return "the system lets this program open no more files (ulimit -n)"
    return f"{file}: {why}" if file else why


def _shared_memory() -> str:
    return "the shared memory, /dev/shm, is too small: give it more (docker run --shm-size=1g) or set OMP_NUM_THREADS=1"


# --- signals ---


class Stopped(KeyboardInterrupt):
    """The system asked the program to end; what cleans up after Ctrl-C cleans up here, too."""

    def __init__(self, number: int):
        super().__init__(signal.Signals(number).name)
        self.number = number


@contextmanager
def stopped_by_signals() -> Iterator[None]:
    """Within the block, SIGTERM and SIGHUP raise Stopped; a second one ends the process at once.

    One that is ignored, as SIGHUP is under nohup, stays so.
    """
    owner, names = os.getpid(), ("SIGTERM", "SIGHUP")
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]  # Windows has no SIGHUP
    taken = [number for number in numbers if signal.getsignal(number) is signal.SIG_DFL]
    if threading.current_thread() is not threading.main_thread():
        taken = []  # which alone may say what a signal does

    def stop(number: int, frame: Any) -> None:
        for each in taken:
            signal.signal(each, signal.SIG_DFL)
        if os.getpid() != owner:  # a process that this one has forked
            os.kill(os.getpid(), number)
        raise Stopped(number)

    for number in taken:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)


# --- notebooks ---


def explain_in_notebook(shell: Any) -> None:
    """Let an IPython shell show the sentence alone where `explain` has one."""

    def show(shell: Any, kind: type, error: BaseException, traceback: Any, tb_offset: int | None = None) -> None:
        if not hasattr(error, "_render_traceback_") and (sentence := explain(error)):
            error._render_traceback_ = lambda: [f"{kind.__name__}: {sentence}"]
        shell.showtraceback((kind, error, traceback), tb_offset=tb_offset)

    shell.set_custom_exc((OSError, MemoryError, RuntimeError), show)


def as_exit_status(command: Callable[[], int | None], say: Callable[[str], None]) -> int:
    """Run a command; return its exit status, 1 if the machine stood in its way, 128 + N if signal N ended it.

    Any other exception goes on, with a request to report it.
    """
    try:
        with stopped_by_signals():
            return command() or 0
    except KeyboardInterrupt as stop:
        words = f"ended by {stop}" if isinstance(stop, Stopped) else "interrupted"
        say(f"{words}; the same command goes on where this one stopped")
        return 128 + getattr(stop, "number", signal.SIGINT)
    except BrokenPipeError:  # who read the answer, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 128 + signal.SIGPIPE
    except Exception as error:
        if sentence := explain(error):
            say(f"error: {sentence}")
            return 1
        error.add_note(REPORT)
        raise
