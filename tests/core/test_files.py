"""Where results go is known to be writable before the work starts."""

import os

import pytest

from woofkit.__main__ import main
from woofkit.config import ConfigError
from woofkit.files import require_folder


def test_a_folder_that_can_be_written_stays_as_it_was(tmp_path):
    require_folder("runs_dir", tmp_path / "not" / "there" / "yet")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("place", "why"),
    [
        ("file", "Not a directory"),
        ("file/below", "Not a directory"),
        ("a" * 300, "File name too long"),
        ("a\0b", "a NUL"),
    ],
)
def test_a_place_that_cannot_be_written_is_named_with_why(tmp_path, place, why):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ConfigError, match=f"runs_dir .* cannot be written .*{why}.* allowed is a folder of your own"):
        require_folder("runs_dir", tmp_path / place)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_refused(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(ConfigError, match="Permission denied"):
        require_folder("runs_dir", tmp_path / "runs")


@pytest.mark.parametrize("command", [["train", "--method", "probe"], ["recommend"]])
def test_commands_ask_before_images_are_read(tmp_path, command, monkeypatch, capsys):
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setattr("woofkit.data.load_dataset", lambda *_, **__: pytest.fail("images are looked at"))
    assert main([*command, "-p", "runs_dir", str(tmp_path / "file" / "runs"), "-p", "data_dir", str(tmp_path)]) == 2
    assert "cannot be written" in capsys.readouterr().err
