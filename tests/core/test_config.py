"""Settings: what is refused, and that it is named."""

import json
import pickle
import subprocess
import sys
from dataclasses import FrozenInstanceError, asdict, fields, replace

import pytest

from woofkit.config import (
    NAMED_IF_CHANGED,
    PROJECT_ROOT,
    ConfigError,
    LoRAConfig,
    RunSettings,
    StudyConfig,
    TrainConfig,
    resolve_path,
)
from woofkit.profiles import from_notebook

SETTINGS = (LoRAConfig, TrainConfig, StudyConfig)
SHARED = [  # by a study and by a run: one or two cases of each kind of refusal
    ({"dataset": 5}, "unknown dataset 5: allowed are 'sketchwoof', 'imagewoof'"),
    ({"image_variant": 160}, "unknown image_variant 160: allowed are '160', '320', 'full'"),
    ({"augment": None}, "unknown augment None: allowed are 'none', 'flip', 'flip-crop'"),
    ({"num_train": -1}, "num_train must be 0 for all or a whole number from 10 to 10000000, not -1"),
    ({"num_train": False}, "num_train must be 0 for all or a whole number from 10 to 10000000, not False"),
    ({"num_test": 9}, "num_test must be 0 for all or a whole number from [12]0 to 10000000, not 9"),
    ({"label_fraction": 0.0}, "label_fraction = 0.0 is out of range: allowed is above 0 to 1"),
    ({"epochs": 0}, "epochs = 0 is out of range: allowed is from 1 to 10000"),
    ({"epochs": 2.0}, r"epochs must be of type int, not float \(2.0\)"),
    ({"batch_size": True}, r"batch_size must be of type int, not bool \(True\)"),
    ({"lr": "4e-4"}, r"lr must be of type float, not str \('4e-4'\)"),
    ({"lr": True}, r"lr must be of type float, not bool \(True\)"),
    ({"lr": float("inf")}, "lr = inf is out of range: allowed is (above|from) 0 to 10"),
    ({"lr": float("nan")}, "lr = nan is out of range: allowed is (above|from) 0 to 10"),
    ({"seed": None}, r"seed must be of type int, not NoneType \(None\)"),
    ({"model_name": ""}, "model_name must be a timm Vision Transformer, such as 'vit_tiny_patch16_224', not ''"),
    ({"weights": "nowhere.safetensors"}, "weights must be 'bundled', .* of a file that exists, not 'nowhere.safe"),
    ({"data_dir": "nowhere"}, "data_dir must be a folder that exists, or '' to download, not 'nowhere'"),
]
REFUSED = [
    *((StudyConfig, setting, message) for setting, message in SHARED),
    *((TrainConfig, setting, message) for setting, message in SHARED),
    (StudyConfig, {"num_test": 19}, "num_test must be 0 for all or .* from 20 to 10000000, not 19"),  # two per breed
    (StudyConfig, {"rank": 0}, "rank = 0 is out of range: allowed is from 1 to 4096"),
    (StudyConfig, {"profile": "../demo"}, "profile must be a folder's name of letters, digits, '-' and '_', not '../d"),
    (StudyConfig, {"profile": ""}, "profile must be a folder's name of letters, digits, '-' and '_', not ''"),
    (StudyConfig, {"runs_dir": ""}, "runs_dir must be a folder's path, such as 'runs', not ''"),
    (StudyConfig, {"use_amp": False}, "unknown parameter 'use_amp': allowed are profile, dataset"),
    (StudyConfig, {"lr": 0}, "lr = 0 with dataset 'sketchwoof': rates are searched for a folder of your own alone"),
    (TrainConfig, {"lr": 0}, "lr = 0 is out of range: allowed is above 0 to 10"),
    (TrainConfig, {"rank": 8}, "unknown parameter 'rank': allowed are method, dataset"),
    (TrainConfig, {"method": "qlora"}, "unknown method 'qlora': allowed are 'zero-shot', 'probe', 'bitfit', 'norm'"),
    (TrainConfig, {"fast": 1}, r"fast must be of type bool, not int \(1\)"),
    (TrainConfig, {"label": "pose", "dataset": "imagewoof"}, "dataset 'imagewoof', method 'full': only drawings know"),
    (TrainConfig, {"label": "pose", "method": "zero-shot"}, "'zero-shot': only drawings .*, and no weights know poses"),
    (TrainConfig, {"method": "lora"}, "method 'lora' with lora=None: 'lora' needs a LoRAConfig, others none"),
    (TrainConfig, {"lora": LoRAConfig()}, r"method 'full' with lora=LoRAConfig\(rank=8, .*'lora' needs a LoRAConfig"),
    (TrainConfig, {"lora": "rank 8"}, "lora must be a LoRAConfig or None, not 'rank 8'"),
    (TrainConfig, {"lora": {"rank": 0}}, "rank = 0 is out of range: allowed is from 1 to 4096"),
    (TrainConfig, {"lora": {"r": 8}}, "unknown parameter 'r': allowed are rank, alpha, targets"),
    (LoRAConfig, {"rank": 4097}, "rank = 4097 is out of range: allowed is from 1 to 4096"),
    (LoRAConfig, {"alpha": float("inf")}, "alpha = inf is out of range: allowed is above 0 to 1000000"),
    (LoRAConfig, {"dropout": 1.0}, "dropout = 1.0 is out of range"),
    (LoRAConfig, {"bias": "false"}, "bias must be of type bool, not str"),
    (LoRAConfig, {"targets": "attn.qkv"}, "targets must be a sequence of layers' names such as 'attn.proj'.* not 'att"),
    (LoRAConfig, {"targets": ()}, r"targets must be a sequence of layers' names .*, not \(\)"),
    (LoRAConfig, {"targets": ["attn.qkv", 5]}, r"targets must be a sequence .*, not \['attn.qkv', 5\]"),
    (LoRAConfig, {"targets": ("attn.qkv[vq]",)}, r"one of q, k, v, qk, qv, kv, qkv in .*, not \('attn.qkv\[vq\]',\)"),
    (LoRAConfig, {"targets": ("attn.qkv[]",)}, r"targets must be .*, not \('attn.qkv\[\]',\)"),
    (LoRAConfig, {"modules_to_save": "head"}, "modules_to_save must be a sequence of module names, not 'head'"),
    (LoRAConfig, {"modules_to_save": ("head", "")}, r"must be a sequence of module names, not \('head', ''\)"),
    (LoRAConfig, {"init_std": "small"}, "init_std must be a number or None, not 'small'"),
    (LoRAConfig, {"init_std": 0}, "init_std = 0 is out of range: allowed is above 0 to 1"),
    (LoRAConfig, {"blocks": (4, 4)}, r"blocks must be two rising whole numbers, the second not .*, not \(4, 4\)"),
    (LoRAConfig, {"blocks": 4}, "blocks must be two rising whole numbers"),
    (LoRAConfig, {"blocks": (0, True)}, "blocks must be two rising whole numbers"),
    (LoRAConfig, {"blocks": (0, 1, 2)}, "blocks must be two rising whole numbers"),
    (LoRAConfig, {"blocks": (-1, 2)}, r"blocks must be two rising whole numbers, .*, not \(-1, 2\)"),
]


@pytest.mark.parametrize(("made", "setting", "message"), REFUSED)
def test_what_is_not_allowed_is_refused_in_one_sentence(made, setting, message):
    with pytest.raises(ConfigError, match=message) as caught:
        made(**setting)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("made", SETTINGS)
def test_every_setting_is_checked_and_named(made):
    for field in fields(made):
        with pytest.raises(ConfigError, match=rf"\b{field.name}\b"):
            made(**{field.name: object()})


def test_a_notebook_that_lacks_a_parameter_is_refused():
    with pytest.raises(ConfigError, match="the parameters cell lacks rank"):
        from_notebook({k: v for k, v in vars(StudyConfig()).items() if k != "rank"})


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
    assert config.to_dict() == {name: value for name, value in settings.items() if name not in NAMED_IF_CHANGED}
    changed = {"micro_batch": 8, "checkpointing": True, "image_size": 96, "validate_every": 2}
    saving = replace(config, **changed)
    assert saving.to_dict() == settings | changed
    assert TrainConfig(**saving.to_dict()) == saving


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


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "Settings: those of profile 'demo'."),
        ({"lr": 1e-3, "rank": 4}, "Profile 'demo', but: lr 0.001 (0.0004), rank 4 (12)."),
        ({"profile": "mine"}, "Profile 'mine', a study of your own, as 'demo'."),
        (
            {"profile": "mine", "rank": 3},
            "Profile 'mine', a study of your own; it differs from 'demo' by: rank 3 (12).",
        ),
        ({"weights": str(PROJECT_ROOT / "README.md")}, "Profile 'demo', but: weights 'README.md' ('bundled')."),
        ({"runs_dir": "elsewhere"}, "Settings: those of profile 'demo'."),
    ],
)
def test_a_notebook_says_what_differs_from_its_profile(settings, words, capsys):
    namespace = asdict(StudyConfig()) | settings
    from_notebook(namespace)
    assert capsys.readouterr().out == words + "\n"
