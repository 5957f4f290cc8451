"""Everything that is measured of where one model looks, one number per dog: by part, by movement, by faithfulness.

Models are compared dog by dog later, in study.py, because dogs differ more than models do.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from woofkit.data import Images, Transform, WoofDataset, load_pixels
from woofkit.explain.faithfulness import deletion_and_insertion, rank_correlations, shuffled_models
from woofkit.explain.maps import Explanations, baseline_maps, explain_images
from woofkit.explain.measures import (
    corner_density,
    map_correlations,
    pointing_hits,
    region_densities,
    region_shares,
    shares_outside,
)
from woofkit.explain.movement import measure_movement, measure_norms
from woofkit.fast.runtime import Runtime
from woofkit.progress import progress_bar
from woofkit.sketch.layers import PARTS
from woofkit.stats.intervals import mean_interval

FACE = (PARTS.index("head"), PARTS.index("ears"))
SHUFFLED_DOGS = 40  # for the sanity check, which explains them fourteen times

Found = dict[tuple[str, str], Tensor | np.ndarray]  # (map, measure) -> one value per dog; "" for what is of no map


@dataclass(frozen=True)
class Dogs(Images):
    """The images of a dataset, with their part masks (N, H, W), which photographs lack."""

    masks: Tensor | None
    dataset: WoofDataset


def load_dogs(dataset: WoofDataset, transform: Transform) -> Dogs:
    """Load a dataset's images and, for drawings, its masks, cut alike."""
    masks = None
    if dataset.drawn:
        masks = torch.from_numpy(np.stack([transform.mask(dataset.mask(dog)) for dog in range(len(dataset))]))
    return Dogs(load_pixels(dataset, transform, progress=False), dataset.labels, transform, masks, dataset)


def part_measures(maps: Tensor, masks: Tensor) -> dict[str, Tensor]:
    """Where maps (N, height, width) lie on drawn dogs with these masks (N, H, W): measure -> (N,).

    Densities are relative to an even map's, and nan for a part smaller than a patch; shares and hits are from 0 to 1.
    """
    dog, face = masks != PARTS.index("background"), torch.isin(masks, torch.tensor(FACE, dtype=masks.dtype))
    return {
        **{f"density on {part}": region_densities(maps, masks == number) for number, part in enumerate(PARTS)},
        "density on the face": region_densities(maps, face),
        "share on the dog": region_shares(maps, dog),
        "share without dog": shares_outside(maps, dog),
        "strongest patch on the dog": pointing_hits(maps, dog),
        "strongest patch on the face": pointing_hits(maps, face),
    }


def with_intervals(values: Mapping[str, Mapping[str, Tensor]]) -> pd.DataFrame:
    """Means over dogs with 95% bootstrap intervals, one row per model and measure.

    A measure that has no value on any of the dogs is left out.

    Args:
        values: model -> measure -> (N,).
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
    before: Explanations,
    dogs: Dogs,
    faithful: Runtime | None = None,
    log: Callable[[str], None] = print,
) -> pd.DataFrame:
    """Measure a model on dogs: one row per dog, map and measure (dog, map, measure, value).

    What does not belong to a map has the map "". Maps are made in fp32.

    Args:
        before: the original's explanations of the same dogs.
        faithful: the runtime of deletion and insertion, which run the model seventy times for each dog. None leaves
            out these and the sanity check.
    """
    explanations = explain_images(model, dogs)
    maps = explanations.maps | baseline_maps(explanations.maps["attention"].shape[-2:], len(dogs))
    found: Found = {}
    for kind, stack in maps.items():
        if dogs.masks is not None:
            found |= {(kind, measure): values for measure, values in part_measures(stack, dogs.masks).items()}
        found[kind, "density in the corners"] = corner_density(stack)
        if kind in before.maps:
            found[kind, "correlation with the original's"] = map_correlations(stack, before.maps[kind])
    for measure, values in measure_movement(original, model, dogs).items():  # (N, layers, heads)
        found["", measure] = values.mean(dim=(1, 2))
        for layer, mean in enumerate(values.mean(dim=2).T, start=1):
            found["", f"{measure}, block {layer}"] = mean
    found |= {("", measure): values for measure, values in measure_norms(model, dogs).items()}
    if faithful:
        found |= _areas(model, dogs, explanations._replace(maps=maps), faithful, log)
        found |= _likeness(model, dogs, explanations, log)
    return pd.concat([_rows(*key, values) for key, values in found.items()], ignore_index=True)


def _areas(
    model: nn.Module, dogs: Dogs, explanations: Explanations, runtime: Runtime, log: Callable[[str], None]
) -> Found:
    """Deletion and insertion in the order of each map."""
    with progress_bar(len(dogs), "  deletion and insertion", "images", log) as bar:
        curves = deletion_and_insertion(model, dogs, explanations, runtime, on_image=bar.update)
    return {(kind, f"area under {curve}"): area for kind, each in curves.items() for curve, area in each.areas.items()}


def _likeness(model: nn.Module, dogs: Dogs, explanations: Explanations, log: Callable[[str], None]) -> Found:
    """The sanity check on the first dogs: how much each map stays like the model's when parameters are shuffled."""
    few, found = slice(SHUFFLED_DOGS), {}
    images, classes = Images(dogs.pixels[few], dogs.labels[few], dogs.transform), explanations.classes[few]
    with progress_bar(len(model.blocks) + 2, "  shuffled parameters", "stages", log) as bar:
        for stage, shuffled in shuffled_models(model):
            for kind, stack in explain_images(shuffled, images, classes=classes).maps.items():
                likeness = rank_correlations(explanations.maps[kind][few], stack)
                found[kind, f"likeness, shuffled down to {stage}"] = likeness
            bar.update()
    return found


def _rows(kind: str, measure: str, values: Tensor | np.ndarray) -> pd.DataFrame:
    values = np.asarray(values, dtype=float)
    return pd.DataFrame({"dog": np.arange(len(values)), "map": kind, "measure": measure, "value": values})
