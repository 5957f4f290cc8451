"""The command that measures where a study's models look: whole, resumable, refused in words."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pandas as pd
import pytest

from woofkit import data
from woofkit.__main__ import main
from woofkit.claims.effects import Key, Quantity, attention_effects
from woofkit.claims.hypotheses import HYPOTHESES
from woofkit.claims.study import study_attention
from woofkit.config import ConfigError, StudyConfig
from woofkit.explain import study as attention_study
from woofkit.explain.maps import KINDS
from woofkit.tables.attention import measures_markdown, verdict_lines

SMALL = {
    "model_name": "test_vit",
    "weights": "random",
    "num_train": 20,
    "num_test": 20,
    "epochs": 1,
    "batch_size": 10,
    "image_size": 80,
}


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """A small study, measured once: (study, folder with the table, lines of progress, paths)."""
    root = tmp_path_factory.mktemp("attention")
    study = StudyConfig(**SMALL, profile="tiny", runs_dir=str(root / "runs"))
    lines = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data, "CACHE", root / "cache")
        patch.setitem(data.SKETCH_SIZES, "val", 10)
        paths = study_attention(study, num_dogs=10, num_seeds=2, folder=root / "results", log=lines.append)
    return study, root / "results", lines, paths


def test_the_table_has_every_model_map_and_measure_with_its_interval(measured):
    table = pd.read_csv(measured[3][0], keep_default_na=False)
    assert tuple(table.columns) == attention_study.COLUMNS
    assert set(table["first"]) == {"original", "full", "lora"}
    assert set(table["map"]) == {"attention", "rollout", "relevance", "random", "centre", ""}
    assert (table["low"] <= table["value"] + 1e-9).all()
    assert (table["value"] <= table["high"] + 1e-9).all()
    keys = ["first", "second", "map", "quantity"]
    assert not table.duplicated(keys).any()
    rows = table.set_index(keys)["value"]
    for kind in ("attention", "rollout", "relevance"):
        difference = rows["lora", "full", kind, "share on the dog"]
        assert difference == pytest.approx(
            rows["lora", "", kind, "share on the dog"] - rows["full", "", kind, "share on the dog"], abs=2e-5
        )
    assert rows["original", "", "", "divergence"] == 0  # it has not moved from itself
    assert rows["original", "", "attention", "correlation with the original's"] == pytest.approx(1, abs=1e-4)
    assert rows["full", "", "", "divergence"] > 0
    stages = {measure for measure in table["quantity"] if measure.startswith("likeness, shuffled down to")}
    assert len(stages) == 6 + 2  # blocks, head, embedding
    assert rows["lora", "", "attention", "likeness, shuffled down to head"] == pytest.approx(1)


def test_every_key_that_is_asked_of_maps_is_measured(measured):
    made = attention_effects(pd.read_csv(measured[3][0], keep_default_na=False))
    keys = {condition.key for hypothesis in HYPOTHESES for condition in hypothesis.conditions}
    asked = {key for key in keys if key.setting in KINDS}
    assert asked
    assert asked <= made.keys()
    others = {key._replace(setting=kind) for key in asked for kind in KINDS}  # the other kinds are asked of too
    assert others <= made.keys()


def test_two_seeds_are_trained_of_each_method_and_one_of_the_original(measured):
    study, _, _, (table, verdicts) = measured
    runs = sorted(path.parent.name.rsplit("-", 1)[0] for path in study.run_root.glob("*/metrics.json"))
    assert runs == ["full-r0-s0", "full-r0-s1", "lora-r12-s0", "lora-r12-s1", "probe-r0-s0"]
    rows = pd.read_csv(table, keep_default_na=False)
    shares = rows[(rows["quantity"] == "share on the dog") & (rows["map"] == "rollout") & (rows["second"] == "")]
    seeds = {row.first: len(row.by_seed.split()) for row in shares.itertuples()}
    assert seeds == {"original": 1, "full": 2, "lora": 2}
    record = json.loads(verdicts.read_text())
    assert record["settings"]["dogs"] == 10
    assert set(record["verdicts"]) == {"C5", "C6"}
    condition = record["verdicts"]["C6"]["rollout"]["conditions"][0]
    assert [condition[name] for name in Key._fields] == [Quantity.NO_DOG, "full", "", "rollout", ""]


def test_what_is_measured_is_not_measured_again(measured, monkeypatch):
    monkeypatch.setitem(data.SKETCH_SIZES, "val", 10)
    study, folder, _, (table, _) = measured
    before = table.read_bytes()
    monkeypatch.setattr(attention_study, "measure_model", lambda *_, **__: pytest.fail("measured again"))
    lines = []
    study_attention(study, num_dogs=10, num_seeds=2, folder=folder, log=lines.append)
    assert table.read_bytes() == before
    assert sum("found measured in" in line for line in lines) == 5


def test_other_dogs_are_measured_anew(measured, monkeypatch, tmp_path):
    def refuse(*_, **__):
        raise KeyError("measured anew")

    monkeypatch.setitem(data.SKETCH_SIZES, "val", 10)
    monkeypatch.setattr(attention_study, "measure_model", refuse)
    with pytest.raises(KeyError, match="measured anew"):
        study_attention(measured[0], num_dogs=12, num_seeds=1, folder=tmp_path, log=lambda _: None)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--dogs", "21"], "dogs = 21 is out of range: allowed is from 10 to 20"),
        (["--dogs", "9"], "dogs = 9 is out of range"),
        (["--seeds", "0"], "seeds = 0 is out of range"),
        (["-p", "rnak", "3"], "unknown parameter 'rnak'"),
    ],
)
def test_bad_options_are_refused_before_anything_is_trained(options, message, tmp_path, capsys):
    settings = [part for name, value in (SMALL | {"runs_dir": tmp_path}).items() for part in ("-p", name, str(value))]
    assert main(["attention", *settings, *options]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.long
def test_pictures_without_masks_are_measured_without_verdicts_on_parts(measured, monkeypatch, tmp_path):
    monkeypatch.setitem(data.SKETCH_SIZES, "val", 10)
    load = attention_study.load_dogs
    monkeypatch.setattr(attention_study, "load_dogs", lambda *given: replace(load(*given), masks=None))
    table, verdicts = study_attention(measured[0], num_dogs=10, num_seeds=1, folder=tmp_path, log=lambda _: None)
    measures = set(pd.read_csv(table)["quantity"])
    assert {"divergence", "area under deletion", "density in the corners"} <= measures
    assert not [measure for measure in measures if "density on" in measure or "share" in measure]
    record = json.loads(verdicts.read_text())
    assert record["verdicts"] == {}
    assert verdict_lines(record) == ["Photographs have no masks, so the claims cannot be judged."]
    assert "of each kind" in measures_markdown(record, pd.read_csv(table))


def test_other_weights_of_a_run_are_measured_anew(measured):
    study, _, _, _ = measured
    run = next(study.run_root.glob("full-r0-s1-*"))
    dogs = SimpleNamespace(dataset=SimpleNamespace(fingerprint=lambda: "print"), masks=None)
    before = attention_study._digest(dogs, run, run, True, "fp32")
    weights = run / "model.safetensors"
    kept = weights.read_bytes()
    try:
        weights.write_bytes(kept[:-1] + bytes([kept[-1] ^ 1]))
        assert attention_study._digest(dogs, run, run, True, "fp32") != before
    finally:
        weights.write_bytes(kept)
    assert attention_study._digest(dogs, run, run, True, "fp32") == before
    assert attention_study._digest(dogs, run, run, False, "fp32") != before


def test_a_model_whose_head_reads_no_class_token_is_refused_before_it_is_trained(tmp_path):
    small = {**SMALL, "model_name": "vit_tiny_patch16_224", "runs_dir": str(tmp_path)}
    study = StudyConfig(**small)
    build = attention_study.build_for

    def averaging(config):
        model = build(config)
        model.global_pool = "avg"
        return model

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attention_study, "build_for", averaging)
        with pytest.raises(ConfigError, match="its head reads all patches \\('avg'\\), not CLS"):
            study_attention(study, num_dogs=10, log=lambda _: None)
    assert not list(tmp_path.iterdir())


def test_config_error_names_the_most_dogs():
    with pytest.raises(ConfigError, match="allowed is from 10 to 20"):
        study_attention(StudyConfig(**SMALL), num_dogs=500, log=lambda _: None)
