"""The index that spares reading thousands of run folders again."""

import pytest

from woofkit import results
from woofkit.config import TrainConfig
from woofkit.files import write_json
from woofkit.results import load_runs


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
