"""Laws of the figures of attention: every map is shown whole, on the scale that it says, and models keep their look."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Text

from woofkit import plots
from woofkit.plots.attention import attention_overlay, explorer_grid
from woofkit.plots.style import method_color

BREEDS = ("beagle", "dingo", "Samoyed")
METHODS = ("original", "full", "lora")
PICTURE = np.full((28, 28, 3), 120, dtype=np.uint8)


def texts(artist):
    return {text.get_text() for text in artist.findobj(Text) if text.get_text()}


def overlays(fig):
    return [ax.images[1] for ax in fig.axes if len(ax.images) == 2]


def even(*values, dogs=2):
    """Maps (dogs, 4, 4) of each model, the same everywhere."""
    return {model: np.full((dogs, 4, 4), float(v)) for model, v in zip(METHODS, values, strict=False)}


def test_the_overlay_covers_the_image_patch_by_patch_height_first(ax):
    heat = np.arange(6.0).reshape(2, 3)
    attention_overlay(PICTURE, heat, ax)
    below, above = ax.images
    assert above.get_array().tolist() == heat.tolist()
    assert tuple(above.get_extent()) == tuple(below.get_extent())
    with pytest.raises(ValueError, match=r"two axes \(height, width\), got shape \(3,\)"):
        attention_overlay(PICTURE, heat[0], ax)


def test_the_comparison_is_on_one_scale_with_a_column_per_model_and_a_row_per_dog():
    captions = {"full": ["beagle 98%", "dingo 55%"]}
    fig = plots.attention_comparison([PICTURE] * 2, even(1, 3, 2), BREEDS[:2], captions, label="times even")
    assert len(overlays(fig)) == 6
    assert {overlay.get_clim() for overlay in overlays(fig)} == {(0, 3)}
    assert {"Original", "Full fine-tuning", "LoRA", "beagle", "dingo", "dingo 55%", "times even"} <= texts(fig)


def test_differences_from_the_original_have_columns_and_a_scale_of_their_own_with_zero_in_the_middle():
    fig = plots.attention_comparison([PICTURE] * 2, even(3, 1, 4), BREEDS[:2], against="original")
    differences = [overlay for overlay in overlays(fig) if overlay.get_clim() == (-2, 2)]
    assert len(overlays(fig)) == 10
    assert sorted(overlay.get_array().mean() for overlay in differences) == [-2, -2, 1, 1]
    shown = {"Full fine-tuning\nminus original", "LoRA\nminus original", "less (blue) or more (red), in even shares"}
    assert shown <= texts(fig)
    with pytest.raises(ValueError, match="no maps of 'dora' to compare with: there are original, full, lora"):
        plots.attention_comparison([PICTURE] * 2, even(3, 1, 4), BREEDS[:2], against="dora")


def test_the_comparison_refuses_maps_and_titles_that_do_not_fit_the_images():
    with pytest.raises(ValueError, match="2 images, but 1 maps of 'original'"):
        plots.attention_comparison([PICTURE] * 2, even(1, dogs=1), BREEDS[:2])
    with pytest.raises(ValueError, match="2 images need as many titles and a model's maps, got 3 titles"):
        plots.attention_comparison([PICTURE] * 2, even(1), BREEDS)


def test_the_explorers_grid_gives_each_kind_of_map_one_scale_and_a_colour_bar():
    maps = {"attention": {"full": np.ones((4, 4)), "lora": 2 * np.ones((4, 4))}}
    maps["relevance"] = {"full": 5 * np.ones((4, 4)), "lora": np.ones((4, 4))}
    fig = explorer_grid(PICTURE, maps, {"full": "beagle, 90%", "lora": "dingo, 80%"}, "3 · beagle")
    assert [overlay.get_clim()[1] for overlay in overlays(fig)] == pytest.approx([2, 5, 2, 5])
    assert {"Full fine-tuning", "LoRA", "beagle, 90%", "Class relevance", "3 · beagle"} <= texts(fig)


def test_map_rows_give_each_quantity_a_scale_that_its_models_share():
    rows = {"attention": {"original": np.ones((2, 3)), "lora": 2 * np.ones((2, 3))}}
    rows["norm"] = {"original": 10 * np.ones((2, 3)), "lora": 5 * np.ones((2, 3))}
    shown = [ax for ax in plots.map_rows(rows).axes if ax.images]
    assert [ax.get_title() for ax in shown] == ["Original", "LoRA", "", ""]
    assert [ax.images[0].get_clim() for ax in shown] == [(0, 2), (0, 2), (0, 10), (0, 10)]
    assert shown[2].get_ylabel() == "norm"


def test_all_heads_are_shown_in_two_bands_with_their_numbers():
    fig = plots.all_heads(PICTURE, np.random.default_rng(0).random((5, 2, 4, 4)))
    assert len(overlays(fig)) == 5 * 2
    assert {f"Block {number}" for number in range(1, 6)} | {"Head 1", "Head 2"} <= texts(fig)


def test_numbers_by_layer_and_head_share_a_scale_and_are_written_out():
    values = {"full": np.array([[0.1, 0.2], [0.3, 0.4]]), "lora": np.array([[0.0, 0.1], [0.1, 0.05]])}
    first, second = [ax for ax in plots.by_layer_and_head(values, "divergence, bits").axes if ax.texts]
    assert first.images[0].get_clim() == second.images[0].get_clim() == (0, 0.4)
    assert first.images[0].get_array().tolist() == [[0.1, 0.3], [0.2, 0.4]]  # a row per head, a column per block
    written = {text.get_position(): text.get_text() for text in first.texts}
    assert written == {(0, 0): "0.10", (1, 0): "0.30", (0, 1): "0.20", (1, 1): "0.40"}


def test_layer_lines_go_through_the_mean_of_the_heads(ax):
    plots.layer_lines({"lora": np.array([[1.0, 3.0], [2.0, 6.0]])}, "entropy", ax)
    assert ax.lines[0].get_xydata().tolist() == [[1, 2], [2, 4]]
    assert ax.collections[0].get_offsets().tolist() == [[1, 1], [1, 3], [2, 2], [2, 6]]
    assert ax.lines[0].get_color() == method_color("lora")


def test_faithfulness_curves_are_means_over_dogs_and_say_which_way_is_better():
    curves = {"relevance": np.array([[0.8, 0.2], [0.6, 0.0]]), "random": np.array([[0.8, 0.4], [0.6, 0.4]])}
    fig = plots.faithfulness_curves(np.array([0.0, 1.0]), {"deletion": curves, "insertion": curves})
    left, right = fig.axes
    assert [line.get_ydata().tolist() for line in left.lines] == [pytest.approx([0.7, 0.1]), pytest.approx([0.7, 0.4])]
    assert left.get_title() == "Deletion: lower is better"
    assert right.get_title() == "Insertion: higher is better"
    assert [text.get_text() for text in right.get_legend().get_texts()] == ["Class relevance", "Random map"]


def test_sanity_lines_name_every_stage(ax):
    likeness = pd.DataFrame({"attention": [1.0, 0.1], "rollout": [1.0, 0.9]}, index=["head", "block 12"])
    plots.sanity_lines(likeness, ax)
    assert [label.get_text() for label in ax.get_xticklabels()] == ["head", "block 12"]
    assert ax.lines[1].get_ydata().tolist() == [1.0, 0.9]


def test_interval_dots_put_groups_in_order_and_models_beside_each_other(ax):
    rows = [(m, p, 1.5, 1.0, 2.0) for m in ("lora", "full") for p in ("head", "legs")]
    frame = pd.DataFrame(rows, columns=["model", "part", "density", "low", "high"])
    plots.interval_dots(frame, "part", "density", ax, reference=1.0)
    assert [label.get_text() for label in ax.get_yticklabels()] == ["head", "legs"]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["Full fine-tuning", "LoRA"]
    places = [dots.get_offsets()[:, 1].tolist() for dots in ax.collections if len(dots.get_offsets()) == 2]
    assert all(abs(place - row) < 0.5 for model in places for row, place in enumerate(model))
    assert places[0] != places[1]
