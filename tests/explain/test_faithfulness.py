"""Laws of deletion, insertion and the sanity check, on models whose answer is known."""

import numpy as np
import pytest
import torch
from torch import nn

from helpers import images, noise, tiny_vit, trained_lora, transform_for
from woofkit.config import ConfigError
from woofkit.data import Images
from woofkit.explain.faithfulness import deletion_and_insertion, patch_ranks, rank_correlations, shuffled_models
from woofkit.explain.maps import BASELINES, KINDS, Explanations, baseline_maps, explain_images
from woofkit.fast.runtime import Runtime


class UpperLeft(nn.Module):
    """Sees only the upper left patch of 8 pixels: class 1 by as much as it is bright."""

    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(4.0))

    def forward(self, x):
        bright = self.gain * x[:, :, :8, :8].mean(dim=(1, 2, 3))
        return torch.stack([-bright, bright], dim=1)


def bright_corner():
    """One black picture, 32 pixels a side, with a white upper left patch."""
    pixels = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
    pixels[..., :8, :8] = 255
    return Images(pixels, None, transform_for(32))


def curves_of(maps, steps, images=None, model=None, asked=1):
    """Deletion and insertion in the order of these maps: name -> (N, height, width)."""
    images = images or bright_corner()
    explanations = Explanations(torch.zeros(1, 2), torch.tensor([asked]), maps)
    return deletion_and_insertion(model or UpperLeft(), images, explanations, Runtime(), steps)


def map_of(first):
    """A map (1, 4, 4) in which the upper left patch comes first, or last."""
    heat = torch.arange(16.0).view(1, 4, 4) + 1
    heat[0, 0, 0] = 99 if first else 0
    return heat


def test_a_map_that_knows_where_the_decision_hangs_is_told_from_one_that_does_not():
    curves = curves_of({"knows": map_of(True), "misses": map_of(False)}, steps=16)
    knows, misses = curves["knows"], curves["misses"]
    assert np.allclose(knows.shares, np.arange(17) / 16)
    # Deleted first, the patch is lost with the first step; deleted last, with the last.
    assert knows.deletion[0, 0] > 0.99
    assert (knows.deletion[0, 1:] < 0.1).all()
    assert (misses.deletion[0, :16] > 0.99).all()
    assert misses.deletion[0, 16] < 0.1
    # Given back first, it is there from the first step on.
    assert (knows.insertion[0, 1:] > 0.99).all()
    assert (misses.insertion[0, :16] < 0.99).all()
    assert misses.insertion[0, 16] == knows.insertion[0, 16] == knows.deletion[0, 0]
    for better, worse in (
        (knows.areas["insertion"], misses.areas["insertion"]),
        (misses.areas["deletion"], knows.areas["deletion"]),
    ):
        assert better[0] > worse[0] + 0.3


def test_the_area_is_the_mean_height_of_the_curve():
    curves = curves_of({"knows": map_of(True)}, steps=4)["knows"]
    for name, curve in (("deletion", curves.deletion[0]), ("insertion", curves.insertion[0])):
        expected = (curve[0] / 2 + curve[1:4].sum() + curve[4] / 2) / 4
        assert curves.areas[name][0] == pytest.approx(expected)


def test_deletion_takes_the_strongest_patches_and_leaves_the_others_as_they_are():
    seen = []

    class Watch(UpperLeft):
        def forward(self, x):
            seen.append(x.clone())
            return super().forward(x)

    picture = noise(1)
    curves_of({"m": map_of(True)}, 16, picture, Watch(), asked=0)
    whole, blank, blurred, *between = torch.cat(seen)
    assert torch.equal(whole, picture.transform.normalize(picture.pixels)[0])
    assert blank.flatten(1).std(dim=1).max() < 1e-6  # one colour, the mean
    torch.testing.assert_close(blank.mean(dim=(1, 2)), whole.mean(dim=(1, 2)), atol=0.01, rtol=0)
    deleted, inserted = between[0], between[15]  # after one step of sixteen: one patch
    assert torch.equal(deleted[:, :8, :8], blank[:, :8, :8])
    assert torch.equal(deleted[:, 8:], whole[:, 8:])
    assert torch.equal(deleted[:, :, 8:], whole[:, :, 8:])
    assert torch.equal(inserted[:, :8, :8], whole[:, :8, :8])
    assert torch.equal(inserted[:, 8:], blurred[:, 8:])
    assert blurred.std() < whole.std()


def test_ranks_start_at_the_strongest_and_equals_are_ordered_by_the_seed():
    assert patch_ranks(torch.tensor([[3.0, 1.0], [2.0, 9.0]])).tolist() == [[1, 3], [2, 0]]
    even = torch.ones(4, 4)
    assert sorted(patch_ranks(even, seed=0).flatten().tolist()) == list(range(16))
    assert torch.equal(patch_ranks(even, seed=0), patch_ranks(even, seed=0))
    assert not torch.equal(patch_ranks(even, seed=0), patch_ranks(even, seed=1))


def test_maps_that_do_not_fit_are_refused():
    for heat in (torch.ones(2, 4, 4), torch.ones(1, 5, 5)):
        with pytest.raises(ConfigError, match=r"maps 'odd' of shape .* do not fit images \(1, 3, 32, 32\)"):
            curves_of({"odd": heat}, steps=8)
    with pytest.raises(ConfigError, match="steps = 0 is out of range"):
        curves_of({"m": map_of(True)}, steps=0)


# --- the sanity check ---


def test_shuffling_goes_from_the_top_down_and_keeps_every_number():
    model = trained_lora(tiny_vit(depth=3))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    same = set(before)
    stages = []
    for stage, copy in shuffled_models(model):
        stages.append(stage)
        now = copy.state_dict()
        changed = {name for name in before if not torch.equal(before[name], now[name])}
        assert all(torch.equal(before[name].flatten().sort()[0], now[name].flatten().sort()[0]) for name in before)
        if stage == "block 3":
            assert changed
            assert all(name.startswith(("head", "norm", "blocks.2")) for name in changed)
        same -= changed
    assert stages == ["head", "block 3", "block 2", "block 1", "embedding"]
    constant = {name for name in before if before[name].unique().numel() == 1}  # shuffled, they stay what they are
    assert same <= constant
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_the_first_stage_leaves_attention_and_changes_relevance():
    model, shown = tiny_vit(depth=3), noise(2)
    before = explain_images(model, shown)
    _, headless = next(iter(shuffled_models(model)))
    after = explain_images(headless, shown, classes=before.classes)
    assert torch.equal(before.maps["attention"], after.maps["attention"])
    assert torch.equal(before.maps["rollout"], after.maps["rollout"])
    assert not torch.allclose(before.maps["relevance"], after.maps["relevance"])


def test_rank_correlation_equals_scipys():
    from scipy.stats import spearmanr

    first, second = images(3, 4, 4, seed=1), images(3, 4, 4, seed=2).round()  # with equal ranks
    expected = [spearmanr(a.flatten(), b.flatten()).statistic for a, b in zip(first, second, strict=True)]
    assert rank_correlations(first, second) == pytest.approx(expected)
    assert rank_correlations(first, first) == pytest.approx(np.ones(3))


# --- explanations ---


def test_explanations_hold_maps_in_even_shares_and_what_the_model_says():
    model, shown = tiny_vit(), noise(20)
    found = explain_images(model, shown)
    with torch.no_grad():
        torch.testing.assert_close(found.logits, model(shown.transform.normalize(shown.pixels)))
    assert torch.equal(found.classes, found.logits.argmax(1))
    assert tuple(found.maps) == tuple(KINDS)
    baselines = baseline_maps((4, 4), 20)
    assert tuple(baselines) == BASELINES
    for stack in (found.maps | baselines).values():
        assert stack.shape == (20, 4, 4)
        torch.testing.assert_close(stack.mean(dim=(1, 2)), torch.ones(20))
    assert not torch.equal(baselines["random"][0], baselines["random"][1])
    asked = explain_images(model, shown, classes=(found.classes + 1) % 10)
    assert torch.equal(asked.maps["attention"], found.maps["attention"])
    assert not torch.allclose(asked.maps["relevance"], found.maps["relevance"])


def test_explanations_of_an_unknown_kind_or_of_no_image_are_refused():
    with pytest.raises(ConfigError, match="unknown kind 'saliency': allowed are 'attention', 'rollout', 'relevance'"):
        explain_images(tiny_vit(), noise(1), kinds=("saliency",))
    with pytest.raises(ConfigError, match="no image"):
        explain_images(tiny_vit(), noise(0))
