"""A finished run says what its files hold, readers compare, and a damaged one is set aside and trained anew."""

import json
import shutil

import numpy as np
import pytest

from woofkit.adapters import load_run_model
from woofkit.config import ConfigError
from woofkit.files import write_json
from woofkit.progress import Monitor
from woofkit.results import (
    CHECKSUM,
    FILES,
    NEIGHBOURS,
    damage,
    file_hash,
    is_finished,
    is_whole,
    load_runs,
    read_config,
    read_history,
    read_metrics,
    read_predictions,
)
from woofkit.train import run_training

READERS = {
    "config.json": read_config,
    "history.csv": read_history,
    "predictions.parquet": read_predictions,
    "model.safetensors": load_run_model,
}


class Heard(Monitor):
    def __init__(self):
        self.lines = []

    def log(self, line):
        self.lines.append(line)


@pytest.fixture
def run(tiny_run, tmp_path):
    return run_training(tiny_run, tmp_path / "runs", Monitor())


def flip(file):
    content = bytearray(file.read_bytes())
    content[-9] ^= 1
    file.write_bytes(content)


def cut(file):
    file.write_bytes(file.read_bytes()[:-7])


def empty(file):
    file.write_bytes(b"")


def remove(file):
    file.unlink()


def test_a_finished_run_says_what_its_files_hold(run):
    said = json.loads((run / "metrics.json").read_text())[NEIGHBOURS]
    assert set(said) == set(READERS) == {name for name in FILES if (run / name).exists()}
    for name, about in said.items():
        assert about == {"bytes": (run / name).stat().st_size, "sha256": file_hash(run / name)}
    assert NEIGHBOURS not in read_metrics(run)
    assert NEIGHBOURS not in load_runs(run.parent)
    assert is_whole(run)


def test_no_damage_passes_for_whole(run, tmp_path):
    for name, read in READERS.items():
        for harm in (flip, cut, empty, remove):
            other = shutil.copytree(run, tmp_path / f"{harm.__name__}-{name}" / run.name)
            harm(other / name)
            assert name in damage(other)
            assert not is_whole(other)
            with pytest.raises(ConfigError, match=rf"{name}.*sets it aside and makes it anew|is not finished"):
                read(other)
            if harm is not flip:  # whose size is right: only who reads the file notices
                assert not is_finished(other)
                with pytest.warns(UserWarning, match=f"{run.name} is damaged .*{name}.*: passed over"):
                    assert load_runs(other.parent).empty


def test_no_flipped_bit_of_the_metrics_passes_for_whole(run):
    whole, metrics = (run / "metrics.json").read_bytes(), read_metrics(run)
    for place in np.random.default_rng(0).choice(8 * len(whole), 100, replace=False):
        content = bytearray(whole)
        content[place // 8] ^= 1 << place % 8
        (run / "metrics.json").write_bytes(content)
        if is_finished(run):  # a bit of the layout, or of the checksum's own name
            assert {name: read_metrics(run)[name] for name in metrics} == metrics
        else:
            assert not is_whole(run)
            with pytest.raises(ConfigError, match="damaged"):
                read_metrics(run)


@pytest.mark.parametrize(
    ("name", "harm"), [("model.safetensors", flip), ("metrics.json", empty), ("history.csv", remove)]
)
def test_a_damaged_run_is_named_set_aside_and_trained_anew(run, tiny_run, name, harm):
    before = read_metrics(run)
    harm(run / name)
    monitor = Heard()
    assert run_training(tiny_run, run.parent, monitor) == run
    assert is_whole(run)
    assert read_metrics(run)["test_loss"] == before["test_loss"]
    assert any(
        f"{run.name} is damaged ({name}" in line and f"set aside as {run.name}.damaged" in line
        for line in monitor.lines
    )
    assert (run.with_name(f"{run.name}.damaged") / "config.json").exists()
    assert len(load_runs(run.parent)) == 1


def test_runs_from_before_the_hashes_stay_readable(run, tiny_run):
    record = json.loads((run / "metrics.json").read_text())
    del record[NEIGHBOURS], record[CHECKSUM]
    write_json(run / "metrics.json", record)
    assert is_whole(run)
    assert len(load_runs(run.parent)) == 1
    for read in READERS.values():
        read(run)
    stamp = (run / "metrics.json").stat().st_mtime_ns
    assert run_training(tiny_run, run.parent, Monitor()) == run
    assert (run / "metrics.json").stat().st_mtime_ns == stamp


def test_of_those_too_a_cut_file_is_noticed(run, tmp_path):
    record = json.loads((run / "metrics.json").read_text())
    del record[NEIGHBOURS], record[CHECKSUM]
    write_json(run / "metrics.json", record)
    for name in READERS:
        for harm in (cut, empty):
            if (name, harm) == ("history.csv", cut):  # a shorter table is still one
                continue
            other = shutil.copytree(run, tmp_path / f"{harm.__name__}-{name}" / run.name)
            harm(other / name)
            assert damage(other).startswith(name)


def test_the_checkpoint_of_a_finished_run_is_removed_by_the_next_call(run, tiny_run):
    (run / "checkpoint.pt").write_bytes(b"left by a kill")
    run_training(tiny_run, run.parent, Monitor())
    assert not (run / "checkpoint.pt").exists()
