"""Laws of the figures of data, training and weights: they show what they were given, and refuse what does not fit."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb
from matplotlib.text import Text

from woofkit import plots
from woofkit.plots.dataset import PART_COLORS
from woofkit.plots.style import MAPS, METHODS, map_style, method_color, method_style
from woofkit.plots.weights import rank_lines
from woofkit.results import METHOD_NAMES
from woofkit.stats.calibration import reliability
from woofkit.stats.intervals import proportion_interval

BREEDS = ("beagle", "dingo", "Samoyed")
PARTS = ("background", "body", "head")


def history(**changes):
    columns = {
        "epoch": [1, 2, 3],
        "lr": [4e-4, 4e-4, 4e-4],
        "train_accuracy": [0.5, 0.7, 0.9],
        "train_loss": [1.5, 0.9, 0.3],
        "val_accuracy": [0.6, 0.7, 0.75],
        "val_loss": [1.2, 0.9, 0.8],
    }
    return pd.DataFrame(columns | changes)


def picture(shade=120, size=28):
    return np.full((size, size, 3), shade, dtype=np.uint8)


def texts(artist):
    return [text.get_text() for text in artist.findobj(Text) if text.get_text()]


def words(labels):
    return [label.get_text() for label in labels]


# --- the style ---


def test_no_two_methods_share_a_colour_or_a_marker_and_an_unknown_one_is_grey():
    for looks in zip(*((look.color, look.marker) for look in METHODS.values()), strict=True):
        assert len(set(looks)) == len(METHODS)
    assert method_style("dora") == {"color": "#999999", "marker": "*", "label": "dora"}


def test_every_trained_method_has_a_look_and_its_name_as_in_the_tables():
    assert set(METHOD_NAMES) < set(METHODS)
    assert [plots.method_name(method) for method in ("full", "lora")] == ["Full fine-tuning", "LoRA"]
    assert all(plots.method_name(method).lower() == label.lower() for method, label in METHOD_NAMES.items())


def test_kinds_of_maps_differ_in_colour_and_in_marker():
    looks = [map_style(kind) for kind in (*MAPS, "random", "centre")]
    for key in ("color", "marker", "label"):
        assert len({look[key] for look in looks}) == len(looks)


def test_a_saved_figure_is_a_png_and_nothing_else_stays(tmp_path):
    path = plots.save_figure(plt.figure(), tmp_path / "figures", "02_learning_curves")
    assert path == tmp_path / "figures" / "02_learning_curves.png"
    assert path.read_bytes().startswith(b"\x89PNG")
    assert list(path.parent.iterdir()) == [path]


def test_a_figure_that_cannot_be_saved_leaves_the_old_one(tmp_path):
    path = plots.save_figure(plt.figure(), tmp_path, "curve")
    before = path.read_bytes()
    broken = plt.figure()
    broken.text(0.5, 0.5, r"$\frac{$")
    with pytest.raises(ValueError, match="frac"):
        plots.save_figure(broken, tmp_path, "curve")
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == before
    with pytest.raises(ValueError, match="plain file name without a folder"):
        plots.save_figure(plt.figure(), tmp_path, "../curve")


# --- the data ---


def test_a_sample_grid_shows_every_image_under_its_title():
    fig = plots.sample_grid([picture(shade) for shade in (10, 20, 30, 40)], ("a", "b", "c", "d"), ncols=3)
    shown = [ax for ax in fig.axes if ax.images]
    assert [ax.get_title() for ax in shown] == ["a", "b", "c", "d"]
    assert [int(ax.images[0].get_array()[0, 0, 0]) for ax in shown] == [10, 20, 30, 40]
    with pytest.raises(ValueError, match="got 1 images and 2 titles"):
        plots.sample_grid([picture()], ("a", "b"))


def test_class_balance_draws_one_bar_per_breed_and_split_as_long_as_the_count(ax):
    counts = {"train": dict(zip(BREEDS, (900, 800, 700), strict=True)), "test": dict.fromkeys(BREEDS, 50)}
    plots.class_balance(counts, ax)
    assert [bar.get_width() for bar in ax.patches] == [900, 800, 700, 50, 50, 50]
    assert words(ax.get_yticklabels()) == list(BREEDS)
    first, other = ax.patches[0], ax.patches[3]
    assert first.get_y() + first.get_height() == pytest.approx(other.get_y())  # beside each other, the axis turned
    assert ax.yaxis_inverted()


def test_class_balance_of_many_classes_draws_the_smallest(ax):
    sizes = {f"class {number}": 100 - number for number in range(60)}
    plots.class_balance({"train": sizes, "test": dict.fromkeys(sizes, 5)}, ax)
    assert words(ax.get_yticklabels()) == [f"class {number}" for number in range(40, 60)]
    assert ax.get_title() == "the 20 smallest of 60 classes"


def test_image_sizes_puts_widths_on_x_and_heights_on_y(ax):
    plots.image_sizes([100, 200, 300], [50, 60, 70], ax)
    assert ax.collections[0].get_offsets().tolist() == [[100, 50], [200, 60], [300, 70]]


def test_the_overlap_with_pretraining_is_stacked_and_told(ax):
    plots.pretraining_overlap({"paper: test": 3767, "clean: test": 0}, {"paper: test": 162, "clean: test": 500}, ax)
    assert [text.get_text().strip() for text in ax.texts] == ["3,767 of 3,929 seen", "0 of 500 seen"]
    assert [bar.get_width() for bar in ax.patches] == [3767, 0, 162, 500]  # seen first, then what is added to it
    assert [bar.get_x() for bar in ax.patches][2:] == [3767, 0]


def test_a_similarity_histogram_shows_shares_and_the_line(ax):
    groups = {"test": np.array([0.31, 0.32, 0.5]), "copies": np.full(10, 0.99)}
    plots.similarity_histogram(groups, ax, line=0.9)
    assert {"test", "copies"} <= set(texts(ax))
    assert ax.lines[0].get_xdata() == [0.9, 0.9]
    highest = [shape.get_xy()[:, 1].max() for shape in ax.patches]
    assert highest == pytest.approx([2 / 3, 1])
    assert ax.get_ylim()[0] < 1 / 10  # one image of the larger group is seen
    with pytest.raises(ValueError, match="at least one group, and a value in each"):
        plots.similarity_histogram({"test": np.array([])}, ax)


def sheet_images(columns=4, size=20):
    """uint8 (breeds, columns, size, size, 3), each of its own shade."""
    shades = np.arange(10, 10 + 10 * len(BREEDS) * columns, 10).reshape(len(BREEDS), columns, 1, 1, 1)
    return np.broadcast_to(shades, (len(BREEDS), columns, size, size, 3)).astype(np.uint8)


def test_a_contact_sheet_shows_every_image_in_the_row_of_its_breed():
    images = sheet_images()
    fig = plots.contact_sheet(images, ("beagle", "dingo", "Old English sheepdog"))
    [ax] = fig.axes
    sheet = ax.images[0].get_array()
    assert sheet.shape == (3 * 21 - 1, 4 * 21 - 1, 3)  # a gap of one pixel between two images
    assert sheet[::21, ::21, 0].tolist() == images[:, :, 0, 0, 0].tolist()
    assert sheet[19::21, 19::21, 0].tolist() == images[:, :, 0, 0, 0].tolist()
    assert (sheet[20::21] == 255).all()
    assert words(ax.get_yticklabels()) == ["beagle", "dingo", "Old English\nsheepdog"]
    assert ax.get_yticks().tolist() == [10, 31, 52]
    with pytest.raises(ValueError, match="got 3 rows and 2 names"):
        plots.contact_sheet(images, BREEDS[:2])
    with pytest.raises(ValueError, match=r"\(rows, columns, H, W, 3\), got shape \(4, 20, 20, 3\)"):
        plots.contact_sheet(images[0], BREEDS)


def test_the_names_of_a_contact_sheet_fill_their_rows_and_fit():
    fig = plots.contact_sheet(sheet_images(columns=8), ("Old English sheepdog", "Australian terrier", "dingo"))
    fig.draw_without_rendering()
    [ax] = fig.axes
    row = ax.get_window_extent().height / 3
    boxes = [name.get_window_extent() for name in ax.get_yticklabels()]
    assert all(0.6 * row < box.height < row for box in boxes[:2])
    assert min(box.x0 for box in boxes) >= 0


def test_a_mask_sheet_colours_the_same_dogs_by_part_and_names_the_parts():
    images = sheet_images()
    masks = np.zeros(images.shape[:-1], np.uint8)
    masks[:, :, 5:10], masks[:, :, 10:] = 1, 2
    fig = plots.mask_sheet(images, masks, BREEDS, PARTS)
    sheet = fig.axes[0].images[0].get_array()
    assert sheet.shape == plots.contact_sheet(images, BREEDS).axes[0].images[0].get_array().shape
    shown = [sheet[row, 0].astype(int) for row in (0, 5, 10)]
    for part, color in enumerate(shown):
        distances = [np.abs(color - 255 * np.array(to_rgb(PART_COLORS[p]))).sum() for p in range(3)]
        assert np.argmin(distances) == part
    assert words(fig.legends[0].get_texts()) == list(PARTS)
    with pytest.raises(ValueError, match="holds the value 2, but only 2 parts are named"):
        plots.mask_sheet(images, masks, BREEDS, PARTS[:2])
    with pytest.raises(ValueError, match=r"shape \(3, 3, 20, 20\) do not fit images of shape \(3, 4, 20, 20, 3\)"):
        plots.mask_sheet(images, masks[:, :3], BREEDS, PARTS)


def test_a_mask_overlay_names_the_parts_that_are_there(ax):
    mask = np.zeros((28, 28), dtype=np.uint8)
    mask[5:9] = 2
    plots.mask_overlay(picture(), mask, PARTS, ax)
    assert words(ax.get_legend().get_texts()) == ["background", "head"]
    with pytest.raises(ValueError, match="holds the value 2, but only 2 parts are named"):
        plots.mask_overlay(picture(), mask, PARTS[:2], ax)


# --- training and its costs ---


def test_learning_curves_show_accuracy_and_loss_over_epochs_and_the_rate_on_a_log_axis():
    fig, axes = plt.subplots(1, 2)
    plots.learning_curves(history(), axes, "lora")
    assert axes[0].lines[0].get_ydata().tolist() == [0.5, 0.7, 0.9]
    assert axes[1].lines[1].get_ydata().tolist() == [1.2, 0.9, 0.8]
    assert words(axes[0].get_legend().get_texts()) == ["LoRA train", "LoRA val"]
    assert {line.get_color() for line in axes[0].lines} == {method_color("lora")}
    rate = [ax for ax in fig.axes if ax.get_yscale() == "log"]
    assert len(rate) == 2
    assert all(ax.lines[0].get_ydata().tolist() == [4e-4] * 3 for ax in rate)


def test_learning_curves_without_validation_or_rate_leave_them_out():
    fig, axes = plt.subplots(1, 2)
    plots.learning_curves(history(val_accuracy=np.nan, val_loss=np.nan), axes, show_lr=False)
    plots.learning_curves(history().drop(columns=["val_accuracy", "val_loss"]), axes, show_lr=False)
    assert [len(ax.lines) for ax in fig.axes] == [2, 2]


def test_a_second_history_with_a_higher_loss_is_not_cut_off():
    fig, axes = plt.subplots(1, 2)
    plots.learning_curves(history(), axes, show_lr=False)
    plots.learning_curves(history(train_loss=[9.0, 2.0, 1.0]), axes, show_lr=False)
    bottom, top = axes[1].get_ylim()
    assert (bottom, top > 9) == (0, True)


def test_cost_bars_carry_their_values(ax):
    frame = pd.DataFrame({"method": ["full", "lora"], "parameters": [5_526_346, 177_418]})
    plots.cost_bars(frame, "parameters", "Trainable parameters", ax)
    assert {"5,526,346", "177,418"} <= set(texts(ax))


def test_a_stack_adds_up_and_its_marker_stands_where_it_was_measured(ax):
    frame = pd.DataFrame({"method": ["full", "lora"], "a": [3.0, 1.0], "b": [4.0, 2.0], "peak": [9.0, 2.5]})
    plots.stacked_costs(frame, {"a": "first", "b": "second"}, "Memory", ax, marker=("peak", "measured peak"))
    assert [bar.get_x() + bar.get_width() for bar in ax.patches] == [3, 1, 7, 3]
    assert words(ax.texts) == ["9", "2"]  # 2.5, rounded to even
    assert [segment[0][0] for segment in ax.collections[0].get_segments()] == [9, 2.5]
    assert words(ax.get_legend().get_texts()) == ["first", "second", "measured peak"]
    assert ax.get_xlim()[1] > 9
    ax = plots.stacked_costs(frame, {"a": "first", "b": "second"}, "Memory", plt.figure().add_subplot())
    assert words(ax.texts) == ["7", "3"]


# --- accuracy ---


def test_accuracies_are_fractions_shown_in_per_cent(ax):
    frame = pd.DataFrame({"method": ["full", "lora"], "accuracy": [0.9, 0.857], "low": 0.8, "high": 0.95})
    plots.accuracy_intervals(frame, ax)
    assert {"90.0%", "85.7%", "Full fine-tuning", "LoRA"} <= set(texts(ax))
    with pytest.raises(ValueError, match="fractions from 0 to 1, not per cent"):
        plots.accuracy_intervals(frame.assign(accuracy=90.0), ax)


def test_per_class_accuracy_puts_the_easiest_breed_first(ax):
    rows = [(b, m, a) for b, a in zip(BREEDS, (0.5, 0.9, 0.7), strict=True) for m in ("full", "lora")]
    plots.per_class_accuracy(pd.DataFrame(rows, columns=["breed", "method", "accuracy"]), ax)
    assert words(ax.get_yticklabels()) == ["dingo", "Samoyed", "beagle"]


def test_accuracies_that_are_all_alike_are_shown_on_the_whole_scale(ax):
    rows = [(breed, method, 0.0) for breed in BREEDS for method in ("full", "lora")]
    plots.per_class_accuracy(pd.DataFrame(rows, columns=["breed", "method", "accuracy"]), ax)
    assert ax.get_xlim() == (-0.03, 1.03)


def test_confusion_writes_each_count_in_the_row_of_its_true_breed(ax):
    matrix = np.array([[5, 2, 0], [0, 7, 0], [1, 0, 9]])
    plots.confusion(matrix, BREEDS, ax)
    counts = {text.get_position(): text.get_text() for text in ax.texts}
    assert counts == {(0, 0): "5", (1, 0): "2", (1, 1): "7", (0, 2): "1", (2, 2): "9"}  # (column, row)
    assert words(ax.get_yticklabels()) == words(ax.get_xticklabels()) == list(BREEDS)
    with pytest.raises(ValueError, match=r"shape \(3, 3\) does not fit 2 class names"):
        plots.confusion(matrix, BREEDS[:2], ax)


def test_top_predictions_stand_beside_their_picture_the_likeliest_first():
    probabilities = np.array([[0.2, 0.6, 0.1, 0.1], [0.5, 0.1, 0.4, 0]])
    fig = plots.top_predictions([picture(10), picture(20)], ("before", "after"), probabilities, (*BREEDS, "cat"))
    (before, one), (after, other) = np.reshape(fig.axes, (2, 2))
    assert [before.get_title(), after.get_title()] == ["before", "after"]
    assert [ax.images[0].get_array()[0, 0, 0] for ax in (before, after)] == [10, 20]
    assert words(one.get_yticklabels()) == ["dingo", "beagle", "Samoyed"]
    assert [bar.get_width() for bar in other.patches] == [0.5, 0.4, 0.1]
    assert {"50%", "40%"} <= set(texts(other))
    assert one.get_xlim() == other.get_xlim()
    two = plots.top_predictions([picture()], ("a",), probabilities[:1, :2], BREEDS[:2])  # no more bars than classes
    assert words(two.axes[1].get_yticklabels()) == ["dingo", "beagle"]


def test_top_predictions_refuse_what_does_not_fit():
    probabilities = np.full((1, 3), 1 / 3)
    with pytest.raises(ValueError, match="got 1 images and 2 titles"):
        plots.top_predictions([picture()], ("a", "b"), probabilities, BREEDS)
    with pytest.raises(ValueError, match=r"shape \(1, 3\) do not fit 1 images and 2 class names"):
        plots.top_predictions([picture()], ("a",), probabilities, BREEDS[:2])
    with pytest.raises(ValueError, match="fractions from 0 to 1, not logits or per cent"):
        plots.top_predictions([picture()], ("a",), 100 * probabilities, BREEDS)


def bins(seed=0, count=400):
    rng = np.random.default_rng(seed)
    return reliability(3 * rng.normal(size=(count, 10)), rng.integers(0, 10, count))


def test_a_reliability_diagram_has_a_mark_an_interval_and_a_count_for_each_filled_bin(ax):
    tables = {"full": bins(), "lora": bins(1)}
    plots.reliability_diagram(tables, ax)
    lines = {line.get_label(): line for line in ax.lines}
    assert set(lines) == {"calibrated", "Full fine-tuning", "LoRA"}
    assert lines["calibrated"].get_xydata().tolist() == [[0, 0], [1, 1]]
    for method, table in tables.items():
        look, filled = method_style(method), table.query("count > 0")
        line = lines[look["label"]]
        np.testing.assert_allclose(line.get_xydata(), filled[["confidence", "accuracy"]])
        assert (line.get_color(), line.get_marker()) == (look["color"], look["marker"])
    first = tables["full"].query("count > 0").iloc[0]
    low, high = proportion_interval(first["accuracy"], int(first["count"]))[1:3]
    ends = [[first["confidence"], low], [first["confidence"], high]]
    np.testing.assert_allclose(ax.collections[0].get_segments()[0], ends)
    [strip] = ax.child_axes
    assert words(strip.texts) == [f"{count:,}" for table in tables.values() for count in table["count"] if count]
    assert words(strip.get_yticklabels()) == ["images, Full fine-tuning", "images, LoRA"]
    with pytest.raises(ValueError, match=r"the same bins, got \[10, 5\]"):
        plots.reliability_diagram({"full": bins(), "lora": bins().head(5)}, ax)


# --- weights ---


def test_parameters_by_rank_are_marked_where_the_adapter_and_the_papers_are(ax):
    rank_lines((1, 2, 4), {"these": (10, 20, 40), "all": (30, 60, 120)}, 1000, ax, mark=(2, 20), paper=(4, 40))
    lines = {line.get_label(): line.get_xydata().tolist() for line in ax.lines}
    assert lines["these"] == [[1, 10], [2, 20], [4, 40]]
    assert (lines["rank 2: 20"], lines["the paper's 40"]) == ([[2, 20]], [[4, 40]])
    assert lines["full fine-tuning: all of the model"] == [[0, 1000], [1, 1000]]


def test_a_matrix_has_every_value_in_its_cell_of_one_size_with_its_neighbours(ax):
    plots.matrix_values(np.array([[1.0, -0.0, 2.5]]), "A", ax, room=(5, 3))
    assert {text.get_position(): text.get_text() for text in ax.texts} == {(0, 0): "1", (1, 0): "0", (2, 0): "2.5"}
    assert (ax.get_xlim(), ax.get_ylim()) == ((-0.5, 2.5), (2.5, -2.5))


def test_a_layers_heatmap_counts_blocks_from_one_and_is_dark_under_white_words(ax):
    plots.layer_heatmap(pd.DataFrame({0: [0.012], 5: [0.3]}, index=["attn.qkv"]), "change", ax)
    assert words(ax.get_xticklabels()) == ["1", "6"]
    assert [(text.get_text(), text.get_color()) for text in ax.texts] == [("1.2", "black"), ("30.0", "white")]


def test_updates_are_drawn_by_layer_with_the_mark_and_chance(ax):
    rows = [
        {"layer": layer, "block": block, "rank": rank, "share": min(1, rank / (8 + block))}
        for layer in ("attn.qkv", "mlp.fc1")
        for block in (0, 1, 2)
        for rank in (1, 4, 12)
    ]
    plots.captured_curves(pd.DataFrame(rows), ax, mark=4)
    labelled = {line.get_label(): line for line in ax.lines}
    assert {"attn.qkv", "mlp.fc1"} <= set(labelled)
    assert labelled["attn.qkv"].get_ydata().tolist() == pytest.approx([1 / 9, 4 / 9, 1])  # the median block
    assert "rank 4" in ax.texts[0].get_text()
    ax.clear()
    plots.overlap_bars(pd.DataFrame({"attn.qkv": [0.5, 0.2], "attn.proj": [0.3, 0.4]}), 0.06, ax)
    assert [round(bar.get_height(), 2) for bar in ax.patches] == [0.5, 0.2, 0.3, 0.4]
    assert ax.lines[0].get_ydata()[0] == 0.06
    assert words(ax.get_xticklabels()) == ["1", "2"]


def test_text_is_large_enough_for_a_projector():
    fig, axes = plt.subplots(1, 4, figsize=(50, 8))
    plots.learning_curves(history(), axes[:2])
    plots.reliability_diagram({"full": bins()}, axes[2])
    plots.layer_heatmap(pd.DataFrame({0: [0.1]}, index=["attn.qkv"]), "change", axes[3])
    fig.draw_without_rendering()
    assert min(text.get_fontsize() for text in fig.findobj(Text) if text.get_text()) >= 12


def test_accuracy_stands_above_what_is_trained_and_every_setting_has_its_name(ax):
    rows = [("lora", "LoRA, rank 64", 10_000, 0.91, 0.90, 0.92), ("lora", "LoRA, rank 1", 100, 0.88, 0.86, 0.9)]
    rows += [("full", "full fine-tuning", 1_000_000, 0.9, 0.88, 0.93)]
    columns = ["method", "name", "trainable_parameters", "accuracy", "low", "high"]
    plots.accuracy_by_parameters(pd.DataFrame(rows, columns=columns), ax)
    assert ax.get_xscale() == "log"
    [line] = [line for line in ax.get_lines() if len(line.get_xdata()) == 2]
    assert line.get_xdata().tolist() == [100, 10_000]  # from the smallest on
    assert {text.get_text() for text in ax.texts} == {row[1] for row in rows}
    with pytest.raises(ValueError, match="accuracy must be fractions"):
        plots.accuracy_by_parameters(pd.DataFrame(rows, columns=columns).assign(accuracy=90), ax)


def test_ranks_are_joined_but_neither_other_layers_nor_what_trains_nothing(ax):
    rows = [
        ("lora", "LoRA, rank 1", 100, 0.8),
        ("lora", "LoRA, rank 12", 1200, 0.9),
        ("zero-shot", "zero-shot", 0, 0.7),
    ]
    rows += [("lora", "LoRA, rank 4, all layers", 1190, 0.9), ("lora", "LoRA, rank 7, MLPs", 1180, 0.9)]
    frame = pd.DataFrame(rows, columns=["method", "name", "trainable_parameters", "accuracy"])
    plots.accuracy_by_parameters(frame.assign(low=0.6, high=0.95), ax)
    lengths = [len(line.get_xdata()) for line in ax.get_lines() if line.get_linestyle() == "-"]
    assert sorted(lengths) == [1, 1, 2]
    [dashed] = [line for line in ax.get_lines() if line.get_linestyle() == "--"]
    assert list(dashed.get_ydata()) == [0.7, 0.7]
    ax.figure.draw_without_rendering()
    boxes = [Text.get_window_extent(text) for text in ax.texts]  # without the lines to the marks
    assert not any(one.overlaps(other) for place, one in enumerate(boxes) for other in boxes[:place])


def test_of_many_classes_panels_show_the_same_worst_twenty():
    names = [f"class {number}" for number in range(30)]
    first, second = np.diag(np.full(30, 9)), np.diag(np.full(30, 9))
    first[0, 1] = second[28, 29] = 5
    _, axes = plt.subplots(1, 2)
    for ax, matrix in zip(axes, (first, second), strict=True):
        plots.confusion(matrix, names, ax, of=first + second)
    rows = [[label.get_text() for label in ax.get_yticklabels()] for ax in axes]
    assert rows[0] == rows[1]
    assert len(rows[0]) == 20
    assert {"class 0", "class 1", "class 28", "class 29"} <= set(rows[0])
    assert axes[0].get_ylabel() == "true (20 of 30)"


# --- ideas ---


def test_the_pictures_of_ideas_name_shapes_and_counts():
    assert {"A: 4 × 64", "B: 64 × 4", "W\n64 × 64", "W + B A\n64 × 64"} <= set(texts(plots.lora_picture(64, 4)))
    assert {"4 × 4 patches", "16 patches + CLS = 17 tokens"} <= set(texts(plots.patches_and_tokens(picture(), 7)))
    assert {"attention", "MLP", "norm"} <= set(texts(plots.block_diagram()))
    assert {"LoRA\n177,418", "Linear probe\n1,930"} <= set(texts(plots.what_moves({"lora": 177418, "probe": 1930})))


def test_a_picture_of_an_idea_refuses_what_it_cannot_draw():
    with pytest.raises(ValueError, match="an image of 28 × 28 pixels cannot be cut into squares of 16"):
        plots.patches_and_tokens(picture(), 16)
    with pytest.raises(ValueError, match="no picture of norm: there are full, bitfit, probe, lora"):
        plots.what_moves({"norm": 1})
