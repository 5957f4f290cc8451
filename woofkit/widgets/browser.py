"""The dataset browser: a page of images at a time, by split and breed, and the ones that a model gets wrong."""

from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
from ipywidgets import HTML, BoundedIntText, VBox

from woofkit.config import require_choice
from woofkit.data import WoofDataset
from woofkit.plots.pages import Caption, refusal, thumbnail, thumbnails_page
from woofkit.sketch.layers import PARTS
from woofkit.sketch.skeleton import POSES
from woofkit.widgets.answers import ALL, Answers, Given, checked_answers, of_breed, score
from woofkit.widgets.controls import LABEL, button, checkbox, drawn_once, dropdown, in_lines, undisturbed

ON_A_PAGE = 12
KEPT = 50 * ON_A_PAGE  # thumbnails, of about 12 kB


def dataset_browser(
    splits: Mapping[str, WoofDataset],
    predicted: Mapping[str, Given] | None = None,
    start: str | None = None,
    seed: int | None = 0,
) -> VBox:
    """Make the controls (split, breed, wrong predictions only, parts, page) and a page of twelve images.

    Args:
        splits: name -> dataset; all of one kind of labels. An image is read or drawn when it is first shown.
        predicted: split -> a model's predictions of its images: a frame of `read_predictions`, or labels (N,). For a
            split that is not in it, nothing is called right or wrong.
        start: the split shown first; None is the first of `splits`.
        seed: of the order in which images are shown; None keeps the dataset's, in which photographs are sorted by
            breed.

    Raises:
        ConfigError: no split, one without images, splits of different labels, an unknown `start`, or predictions that
            are not those of the split.
    """
    answers, names = checked_answers(splits, predicted or {})
    start = next(iter(splits)) if start is None else start
    require_choice("start", start, tuple(splits))
    orders = {name: _order(len(dataset), seed) for name, dataset in splits.items()}
    kind = "pose" if names == POSES else "breed"

    split = dropdown("split", list(splits), list(splits), start)
    breed = dropdown(kind, [f"all {kind}s", *names], range(ALL, len(names)), ALL)
    wrong, parts = checkbox("wrong predictions only"), checkbox("parts of the dog")
    page = BoundedIntText(description="page", min=1, max=1, value=1, style=LABEL, layout={"width": "140px"})
    previous, following = button("◀ previous page"), button("next page ▶")
    shown = HTML()

    @lru_cache(KEPT)
    def small(name: str, index: int, with_parts: bool) -> bytes:
        dataset = splits[name]
        if with_parts:
            return thumbnail((drawing := dataset.draw(index)).image, drawing.mask)
        return thumbnail(np.asarray(dataset.image(index)))

    def chosen() -> tuple[np.ndarray, bool]:
        only_wrong = wrong.value and split.value in answers
        return _select(splits[split.value], answers.get(split.value), orders[split.value], breed.value, only_wrong)

    @undisturbed
    def draw(_change=None) -> None:
        dataset, said, indices = splits[split.value], answers.get(split.value), chosen()
        where = _where(split.value, names, breed.value, wrong.value and said is not None)
        if not len(indices):
            shown.value = thumbnails_page(f"{where}: there is no such image", score(dataset, said, breed.value), [], [])
            return
        first = (page.value - 1) * ON_A_PAGE
        here = indices[first : first + ON_A_PAGE]
        heading = f"{where}: {_position(first, len(here), len(indices))}"
        with_parts = parts.value and dataset.drawn
        try:
            pictures = [small(split.value, int(index), with_parts) for index in here]
        except OSError as error:  # a file that is damaged, or gone
            shown.value = refusal(str(error))
            return
        captions = [_caption(dataset, said, index) for index in here]
        shown.value = thumbnails_page(
            heading, score(dataset, said, breed.value), pictures, captions, PARTS if with_parts else ()
        )

    def select(_change=None) -> None:
        wrong.disabled, parts.disabled = split.value not in answers, not splits[split.value].drawn
        with drawn_once(draw, [page]):
            page.value, page.max = 1, max(1, -(-len(chosen()) // ON_A_PAGE))
        previous.disabled = following.disabled = page.disabled = page.max == 1

    def step(by: int) -> None:
        page.value = (page.value - 1 + by) % page.max + 1

    for control in (split, breed, wrong):
        control.observe(select, "value")
    for control in (parts, page):
        control.observe(draw, "value")
    previous.on_click(lambda _button: step(-1))
    following.on_click(lambda _button: step(1))
    select()
    return in_lines([(split, breed), (wrong, parts, previous, page, following)], shown)


def _order(count: int, seed: int | None) -> np.ndarray:
    return np.arange(count) if seed is None else np.random.default_rng(seed).permutation(count)


def _select(dataset: WoofDataset, said: Answers | None, order: np.ndarray, breed: int, wrong_only: bool) -> np.ndarray:
    """The indices to show, in their order."""
    keep = of_breed(dataset, breed)
    if wrong_only:
        keep = keep & (said.predicted != dataset.labels)
    return order[keep[order]]


def _caption(dataset: WoofDataset, said: Answers | None, index: int) -> Caption:
    title = f"{index} · {dataset.class_names[dataset.labels[index]]}"
    if said is None:
        return Caption(title)
    says = dataset.class_names[said.predicted[index]]
    says += "" if said.probability is None else f", {100 * said.probability[index]:.0f} %"
    return Caption(title, says, bool(said.predicted[index] == dataset.labels[index]))


def _where(split: str, names: Sequence[str], breed: int, wrong_only: bool) -> str:
    """ "test, beagle, wrong predictions"."""
    return ", ".join([split, *([] if breed == ALL else [names[breed]]), *(["wrong predictions"] if wrong_only else [])])


def _position(first: int, count: int, total: int) -> str:
    if count == 1:
        return f"image {first + 1} of {total:,}"
    return f"images {first + 1:,} to {first + count:,} of {total:,}"
