"""Sweeps: what a file means, which jobs it comes to, and Snakemake at work on them."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from woofkit import data
from woofkit.config import METHODS, PROJECT_ROOT, ConfigError, LoRAConfig
from woofkit.files import write_json
from woofkit.progress import Monitor
from woofkit.results import is_finished, write_history, write_predictions
from woofkit.sweeps import grid as sweeps
from woofkit.sweeps import job as sweep_job
from woofkit.sweeps import plan as sweep_plan
from woofkit.sweeps import results as sweep_results
from woofkit.sweeps import run as sweep_command
from woofkit.sweeps.grid import available_sweeps, load_sweep
from woofkit.sweeps.plan import best_lr, hold_folder, plan, planned_folder, val_accuracy
from woofkit.sweeps.results import collect, keep, kept_runs
from woofkit.sweeps.run import job_table, summary
from woofkit.sweeps.time import (
    RATES,
    agenda_file,
    effort,
    expected_seconds,
    measured_rates,
    progress_line,
    write_agenda,
)
from woofkit.tables.sweeps import kept_markdown
from woofkit.train import run_training

SEARCH = """
    search: {method: [full, probe], lr: [1e-4, 1e-3]}
    best: {method: [full, probe], lr: best of search, seed: [0, 1]}
"""


@pytest.fixture(autouse=True)
def small_and_forgetful(monkeypatch):
    """Ten drawings to validate on; what a test has remembered of them does not reach the next."""
    monkeypatch.setitem(data.SKETCH_SIZES, "val", 10)
    for remembered in (sweep_plan._initial, sweep_plan._known):
        remembered.cache_clear()


@pytest.fixture
def profile(tmp_path):
    """A profile that trains timm's smallest Vision Transformer on ten drawings, into a folder of the test's own."""
    path = tmp_path / "tiny.yaml"
    path.write_text(
        "{model_name: test_vit, weights: random, precision: fp32, num_train: 10, num_test: 20, epochs: 1, "
        f"batch_size: 4, runs_dir: {tmp_path / 'runs'}}}"
    )
    return path


@pytest.fixture
def write_sweep(profile):
    """Write grids, YAML in a few lines, into a sweep file."""

    def write(grids: str, name: str = "mini") -> Path:
        path = profile.with_name(f"{name}.yaml")
        indented = textwrap.indent(textwrap.dedent(grids).strip("\n"), "  ")
        path.write_text(f"profile: {profile}\ngrids:\n{indented}\n")
        return path

    return write


def pretend(run: Path, config, val_accuracy: float, **metrics) -> None:
    """Leave a finished run that nobody trained."""
    run.mkdir(parents=True)
    write_json(run / "config.json", {"config": config.to_dict()})
    write_history(run, [{"epoch": 1, "val_accuracy": 0.0}, {"epoch": 2, "val_accuracy": val_accuracy}])
    answers = np.eye(2)[[0, 0, 1, 0]]  # of four images, the last is taken for the other breed
    write_predictions(run, tuple("abcd"), np.array([0, 0, 1, 1]), answers)
    write_json(run / "metrics.json", {"selected_epoch": 2, "images_per_second": 50.0, **metrics})


def pretend_search(sweep, accuracies: dict) -> None:
    """Leave the finished runs of the grid `search`, with accuracies by (method, lr)."""
    for job in plan(sweep):
        if "search" in job.grids:
            pretend(job.run, job.config, accuracies[job.config.method, job.config.lr])


# --- what a sweep file means ---


def test_a_grid_is_a_product_over_the_profile(write_sweep):
    sweep = load_sweep(write_sweep("a: {method: [full, probe], lr: [1e-4, 1e-3], seed: 3}"))
    assert [(c.config.method, c.config.lr, c.config.seed) for c in sweep.cells] == [
        ("full", 1e-4, 3),
        ("full", 1e-3, 3),
        ("probe", 1e-4, 3),
        ("probe", 1e-3, 3),
    ]
    assert all(cell.config.num_train == 10 and cell.config.model_name == "test_vit" for cell in sweep.cells)
    assert (sweep.name, sweep.root) == ("mini", Path(sweep.study.runs_dir) / "tiny")


def test_a_grid_may_be_several_products(write_sweep):
    sweep = load_sweep(write_sweep("a: [{method: full, lr: 1e-5}, {method: probe, lr: 1e-2}]"))
    assert [(cell.config.method, cell.config.lr) for cell in sweep.cells] == [("full", 1e-5), ("probe", 1e-2)]


def test_loras_settings_start_from_the_papers_adapter(write_sweep):
    grids = """
    default: {method: lora}
    ranks: {method: lora, rank: [1, 64]}
    one: {method: lora, targets: [attn.qkv, attn.proj]}
    two: {method: lora, targets: [[attn.qkv], ["attn.qkv[qv]", attn.proj]], blocks: [null, [0, 1]]}
    """
    cells = load_sweep(write_sweep(grids)).cells
    adapters = {grid: [c.config.lora for c in cells if c.grid == grid] for grid in ("default", "ranks", "one", "two")}
    assert adapters["default"] == adapters["one"] == [LoRAConfig.paper(12)]
    assert adapters["ranks"] == [LoRAConfig.paper(1), LoRAConfig.paper(64)]
    paper = LoRAConfig.paper(12)
    targets = (("attn.qkv",), ("attn.qkv[qv]", "attn.proj"))
    assert adapters["two"] == [replace(paper, targets=t, blocks=b) for t in targets for b in (None, (0, 1))]


@pytest.mark.parametrize(
    ("grids", "message"),
    [
        ("a: {method: full, learning_rate: 1}", "grid 'a': unknown setting 'learning_rate': allowed are method, "),
        ("a: {method: fool}", "grid 'a': unknown method 'fool': allowed are 'zero-shot', 'probe'"),
        ("a: {lr: 1e-4}", "grid 'a' names no method"),
        ("a: {method: full, lr: [1e-4, 99]}", "grid 'a': lr = 99 is out of range: allowed is above 0 to 10"),
        ("a: {method: full, epochs: 1.5}", "grid 'a': epochs must be of type int, not float"),
        ("a: {method: full, seed: [0, one]}", "grid 'a': seed must be of type int, not str"),
        ("a: {method: full, lr: []}", "grid 'a': lr is an empty list: give at least one value"),
        ("a: {method: lora, targets: []}", "grid 'a': targets is an empty list"),
        ("a: {method: lora, rank: eight}", "grid 'a': rank must be of type int, not str"),
        ("a: {method: lora, rank: 0}", "grid 'a': rank = 0 is out of range"),
        ("a: {method: [lora, full], rank: 8}", "grid 'a': rank is a setting of LoRA, and method 'full' has no adapter"),
        ("a: {}", "grid 'a' is empty"),
        ("a: []", "grid 'a' is empty"),
        ("a: [full]", "grid 'a' must map settings to values"),
        ("'a b': {method: full}", "a grid's name has letters, digits"),
        ("a: {method: full, lr: best}", "lr 'best' is not allowed: a number, or 'best of GRID'"),
        ("a: {method: full, lr: best of b}", "grid 'a': lr 'best of b' names no grid of this sweep: there are a"),
        ("a: {method: full, lr: best of a}", "chooses from a grid that itself takes a best lr"),
        ("a: {method: probe}\nb: {method: full, lr: best of a}", "grid 'b': lr 'best of a': that grid has no run of"),
        (
            "a: {method: full, epochs: [1, 2], lr: [1e-4]}\nb: {method: full, lr: best of a}",
            "its runs of method 'full' may differ only in lr and seed",
        ),
        (
            "a: {method: full, lr: [1e-4, 1e-3], scheme: paper}\nb: {method: full, lr: best of a}",
            "scheme 'paper' has no validation split",
        ),
        (
            "a: {method: full, lr: [1e-4, 1e-3]}\nb: {method: full, scheme: paper, lr: best of a}",
            "scheme 'paper' has no validation split",
        ),
    ],
)
def test_what_a_grid_may_not_say(write_sweep, grids, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        load_sweep(write_sweep(grids))


def test_what_a_file_may_not_say(tmp_path, profile, write_sweep):
    with pytest.raises(ConfigError, match="unknown sweep 'rigour': allowed are .*rigor, rigor-small"):
        load_sweep("rigour")
    with pytest.raises(ConfigError, match="there is no sweep file"):
        load_sweep(tmp_path / "none.yaml")
    for text, message in {
        "grids: {a: {method: full}}": "names no profile",
        f"profile: {profile}": "has no grids",
        f"profile: {profile}\ngrids: {{}}": "has no grids",
        f"profile: {profile}\ngrid: {{}}": "unknown key 'grid'",
        "profile: fast\ngrids: {a: {method: full}}": "unknown profile 'fast'",
        f"profile: {profile}\ngrids: {{a: {{method: full}}, a: {{method: lora}}}}": 'wrong.yaml .* duplicate key "a"',
    }.items():
        path = tmp_path / "wrong.yaml"
        path.write_text(text)
        with pytest.raises(ConfigError, match=message):
            load_sweep(path)


def test_what_does_not_fit_model_or_data_is_refused_before_anything_runs(write_sweep):
    for settings, message in {
        "method: lora, targets: attn.q": "targets must be a sequence",
        "method: lora, targets: [attn.q]": "target 'attn.q' matches no linear layer",
        "method: full, label_fraction: 0.5": "label_fraction = 0.5 leaves 5 images: 10 are the least",
        "method: last, last_blocks: 99": "last_blocks = 99 is more than",
    }.items():
        with pytest.raises(ConfigError, match=re.escape(message)):
            plan(load_sweep(write_sweep(f"a: {{{settings}}}")))


def test_parameters_override_the_profile_and_nothing_else(write_sweep):
    path = write_sweep("a: {method: full, lr: [1e-4, 1e-3]}\nb: {method: probe, lr: 1e-2, epochs: 2}")
    assert [cell.config.epochs for cell in load_sweep(path, {"epochs": 3}).cells] == [3, 3, 2]
    with pytest.raises(ConfigError, match="parameter 'lr' would change nothing: every grid of mini.yaml sets it"):
        load_sweep(path, {"lr": 1.0})
    with pytest.raises(ConfigError, match="unknown parameter 'learning_rate'"):
        load_sweep(path, {"learning_rate": 1.0})


@pytest.mark.parametrize("name", available_sweeps())
def test_the_projects_sweeps_are_in_order(name, tmp_path):
    weights = tmp_path / "weights.safetensors"
    weights.touch()
    sweep = load_sweep(name, {"weights": str(weights)} if name == "imagewoof" else {})
    assert {"rigor", "rigor-small", "imagewoof"} <= set(available_sweeps())
    assert any(cell.best_of for cell in sweep.cells)
    assert any(cell.config.lr == 4e-4 and not cell.best_of for cell in sweep.cells)  # beside the paper's


def test_rigor_holds_what_was_promised():
    cells = load_sweep("rigor").cells
    settings = {grid: [c.config for c in cells if c.grid == grid] for grid in {cell.grid for cell in cells}}
    for grid in ("seeds-paper-lr", "seeds-best-lr"):
        pairs = {(config.method, config.seed) for config in settings[grid]}
        assert pairs == {(m, s) for m in ("full", "lora", "probe", "bitfit") for s in range(5)}
    assert {config.lora.rank for config in settings["ranks"]} == {1, 2, 4, 8, 12, 16, 32, 64}
    assert {config.label_fraction for config in settings["labels"]} == {0.02, 0.05, 0.1, 0.25, 0.5, 1}
    assert {config.epochs for config in settings["epochs"]} == {1, 2, 5, 10, 20}
    assert len({config.lora.targets for config in settings["targets"]}) == 5
    assert {(c.num_train, c.num_test, c.dataset) for c in settings["labels"]} == {(600, 1000, "sketchwoof")}


# --- jobs ---


def test_a_job_is_planned_in_the_very_folder_that_run_training_makes(write_sweep):
    grids = """
    a: {method: [full, lora, last], num_train: 20, label_fraction: 0.5, seed: 1}
    b: {method: lora, rank: 2, targets: [["attn.qkv[qv]"]], label: pose}
    c: {method: probe, scheme: paper}
    """
    jobs = plan(load_sweep(write_sweep(grids)))
    assert len(jobs) == 5
    for job in jobs:
        assert run_training(job.config, job.run.parent, Monitor()) == job.run
        assert job.done


def test_planning_is_deterministic_and_leaves_nothing(write_sweep):
    sweep = load_sweep(write_sweep(SEARCH))
    jobs = plan(sweep)
    for remembered in (sweep_plan._initial, sweep_plan._known):
        remembered.cache_clear()
    assert plan(load_sweep(write_sweep(SEARCH))) == jobs
    assert not sweep.root.exists()


def test_equal_runs_are_one_job(write_sweep):
    jobs = plan(load_sweep(write_sweep("a: {method: full, seed: [0, 1]}\nb: {method: [probe, full], lr: 4e-4}")))
    assert [(job.config.method, job.config.seed, job.grids) for job in jobs] == [
        ("full", 0, ("a", "b")),
        ("full", 1, ("a",)),
        ("probe", 0, ("b",)),
    ]


def test_a_changed_lr_changes_only_its_jobs(write_sweep):
    def runs(lr):
        grids = f"a: {{method: full, lr: [1e-4, {lr}], seed: [0, 1]}}\nb: {{method: probe}}"
        return {job.run for job in plan(load_sweep(write_sweep(grids)))}

    before, after = runs("1e-3"), runs("2e-3")
    assert len(before) == len(after) == 5
    assert len(before & after) == 3


def test_date_commit_and_place_of_the_images_change_no_job(write_sweep, tmp_path):
    path = write_sweep("a: {method: full}")
    assert [j.run for j in plan(load_sweep(path))] == [j.run for j in plan(load_sweep(path, {"data_dir": "data"}))]


# --- the best learning rate ---


def test_the_best_lr_has_the_best_validation_accuracy(write_sweep):
    sweep = load_sweep(write_sweep(SEARCH))
    waiting = [job for job in plan(sweep) if job.run is None]
    assert [(job.config.method, job.config.seed) for job in waiting] == [
        ("full", 0),
        ("full", 1),
        ("probe", 0),
        ("probe", 1),
    ]
    pretend_search(sweep, {("full", 1e-4): 0.7, ("full", 1e-3): 0.6, ("probe", 1e-4): 0.1, ("probe", 1e-3): 0.2})
    best = {(j.config.method, j.config.seed): j for j in plan(sweep) if "best" in j.grids}
    assert {key: job.config.lr for key, job in best.items()} == {
        ("full", 0): 1e-4,
        ("full", 1): 1e-4,
        ("probe", 0): 1e-3,
        ("probe", 1): 1e-3,
    }
    assert best["full", 0].done  # it is the search's own run
    assert best["full", 0].grids == ("search", "best")
    assert not best["full", 1].done


def test_the_test_split_has_no_say(write_sweep):
    sweep = load_sweep(write_sweep("search: {method: full, lr: [1e-4, 1e-3]}\nb: {method: full, lr: best of search}"))
    for job, val, test in zip(plan(sweep), (0.9, 0.1), (0.1, 0.9), strict=False):
        pretend(job.run, job.config, val, test_accuracy=test)
    assert plan(sweep)[0].grids == ("search", "b")


def test_no_lr_is_best_before_the_search_has_finished(write_sweep):
    sweep = load_sweep(write_sweep(SEARCH))
    job = plan(sweep)[0]
    pretend(job.run, job.config, 1.0)
    assert sum(job.run is None for job in plan(sweep)) == 4


def test_ties_go_to_the_smaller_lr_and_seeds_count_alike(write_sweep):
    assert best_lr({1e-3: 0.5, 1e-4: 0.5, 1e-2: 0.4}) == 1e-4
    grids = "search: {method: full, lr: [1e-4, 1e-3], seed: [0, 1]}\nb: {method: full, lr: best of search, seed: 2}"
    sweep = load_sweep(write_sweep(grids))
    accuracy = {(1e-4, 0): 0.9, (1e-4, 1): 0.1, (1e-3, 0): 0.6, (1e-3, 1): 0.6}
    for job in plan(sweep)[:4]:
        pretend(job.run, job.config, accuracy[job.config.lr, job.config.seed])
    assert plan(sweep)[-1].config.lr == 1e-3


def test_a_learning_rate_that_diverges_is_the_worst_and_is_not_tried_again(write_sweep, monkeypatch, capsys):
    sweep = load_sweep(write_sweep("search: {method: full, lr: [1e-4, 1.0]}\nbest: {method: full, lr: best of search}"))
    fine, wild, _ = plan(sweep)
    pretend(fine.run, fine.config, 0.1)

    def diverge(config, root):
        raise FloatingPointError("the loss is nan in epoch 1: try a lower lr than 1")

    for name, instead in (("run_training", diverge), ("progress_line", lambda *_: ""), ("die_with", lambda _: None)):
        monkeypatch.setattr(sweep_job, name, instead)
    wild.run.mkdir()
    given = {"config": wild.config.to_dict(), "run": str(wild.run), "agenda": "", "parent": 0}
    assert sweep_job.main(["train", json.dumps(given)]) == 1
    assert "error: the loss is nan in epoch 1: try a lower lr than 1" in capsys.readouterr().err
    jobs = plan(sweep)
    assert [job.config.lr for job in jobs] == [1e-4, 1.0]  # the best is the run that is there
    assert jobs[0].grids == ("search", "best")
    assert [(job.done, job.diverged) for job in jobs] == [(True, False), (False, True)]
    assert sweep_command.what_is_left(sweep, jobs) == (
        f"mini: every run is done; diverged, and left out from now on: {wild.run.name}"
    )
    assert re.search(r"in all +0 to do +1 done", summary(sweep, jobs))
    shutil.copytree(wild.run, fine.run, dirs_exist_ok=True)
    (fine.run / "metrics.json").unlink()
    with pytest.raises(ConfigError, match=r"every learning rate tried for full-\w+ diverged \(0.0001, 1\): add lower"):
        plan(sweep)


# --- time ---


def test_hours_come_from_finished_runs_or_from_the_table(write_sweep):
    sweep = load_sweep(write_sweep("a: {method: [full, probe], epochs: 2}"))
    jobs = plan(sweep)
    assert measured_rates(sweep.root) == RATES
    assert set(RATES) == set(METHODS) - {"zero-shot"}
    pretend(jobs[0].run, jobs[0].config, 0.5)
    assert measured_rates(sweep.root) == RATES | {"full": 50.0}
    images, others = effort(jobs[0].config)
    assert images == 2 * 10
    assert expected_seconds("full", (images, others), {"full": 5.0}) == pytest.approx(others + 4.0)


def test_a_job_says_which_of_how_many_it_is(write_sweep):
    sweep = load_sweep(write_sweep("a: {method: full, seed: [0, 1, 2]}"))
    jobs = plan(sweep)
    pretend(jobs[0].run, jobs[0].config, 0.5)
    write_agenda(sweep, jobs, done_before=1)
    assert progress_line(agenda_file(sweep), jobs[1].run).startswith("job 1 of 2, about 0:00 left: full-r0-s1-")
    pretend(jobs[1].run, jobs[1].config, 0.5)
    assert progress_line(agenda_file(sweep), jobs[2].run).startswith("job 2 of 2, about 0:00 left: full-r0-s2-")


def test_a_dry_run_trains_nothing(write_sweep, capsys, monkeypatch):
    path = write_sweep(SEARCH)
    monkeypatch.setattr(sweep_command, "run_snakemake", lambda *_: pytest.fail("Snakemake was started"))
    assert sweep_command.main([str(path), "--dry-run"]) == 0
    printed = capsys.readouterr().out
    sweep = load_sweep(path)
    assert not sweep.root.exists()
    assert re.search(r"in all +8 to do +0 done +0\.\d\d h", printed)
    assert printed.count("to do, after its search") == 4
    assert plan(sweep)[0].run.name in printed


def test_the_table_shows_what_varies_and_what_is_done(write_sweep):
    sweep = load_sweep(write_sweep("a: {method: full, seed: [0, 1]}\nb: {method: full, seed: 0}"))
    pretend(plan(sweep)[0].run, plan(sweep)[0].config, 0.5)
    table = job_table(sweep, plan(sweep))
    assert table.splitlines()[0].split() == ["grid", "method", "lr", "seed", "state", "minutes", "run"]
    assert "done, as in a" in table
    assert re.search(r"in all +1 to do +1 done", summary(sweep, plan(sweep)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-p", "lr"], "-p lr: give a name and a value"),
        (["-p", "seed=1", "-p", "seed", "2"], "parameter 'seed' is given twice"),
        (["-p", "seed", "one"], "seed must be of type int"),
        (["-p", "sede", "1"], "unknown parameter 'sede'"),
        (["--cores", "0"], "--cores = 0 is out of range"),
        (["--keep"], "sweep 'mini' has no finished run in"),
    ],
)
def test_the_command_is_as_strict_as_run(write_sweep, arguments, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        sweep_command.main([str(write_sweep("a: {method: full}")), *arguments])


def test_two_sweeps_do_not_work_in_one_folder(write_sweep):
    path = write_sweep("a: {method: full}")
    root = load_sweep(path).root
    with hold_folder(root), pytest.raises(ConfigError, match="another sweep is at work in"):
        sweep_command.main([str(path)])
    hold_folder(root).release()  # given back


# --- what came of it ---


def test_collect_is_tidy_and_keep_is_short(write_sweep, tmp_path):
    sweep = load_sweep(write_sweep("a: {method: [full, lora]}\nb: {method: lora, rank: [2, 12]}"))
    assert collect(sweep).empty
    for number, job in enumerate(plan(sweep)[:2]):
        pretend(job.run, job.config, 0.5 + number / 10, test_accuracy=0.4)
    table = collect(sweep)
    assert list(table[["grid", "method"]].itertuples(index=False, name=None)) == [
        ("a", "full"),
        ("a", "lora"),
        ("b", "lora"),
    ]
    assert list(table["val_accuracy"]) == [0.5, 0.6, 0.6]
    assert list(table["rank"][1:]) == [12, 12]
    path = keep(sweep, tmp_path)
    assert path.name == "sweep_mini.csv"
    assert path.read_text().splitlines()[0].startswith("grid,method,lr,rank,targets,blocks,label_fraction,epochs")
    assert sweeps.SWEEPS_DIR == PROJECT_ROOT / "sweeps"
    kept = kept_runs("sketchwoof", tmp_path)
    assert kept["test_accuracy"].eq(0.4).all()
    assert (kept["low"] < 0.75).all()  # three of four are right
    assert (kept["high"] > 0.75).all()
    assert kept_runs("imagewoof", tmp_path).empty


def test_what_was_kept_stays_when_its_run_is_gone_and_gives_way_to_a_new_one(write_sweep, tmp_path):
    path = write_sweep("a: {method: [full, lora]}\nb: {method: bitfit}")
    sweep = load_sweep(path)
    full, lora, bitfit = plan(sweep)
    for job in (full, lora, bitfit):
        pretend(job.run, job.config, 0.5, test_accuracy=0.4)
    keep(sweep, tmp_path)
    shutil.rmtree(sweep.root)
    pretend(lora.run, lora.config, 0.6, test_accuracy=0.7)
    keep(load_sweep(path), tmp_path)
    kept = kept_runs("sketchwoof", tmp_path).set_index("method")["test_accuracy"]
    assert kept.to_dict() == {"full": 0.4, "lora": 0.7, "bitfit": 0.4}
    keep(load_sweep(write_sweep("a: {method: [full, lora]}")), tmp_path)
    assert set(kept_runs("sketchwoof", tmp_path)["method"]) == {"full", "lora"}  # grid b is gone


def test_the_table_in_words_has_a_line_for_runs_that_differ_in_their_seed_alone(write_sweep, tmp_path):
    sweep = load_sweep(
        write_sweep(
            "seeds-best-lr: {method: [lora, full], seed: [0, 1]}\nepochs: {method: full, epochs: [2, 1]}\n"
            "targets: {method: lora, targets: [[attn.qkv], [attn.qkv, attn.proj]]}"
        )
    )
    for job in plan(sweep):
        pretend(job.run, job.config, 0.5, test_accuracy=0.75, date="2026-01-02", machine="a machine")
    keep(sweep, tmp_path)
    lines = kept_markdown(kept_runs("sketchwoof", tmp_path)).splitlines()
    assert lines[2].startswith("| seeds, the best rate | full fine-tuning | 0.0004 |  | 2 | 75.0 % (")
    assert lines[3].startswith("| seeds, the best rate | LoRA")
    assert [line.split(" | ")[3] for line in lines[4:8]] == [
        "1 epoch",
        "2 epochs",
        "`attn.qkv` and `attn.proj`",
        "`attn.qkv`",
    ]
    assert lines[-1].startswith("6 runs; the interval counts seeds and images, with one seed the images alone.")
    assert lines[-1].endswith("Measured 2026-01-02, a machine.")


def test_an_axis_of_any_setting_is_no_seed(write_sweep, tmp_path):
    sweep = load_sweep(write_sweep("targets: {method: lora, alpha: [1, 12], dropout: [0.0, 0.1], seed: [0, 1]}"))
    for job in plan(sweep):
        pretend(job.run, job.config, 0.5, test_accuracy=0.75, date="2026-01-02", machine="a machine")
    keep(sweep, tmp_path)
    kept = kept_runs("sketchwoof", tmp_path)
    assert len(kept) == 8
    lines = kept_markdown(kept).splitlines()[2:6]
    assert [line.split(" | ")[3] for line in lines] == [
        "`attn.qkv` and `attn.proj`, alpha 1",
        "`attn.qkv` and `attn.proj`, alpha 1, dropout 0.1",
        "`attn.qkv` and `attn.proj`",
        "`attn.qkv` and `attn.proj`, dropout 0.1",
    ]
    assert [line.split(" | ")[4] for line in lines] == ["2"] * 4


def test_the_longer_sweep_of_the_same_runs_counts(tmp_path):
    row = dict.fromkeys(sweep_results.KEPT, 0) | {"dataset": "sketchwoof", "grid": "a", "other": ""}
    for name, accuracy in (("rigor", 0.8), ("rigor-small", 0.7)):
        pd.DataFrame([row | {"test_accuracy": accuracy}]).to_csv(tmp_path / f"sweep_{name}.csv", index=False)
    assert list(kept_runs("sketchwoof", tmp_path)["test_accuracy"]) == [0.8]
    assert kept_runs("sketchwoof", tmp_path / "nothing").empty


def test_val_accuracy_is_that_of_the_selected_epoch(tiny_run, tmp_path):
    run = tmp_path / "run"
    pretend(run, tiny_run, 0.75)
    assert val_accuracy(run) == 0.75
    assert planned_folder(tiny_run, tmp_path).parent == tmp_path


# --- Snakemake at work ---


@pytest.fixture
def start(tmp_path):
    """Start `python -m woofkit sweep FILE` with a cache of the test's own and ten validation drawings."""
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\nif any('sweep_' in word for word in sys.orig_argv):\n"
        "    from pathlib import Path\n    from woofkit import cache, data\n"
        f"    data.CACHE = Path({str(tmp_path / 'cache')!r})\n    data.SKETCH_SIZES['val'] = 10\n"
    )
    code = "import sys; from woofkit.sweep_command import main; sys.exit(main(sys.argv[1:]))"
    places = [str(tmp_path), str(PROJECT_ROOT)]
    begun = []

    def start(sweep: Path, log: str) -> subprocess.Popen:
        with (tmp_path / log).open("w") as file:
            process = subprocess.Popen(
                [sys.executable, "-c", code, str(sweep), "--cores", "1"],
                stdout=file,
                stderr=subprocess.STDOUT,
                env=os.environ | {"PYTHONPATH": os.pathsep.join(places)},
            )
        begun.append(process)
        return process

    yield start
    for process in begun:
        process.kill()
        process.wait()


def stamps(root: Path) -> dict:
    return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in root.glob("*/metrics.json")}


def test_snakemake_does_the_jobs_in_order_and_none_twice(write_sweep, start, tmp_path):
    grids = "a: {method: probe, lr: 4e-4, seed: [5, 6]}\nsearch: {method: probe, lr: 1e-3}\n"
    path = write_sweep(grids + "b: {method: probe, lr: best of search, seed: 1}")
    assert start(path, "first.log").wait(120) == 0, (tmp_path / "first.log").read_text()
    sweep = load_sweep(path)
    jobs = plan(sweep)
    assert len(jobs) == 4
    assert all(job.done for job in jobs)
    [chosen] = (sweep.root / "best_lr").glob("probe-*.json")
    assert json.loads(chosen.read_text())["lr"] == jobs[3].config.lr == 1e-3
    log = (tmp_path / "first.log").read_text()
    assert [f"job {k} of 4" in log for k in (1, 2, 3, 4)] == [True] * 4
    assert re.findall(r"job 1 of 4, .*: (\S+)", log) == [jobs[2].run.name]  # what others wait for goes first

    before = stamps(sweep.root)
    assert start(path, "second.log").wait(120) == 0
    assert stamps(sweep.root) == before
    log = (tmp_path / "second.log").read_text()
    assert "job 1" not in log
    assert "every run is done" in log


def test_a_killed_sweep_goes_on_where_it_was(write_sweep, start, tmp_path):
    path = write_sweep("a: {method: full, epochs: 25}")
    sweep = load_sweep(path)
    [job] = plan(sweep)
    killed = start(path, "first.log")
    epoch = wait_for(r"epoch ([3-9])/25", tmp_path / "first.log")
    [child] = children(killed.pid)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    if sys.platform == "linux":
        time.sleep(0.5)
        assert not alive(child)  # it does not train on, unseen
    assert not is_finished(job.run)
    assert (job.run / "checkpoint.pt").is_file()

    again = start(path, "second.log")
    first = wait_for(r"epoch (\d+)/25", tmp_path / "second.log")
    assert int(first) > int(epoch)
    assert again.wait(120) == 0, (tmp_path / "second.log").read_text()
    assert len((job.run / "history.csv").read_text().splitlines()) == 26
    assert is_finished(job.run)


def wait_for(pattern: str, log: Path, seconds: float = 60) -> str:
    """What the pattern's group says where it first stands in the log."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := re.search(pattern, log.read_text()):
            return found[1]
        time.sleep(0.02)
    pytest.fail(f"{pattern} never came:\n{log.read_text()}")


def children(parent: int) -> list[int]:
    import psutil

    return [process.pid for process in psutil.Process(parent).children(recursive=True)]


def alive(process: int) -> bool:
    import psutil

    return psutil.pid_exists(process) and psutil.Process(process).status() != psutil.STATUS_ZOMBIE
