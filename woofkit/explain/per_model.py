"""Everything that is measured of where one model looks, a number a dog: by part, by movement, by what it matters.

Models are compared dog by dog later, in attention_study.py; dogs differ more than models do.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from woofkit.data import Transform, WoofDataset, load_pixels
from woofkit.explain.faithfulness import deletion_and_insertion, rank_correlations, shuffled_models
from woofkit.explain.maps import View, baseline_maps, look
from woofkit.explain.measures import (
    corner_density,
    empty_share,
    group_densities,
    map_correlations,
    part_densities,
    part_shares,
    pointing_hits,
)
from woofkit.explain.movement import measure_movement, measure_norms
from woofkit.fast.runtime import Runtime
from woofkit.progress import progress_bar
from woofkit.sketch.layers import PARTS
from woofkit.stats.intervals import mean_interval

FACE = (PARTS.index("head"), PARTS.index("ears"))
DOG = tuple(number for number, part in enumerate(PARTS) if part != "background")
SHUFFLED_DOGS = 40  # for the sanity check, which looks at them fourteen times


@dataclass(frozen=True)
class Dogs:
    """The dogs that are looked at: images uint8 (N, 3, H, W), and part masks (N, H, W), which photographs lack."""

    dataset: WoofDataset
    pixels: Tensor
    masks: Tensor | None
    transform: Transform


def load_dogs(dataset: WoofDataset, transform: Transform) -> Dogs:
    """Load a dataset's images and, for drawings, its masks, cut alike."""
    masks = None
    if dataset.drawn:
        masks = torch.from_numpy(np.stack([transform.mask(dataset.mask(dog)) for dog in range(len(dataset))]))
    return Dogs(dataset, load_pixels(dataset, transform, progress=False), masks, transform)


def part_measures(maps: Tensor, masks: Tensor) -> dict[str, Tensor]:
    """Where maps (N, height, width) lie on drawn dogs with these masks (N, H, W): measure -> (N,).

    Densities are relative to an even map's (nan for a part below a patch); shares and hits are from 0 to 1.
    """
    densities = part_densities(maps, masks, len(PARTS))
    return {
        **{f"density on {part}": densities[:, number] for number, part in enumerate(PARTS)},
        "density on the face": group_densities(maps, masks, FACE, len(PARTS)),
        "share on the dog": 1 - part_shares(maps, masks, len(PARTS))[:, 0],
        "share without dog": empty_share(maps, masks),
        "strongest patch on the dog": pointing_hits(maps, masks, DOG),
        "strongest patch on the face": pointing_hits(maps, masks, FACE),
    }


def with_intervals(values: Mapping[str, Mapping[str, Tensor]]) -> pd.DataFrame:
    """Means over dogs with 95 % bootstrap intervals: `values` is model -> measure -> (N,); a row each.

    A measure that has no value on any of the dogs is left out.
    """
    rows = [
        (model, measure, *mean_interval(numbers)[:3])
        for model, measures in values.items()
        for measure, numbers in measures.items()
        if not torch.as_tensor(numbers).isnan().all()
    ]
    return pd.DataFrame(rows, columns=["model", "measure", "value", "low", "high"])


def measure_model(
    model: nn.Module,
    original: nn.Module,
    before: View,
    dogs: Dogs,
    faithful: bool = True,
    runtime: Runtime | None = None,
    log: Callable[[str], None] = print,
) -> pd.DataFrame:
    """Measure a model on dogs: a row a dog, map and measure (dog, map, measure, value).

    Args:
        before: the original's view of the same dogs.
        faithful: also deletion, insertion and the sanity check, which take most of the time.
        runtime: of deletion and insertion, which run the model seventy times a dog; maps are made in fp32.

    What does not belong to a map has the map "".
    """
    view = look(model, dogs.pixels, dogs.transform)
    maps = view.maps | baseline_maps(view.maps["attention"].shape[-2:], len(dogs.pixels))
    found: dict[tuple[str, str], Tensor] = {}
    for kind, stack in maps.items():
        if dogs.masks is not None:
            found |= {(kind, measure): values for measure, values in part_measures(stack, dogs.masks).items()}
        found[kind, "density in the corners"] = corner_density(stack)
        if kind in before.maps:
            found[kind, "correlation with the original's"] = map_correlations(stack, before.maps[kind])
    for measure, values in measure_movement(original, model, dogs.pixels, dogs.transform).items():
        found["", measure] = values.mean(dim=(1, 2))
        for layer, mean in enumerate(values.mean(dim=2).T, start=1):
            found["", f"{measure}, block {layer}"] = mean
    norms = measure_norms(model, dogs.pixels, dogs.transform)
    found |= {("", measure): values for measure, values in norms.items()}
    rows = [_rows(kind, measure, values) for (kind, measure), values in found.items()]
    if faithful:
        rows += _faithfulness(model, maps, view, dogs, runtime, log)
        rows += _sanity(model, view, dogs, log)
    return pd.concat(rows, ignore_index=True)


def _faithfulness(
    model: nn.Module,
    maps: Mapping[str, Tensor],
    view: View,
    dogs: Dogs,
    runtime: Runtime | None,
    log: Callable[[str], None],
) -> list[pd.DataFrame]:
    with progress_bar(len(dogs.pixels), "  deletion and insertion", "images", log) as bar:
        found = deletion_and_insertion(
            model, dogs.pixels, maps, view.classes, dogs.transform, runtime=runtime, on_image=bar.update
        )
    return [
        _rows(kind, f"area under {curve}", area)
        for kind, curves in found.items()
        for curve, area in curves.areas.items()
    ]


def _sanity(model: nn.Module, view: View, dogs: Dogs, log: Callable[[str], None]) -> list[pd.DataFrame]:
    few, rows = slice(0, SHUFFLED_DOGS), []
    with progress_bar(len(model.blocks) + 2, "  shuffled parameters", "stages", log) as bar:
        for stage, shuffled in shuffled_models(model):
            now = look(shuffled, dogs.pixels[few], dogs.transform, classes=view.classes[few])
            for kind, stack in now.maps.items():
                likeness = rank_correlations(view.maps[kind][few], stack)
                rows.append(_rows(kind, f"likeness, shuffled down to {stage}", likeness))
            bar.update()
    return rows


def _rows(kind: str, measure: str, values) -> pd.DataFrame:
    values = np.asarray(values, dtype=float)
    return pd.DataFrame({"dog": np.arange(len(values)), "map": kind, "measure": measure, "value": values})
