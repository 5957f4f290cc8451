"""`python -m woofkit keep`: the finished runs of a profile as one table that stays."""

import json
from dataclasses import replace

import pandas as pd
import pytest

from tools.readme import main as readme
from tools.site.__main__ import main as site
from woofkit.config import ConfigError, LoRAConfig, TrainConfig
from woofkit.tables.results import keep_results


def finished(folder, config):
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"config": config.to_dict()}))
    (folder / "metrics.json").write_text(json.dumps({"test_accuracy": 0.9}))


def test_a_profiles_runs_are_kept_by_method_in_one_table_of_their_dataset(tmp_path):
    full = TrainConfig(method="full")
    finished(tmp_path / "runs" / "demo" / "a", replace(full, method="lora", lora=LoRAConfig.paper()))
    finished(tmp_path / "runs" / "demo" / "b", full)
    path = keep_results("demo", str(tmp_path / "runs"), tmp_path / "kept")
    assert path == tmp_path / "kept" / "sketchwoof_demo.csv"
    table = pd.read_csv(path)
    assert list(table["method"]) == ["full", "lora"]
    assert list(table["profile"]) == ["demo", "demo"]
    assert list(table["accuracy"]) == [0.9, 0.9]


def test_a_profile_without_runs_or_of_two_datasets_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="no finished run in .*demo: run make study PROFILE=demo"):
        keep_results("demo", str(tmp_path), tmp_path / "kept")
    finished(tmp_path / "demo" / "a", TrainConfig(method="full"))
    finished(tmp_path / "demo" / "b", TrainConfig(method="full", dataset="imagewoof"))
    with pytest.raises(ConfigError, match="has runs on .* and .*: keep those of one dataset in one profile"):
        keep_results("demo", str(tmp_path), tmp_path / "kept")
    assert not (tmp_path / "kept").exists()


@pytest.mark.parametrize("profile", ["../../ed/base/test", "", ".", "/abs", "a" * 300])
def test_a_profile_is_a_name_and_no_path(profile, tmp_path, capsys):
    with pytest.raises(ConfigError, match="profile must be a folder's name"):
        keep_results(profile, str(tmp_path), tmp_path)
    for tool in (readme, site):
        assert tool(["--profile", profile, "--runs-dir", str(tmp_path)]) == 2
        assert "profile must be a folder's name" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
