"""Cores that are shared: how PyTorch's threads wait for each other, and how many of them there are.

On Linux PyTorch computes with GNU OpenMP, whose threads wait for each other by spinning, as long as it takes. Where
other programs want the same cores, a spinning thread keeps the one that it waits for from being run. A bounded spin
costs nothing on an idle machine and makes training several times as fast on a busy one.

GNU OpenMP reads its settings once, when PyTorch is imported: `share_cores` has to be called before.
"""

import os

import psutil

SPINS_IDLE, SPINS_BUSY = 10_000, 1_000  # iterations; fewer slow down an idle machine, more a busy one
LOOK = 0.15  # seconds
OWN_SETTINGS = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")


def share_cores() -> None:
    """Set how this process and those that it starts wait for cores, unless the environment says so already."""
    if any(name in os.environ for name in OWN_SETTINGS):
        return
    cores, busy = available_cores(), busy_cores()
    os.environ["GOMP_SPINCOUNT"] = str(SPINS_BUSY if busy >= 0.5 else SPINS_IDLE)
    if busy >= 0.5:  # of two cores with one taken, one thread has one
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, round(cores - busy))))


def available_cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def busy_cores(seconds: float = LOOK) -> float:
    """How many of the cores that this process may use other programs keep busy, while this one sleeps so long."""
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    shares = psutil.cpu_percent(seconds, percpu=True)
    return sum(share for core, share in enumerate(shares) if core in allowed) / 100
