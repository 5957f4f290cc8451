"""Laws of what attention is measured with: known answers on small maps, and nothing found where nothing is."""

import math

import pytest
import torch

from helpers import hook_count, images, noise, tiny_vit, trained_lora
from woofkit.attention import record_attention
from woofkit.explain.measures import (
    center_gaussian_map,
    corner_density,
    map_correlations,
    pointing_hits,
    random_map,
    region_densities,
    region_shares,
    shares_outside,
    to_shares,
)
from woofkit.explain.movement import (
    attention_distance,
    attention_entropy,
    jensen_shannon,
    measure_movement,
    measure_norms,
    token_norms,
)


def quarter_mask():
    """8 x 8 pixels on a 2 x 2 grid: part 1 is the upper left patch and half the upper right one, 2 the lower left."""
    mask = torch.zeros(1, 8, 8, dtype=torch.uint8)
    mask[0, :4, :6] = 1
    mask[0, 4:, :4] = 2
    return mask


MASK, HEAT = quarter_mask(), torch.tensor([[[4.0, 2.0], [1.0, 1.0]]])


# --- where a map lies ---


def test_shares_and_densities_worked_out_by_hand():
    mask = quarter_mask()
    # Patches 4, 2, 1, 1 of 8. Background: half of the second and the last.
    shares = [region_shares(HEAT, mask == part).item() for part in range(4)]
    assert shares == pytest.approx([(1 + 1) / 8, (4 + 1) / 8, 1 / 8, 0])
    densities = [region_densities(HEAT, mask == part).item() for part in range(3)]
    assert densities == pytest.approx([2 / 8 / (24 / 64), 5 / 8 / (24 / 64), 1 / 8 / (16 / 64)])
    assert region_densities(HEAT, mask > 0).item() == pytest.approx((6 / 8) / (40 / 64))  # both as one


def test_a_region_of_less_than_a_patch_has_no_density():
    mask = torch.zeros(1, 8, 8, dtype=torch.uint8)  # on a 2 x 2 grid, a patch has 16 pixels
    mask[0, 2:6, 2:6] = 1  # 16 pixels, in four patches
    mask[0, 0, :] = 2  # 8 pixels
    even = torch.ones(1, 2, 2)
    assert [region_densities(even, mask == part).isnan().item() for part in range(4)] == [False, False, True, True]


def test_an_even_map_has_density_one_everywhere():
    masks = torch.randint(0, 4, (5, 32, 32), generator=torch.Generator().manual_seed(0))
    for part in range(4):
        torch.testing.assert_close(region_densities(torch.full((5, 4, 4), 0.3), masks == part), torch.ones(5))


def test_only_patches_without_a_pixel_of_the_dog_lie_outside():
    mask = quarter_mask()
    assert shares_outside(HEAT, mask > 0).tolist() == [pytest.approx(1 / 8)]  # the lower right one
    mask[0, 7, 7] = 1
    assert shares_outside(HEAT, mask > 0).tolist() == [0]


def test_the_pointing_game_scores_the_strongest_patch():
    assert pointing_hits(HEAT, MASK == 1).tolist() == [1]
    assert pointing_hits(HEAT, MASK == 2).tolist() == [0]
    half = torch.tensor([[[0.0, 2.0], [1.0, 1.0]]])  # the upper right patch is half part 1, half background
    assert pointing_hits(half, MASK > 0).tolist() == [0.5]
    even = torch.ones(1, 2, 2)  # equals share the hit: the dog's share of the picture
    assert pointing_hits(even, MASK > 0).tolist() == [pytest.approx(40 / 64)]


def test_shares_sum_to_one_and_a_map_of_zeros_counts_as_even():
    assert torch.equal(to_shares(torch.tensor([[1.0, 3.0], [0.0, 4.0]])), torch.tensor([[0.125, 0.375], [0, 0.5]]))
    assert to_shares(torch.zeros(2, 3)).tolist() == [[pytest.approx(1 / 6)] * 3] * 2


def test_baselines_sum_to_one_and_the_centre_map_peaks_in_the_centre():
    for baseline in (random_map((3, 5), seed=0), center_gaussian_map((3, 5))):
        assert baseline.shape == (3, 5)
        assert baseline.sum() == pytest.approx(1)
    centre = center_gaussian_map((3, 5))
    assert centre.argmax() == 1 * 5 + 2
    torch.testing.assert_close(centre, centre.flip(0, 1))
    assert torch.equal(random_map((3, 5), seed=7), random_map((3, 5), seed=7))
    assert not torch.equal(random_map((3, 5), seed=7), random_map((3, 5), seed=8))


def test_correlation_of_maps():
    maps = images(3, 4, 5).abs()
    torch.testing.assert_close(map_correlations(maps, 3 * maps + 1), torch.ones(3))
    torch.testing.assert_close(map_correlations(maps, -maps), -torch.ones(3))
    expected = torch.stack(
        [torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1] for a, b in zip(maps, maps.flip(0), strict=True)]
    )
    torch.testing.assert_close(map_correlations(maps, maps.flip(0)), expected)
    with pytest.raises(ValueError, match="cannot be compared"):
        map_correlations(maps, maps[:2])


def test_corner_density_is_one_on_an_even_map():
    assert corner_density(torch.ones(4, 4)) == 1
    corners = torch.zeros(3, 3)
    corners[0, 0] = corners[2, 2] = 9.0
    assert corner_density(corners) == pytest.approx((18 / 4) / (18 / 9))


def test_measures_need_a_mask_for_each_map():
    for measure in (region_shares, region_densities, shares_outside, pointing_hits):
        with pytest.raises(ValueError, match="2 maps, but 1 masks"):
            measure(torch.ones(2, 2, 2), MASK > 0)


# --- how attention has moved ---


def attention_rows(*rows):
    """Attention (1, 1, 1, N, N) with the given rows."""
    return torch.tensor(rows)[None, None, None]


def test_divergence_is_0_for_equals_1_bit_for_strangers_and_symmetric():
    here, there = attention_rows([1.0, 0.0], [1.0, 0.0]), attention_rows([0.0, 1.0], [0.0, 1.0])
    assert jensen_shannon(here, here).item() == 0
    assert jensen_shannon(here, there).item() == pytest.approx(1)
    first, second = (images(2, 3, 4, 9, 9, seed=seed).softmax(-1) for seed in (1, 2))
    torch.testing.assert_close(jensen_shannon(first, second), jensen_shannon(second, first))
    assert jensen_shannon(first, second).shape == (2, 3, 4)
    # one row of two apart: half a bit
    assert jensen_shannon(here, attention_rows([1.0, 0.0], [0.0, 1.0])).item() == pytest.approx(0.5)


def test_divergence_equals_scipys():
    from scipy.spatial.distance import jensenshannon

    first, second = (images(1, 1, 1, 5, 5, seed=seed).double().softmax(-1) for seed in (1, 2))
    rows = zip(first[0, 0, 0].numpy(), second[0, 0, 0].numpy(), strict=True)
    expected = [jensenshannon(a, b, base=2) ** 2 for a, b in rows]
    assert jensen_shannon(first, second).item() == pytest.approx(sum(expected) / 5)


def test_entropy_of_an_even_row_is_the_logarithm_of_its_length():
    assert attention_entropy(torch.full((1, 1, 1, 8, 8), 1 / 8)).item() == pytest.approx(math.log(8))
    assert attention_entropy(torch.eye(8)[None, None, None]).item() == 0


def test_attention_distance_of_rows_worked_out_by_hand():
    # CLS and 1 x 3 patches. Each patch looks at itself, 0 away; then each looks at its right neighbour, the last back.
    assert attention_distance(torch.eye(4)[None, None, None], (1, 3)).item() == 0
    right = attention_rows([0.0, 0, 0, 1], [0.5, 0, 0.5, 0], [0.5, 0, 0, 0.5], [0.5, 0.5, 0, 0])
    assert attention_distance(right, (1, 3)).item() == pytest.approx((1 + 1 + 2) / 3)  # what goes to CLS is left out
    # rows first: on a 2 x 3 grid, the patch below is patch + 3
    below = torch.zeros(1, 1, 1, 6, 6)
    below[0, 0, 0, range(6), [3, 4, 5, 0, 1, 2]] = 1
    assert attention_distance(below, (2, 3), num_prefix_tokens=0).item() == 1


def test_a_model_has_not_moved_from_itself_and_an_adapted_one_has():
    shown = noise(9)
    same = measure_movement(tiny_vit(), tiny_vit(), shown)
    assert same["divergence"].shape == (9, 2, 4)
    assert same["divergence"].max() == 0
    original, adapted = tiny_vit(), trained_lora(tiny_vit())
    moved = measure_movement(original, adapted, shown)
    assert moved["divergence"].min() > 0
    with torch.no_grad(), record_attention(adapted) as recorder:
        adapted(shown.transform.normalize(shown.pixels))
    torch.testing.assert_close(moved["entropy"], attention_entropy(recorder.maps))
    torch.testing.assert_close(moved["distance"], attention_distance(recorder.maps, (4, 4)))
    assert hook_count(adapted) == hook_count(original) == 0


def test_token_norms_are_those_of_the_stream_after_the_last_block():
    model, seen = tiny_vit(reg_tokens=2, img_size=(24, 40)), []
    handle = model.blocks[-1].register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    norms = token_norms(model, images(2, 3, 24, 40))
    handle.remove()
    torch.testing.assert_close(norms, seen[0][:, 3:].norm(dim=-1).view(2, 3, 5))
    measured = measure_norms(tiny_vit(), noise(3))
    assert all(len(values) == 3 for values in measured.values())
    assert (measured["largest token / mean token"] >= 1).all()


def test_random_maps_do_not_depend_on_the_state_of_the_global_generator():
    torch.manual_seed(1)
    first = random_map((2, 2), seed=3)
    torch.manual_seed(2)
    assert torch.equal(first, random_map((2, 2), seed=3))


def test_shares_sum_to_one_over_each_map():
    assert torch.equal(to_shares(torch.tensor([[1.0, 3.0], [0.0, 4.0]])), torch.tensor([[0.125, 0.375], [0, 0.5]]))
