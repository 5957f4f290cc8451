"""`make fuzz`: its table, a share of its trials, and that it notices what is lost."""

import os
import random
import re
import signal
from importlib import import_module

import pandas as pd
import pytest

from tools.fuzz import outside
from tools.fuzz.__main__ import KINDS, fuzz, main
from tools.fuzz.table import KEPT, faults_markdown, keep
from tools.fuzz.trial import Place, in_child


@pytest.fixture
def place(tmp_path):
    for name in ("requests", "tqdm.auto", "filelock"):  # once here, and not in every trial's process
        import_module(name)
    return Place(tmp_path, random.Random(5))


@pytest.mark.parametrize("kind", [outside.hostile_archive, outside.bad_server, outside.two_downloads])
def test_nothing_from_outside_gets_its_way(place, kind):
    assert [fault for fault in (kind(place) for _ in range(4)) if fault] == []


def test_a_trial_says_how_its_process_ended():
    assert in_child(lambda: print("well") or 3).status == 3
    assert in_child(lambda: print("well")).said == "well\n"
    assert in_child(lambda: {}["planted"]).fault == "a traceback: KeyError: 'planted'"
    assert in_child(lambda: os.kill(os.getpid(), signal.SIGUSR2)).fault == f"signal {signal.SIGUSR2:d}"
    assert in_child(signal.pause, kill_after=0.1).status == -signal.SIGKILL


def test_a_trial_that_hangs_says_where(monkeypatch):
    monkeypatch.setattr("tools.fuzz.trial.PATIENCE", 0.3)
    assert re.match(r"it hangs: +File .*test_fuzz.py.*, line \d+ in waits <", in_child(lambda: waits()).fault)


def waits():
    signal.pause()


def test_what_is_lost_stands_in_the_table(tmp_path, monkeypatch):
    def planted(place):
        """A planted fault"""
        return "all is lost"

    monkeypatch.setattr("tools.fuzz.__main__.prepare", lambda place: None)
    [(row, faults)] = fuzz(tmp_path, {planted: 3})
    assert faults == ["all is lost"] * 3
    assert "| A planted fault | 3 | 0 | 3 | 0 |" in faults_markdown(pd.DataFrame([row]))
    assert len(list(fuzz(tmp_path, {planted: 3}, seconds=0))) == 1


def test_kept_rows_stay_until_their_kind_is_tried_again(tmp_path):
    about = {"commit": "c", "machine": "m", "date": "d", "survived": 1, "lost": 0, "tracebacks": 0}
    for kind, tried in (("b", 1), ("a", 1), ("gone", 1), ("b", 2)):
        keep(pd.DataFrame([about | {"kind": kind, "tried": tried}]), ["a", "b"], tmp_path / "kept.csv")
    kept = pd.read_csv(tmp_path / "kept.csv")
    assert list(zip(kept["kind"], kept["tried"], strict=True)) == [("a", 1), ("b", 2)]


def test_of_every_kind_in_the_kept_table_enough_was_tried_and_nothing_lost():
    enough = {kind.__doc__: times for kind, times in KINDS.items()}
    kept = pd.read_csv(KEPT)
    assert set(kept["kind"]) == enough.keys()
    assert (kept["tried"] >= kept["kind"].map(enough)).all()
    assert kept[["lost", "tracebacks"]].to_numpy().sum() == 0


@pytest.mark.long
def test_five_minutes_of_every_kind_lose_nothing(capsys):
    assert main(["--minutes", "5"]) == 0, capsys.readouterr().out
