"""A checkpoint is trusted only if it is whole and its run's own; otherwise the one before it counts, or none."""

import numpy as np
import pytest
import torch

from woofkit.storage.checkpoints import before, load_checkpoint, remove_checkpoints, save_checkpoint

CPU = torch.device("cpu")
TRAINABLE = {"head.weight": torch.zeros(3, 4)}


def state(epochs, shape=(3, 4)):
    tensors = {"head.weight": torch.full(shape, float(epochs))}
    return {"history": [{"epoch": number} for number in range(epochs)], "best": {}, "optimizer": {}, "tensors": tensors}


@pytest.fixture
def path(tmp_path):
    folder = tmp_path / "full-r0-s0-abc"
    folder.mkdir()
    save_checkpoint(folder / "checkpoint.pt", state(1))
    save_checkpoint(folder / "checkpoint.pt", state(2))
    return folder / "checkpoint.pt"


def load(path, lines=None):
    return load_checkpoint(path, TRAINABLE, CPU, [].append if lines is None else lines.append)


def test_the_last_state_comes_back_and_the_one_before_lies_beside_it(path):
    assert len(load(path)["history"]) == 2
    path.unlink()
    assert len(load(path)["history"]) == 1
    remove_checkpoints(path)
    assert load(path) == {}
    assert not list(path.parent.iterdir())


def test_a_flipped_bit_anywhere_in_the_numbers_is_noticed(path):
    content = bytearray(path.read_bytes())
    place = bytes(content).index(np.float32(2).tobytes() * 3)
    content[place + 2] ^= 1
    path.write_bytes(content)
    lines = []
    assert len(load(path, lines)["history"]) == 1
    assert len(lines) == 1
    assert lines[0].startswith("checkpoint.pt is damaged (the checksum of ")


@pytest.mark.parametrize("content", [b"", b"junk", None], ids=["empty", "junk", "cut"])
def test_a_damaged_file_gives_way_to_the_one_before(path, content):
    path.write_bytes(path.read_bytes()[:-100] if content is None else content)
    lines = []
    assert len(load(path, lines)["history"]) == 1
    assert "checkpoint.pt is damaged" in lines[0]
    before(path).write_bytes(b"")
    assert load(path) == {}


def test_the_checkpoint_of_another_run_is_refused(path, tmp_path):
    other = tmp_path / "full-r0-s1-def"
    other.mkdir()
    (other / "checkpoint.pt").write_bytes(path.read_bytes())
    lines = []
    assert load(other / "checkpoint.pt", lines) == {}
    assert lines == ["checkpoint.pt is not this run's (it was written for full-r0-s0-abc): passed over"]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [(state(3, shape=(1, 4)), "its tensors are others"), ({"history": []}, "it has not what a training needs")],
)
def test_a_state_that_does_not_fit_is_refused(path, wrong, message):
    save_checkpoint(path, wrong)
    lines = []
    assert len(load(path, lines)["history"]) == 2
    assert message in lines[0]
