"""SketchWoof: drawings are a pure function of traits, seed and index; masks name every part; traits are checked."""

from concurrent.futures import ProcessPoolExecutor
from dataclasses import FrozenInstanceError, replace
from multiprocessing import get_context

import numpy as np
import pytest
from PIL import Image, ImageFilter

from woofkit.sketch import breeds, drawing, litter
from woofkit.sketch.breeds import BREEDS, breed_traits
from woofkit.sketch.drawing import draw_dog
from woofkit.sketch.layers import PARTS
from woofkit.sketch.litter import MIN_DISTANCE
from woofkit.sketch.scene import PLACES, UNSEEN_PLACE
from woofkit.sketch.skeleton import POSES, UNSEEN_POSE
from woofkit.sketch.traits import NAMES, Traits, trait_distance

SAMOYED = breed_traits("Samoyed")


def test_the_table_of_breeds_has_a_row_for_each_trait_and_a_column_for_each_breed():
    headings, *rows = (line.split() for line in breeds._TABLE.strip().splitlines())
    assert all(heading in breed for heading, breed in zip(headings, BREEDS, strict=True))
    assert [row[0] for row in rows] == list(NAMES)
    assert {len(row) for row in rows} == {1 + len(BREEDS)}


def _pixels(index: int) -> tuple[bytes, bytes, str]:
    drawing = draw_dog(breed_traits(BREEDS[index % 10]), seed=3, index=index, size=64)
    return drawing.image.tobytes(), drawing.mask.tobytes(), drawing.pose


@pytest.mark.parametrize("size", [16, 96, 224])
def test_a_drawing_is_a_square_picture_with_a_mask_of_parts(size):
    drawing = draw_dog(SAMOYED, seed=0, index=0, size=size)
    assert drawing.image.shape == (size, size, 3)
    assert drawing.mask.shape == (size, size)
    assert drawing.image.dtype == drawing.mask.dtype == np.uint8
    assert drawing.mask.max() < len(PARTS)
    assert drawing.pose in POSES


def test_the_same_bytes_in_any_order():
    forth = [_pixels(i) for i in range(10)]
    back = [_pixels(i) for i in reversed(range(10))]
    assert forth == back[::-1]


def test_the_same_bytes_in_another_process():
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        assert list(pool.map(_pixels, range(6))) == [_pixels(i) for i in range(6)]


@pytest.mark.parametrize("breed", BREEDS)
def test_a_standing_dog_shows_every_part(breed):
    # Some single drawings hide a part behind a post or beyond the edge; most do not.
    masks = [draw_dog(breed_traits(breed), seed=11, index=i, size=112, pose="standing").mask for i in range(6)]
    whole = sum(len(np.unique(mask)) == len(PARTS) for mask in masks)
    assert whole >= 4


def test_every_pose_is_drawn_and_can_be_asked_for():
    seen = {draw_dog(SAMOYED, seed=1, index=i, size=16).pose for i in range(60)}
    assert seen == set(POSES)
    assert {draw_dog(SAMOYED, seed=1, index=0, size=16, pose=pose).pose for pose in POSES} == set(POSES)


def test_the_unseen_pose_and_place_are_drawn_only_where_they_are_asked_for():
    usual = [draw_dog(SAMOYED, seed=1, index=i, size=64) for i in range(12)]
    bowing = [draw_dog(SAMOYED, seed=1, index=i, size=64, pose=UNSEEN_POSE) for i in range(12)]
    moved = [draw_dog(SAMOYED, seed=1, index=i, size=64, place=UNSEEN_PLACE) for i in range(12)]
    assert UNSEEN_POSE not in POSES
    assert UNSEEN_PLACE not in PLACES
    assert {drawing.pose for drawing in bowing} == {UNSEEN_POSE}
    assert all((one.mask != other.mask).any() for one, other in zip(usual, bowing, strict=True))
    for one, other in zip(usual, moved, strict=True):
        assert (one.mask, one.pose) == (pytest.approx(other.mask), other.pose)  # the same dog, somewhere else
        behind = one.mask == 0
        assert (one.image[behind] != other.image[behind]).any(1).mean() > 0.5
    named = draw_dog(SAMOYED, seed=1, index=0, size=64, pose=usual[0].pose)
    assert np.array_equal(named.image, usual[0].image)
    with pytest.raises(ValueError, match="place='moon' is not allowed: one of indoor, grass, snow, sand, water"):
        draw_dog(SAMOYED, seed=1, index=0, place="moon")


def test_one_trait_changes_the_dog_and_not_the_photograph():
    drop_eared = replace(SAMOYED, ear_shape="drop", ear_length=0.9)
    changed_ears = kept_background = 0
    for i in range(8):
        one, other = (draw_dog(t, seed=5, index=i, size=112, pose="standing") for t in (SAMOYED, drop_eared))
        ears = [mask == PARTS.index("ears") for mask in (one.mask, other.mask)]
        changed_ears += bool((ears[0] != ears[1]).sum() > 0.5 * ears[0].sum())
        kept_background += bool(np.mean((one.mask == 0) == (other.mask == 0)) > 0.93)
    assert changed_ears >= 7
    assert kept_background == 8


def test_a_longer_tail_takes_more_pixels():
    areas = [
        sum(
            (draw_dog(replace(SAMOYED, tail_shape=shape, tail_length=length), seed=2, index=i, size=96).mask == 5).sum()
            for i in range(12)
        )
        for shape, length in (("bobbed", 0.05), ("curled", 0.9))
    ]
    assert areas[1] > 2 * areas[0]


def test_a_mask_lies_on_the_dog_and_not_beside_it():
    # A black dog in a world lit as it may be: its pixels are darker than the background's.
    black = Traits(coat_color="black", coat_texture="smooth", coat_length=0.1)
    darker = 0
    for i in range(12):
        drawing = draw_dog(black, seed=8, index=i, size=96)
        body = np.isin(drawing.mask, [PARTS.index("body"), PARTS.index("legs")])
        darker += bool(drawing.image[body].mean() < 0.7 * drawing.image[drawing.mask == 0].mean())
    assert darker >= 10


def _within(mask: np.ndarray, pixels: int) -> np.ndarray:
    """bool (H, W): True within so many pixels of the dog."""
    dog = Image.fromarray(((mask > 0) * 255).astype(np.uint8))
    return np.asarray(dog.filter(ImageFilter.MaxFilter(2 * pixels + 1))) > 0


@pytest.mark.parametrize("name", ["Shih-Tzu", "Rhodesian ridgeback", "Old English sheepdog", "dingo"])
def test_the_mask_is_all_of_the_dog_and_nothing_else(name):
    # The same photograph of a light and a dark dog: what differs is dog, what does not is not. Where a picture
    # is blurred, by at most a hundredth of its side, colour runs over the edge.
    light, dark = (
        replace(breed_traits(name), coat_color=c, marking_color=c, white=0.0, tail_tip=0.0, dark_mask=0.0)
        for c in ("white", "black")
    )
    for i in range(10):
        one, other = (draw_dog(traits, seed=6, index=i, size=128) for traits in (light, dark))
        assert np.array_equal(one.mask, other.mask)
        differs = (one.image != other.image).any(axis=2)
        assert not differs[~_within(one.mask, 4)].any()
        inside = ~_within((one.mask == 0).astype(np.uint8), 2)
        assert differs[inside].mean() > 0.9  # the rest: nose, eyes, mouth, a collar


def test_what_stands_in_front_of_a_dog_is_background(monkeypatch):
    with_things = [draw_dog(SAMOYED, seed=12, index=i, size=96) for i in range(20)]
    monkeypatch.setattr(drawing, "draw_occluders", lambda *_: None)
    without = [draw_dog(SAMOYED, seed=12, index=i, size=96) for i in range(20)]
    hidden = 0
    for one, other in zip(with_things, without, strict=True):
        taken = one.mask != other.mask
        assert not one.mask[taken].any()
        assert np.array_equal(one.image[~_within(one.mask == 0, 3)], other.image[~_within(one.mask == 0, 3)])
        hidden += bool(taken.any())
    assert 2 <= hidden <= 14  # about a third


def test_streams_share_no_drawing():
    train, test = ({draw_dog(SAMOYED, seed=s, index=i, size=32).image.tobytes() for i in range(40)} for s in (2, 1000))
    assert len(train) == len(test) == 40
    assert not train & test


def test_a_greyscale_picture_has_equal_channels_and_is_rare():
    grey = [np.ptp(draw_dog(SAMOYED, seed=4, index=i, size=32).image.astype(int), axis=2).max() == 0 for i in range(80)]
    assert 2 <= sum(grey) <= 26


def test_the_litter_is_apart_from_the_ten_and_from_itself():
    invented = litter(60, seed=1)
    assert len(set(invented)) == 60
    assert invented == litter(60, seed=1) != litter(60, seed=2)
    assert min(trait_distance(t, breed_traits(name)) for t in invented for name in BREEDS) >= MIN_DISTANCE


def test_the_distance_is_zero_to_itself_symmetric_and_counts_by_hand():
    beagle, hound = breed_traits("beagle"), breed_traits("English foxhound")
    assert trait_distance(beagle, beagle) == 0
    assert trait_distance(beagle, hound) == trait_distance(hound, beagle) > 0
    moved = replace(SAMOYED, ear_shape="drop", ear_length=SAMOYED.ear_length + 0.45)
    assert trait_distance(SAMOYED, moved) == pytest.approx(1.45 / 29)


def test_traits_are_frozen():
    with pytest.raises(FrozenInstanceError):
        SAMOYED.ear_length = 0.5


@pytest.mark.parametrize(
    ("trait", "value", "message"),
    [
        ("ear_shape", "floppy", "ear_shape='floppy' is not allowed: one of pricked, folded, drop"),
        ("coat_color", "pink", "coat_color='pink' is not allowed: one of white"),
        ("leg_length", 1.5, "leg_length=1.5 is not allowed: a number from 0 to 1"),
        ("ridge", "yes", "ridge='yes' is not allowed: a number from 0 to 1"),
        ("white", True, "white=True is not allowed"),
        ("beard", float("nan"), "beard=nan is not allowed"),
    ],
)
def test_an_unknown_trait_value_is_refused_by_name(trait, value, message):
    with pytest.raises(ValueError, match=message):
        replace(SAMOYED, **{trait: value})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 8}, "size=8 is not allowed: a whole number of at least 16"),
        ({"seed": -1}, "seed=-1 is not allowed"),
        ({"index": 1.5}, "index=1.5 is not allowed"),
        ({"pose": "flying"}, "pose='flying' is not allowed: one of standing, sitting, lying, portrait, behind"),
    ],
)
def test_a_wrong_argument_is_refused_by_name(arguments, message):
    with pytest.raises(ValueError, match=message):
        draw_dog(SAMOYED, **{"seed": 0, "index": 0, **arguments})


def test_unknown_breeds_and_empty_litters_are_refused():
    with pytest.raises(ValueError, match="unknown breed 'poodle': one of Shih-Tzu"):
        breed_traits("poodle")
    with pytest.raises(ValueError, match="num_breeds=0 is not allowed"):
        litter(0, seed=0)
    with pytest.raises(TypeError, match="traits must be a Traits, not str"):
        draw_dog("beagle", seed=0, index=0)
