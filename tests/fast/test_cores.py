"""Cores are shared: threads wait for each other with a bounded spin, and a short one where others compute."""

import os
import subprocess
import sys
import time

import pytest

from woofkit.fast import cores
from woofkit.fast.cores import OWN_SETTINGS, busy_cores, share_cores


@pytest.fixture(autouse=True)
def own_environment(monkeypatch):
    for name in (*OWN_SETTINGS, "OMP_NUM_THREADS"):
        monkeypatch.setenv(name, "")  # so that it is put back, whatever the test leaves
        monkeypatch.delenv(name)


@pytest.mark.parametrize(("busy", "spins"), [(0.0, cores.SPINS_IDLE), (1.0, cores.SPINS_BUSY)])
def test_threads_spin_less_on_a_busy_machine_and_never_for_ever(monkeypatch, busy, spins):
    monkeypatch.setattr(cores, "busy_cores", lambda: busy)
    share_cores()
    assert os.environ["GOMP_SPINCOUNT"] == str(spins)
    assert "OMP_NUM_THREADS" not in os.environ  # fewer threads were no faster


@pytest.mark.parametrize("name", OWN_SETTINGS)
def test_what_somebody_has_set_stays(monkeypatch, name):
    monkeypatch.setattr(cores, "busy_cores", lambda: 4.0)
    monkeypatch.setenv(name, "7")
    share_cores()
    assert [os.environ.get(each) for each in OWN_SETTINGS].count("7") == 1


def test_a_program_that_computes_is_seen():
    before = busy_cores()
    busy = subprocess.Popen([sys.executable, "-c", "while True: sum(range(10**6))"])
    try:
        time.sleep(0.3)
        assert busy_cores(0.5) > 0.3 + before or before > 0.5
    finally:
        busy.kill()
        busy.wait()


def test_the_command_line_sets_it_before_pytorch_is_there():
    code = "import sys, os; from woofkit.__main__ import main; main(['runs', '--root', 'woofkit']); "
    code += "print('torch' in sys.modules, os.environ['GOMP_SPINCOUNT'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split()[-2] == "False"
    assert int(done.stdout.split()[-1]) > 0
