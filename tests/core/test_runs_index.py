"""The index that spares reading thousands of run folders again."""

import os

import pytest

from woofkit import results
from woofkit.config import ConfigError, TrainConfig
from woofkit.files import write_json
from woofkit.progress import Monitor
from woofkit.results import is_finished, load_runs, read_metrics
from woofkit.train import run_training


@pytest.fixture
def many(tmp_path):
    for seed in range(4):
        run = tmp_path / "study" / f"full-r0-s{seed}-0000000{seed}"
        run.mkdir(parents=True)
        write_json(run / "config.json", {"config": TrainConfig(seed=seed).to_dict()})
        write_json(run / "metrics.json", {"test_accuracy": seed / 10})
    return tmp_path


def test_runs_that_have_not_changed_are_not_read_again(many, monkeypatch):
    first = load_runs(many)
    monkeypatch.setattr(results, "load_run", lambda run: pytest.fail(f"{run} is read again"))
    assert load_runs(many).equals(first)
    moved = many.rename(many.with_name("moved"))
    assert list(load_runs(moved)["run"]) == [run.replace(str(many), str(moved)) for run in first["run"]]


@pytest.mark.parametrize("damage", ["", "{", "[1]", '{"study/full-r0-s0-00000000": 3}'])
def test_the_index_heals_itself(many, damage):
    first = load_runs(many)
    (many / results.INDEX).write_text(damage)
    assert load_runs(many).equals(first)
    run = many / "study" / "full-r0-s2-00000002"
    write_json(run / "metrics.json", {"test_accuracy": 0.875})
    assert load_runs(many)["test_accuracy"].tolist() == [0.0, 0.1, 0.875, 0.3]
    (run / "metrics.json").unlink()
    assert len(load_runs(many)) == 3


def test_without_a_place_for_the_index_runs_are_found_all_the_same(many, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(results, "write_atomic", full)
    assert len(load_runs(many)) == 4
    assert not (many / results.INDEX).exists()


@pytest.mark.parametrize("file", ["metrics.json", "config.json"])
@pytest.mark.parametrize("content", ["", "{", "[]", None], ids=["empty", "cut", "a list", "gone"])
def test_a_damaged_folder_is_named_and_stops_no_table(many, file, content):
    damaged = many / "study" / "full-r0-s1-00000001"
    if content is None:
        (damaged / file).unlink()
    else:
        (damaged / file).write_text(content)
    if (damaged / "metrics.json").exists():
        with pytest.warns(UserWarning, match="full-r0-s1-00000001 is damaged .*: passed over; training with"):
            found = load_runs(many)
    else:
        found = load_runs(many)  # without metrics.json it is an unfinished run
    assert found["test_accuracy"].tolist() == [0.0, 0.2, 0.3]


def test_a_run_with_an_empty_record_is_not_finished_and_trained_anew(tiny_run, tmp_path):
    run = run_training(tiny_run, tmp_path, Monitor())
    whole = read_metrics(run)
    (run / "metrics.json").write_bytes(b"")  # as a power cut may leave it
    assert not is_finished(run)
    with pytest.raises(ConfigError, match="is not finished"):
        read_metrics(run)
    assert run_training(tiny_run, tmp_path, Monitor()) == run
    assert read_metrics(run)["test_loss"] == whole["test_loss"]


def test_what_is_renamed_has_reached_the_disk(tmp_path, monkeypatch):
    order = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda descriptor: order.append("sync") or fsync(descriptor))
    monkeypatch.setattr(os, "replace", lambda *paths: order.append("rename") or replace(*paths))
    write_json(tmp_path / "a.json", {"a": 1})
    assert order == ["sync", "rename", "sync"]  # the file, its name, the folder
