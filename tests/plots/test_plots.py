"""Laws of the figures: they show what they were given, refuse what does not fit, and can be read."""

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb
from matplotlib.text import Text

from woofkit import plots

BREEDS = ("beagle", "dingo", "Samoyed")


@pytest.fixture(autouse=True)
def style():
    with matplotlib.rc_context():
        plots.use_style()
        yield
    plt.close("all")


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


def test_sample_grid_shows_every_image_under_its_title():
    fig = plots.sample_grid([picture(shade) for shade in (10, 20, 30, 40)], ("a", "b", "c", "d"), ncols=3)
    shown = [ax for ax in fig.axes if ax.images]
    assert [ax.get_title() for ax in shown] == ["a", "b", "c", "d"]
    assert [int(ax.images[0].get_array()[0, 0, 0]) for ax in shown] == [10, 20, 30, 40]
    with pytest.raises(ValueError, match="got 1 images and 2 titles"):
        plots.sample_grid([picture()], ("a", "b"))


def test_class_balance_draws_a_bar_a_breed_and_split_as_long_as_the_count():
    counts = {"train": dict(zip(BREEDS, (900, 800, 700), strict=True)), "test": dict.fromkeys(BREEDS, 50)}
    ax = plots.class_balance(counts, plt.figure().add_subplot())
    assert [bar.get_width() for bar in ax.patches] == [900, 800, 700, 50, 50, 50]
    assert [label.get_text() for label in ax.get_yticklabels()] == list(BREEDS)


def test_image_sizes_puts_widths_on_x_and_heights_on_y():
    ax = plots.image_sizes([100, 200, 300], [50, 60, 70], plt.figure().add_subplot())
    assert ax.collections[0].get_offsets().tolist() == [[100, 50], [200, 60], [300, 70]]


def test_learning_curves_show_accuracy_and_loss_over_epochs_and_the_rate_on_a_log_axis():
    fig, axes = plt.subplots(1, 2)
    plots.learning_curves(history(), axes, label="LoRA")
    assert axes[0].lines[0].get_ydata().tolist() == [0.5, 0.7, 0.9]
    assert axes[1].lines[1].get_ydata().tolist() == [1.2, 0.9, 0.8]
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


def test_confusion_writes_each_count_in_the_row_of_its_true_breed():
    matrix = np.array([[5, 2, 0], [0, 7, 0], [1, 0, 9]])
    ax = plots.confusion(matrix, BREEDS, plt.figure().add_subplot())
    counts = {text.get_position(): text.get_text() for text in ax.texts}
    assert counts == {(0, 0): "5", (1, 0): "2", (1, 1): "7", (0, 2): "1", (2, 2): "9"}  # (column, row)
    with pytest.raises(ValueError, match=r"shape \(3, 3\) does not fit 2 class names"):
        plots.confusion(matrix, BREEDS[:2], ax)


def test_accuracies_are_fractions_shown_in_per_cent():
    frame = pd.DataFrame({"method": ["full", "lora"], "accuracy": [0.9, 0.857], "low": 0.8, "high": 0.95})
    ax = plots.accuracy_intervals(frame, plt.figure().add_subplot())
    assert {"90.0 %", "85.7 %", "Full fine-tuning", "LoRA"} <= set(texts(ax))
    with pytest.raises(ValueError, match="fractions from 0 to 1, not per cent"):
        plots.accuracy_intervals(frame.assign(accuracy=90.0), ax)


def test_cost_bars_carry_their_values():
    frame = pd.DataFrame({"method": ["full", "lora"], "parameters": [5_526_346, 177_418]})
    ax = plots.cost_bars(frame, "parameters", "Trainable parameters", plt.figure().add_subplot())
    assert {"5,526,346", "177,418"} <= set(texts(ax))


def test_a_stack_adds_up_and_its_marker_stands_where_it_was_measured():
    frame = pd.DataFrame({"method": ["full", "lora"], "a": [3.0, 1.0], "b": [4.0, 2.0], "peak": [9.0, 2.5]})
    ax = plots.stacked_costs(
        frame, {"a": "first", "b": "second"}, "Memory", plt.figure().add_subplot(), marker=("peak", "measured peak")
    )
    ends = [bar.get_x() + bar.get_width() for bar in ax.patches]
    assert ends == [3, 1, 7, 3]
    assert [text.get_text() for text in ax.texts] == ["9", "2"]  # 2.5, rounded to even
    assert [segment[0][0] for segment in ax.collections[0].get_segments()] == [9, 2.5]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["first", "second", "measured peak"]
    assert ax.get_xlim()[1] > 9
    ax = plots.stacked_costs(frame, {"a": "first", "b": "second"}, "Memory", plt.figure().add_subplot())
    assert [text.get_text() for text in ax.texts] == ["7", "3"]


def test_per_class_accuracy_puts_the_easiest_breed_first():
    frame = pd.DataFrame(
        [(b, m, a) for b, a in zip(BREEDS, (0.5, 0.9, 0.7), strict=True) for m in ("full", "lora")],
        columns=["breed", "method", "accuracy"],
    )
    ax = plots.per_class_accuracy(frame, plt.figure().add_subplot())
    assert [label.get_text() for label in ax.get_yticklabels()] == ["dingo", "Samoyed", "beagle"]


def test_mask_overlay_names_the_parts_that_are_there():
    mask = np.zeros((28, 28), dtype=np.uint8)
    mask[5:9] = 2
    ax = plots.mask_overlay(picture(), mask, ("background", "body", "head"), plt.figure().add_subplot())
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["background", "head"]
    with pytest.raises(ValueError, match="holds the value 2, but only 2 parts are named"):
        plots.mask_overlay(picture(), mask, ("background", "body"), ax)
    with pytest.raises(ValueError, match=r"shape \(4, 4\) is not the image's \(28, 28\)"):
        plots.mask_overlay(picture(), mask[:4, :4], ("background", "body"), ax)


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
    assert [name.get_text() for name in ax.get_yticklabels()] == ["beagle", "dingo", "Old English\nsheepdog"]
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
    images, parts = sheet_images(), ("background", "body", "head")
    masks = np.zeros(images.shape[:-1], np.uint8)
    masks[:, :, 5:10], masks[:, :, 10:] = 1, 2
    fig = plots.mask_sheet(images, masks, BREEDS, parts)
    sheet = fig.axes[0].images[0].get_array()
    assert sheet.shape == plots.contact_sheet(images, BREEDS).axes[0].images[0].get_array().shape
    shown = [sheet[row, 0].astype(int) for row in (0, 5, 10)]
    for part, color in enumerate(shown):
        distances = [np.abs(color - 255 * np.array(to_rgb(plots.PART_COLORS[p]))).sum() for p in range(3)]
        assert np.argmin(distances) == part
    assert [text.get_text() for text in fig.legends[0].get_texts()] == list(parts)
    with pytest.raises(ValueError, match="holds the value 2, but only 2 parts are named"):
        plots.mask_sheet(images, masks, BREEDS, parts[:2])
    with pytest.raises(ValueError, match=r"shape \(3, 3, 20, 20\) does not fit the images' \(3, 4, 20, 20, 3\)"):
        plots.mask_sheet(images, masks[:, :3], BREEDS, parts)


def test_a_similarity_histogram_shows_shares_and_the_line():
    groups = {"test": np.array([0.31, 0.32, 0.5]), "copies": np.full(10, 0.99)}
    ax = plots.similarity_histogram(groups, plt.figure().add_subplot(), line=0.9)
    assert {"test", "copies"} <= set(texts(ax))
    assert ax.lines[0].get_xdata() == [0.9, 0.9]
    highest = [shape.get_xy()[:, 1].max() for shape in ax.patches]
    assert highest == pytest.approx([2 / 3, 1])
    assert ax.get_ylim()[0] < 1 / 10  # one image of the larger group is seen
    with pytest.raises(ValueError, match="at least one group, and a value in each"):
        plots.similarity_histogram({"test": np.array([])}, ax)


def test_top_predictions_stand_beside_their_picture_the_likeliest_first():
    probabilities = np.array([[0.2, 0.7, 0.1], [0.5, 0.1, 0.4]])
    fig = plots.top_predictions([picture(10), picture(20)], ("before", "after"), probabilities, BREEDS, k=2)
    (before, one), (after, other) = np.reshape(fig.axes, (2, 2))
    assert [before.get_title(), after.get_title()] == ["before", "after"]
    assert [ax.images[0].get_array()[0, 0, 0] for ax in (before, after)] == [10, 20]
    assert [label.get_text() for label in one.get_yticklabels()] == ["dingo", "beagle"]
    assert [bar.get_width() for bar in other.patches] == [0.5, 0.4]
    assert {"50 %", "40 %"} <= set(texts(other))
    assert one.get_xlim() == other.get_xlim()


def test_top_predictions_refuse_what_does_not_fit():
    probabilities = np.full((1, 3), 1 / 3)
    with pytest.raises(ValueError, match="got 1 images and 2 titles"):
        plots.top_predictions([picture()], ("a", "b"), probabilities, BREEDS)
    with pytest.raises(ValueError, match=r"shape \(1, 3\) do not fit 1 images and 2 class names"):
        plots.top_predictions([picture()], ("a",), probabilities, BREEDS[:2])
    with pytest.raises(ValueError, match="k = 4 is not allowed: 1 to 3"):
        plots.top_predictions([picture()], ("a",), probabilities, BREEDS, k=4)
    with pytest.raises(ValueError, match="fractions from 0 to 1, not logits or per cent"):
        plots.top_predictions([picture()], ("a",), 100 * probabilities, BREEDS)


def test_the_overlay_covers_the_image_patch_by_patch_height_first():
    heat = np.arange(6.0).reshape(2, 3)
    ax = plots.attention_overlay(picture(), heat, plt.figure().add_subplot())
    below, above = ax.images
    assert above.get_array().tolist() == heat.tolist()
    assert tuple(above.get_extent()) == tuple(below.get_extent())
    with pytest.raises(ValueError, match=r"two axes \(height, width\), got shape \(3,\)"):
        plots.attention_overlay(picture(), heat[0], ax)


def test_the_comparison_is_on_one_scale_with_a_column_a_model_and_a_row_a_dog():
    maps = {name: np.full((2, 4, 4), value) for name, value in (("original", 1), ("full", 3), ("lora", 2))}
    captions = {"full": ["beagle 98 %", "dingo 55 %"]}
    fig = plots.attention_comparison([picture()] * 2, maps, BREEDS[:2], captions, label="times even")
    overlays = [ax.images[1] for ax in fig.axes if len(ax.images) == 2]
    assert len(overlays) == 6
    assert {overlay.get_clim() for overlay in overlays} == {(0, 3)}
    assert {"Original", "Full fine-tuning", "LoRA", "beagle", "dingo", "dingo 55 %", "times even"} <= set(texts(fig))


def test_differences_from_the_original_have_columns_and_a_scale_of_their_own_with_zero_in_the_middle():
    maps = {"original": np.full((2, 4, 4), 3.0), "full": np.full((2, 4, 4), 1.0), "lora": np.full((2, 4, 4), 4.0)}
    fig = plots.attention_comparison([picture()] * 2, maps, BREEDS[:2], against="original")
    overlays = [ax.images[1] for ax in fig.axes if len(ax.images) == 2]
    differences = [overlay for overlay in overlays if overlay.get_clim() == (-2, 2)]
    assert len(overlays) == 10
    assert sorted(overlay.get_array().mean() for overlay in differences) == [-2, -2, 1, 1]
    shown = set(texts(fig))
    assert {"Full fine-tuning\nminus original", "LoRA\nminus original"} <= shown
    assert "less (blue) or more (red), in even shares" in shown
    with pytest.raises(ValueError, match="no maps of 'dora' to compare with: there are original, full, lora"):
        plots.attention_comparison([picture()] * 2, maps, BREEDS[:2], against="dora")


def test_the_comparison_refuses_maps_and_titles_that_do_not_fit_the_images():
    with pytest.raises(ValueError, match="2 images, but 1 maps of 'full'"):
        plots.attention_comparison([picture()] * 2, {"full": np.ones((1, 4, 4))}, BREEDS[:2])
    with pytest.raises(ValueError, match="2 images need as many titles and a model's maps, got 3 titles"):
        plots.attention_comparison([picture()] * 2, {"full": np.ones((2, 4, 4))}, BREEDS)


def test_map_rows_give_each_quantity_a_scale_that_its_models_share():
    rows = {"attention": {"original": np.ones((2, 3)), "lora": 2 * np.ones((2, 3))}}
    rows["norm"] = {"original": 10 * np.ones((2, 3)), "lora": 5 * np.ones((2, 3))}
    fig = plots.map_rows(rows)
    shown = [ax for ax in fig.axes if ax.images]
    assert [ax.get_title() for ax in shown] == ["Original", "LoRA", "", ""]
    assert [ax.images[0].get_clim() for ax in shown] == [(0, 2), (0, 2), (0, 10), (0, 10)]
    assert shown[2].get_ylabel() == "norm"


def test_all_heads_are_shown_in_two_bands_with_their_numbers():
    fig = plots.all_heads(picture(), np.random.default_rng(0).random((5, 2, 4, 4)))
    shown = [ax for ax in fig.axes if len(ax.images) == 2]
    assert len(shown) == 5 * 2
    assert {f"Block {number}" for number in range(1, 6)} | {"Head 1", "Head 2"} <= set(texts(fig))


def test_numbers_by_layer_and_head_share_a_scale_and_are_written_out():
    values = {"full": np.array([[0.1, 0.2], [0.3, 0.4]]), "lora": np.array([[0.0, 0.1], [0.1, 0.05]])}
    fig = plots.by_layer_and_head(values, "divergence, bits")
    shown = [ax for ax in fig.axes if ax.images and ax.texts]
    assert {ax.images[0].get_clim() for ax in shown} == {(0, 0.4)}
    assert [[text.get_text() for text in ax.texts] for ax in shown][0] == ["0.10", "0.20", "0.30", "0.40"]
    assert shown[0].images[0].get_array().tolist() == [[0.1, 0.3], [0.2, 0.4]]  # a row a head, a column a block


def test_layer_lines_go_through_the_mean_of_the_heads():
    ax = plots.layer_lines({"lora": np.array([[1.0, 3.0], [2.0, 6.0]])}, "entropy", plt.figure().add_subplot())
    assert ax.lines[0].get_xydata().tolist() == [[1, 2], [2, 4]]
    assert ax.collections[0].get_offsets().tolist() == [[1, 1], [1, 3], [2, 2], [2, 6]]


def test_faithfulness_curves_are_means_over_dogs_and_say_which_way_is_better():
    curves = {"relevance": np.array([[0.8, 0.2], [0.6, 0.0]]), "random": np.array([[0.8, 0.4], [0.6, 0.4]])}
    fig = plots.faithfulness_curves(np.array([0.0, 1.0]), {"deletion": curves, "insertion": curves})
    left, right = fig.axes
    assert [line.get_ydata().tolist() for line in left.lines] == [pytest.approx([0.7, 0.1]), pytest.approx([0.7, 0.4])]
    assert left.get_title() == "Deletion: lower is better"
    assert right.get_title() == "Insertion: higher is better"
    assert [text.get_text() for text in right.get_legend().get_texts()] == ["Class relevance", "Random map"]


def test_sanity_lines_name_every_stage():
    likeness = pd.DataFrame({"attention": [1.0, 0.1], "rollout": [1.0, 0.9]}, index=["head", "block 12"])
    ax = plots.sanity_lines(likeness, plt.figure().add_subplot())
    assert [label.get_text() for label in ax.get_xticklabels()] == ["head", "block 12"]
    assert ax.lines[1].get_ydata().tolist() == [1.0, 0.9]


def test_kinds_of_maps_differ_in_colour_and_in_marker():
    looks = list(plots.MAP_LOOKS.values())
    assert set(plots.MAP_LOOKS) == set(plots.MAP_NAMES)
    for place in (0, 2):
        assert len({look[place] for look in looks}) == len(looks)


def test_interval_dots_put_groups_in_order_and_models_beside_each_other():
    frame = pd.DataFrame(
        [(m, p, 1.5, 1.0, 2.0) for m in ("full", "lora") for p in ("head", "legs")],
        columns=["model", "part", "density", "low", "high"],
    )
    ax = plots.interval_dots(frame, "part", "density", plt.figure().add_subplot(), reference=1.0)
    assert [label.get_text() for label in ax.get_yticklabels()] == ["head", "legs"]
    places = [dots.get_offsets()[:, 1].tolist() for dots in ax.collections if len(dots.get_offsets()) == 2]
    assert all(abs(place - row) < 0.5 for model in places for row, place in enumerate(model))
    assert places[0] != places[1]


def test_no_two_methods_share_a_colour_and_an_unknown_one_is_grey():
    assert len(set(plots.METHOD_COLORS.values())) == len(plots.METHOD_COLORS)
    assert set(plots.METHOD_NAMES) == set(plots.METHOD_COLORS)
    assert plots.method_color("dora") == "#999999"
    assert plots.method_name("dora") == "dora"


def test_text_is_large_enough_for_a_projector():
    fig, axes = plt.subplots(1, 2)
    plots.learning_curves(history(), axes)
    fig.draw_without_rendering()
    assert min(text.get_fontsize() for text in fig.findobj(Text) if text.get_text()) >= 12


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


def test_the_overlap_with_pretraining_is_stacked_and_told():
    fig, ax = plt.subplots()
    plots.pretraining_overlap({"paper: test": 3767, "clean: test": 0}, {"paper: test": 162, "clean: test": 500}, ax)
    assert [text.get_text().strip() for text in ax.texts] == ["3,767 of 3,929 met", "0 of 500 met"]
    assert [bar.get_width() for bar in ax.patches] == [3767, 0, 162, 500]  # met first, then what is added to it
    assert [bar.get_x() for bar in ax.patches][2:] == [3767, 0]
    plt.close(fig)


def test_updates_are_drawn_a_line_or_bar_a_layer_with_the_mark_and_chance():
    _, ax = plt.subplots()
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
    assert sorted(round(bar.get_height(), 2) for bar in ax.patches) == [0.2, 0.3, 0.4, 0.5]
    assert ax.lines[0].get_ydata()[0] == 0.06
