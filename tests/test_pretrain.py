"""Pretraining: the schedule, batches that depend on their number alone, a resumed run equal to an unbroken one."""

from dataclasses import asdict

import numpy as np
import pytest
import torch
from safetensors import safe_open

from woofkit.config import ConfigError
from woofkit.pretrain import Recipe, Stage, accuracies, files, main, train, training
from woofkit.pretrain.recipe import lr_at, make_batch, progress_of, trait_table
from woofkit.sketch import BREEDS, breed_traits, litter

TINY = Recipe(
    num_breeds=5, stages=(Stage(32, 16, 40), Stage(48, 8, 64)), drawings=((40, 20), (64, 20)), num_val=10, batch_size=4
)


@pytest.fixture
def pictures():
    rng = np.random.default_rng(0)
    return {size: rng.integers(0, 255, (number, size, size, 3), np.uint8) for size, number in TINY.drawings}


def test_the_learning_rate_warms_up_to_its_peak_and_falls_to_zero():
    recipe = Recipe()
    rates = [lr_at(recipe, p) for p in np.linspace(0, 1, 201)]
    assert max(rates) == pytest.approx(recipe.lr, rel=0.03)
    assert np.argmax(rates) == pytest.approx(200 * recipe.warmup, abs=1)
    assert rates[-1] == pytest.approx(0)


def test_progress_counts_pixels():
    assert progress_of(TINY, [0, 0]) == 0
    assert progress_of(TINY, [16, 8]) == 1
    assert progress_of(TINY, [16, 0]) == pytest.approx(16 * 32**2 / (16 * 32**2 + 8 * 48**2))


def test_a_batch_depends_on_its_number_alone(pictures):
    stage = TINY.stages[0]
    one, which = make_batch(pictures[40], stage, TINY, step=2)
    same, _ = make_batch(pictures[40], stage, TINY, step=2)
    other, _ = make_batch(pictures[40], stage, TINY, step=7)
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert one.shape == (4, 3, 32, 32)
    assert one.min() >= -1
    assert one.max() <= 1
    assert len(set(which)) == 4


def test_an_epoch_shows_every_picture_once(pictures):
    seen = [i for step in range(5) for i in make_batch(pictures[40], TINY.stages[0], TINY, step)[1]]
    assert sorted(seen) == list(range(20))


def test_traits_become_numbers_from_0_to_1_that_tell_the_breeds_apart():
    table = trait_table([breed_traits(name) for name in BREEDS])
    assert table.min() >= 0
    assert table.max() <= 1
    assert len({tuple(row) for row in table.tolist()}) == 10


def test_a_resumed_run_equals_an_unbroken_one(pictures, tmp_path, monkeypatch):
    traits = trait_table(litter(5, 0))
    whole, log = train(TINY, pictures, traits, minutes=5, state_path=tmp_path / "whole.pt")
    assert log["seen"] == [16, 8]

    calls = []

    def breaks_at_the_sixth(*arguments):
        calls.append(1)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return make_batch(*arguments)

    monkeypatch.setattr(training, "SAVE_SECONDS", -1)
    monkeypatch.setattr(training, "make_batch", breaks_at_the_sixth)
    with pytest.raises(KeyboardInterrupt):
        train(TINY, pictures, traits, minutes=5, state_path=tmp_path / "broken.pt")
    resumed, log = train(TINY, pictures, traits, minutes=5, state_path=tmp_path / "broken.pt")
    assert log["seen"] == [16, 8]
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name


def test_weights_are_written_in_half_precision_with_their_transform(pictures, tmp_path):
    model, _ = train(TINY, pictures, trait_table(litter(5, 0)), minutes=0.0001, state_path=tmp_path / "s.pt")
    path = tmp_path / "model.safetensors"
    digest = files.write_weights(model, path, 5)
    assert (tmp_path / "model.safetensors.sha256").read_text() == f"{digest}  model.safetensors\n"
    with safe_open(path, "pt") as file:
        assert file.metadata()["num_classes"] == "5"
        assert file.get_tensor("head.weight").dtype == torch.float16
        assert set(file.keys()) == set(model.state_dict())
    assert files.write_weights(model, path, 5) == digest  # the same weights are the same bytes


def test_accuracy_counts_named_breeds(pictures):
    class Constant(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.bias = torch.nn.Parameter(torch.tensor([0.0, 0.0, 1.0, 0.0, 0.0]))

        def forward(self, images):
            return self.bias.repeat(len(images), 1)

    assert accuracies(Constant(), pictures[40], num_breeds=5) == {"top1": 0.2, "top5": 1.0, "family": 0.8}


def test_drawings_are_made_once(tmp_path):
    first = files.draw_cache(tmp_path, litter(2, 0), seed=9, size=16, number=4, workers=1)
    assert first.shape == (4, 16, 16, 3)
    stamp = next(tmp_path.glob("*.npy")).stat().st_mtime_ns
    again = files.draw_cache(tmp_path, litter(2, 0), seed=9, size=16, number=4, workers=1)
    assert next(tmp_path.glob("*.npy")).stat().st_mtime_ns == stamp
    assert np.array_equal(first, again)


def test_scaling_keeps_the_recipe():
    assert Recipe().scaled(1) == Recipe()
    assert {k: v for k, v in asdict(Recipe().scaled(0.1)).items() if k not in ("stages", "drawings", "num_val")} == {
        k: v for k, v in asdict(Recipe()).items() if k not in ("stages", "drawings", "num_val")
    }


def test_out_of_range_arguments_are_refused_before_any_drawing(tmp_path):
    with pytest.raises(ConfigError, match="--scale 0.0 is out of range: allowed is 0.0001 to 10"):
        main(["--scale", "0", "--cache", str(tmp_path / "cache")])
    assert not (tmp_path / "cache").exists()
