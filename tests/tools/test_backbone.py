"""The pretraining of the backbone: its schedule, its batches, and a resumed run that equals an unbroken one."""

import json
import multiprocessing.dummy
from dataclasses import asdict
from functools import partial

import numpy as np
import pytest
import timm
import torch
from safetensors import safe_open

from tools.backbone import drawings, training
from tools.backbone.__main__ import main
from tools.backbone.batches import SAMPLES, make_batch, part_shares
from tools.backbone.drawings import DrawingCache, draw_cache
from tools.backbone.recipe import Recipe, Stage, lr_at, progress_of
from tools.backbone.tasks import accuracies, new_heads, trait_table
from tools.backbone.training import make_optimizers, new_model, train
from tools.backbone.weights import write_weights
from woofkit.files import write_json
from woofkit.sketch import litter
from woofkit.sketch.breeds import BREEDS, breed_traits
from woofkit.sketch.layers import PARTS

STAGES = (Stage(32, 16, 40), Stage(48, 8, 64))
LITTER, SMALL = litter(2, 0), {"seed": 9, "size": 16, "workers": 1}
TINY = Recipe(num_breeds=5, stages=STAGES, drawings=((40, 20), (64, 20)), num_val=10, batch_size=4)


@pytest.fixture
def caches():
    rng, made = np.random.default_rng(0), {}
    for size, number in TINY.drawings:
        images = rng.integers(0, 255, (number, size, size, 3), np.uint8)
        masks = rng.integers(0, len(PARTS), (number, size, size), np.uint8)
        made[size] = DrawingCache(images, masks, seconds=0.0)
    return made


@pytest.fixture
def one_block(monkeypatch):
    """Models of one block: Muon computes in bf16, which many CPUs only emulate."""
    monkeypatch.setattr(training.timm, "create_model", partial(timm.create_model, depth=1))


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


@pytest.mark.parametrize("stage", TINY.stages)
def test_a_batch_depends_on_its_number_alone(caches, stage):
    one = make_batch(caches[stage.drawn], stage, TINY, step=2)
    same = make_batch(caches[stage.drawn], stage, TINY, step=2)
    other = make_batch(caches[stage.drawn], stage, TINY, step=7)
    assert torch.equal(one.images, same.images)
    assert torch.equal(one.parts, same.parts)
    assert not torch.equal(one.images, other.images)
    assert one.images.shape == (4, 3, stage.size, stage.size)
    assert one.images.min() >= -1
    assert one.images.max() <= 1
    assert one.parts.shape == (4, (stage.size // 16) ** 2, len(PARTS))
    assert len(set(one.drawings)) == 4


def test_part_shares_are_counted_patch_by_patch():
    mask = torch.zeros(1, 2 * SAMPLES, 2 * SAMPLES, dtype=torch.uint8)
    mask[0, :SAMPLES, SAMPLES:] = PARTS.index("tail")  # all of the upper right patch
    mask[0, SAMPLES : SAMPLES + SAMPLES // 2, :SAMPLES] = PARTS.index("head")  # half of the lower left one
    shares = part_shares(mask)[0]
    assert shares.sum(1).tolist() == [1, 1, 1, 1]
    assert shares[:, PARTS.index("background")].tolist() == [1, 0, 0.5, 1]
    assert shares[1, PARTS.index("tail")] == 1
    assert shares[2, PARTS.index("head")] == 0.5


@pytest.mark.parametrize("stage", TINY.stages)
def test_the_parts_are_cut_and_flipped_with_the_picture(stage):
    rng = np.random.default_rng(0)
    dog = rng.integers(0, 2, (20, 4, 4), np.uint8).repeat(stage.drawn // 4, 1).repeat(stage.drawn // 4, 2)
    cache = DrawingCache(np.stack([255 * dog] * 3, axis=3), dog, seconds=0.0)
    batch = make_batch(cache, stage, TINY, step=0)
    # The picture is white where the dog is, so that a patch's brightness is its share of dog, but for the tint.
    brightness = (batch.images.unfold(2, 16, 16).unfold(3, 16, 16).mean((1, 4, 5)) + 1) / 2
    assert torch.allclose(brightness.flatten(1), batch.parts[:, :, 1], atol=0.12)


def test_an_epoch_shows_every_picture_once(caches):
    seen = [i for step in range(5) for i in make_batch(caches[40], TINY.stages[0], TINY, step).drawings]
    assert sorted(seen) == list(range(20))


def test_traits_become_numbers_from_0_to_1_that_tell_the_breeds_apart():
    table = trait_table([breed_traits(name) for name in BREEDS])
    assert table.min() >= 0
    assert table.max() <= 1
    assert len({tuple(row) for row in table.tolist()}) == 10


@pytest.mark.long
def test_a_resumed_run_equals_an_unbroken_one(caches, one_block, tmp_path, monkeypatch):
    traits = trait_table(litter(5, 0))
    whole, log = train(TINY, caches, traits, minutes=60, state_path=tmp_path / "whole.pt")
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
        train(TINY, caches, traits, minutes=60, state_path=tmp_path / "broken.pt")
    resumed, log = train(TINY, caches, traits, minutes=60, state_path=tmp_path / "broken.pt")
    assert log["seen"] == [16, 8]
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name


def test_weights_are_written_in_half_precision_with_their_transform(caches, one_block, tmp_path):
    model, _ = train(TINY, caches, trait_table(litter(5, 0)), minutes=0.0001, state_path=tmp_path / "s.pt")
    path = tmp_path / "model.safetensors"
    digest = write_weights(model, path, 5)
    assert (tmp_path / "model.safetensors.sha256").read_text() == f"{digest}  model.safetensors\n"
    with safe_open(path, "pt") as file:
        assert file.metadata()["num_classes"] == "5"
        assert file.get_tensor("head.weight").dtype == torch.float16
        assert set(file.keys()) == set(model.state_dict())
    assert write_weights(model, path, 5) == digest  # the same weights are the same bytes


def test_accuracy_counts_named_breeds(caches):
    class Constant(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.bias = torch.nn.Parameter(torch.tensor([0.0, 0.0, 1.0, 0.0, 0.0]))

        def forward(self, images):
            return self.bias.repeat(len(images), 1)

    assert accuracies(Constant(), caches[40].images, num_breeds=5) == {"top1": 0.2, "top5": 1.0, "family": 0.8}


def test_drawings_are_made_once(tmp_path):
    first = draw_cache(tmp_path, LITTER, **SMALL, number=4)
    assert first.images.shape == (4, 16, 16, 3)
    assert first.masks.shape == (4, 16, 16)
    assert 0 < first.masks.max() < len(PARTS)
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    again = draw_cache(tmp_path, LITTER, **SMALL, number=4)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == stamps
    assert np.array_equal(first.images, again.images)
    assert again.seconds == first.seconds > 0


def test_interrupted_drawing_goes_on_and_gives_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(drawings, "get_context", lambda _: multiprocessing.dummy)  # threads start at once
    whole = draw_cache(tmp_path / "whole", LITTER, **SMALL, number=6)

    def breaks_after_four(path, content):
        write_json(path, content)
        if content["drawn"] == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(drawings, "SAVE_DRAWINGS", 2)
    monkeypatch.setattr(drawings, "write_json", breaks_after_four)
    with pytest.raises(KeyboardInterrupt):
        draw_cache(tmp_path / "broken", LITTER, **SMALL, number=6)
    note = next((tmp_path / "broken").glob("*.json"))
    early = json.loads(note.read_text())
    resumed = draw_cache(tmp_path / "broken", LITTER, **SMALL, number=6)
    assert early["drawn"] == 4
    assert resumed.seconds > early["seconds"]
    assert np.array_equal(whole.images, resumed.images)
    assert np.array_equal(whole.masks, resumed.masks)


def test_every_parameter_has_one_optimizer():
    model = new_model(TINY)
    heads = new_heads(model.num_features, 3)
    trained = [p for o in make_optimizers(TINY, model, heads) for group in o.param_groups for p in group["params"]]
    assert sorted(map(id, trained)) == sorted(map(id, [*model.parameters(), *heads.parameters()]))


def test_scaling_keeps_the_recipe():
    assert Recipe().scaled(1) == Recipe()
    scaled, whole = asdict(Recipe().scaled(0.1)), asdict(Recipe())
    assert {name for name in whole if scaled[name] != whole[name]} <= {"stages", "drawings", "num_val"}


def test_out_of_range_arguments_are_refused_before_any_drawing(tmp_path, capsys):
    assert main(["--scale", "0", "--cache", str(tmp_path / "cache")]) == 2
    assert capsys.readouterr().err == "error: --scale 0.0 is out of range: allowed is 0.0001 to 10\n"
    assert not (tmp_path / "cache").exists()
