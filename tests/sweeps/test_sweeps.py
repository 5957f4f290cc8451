"""Sweeps: what a file means, what a job does, and Snakemake at work on them."""

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
import psutil
import pytest

import woofkit.train
from woofkit.__main__ import main
from woofkit.config import METHODS, PROJECT_ROOT, SKETCH_SIZES, ConfigError, LoRAConfig
from woofkit.files import write_json
from woofkit.progress import Monitor
from woofkit.results import is_finished, write_history, write_predictions
from woofkit.sweeps import results as sweep_results
from woofkit.sweeps import run as sweep_run
from woofkit.sweeps.grid import Sweep, available_sweeps, load_sweep
from woofkit.sweeps.results import collect, data_words, keep, kept_runs, outcome_path, read_outcome, tuned_runs
from woofkit.sweeps.run import (
    EVALUATION_RATE,
    RATES,
    expected_seconds,
    job_table,
    measured_rates,
    next_rate,
    summary,
    val_accuracy,
    write_agenda,
)
from woofkit.tables.sweeps import kept_markdown, rates_markdown

SEARCH = """
    search: {method: [full, probe], lr: [1e-4, 1e-3]}
    best: {method: [full, probe], lr: best of search, seed: [0, 1]}
"""


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


def pretend(sweep: Sweep, number: int, accuracy: float = 0.5, **metrics) -> None:
    """Leave what the job of that number leaves, and a finished run that nobody trained."""
    job = sweep.jobs[number]
    run = sweep.root / f"run-{job.name}"
    run.mkdir(parents=True, exist_ok=True)
    write_json(run / "config.json", {"config": job.config.to_dict()})
    write_history(run, [{"epoch": 1, "val_accuracy": 0.0}, {"epoch": 2, "val_accuracy": accuracy}])
    answers = np.eye(2)[[0, 0, 1, 0]]  # of four images, the last is taken for the other breed
    write_predictions(run, tuple("abcd"), np.array([0, 0, 1, 1]), answers)
    write_json(run / "metrics.json", {"selected_epoch": 2, "images_per_second": 50.0, **metrics})
    leave(sweep, number, {"run": run.name, "val_accuracy": val_accuracy(run)})


def leave(sweep: Sweep, number: int, outcome: dict) -> None:
    path = outcome_path(sweep.root, sweep.jobs[number].name)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, outcome)


def do(sweep: Sweep, task: str, name: str) -> int:
    """Do one job in this process, as Snakemake starts it in another."""
    (sweep.root / "jobs").mkdir(parents=True, exist_ok=True)
    return sweep_run.main([task, str(write_agenda(sweep)), name])


def settings(sweep: Sweep, *names: str) -> list[tuple]:
    return [tuple(getattr(job.config, name) for name in names) for job in sweep.jobs]


# --- what a sweep file means ---


def test_a_grid_is_a_product_over_the_profile(write_sweep):
    sweep = load_sweep(write_sweep("a: {method: [full, probe], lr: [1e-4, 1e-3], seed: 3}"))
    expected = [("full", 1e-4, 3), ("full", 1e-3, 3), ("probe", 1e-4, 3), ("probe", 1e-3, 3)]
    assert settings(sweep, "method", "lr", "seed") == expected
    assert set(settings(sweep, "num_train", "model_name")) == {(10, "test_vit")}
    assert (sweep.name, sweep.root, sweep.grids) == ("mini", Path(sweep.study.runs_dir) / "tiny", ("a",))


def test_a_grid_may_be_several_products(write_sweep):
    sweep = load_sweep(write_sweep("a: [{method: full, lr: 1e-5}, {method: probe, lr: 1e-2}]"))
    assert settings(sweep, "method", "lr") == [("full", 1e-5), ("probe", 1e-2)]


def test_loras_settings_start_from_the_papers_adapter(write_sweep):
    grids = """
    default: {method: lora}
    ranks: {method: lora, rank: [1, 64]}
    one: {method: lora, targets: [attn.qkv, attn.proj]}
    two: {method: lora, targets: [[attn.qkv], ["attn.qkv[qv]", attn.proj]], blocks: [null, [0, 1]]}
    """
    sweep = load_sweep(write_sweep(grids))
    adapters = {grid: [job.config.lora for job in sweep.jobs_of(grid)] for grid in sweep.grids}
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
        ("a: {method: lora, targets: attn.q}", "grid 'a': targets must be a sequence"),
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


def test_what_a_file_may_not_say(tmp_path, profile):
    for name in ("rigour", tmp_path / "none.yaml"):
        with pytest.raises(ConfigError, match=f"unknown sweep '{name}': allowed are .*rigor, rigor-small"):
            load_sweep(name)
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


def test_parameters_override_the_profile_and_nothing_else(write_sweep):
    path = write_sweep("a: {method: full, lr: [1e-4, 1e-3]}\nb: {method: probe, lr: 1e-2, epochs: 2}")
    assert settings(load_sweep(path, {"epochs": 3}), "epochs") == [(3,), (3,), (2,)]
    with pytest.raises(ConfigError, match="parameter 'lr' would change nothing: every grid of mini.yaml sets it"):
        load_sweep(path, {"lr": 1.0})
    with pytest.raises(ConfigError, match="unknown parameter 'learning_rate'"):
        load_sweep(path, {"learning_rate": 1.0})


@pytest.mark.parametrize("name", available_sweeps())
def test_the_projects_sweeps_are_in_order(name, tmp_path):
    weights = tmp_path / "weights.safetensors"
    weights.touch()
    needed = {"imagewoof": {"weights": str(weights)}, "own": {"data_dir": str(tmp_path)}}
    sweep = load_sweep(name, needed.get(name, {}))
    assert {"rigor", "rigor-small", "imagewoof"} <= set(available_sweeps())
    assert any(job.search for job in sweep.jobs)
    if name != "own":
        assert any(job.config.lr == 4e-4 and not job.search for job in sweep.jobs)  # beside the paper's


def test_rigor_holds_what_was_promised():
    sweep = load_sweep("rigor")
    runs = {grid: [job.config for job in sweep.jobs_of(grid)] for grid in sweep.grids}
    for grid in ("seeds-paper-lr", "seeds-best-lr"):
        pairs = {(config.method, config.seed) for config in runs[grid]}
        assert pairs == {(m, s) for m in ("full", "lora", "probe", "bitfit") for s in range(5)}
    assert {config.lora.rank for config in runs["ranks"]} == {1, 2, 4, 8, 12, 16, 32, 64}
    assert {config.label_fraction for config in runs["labels"]} == {0.02, 0.05, 0.1, 0.25, 0.5, 1}
    assert {config.epochs for config in runs["epochs"]} == {1, 2, 5, 10, 20}
    assert len({config.lora.targets for config in runs["targets"]}) == 5
    assert {(c.num_train, c.num_test, c.dataset) for c in runs["labels"]} == {(600, 1000, "sketchwoof")}


def test_a_sweep_is_read_from_its_settings_alone(write_sweep):
    path = write_sweep(SEARCH)
    assert load_sweep(path) == load_sweep(path)
    assert not load_sweep(path).root.exists()


def test_results_are_read_without_torch_and_by_few_modules():
    code = "import sys, woofkit.sweeps.results; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "scipy", "snakemake"} & set(loaded)
    rooms = {"woofkit", "woofkit.stats", "woofkit.sweeps"}
    assert len({name for name in loaded if name.startswith("woofkit")} - rooms) <= 9


def test_equal_runs_are_one_job(write_sweep):
    sweep = load_sweep(write_sweep("a: {method: full, seed: [0, 1]}\nb: {method: [probe, full], lr: 4e-4}"))
    assert settings(sweep, "method", "seed") == [("full", 0), ("full", 1), ("probe", 0)]
    assert [job.grids for job in sweep.jobs] == [("a", "b"), ("a",), ("b",)]


def test_a_changed_lr_changes_only_its_jobs_and_the_search_that_tries_it(write_sweep):
    def names(lr):
        grids = f"a: {{method: full, lr: [1e-4, {lr}], seed: [0, 1]}}\nb: {{method: probe}}"
        sweep = load_sweep(write_sweep(f"{grids}\nc: {{method: full, lr: best of a}}"))
        return {job.name for job in sweep.jobs}

    before, after = names("1e-3"), names("2e-3")
    assert len(before) == len(after) == 6
    assert len(before & after) == 3


# --- a job ---


def test_a_job_leaves_one_small_file_and_a_lost_one_costs_only_a_look(write_sweep, tiny_run):
    sweep = load_sweep(write_sweep("a: {method: full}"))
    [job] = sweep.jobs
    assert do(sweep, "train", job.name) == 0
    outcome = read_outcome(sweep.root, job.name)
    run = sweep.root / outcome["run"]
    assert outcome["val_accuracy"] == val_accuracy(run)
    assert woofkit.train.run_training(job.config, sweep.root, Monitor()) == run
    before = (run / "metrics.json").stat()
    outcome_path(sweep.root, job.name).unlink()
    assert do(sweep, "train", job.name) == 0
    assert read_outcome(sweep.root, job.name) == outcome
    assert (run / "metrics.json").stat() == before
    shutil.rmtree(run)
    assert read_outcome(sweep.root, job.name) == {}  # a run that is gone is not done


def test_the_best_lr_has_the_best_validation_accuracy_and_the_test_has_no_say(write_sweep, monkeypatch, capsys):
    sweep = load_sweep(write_sweep(SEARCH.replace("[1e-4, 1e-3]", "[1e-5, 1e-4, 1e-3, 1e-2]")))
    for number, accuracy in enumerate((0.1, 0.7, 0.6, 0.5, 0.1, 0.1, 0.2, 0.1)):
        pretend(sweep, number, accuracy, test_accuracy=1 - accuracy)
    found = ("0.0001, validation accuracy 70.0%", "0.001, validation accuracy 20.0%")
    for search, lr, words in zip(sweep.searches, (1e-4, 1e-3), found, strict=True):
        assert do(sweep, "choose", search) == 0
        assert f"best learning rate of {search}: {words}\n" in capsys.readouterr().out
        chosen = json.loads((sweep.root / "best_lr" / f"{search}.json").read_text())
        assert (chosen["lr"], chosen["at_an_edge"], chosen["widened"]) == (lr, False, [])
    asked = []
    run = sweep.root / f"run-{sweep.jobs[0].name}"
    monkeypatch.setattr(woofkit.train, "run_training", lambda config, root: asked.append(config) or run)
    for job in sweep.jobs_of("best"):
        assert do(sweep, "train", job.name) == 0
    assert [(config.method, config.seed, config.lr) for config in asked] == [
        ("full", 0, 1e-4),
        ("full", 1, 1e-4),
        ("probe", 0, 1e-3),
        ("probe", 1, 1e-3),
    ]


@pytest.fixture
def planted(monkeypatch):
    """Trainings take no time: their validation accuracy falls with the distance of the rate from a planted best one."""
    trained = []

    def plant(best: float) -> list[tuple[float, int]]:
        def train(config, root):
            trained.append((config.lr, config.seed))
            run = root / f"planted-{config.lr:g}-{config.seed}"
            run.mkdir(parents=True)
            write_json(run / "config.json", {"config": config.to_dict()})
            write_history(run, [{"epoch": 1, "val_accuracy": 0.9 - 0.1 * abs(np.log10(config.lr / best))}])
            write_predictions(run, tuple("ab"), np.array([0, 1]), np.eye(2))
            write_json(run / "metrics.json", {"selected_epoch": 1, "test_accuracy": 1.0})
            return run

        monkeypatch.setattr(woofkit.train, "run_training", train)
        return trained

    return plant


def search_at(write_sweep, rates="[1e-4, 3e-4, 1e-3]"):
    """A sweep of one search over two seeds, its first runs done."""
    grids = f"search: {{method: full, lr: {rates}, seed: [0, 1]}}\nb: {{method: full, lr: best of search}}"
    sweep = load_sweep(write_sweep(grids))
    for job in sweep.jobs_of("search"):
        assert do(sweep, "train", job.name) == 0
    return sweep, *sweep.searches


@pytest.mark.parametrize(
    ("planted_best", "further", "lr", "at_an_edge"),
    [
        (3e-4, [], 3e-4, False),
        (4e-3, [3e-3, 1e-2], 3e-3, False),
        (1.0, [3e-3, 1e-2, 3e-2], 3e-2, True),  # three steps are all that is gone
        (1e-5, [3e-5, 1e-5, 3e-6], 1e-5, False),
    ],
)
def test_a_best_rate_at_the_edge_widens_its_grid_for_every_seed(
    write_sweep, planted, planted_best, further, lr, at_an_edge, capsys
):
    trained = planted(planted_best)
    sweep, search = search_at(write_sweep)
    del trained[:]
    assert do(sweep, "choose", search) == 0
    assert trained == [(rate, seed) for rate in further for seed in (0, 1)]
    chosen = json.loads((sweep.root / "best_lr" / f"{search}.json").read_text())
    assert (chosen["lr"], chosen["at_an_edge"], len(chosen["widened"])) == (lr, at_an_edge, 2 * len(further))
    assert [float(rate) for rate in chosen["val_accuracy"]] == sorted([1e-4, 3e-4, 1e-3, *further])
    assert ("a wider one may hold a better" in capsys.readouterr().out) == at_an_edge
    table = collect(sweep)
    assert sorted(set(table[table["grid"] == "search"]["lr"])) == sorted([1e-4, 3e-4, 1e-3, *further])
    del trained[:]
    assert do(sweep, "choose", search) == 0  # an interrupted search finds what it has trained
    assert trained == []


def test_a_widened_rate_that_the_file_names_later_is_found_done(write_sweep, planted):
    planted(4e-3)
    sweep, search = search_at(write_sweep)
    assert do(sweep, "choose", search) == 0
    wider = load_sweep(write_sweep("search: {method: full, lr: [1e-3, 3e-3, 1e-2], seed: [0, 1]}"))
    assert set(job_table(wider)["state"]) == {"done"}


@pytest.mark.parametrize(
    ("rates", "best", "wider"),
    [
        ([1e-4, 3e-4, 1e-3], 3e-4, None),
        ([1e-4], 1e-4, None),  # nothing was searched
        ([1e-4, 1e-3], 1e-3, 1e-2),
        ([1e-4, 2e-4], 2e-4, 4e-4),  # a finer grid keeps its step
        ([1e-4, 2e-4], 1e-4, 5e-5),
        ([3.0, 10.0], 10.0, None),  # higher rates are refused
        ([1.0, 5.0], 5.0, 10.0),
    ],
)
def test_the_next_rate_is_a_step_further(rates, best, wider):
    assert next_rate(rates, best) == (wider and pytest.approx(wider))


@pytest.mark.parametrize(
    ("accuracies", "best"),
    [
        ({1e-4: [0.2], 3e-4: [0.5], 1e-3: [0.5], 1e-2: [0.4]}, 3e-4),  # among equals the smaller
        ({1e-5: [0.2, 0.2], 1e-4: [0.9, 0.1], 1e-3: [0.6, 0.6], 1e-2: [0.1, 0.1]}, 1e-3),  # seeds count alike
        ({1e-5: [0.0, 0.0], 1e-4: [0.1, 0.1], 1e-3: [0.9, None]}, 1e-4),  # one that diverged is the worst
    ],
)
def test_a_learning_rate_counts_by_its_mean_over_seeds(write_sweep, accuracies, best):
    seeds = list(range(len(accuracies[1e-3])))
    grids = f"search: {{method: full, lr: {list(accuracies)}, seed: {seeds}}}\nb: {{method: full, lr: best of search}}"
    sweep = load_sweep(write_sweep(grids))
    for number, accuracy in enumerate(sum(accuracies.values(), [])):
        if accuracy is None:
            leave(sweep, number, {"diverged": "the loss is nan"})
        else:
            pretend(sweep, number, accuracy)
    [search] = sweep.searches
    assert do(sweep, "choose", search) == 0
    assert json.loads((sweep.root / "best_lr" / f"{search}.json").read_text())["lr"] == best


def test_a_run_that_diverges_is_done_with_and_a_search_of_nothing_else_fails(write_sweep, monkeypatch, capsys):
    sweep = load_sweep(write_sweep("a: {method: full, lr: [1e-4, 1.0]}\nbest: {method: full, lr: best of a}"))

    def diverge(config, root):
        raise FloatingPointError("the loss is nan in epoch 1: try a lower lr")

    monkeypatch.setattr(woofkit.train, "run_training", diverge)
    for job in sweep.jobs_of("a"):
        assert do(sweep, "train", job.name) == 0
        assert read_outcome(sweep.root, job.name) == {"diverged": "the loss is nan in epoch 1: try a lower lr"}
    assert list(job_table(sweep)["state"]) == ["diverged", "diverged", "to do"]
    [search] = sweep.searches
    assert do(sweep, "choose", search) == 1
    message = f"error: every learning rate tried for {search} diverged (0.0001, 1): add lower ones"
    assert message in capsys.readouterr().err


# --- what a sweep comes to ---


def test_hours_come_from_finished_runs_or_from_the_table(write_sweep):
    sweep = load_sweep(write_sweep("a: {method: [full, probe], epochs: 2}"))
    assert measured_rates(sweep.root) == RATES
    assert set(RATES) == set(METHODS) - {"zero-shot"}
    pretend(sweep, 0)
    assert measured_rates(sweep.root) == RATES | {"full": 50.0}
    config = sweep.jobs[0].config
    slow, fast = (expected_seconds(config, {"full": rate}) for rate in (5.0, 10.0))
    assert slow - fast == pytest.approx(2 * 10 / 10)
    fewer = replace(config, num_train=20, label_fraction=0.5)
    assert expected_seconds(fewer, {"full": 5.0}) == slow
    long, rare = replace(config, epochs=44), replace(config, epochs=44, validate_every=11)
    saved = expected_seconds(long, {"full": 5.0}) - expected_seconds(rare, {"full": 5.0})
    assert saved == pytest.approx(40 * SKETCH_SIZES["val"] / EVALUATION_RATE)
    photographs = replace(config, dataset="imagewoof", num_train=0, num_test=0)
    assert expected_seconds(photographs, {"full": 70.0}) > 2 * (8687 / 70 + 3767 / 200)
    assert expected_seconds(replace(photographs, method="zero-shot"), {}) < 10


def test_a_dry_run_shows_what_varies_and_what_is_done_and_trains_nothing(write_sweep, capsys, monkeypatch):
    path = write_sweep("a: {method: full, seed: [0, 1]}\nb: {method: full, lr: [best of a, 4e-4], seed: 0}")
    sweep = load_sweep(path)
    monkeypatch.setattr(sweep_run, "run_jobs", lambda *_: pytest.fail("Snakemake was started"))
    assert main(["sweep", str(path), "--dry-run"]) == 0
    assert not sweep.root.exists()
    pretend(sweep, 0)
    assert main(["sweep", str(path), "--dry-run"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines.count(["grid", "method", "lr", "seed", "state", "minutes", "run", "job"]) == 2
    name = sweep.jobs[0].name
    assert ["a", "full", "0.0004", "0", "done", "0.0", f"run-{name}", name] in lines
    assert ["b", "full", "best", "0", "to", "do", "0.1", sweep.jobs[2].name] in lines
    assert summary(job_table(sweep)).splitlines()[-1].split() == ["in", "all", "2", "1", "0", "0.00"]  # not 3 and 2


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
def test_the_command_is_as_strict_as_run(write_sweep, arguments, message, capsys):
    assert main(["sweep", str(write_sweep("a: {method: full}")), *arguments]) == 2
    assert message in capsys.readouterr().err


# --- what came of it ---


def test_collect_is_tidy_and_keep_is_short(write_sweep, tmp_path):
    sweep = load_sweep(write_sweep("a: {method: [full, lora]}\nb: {method: lora, rank: [2, 12]}"))
    assert collect(sweep).empty
    pretend(sweep, 0, 0.5, test_accuracy=0.4)
    pretend(sweep, 1, 0.6, test_accuracy=0.4)
    leave(sweep, 2, {"diverged": "the loss is nan"})
    table = collect(sweep)
    assert list(zip(table["grid"], table["method"], strict=True)) == [("a", "full"), ("a", "lora"), ("b", "lora")]
    assert list(table["val_accuracy"]) == [0.5, 0.6, 0.6]
    assert list(table["rank"][1:]) == [12, 12]
    path = keep(sweep, tmp_path)
    assert path.name == "sweep_mini.csv"
    assert path.read_text().splitlines()[0].startswith("grid,method,lr,rank,targets,blocks,label_fraction,epochs")
    kept = kept_runs("sketchwoof", tmp_path)
    assert kept["test_accuracy"].eq(0.4).all()
    assert (kept["low"] < 0.75).all()  # three of four are right
    assert (kept["high"] > 0.75).all()
    assert kept_runs("imagewoof", tmp_path).empty


def test_what_was_kept_stays_when_its_run_is_gone_and_gives_way_to_a_new_one(write_sweep, tmp_path):
    path = write_sweep("a: {method: [full, lora]}\nb: {method: bitfit}")
    sweep = load_sweep(path)
    for number in range(3):
        pretend(sweep, number, test_accuracy=0.4)
    keep(sweep, tmp_path)
    shutil.rmtree(sweep.root)
    pretend(sweep, 1, test_accuracy=0.7)
    keep(load_sweep(path), tmp_path)
    kept = kept_runs("sketchwoof", tmp_path).set_index("method")["test_accuracy"]
    assert kept.to_dict() == {"full": 0.4, "lora": 0.7, "bitfit": 0.4}
    keep(load_sweep(write_sweep("a: {method: [full, lora]}")), tmp_path)
    assert set(kept_runs("sketchwoof", tmp_path)["method"]) == {"full", "lora"}  # grid b is gone


def kept_lines(sweep: Sweep, folder: Path) -> list[str]:
    """The table in markdown of a sweep whose runs have all finished."""
    for number in range(len(sweep.jobs)):
        pretend(sweep, number, test_accuracy=0.75, num_train_images=600, date="2026-01-02", machine="a machine")
    keep(sweep, folder)
    title, _, *lines = kept_markdown(kept_runs("sketchwoof", folder)).splitlines()
    assert title == "Sweep `mini`, 600 drawings at 224 pixels:"
    return lines


def test_the_table_in_words_has_a_line_for_runs_that_differ_in_their_seed_alone(write_sweep, tmp_path):
    grids = """
    seeds-best-lr: {method: [lora, full], seed: [0, 1]}
    epochs: {method: full, epochs: [2, 1]}
    targets: {method: lora, targets: [[attn.qkv], [attn.qkv, attn.proj]]}
    """
    lines = kept_lines(load_sweep(write_sweep(grids)), tmp_path)
    assert lines[2].startswith("| seeds, the best rate | full fine-tuning | 0.0004 |  | 2 | 75.0% (")
    assert lines[3].startswith("| seeds, the best rate | LoRA")
    words = ["1 epoch", "2 epochs", "`attn.qkv` and `attn.proj`", "`attn.qkv`"]
    assert [line.split(" | ")[3] for line in lines[4:8]] == words
    assert lines[-1].startswith("6 runs; the interval counts seeds and images, with one seed the images alone.")
    assert lines[-1].endswith("Measured 2026-01-02, a machine.")


def test_an_axis_of_any_setting_is_no_seed(write_sweep, tmp_path):
    grid = "targets: {method: lora, alpha: [1, 12], dropout: [0.0, 0.1], seed: [0, 1]}"
    lines = kept_lines(load_sweep(write_sweep(grid)), tmp_path)[2:6]
    words = [", alpha 1", ", alpha 1, dropout 0.1", "", ", dropout 0.1"]
    assert [line.split(" | ")[3] for line in lines] == [f"`attn.qkv` and `attn.proj`{each}" for each in words]
    assert [line.split(" | ")[4] for line in lines] == ["2"] * 4


def test_every_grid_has_its_lines_whatever_its_name_and_searches_have_a_table_of_their_own(write_sweep, tmp_path):
    grids = """
    lr-pose: {method: full, lr: [1e-4, 3e-4, 1e-3], seed: [0, 1]}
    seeds-pose: {method: full, lr: 3e-4}
    a-grid-of-yours: {method: probe}
    """
    sweep = load_sweep(write_sweep(grids))
    lines = kept_lines(sweep, tmp_path)
    assert [line.split(" | ")[0] for line in lines[2:4]] == ["| the pose in place of the breed", "| `a-grid-of-yours`"]
    assert len(lines) == 6


def test_rates_name_what_was_tried_what_was_chosen_and_whether_it_lies_at_an_edge(write_sweep, tmp_path):
    grids = "lr: {method: [full, lora], lr: [1e-4, 3e-4, 1e-3], seed: [0, 1]}"
    sweep = load_sweep(write_sweep(grids))
    accuracies = {("full", 1e-4): 0.8, ("full", 3e-4): 0.9, ("full", 1e-3): 0.9}
    accuracies |= {("lora", 1e-4): 0.6, ("lora", 3e-4): 0.7, ("lora", 1e-3): 0.8}
    for number, job in enumerate(sweep.jobs):
        if (job.config.method, job.config.lr, job.config.seed) == ("full", 1e-3, 1):
            leave(sweep, number, {"diverged": "the loss is nan"})
        else:
            pretend(sweep, number, accuracies[job.config.method, job.config.lr], num_train_images=600)
    keep(sweep, tmp_path)
    text = rates_markdown(kept_runs("sketchwoof", tmp_path, every=True))
    tried = "0.0001: 80.0%, 0.0003: 90.0%, 0.001: lacks a seed"
    assert f"| the usual setting | full fine-tuning | {tried} | 2 | 0.0003 | no |" in text
    assert "0.001: 80.0% | 2 | 0.001 | yes |" in text
    assert text.startswith("Sweep `mini`, 600 drawings at 224 pixels:")


def test_the_longer_sweep_of_the_same_runs_counts(tmp_path):
    row = dict.fromkeys(sweep_results.KEPT, 0) | {"dataset": "sketchwoof", "grid": "a", "other": ""}
    for name, accuracy in (("rigor", 0.8), ("rigor-small", 0.7)):
        pd.DataFrame([row | {"test_accuracy": accuracy}]).to_csv(tmp_path / f"sweep_{name}.csv", index=False)
    assert list(kept_runs("sketchwoof", tmp_path)["test_accuracy"]) == [0.8]
    assert kept_runs("sketchwoof", tmp_path / "nothing").empty


def test_of_two_sweeps_with_the_same_grid_the_one_over_more_images_counts(tmp_path):
    row = dict.fromkeys(sweep_results.KEPT, 0) | {"dataset": "sketchwoof", "other": ""}
    for name, images, grids in (("confirm", 2270, ("lr", "ranks")), ("rigor", 600, ("lr", "labels"))):
        rows = [row | {"grid": grid, "num_train_images": images // part} for grid in grids for part in (1, 2)]
        pd.DataFrame(rows).to_csv(tmp_path / f"sweep_{name}.csv", index=False)
    found = kept_runs("sketchwoof", tmp_path).groupby("grid")["num_train_images"].agg(set).to_dict()
    assert found == {"lr": {2270, 1135}, "ranks": {2270, 1135}, "labels": {600, 300}}
    assert len(kept_runs("sketchwoof", tmp_path, every=True)) == 8


def test_settings_that_were_searched_stand_once_each_with_their_name(write_sweep, tmp_path):
    grids = """
    lr: {method: lora, lr: [1e-4, 1e-3]}
    seeds-best-lr: {method: [full, lora], lr: 3e-4, seed: [0, 1]}
    rank-1: {method: lora, rank: 1, lr: 3e-3}
    seeds-mlp: {method: lora, rank: 7, targets: [mlp.fc1, mlp.fc2], lr: 3e-3}
    """
    sweep = load_sweep(write_sweep(grids))
    for number, job in enumerate(sweep.jobs):
        size = 100 * job.config.lora.rank if job.config.lora else 10_000
        pretend(
            sweep, number, test_accuracy=0.75 + 0.1 * job.config.seed, trainable_parameters=size, num_train_images=9
        )
    keep(sweep, tmp_path)
    table = tuned_runs("sketchwoof", tmp_path).set_index("name")
    assert set(table.index) == {"full fine-tuning", "LoRA, rank 12", "LoRA, rank 1", "LoRA, rank 7, MLPs"}
    assert table.loc["LoRA, rank 12"][["accuracy", "lr", "seeds"]].tolist() == pytest.approx([0.8, 3e-4, 2])
    assert table.loc["LoRA, rank 1", "trainable_parameters"] == 100


def plant(folder, name, methods, seeds=1, **columns):
    """Keep a sweep's rows of grid seeds-best-lr: each method with so many seeds."""
    size = {"full": 5_526_346, "lora": 177_418, "probe": 1930, "bitfit": 27_658, "zero-shot": 0}
    usual = dict.fromkeys(sweep_results.KEPT, 0.5) | {"grid": "seeds-best-lr", "dataset": "sketchwoof", "other": ""}
    usual |= {"rank": 12, "targets": "['attn.qkv', 'attn.proj']", "date": "2026-01-01", "num_train_images": 600}
    rows = [
        usual | {"method": method, "seed": seed, "trainable_parameters": size[method]} | columns
        for method in methods
        for seed in range(seeds)
    ]
    pd.DataFrame(rows).to_csv(folder / f"sweep_{name}.csv", index=False)


def test_settings_that_are_compared_come_from_one_sweep_of_most_methods_and_seeds(tmp_path):
    plant(tmp_path, "small", ("full", "lora"), seeds=3, test_accuracy=0.9, num_train_images=600)
    plant(tmp_path, "large", ("full",), 5, test_accuracy=0.95, num_train_images=2270)  # at work: one method as yet
    table = tuned_runs("sketchwoof", tmp_path)
    assert table[["accuracy", "seeds", "num_train_images"]].to_numpy().tolist() == [[0.9, 3, 600]] * 2
    plant(tmp_path, "large", ("full", "lora"), 5, test_accuracy=0.95, num_train_images=2270, trainable_parameters=9)
    table = tuned_runs("sketchwoof", tmp_path)  # at another image size a method trains another number of parameters
    assert table[["accuracy", "seeds", "num_train_images"]].to_numpy().tolist() == [[0.95, 5, 2270]] * 2
    plant(tmp_path, "small", ("full", "lora", "probe"), seeds=3, test_accuracy=0.9, num_train_images=600)
    assert set(tuned_runs("sketchwoof", tmp_path)["accuracy"]) == {0.95}  # a method less, but ten runs in place of nine
    plant(tmp_path, "large", ("full", "lora"), 5, test_accuracy=0.8, num_train_images=600, other="image_size 96")
    assert set(tuned_runs("sketchwoof", tmp_path)["accuracy"]) == {0.8}  # equally many images, more seeds: no average


def test_other_settings_of_one_method_in_a_grid_are_no_seeds(tmp_path):
    plant(tmp_path, "a", ("zero-shot", "full"), other="precision bf16")
    plant(tmp_path, "b", ("zero-shot", "full"), other="precision bf16; scheme paper")
    rows = [(tmp_path / f"sweep_{name}.csv").read_text().splitlines() for name in "ab"]
    (tmp_path / "sweep_b.csv").unlink()
    (tmp_path / "sweep_a.csv").write_text("\n".join([*rows[0], *rows[1][1:]]))
    table = tuned_runs("sketchwoof", tmp_path)
    words = ["full fine-tuning", "full fine-tuning, scheme paper", "zero-shot", "zero-shot, scheme paper"]
    assert list(table["name"]) == words
    assert table["lr"].isna().tolist() == [False, False, True, True]  # zero-shot trains nothing


def test_images_are_counted_and_measured_in_words(tmp_path):
    plant(tmp_path, "a", ("full",), num_train_images=2270, other="image_size 96; num_train 2270")
    assert data_words(tuned_runs("sketchwoof", tmp_path)) == "2,270 drawings at 96 pixels"
    plant(tmp_path, "a", ("full",), dataset="imagewoof", num_train_images=8687, other="dataset imagewoof")
    assert data_words(kept_runs("imagewoof", tmp_path)) == "8,687 photographs at 160 pixels"
    plant(tmp_path, "a", ("full",), dataset="imagewoof", num_train_images=9, other="image_variant 320; lr 1")
    assert data_words(kept_runs("imagewoof", tmp_path)) == "9 photographs at 320 pixels"


@pytest.mark.parametrize(("dataset", "grid"), [("sketchwoof", "seeds-best-lr"), ("imagewoof", "full-best-lr")])
def test_the_tables_that_the_project_keeps_are_read(dataset, grid):
    kept = kept_runs(dataset)
    assert {"full", "lora"} <= set(kept["method"][kept["grid"] == grid])
    assert "runs; the interval counts" in kept_markdown(kept)
    assert "| LoRA |" in rates_markdown(kept)


# --- Snakemake at work ---


@pytest.fixture
def start(tmp_path):
    """Start `python -m woofkit sweep FILE` with a cache of the test's own and ten validation drawings."""
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\nif 'train' in sys.orig_argv:\n    from pathlib import Path\n    from woofkit import data\n"
        f"    data.CACHE = Path({str(tmp_path / 'cache')!r})\n    data.SKETCH_SIZES['val'] = 10\n"
    )
    places = os.pathsep.join([str(tmp_path), str(PROJECT_ROOT)])
    begun = []

    def start(sweep: Path, log: str) -> subprocess.Popen:
        with (tmp_path / log).open("w") as file:
            command = [sys.executable, "-m", "woofkit", "sweep", str(sweep), "--cores", "1"]
            environment = os.environ | {"PYTHONPATH": places}
            begun.append(subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, env=environment))
        return begun[-1]

    yield start
    for process in begun:
        if process.poll() is None:
            for child in psutil.Process(process.pid).children(recursive=True):
                child.kill()
        process.kill()
        process.wait()


def test_snakemake_does_the_jobs_in_order_and_none_twice(write_sweep, start, tmp_path):
    grids = "search: {method: probe, lr: 1e-3}\nb: {method: probe, lr: best of search, seed: 1}\n"
    path = write_sweep("wrong: {method: last, last_blocks: 99}\n" + grids)
    assert start(path, "first.log").wait(300) == 1
    log = (tmp_path / "first.log").read_text()
    first = re.search(r"^Job \d+: (.*)$", log, re.MULTILINE)[1]
    assert first.startswith("probe, lr 0.001, seed 0")  # what others wait for goes first
    assert "error: last_blocks = 99 is more than" in log  # and the others went on
    assert "mini: the same command goes on with what is left" in log
    sweep = load_sweep(path)
    assert list(job_table(sweep)["state"]) == ["to do", "done", "done"]
    assert collect(sweep).set_index("grid").loc["b", "lr"] == 1e-3

    before = {path: path.stat() for path in sweep.root.glob("*/metrics.json")}
    assert start(write_sweep(grids), "second.log").wait(300) == 0
    assert {path: path.stat() for path in sweep.root.glob("*/metrics.json")} == before
    log = (tmp_path / "second.log").read_text()
    assert "Job " not in log
    assert "mini: every run is done" in log


@pytest.mark.long
def test_a_killed_sweep_goes_on_where_it_was_and_never_beside_a_job_that_lives_on(write_sweep, start, tmp_path, capsys):
    path = write_sweep("a: {method: full, epochs: 25}")
    sweep = load_sweep(path)
    killed = start(path, "first.log")
    epoch = wait_for(r"epoch ([3-9])/25", tmp_path / "first.log")
    assert main(["sweep", str(path)]) == 2
    assert re.search(r"another sweep \(process \d+ on .*\) is at work in", capsys.readouterr().err)
    [*_, job] = psutil.Process(killed.pid).children(recursive=True)
    job.suspend()
    killed.send_signal(signal.SIGKILL)
    killed.wait()

    again = start(path, "second.log")
    wait_for(r"(another process \(\d+ on .*\) trains) ", tmp_path / "second.log")
    job.kill()
    first = wait_for(r"epoch (\d+)/25", tmp_path / "second.log")
    assert int(first) > int(epoch)
    assert again.wait(300) == 0, (tmp_path / "second.log").read_text()
    run = sweep.root / read_outcome(sweep.root, sweep.jobs[0].name)["run"]
    assert len((run / "history.csv").read_text().splitlines()) == 26
    assert is_finished(run)


def wait_for(pattern: str, log: Path, seconds: float = 180) -> str:
    """What the pattern's group says where it first stands in the log."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := re.search(pattern, log.read_text()):
            return found[1]
        time.sleep(0.02)
    pytest.fail(f"{pattern} never came:\n{log.read_text()}")
