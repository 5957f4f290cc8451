"""Laws of the evidence's figures: what is drawn is what was given, and colour is never the only sign."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from matplotlib.text import Text

from woofkit.plots.evidence import (
    VERDICTS,
    forgetting_lines,
    run_dots,
    seed_dots,
    sweep_lines,
    sweep_panels,
    target_versus_source,
    verdict_table,
)


def labelled(ax):
    return {line.get_label(): line for line in ax.lines if not line.get_label().startswith("_")}


def scattered(ax, size):
    """What was scattered with marks of that size."""
    return [dots for dots in ax.collections if size in getattr(dots, "get_sizes", list)()]


def marks(ax, size):
    return [dots.get_offsets().tolist() for dots in scattered(ax, size)]


def spans(ax):
    """The bars drawn by hlines: (x0, y0, x1, y1)."""
    found = [path for lines in ax.collections if hasattr(lines, "get_segments") for path in lines.get_segments()]
    return [tuple(np.ravel(path)) for path in found]


def texts(artist):
    return [text.get_text() for text in artist.findobj(Text) if text.get_text()]


def seeds():
    rows = [("full", "a", 0.9, 0.89, 0.93), ("full", "a", 0.92, 0.89, 0.93)]
    rows += [("lora", "b", 0.88, 0.86, 0.92), ("lora", "b", 0.9, 0.86, 0.92)]
    return pd.DataFrame(rows, columns=["method", "label", "accuracy", "low", "high"])


def test_seed_dots_put_every_seed_in_its_row_with_the_mean_and_the_interval(ax):
    seed_dots(seeds(), ax)
    assert marks(ax, 75) == [[[0.9, 0], [0.92, 0]], [[0.88, 1], [0.9, 1]]]
    assert spans(ax) == [(0.89, 0, 0.93, 0), (0.86, 1, 0.92, 1)]
    assert [line.get_xdata()[0] for line in ax.lines] == pytest.approx([0.91, 0.89])
    assert [label.get_text() for label in ax.get_yticklabels()] == ["a", "b"]
    assert {"91.0%", "89.0%"} <= set(texts(ax))
    with pytest.raises(ValueError, match="accuracy must be fractions from 0 to 1"):
        seed_dots(seeds().assign(accuracy=88.0), ax)


def sweep():
    return pd.DataFrame(
        [("lora", 12, 0.8), ("lora", 4, 0.5), ("lora", 4, 0.7), ("lora", 12, 1.0), ("full", 4, 0.9)],
        columns=["method", "rank", "accuracy"],
    )


def test_sweep_lines_run_through_the_means_of_the_seeds_and_ring_the_best(ax):
    sweep_lines(sweep(), "rank", ax, paper=12)
    lines = labelled(ax)
    assert lines["LoRA"].get_xydata().tolist() == [[4, 0.6], [12, 0.9]]
    assert lines["Full fine-tuning"].get_xydata().tolist() == [[4, 0.9]]
    assert lines["the paper's 12"].get_xdata() == [12, 12]
    assert lines["the paper's 12"].get_linestyle() == "--"
    assert sorted(marks(ax, 45)[0]) == [[4, 0.5], [4, 0.7], [12, 0.8], [12, 1.0]]
    assert marks(ax, 330) == [[[12, 0.9]], [[4, 0.9]]]
    assert ax.get_xscale() == "log"
    ax.figure.draw_without_rendering()
    assert [label.get_text() for label in ax.get_xticklabels()] == ["4", "12"]


def test_sweep_lines_draw_a_band_where_there_is_an_interval_and_need_settings_for_a_log_axis(ax):
    frame = sweep().assign(low=lambda f: f["rank"] / 100, high=lambda f: f["rank"] / 50)
    sweep_lines(frame, "rank", ax, best=False)
    [band, _] = [area for area in ax.collections if type(area).__name__ == "FillBetweenPolyCollection"]
    corners = {tuple(corner) for corner in band.get_paths()[0].vertices.tolist()}
    assert {(4, 0.04), (4, 0.08), (12, 0.12), (12, 0.24)} <= corners
    assert marks(ax, 330) == []
    with pytest.raises(ValueError, match="a logarithmic axis needs rank above 0, got 0"):
        sweep_lines(sweep().assign(rank=0), "rank", ax)


def kept(grid, **columns):
    """Rows of `sweeps.results.kept_runs`, two seeds per setting."""
    [(name, values)] = columns.items()
    shared = {"grid": grid, "method": "lora", "lr": 1e-3, "rank": 12, "label_fraction": 1.0, "epochs": 5}
    shared |= {"targets": "['attn.qkv', 'attn.proj']", "low": 0.7, "high": 0.9, "val_accuracy": 0.8}
    shared |= {"dataset": "sketchwoof", "num_train_images": 600, "other": ""}
    rows = [
        shared | {name: value, "seed": seed, "test_accuracy": 0.8 + seed / 100} for value in values for seed in (0, 1)
    ]
    return pd.DataFrame(rows)


def test_each_grid_that_is_there_has_a_panel():
    frame = pd.concat([kept("lr", lr=[1e-4, 1e-3]), kept("ranks", rank=[1, 12]), kept("seeds-best-lr", lr=[1e-3])])
    fig = sweep_panels(frame)
    words = [ax.get_title().splitlines()[0] for ax in fig.axes if ax.axison]
    assert words == ["Which learning rate?", "Which rank?"]
    assert [ax.get_ylabel() for ax in fig.axes if ax.axison] == ["validation accuracy", "test accuracy"]
    with pytest.raises(ValueError, match="no grid to draw: lr, labels, ranks, epochs are known"):
        sweep_panels(frame[frame["grid"] == "seeds-best-lr"])


def test_a_panel_says_what_its_runs_were_trained_on_and_that_a_shared_rate_was_not_searched():
    rates = kept("lr", lr=[1e-4, 1e-3]).assign(num_train_images=2270, other="num_val 2000; image_size 96")
    first, second = sweep_panels(pd.concat([rates, kept("ranks", rank=[1, 12])])).axes
    assert first.get_title() == "Which learning rate?\n2,270 drawings at 96 pixels"
    assert second.get_title().endswith("600 drawings at 224 pixels,\nall at the rate 0.001, which was not searched")
    [ax] = run_dots(kept("seeds-best-lr", method=["lora", "full"])).axes
    assert ax.get_title() == "At each method's best\n600 drawings at 224 pixels"


def test_validation_accuracies_have_the_interval_of_so_many_validation_images():
    few = kept("lr", lr=[1e-4, 1e-3]).assign(val_accuracy=0.8)
    reaches = []
    for other in ("", "num_val 2000"):
        [ax] = sweep_panels(few.assign(other=other)).axes
        [band] = [area for area in ax.collections if type(area).__name__ == "FillBetweenPolyCollection"]
        heights = band.get_paths()[0].vertices[:, 1]
        assert heights.min() < 0.8 < heights.max()
        reaches.append(np.ptp(heights))
    assert reaches[0] == pytest.approx(reaches[1] * 10**0.5, rel=0.05)  # 200 images and 2,000


def test_dots_name_methods_with_their_rate_and_layers_by_name():
    frame = pd.concat([kept("seeds-best-lr", method=["lora", "full"]), kept("targets", targets=["['attn.qkv[qv]']"])])
    frame = pd.concat([frame, kept("seeds-best-lr", method=["zero-shot"])])
    methods, layers = run_dots(frame).axes
    assert [text.get_text() for text in methods.get_yticklabels()] == [
        "Zero-shot",
        "Full fine-tuning\n0.001",
        "LoRA\n0.001",
    ]
    assert [text.get_text() for text in layers.get_yticklabels()] == ["attn.qkv[qv]"]
    with pytest.raises(ValueError, match="no grid to draw: seeds-paper-lr"):
        run_dots(kept("lr", lr=[1e-4]))


def test_target_versus_source_has_a_mark_per_run_and_the_untouched_backbone(ax):
    rows = [("full", 0.92, 0.2), ("lora", 0.9, 0.6), ("lora", 0.91, 0.5)]
    target_versus_source(pd.DataFrame(rows, columns=["method", "test_accuracy", "head"]), ax, backbone=0.75)
    assert marks(ax, 110) == [[[0.92, 0.2]], [[0.9, 0.6], [0.91, 0.5]]]
    assert labelled(ax)["untouched backbone"].get_ydata() == [0.75, 0.75]


def test_a_line_of_forgetting_runs_through_the_means_in_the_order_of_its_setting(ax):
    rows = [("full", 1e-3, "lr", 0.9, 0.5), ("full", 1e-4, "lr", 0.8, 0.7), ("full", 1e-4, "lr", 0.8, 0.9)]
    frame = pd.DataFrame(rows, columns=["method", "lr", "line", "test_accuracy", "head"]).assign(rank=np.nan)
    forgetting_lines(frame, ax, backbone=0.85)
    [line] = [line for line in ax.get_lines() if "learning rates" in line.get_label()]
    assert line.get_xdata() == pytest.approx([0.8, 0.9])
    assert line.get_ydata() == pytest.approx([0.8, 0.5])
    assert line.get_label() == "Full fine-tuning,\nlearning rates 0.0001 to 0.001"
    largest = max(ax.get_lines(), key=lambda each: each.get_markersize())
    assert (largest.get_xdata()[0], largest.get_ydata()[0]) == pytest.approx((0.9, 0.5))
    assert len(ax.get_legend().get_texts()) == 2  # the large mark has no entry of its own
    ranks = pd.DataFrame({"method": ["lora"] * 2, "rank": [1, 64], "lr": [1e-3, 1e-2], "line": ["rank"] * 2})
    ranks = ranks.assign(test_accuracy=0.8, head=0.5, dataset="sketchwoof", other="image_size 96")
    forgetting_lines(ranks, ax, backbone=0.85)
    assert "LoRA,\nranks 1 to 64,\neach at its own rate" in labelled(ax)
    assert ax.get_title() == "models trained on images of 96 pixels"
    with pytest.raises(ValueError, match="head must be fractions"):
        forgetting_lines(frame.assign(head=50), ax, backbone=0.85)


def verdicts(**changes):
    columns = {
        "hypothesis": ["H1", "H1", "H4", "H6"],
        "claim": ["C1", "C1", "C4", ""],
        "says": ["one is ahead", "one is ahead", "few images", "only the dog"],
        "statement": ["higher", "less time", "fewer images", "only the dog"],
        "verdict": ["supported", "contradicted", "undecided", "not measured"],
        "of_the_claim": ["contradicted", "contradicted", "undecided", "not measured"],
        "p_value": [0.003, 0.003, np.nan, np.nan],
        "why": ["", "", "the interval lies on both sides", ""],
        "value": [0.02, 1.1, 0.0, np.nan],
        "low": [0.01, 1.05, -0.01, np.nan],
        "high": [0.04, 1.2, 0.005, np.nan],
        "threshold": [0.0, 1.0, 0.0, 0.0],
        "above": [True, False, True, True],
        "unit": ["points", "times", "points", ""],
        "margin": [0.01, 0.0, 0.02, 0.0],
        "kind": ["partly confirmatory (1 of 2 conditions)"] * 2 + ["exploratory", ""],
        "source": ["5 seeds (sweep confirm-a)", "3 seeds", "", ""],
    }
    return pd.DataFrame(columns | changes)


def test_a_condition_is_a_word_a_colour_and_a_marker_and_lies_right_of_the_line_if_it_holds(ax):
    verdict_table(verdicts(), ax)
    places = [offsets[0] for offsets in marks(ax, 130)]  # rows 0, 3 and 5 are the hypotheses' own
    assert places == [pytest.approx([0.5, 1]), pytest.approx([-0.5, 2]), pytest.approx([0, 4])]
    bars = spans(ax)[:3]
    assert bars[0] == pytest.approx((0.25, 1, 1, 1))  # 0.01 to 0.04, by the largest distance
    assert bars[1] == pytest.approx((-1, 2, -0.25, 2))  # less was claimed: 1.05 to 1.2 is left of 1
    assert bars[2] == pytest.approx((-0.5, 4, 0.25, 4))  # by the margin, 0.02
    words = texts(ax)
    assert {"supported", "contradicted", "undecided"} <= set(words)
    sources = {"2 (1 to 4) points; 5 seeds (sweep confirm-a)", "1.1 (1.05 to 1.2) times; 3 seeds"}
    assert sources | {"0 (−1 to 0.5) points"} <= set(words)
    drawn = [to_hex(dots.get_facecolor()[0]).upper() for dots in scattered(ax, 130)]
    assert drawn == [VERDICTS[word][0] for word in ("supported", "contradicted", "undecided")]


def test_a_hypothesis_has_a_row_with_its_own_verdict_and_why(ax):
    verdict_table(verdicts(), ax)
    rows = [label.get_text() for label in ax.get_yticklabels()]
    assert rows == [
        "H1 C1: one is ahead",
        "higher",
        "less time",
        "H4 C4: few images",
        "fewer images",
        "H6: only the dog",
    ]
    words = texts(ax)
    assert {"CONTRADICTED", "UNDECIDED", "NOT MEASURED"} <= set(words)
    assert "partly confirmatory (1 of 2 conditions); p = 0.003, corrected" in words
    assert "exploratory; the interval lies on both sides" in words
    assert [offsets[0][1] for offsets in marks(ax, 190)] == [0, 3, 5]


def test_an_interval_that_misses_its_value_is_refused(ax):
    with pytest.raises(ValueError, match=r"H1: the interval 0.01 to 0.04 does not hold 0.05"):
        verdict_table(verdicts(value=[0.05, 1.1, 0.0, np.nan]), ax)


def test_verdicts_differ_in_marker_as_well_as_in_colour():
    for looks in zip(*VERDICTS.values(), strict=True):
        assert len(set(looks)) == len(VERDICTS)


def test_text_is_large_enough_for_a_projector():
    fig, axes = plt.subplots(1, 4, figsize=(50, 8))
    seed_dots(seeds(), axes[0])
    sweep_lines(sweep(), "rank", axes[1], paper=12)
    target_versus_source(
        pd.DataFrame({"method": ["full"], "test_accuracy": [0.9], "head": [0.2]}), axes[2], backbone=0.7
    )
    verdict_table(verdicts(), axes[3])
    fig.draw_without_rendering()
    assert min(text.get_fontsize() for text in fig.findobj(Text) if text.get_text()) >= 12
