"""Where the jobs of a sweep run: Snakemake's options, and what is refused."""

import json
import re
import shutil

import pytest

from woofkit.config import ConfigError
from woofkit.profiles import read_mapping
from woofkit.sweeps import engine, run
from woofkit.sweeps.engine import PROFILES, Engine
from woofkit.sweeps.grid import load_sweep
from woofkit.sweeps.run import expected_seconds, write_agenda


@pytest.fixture
def sweep(tmp_path):
    profile = tmp_path / "tiny.yaml"
    profile.write_text(f"{{model_name: test_vit, weights: random, num_train: 1000, runs_dir: {tmp_path / 'runs'}}}")
    path = tmp_path / "mini.yaml"
    path.write_text(f"profile: {profile}\ngrids: {{a: {{method: [probe, full], epochs: [1, 20]}}}}\n")
    found = load_sweep(path)
    found.root.mkdir(parents=True)
    return found


def test_this_machine_gives_its_cores_to_one_run_after_the_other():
    options = Engine(cores=3).options()
    assert options == ["--workflow-profile", str(PROFILES / "default"), "--cores", "3"]
    assert read_mapping(PROFILES / "default" / "config.yaml")["set-threads"]["train"] > 1000


def test_a_launcher_has_a_slot_for_each_job_and_ends_with_snakemake(monkeypatch):
    launched = Engine(launcher="srun -n1", jobs=8)
    assert launched.options() == ["--workflow-profile", str(PROFILES / "launcher"), "--cores", "8"]
    assert read_mapping(launched.profile / "config.yaml")["set-threads"] == {"train": 1, "choose": 1}
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    assert launched.command == "setpriv --pdeathsig TERM srun -n1"
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert launched.command == "srun -n1"
    assert Engine().command == ""


def test_a_cluster_is_a_folder_of_options_ours_or_your_own(monkeypatch, tmp_path):
    monkeypatch.setattr(engine, "find_spec", lambda name: name)
    assert Engine("slurm").options() == ["--workflow-profile", str(PROFILES / "slurm")]
    assert Engine("slurm", jobs=5).options()[2:] == ["--jobs", "5"]
    (tmp_path / "config.yaml").write_text("jobs: 1\n")
    assert Engine(str(tmp_path)).profile == tmp_path


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"cluster": "slurn"},
            "unknown cluster 'slurn': allowed are default, launcher, slurm, or a folder with a config",
        ),
        ({"cluster": "slurm", "cores": 2}, "--cores is for runs on this machine: give --jobs"),
        ({"jobs": 2}, "--jobs is for --cluster or --launcher"),
        ({"launcher": "srun", "jobs": 0}, "--jobs = 0 is out of range"),
        ({"cluster": "slurm"}, "needs a package of its own: pip install snakemake-executor-plugin-slurm"),
    ],
)
def test_what_means_nothing_is_refused(given, message, monkeypatch):
    monkeypatch.setattr(engine, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=re.escape(message)):
        Engine(**given).options()


def test_the_agenda_holds_all_that_a_job_needs_and_the_minutes_to_ask_for(sweep):
    agenda = json.loads(write_agenda(sweep, "srun").read_text())
    assert agenda["launcher"] == "srun"
    assert agenda["agenda"] == str((sweep.root / "mini.agenda.json").resolve())
    for job in sweep.jobs:
        expected = expected_seconds(job.config, run.RATES) / 60
        assert expected < agenda["runs"][job.name]["minutes"] - 10 < 3 * expected + 2


def test_a_search_of_which_a_result_is_not_to_be_seen_yet_fails_and_is_tried_again(sweep):
    names = [job.name for job in sweep.jobs[:2]]
    agenda = {"searches": {"s": [[1e-4, names[0]], [1e-3, names[1]]]}, "runs": {}}
    with pytest.raises(ConfigError, match=f"nothing is known yet of job {names[0]}"):
        run.choose(sweep.root, agenda, "s")
