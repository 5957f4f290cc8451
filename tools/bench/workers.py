"""A process for each contestant, idle until it is asked for a round, and the order in which they take turns.

Processes of their own keep apart what is set for a whole process, such as `keep_freed_memory`, which is part of ours
and of no rival. They take turns, so that a machine that slows down for a while slows down all of them.
"""

import multiprocessing
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, NamedTuple

from tools.bench.contestants import Contestant, synchronize
from tools.bench.setting import Setting
from woofkit.fast.memory import return_freed_memory
from woofkit.progress import progress_bar

STOP_SECONDS = 5  # for a round under way to end by itself


def alternate(
    performs: Mapping[str, Callable[[], Any]], rounds: int, log: Callable[[str], None], title: str = ""
) -> dict[str, list]:
    """Let all take turns for a warm-up round and `rounds` more; each list starts with the warm-up's result.

    Every other round goes backwards, so that nobody always follows the same neighbour.
    """
    measured = {key: [] for key in performs}
    with progress_bar((rounds + 1) * len(performs), title, "turns", log) as bar:
        for number in range(rounds + 1):
            for key in list(performs)[:: -1 if number % 2 else 1]:
                measured[key].append(performs[key]())
                turn = f"round {number} of {rounds}" if number else "warm-up"
                bar.set_description_str(f"{title}, {turn}, {key}", refresh=False)
                bar.update()
    return measured


class Worker(NamedTuple):
    """A contestant's process, and this end of the connection to it."""

    title: str
    process: BaseProcess
    connection: Connection

    def perform(self, ask: bool = True) -> tuple[float, Any] | None:
        """Have one round done: its seconds, and what it returned. Without `ask`, wait until the process is ready.

        Raises:
            ChildProcessError: the contestant failed, or its process is gone.
        """
        try:
            if ask:
                self.connection.send(True)
            error, answer = self.connection.recv()
        except (EOFError, ConnectionError):
            self.process.join(STOP_SECONDS)
            error = f"its process ended (exit code {self.process.exitcode}); if memory was short, try a smaller "
            error += "--batch-size"
        if error:
            raise ChildProcessError(f"{self.title}: {error}")
        return answer


@contextmanager
def started_workers(contestants: Mapping[str, Contestant], setting: Setting) -> Iterator[dict[str, Worker]]:
    """Within the block every contestant has a process, ready for its first round; afterwards none is left."""
    # never a plain fork: it would hand down threads and, on a GPU, a context that cannot be used
    servable = setting.device == "cpu" and "forkserver" in multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if servable else "spawn")
    if servable:
        context.set_forkserver_preload([__name__])  # one import of PyTorch for all of them
    workers = {}
    try:
        for key, contestant in contestants.items():
            here, there = context.Pipe()
            process = context.Process(target=_serve, args=(there, contestant, setting), name=key)
            process.start()
            there.close()  # so that this process notices when the other end is gone
            workers[key] = Worker(setting.fill(contestant.title), process, here)
        for worker in workers.values():
            worker.perform(ask=False)
        yield workers
    finally:
        for worker in workers.values():
            worker.connection.close()  # who is idle leaves now
        for stop in (BaseProcess.terminate, BaseProcess.kill, BaseProcess.join):
            end = time.monotonic() + STOP_SECONDS
            for worker in workers.values():
                worker.process.join(max(0.1, end - time.monotonic()))
            for worker in workers.values():
                stop(worker.process)


def _serve(connection: Connection, contestant: Contestant, setting: Setting) -> None:
    """A contestant's process: prepare, then a round for every request, until the other end is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process; the command ends its workers
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # by way of `finally`, so that loader workers end, too
    multiprocessing.set_start_method(None, force=True)  # loader workers start as in a program of its own
    rounds = _rounds(contestant, setting)
    with suppress(EOFError, ConnectionError):
        while True:
            try:
                answer = "", next(rounds)
            except Exception as error:
                answer = f"{type(error).__name__}: {error}", None
            connection.send(answer)
            connection.recv()


def _rounds(contestant: Contestant, setting: Setting) -> Iterator[tuple[float, Any] | None]:
    """First None, when the contestant is ready; then, for each round, its seconds and what it returned."""
    perform = contestant.prepare(setting)
    yield None
    while True:
        if contestant.rehearse:
            perform()
        synchronize(setting.device)
        start = time.perf_counter()
        result = perform()
        synchronize(setting.device)
        seconds = time.perf_counter() - start
        if contestant.rehearse:
            return_freed_memory()
        yield seconds, result
