"""Cores that are shared with other programs: how PyTorch's threads wait for each other.

On Linux PyTorch computes with GNU OpenMP, whose threads wait for each other by spinning, as long as it takes. Where
other programs want the same cores, a spinning thread keeps the one that it waits for from being run. A bounded spin
costs nothing on an idle machine and makes training several times as fast on a busy one.

GNU OpenMP reads its settings once, when PyTorch is imported: `share_cores` has to be called before.
"""

import os

SPINS_IDLE, SPINS_BUSY = 10_000, 1_000  # iterations; fewer slow down an idle machine, more a busy one
BUSY, LOOK = 0.5, 0.15  # cores taken by others; seconds to look
OWN_SETTINGS = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")


def share_cores() -> None:
    """Set how the threads of this process and of those that it starts wait, unless the environment says so already."""
    if not any(name in os.environ for name in OWN_SETTINGS):
        os.environ["GOMP_SPINCOUNT"] = str(SPINS_BUSY if busy_cores() >= BUSY else SPINS_IDLE)


def busy_cores(seconds: float = LOOK) -> float:
    """How many of the cores that this process may use other programs keep busy, while this one sleeps so long."""
    import psutil  # --help does without

    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    shares = psutil.cpu_percent(seconds, percpu=True)
    return sum(share for core, share in enumerate(shares) if core in allowed) / 100
