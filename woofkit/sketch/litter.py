"""Invented breeds from the same space of traits, for pretraining on dogs that are not the ten."""

from dataclasses import replace

import numpy as np

from woofkit.sketch.breeds import BREEDS, breed_traits
from woofkit.sketch.traits import CHOICES, NUMBERS, Traits, trait_distance

MIN_DISTANCE = 0.2  # to each of the ten; beagle and foxhound are 0.07 apart, two invented breeds about 0.45
SIBLING_DISTANCE = 0.03  # between any two of the litter
SIBLINGS = 4  # breeds in a family: a founder and its siblings, so that telling them apart takes details
_SPARSE = ("ruff", "fringe", "beard", "ridge", "white", "tail_tip", "dark_mask", "feathering")


def _founder(rng: np.random.Generator) -> dict:
    values = {name: float(rng.uniform()) for name in NUMBERS}
    for name in _SPARSE:  # many breeds lack these, as among real dogs
        values[name] *= float(rng.uniform() < 0.55)
    values |= {name: allowed[rng.integers(len(allowed))] for name, allowed in CHOICES.items()}
    # Hair length goes with its texture: a smooth coat is short, a silky one hangs.
    low, high = {"smooth": (0, 0.25), "wiry": (0.2, 0.7), "silky": (0.3, 1), "fluffy": (0.3, 1)}[values["coat_texture"]]
    values["coat_length"] = float(rng.uniform(low, high))
    return values


def _sibling(founder: dict, rng: np.random.Generator) -> dict:
    values = dict(founder)
    for name in rng.choice(NUMBERS, size=6, replace=False):
        values[name] = float(np.clip(values[name] + rng.choice([-1, 1]) * rng.uniform(0.25, 0.5), 0, 1))
    for name in rng.choice(list(CHOICES), size=1):
        values[name] = CHOICES[name][rng.integers(len(CHOICES[name]))]
    return values


def litter(num_breeds: int, seed: int) -> list[Traits]:
    """Return invented breeds, in families of `SIBLINGS`, the same list for the same seed.

    Each is at least `MIN_DISTANCE` from each of the ten `BREEDS` and `SIBLING_DISTANCE` from every other
    of the litter, both in `trait_distance`.

    Raises:
        ValueError: fewer than one breed.
    """
    if num_breeds < 1:
        raise ValueError(f"num_breeds={num_breeds!r} is not allowed: at least 1")
    ten = [breed_traits(name) for name in BREEDS]
    rng = np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, num_breeds])))
    breeds: list[Traits] = []
    founder: dict = {}
    while len(breeds) < num_breeds:
        fresh = len(breeds) % SIBLINGS == 0
        if fresh:
            founder = _founder(rng)
        candidate = Traits(**(founder if fresh else _sibling(founder, rng)))
        new = min(trait_distance(candidate, other) for other in ten) >= MIN_DISTANCE
        if new and all(trait_distance(candidate, other) >= SIBLING_DISTANCE for other in breeds):
            breeds.append(candidate)
    return breeds


def individual(breed: Traits, rng: np.random.Generator, spread: float = 0.05) -> Traits:
    """Return one dog of a breed: every number moved by a normal step of standard deviation `spread`.

    A trait that is 0 stays 0 (no golden retriever grows a ridge).
    """
    steps = zip(NUMBERS, rng.normal(0, spread, len(NUMBERS)), strict=True)
    moved = {name: float(np.clip(getattr(breed, name) + step, 0, 1)) for name, step in steps}
    return replace(breed, **{name: value for name, value in moved.items() if getattr(breed, name) > 0})
