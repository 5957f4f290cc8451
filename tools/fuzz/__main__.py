"""`python -m tools.fuzz`: break woofkit on purpose for a while, and print what was tried, survived and lost."""

import itertools
import os
import random
import shutil
import sys
import tempfile
import time
from argparse import ArgumentDefaultsHelpFormatter, ArgumentParser
from collections.abc import Callable, Sequence
from pathlib import Path

os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # each trial is a fork that computes beside others

import torch

from tools.fuzz import outside, power, training
from tools.fuzz.trial import Place, prepare
from woofkit.config import require_range
from woofkit.tables import markdown_table

KINDS: dict[Callable[[Place], str], float] = {  # and its share of the time
    training.kill_at_rename: 3,
    training.kill_at_any_moment: 3,
    training.kill_in_cache: 1,
    training.ask_to_end: 2,
    training.full_disk: 1,
    training.little_memory: 1,
    training.damaged_run: 5,
    training.damaged_checkpoint: 3,
    training.two_trainings: 1,
    training.power_cut: 2,
    outside.hostile_archive: 1,
    outside.bad_server: 1,
    outside.two_downloads: 1,
    outside.bad_parameters: 2,
}
HEAD = ["kind", "tried", "survived", "lost"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Return 0, or 1 if something was lost."""
    parser = ArgumentParser(
        prog="python -m tools.fuzz", description=__doc__, formatter_class=ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=60.0, help="for all kinds together")
    parser.add_argument("--seed", type=int, default=0, help="of what is tried")
    parser.add_argument("--kinds", nargs="+", default=[], help="only these: " + ", ".join(f.__name__ for f in KINDS))
    options = parser.parse_args(arguments)
    require_range("--minutes", options.minutes, 0, 10_000)
    chosen = {kind: share for kind, share in KINDS.items() if not options.kinds or kind.__name__ in options.kinds}
    torch.set_num_threads(1)  # a fork does not inherit threads
    folder = Path(tempfile.mkdtemp(prefix="woofkit-fuzz-"))
    try:
        table, lost = fuzz(folder, chosen, 60 * options.minutes, options.seed)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(table, *lost, sep="\n")
    return 1 if lost else 0


def fuzz(
    folder: Path, kinds: dict[Callable[[Place], str], float], seconds: float, seed: int = 0
) -> tuple[str, list[str]]:
    """Try each kind for its share of the time, once at least; return the table and a line for each loss."""
    places = [Place(folder, random.Random(seed), method) for method in ("full", "lora")]
    for place in places:
        prepare(place)
    rows, lost = [], []
    for kind, share in kinds.items():
        name, tried, faults = kind.__doc__, 0, []
        if kind is training.power_cut and (why := power.why_not(places[0].fresh())):
            rows.append([f"{name}: not allowed here ({why})", "0", "0", "-"])
            continue
        end = time.monotonic() + seconds * share / sum(kinds.values())
        for place in itertools.cycle(places):
            before = set(folder.iterdir())
            if fault := kind(place):
                faults.append(f"{name}: {' '.join(fault.split())[:300]}")
            tried += 1
            for path in set(folder.iterdir()) - before:
                shutil.rmtree(path, ignore_errors=True)
            if time.monotonic() > end:
                break
        rows.append([name, str(tried), str(tried - len(faults)), str(len(faults))])
        print(
            f"{name}: {tried} tried, {len(faults)} lost", *sorted(set(faults)), sep="\n  ", file=sys.stderr, flush=True
        )
        lost += faults
    sums = [str(sum(int(row[column]) for row in rows if row[column] != "-")) for column in (1, 2, 3)]
    return markdown_table(HEAD, [*rows, ["all", *sums]], "lrrr"), lost


if __name__ == "__main__":
    sys.exit(main())
