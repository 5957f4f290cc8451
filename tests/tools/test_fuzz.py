"""`make fuzz`: its table, a share of its trials, and that it notices what is lost."""

import os
import random
import signal

import pytest

from tools.fuzz import outside
from tools.fuzz.__main__ import fuzz, main
from tools.fuzz.trial import Place, in_child


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path, random.Random(5))


@pytest.mark.parametrize("kind", [outside.hostile_archive, outside.bad_server, outside.two_downloads])
def test_nothing_from_outside_gets_its_way(place, kind):
    assert [fault for fault in (kind(place) for _ in range(4)) if fault] == []


def test_a_trial_says_how_its_process_ended():
    assert in_child(lambda: print("well") or 3).status == 3
    assert in_child(lambda: print("well")).said == "well\n"
    assert in_child(lambda: {}["planted"]).fault == "a traceback: KeyError: 'planted'"
    assert in_child(lambda: os.kill(os.getpid(), signal.SIGUSR1)).fault == f"signal {signal.SIGUSR1:d}"
    assert in_child(signal.pause, kill_after=0.1).status == -signal.SIGKILL


def test_what_is_lost_stands_in_the_table(tmp_path, monkeypatch):
    def planted(place):
        """A planted fault"""
        return "all is lost"

    monkeypatch.setattr("tools.fuzz.__main__.prepare", lambda place: None)
    table, lost = fuzz(tmp_path, {planted: 1}, seconds=0)
    assert "| A planted fault | 1 | 0 | 1 |" in table
    assert lost == ["A planted fault: all is lost"]


@pytest.mark.long
def test_five_minutes_of_every_kind_lose_nothing(capsys):
    assert main(["--minutes", "5"]) == 0, capsys.readouterr().out
