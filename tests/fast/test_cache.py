"""Images decoded once: what the file gives, when it is another one, and what happens when it is damaged."""

import os
import re
import resource
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from helpers import data_config
from woofkit import data
from woofkit.data import WoofDataset, cached_pixels, load_dataset, load_pixels, make_transform
from woofkit.fast import kept_rows as cache
from woofkit.files import write_atomic

CONFIG = data_config(32)
TRANSFORM = make_transform(CONFIG)


@pytest.fixture
def photographs(tmp_path) -> WoofDataset:
    """Twelve photographs of noise, one of them grey, none of a size of its neighbour's."""
    rng = np.random.default_rng(0)
    keys = tuple(f"train/n02086240/n02086240_{i}.JPEG" for i in range(12))
    for i, key in enumerate(keys):
        (tmp_path / "photographs" / key).parent.mkdir(parents=True, exist_ok=True)
        shape = (40 + i, 60 - i) if i == 5 else (40 + i, 60 - i, 3)
        Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)).save(tmp_path / "photographs" / key)
    labels = np.zeros(12, np.int64)
    return WoofDataset("imagewoof", "train", "clean", keys, labels, folder=tmp_path / "photographs")


@pytest.fixture
def dataset(request, photographs) -> WoofDataset:
    if getattr(request, "param", "photographs") == "photographs":
        return photographs
    return load_dataset("sketchwoof", split="val", num=10, image_size=40)


@pytest.fixture
def images(monkeypatch) -> list[int]:
    """The positions of the images decoded or drawn since the test began."""
    seen, image = [], WoofDataset.image

    def counted(self, index):
        seen.append(index)
        return image(self, index)

    monkeypatch.setattr(WoofDataset, "image", counted)
    return seen


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "cache"


def cached(dataset, folder, transform=TRANSFORM, fingerprint=None, lines=None) -> torch.Tensor:
    """The call of a run; `lines` collects what it reports, without it it must report nothing."""

    def refuse(line):
        raise AssertionError(f"reported: {line}")

    report = refuse if lines is None else lines.append
    fingerprint = fingerprint or dataset.fingerprint()
    return cached_pixels(dataset, transform, fingerprint=fingerprint, folder=folder, progress=False, log=report)


def files(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# ---------------------------------------------------------------- what comes back


@pytest.mark.parametrize("dataset", ["photographs", "drawings"], indirect=True)
@pytest.mark.parametrize("preprocess_kind", ["timm", "paper-code"])
def test_the_file_gives_what_decoding_gives(dataset, preprocess_kind, folder):
    transform = make_transform(CONFIG, preprocess_kind)
    expected = load_pixels(dataset, transform, progress=False)
    for _ in ("made", "found"):
        pixels = cached(dataset, folder, transform)
        assert pixels.dtype == torch.uint8
        assert pixels.shape == (len(dataset), 3, 32, 32)
        assert torch.equal(pixels, expected)


@pytest.mark.parametrize("dataset", ["photographs", "drawings"], indirect=True)
def test_the_second_call_decodes_nothing(dataset, folder, images):
    fingerprint = dataset.fingerprint()  # a few drawings are made for it
    images.clear()
    cached(dataset, folder, fingerprint=fingerprint)
    assert sorted(images) == list(range(len(dataset)))
    images.clear()
    cached(dataset, folder, fingerprint=fingerprint)
    assert images == []


def test_the_file_says_what_it_holds(dataset, folder):
    cached(dataset, folder)
    [pixels] = files(folder)
    assert pixels.startswith("imagewoof-train-32px-12-")
    assert np.load(folder / pixels).shape == (12, 3, 32, 32)  # a plain .npy file


def test_without_a_folder_it_is_the_projects(dataset, folder):
    assert folder == data.CACHE  # in tests; see conftest.py
    cached(dataset, None)
    assert len(files(folder)) == 1


def test_writing_into_the_pixels_leaves_the_file_alone(dataset, folder):
    cached(dataset, folder)
    before = {name: (folder / name).read_bytes() for name in files(folder)}
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # torch warns of arrays that cannot be written
        pixels = cached(dataset, folder)
        pixels.fill_(7)
    assert (pixels == 7).all()
    assert {name: (folder / name).read_bytes() for name in files(folder)} == before
    assert not (cached(dataset, folder) == 7).all()


def test_no_images_make_no_trouble(dataset, folder):
    nothing = dataset.subset([])
    for _ in ("made", "found"):
        assert cached(nothing, folder).shape == (0, 3, 32, 32)


# ---------------------------------------------------------------- when it is another file


def test_other_data_or_another_geometry_is_another_file(dataset, folder):
    changes = [{"size": 24}, {"resize": 34}, {"resize": None}, {"greyscale": True}]
    changes += [{"interpolation": Image.Resampling.BILINEAR}]
    cached(dataset, folder)
    for number, change in enumerate(changes, start=2):
        transform = replace(TRANSFORM, **change)
        assert torch.equal(cached(dataset, folder, transform), load_pixels(dataset, transform, progress=False))
        assert len(files(folder)) == number, change
    with (dataset.folder / dataset.keys[0]).open("ab") as file:
        file.write(b"\0")
    cached(dataset, folder)
    assert len(files(folder)) == len(changes) + 2


def test_mean_and_std_share_the_file(dataset, folder):
    cached(dataset, folder)
    before = files(folder)
    cached(dataset, folder, replace(TRANSFORM, mean=(0.1, 0.2, 0.3), std=(1.0, 2.0, 3.0)))
    assert files(folder) == before


def test_another_way_of_cutting_is_another_file(dataset, folder, monkeypatch):
    cached(dataset, folder)
    geometry = data.Transform.geometry
    monkeypatch.setattr(data.Transform, "geometry", lambda self, image: 255 - geometry(self, image))
    assert torch.equal(cached(dataset, folder), load_pixels(dataset, TRANSFORM, progress=False))
    assert len(files(folder)) == 2


# ---------------------------------------------------------------- damage


@pytest.mark.parametrize(
    "damaged",
    [
        lambda content: content[:60] + b"x" + content[61:],  # in the header
        lambda content: content[:-500],
        lambda content: content + b"0",
        lambda content: content[:20],
        lambda content: b"",
        lambda content: b"no array of numpy" * 3000,
    ],
    ids=["header", "truncated", "longer", "half a header", "empty", "another file"],
)
def test_a_damaged_file_is_made_again_and_that_is_said(dataset, folder, damaged):
    expected = cached(dataset, folder).clone()
    [pixels] = files(folder)
    (folder / pixels).write_bytes(damaged((folder / pixels).read_bytes()))
    lines = []
    assert torch.equal(cached(dataset, folder, lines=lines), expected)
    assert len(lines) == 1
    assert re.search("is damaged .*; it is made again", lines[0])
    assert torch.equal(cached(dataset, folder), expected)  # and is whole from then on


def test_a_file_of_another_shape_is_made_again(dataset, folder):
    expected = cached(dataset, folder).clone()
    [pixels] = files(folder)
    np.save(folder / pixels, np.zeros((12, 3, 16, 16), np.uint8))
    assert torch.equal(cached(dataset, folder, lines=(lines := [])), expected)
    assert "it holds uint8 (12, 3, 16, 16), not uint8 (12, 3, 32, 32)" in lines[0]


@pytest.mark.parametrize("error", [ValueError("drawing failed"), KeyboardInterrupt()], ids=["error", "interruption"])
def test_an_exception_midway_leaves_nothing(dataset, folder, monkeypatch, error):
    image = WoofDataset.image

    def fail_at_seven(self, index):
        if index == 7:
            raise error
        return image(self, index)

    monkeypatch.setattr(WoofDataset, "image", fail_at_seven)
    with pytest.raises(type(error)):
        cached(dataset, folder)
    assert files(folder) == []


def test_an_image_that_cannot_be_read_is_named_and_leaves_nothing(dataset, folder):
    fingerprint = dataset.fingerprint()
    (dataset.folder / dataset.keys[7]).write_bytes(b"no image")
    with pytest.raises(OSError, match=f"{dataset.keys[7]} cannot be read"):
        cached(dataset, folder, fingerprint=fingerprint)
    (dataset.folder / dataset.keys[7]).unlink()
    with pytest.raises(OSError, match=rf"{dataset.keys[7]} cannot be read \(No such file"):
        cached(dataset, folder, fingerprint=fingerprint)
    assert files(folder) == []


# ---------------------------------------------------------------- where nothing can be written


def test_a_folder_that_cannot_be_made_keeps_the_images_in_memory(dataset, tmp_path):
    (tmp_path / "file").write_text("no folder")
    lines = []
    pixels = cached(dataset, tmp_path / "file" / "cache", lines=lines)
    assert torch.equal(pixels, load_pixels(dataset, TRANSFORM, progress=False))
    [line] = lines
    assert f"{tmp_path}/file/cache cannot be written (Not a directory); the 12 images stay in memory" in line


def test_a_write_that_fails_midway_keeps_the_images_in_memory_and_leaves_nothing(dataset, folder):
    fingerprint, lines = dataset.fingerprint(), []
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))  # bytes a file; the images are 36,864
    try:
        pixels = cached(dataset, folder, fingerprint=fingerprint, lines=lines)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert torch.equal(pixels, load_pixels(dataset, TRANSFORM, progress=False))
    assert f"{folder} cannot be written (File too large)" in lines[0]
    assert files(folder) == []


def test_a_disk_without_room_is_not_filled(dataset, folder, monkeypatch, images):
    monkeypatch.setattr(cache.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 20_000}))
    lines = []
    pixels = cached(dataset, folder, lines=lines)
    assert len(images) == 12  # nothing was decoded for a file that has no room
    assert torch.equal(pixels, load_pixels(dataset, TRANSFORM, progress=False))
    assert "(No space left on device: 0 MB are needed)" in lines[0]
    assert files(folder) == []


def test_of_two_that_want_the_same_file_at_once_one_makes_it_and_the_other_waits(folder):
    begun, goes_on, lines = threading.Event(), threading.Event(), []

    def rows():
        begun.set()
        assert goes_on.wait(30)
        yield from torch.arange(3, dtype=torch.uint8)

    def none():
        raise AssertionError("made twice")

    def says(line):
        lines.append(line)
        goes_on.set()

    with ThreadPoolExecutor() as pool:
        first = pool.submit(cache.kept_rows, folder / "rows.npy", (3,), rows, lines.append)
        assert begun.wait(30)
        second = pool.submit(cache.kept_rows, folder / "rows.npy", (3,), none, says)
        assert first.result(60).tolist() == second.result(60).tolist() == [0, 1, 2]
    assert re.fullmatch(rf"another process \({os.getpid()} on .+, since .+\) makes rows.npy: waiting for it", *lines)
    assert files(folder) == ["rows.npy"]


def test_temporary_names_are_never_shared(tmp_path):
    names = []

    def write(temporary):
        names.append(temporary)
        temporary.write_text("")

    for _ in range(2):
        write_atomic(tmp_path / "file", write)
    assert names[0] != names[1]
