"""The dataset browser: a page of images at a time, by split and breed, and the ones that a model gets wrong."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
import torch
from ipywidgets import HTML, VBox

from woofkit.config import ConfigError, require_choice
from woofkit.data import WoofDataset
from woofkit.datasets.imagewoof import BREEDS
from woofkit.plots.pages import Caption, refusal, thumbnail, thumbnails_page
from woofkit.sketch.layers import PARTS
from woofkit.sketch.skeleton import POSES
from woofkit.widgets.controls import Pager, checkbox, drawn_once, dropdown, in_lines

ALL = -1  # in place of a breed
ON_A_PAGE = 12
IN_MEMORY = 50 * ON_A_PAGE  # thumbnails, of about 12 kB each


def dataset_browser(
    splits: Mapping[str, WoofDataset], predicted: Mapping[str, pd.DataFrame] | None = None, seed: int | None = 0
) -> VBox:
    """Make the controls (split, breed, wrong predictions only, parts, page) and a page of twelve images.

    Args:
        splits: name -> dataset; all of one kind of labels. An image is read or drawn when it is first shown.
        predicted: split -> a model's predictions of its images, as `read_predictions` gives them. For a split that is
            not in it, nothing is called right or wrong.
        seed: of the order in which images are shown. None shows them as they lie in the dataset, where photographs are
            sorted by breed.

    Raises:
        ConfigError: no split, one without images, splits of different labels, or predictions of other images.
    """
    names = _class_names(splits)
    answers = {name: _answers(name, splits, frame) for name, frame in (predicted or {}).items()}
    orders = {name: _order(len(dataset), seed) for name, dataset in splits.items()}
    kind = {POSES: "pose", BREEDS: "breed"}.get(names, "class")

    split = dropdown("split", list(splits))
    breed = dropdown(kind, [f"all {kind}es" if kind == "class" else f"all {kind}s", *names], range(ALL, len(names)))
    wrong, parts = checkbox("wrong predictions only"), checkbox("parts of the dog")
    pages, shown = Pager(ON_A_PAGE), HTML()

    @lru_cache(IN_MEMORY)
    def small(name: str, index: int, with_parts: bool) -> bytes:
        if with_parts:
            drawing = splits[name].draw(index)
            return thumbnail(drawing.image, drawing.mask)
        return thumbnail(np.asarray(splits[name].image(index)))

    def chosen() -> np.ndarray:
        order = orders[split.value]
        if breed.value != ALL:
            order = order[splits[split.value].labels[order] == breed.value]
        if wrong.value and not wrong.disabled:
            order = order[~answers[split.value]["right"].to_numpy()[order]]
        return order

    def draw(_change: Any = None) -> None:
        dataset, said, here = splits[split.value], answers.get(split.value), chosen()[pages.here]
        with_parts = parts.value and not parts.disabled
        try:
            pictures = [small(split.value, index, with_parts) for index in here]
        except OSError as error:  # a file that is damaged, or gone
            shown.value = refusal(str(error))
            return
        where = [split.value]
        if breed.value != ALL:
            where.append(names[breed.value])
            said = said if said is None else said[dataset.labels == breed.value]
        if wrong.value and not wrong.disabled:
            where.append("wrong predictions")
        heading = f"{', '.join(where)}: {pages.position('image') if pages.count else 'there is no such image'}"
        captions = [_caption(dataset, said, index) for index in here]
        shown.value = thumbnails_page(heading, _score(said), pictures, captions, PARTS if with_parts else ())

    def select(_change: Any = None) -> None:
        wrong.disabled, parts.disabled = split.value not in answers, not splits[split.value].drawn
        with drawn_once(draw, [pages.number]):
            pages.restart(len(chosen()))

    for control in (split, breed, wrong):
        control.observe(select, "value")
    for control in (parts, pages.number):
        control.observe(draw, "value")
    select()
    shown_parts = [parts] if any(dataset.drawn for dataset in splits.values()) else []  # which photographs do not know
    return in_lines([(split, breed), (wrong, *shown_parts, *pages.controls)], shown, "dataset browser")


def _class_names(splits: Mapping[str, WoofDataset]) -> tuple[str, ...]:
    """The names that the labels of all splits stand for."""
    if not splits:
        raise ConfigError("there is no split to browse")
    names = next(iter(splits.values())).class_names
    for name, dataset in splits.items():
        if not len(dataset):
            raise ConfigError(f"split {name!r} has no image")
        if dataset.class_names != names:
            raise ConfigError(f"split {name!r} has other labels than the first: {', '.join(dataset.class_names)}")
    return names


def _answers(split: str, splits: Mapping[str, WoofDataset], frame: pd.DataFrame) -> pd.DataFrame:
    """What a model says of each image, checked to be of these images: columns predicted, probability, right."""
    require_choice("split of predictions", split, tuple(splits))
    dataset = splits[split]
    if tuple(frame["key"]) != dataset.keys or not np.array_equal(frame["label"], dataset.labels):
        raise ConfigError(f"the predictions of {split!r} are of other images, or of the same in another order")
    logits = torch.tensor(frame.filter(regex=r"^logit_\d+$").to_numpy(dtype=float))
    if logits.shape[1] != len(dataset.class_names):
        raise ConfigError(f"predictions of {split!r} know {logits.shape[1]} classes, not {len(dataset.class_names)}")
    predicted, probability = frame["predicted"].to_numpy(), logits.softmax(1).amax(1).numpy()
    return pd.DataFrame({"predicted": predicted, "probability": probability, "right": predicted == dataset.labels})


def _order(count: int, seed: int | None) -> np.ndarray:
    return np.arange(count) if seed is None else np.random.default_rng(seed).permutation(count)


def _caption(dataset: WoofDataset, said: pd.DataFrame | None, index: int) -> Caption:
    title = f"{index} · {dataset.class_names[dataset.labels[index]]}"
    if said is None:
        return Caption(title)
    answer = said.loc[index]
    name = dataset.class_names[answer["predicted"]]
    return Caption(title, f"{name}, {100 * answer['probability']:.0f}%", bool(answer["right"]))


def _score(said: pd.DataFrame | None) -> str:
    """How often the model is right on some images; "" where that is not known."""
    if said is None:
        return ""
    right, total = said["right"].sum(), len(said)
    share = f": {100 * right / total:.1f}%" if total else ""
    return f"The model is right on {right:,} of {total:,} images{share}. Its answer stands below each true name."
