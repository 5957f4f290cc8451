"""Laws of the near-copy check: a copy is found in any light and mirrored, and nothing else is taken for one."""

import numpy as np
import pytest
import torch

from woofkit.data import load_dataset
from woofkit.datasets.near_duplicates import BATCH, SIDE, nearest_images, relit_copies, thumbnails


def noise(number, size=SIDE, seed=0):
    """uint8 (number, 3, size, size), each pixel its own."""
    random = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (number, 3, size, size), dtype=torch.uint8, generator=random)


@pytest.fixture(scope="module")
def drawings():
    """Pixels of 30 drawings, uint8 (30, 3, 64, 64)."""
    dataset = load_dataset("sketchwoof", split="train", num=30, image_size=64)
    return torch.from_numpy(np.array([dataset.image(i) for i in range(30)])).permute(0, 3, 1, 2)


def test_a_copy_is_found_at_similarity_one(drawings):
    found = nearest_images(drawings[[7, 3]], drawings)
    assert found.index.tolist() == [7, 3]
    assert found.similarity == pytest.approx([1, 1], abs=1e-5)
    assert not found.mirrored.any()


def test_a_thumbnail_is_as_similar_as_its_image(drawings):
    small = thumbnails(drawings)
    assert small.shape == (30, 3, SIDE, SIDE)
    assert torch.equal(small[:, 0, 0, 0], drawings[:, 0, :2, :2].float().mean((1, 2)).round().to(torch.uint8))
    expected, found = (nearest_images(each[:10], each[10:]) for each in (drawings, small))
    assert found.index.tolist() == expected.index.tolist()
    np.testing.assert_allclose(found.similarity, expected.similarity, atol=0.02)


def test_a_mirrored_copy_is_found_and_said_to_be_mirrored(drawings):
    found = nearest_images(drawings[[7, 3]].flip(3), drawings)
    assert found.index.tolist() == [7, 3]
    assert found.similarity == pytest.approx([1, 1], abs=1e-5)
    assert found.mirrored.all()


def test_re_lit_copies_find_their_originals_and_stand_apart_from_all_others(drawings):
    copies = nearest_images(relit_copies(drawings), drawings)
    assert copies.index.tolist() == list(range(30))
    assert copies.mirrored.tolist() == [True, False] * 15
    others = nearest_images(drawings[:15], drawings[15:])
    assert np.median(copies.similarity) > 0.97
    assert copies.similarity.min() > 0.1 + others.similarity.max()


def test_light_from_one_side_hides_no_copy(drawings):
    ramp = torch.linspace(0, 120, 64)
    lit = (0.5 * drawings + ramp).to(torch.uint8)
    found = nearest_images(lit, drawings)
    assert found.index.tolist() == list(range(30))
    assert np.median(found.similarity) > 0.97


def test_a_copy_without_its_colour_is_found(drawings):
    grey = drawings.float().mean(dim=1, keepdim=True).to(torch.uint8).expand(-1, 3, -1, -1)
    assert nearest_images(grey, drawings).index.tolist() == list(range(30))


def test_a_bright_sky_over_dark_ground_makes_no_copy():
    horizon = torch.linspace(200, 60, SIDE)[:, None]
    one, other = ((horizon + 0.1 * noise(20, seed=seed)).to(torch.uint8) for seed in (1, 2))
    plain = np.corrcoef(one[0].flatten(), other[0].flatten())[0, 1]
    assert plain > 0.9  # what a correlation of the pixels would say
    assert nearest_images(one, other).similarity.max() < 0.3


def test_unrelated_noise_is_similar_to_nothing():
    assert nearest_images(noise(20), noise(50, seed=1)).similarity.max() < 0.2


def test_an_image_without_detail_is_similar_to_nothing():
    flat = torch.full((2, 3, SIDE, SIDE), 120, dtype=torch.uint8)
    assert np.abs(nearest_images(flat, flat).similarity).max() < 0.01


def test_size_does_not_hide_a_copy(drawings):
    larger = drawings.repeat_interleave(3, dim=2).repeat_interleave(3, dim=3)
    found = nearest_images(larger, drawings)
    assert found.index.tolist() == list(range(30))
    assert found.similarity.min() > 0.999


def test_more_images_than_a_batch_are_found_in_order():
    known = noise(BATCH + 5)
    order = torch.randperm(len(known), generator=torch.Generator().manual_seed(1))
    assert nearest_images(known[order], known).index.tolist() == order.tolist()


def test_re_lit_copies_are_the_same_each_time_and_leave_the_images_alone(drawings):
    before = drawings.clone()
    copies = relit_copies(drawings, seed=3)
    assert drawings.equal(before)
    assert copies.equal(relit_copies(drawings, seed=3))
    assert not copies.equal(relit_copies(drawings, seed=4))
    assert (copies.dtype, copies.shape) == (torch.uint8, drawings.shape)


@pytest.mark.parametrize(
    ("images", "got"),
    [
        (noise(2).float(), r"float32 \(2, 3, 32, 32\)"),
        (noise(2)[:, :1], r"uint8 \(2, 1, 32, 32\)"),
        (noise(2)[0], r"uint8 \(3, 32, 32\)"),
        (noise(2, size=16), r"uint8 \(2, 3, 16, 16\)"),
        (noise(2)[:0], r"uint8 \(0, 3, 32, 32\)"),
    ],
)
def test_what_is_no_stack_of_images_is_refused(images, got):
    wanted = r"must be uint8 \(N, 3, H, W\), at least one and 32 pixels a side: got "
    with pytest.raises(ValueError, match=f"images {wanted}{got}"):
        nearest_images(images, noise(2))
    with pytest.raises(ValueError, match=f"known {wanted}{got}"):
        nearest_images(noise(2), images)
    with pytest.raises(ValueError, match=f"images {wanted}{got}"):
        relit_copies(images)
