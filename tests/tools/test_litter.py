"""A folder of drawings: as many classes and pictures as asked for, the same ever, and found as a dataset."""

import pytest

from tools.litter import main, write_litter
from woofkit.config import ConfigError
from woofkit.data import load_dataset


def test_the_folder_is_a_dataset(tmp_path):
    folder = write_litter(tmp_path / "litter", 3, 10)
    assert [path.name for path in sorted(folder.iterdir())] == ["breed 1", "breed 2", "breed 3"]
    splits = [load_dataset("folder", split=split, data_dir=str(folder)) for split in ("train", "val", "test")]
    assert sum(map(len, splits)) == 30
    assert splits[0].class_names == ("breed 1", "breed 2", "breed 3")
    again = write_litter(tmp_path / "again", 3, 10)
    assert all((again / path.relative_to(folder)).read_bytes() == path.read_bytes() for path in folder.glob("*/*"))


def test_what_cannot_be_written_is_refused(tmp_path, capsys):
    with pytest.raises(ConfigError, match="breeds = 1 is out of range: allowed is from 2 to 200"):
        write_litter(tmp_path / "new", 1, 10)
    assert main([str(tmp_path)]) != 0
    assert "is there already: name a folder that is not" in capsys.readouterr().err
