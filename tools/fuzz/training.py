"""Trainings that are killed, asked to end, short of disk or memory, or that find damaged files."""

import os
import re
import resource
import signal
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from tools.fuzz.trial import Place, command, find_run, finishes_equal
from woofkit import data
from woofkit.results import FILES, METRICS, is_whole

Kind = Callable[[Place], str]


def kill_at_rename(place: Place) -> str:
    """SIGKILL in training, before or after a file's rename"""
    root = place.fresh()
    place.train(root, _kill_at(place.random.randint(1, 11), after=place.random.random() < 0.5))
    return finishes_equal(place, root)


def _kill_at(number: int, after: bool) -> Callable[[], None]:
    """What has a process kill itself before, or after, a file's rename: the first, the second, ..."""
    replace, count = os.replace, 0

    def arm() -> None:
        def killing(*paths: Path) -> None:
            nonlocal count
            count += 1
            if count == number and not after:
                os.kill(os.getpid(), signal.SIGKILL)
            replace(*paths)
            if count == number:
                os.kill(os.getpid(), signal.SIGKILL)

        os.replace = killing

    return arm


def kill_at_any_moment(place: Place) -> str:
    """SIGKILL in training, at random moments, up to three in a row"""
    root = place.fresh()
    for _ in range(place.random.randint(1, 3)):
        place.train(root, kill_after=place.random.uniform(0, 2.5))
    return finishes_equal(place, root)


def kill_in_cache(place: Place) -> str:
    """SIGKILL while images are drawn and kept"""
    root, cache = place.fresh(), place.fresh()
    for _ in range(3):
        place.train(root, partial(setattr, data, "CACHE", cache), kill_after=place.random.uniform(0.3, 2))
    done = place.train(root, partial(setattr, data, "CACHE", cache))
    left = [path.name for path in cache.glob("*.tmp")]
    return done.fault or (f"left behind: {left[0]}" if left else finishes_equal(place, root))


def ask_to_end(place: Place) -> str:
    """SIGINT, SIGTERM or SIGHUP in training"""
    root, number = place.fresh(), place.random.choice([signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
    wait = place.random.uniform(0.3, 2)

    def arm() -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        threading.Thread(target=lambda: (time.sleep(wait), os.kill(os.getpid(), number)), daemon=True).start()

    done = place.train(root, arm)
    if done.fault or done.status not in (0, 128 + number):
        return done.fault or f"status {done.status} after signal {number}"
    if done.status and "the same command goes on where this one stopped" not in done.said:
        return "nothing was said"
    left = [path.name for path in root.rglob("*.tmp")]
    return f"left behind: {left[0]}" if left else finishes_equal(place, root)


def full_disk(place: Place) -> str:
    """A disk that is full, from some size of a file on"""
    root, most = place.fresh(), place.random.choice([10, 500, 2_000, 20_000, 200_000, 1_000_000, 2_000_000])
    done = place.train(root, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (most, most)))
    if done.fault or (done.status == 1 and "error: " not in done.said):
        return done.fault or "nothing was said"
    return finishes_equal(place, root)


def little_memory(place: Place) -> str:
    """Too little memory"""
    root, more = place.fresh(), place.random.randint(1, 400) * 2**20

    def arm() -> None:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + more
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

    done = place.train(root, arm)
    return done.fault or finishes_equal(place, root)


def damage(place: Place, file: Path) -> str:
    """Harm a file; return how."""
    how = place.random.choice(["empty", "cut", "bit", "junk", "list", "zeros", "gone"])
    content = bytearray(file.read_bytes())
    at = place.random.randrange(len(content))
    if how == "gone":
        file.unlink()
        return how
    if how == "bit":
        content[at] ^= 1 << place.random.randrange(8)
    changed = {
        "empty": b"",
        "cut": content[:at],
        "bit": content,
        "junk": place.random.randbytes(200),
        "list": b"[1, 2]",
    }
    file.write_bytes(changed.get(how, bytes(len(content))))
    return how


COMMANDS = ("train", "runs", "predict", "export", "keep")


def damaged_run(place: Place) -> str:
    """A finished run with a damaged file, and a command"""
    run = place.copy()
    root, picture = run.parent.parent, place.folder / "pictures" / "class-0" / "0.png"
    files = [name for name in (METRICS, *FILES) if (run / name).exists()]
    name, chosen = place.random.choice(files), place.random.choice(COMMANDS)
    how = damage(place, run / name)
    words = {
        "runs": ["runs", "--root", str(root)],
        "predict": ["predict", str(run), str(picture)],
        "export": ["export", str(run), str(place.fresh() / "model")],
        "keep": ["keep", "--profile", "fuzz", "--runs-dir", str(root)],
    }
    if chosen == "train":
        wrong = finishes_equal(place, root)
        if not wrong and not is_whole(find_run(root)):
            wrong = "the run is still damaged"
    else:
        results = place.fresh()
        done = command(words[chosen], partial(_keep_in, results))
        wrong = done.fault or ("" if done.status in (0, 1, 2) else f"status {done.status}")
    return wrong and f"{name} {how}, {chosen}: {wrong}"


def _keep_in(folder: Path) -> None:
    from woofkit.tables import results

    results.keep_results.__defaults__ = ("runs", folder)


def kill_in_keep(place: Place) -> str:
    """SIGKILL while a table is kept"""
    root, results = place.copy().parent.parent, place.fresh()
    words = ["keep", "--profile", "fuzz", "--runs-dir", str(root)]
    command(words, partial(_keep_in, results))
    [table] = results.iterdir()
    whole = table.read_bytes()
    arm, wait = _kill_at(1, after=place.random.random() < 0.5), place.random.uniform(0, 1)

    def before() -> None:
        _keep_in(results)
        arm()

    command(words, *((before, None) if place.random.random() < 0.5 else (partial(_keep_in, results), wait)))
    if table.read_bytes() != whole:
        return "the table is another"
    done = command(words, partial(_keep_in, results))
    left = [path.name for path in results.iterdir() if path != table]
    return done.fault or (f"left behind: {left[0]}" if left else "" if done.status == 0 else done.said)


def odd_numbers(place: Place) -> str:
    """A learning rate that is far too high or too low"""
    root, lr = place.fresh(), 10 ** place.random.uniform(-320, 30)
    done = place.train(root, lr=lr, augment=place.random.choice(["none", "flip"]))
    if done.fault or done.status not in (0, 1, 2):
        return f"lr {lr}: {done.fault or done.status}"
    if done.status and not re.search(r"error: .*(step|lr)", done.said):
        return f"lr {lr}: no step was named"
    losses = [pd.read_csv(file)["train_loss"] for file in root.rglob("history.csv")]
    return "" if all(np.isfinite(each).all() for each in losses) else f"lr {lr}: a loss that is no number was kept"


def damaged_checkpoint(place: Place) -> str:
    """A damaged or foreign checkpoint"""
    root = place.fresh()
    replace, count = os.replace, 0

    def arm() -> None:
        def stopping(*paths: Path) -> None:
            nonlocal count
            replace(*paths)
            count += Path(paths[1]).name == "checkpoint.pt"
            if count == 2:
                os._exit(7)

        os.replace = stopping

    place.train(root, arm)
    found = sorted(root.rglob("checkpoint*.pt"))
    harmed = place.random.sample(found, place.random.randint(1, len(found)))
    how = [damage(place, file) for file in harmed]
    wrong = finishes_equal(place, root)
    return wrong and f"{[file.name for file in harmed]} {how}: {wrong}"


def two_trainings(place: Place) -> str:
    """Two equal trainings at once"""
    root, outcomes = place.fresh(), []
    threads = [threading.Thread(target=lambda: outcomes.append(place.train(root))) for _ in range(2)]
    for thread in threads:
        thread.start()
        time.sleep(place.random.uniform(0, 0.5))
    for thread in threads:
        thread.join()
    if wrong := [done.fault or done.said for done in outcomes if done.status or done.fault]:
        return wrong[0]
    return finishes_equal(place, root)


def power_cut(place: Place) -> str:
    """A power cut (ext4 on a loop device)"""
    from tools.fuzz.power import Disk

    with Disk(place.fresh()) as disk:
        root = disk.mounted / "runs"
        place.train(root, kill_after=place.random.uniform(0.5, 4))
        disk.cut_power()
        for metrics in root.rglob(METRICS):
            if metrics.stat().st_size == 0:
                return f"{metrics.name} is empty"
        return finishes_equal(place, root)
