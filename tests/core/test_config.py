"""Settings: what is refused, and that it is named."""

import json
import subprocess
import sys

import pytest

from woofkit.config import PROJECT_ROOT, ConfigError, LoRAConfig, StudyConfig, TrainConfig, resolve_path


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"dataset": "imagenet"}, "unknown dataset 'imagenet': allowed are 'sketchwoof', 'imagewoof'"),
        ({"scheme": "dirty"}, "unknown scheme 'dirty': allowed are 'clean', 'paper'"),
        ({"image_variant": "224"}, "unknown image_variant '224': allowed are '160', '320', 'full'"),
        ({"preprocess": "none"}, "unknown preprocess 'none'"),
        ({"schedule": "linear"}, "unknown schedule 'linear'"),
        ({"precision": "fp16"}, "unknown precision 'fp16'"),
        ({"num_train": -1}, "num_train = -1 is out of range: allowed is from 10"),
        ({"num_test": 19}, "num_test = 19 is out of range: allowed is from 20"),  # two a breed
        ({"num_train": "600"}, "num_train must be of type int, not str"),
        ({"label_fraction": 0.0}, "label_fraction = 0.0 is out of range: allowed is above 0 to 1"),
        ({"label_fraction": 1.5}, "label_fraction = 1.5 is out of range"),
        ({"epochs": 0}, "epochs = 0 is out of range"),
        ({"epochs": 2.5}, "epochs must be of type int, not float"),
        ({"batch_size": True}, "batch_size must be of type int, not bool"),
        ({"lr": "4e-4"}, "lr must be of type float, not str"),
        ({"lr": 0.0}, "lr = 0.0 is out of range: allowed is above 0"),
        ({"lr": float("inf")}, "lr = inf is out of range"),
        ({"seed": -1}, "seed = -1 is out of range"),
        ({"rank": 0}, "rank = 0 is out of range"),
        ({"model_name": ""}, "model_name is empty"),
        ({"weights": "nowhere.safetensors"}, "weights 'nowhere.safetensors' is not a file: allowed are 'bundled'"),
        ({"data_dir": "nowhere"}, "data_dir 'nowhere' is not a folder"),
        ({"profile": "../demo"}, "profile '../demo' names a folder"),
        ({"runs_dir": ""}, "runs_dir is empty"),
    ],
)
def test_a_study_refuses_what_is_not_allowed(setting, message):
    with pytest.raises(ConfigError, match=message):
        StudyConfig(**setting)


def test_unknown_names_are_refused():
    with pytest.raises(ConfigError, match="unknown parameter 'use_amp': allowed are profile, dataset"):
        StudyConfig.from_dict({"use_amp": False})
    with pytest.raises(ConfigError, match="unknown method 'qlora': allowed are 'zero-shot', 'probe', 'bitfit', 'norm'"):
        TrainConfig(method="qlora")
    with pytest.raises(ConfigError, match="unknown device 'tpu'"):
        TrainConfig(device="tpu")
    with pytest.raises(ConfigError, match="the parameters cell lacks rank"):
        StudyConfig.from_notebook({k: v for k, v in vars(StudyConfig()).items() if k != "rank"})


def test_an_adapter_goes_with_lora_and_with_nothing_else():
    with pytest.raises(ConfigError, match="'lora' needs a LoRAConfig"):
        TrainConfig(method="lora")
    with pytest.raises(ConfigError, match="'lora' needs a LoRAConfig, others none"):
        TrainConfig(method="full", lora=LoRAConfig())

    with pytest.raises(ConfigError, match="lora must be a LoRAConfig or None, not 'rank 8'"):
        TrainConfig(method="lora", lora="rank 8")


@pytest.mark.parametrize("method", ["full", "lora", "probe"])
def test_settings_survive_json(method):
    config = StudyConfig(seed=3).train_config(method)
    assert TrainConfig(**json.loads(json.dumps(config.to_dict()))) == config


def test_a_whole_number_is_welcome_where_a_fraction_is_expected():
    lr = StudyConfig(lr=1).lr
    assert (lr, type(lr)) == (1.0, float)


def test_relative_paths_start_at_the_project():
    assert resolve_path("runs") == PROJECT_ROOT / "runs"
    assert str(resolve_path("/data")) == "/data"
    assert not str(resolve_path("~/x")).startswith("~")


def test_the_runs_of_a_study_share_its_settings_and_lie_below_its_profile(tmp_path):
    study = StudyConfig(profile="mine", runs_dir=str(tmp_path), rank=3, lr=0.1)
    assert study.run_root == tmp_path / "mine"
    full, lora = study.train_config("full"), study.train_config("lora")
    assert (full.lr, full.lora, lora.lora) == (0.1, None, LoRAConfig.paper(3))
    assert {**full.to_dict(), "method": "lora", "lora": lora.to_dict()["lora"]} == lora.to_dict()


def test_a_notebook_shows_the_sentence_and_no_traceback():
    code = "from woofkit.config import StudyConfig; StudyConfig(rank='4')"
    command = [sys.executable, "-m", "IPython", "--colors=NoColor", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True)
    assert "ConfigError: rank must be of type int, not str ('4')" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
