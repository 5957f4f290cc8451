"""`python -m tools.fuzz`: break woofkit on purpose, and print how often that was tried, survived and lost."""

import itertools
import os
import random
import shutil
import sys
import tempfile
import time
from argparse import ArgumentDefaultsHelpFormatter, ArgumentParser
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # each trial is a fork that computes beside others

import pandas as pd
import torch

from tools.fuzz import foreign, outside, power, training
from tools.fuzz.table import ABOUT, COUNTS, faults_markdown, keep
from tools.fuzz.trial import Place, prepare
from woofkit.config import require_range
from woofkit.files import describe_environment

Kind = Callable[[Place], str]
KINDS: dict[Kind, int] = {  # and how often each is tried
    training.kill_at_rename: 31,
    training.kill_at_any_moment: 34,
    training.kill_in_cache: 16,
    training.kill_in_keep: 22,
    training.ask_to_end: 9,
    training.power_cut: 10,
    training.full_disk: 7,
    training.little_memory: 7,
    training.damaged_run: 116,
    training.damaged_checkpoint: 17,
    training.two_trainings: 8,
    training.odd_numbers: 6,
    outside.hostile_archive: 23,
    outside.bad_server: 64,
    outside.two_downloads: 7,
    outside.bad_parameters: 313,
    foreign.odd_picture: 60,
    foreign.odd_weights: 53,
    foreign.odd_adapter: 50,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Return 0, or 1 if something was lost."""
    parser = ArgumentParser(
        prog="python -m tools.fuzz", description=__doc__, formatter_class=ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--minutes", type=float, help="shared by the kinds equally, instead of each kind's own number")
    parser.add_argument("--seed", type=int, default=0, help="of what is tried")
    parser.add_argument("--kinds", nargs="+", choices=[kind.__name__ for kind in KINDS], help="only these")
    parser.add_argument("--keep", action="store_true", help="put what was counted into data/results/faults.csv")
    options = parser.parse_args(arguments)
    if options.minutes is not None:
        require_range("--minutes", options.minutes, 0, 10_000)
    chosen = {kind: times for kind, times in KINDS.items() if not options.kinds or kind.__name__ in options.kinds}
    torch.set_num_threads(1)  # a fork does not inherit threads
    folder = Path(tempfile.mkdtemp(prefix="woofkit-fuzz-"))
    seconds = None if options.minutes is None else 60 * options.minutes / len(chosen)
    counted, lost = [], []
    try:
        for row, faults in fuzz(folder, chosen, seconds, options.seed):
            counted.append(row)
            lost += [f"{row['kind']}: {fault}" for fault in faults]
            if options.keep:
                keep(pd.DataFrame(counted), [kind.__doc__ for kind in KINDS])
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(faults_markdown(pd.DataFrame(counted)), *lost, sep="\n")
    return 1 if lost else 0


def fuzz(
    folder: Path, kinds: Mapping[Kind, int], seconds: float | None = None, seed: int = 0
) -> Iterator[tuple[dict[str, Any], list[str]]]:
    """Try each kind so many times, or, with `seconds`, for so long, and once at least.

    Yields, for each kind that can be tried here, its row of the table and a line for each loss.
    """
    places = [Place(folder, random.Random(seed), method) for method in ("full", "lora")]
    for place in places:
        prepare(place)
    about = describe_environment(torch.device("cpu"))
    for kind, times in kinds.items():
        if kind is training.power_cut and (why := power.why_not(places[0].fresh())):
            print(f"{kind.__doc__}: not tried, as no disk can be made here ({why})", file=sys.stderr, flush=True)
            continue
        faults, begin = [], time.monotonic()
        for tried, place in enumerate(itertools.cycle(places)):
            if tried and (tried >= times if seconds is None else time.monotonic() - begin > seconds):
                break
            before = set(folder.iterdir())
            if fault := kind(place):
                faults.append(" ".join(fault.split())[:300])
            for path in set(folder.iterdir()) - before:
                shutil.rmtree(path, ignore_errors=True)
        tracebacks = sum("a traceback: " in fault for fault in faults)
        counts = (tried, tried - len(faults), len(faults), tracebacks)
        row = {"kind": kind.__doc__, **dict(zip(COUNTS, counts, strict=True)), **{name: about[name] for name in ABOUT}}
        words = f"{kind.__doc__}: {tried} tried in {time.monotonic() - begin:.0f} s, {len(faults)} lost"
        print(words, *sorted(set(faults)), sep="\n  ", file=sys.stderr, flush=True)
        yield row, faults


if __name__ == "__main__":
    sys.exit(main())
