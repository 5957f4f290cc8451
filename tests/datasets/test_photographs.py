"""The published ImageWoof: how many images each split has."""

import os
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest

from woofkit.data import load_dataset


@pytest.fixture(scope="module")
def photographs(tmp_path_factory) -> str:
    """All of ImageWoof, unpacked for these tests."""
    realdata = os.environ.get("WOOFKIT_REALDATA")
    if not realdata:
        pytest.skip("WOOFKIT_REALDATA is unset: no folder with imagewoof2-160.tgz to test on")
    folder = tmp_path_factory.mktemp("imagewoof")
    with tarfile.open(Path(realdata) / "imagewoof2-160.tgz") as tar:
        tar.extractall(folder, filter="data")
    yield str(folder)
    shutil.rmtree(folder)


def test_photographs_have_the_counts_that_were_published(photographs):
    def load(split, scheme):
        return load_dataset("imagewoof", split=split, scheme=scheme, data_dir=photographs)

    train, val, test = (load(split, "clean") for split in ("train", "val", "test"))
    assert (len(train), len(val), len(test)) == (8687, 3767, 500)
    assert len({*train.keys, *val.keys, *test.keys}) == 8687 + 3767 + 500
    assert np.bincount(test.labels).tolist() == [50] * 10
    train, test = load("train", "paper"), load("test", "paper")
    assert (len(train), len(test)) == (9025, 3929)
    assert (~train.sees_pretraining).sum() == 338
    assert (~test.sees_pretraining).sum() == 162
    assert np.bincount(train.labels)[3] == 580  # English foxhound, the rare one
    images = [test.image(i) for i in range(0, len(test), 100)]
    assert all(image.mode == "RGB" and min(image.size) == 160 for image in images)
