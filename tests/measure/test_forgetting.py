"""Laws of forgetting: what nothing has touched is kept, and what is measured is what a reader would count."""

from dataclasses import replace
from unittest.mock import create_autospec

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn

from helpers import noise, tiny_vit, trained_lora, transform_for
from woofkit import data, sketch
from woofkit.config import ConfigError, StudyConfig
from woofkit.fast.runtime import Runtime
from woofkit.measure import forgetting_study, source_tasks
from woofkit.measure.forgetting import (
    forgetting_rows,
    hits_path,
    kept_hits,
    neighbour_votes,
    pooled_features,
    source_hits,
)
from woofkit.measure.forgetting_study import forgetting_by_setting, kept_forgetting, repeated_settings, study_forgetting
from woofkit.measure.source_tasks import SourceTask, load_source_task
from woofkit.progress import Monitor
from woofkit.tables.forgetting import forgetting_markdown
from woofkit.train import run_training


def task(num=12, classes=(0, 1, 2), size=32):
    images = noise(num, size)
    labels = np.arange(num) % len(classes)
    return SourceTask(images.pixels, labels, images.transform, nn.Linear(48, 10), classes, "toy", "print")


def test_the_head_is_put_back_on_the_features_that_the_model_has_now():
    model, toy = tiny_vit(), task(classes=tuple(range(10)))
    with torch.no_grad():
        logits = model(toy.transform.normalize(toy.pixels))
        torch.testing.assert_close(model.head(pooled_features(model, toy, Runtime())), logits)
    toy = replace(toy, labels=logits.argmax(1).numpy(), head=model.head)  # what it knew
    model.reset_classifier(3)  # a new task, a new head
    assert source_hits(model, toy, Runtime())["head"].all()
    assert "restricted" not in source_hits(model, toy, Runtime())
    assert not source_hits(trained_lora(tiny_vit()), toy, Runtime())["head"].all()


def test_the_choice_among_the_tasks_classes_is_the_easier_one():
    hits = source_hits(tiny_vit(), task(num=60), Runtime())
    assert set(hits) == {"head", "restricted", "knn"}
    assert hits["restricted"][hits["head"]].all()
    assert hits["restricted"].sum() > hits["head"].sum()


def test_neighbours_vote_by_nearness_and_never_for_themselves():
    angles = torch.tensor([0.0, 0.1, 0.2, 3.0, 3.1, 1.4])
    features = torch.stack([angles.cos(), angles.sin()], dim=1) * torch.arange(1, 7)[:, None]  # length does not count
    labels = np.array([0, 0, 0, 1, 1, 1])
    # the last one lies nearer to the first three; its own label does not help it
    assert neighbour_votes(features, labels, neighbours=3).tolist() == [0, 0, 0, 1, 1, 0]
    assert neighbour_votes(features, labels, neighbours=1).tolist() == [0, 0, 0, 1, 1, 0]
    with pytest.raises(ValueError, match="6 features and 6 labels for 6 neighbours"):
        neighbour_votes(features, labels, neighbours=6)


def test_changes_are_paired_and_have_intervals():
    before = pd.DataFrame({"head": [True] * 80 + [False] * 20})
    after = pd.DataFrame({"head": [True] * 60 + [False] * 40})
    row = forgetting_rows(after, before)
    assert row["head"] == pytest.approx(0.6)
    assert row["head_change"] == pytest.approx(-0.2)
    assert row["head_change_low"] < -0.2 < row["head_change_high"] < 0
    assert forgetting_rows(before, before)["head_change_high"] == 0


def test_a_kept_measurement_is_read_and_the_model_not_even_loaded(tmp_path):
    toy, path = task(), tmp_path / "forgetting" / "run.parquet"
    first = kept_hits(path, tiny_vit, toy, Runtime())
    again = kept_hits(path, lambda: pytest.fail("loaded again"), toy, Runtime())
    assert again.equals(first)
    assert hits_path(tmp_path, "run", toy) != hits_path(tmp_path, "run", replace(toy, fingerprint="other print"))
    run = tmp_path / "run"
    run.mkdir()
    (run / "model.safetensors").write_bytes(b"one")
    before = hits_path(tmp_path, "run", toy, run)
    (run / "model.safetensors").write_bytes(b"two")
    assert hits_path(tmp_path, "run", toy, run) != before


# --- the earlier tasks ---


def test_litter_drawings_are_of_no_other_stream_and_carry_their_breed(monkeypatch):
    assert source_tasks.SOURCE_SEED not in {1, 3, *range(1000, 2000), 7_000_001, 7_000_002}
    monkeypatch.setattr(source_tasks, "LITTER_BREEDS", 4)
    monkeypatch.setattr(source_tasks, "_litter", lambda: sketch.litter(4, 20260))
    litter = load_source_task(nn.Linear(1, 4), transform_for(32), num_drawings=8, log=lambda _: None)
    assert litter.labels.tolist() == [0, 1, 2, 3, 0, 1, 2, 3]
    assert litter.pixels.shape == (8, 3, 32, 32)
    others = load_source_task(nn.Linear(1, 4), transform_for(32), num_drawings=8, start=6, log=lambda _: None)
    assert others.labels.tolist() == [2, 3, 0, 1, 2, 3, 0, 1]
    assert torch.equal(others.pixels[0], litter.pixels[6])
    assert others.fingerprint != litter.fingerprint
    breed = sketch.litter(4, 20260)[1]
    drawn = sketch.draw_dog(breed, seed=source_tasks.SOURCE_SEED, index=5, size=32).image
    assert torch.equal(litter.pixels[5], torch.from_numpy(drawn).permute(2, 0, 1))


def test_imagenette_is_found_with_imagenets_positions(tmp_path):
    for wnid in (source_tasks.WNIDS[0], source_tasks.WNIDS[3]):
        folder = tmp_path / "imagenette2-160-mini" / "val" / wnid
        folder.mkdir(parents=True)
        Image.new("RGB", (40, 32), "red").save(folder / f"{wnid}_1.JPEG")
    for place in (tmp_path, tmp_path / "imagenette2-160-mini"):
        found = load_source_task(nn.Linear(1, 1000), transform_for(32), str(place), log=lambda _: None)
        assert found.labels.tolist() == [0, 491]
        assert found.classes == source_tasks.POSITIONS


def test_an_unknown_head_and_a_folder_without_images_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"head of 37 classes .* allowed are 200 .* and 1,000"):
        load_source_task(nn.Linear(1, 37), transform_for(32))
    imagenet = nn.Linear(1, 1000)
    with pytest.raises(ConfigError, match=r"has no val/: allowed is a folder with Imagenette's"):
        load_source_task(imagenet, transform_for(32), str(tmp_path))
    (tmp_path / "val").mkdir()
    with pytest.raises(ConfigError, match=r"has no image val/<wnid>/\*\.JPEG"):
        load_source_task(imagenet, transform_for(32), str(tmp_path))
    with pytest.raises(ConfigError, match="num_drawings = 3 is out of range"):
        load_source_task(nn.Linear(1, 200), transform_for(32), num_drawings=3)


# --- a study ---


def test_a_study_shows_that_nothing_trained_is_nothing_forgotten(tmp_path, monkeypatch):
    monkeypatch.setitem(data.SKETCH_SIZES, "val", 10)
    monkeypatch.setattr(data, "CACHE", tmp_path / "cache")
    sizes = {"num_train": 20, "num_test": 20, "epochs": 1, "batch_size": 10, "lr": 1e-2}
    study = StudyConfig(**sizes, profile="tiny", runs_dir=str(tmp_path / "runs"))
    with pytest.raises(ConfigError, match="no finished run with weights 'bundled'"):
        study_forgetting(study, log=lambda _: None)
    for method in ("probe", "lora"):
        run_training(study.train_config(method), study.run_root, Monitor())
    small = task(num=20, classes=tuple(range(200)), size=224)
    found = create_autospec(load_source_task, side_effect=lambda head, *_, **__: replace(small, head=head))
    monkeypatch.setattr(forgetting_study, "load_source_task", found)
    table = pd.read_csv(study_forgetting(study, folder=tmp_path / "out", log=lambda _: None)).set_index("method")
    assert list(table.index) == ["untouched", "lora", "probe", "lora, switched off"]
    for method in ("probe", "lora, switched off"):
        assert table.loc[method, ["head_change", "knn_change"]].tolist() == [0, 0]
    assert table["num_source_images"].unique() == [20]
    text = forgetting_markdown(table.reset_index())
    assert "| lora, switched off | - | - |" in text
    assert "| linear probe | 0.01 |" in text
    assert text.count("+0.0 (+0.0 to +0.0) |") >= 3
    searched = pd.concat([table.reset_index(), *[table.reset_index().assign(label_fraction=0.25, epochs=9)] * 3])
    assert forgetting_markdown(searched) == text  # a search on a quarter of the images is not shown
    kept = sorted(path.name.split("-")[0] for path in (study.run_root / "forgetting").iterdir())
    assert kept == ["lora", "off", "probe", "untouched"]


def test_lines_of_settings_vary_one_thing_alone(tmp_path):
    layers, every = "['attn.qkv']", {"label_fraction": 1.0, "epochs": 5, "head": 0.6, "test_accuracy": 0.8}
    untouched = {"method": "untouched", "head": 0.9}
    full = [{"method": "full", "lr": lr, **every} for lr in (1e-4, 1e-3)]
    lora = [{"method": "lora", "lr": lr, "rank": 12, "targets": layers, **every} for lr in (1e-4, 4e-4, 1e-3)]
    ranks = [{"method": "lora", "lr": 4e-4, "rank": rank, "targets": layers, **every} for rank in (1, 64)]
    others = [lora[0] | {"targets": "['mlp.fc1']"}, full[0] | {"epochs": 20}, full[0] | {"label_fraction": 0.1}]
    table = pd.DataFrame([untouched, *full, *lora, *ranks, *others])
    table.to_csv(tmp_path / "forgetting_sketchwoof_rigor.csv", index=False)
    table.head(3).to_csv(tmp_path / "forgetting_sketchwoof_demo.csv", index=False)
    lines = forgetting_by_setting("sketchwoof", tmp_path)
    assert set(lines["untouched"]) == {0.9}
    by_lr, by_rank = lines[lines["line"] == "lr"], lines[lines["line"] == "rank"]
    assert list(by_lr["method"]) == ["full"] * 2 + ["lora"] * 3
    assert set(by_rank["lr"]) == {4e-4}
    assert sorted(by_rank["rank"]) == [1, 12, 64]
    assert forgetting_by_setting("imagewoof", tmp_path).empty


def test_each_rank_is_on_the_line_at_the_rate_of_most_of_its_runs(tmp_path):
    every = {"method": "lora", "targets": "['attn.qkv']", "label_fraction": 1.0, "epochs": 5, "head": 0.6}
    searched = [{"rank": 12, "lr": lr, "seed": seed} for lr in (1e-3, 3e-3, 1e-2) for seed in (0, 1, 2)]
    chosen = [{"rank": 12, "lr": lr, "seed": seed} for lr in (4e-4, 3e-3) for seed in range(10, 15)]
    others = [{"rank": rank, "lr": 1e-2, "seed": seed} for rank in (1, 64) for seed in range(10, 15)]
    rows = [every | {"test_accuracy": 0.8} | row for row in searched + chosen + others]
    pd.DataFrame([{"method": "untouched", "head": 0.9}, *rows]).to_csv(
        tmp_path / "forgetting_sketchwoof_a.csv", index=False
    )
    lines = forgetting_by_setting("sketchwoof", tmp_path).query("line == 'rank'")
    assert lines.groupby("rank")["lr"].agg(set).to_dict() == {1: {1e-2}, 12: {3e-3}, 64: {1e-2}}


def test_the_kept_table_with_most_seeds_counts_and_of_it_the_settings_with_many(tmp_path):
    every = {"method": "full", "lr": 1e-3, "head": 0.6, "test_accuracy": 0.8}
    tables = {"demo": (3, 500), "confirm": (3, 5000), "small": (1, 9000)}
    for name, (seeds, images) in tables.items():
        rows = [every | {"seed": seed, "num_test_images": images} for seed in range(seeds)]
        rows += [rows[0] | {"lr": 1e-2}]  # of a search
        table = pd.DataFrame([{"method": "untouched", "head": 0.9}, *rows])
        table.to_csv(tmp_path / f"forgetting_sketchwoof_{name}.csv", index=False)
    kept = kept_forgetting("sketchwoof", tmp_path)
    assert kept["num_test_images"].max() == 5000
    assert len(kept) == 5
    shown = repeated_settings(kept)
    assert list(shown["method"]) == ["untouched", *["full"] * 3]
    assert set(shown["lr"].dropna()) == {1e-3}
    assert repeated_settings(kept_forgetting("imagewoof", tmp_path)).empty


def test_other_ranks_and_layers_are_no_seeds():
    every = {
        "label_fraction": 1.0,
        "epochs": 5,
        "head": 0.6,
        "test_accuracy": 0.8,
        "lr": 4e-4,
        "blocks": np.nan,
        "head_change": -0.2,
        "head_change_low": -0.3,
        "head_change_high": -0.1,
        "num_source_images": 20,
        "source": "litter",
        "date": "2026-01-02",
        "machine": "a machine",
    }
    usual = {"method": "lora", "rank": 12.0, "targets": "['attn.qkv', 'attn.proj']", **every}
    rows = [
        {"method": "untouched", **every},
        *[usual] * 3,
        usual | {"rank": 1.0},
        usual | {"targets": "['mlp.fc1']"},
        usual | {"other": "batch_size 8"},
    ]
    lines = forgetting_markdown(pd.DataFrame(rows)).splitlines()[2:7]
    assert [line.split(" | ")[0] for line in lines] == [
        "| untouched",
        "| LoRA, 3 seeds",
        "| LoRA, rank 1",
        "| LoRA, targets mlp.fc1",
        "| LoRA, batch_size 8",
    ]
