"""Settings: what is refused, and that it is named."""

import json
import pickle
import subprocess
import sys
from dataclasses import FrozenInstanceError, asdict, fields, replace

import pytest

from woofkit.config import PROJECT_ROOT, ConfigError, LoRAConfig, RunSettings, StudyConfig, TrainConfig, resolve_path

SETTINGS = (LoRAConfig, TrainConfig, StudyConfig)
REFUSED = [  # by a study and by a run
    ({"dataset": "imagenet"}, "unknown dataset 'imagenet': allowed are 'sketchwoof', 'imagewoof'"),
    ({"dataset": 5}, "unknown dataset 5: allowed are 'sketchwoof', 'imagewoof'"),
    ({"scheme": "dirty"}, "unknown scheme 'dirty': allowed are 'clean', 'paper'"),
    ({"image_variant": "224"}, "unknown image_variant '224': allowed are '160', '320', 'full'"),
    ({"image_variant": 160}, "unknown image_variant 160: allowed are '160', '320', 'full'"),
    ({"preprocess": "none"}, "unknown preprocess 'none': allowed are 'timm', 'paper-code'"),
    ({"schedule": "linear"}, "unknown schedule 'linear': allowed are 'constant', 'cosine'"),
    ({"precision": "fp16"}, "unknown precision 'fp16': allowed are 'auto', 'fp32', 'bf16'"),
    ({"augment": None}, "unknown augment None: allowed are 'none', 'flip', 'flip-crop'"),
    ({"num_train": -1}, "num_train must be 0 for all or a whole number from 10 to 10000000, not -1"),
    ({"num_train": "600"}, "num_train must be 0 for all or a whole number from 10 to 10000000, not '600'"),
    ({"num_train": False}, "num_train must be 0 for all or a whole number from 10 to 10000000, not False"),
    ({"num_test": 9}, "num_test must be 0 for all or a whole number from [12]0 to 10000000, not 9"),
    ({"label_fraction": 0.0}, "label_fraction = 0.0 is out of range: allowed is above 0 to 1"),
    ({"label_fraction": 1.5}, "label_fraction = 1.5 is out of range: allowed is above 0 to 1"),
    ({"epochs": 0}, "epochs = 0 is out of range: allowed is from 1 to 10000"),
    ({"epochs": 2.5}, r"epochs must be of type int, not float \(2.5\)"),
    ({"epochs": 2.0}, r"epochs must be of type int, not float \(2.0\)"),
    ({"batch_size": True}, r"batch_size must be of type int, not bool \(True\)"),
    ({"batch_size": 65537}, "batch_size = 65537 is out of range: allowed is from 1 to 65536"),
    ({"lr": "4e-4"}, r"lr must be of type float, not str \('4e-4'\)"),
    ({"lr": True}, r"lr must be of type float, not bool \(True\)"),
    ({"lr": 0.0}, "lr = 0.0 is out of range: allowed is above 0 to 10"),
    ({"lr": float("inf")}, "lr = inf is out of range: allowed is above 0 to 10"),
    ({"lr": float("nan")}, "lr = nan is out of range: allowed is above 0 to 10"),
    ({"seed": -1}, "seed = -1 is out of range: allowed is from 0 to 2147483647"),
    ({"seed": None}, r"seed must be of type int, not NoneType \(None\)"),
    ({"model_name": ""}, "model_name must be a timm Vision Transformer, such as 'vit_tiny_patch16_224', not ''"),
    ({"weights": "nowhere.safetensors"}, "weights must be 'bundled', .* of a file that exists, not 'nowhere.safe"),
    ({"weights": 5}, "weights must be 'bundled', 'timm', 'random' or the path of a file that exists, not 5"),
    ({"data_dir": "nowhere"}, "data_dir must be a folder that exists, or '' to download, not 'nowhere'"),
]


@pytest.mark.parametrize(("setting", "message"), REFUSED)
def test_a_study_and_a_run_refuse_what_is_not_allowed(setting, message):
    for refused in (
        lambda: StudyConfig(**setting),
        lambda: StudyConfig.from_dict(setting),
        lambda: TrainConfig(**setting),
        lambda: replace(TrainConfig(), **setting),
    ):
        with pytest.raises(ConfigError, match=message) as caught:
            refused()
        assert "\n" not in str(caught.value)


def test_there_is_a_refusal_for_every_shared_setting():
    assert {name for setting, _ in REFUSED for name in setting} == {field.name for field in fields(RunSettings)}


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"num_test": 19}, "num_test must be 0 for all or a whole number from 20 to 10000000, not 19"),  # two per breed
        ({"rank": 0}, "rank = 0 is out of range: allowed is from 1 to 4096"),
        ({"rank": "4"}, r"rank must be of type int, not str \('4'\)"),
        ({"profile": "../demo"}, "profile must be a folder's name of letters, digits, '-' and '_', not '../demo'"),
        ({"profile": ""}, "profile must be a folder's name of letters, digits, '-' and '_', not ''"),
        ({"runs_dir": ""}, "runs_dir must be a folder's path, such as 'runs', not ''"),
    ],
)
def test_a_study_refuses_what_is_not_allowed(setting, message):
    with pytest.raises(ConfigError, match=message):
        StudyConfig(**setting)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"method": "qlora"}, "unknown method 'qlora': allowed are 'zero-shot', 'probe', 'bitfit', 'norm', 'last', 'f"),
        ({"device": "tpu"}, "unknown device 'tpu': allowed are 'auto', 'cpu', 'cuda'"),
        ({"label": "colour"}, "unknown label 'colour': allowed are 'breed', 'pose'"),
        ({"last_blocks": 0}, "last_blocks = 0 is out of range: allowed is from 1 to 1000"),
        ({"fast": 1}, r"fast must be of type bool, not int \(1\)"),
        ({"label": "pose", "dataset": "imagewoof"}, "label 'pose' with dataset 'imagewoof', method 'full': only draw"),
        ({"label": "pose", "method": "zero-shot"}, "method 'zero-shot': only drawings know their pose, and no weights"),
        ({"method": "lora"}, "method 'lora' with lora=None: 'lora' needs a LoRAConfig, others none"),
        (
            {"lora": LoRAConfig()},
            r"method 'full' with lora=LoRAConfig\(rank=8, .*'lora' needs a LoRAConfig, others none",
        ),
        ({"lora": "rank 8"}, "lora must be a LoRAConfig or None, not 'rank 8'"),
        ({"lora": {"rank": 0}}, "rank = 0 is out of range: allowed is from 1 to 4096"),
        ({"lora": {"r": 8}}, "unknown parameter 'r': allowed are rank, alpha, targets"),
    ],
)
def test_a_run_refuses_what_is_not_allowed(setting, message):
    with pytest.raises(ConfigError, match=message):
        TrainConfig(**setting)


def test_unknown_names_are_refused():
    for made in (StudyConfig.from_dict, lambda given: StudyConfig(**given)):
        with pytest.raises(ConfigError, match="unknown parameter 'use_amp': allowed are profile, dataset"):
            made({"use_amp": False})
    with pytest.raises(ConfigError, match="unknown parameter 'rank': allowed are method, dataset"):
        TrainConfig(rank=8)
    with pytest.raises(ConfigError, match="the parameters cell lacks rank"):
        StudyConfig.from_notebook({k: v for k, v in vars(StudyConfig()).items() if k != "rank"})


@pytest.mark.parametrize("made", SETTINGS)
def test_the_defaults_are_allowed(made):
    defaults = {field.name: field.default for field in fields(made)}
    assert made(**defaults) == made()
    assert vars(made()) == defaults


def test_what_all_runs_share_lies_between_a_studys_profile_and_its_own_settings():
    shared = [field.name for field in fields(RunSettings)]
    assert [field.name for field in fields(StudyConfig)] == ["profile", *shared, "rank", "runs_dir"]
    assert [field.name for field in fields(TrainConfig)][: 1 + len(shared)] == ["method", *shared]


@pytest.mark.parametrize("method", ["full", "lora", "probe"])
def test_settings_survive_json(method):
    config = StudyConfig(seed=3).train_config(method)
    assert TrainConfig(**json.loads(json.dumps(config.to_dict()))) == config
    settings = asdict(config)
    if method == "lora":
        settings["lora"] |= {"targets": ["attn.qkv", "attn.proj"], "modules_to_save": ["norm", "head"]}
        assert LoRAConfig(**json.loads(json.dumps(asdict(config.lora)))) == config.lora
    assert config.to_dict() == settings


def test_settings_written_before_there_was_a_choice_of_fast_are_read():
    written = {name: value for name, value in TrainConfig().to_dict().items() if name != "fast"}
    assert TrainConfig(**written) == TrainConfig(fast=True)


@pytest.mark.parametrize("config", [made() for made in SETTINGS] + [StudyConfig().train_config("lora")])
def test_settings_are_values(config):
    same = replace(config)
    assert pickle.loads(pickle.dumps(config)) == same == config
    assert {config, same} == {config}
    name = fields(config)[0].name
    with pytest.raises(FrozenInstanceError):
        setattr(config, name, getattr(config, name))


def test_a_whole_number_is_welcome_where_a_fraction_is_expected():
    for number in (StudyConfig(lr=1).lr, LoRAConfig(alpha=1).alpha, LoRAConfig(init_std=1).init_std):
        assert (number, type(number)) == (1.0, float)


def test_lists_are_welcome_where_tuples_are_expected():
    config = LoRAConfig(targets=["attn.qkv[qv]", "mlp.fc1"], modules_to_save=[], blocks=[0, 2])
    assert config == LoRAConfig(targets=("attn.qkv[qv]", "mlp.fc1"), modules_to_save=(), blocks=(0, 2))
    assert (type(config.targets), type(config.modules_to_save), type(config.blocks)) == (tuple, tuple, tuple)


def test_a_changed_copy_is_checked_and_made_alike():
    config = replace(LoRAConfig(), alpha=2, targets=["attn.proj"])
    assert config == LoRAConfig(alpha=2.0, targets=("attn.proj",))
    with pytest.raises(ConfigError, match="rank = -1 is out of range"):
        replace(config, rank=-1)
    with pytest.raises(ConfigError, match="'lora' needs a LoRAConfig"):
        replace(TrainConfig(), method="lora")


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


def test_yaml_is_imported_only_to_read_a_file():
    code = "import sys, woofkit.config; print([name for name in sys.modules if 'yaml' in name])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
