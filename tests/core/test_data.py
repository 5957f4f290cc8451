"""What a split holds, and what happens to its images on the way to the model."""

import re
import shutil
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from helpers import data_config, imagewoof_folder
from woofkit.config import ConfigError
from woofkit.data import Images, batches, flip_and_shift, load_dataset, load_pixels, make_transform, stratified_subset
from woofkit.datasets import imagewoof
from woofkit.datasets.imagewoof import WNIDS

VIT_TINY = data_config(224)


@pytest.fixture
def small(tmp_path, monkeypatch) -> str:
    """A folder in the official layout: 6 train and 4 val images per breed, one of each "unseen"."""
    return str(imagewoof_folder(tmp_path, monkeypatch, train=6, val=4))


def noise(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8))


# ---------------------------------------------------------------- names that are not there


REFUSED = [
    ({"name": "catnet"}, "dataset 'catnet'.*'sketchwoof', 'imagewoof'"),
    ({"split": "dev"}, "split 'dev'.*'train', 'val', 'test'"),
    ({"scheme": "paper", "split": "val"}, "scheme 'paper' has no split 'val'"),
    ({"num": 9}, "num = 9 is out of range: allowed is 0 .* or at least 10"),
    ({"label_fraction": 0.0}, "label_fraction = 0.0 is out of range"),
    ({"num": 100, "label_fraction": 0.05}, "label_fraction = 0.05 leaves 5 images"),
    ({"data_dir": "no/such/folder", "name": "imagewoof"}, "no/such/folder' does not exist"),
]


@pytest.mark.parametrize(("settings", "message"), REFUSED)
def test_what_cannot_be_is_refused_by_name(settings, message):
    with pytest.raises(ConfigError, match=message):
        load_dataset(**{"name": "sketchwoof", "split": "train"} | settings)


def test_more_images_than_there_are_is_refused(small):
    with pytest.raises(ConfigError, match=r"num = 999 is more than imagewoof has: train \(paper\) holds 60"):
        load_dataset("imagewoof", split="train", scheme="paper", data_dir=small, num=999)


# ---------------------------------------------------------------- splits and subsets


def test_the_clean_scheme_tests_on_the_unseen_images_alone(small):
    train, val, test = (load_dataset("imagewoof", split=s, data_dir=small) for s in ("train", "val", "test"))
    assert (len(train), len(val), len(test)) == (50, 30, 20)
    assert not test.sees_pretraining.any()
    assert train.sees_pretraining.all()
    assert val.sees_pretraining.all()
    assert not set(train.keys) & set(val.keys)


def test_a_subset_keeps_each_class_its_share():
    labels = np.repeat(np.arange(10), [940, 942, 932, 580, 949, 943, 949, 928, 921, 941])
    for size in (10, 97, 600, 9024):
        chosen = stratified_subset(labels, size, seed=3)
        assert len(set(chosen.tolist())) == size
        expected = np.bincount(labels) * size / len(labels)
        assert np.abs(np.bincount(labels[chosen], minlength=10) - expected).max() <= 1


def test_a_smaller_subset_lies_in_a_larger_one_and_the_seed_decides():
    labels = np.arange(500) % 10
    small, large = (stratified_subset(labels, size, seed=0) for size in (50, 200))
    assert set(small) < set(large)
    assert np.array_equal(small, stratified_subset(labels, 50, seed=0))
    assert not np.array_equal(small, stratified_subset(labels, 50, seed=1))


def test_fewer_labels_are_a_part_of_the_training_images(small):
    whole = load_dataset("imagewoof", split="train", data_dir=small)
    half = load_dataset("imagewoof", split="train", data_dir=small, label_fraction=0.5, seed=1)
    assert set(half.keys) < set(whole.keys)
    assert sorted(np.bincount(half.labels)) == [2] * 5 + [3] * 5
    test = load_dataset("imagewoof", split="test", data_dir=small, label_fraction=0.5)
    assert len(test) == 20  # never fewer to test on


@pytest.mark.parametrize("name", ["imagewoof", "sketchwoof"])
def test_the_test_images_do_not_depend_on_the_seed(small, name):
    shared = {"data_dir": small, "image_size": 32}
    first, second = (load_dataset(name, split="test", num=10, seed=s, **shared) for s in (0, 1))
    assert first.keys == second.keys
    assert first.fingerprint() == second.fingerprint()
    first, second = (load_dataset(name, split="train", num=20, seed=s, **shared) for s in (0, 1))
    assert first.fingerprint() != second.fingerprint()


def test_drawings_are_balanced_and_splits_share_no_seed():
    splits = [load_dataset("sketchwoof", split="train", seed=seed) for seed in (0, 1, 2, 2**31 - 1)]
    splits += [load_dataset("sketchwoof", split=split) for split in ("val", "test")]
    assert [len(split) for split in splits] == [600] * 4 + [200, 500]
    assert all(len(set(np.bincount(split.labels))) == 1 for split in splits)
    assert len({split.draw_seed for split in splits}) == len(splits)


def test_a_drawing_is_the_same_each_time_and_comes_with_its_mask():
    dataset = load_dataset("sketchwoof", split="val", num=10, image_size=64)
    assert dataset.class_names == imagewoof.BREEDS
    assert np.array_equal(np.asarray(dataset.image(3)), np.asarray(dataset.image(3)))
    assert not np.array_equal(np.asarray(dataset.image(3)), np.asarray(dataset.image(4)))
    assert dataset.image(3).size == (64, 64)
    assert dataset.mask(3).shape == (64, 64)
    assert dataset.mask(3).max() > 0
    assert not dataset.sees_pretraining.any()


def test_greyscale_files_come_as_rgb(small):
    dataset = load_dataset("imagewoof", split="train", data_dir=small)
    index = dataset.keys.index(f"train/{WNIDS[0]}/{WNIDS[0]}_1.JPEG")
    assert Image.open(Path(small) / dataset.keys[index]).mode == "L"
    pixels = np.asarray(dataset.image(index))
    assert pixels.shape[2] == 3
    assert (pixels == pixels[:, :, :1]).all()
    assert dataset.mask(index) is None


def test_a_damaged_file_is_named(small):
    dataset = load_dataset("imagewoof", split="test", data_dir=small)
    (Path(small) / dataset.keys[7]).write_bytes(b"no image")
    with pytest.raises(OSError, match=f"{dataset.keys[7]} cannot be read"):
        load_pixels(dataset, make_transform(VIT_TINY), progress=False)


def test_the_fingerprint_follows_the_content_and_not_the_place(small, tmp_path):
    before = load_dataset("imagewoof", split="test", data_dir=small).fingerprint()
    moved = shutil.copytree(small, tmp_path / "elsewhere" / "imagewoof2-160")
    dataset = load_dataset("imagewoof", split="test", data_dir=str(moved.parent))
    assert dataset.fingerprint() == before
    with (moved / dataset.keys[0]).open("ab") as file:
        file.write(b"\0")
    assert dataset.fingerprint() != before


# ---------------------------------------------------------------- transforms and batches


@pytest.mark.parametrize("changes", [{}, {"crop_pct": 1.0}, {"crop_pct": 0.875, "interpolation": "bilinear"}])
@pytest.mark.parametrize("size", [(300, 201), (224, 224), (101, 333), (225, 226), (160, 213), (333, 101)])
def test_the_transform_is_timms(changes, size):
    config, image = VIT_TINY | changes, noise(*size)
    expected = timm.data.create_transform(**config, is_training=False)(image)
    assert torch.equal(make_transform(config)(image), expected)


def test_the_paper_codes_preprocessing():
    transform, image = make_transform(VIT_TINY, "paper-code"), noise(300, 200)
    pixels = transform.geometry(image)
    assert (pixels == pixels[:, :, :1]).all()  # grey in three equal channels
    squeezed = image.convert("L").resize((224, 224), Image.Resampling.BILINEAR)  # nothing is cut off
    assert np.array_equal(pixels[:, :, 0], np.asarray(squeezed))
    expected = torch.tensor(pixels / 255).permute(2, 0, 1) - torch.tensor(transform.mean)[:, None, None]
    expected = expected / torch.tensor(transform.std)[:, None, None]
    assert transform.mean == timm.data.IMAGENET_DEFAULT_MEAN
    assert transform.std == timm.data.IMAGENET_DEFAULT_STD
    torch.testing.assert_close(transform(image), expected.float())


def test_each_step_of_the_paper_codes_preprocessing_can_be_had_alone():
    timms, papers = asdict(make_transform(VIT_TINY)), asdict(make_transform(VIT_TINY, "paper-code"))
    changed = {}
    for step in ("grey", "squeeze", "imagenet-norm"):
        transform = asdict(make_transform(VIT_TINY, step))
        mine = {name for name, value in transform.items() if value != timms[name]}
        assert all(transform[name] == papers[name] for name in mine)
        changed[step] = mine
    assert changed["grey"] == {"greyscale"}
    assert changed["squeeze"] == {"resize", "interpolation"}
    assert changed["imagenet-norm"] == {"mean", "std"}
    assert set.union(*changed.values()) == {name for name in timms if papers[name] != timms[name]}


@pytest.mark.parametrize("preprocess", ["timm", "paper-code"])
def test_a_mask_is_cut_like_its_image(preprocess):
    transform = make_transform(VIT_TINY, preprocess)
    mask = np.zeros((200, 300), np.uint8)
    mask[60:150, 110:180] = 5
    white = Image.fromarray(np.where(mask[:, :, None] > 0, 255, 0).astype(np.uint8).repeat(3, 2))
    cut = transform.mask(mask)
    assert set(np.unique(cut)) == {0, 5}
    assert np.mean((transform.geometry(white)[:, :, 0] > 127) == (cut == 5)) > 0.99


def test_an_unsupported_transform_is_refused():
    with pytest.raises(ConfigError, match="preprocess 'none'.*'timm', 'grey', .*'paper-code'"):
        make_transform(VIT_TINY, "none")
    with pytest.raises(ConfigError, match="crop_mode 'border'.*'center'"):
        make_transform(VIT_TINY | {"crop_mode": "border"})
    with pytest.raises(ConfigError, match=r"input_size \(3, 224, 256\)"):
        make_transform(VIT_TINY | {"input_size": (3, 224, 256)})


def test_load_pixels_is_the_geometry_of_every_image(small):
    dataset, transform = load_dataset("imagewoof", split="test", data_dir=small), make_transform(VIT_TINY)
    pixels = load_pixels(dataset, transform, progress=False)
    assert pixels.shape == (20, 3, 224, 224)
    assert pixels.dtype == torch.uint8
    for i, image in enumerate(pixels):
        assert np.array_equal(image.permute(1, 2, 0).numpy(), transform.geometry(dataset.image(i)))


def test_drawings_do_not_depend_on_how_many_processes_draw(monkeypatch):
    dataset = load_dataset("sketchwoof", split="val", num=30, image_size=64)
    transform = make_transform(VIT_TINY | {"input_size": (3, 64, 64)})
    alone = load_pixels(dataset, transform, progress=False)
    monkeypatch.setattr("woofkit.data.FEW", 0)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    assert torch.equal(load_pixels(dataset, transform, progress=False), alone)


def test_batches_cover_everything_once_in_an_order_the_seed_decides():
    transform, labels = make_transform(VIT_TINY), np.arange(10)
    pixels = torch.arange(10, dtype=torch.uint8)[:, None, None, None].expand(10, 3, 4, 4)

    def run(seed):
        return list(batches(Images(pixels, labels, transform), 4, generator_seed=seed))

    assert [len(y) for _, y in run(None)] == [4, 4, 2]
    assert torch.cat([y for _, y in run(None)]).tolist() == list(range(10))
    order = torch.cat([y for _, y in run(7)])
    assert sorted(order.tolist()) == list(range(10))
    assert order.tolist() == torch.cat([y for _, y in run(7)]).tolist()
    assert order.tolist() != torch.cat([y for _, y in run(8)]).tolist()
    for x, y in run(7):  # each image travels with its label
        torch.testing.assert_close(x[:, 0, 0, 0], (y / 255 - 0.5) / 0.5)


def test_several_processes_read_every_photograph_once_and_in_order(small, monkeypatch):
    dataset, transform = load_dataset("imagewoof", split="test", data_dir=small), make_transform(VIT_TINY)
    whole = load_pixels(dataset, transform, progress=False)
    monkeypatch.setattr("woofkit.data.FEW_FILES", 7)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    assert torch.equal(load_pixels(dataset, transform, progress=False), whole)
    (dataset.folder / dataset.keys[9]).write_bytes(b"no picture")
    with pytest.raises(OSError, match=re.escape(dataset.keys[9].rsplit("/", 1)[-1])) as caught:
        load_pixels(dataset, transform, progress=False)
    assert "Traceback" not in str(caught.value)


# ---------------------------------------------------------------- augmentation

LEVELS = replace(make_transform(VIT_TINY), mean=(0.0, 0.0, 0.0), std=(1 / 255, 1 / 255, 1 / 255))  # pixels as they are


def augmented(pixels, augment, seed=3, batch_size=16):
    """Images uint8 and labels of one epoch, labels being positions in `pixels`."""
    loader = batches(Images(pixels, np.arange(len(pixels)), LEVELS), batch_size, generator_seed=seed, augment=augment)
    images, labels = (torch.cat(parts) for parts in zip(*loader, strict=True))
    return images.round().to(torch.uint8), labels


def random_pixels(count, side):
    return torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_a_small_image_flipped_and_shifted_by_hand():
    image = torch.tensor([[1, 2, 3], [4, 5, 6], [7, 8, 9]], dtype=torch.uint8)

    def moved(flip, down, right):
        result = flip_and_shift(image.expand(1, 2, 3, 3), torch.tensor([flip]), torch.tensor([[down, right]]))
        assert torch.equal(result[0, 0], result[0, 1])  # every channel the same way
        return result[0, 0].tolist()

    assert moved(False, 0, 0) == [[1, 2, 3], [4, 5, 6], [7, 8, 9]]
    assert moved(True, 0, 0) == [[3, 2, 1], [6, 5, 4], [9, 8, 7]]
    assert moved(False, 1, 0) == [[4, 5, 6], [7, 8, 9], [4, 5, 6]]  # below the last row: the one before it
    assert moved(False, 0, -1) == [[2, 1, 2], [5, 4, 5], [8, 7, 8]]
    assert moved(True, 0, -1) == [[2, 3, 2], [5, 6, 5], [8, 9, 8]]  # mirrored first, then shifted
    assert moved(False, -2, 2) == [[9, 8, 7], [6, 5, 4], [3, 2, 1]]


def test_each_image_is_moved_in_its_own_way():
    pixels, flips = random_pixels(5, 16), torch.tensor([True, False, True, False, False])
    shifts = torch.tensor([[2, -1], [-2, 2], [0, 0], [1, 1], [-1, 0]])
    padded = torch.nn.functional.pad(pixels.float(), (2, 2, 2, 2), mode="reflect").to(torch.uint8)
    moved = flip_and_shift(pixels, flips, shifts)
    for image, wide, flip, (down, right) in zip(moved, padded, flips, shifts.tolist(), strict=True):
        wide = wide.flip(2) if flip else wide
        assert torch.equal(image, wide[:, 2 + down : 18 + down, 2 + right : 18 + right])


def test_flip_mirrors_about_half_of_the_images_and_does_nothing_else():
    pixels = random_pixels(1000, 4)
    images, labels = augmented(pixels, "flip")
    sources = pixels[labels]
    as_it_is = (images == sources).flatten(1).all(1)
    mirrored = (images == sources.flip(3)).flatten(1).all(1)
    assert (as_it_is ^ mirrored).all()
    assert 440 < mirrored.sum() < 560  # 500 +- 4 standard deviations
    positions = torch.arange(1000)[None]
    assert abs(torch.corrcoef(torch.cat([positions, mirrored[None]]).float())[0, 1]) < 0.13  # early and late alike


def test_flip_crop_shifts_evenly_by_up_to_an_eighth():
    pixels = random_pixels(600, 16)
    images, labels = augmented(pixels, "flip-crop")
    padded = torch.nn.functional.pad(pixels.float(), (2, 2, 2, 2), mode="reflect").to(torch.uint8)
    places = torch.zeros(2, 5, 5)
    for image, label in zip(images, labels, strict=True):
        found = [
            (flip, down, right)
            for flip, source in enumerate((padded[label], torch.flip(padded[label], [2])))
            for down in range(5)
            for right in range(5)
            if torch.equal(image, source[:, down : down + 16, right : right + 16])
        ]
        [place] = found
        places[place] += 1
    for counts in (places.sum((1, 2)), places.sum((0, 2)), places.sum((0, 1))):
        expected = 600 / len(counts)
        assert (counts - expected).abs().max() < 4 * expected**0.5


@pytest.mark.parametrize("augment", ["flip", "flip-crop"])
def test_augmentation_keeps_order_and_labels_and_follows_the_seed_alone(augment):
    pixels = random_pixels(50, 16)
    plain, order = augmented(pixels, "none")
    images, labels = augmented(pixels, augment)
    assert torch.equal(order, labels)
    assert torch.equal(order, torch.randperm(50, generator=torch.Generator().manual_seed(3)))
    assert torch.equal(plain, pixels[order])
    assert not torch.equal(images, plain)
    torch.manual_seed(99)  # dropout's random numbers are others
    assert torch.equal(augmented(pixels, augment)[0], images)
    assert torch.equal(augmented(pixels, augment, batch_size=7)[0], images)
    other, labels = augmented(pixels, augment, seed=4)
    assert not torch.equal(other[labels.argsort()], images[order.argsort()])


def test_augmentation_leaves_the_images_themselves_alone():
    pixels = random_pixels(20, 16)
    before = pixels.clone()
    augmented(pixels, "flip-crop")
    assert torch.equal(pixels, before)


def test_an_augmentation_that_cannot_be_is_refused():
    images = Images(random_pixels(4, 16), np.arange(4), LEVELS)
    with pytest.raises(ConfigError, match="augment 'rotate': allowed are 'none', 'flip', 'flip-crop'"):
        next(batches(images, 2, generator_seed=0, augment="rotate"))
    with pytest.raises(ConfigError, match="augment 'flip' needs a generator_seed"):
        next(batches(images, 2, augment="flip"))


def test_more_images_than_have_room_are_refused_before_one_is_drawn():
    match = r"num = 10,000,000 images take 6,\d\d\d,\d\d\d GB, and .* of disk and .* of memory are free: .* images fit"
    start = time.perf_counter()
    with pytest.raises(ConfigError, match=match):
        load_dataset("sketchwoof", split="train", num=10_000_000, image_size=15_000)
    assert time.perf_counter() - start < 2
