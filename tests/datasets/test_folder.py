"""One's own pictures: any folder, any format, split the same way each time, and refused in words."""

import os
import shutil
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from woofkit.adapters import load_run_model
from woofkit.config import ConfigError, StudyConfig, TrainConfig
from woofkit.data import load_dataset
from woofkit.datasets.folder import LEAST, class_folders, find_pictures, imagenet_positions, readable
from woofkit.models import build_for, untouched_method
from woofkit.progress import Monitor
from woofkit.results import read_classes
from woofkit.train import run_training


def save(path, seed, size=(40, 32)):
    """A picture of noise in large tiles, which no other seed resembles."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tiles = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(tiles).resize(size, Image.Resampling.NEAREST).save(path)


@pytest.fixture
def folder(tmp_path):
    """Three classes of ten pictures in a folder whose name has a space and an umlaut."""
    root = tmp_path / "meine Fotos für später"
    for number, name in enumerate(("Zebra", "apple pie", "кошка")):
        for index in range(10):
            save(root / name / f"{index}.png", seed=100 * number + index)
    return root


def find(root, tmp_path, **options):
    return find_pictures(root, tmp_path / "cache", log=lambda line: None, **options)


def sizes(pictures):
    return {split: Counter(labels.tolist()) for split, (_, labels) in pictures.splits.items()}


def test_class_folders_are_split_by_class_and_always_in_the_same_way(folder, tmp_path):
    pictures = find(folder, tmp_path)
    assert pictures.class_names == class_folders(folder) == ("apple pie", "Zebra", "кошка")  # whatever their case
    assert sizes(pictures) == {
        "train": {k: 6 for k in range(3)},
        "val": {k: 2 for k in range(3)},
        "test": {k: 2 for k in range(3)},
    }
    every = [key for keys, _ in pictures.splits.values() for key in keys]
    assert len(set(every)) == len(every) == 30
    again = find(folder, tmp_path / "elsewhere")
    assert {split: keys for split, (keys, _) in again.splits.items()} == {s: k for s, (k, _) in pictures.splits.items()}
    for keys, labels in pictures.splits.values():
        assert [pictures.class_names[label] for label in labels] == [key.split("/")[0] for key in keys]


def test_split_folders_are_kept_and_what_is_missing_is_split_off_train(folder, tmp_path):
    for name in ("Zebra", "apple pie", "кошка"):
        (folder / "train").mkdir(exist_ok=True)
        (folder / name).rename(folder / "train" / name)
        for index in range(3):
            save(folder / "Validation" / name / "deeper" / f"v{index}.jpg", seed=900 + 10 * len(name) + index)
    pictures = find(folder, tmp_path)
    assert {key.split("/")[0] for key in pictures.splits["val"][0]} == {"Validation"}
    assert len(pictures.splits["val"][0]) == 9
    assert {key.split("/")[0] for split in ("train", "test") for key in pictures.splits[split][0]} == {"train"}
    assert sizes(pictures)["test"] == {k: 2 for k in range(3)}
    save(folder / "stray" / "1.png", seed=5)
    with pytest.raises(ConfigError, match="is split into Validation, train, and beside them lies 'stray' with images"):
        find(folder, tmp_path)


def test_without_train_everything_is_split_anew(folder, tmp_path):
    (folder / "val").mkdir()
    for name in ("Zebra", "apple pie", "кошка"):
        (folder / name).rename(folder / "val" / name)
    assert sizes(find(folder, tmp_path))["train"] == {k: 6 for k in range(3)}


def test_copies_of_a_picture_stay_in_one_split(folder, tmp_path):
    for index in range(10):
        image = Image.open(folder / "Zebra" / f"{index}.png")
        image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).point(lambda value: 0.8 * value + 5).save(
            folder / "Zebra" / f"copy of {index}.png"
        )
    pictures = find(folder, tmp_path)
    where = {
        key.rsplit("/", 1)[1]: split for split, (keys, _) in pictures.splits.items() for key in keys if "Zebra" in key
    }
    assert len(where) == 20
    assert all(where[f"{index}.png"] == where[f"copy of {index}.png"] for index in range(10))
    assert set(where.values()) == {"train", "val", "test"}


def test_what_is_no_picture_is_passed_over(folder, tmp_path):
    before = find(folder, tmp_path)
    for name in (".hidden.png", "._1.png", "notes.txt", "7.xmp", ".thumbs/1.png", "model.h5"):
        (folder / "Zebra" / name).parent.mkdir(exist_ok=True)
        (folder / "Zebra" / name).write_bytes(b"no image")
    (folder / "__MACOSX" / "Zebra").mkdir(parents=True)
    (folder / "__MACOSX" / "Zebra" / "1.png").write_bytes(b"no image")
    (folder / "empty").mkdir()
    after = find(folder, tmp_path)
    assert after.class_names == before.class_names
    assert after.unreadable == {}
    assert {s: k for s, (k, _) in after.splits.items()} == {s: k for s, (k, _) in before.splits.items()}


def test_unreadable_pictures_are_all_named_at_once_or_left_out(folder, tmp_path):
    whole = (folder / "Zebra" / "3.png").read_bytes()
    damaged = {"Zebra/3.png": whole[: len(whole) // 2], "apple pie/4.png": b"", "кошка/5.png": b"\0" * 100}
    for key, content in damaged.items():
        (folder / key).write_bytes(content)
    with pytest.raises(ConfigError, match="3 of 30 images in .* cannot be read: .*set skip_unreadable") as refused:
        find(folder, tmp_path)
    assert "apple pie/4.png, кошка/5.png (it is no JPEG, PNG, WEBP, BMP, TIFF or GIF)" in str(refused.value)
    assert "Zebra/3.png (image file is truncated)" in str(refused.value)
    assert str(folder / "Zebra") not in str(refused.value)
    pictures = find(folder, tmp_path, skip_unreadable=True)
    assert pictures.unreadable.keys() == damaged.keys()
    assert sum(len(keys) for keys, _ in pictures.splits.values()) == 27
    (folder / "Zebra" / "3.png").write_bytes(whole)  # a changed file is looked at again
    assert find(folder, tmp_path, skip_unreadable=True).unreadable.keys() == damaged.keys() - {"Zebra/3.png"}


def test_names_that_are_no_text_are_refused_before_anything_is_trained(folder, tmp_path):
    odd = bytes(folder / "Zebra") + b"/caf\xe9.png"
    shutil.copy(folder / "Zebra" / "3.png", odd)
    with pytest.raises(ConfigError, match=r"Zebra/caf\\udce9.png \(its name is not UTF-8: rename it\)"):
        find(folder, tmp_path)
    assert len(find(folder, tmp_path, skip_unreadable=True).unreadable) == 1
    os.unlink(odd)
    os.rename(folder / "Zebra", bytes(folder) + b"/Z\xe9bre")
    with pytest.raises(ConfigError, match=r"the folder 'Z.*udce9bre' has a name that is not UTF-8: rename it"):
        find(folder, tmp_path)


def test_a_phones_pictures_are_named_and_not_passed_over(folder, tmp_path):
    (folder / "Zebra" / "IMG_1.HEIC").write_bytes(b"\0\0\0\x18ftypheic" + bytes(40))
    with pytest.raises(ConfigError, match=r"Zebra/IMG_1.HEIC \(it is HEIC, AVIF or a film: export it as JPEG\)"):
        find(folder, tmp_path)


def test_too_little_is_refused_with_what_is_needed(folder, tmp_path):
    with pytest.raises(ConfigError, match="is not a folder"):
        find(folder / "none", tmp_path)
    with pytest.raises(ConfigError, match="has no folder with images. Expected: a folder of images per class, two"):
        find(folder / "Zebra", tmp_path)
    for path in sorted((folder / "Zebra").iterdir())[2:]:
        path.unlink()
    with pytest.raises(
        ConfigError, match=r"too few images .*: train needs 2 of every class.*Zebra \(0\).* has 2 in all"
    ):
        find(folder, tmp_path)
    for name in ("apple pie", "кошка"):
        for path in (folder / name).iterdir():
            path.unlink()
    with pytest.raises(ConfigError, match="has one class alone, 'Zebra'"):
        find(folder, tmp_path)


def test_the_least_is_enough(tmp_path):
    for name in "ab":
        for index in range(sum(LEAST.values())):
            save(tmp_path / "few" / name / f"{index}.png", seed=ord(name) + 1000 * index)
    assert sizes(find(tmp_path / "few", tmp_path)) == {split: {0: least, 1: least} for split, least in LEAST.items()}


# --- as a dataset ---


def test_a_run_learns_the_folders_classes(folder):
    config = TrainConfig(dataset="folder", data_dir=str(folder), model_name="test_vit", weights="random")
    assert build_for(config).num_classes == 3
    train = load_dataset("folder", split="train", data_dir=str(folder))
    assert train.class_names == class_folders(folder)
    assert train.image(0).mode == "RGB"
    assert not train.drawn
    assert not train.sees_pretraining.any()
    assert len(load_dataset("folder", split="train", data_dir=str(folder), num=6)) == 6
    with pytest.raises(ConfigError, match="num = 2 is out of range: allowed is 0 .* at least 3, one per class"):
        load_dataset("folder", split="train", data_dir=str(folder), num=2)
    before = train.fingerprint()
    (folder / train.keys[0]).write_bytes((folder / train.keys[1]).read_bytes())
    assert train.fingerprint() != before


def test_a_folder_has_to_be_named_and_has_one_scheme(folder):
    with pytest.raises(ConfigError, match="dataset 'folder' needs data_dir"):
        StudyConfig(dataset="folder")
    with pytest.raises(ConfigError, match="dataset 'folder' has scheme 'clean' alone"):
        TrainConfig(dataset="folder", data_dir=str(folder), scheme="paper")


def test_folders_named_as_imagenet_names_them_are_known():
    assert imagenet_positions(("n01440764", "n02102040")) == (0, 217)
    assert readable(("n01440764", "n02102040")) == ("tench", "English springer")
    assert imagenet_positions(("Golf_Ball", "tench", "garbage truck")) == (574, 0, 569)
    assert imagenet_positions(("tench", "my own cat")) is None
    assert imagenet_positions(("tench", "crane")) is None  # a bird and a machine
    assert readable(("tench", "n01440764")) == ("tench", "n01440764")


def test_a_run_is_loaded_where_its_pictures_are_gone(folder, tmp_path):
    config = TrainConfig(
        dataset="folder",
        data_dir=str(folder),
        model_name="test_vit",
        weights="random",
        epochs=1,
        num_train=0,
        num_test=0,
    )
    run = run_training(config, tmp_path / "runs", Monitor())
    assert read_classes(run) == class_folders(folder)
    folder.rename(tmp_path / "elsewhere")
    assert load_run_model(run).num_classes == 3


def test_zero_shot_asks_for_known_classes(folder):
    config = TrainConfig(dataset="folder", data_dir=str(folder), method="zero-shot")
    with pytest.raises(ConfigError, match="zero-shot on 'folder': its classes are not among ImageNet's"):
        build_for(config)
    assert untouched_method(config) == "probe"
