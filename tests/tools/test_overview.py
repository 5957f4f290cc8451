"""README's first screen: one row per method, whatever sweeps are kept."""

import shutil
from functools import partial

import pandas as pd
import pytest

from tools import overview
from tools.overview import answer_markdown, best_rates, overview_markdown
from woofkit.files import RESULTS


@pytest.fixture
def kept(tmp_path):
    """The tables of two worlds, with a sweep over more drawings of fewer pixels beside the kept ones."""
    for name in ("sweep_rigor-small.csv", "sweep_imagewoof.csv", "imagewoof_clean.csv"):
        shutil.copyfile(RESULTS / name, tmp_path / name)
    confirm = pd.read_csv(RESULTS / "sweep_rigor-small.csv").query("grid == 'seeds-best-lr'")
    confirm = confirm.assign(num_train_images=2270, other="image_size 96; num_train 2270", test_accuracy=0.5)
    confirm.loc[confirm["method"] == "full", "trainable_parameters"] = 5_495_626  # fewer positions
    confirm.to_csv(tmp_path / "sweep_confirm.csv", index=False)
    return tmp_path


def test_two_sweeps_over_images_of_other_sizes_are_one_row_per_method(kept, monkeypatch):
    lines = overview_markdown(kept).splitlines()
    assert [line.split(" | ")[0] for line in lines[2:7]] == [
        "| zero-shot",
        "| linear probe",
        "| BitFit",
        "| full fine-tuning",
        "| LoRA",
    ]
    assert "| 5,495,626 or 5,526,346 | 50.0% (" in lines[5]
    assert lines[-1].endswith(
        "on 2,270 drawings at 96 pixels (3 seeds) and on 8,687 photographs at 160 pixels (1 seed)."
    )
    monkeypatch.setattr(overview, "best_rates", partial(best_rates, folder=kept))
    monkeypatch.setattr(overview, "kept_effects", lambda dataset: {})
    assert "on drawings LoRA has 50.0% and full fine-tuning has 50.0% (3 seeds: not tested)" in answer_markdown()


def test_lora_on_all_layers_is_a_method_of_its_own_and_other_ranks_are_not_shown(kept):
    table = pd.read_csv(kept / "sweep_confirm.csv")
    lora = table[table["method"] == "lora"]
    layers = lora.assign(grid="seeds-all-layers", rank=4, test_accuracy=0.7)
    layers["targets"] = "['attn.qkv', 'attn.proj', 'mlp.fc1', 'mlp.fc2']"
    pd.concat([table, layers, lora.assign(grid="rank-1", rank=1)]).to_csv(kept / "sweep_confirm.csv", index=False)
    rows = overview_markdown(kept).splitlines()[2:-2]
    assert [row.split(" | ")[0] for row in rows[-2:]] == ["| LoRA", "| LoRA on all layers"]
    assert " 70.0% (" in rows[-1]


def test_zero_shot_is_the_sweeps_own_and_of_no_other_size(kept):
    assert best_rates("imagewoof", kept).loc["zero-shot", "accuracy"] == 0.898  # of the profile clean
    runs = pd.read_csv(kept / "sweep_imagewoof.csv").query("grid == 'full-best-lr'")
    larger = runs.assign(grid="seeds-best-lr", other="image_variant 320", date="2027-01-01")
    larger.to_csv(kept / "sweep_photographs.csv", index=False)
    assert "zero-shot" not in best_rates("imagewoof", kept).index
    zero = larger.head(1).assign(method="zero-shot", test_accuracy=0.97, trainable_parameters=0, num_train_images=None)
    pd.concat([larger, zero]).to_csv(kept / "sweep_photographs.csv", index=False)
    table = best_rates("imagewoof", kept)
    assert table.loc["zero-shot", "accuracy"] == 0.97
    assert table.index.is_unique
