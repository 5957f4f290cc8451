"""A process for each contestant, idle until it is asked for a round.

Processes of their own keep apart what is set for a whole process, such as `keep_freed_memory`, which is part of ours
and of no rival.
"""

import multiprocessing
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

from tools.bench.contestants import Contestant, name_in
from tools.bench.peak import synchronize
from tools.bench.setting import Setting
from woofkit.fast.memory import return_freed_memory

STOP_SECONDS = 5  # for a round under way to end by itself


class Worker(NamedTuple):
    title: str
    process: multiprocessing.process.BaseProcess
    connection: Connection

    def answer(self) -> Any:
        """What the process sends next.

        Raises:
            ChildProcessError: the contestant failed, or its process is gone.
        """
        try:
            error, value = self.connection.recv()
        except EOFError:
            self.process.join(STOP_SECONDS)
            raise ChildProcessError(
                f"{self.title}: its process ended (exit code {self.process.exitcode}); if memory was short, try a "
                "smaller --batch-size"
            ) from None
        if error:
            raise ChildProcessError(f"{self.title}: {error}")
        return value

    def perform(self) -> tuple[float, Any]:
        """Have one round done: its seconds, and what it returned."""
        with suppress(BrokenPipeError):  # the answer says why
            self.connection.send(True)
        return self.answer()


@contextmanager
def started_workers(contestants: Mapping[str, Contestant], setting: Setting) -> Iterator[dict[str, Worker]]:
    """Within the block every contestant has a process, ready for its first round; afterwards none is left."""
    context = multiprocessing.get_context(_start_method(setting))
    if context.get_start_method() == "forkserver":
        context.set_forkserver_preload([__name__])  # one import of PyTorch for all of them
    workers = {}
    try:
        for key, contestant in contestants.items():
            here, there = context.Pipe()
            title = name_in(setting, contestant.title)
            process = context.Process(target=_serve, args=(there, contestant, setting), name=title)
            process.start()
            there.close()  # so that this process notices when the other end is gone
            workers[key] = Worker(title, process, here)
        for worker in workers.values():
            worker.answer()
        yield workers
    finally:
        _stop(list(workers.values()))


def _start_method(setting: Setting) -> str:
    """Never a plain fork: it would hand down threads and, on a GPU, a context that cannot be used."""
    forkserver = setting.device == "cpu" and "forkserver" in multiprocessing.get_all_start_methods()
    return "forkserver" if forkserver else "spawn"


def _stop(workers: list[Worker]) -> None:
    for worker in workers:
        worker.connection.close()  # who is idle leaves now
    end = time.monotonic() + STOP_SECONDS
    for worker in workers:
        worker.process.join(max(0.1, end - time.monotonic()))
    for worker in workers:
        if worker.process.is_alive():
            worker.process.terminate()
    for worker in workers:
        worker.process.join(STOP_SECONDS)
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join()


def _serve(connection: Connection, contestant: Contestant, setting: Setting) -> None:
    """A contestant's process: prepare, then a round for every request, until the other end is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process; the command ends its workers
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # by way of `finally`, so that loader workers end, too
    multiprocessing.set_start_method(None, force=True)  # loader workers start as in a program of its own
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        try:
            perform = contestant.prepare(setting)
            connection.send(("", None))
            while connection.recv():
                if contestant.rehearse:
                    perform()
                synchronize(setting.device)
                start = time.perf_counter()
                result = perform()
                synchronize(setting.device)
                seconds = time.perf_counter() - start
                if contestant.rehearse:
                    return_freed_memory()
                connection.send(("", (seconds, result)))
        except (EOFError, BrokenPipeError, ConnectionResetError):
            raise
        except Exception as error:
            connection.send((f"{type(error).__name__}: {error}", None))
