"""Laws of the runs explorer: every run is there once, in the order and with the settings that were asked for."""

import io
import json
import re
from functools import cache
from html import unescape

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Text

from helpers import alts, control, median_seconds, message, page, pictures, walk, words
from woofkit.config import ConfigError, LoRAConfig, TrainConfig
from woofkit.files import write_json
from woofkit.plots.pages import curves_png
from woofkit.results import load_runs, write_history, write_predictions
from woofkit.stats.intervals import mcnemar_test
from woofkit.widgets import runs
from woofkit.widgets.runs import read_runs, runs_explorer, runs_figure

RUN_FILTERS = ("profile", "method", "dataset")


def make_run(root, name, method="full", accuracy=0.8, extra=None, **settings):
    """A finished run's small files."""
    config = TrainConfig(method=method, lora=LoRAConfig.paper() if method == "lora" else None, **settings)
    folder = root / name
    folder.mkdir(parents=True)
    write_json(folder / "config.json", {"config": config.to_dict(), "identity": {}, "environment": {}})
    metrics = {"test_accuracy": accuracy, "test_accuracy_low": accuracy - 0.02, "test_accuracy_high": accuracy + 0.01}
    metrics |= {"trainable_parameters": 177_418 if method == "lora" else 5_526_346}
    if method != "zero-shot":
        metrics |= {"train_seconds": 100 * accuracy, "images_per_second": 25.0}
        trained = [{"epoch": n, "lr": config.lr, "train_accuracy": 0.4 * n, "train_loss": 1 / n} for n in (1, 2)]
        write_history(folder, [{**row, "val_accuracy": 0.35 * row["epoch"], "val_loss": 1.0} for row in trained])
    write_json(folder / "metrics.json", metrics | {"date": "2026-01-02T03:04:05+00:00"} | (extra or {}))


@pytest.fixture
def root(tmp_path):
    runs = tmp_path / "runs"
    make_run(runs, "demo/full-r0-s0-aaaaaaaa", accuracy=0.85)
    make_run(runs, "demo/lora-r12-s0-bbbbbbbb", "lora", accuracy=0.9, lr=1e-3)
    make_run(runs, "demo/lora-r12-s1-cccccccc", "lora", accuracy=0.6, seed=1, extra={"stopped_epoch": 2})
    make_run(runs, "demo/zero-shot-r0-s0-dddddddd", "zero-shot", accuracy=0.1, extra={"date": "2026-03-01T00:00:00"})
    make_run(runs, "paper/full-r0-s0-eeeeeeee", accuracy=0.95, dataset="imagewoof", epochs=7)
    return runs


@cache
def curves_of(table, method):
    return curves_png(pd.read_csv(io.StringIO(table)), method)


@pytest.fixture(autouse=True)
def equal_curves_are_drawn_once(monkeypatch):
    monkeypatch.setattr(runs, "curves_png", lambda history, method: curves_of(history.to_csv(index=False), method))


@pytest.fixture
def box(root):
    return runs_explorer(root)


def table(box):
    """The table's rows, a list of words each, without the mark of the chosen run."""
    [html] = [child.value for child in walk(box) if "<thead" in str(getattr(child, "value", ""))]
    rows = re.findall("<tr.*?</tr>", html, flags=re.S)[1:]
    return [[unescape(cell).removeprefix("▶ ") for cell in re.findall("<t[hd][^>]*>(.*?)</t", row)] for row in rows]


def heading(box):
    [html] = [child.value for child in walk(box) if "<thead" in str(getattr(child, "value", ""))]
    return unescape(re.sub("<.*?>", "", html.split("</p>")[0]))


def folders(box):
    return [folder for _, folder in control(box, "run").options]


def state(box):
    return {name: control(box, name).value for name in (*RUN_FILTERS, "sort by", "page", "run", "all settings")}


# --- the table ---


def test_every_run_is_there_with_what_was_measured(box):
    rows = {row[3]: row for row in table(box)}
    assert heading(box) == "runs 1 to 5 of 5"
    assert rows["90.0% (88.0 to 91.0)"] == [
        "2",
        "LoRA",
        "demo",
        "90.0% (88.0 to 91.0)",
        "0.001",
        "12",
        "5",
        "0",
        "90",
        "25.0",
        "177,418",
        "2026-01-02",
    ]
    assert rows["60.0% (58.0 to 61.0)"][1] == "LoRA, stopped in epoch 2"


def test_what_was_not_trained_has_no_settings_of_training(box):
    [row] = [row for row in table(box) if row[1] == "Zero-shot"]
    assert row[4:10] == ["-", "-", "-", "0", "-", "-"]
    control(box, "run").value = "demo/zero-shot-r0-s0-dddddddd"
    assert "Nothing was trained" in words(box)
    control(box, "all settings").value = True
    assert "batch_size" not in words(box)


@pytest.mark.parametrize(
    ("name", "value", "endings"),
    [
        ("profile", "paper", "e"),
        ("profile", "demo", "bacd"),
        ("method", "lora", "bc"),
        ("method", "full", "ea"),
        ("dataset", "imagewoof", "e"),
        ("dataset", "sketchwoof", "bacd"),
    ],
)
def test_a_filter_shows_the_runs_it_names(box, name, value, endings):
    before = state(box)
    control(box, name).value = value
    assert [folder[-1] for folder in folders(box)] == list(endings)
    assert len(table(box)) == len(endings)
    others = {key: value for key, value in state(box).items() if key not in (name, "run")}
    assert others == {key: before[key] for key in others}


def test_the_order_is_the_one_asked_for_and_what_is_not_known_comes_last(box):
    orders = {
        "test accuracy": "ebacd",
        "learning rate": "acebd",
        "rank": "bcade",
        "training time": "cabed",
        "images/s": "abced",
        "trained parameters": "bcade",
        "date": "dabce",
    }
    before = state(box)
    for words_of, sort in control(box, "sort by").options:
        control(box, "sort by").value = sort
        assert "".join(folder[-1] for folder in folders(box)) == orders.pop(words_of.split(",")[0])
        assert state(box) == before | {"sort by": sort}
        assert [row[0] for row in table(box)] == list("12345")
    assert not orders


def test_the_chosen_run_stays_chosen_while_it_is_among_them(box):
    control(box, "run").value = "demo/lora-r12-s0-bbbbbbbb"
    control(box, "sort by").value = dict(control(box, "sort by").options)["date, newest first"]
    control(box, "method").value = "lora"
    assert control(box, "run").value == "demo/lora-r12-s0-bbbbbbbb"
    control(box, "method").value = "full"
    assert control(box, "run").value == folders(box)[0]
    assert "Full fine-tuning, lr 0.0004, seed 0" in words(box)


def test_no_run_like_that_is_a_sentence(box):
    control(box, "profile").value = "paper"
    control(box, "method").value = "lora"
    assert heading(box) == "None of the 5 runs matches: choose another profile, method or dataset."
    assert control(box, "run").disabled
    assert page(box) == ""
    control(box, "method").value = ""
    assert not control(box, "run").disabled
    assert "paper/full-r0-s0-eeeeeeee" in words(box)


def test_pages_hold_fifteen_runs_and_cover_all(tmp_path):
    for number in range(32):
        make_run(tmp_path, f"many/full-r0-s{number}-{number:08d}", accuracy=0.5 + number / 100, seed=number)
    box = runs_explorer(tmp_path)
    seen = []
    for _ in range(3):
        assert len(table(box)) <= 15
        seen += [row[0] for row in table(box)]
        control(box, "next page ▶").click()
    assert seen == [str(number) for number in range(1, 33)]
    assert heading(box) == "runs 1 to 15 of 32"  # the ends meet
    control(box, "◀ previous page").click()
    assert heading(box) == "runs 31 to 32 of 32"
    before = state(box)
    control(box, "page").value = 2
    assert state(box) == before | {"page": 2}


# --- one run ---


def test_a_runs_settings_are_those_that_differ_or_all(box):
    control(box, "run").value = "demo/lora-r12-s0-bbbbbbbb"
    text = words(box)
    assert "folder: demo/lora-r12-s0-bbbbbbbb" in text
    assert "Settings in which the runs of profile demo differ:" in text
    for setting in ("method : lora", "lr : 0.001", "seed : 0"):
        assert setting in text
    assert "model_name" not in text
    control(box, "all settings").value = True
    text = words(box)
    for setting in ("model_name : vit_tiny_patch16_224", "lora.rank : 12", "data_dir : -"):
        assert setting in text


def test_a_run_alone_in_its_profile_differs_from_none(box):
    control(box, "run").value = "paper/full-r0-s0-eeeeeeee"
    assert "It is the only run of profile paper." in words(box)


def test_the_curves_are_the_runs_own_and_in_words_too(box):
    shown = []
    for folder in ("demo/full-r0-s0-aaaaaaaa", "demo/lora-r12-s0-bbbbbbbb"):
        control(box, "run").value = folder
        shown += zip(alts(box), pictures(box), strict=True)
    (full, one), (lora, other) = shown
    assert full == (
        "Learning curves, Full fine-tuning: after epoch 2 the training accuracy is 80.0%, the validation accuracy 70.0%"
    )
    assert "LoRA" in lora
    assert one != other  # another colour
    assert plt.get_fignums() == []


def test_no_path_says_where_the_files_are(tmp_path, root):
    weights = tmp_path / "mine.safetensors"
    weights.touch()
    make_run(root, "demo/full-r0-s0-ffffffff", accuracy=0.99, weights=str(weights), data_dir=str(tmp_path))
    box = runs_explorer(root)
    control(box, "run").value = "demo/full-r0-s0-ffffffff"
    control(box, "all settings").value = True
    everything = "".join(str(getattr(child, "value", "")) for child in walk(box))
    assert "mine.safetensors" in everything
    assert str(tmp_path) not in everything


def test_names_are_shown_as_they_are_not_as_html(tmp_path):
    make_run(tmp_path, "<i>mine</i>/full-r0-s0-aaaaaaaa")
    make_run(tmp_path, "other/full-r0-s0-bbbbbbbb")
    everything = "".join(str(child.value) for child in walk(runs_explorer(tmp_path)) if type(child).__name__ == "HTML")
    assert "<i>" not in everything
    assert "<i>mine</i>" in unescape(everything)


def test_new_runs_appear_when_the_folder_is_read_again(tmp_path):
    box = runs_explorer(tmp_path / "runs")  # it need not be there yet
    assert heading(box) == "There is no finished run here yet: train one, then read again."
    make_run(tmp_path / "runs", "demo/full-r0-s0-aaaaaaaa")
    control(box, "read again").click()
    assert heading(box) == "run 1 of 1"
    make_run(tmp_path / "runs", "demo/lora-r12-s0-bbbbbbbb", "lora")
    control(box, "method").value = "full"
    control(box, "read again").click()
    assert control(box, "method").value == "full"
    assert control(box, "run").value == "demo/full-r0-s0-aaaaaaaa"
    assert [value for _, value in control(box, "method").options] == ["", "full", "lora"]


def test_a_damaged_run_is_a_sentence_and_the_others_stay(root, box):
    (root / "demo" / "full-r0-s0-aaaaaaaa" / "metrics.json").write_text("{")
    control(box, "read again").click()
    assert "full-r0-s0-aaaaaaaa is damaged" in message(box)
    assert len(table(box)) == 4


@pytest.mark.bench
def test_a_change_takes_no_longer_than_a_second(box):
    assert median_seconds(control(box, "run"), folders(box) * 2) < 1


def test_what_is_no_folder_of_runs_is_refused(tmp_path):
    (tmp_path / "runs").touch()
    with pytest.raises(ConfigError, match="runs is not a folder: pass the one with the runs"):
        runs_explorer(tmp_path / "runs")


# --- the figure ---


def test_the_figure_draws_methods_together_and_tells_equal_runs_apart(root):
    make_run(root, "demo/full-r0-s0-ffffffff", accuracy=0.7, batch_size=16)
    fig = runs_figure(load_runs(root, stopped=True))
    labels = [label.get_text() for label in fig.axes[0].get_yticklabels()]
    assert labels == [
        "Full fine-tuning, lr 0.0004, seed 0 (eeeeeeee)",
        "Full fine-tuning, lr 0.0004, seed 0 (aaaaaaaa)",
        "Full fine-tuning, lr 0.0004, seed 0 (ffffffff)",
        "LoRA, rank 12, lr 0.001, seed 0",
        "LoRA, rank 12, lr 0.0004, seed 1, stopped in epoch 2",
        "Zero-shot, seed 0",
    ]
    assert "6 runs" in [text.get_text() for text in fig.findobj(Text)]
    plt.close(fig)


def test_of_many_runs_the_figure_draws_the_best_and_says_so(tmp_path):
    for number in range(23):
        make_run(tmp_path, f"many/full-r0-s{number}-{number:08d}", accuracy=0.5 + number / 100, seed=number)
    fig = runs_figure(load_runs(tmp_path))
    assert "The 20 most accurate of 23 runs" in [text.get_text() for text in fig.findobj(Text)]
    labels = [label.get_text() for label in fig.axes[0].get_yticklabels()]
    assert labels == [f"Full fine-tuning, lr 0.0004, seed {seed}" for seed in range(22, 2, -1)]
    plt.close(fig)
    with pytest.raises(ConfigError, match="there is no run to draw"):
        runs_figure(pd.DataFrame())


def test_the_profile_of_a_run_is_its_folder(root):
    assert set(read_runs(root)["profile"]) == {"demo", "paper"}
    assert set(read_runs(root / "demo")["profile"]) == {"demo"}


def test_a_run_that_names_something_else_than_breeds_says_so(root):
    make_run(root, "demo-pose/lora-r12-s0-ffffffff", "lora", label="pose")
    frame = read_runs(root)
    names = dict(zip(frame["folder"], frame["name"], strict=True))
    assert names["demo-pose/lora-r12-s0-ffffffff"] == "LoRA (pose), rank 12, lr 0.0004, seed 0"
    assert names["demo/lora-r12-s0-bbbbbbbb"] == "LoRA, rank 12, lr 0.001, seed 0"
    assert "LoRA (pose)" in [row[1] for row in table(runs_explorer(root))]


# --- several runs over each other ---


def add_answers(root, name, right, test="one", labels=None):
    """Predictions of a run that is right on these images, of 40 drawings of ten classes."""
    labels = np.arange(40) % 10 if labels is None else labels
    answers = np.where(np.isin(np.arange(40), right), labels, (labels + 1) % 10)
    write_predictions(root / name, tuple(f"test-{n}" for n in range(40)), labels, np.eye(10)[answers])
    record = json.loads((root / name / "config.json").read_text())
    write_json(root / name / "config.json", record | {"identity": {"data": {"test": test}}})


def compare(root, first, *others):
    box = runs_explorer(root)
    control(box, "run").value = first
    control(box, "compare with").value = others
    return box


FULL, LORA, STOPPED, ZERO = (
    "demo/full-r0-s0-aaaaaaaa",
    "demo/lora-r12-s0-bbbbbbbb",
    "demo/lora-r12-s1-cccccccc",
    "demo/zero-shot-r0-s0-dddddddd",
)


def test_two_runs_on_the_same_images_have_their_difference_with_its_interval_and_p(root):
    add_answers(root, FULL, range(30))
    add_answers(root, LORA, range(20, 32))
    text = words(compare(root, FULL, LORA))
    test = mcnemar_test(np.arange(40) < 30, (np.arange(40) >= 20) & (np.arange(40) < 32))
    assert "Both runs saw the same 40 pictures." in text
    assert "Full fine-tuning gets 20 right that LoRA gets wrong; LoRA gets 2 right that Full fine-tuning" in text
    assert "Full fine-tuning is ahead by 45.0 points (95% interval +" in text
    assert f"McNemar's exact p = {test.p_value:.2g}). Chance alone rarely does that." in text
    turned = words(compare(root, LORA, FULL))
    assert re.search(r"ahead by 45.0 points .*?\)", turned)[0] == re.search(r"ahead by 45.0 points .*?\)", text)[0]


def test_a_difference_that_chance_makes_is_called_so(root):
    add_answers(root, FULL, range(30))
    add_answers(root, LORA, range(1, 32))
    text = words(compare(root, FULL, LORA))
    assert "LoRA is ahead by 2.5 points (95% interval -" in text
    assert "p = 1). That may be chance." in text
    add_answers(root, LORA, range(30))
    assert "No picture tells them apart." in words(compare(root, FULL, LORA))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"test": "two"}, "were tested on drawings with different hashes"),
        ({"labels": np.arange(40) % 5}, "learned to name different things, so their answers cannot be compared"),
        (None, "cannot be compared picture by picture: "),
    ],
)
def test_runs_whose_answers_cannot_be_paired_say_why(root, settings, said):
    add_answers(root, FULL, range(30))
    if settings:
        add_answers(root, LORA, range(30), **settings)
    text = words(compare(root, FULL, LORA))
    assert said in text
    assert "McNemar" not in text
    assert "Learning curves, LoRA" in alts(compare(root, FULL, LORA))[0]  # the curves are there all the same


def test_other_keys_are_other_pictures(root):
    add_answers(root, FULL, range(30))
    add_answers(root, LORA, range(30))
    write_predictions(root / LORA, ("test-0", "test-1"), np.arange(2), np.eye(10)[:2])
    said = "Full fine-tuning (40 pictures) and LoRA (2 pictures) were tested on different pictures"
    assert said in words(compare(root, FULL, LORA))


def test_more_than_two_are_each_compared_with_the_first_and_the_table_says_where_they_differ(root):
    for name, right in ((FULL, range(30)), (LORA, range(20)), (STOPPED, range(5)), (ZERO, range(3))):
        add_answers(root, name, right)
    box = compare(root, FULL, FULL, LORA, STOPPED, ZERO)  # a run is not compared with itself
    text = words(box)
    assert text.count("Both runs saw") == 3
    assert "Full fine-tuning, lr 0.0004, seed 0 (aaaaaaaa) gets 10 right that LoRA, rank 12" in text
    assert "are not corrected for their number" in text
    assert "method full lora lora zero-shot" in text
    assert "lr 0.0004 0.001 0.0004 -" in text
    assert len(pictures(box)) == 1
    control(box, "method").value = "lora"
    assert control(box, "compare with").value == (LORA, STOPPED)
    assert words(box).count("Both runs saw") == 1
    control(box, "compare with").value = ()
    assert "folder: demo/lora" in words(box)


def test_runs_that_learned_nothing_are_compared_without_curves(root):
    make_run(root, "demo/zero-shot-r0-s1-ffffffff", "zero-shot", seed=1)
    for name in (ZERO, "demo/zero-shot-r0-s1-ffffffff"):
        add_answers(root, name, range(3))
    box = compare(root, ZERO, "demo/zero-shot-r0-s1-ffffffff")
    assert "None of them was trained" in words(box)
    assert plt.get_fignums() == []


def test_of_many_chosen_runs_six_are_shown(tmp_path):
    names = [f"many/full-r0-s{number}-{number:08d}" for number in range(8)]
    for number, name in enumerate(names):
        make_run(tmp_path, name, seed=number)
        add_answers(tmp_path, name, range(30))
    text = words(compare(tmp_path, *names))
    assert "Of the 8 chosen runs, the first 6 are shown." in text
    assert "seed 0 1 2 3 4 5" in text
