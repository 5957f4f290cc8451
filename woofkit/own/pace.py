"""How long the runs that are left will take: from the steps they have and what a step costs on this machine."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil

import pandas as pd

from woofkit.config import TrainConfig

START_SECONDS = 3.0  # to build the model and find the images
PROBE_SECONDS = 4.0  # until one has been trained: its features are there by then


@dataclass
class Pace:
    """`sizes`: images by split. `costs`: as `measure_costs` has them, or None. Runs that are noted correct both."""

    sizes: Mapping[str, int]
    costs: pd.DataFrame | None
    taken: dict[str, list[float]] = field(default_factory=dict)  # method -> seconds over expected ones

    def note(self, config: TrainConfig, seconds: float) -> None:
        """A run of this kind took so long."""
        if expected := self._expected(config):
            self.taken.setdefault(config.method, []).append(seconds / expected)

    def seconds(self, configs: Sequence[TrainConfig]) -> float | None:
        """How long these runs take together; None before steps have been measured."""
        known = [self._expected(config) for config in configs]
        if None in known:
            return None
        whole = [factor for factors in self.taken.values() for factor in factors]
        usual = statistics.median(whole) if whole else 1.0
        factors = {method: statistics.median(found) for method, found in self.taken.items()}
        pairs = zip(configs, known, strict=True)
        return sum(seconds * factors.get(config.method, usual) for config, seconds in pairs)

    def _expected(self, config: TrainConfig) -> float | None:
        if config.method in ("probe", "zero-shot"):
            return PROBE_SECONDS
        if self.costs is None:
            return None
        step = self.costs.set_index("method")["step_seconds"]
        batches = ceil(round(config.label_fraction * self.sizes["train"]) / config.batch_size)
        seen = config.epochs * self.sizes["val"] + self.sizes["test"]
        evaluation = seen * step["probe"] / config.batch_size  # a probe's step is little more than a forward pass
        return START_SECONDS + config.epochs * batches * step[config.method] + evaluation


def in_words(seconds: float) -> str:
    """A time as "40 s", "12 min" or "1.5 h"."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
