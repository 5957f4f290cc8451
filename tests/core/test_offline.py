"""WOOFKIT_OFFLINE: no socket beyond this machine is opened, and what is missing is named with what fetches it."""

import socket

import pytest

from woofkit import data
from woofkit.__main__ import main
from woofkit.config import ConfigError
from woofkit.datasets import download, imagewoof
from woofkit.measure import source_tasks
from woofkit.models import build_model

TINY = {"model_name": "test_vit", "weights": "random", "precision": "fp32", "num_train": 10, "num_test": 20}
TINY |= {"epochs": 1, "batch_size": 4}


@pytest.fixture
def opened(monkeypatch, tmp_path):
    """The addresses beyond this machine that are asked for, all in vain; nothing has been downloaded before."""
    asked = []

    def refuse(address, *_, **__):
        asked.append(address)
        raise OSError("there is no network")

    def connect(self, address):
        return refuse(address) if self.family in (socket.AF_INET, socket.AF_INET6) else usual(self, address)

    usual = socket.socket.connect
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setattr(socket.socket, "connect_ex", connect)
    for module in (data, source_tasks):
        monkeypatch.setattr(module, "PROJECT_ROOT", tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    return asked


@pytest.fixture
def offline(opened, monkeypatch):
    monkeypatch.setenv("WOOFKIT_OFFLINE", "1")
    return opened


def parameters(**settings) -> list[str]:
    return [word for name, value in settings.items() for word in ("-p", f"{name}={value}")]


def test_drawings_are_trained_on_without_any_network(offline, tmp_path, monkeypatch):
    monkeypatch.setitem(data.SKETCH_SIZES, "val", 10)
    assert main(["train", "--method", "probe", *parameters(**TINY, runs_dir=tmp_path / "runs")]) == 0
    assert len(list(tmp_path.glob("runs/*/*/metrics.json"))) == 1
    assert offline == []


@pytest.mark.parametrize(
    ("command", "missing", "fetch"),
    [
        (
            ["train", "--method", "probe", "--profile", "paper"],
            "timm's weights for 'vit_tiny_patch16_224'",
            "-p weights timm",
        ),
        (["fetch", "--profile", "paper"], "timm's weights", "-p weights timm -p model_name vit_tiny_patch16_224"),
        (["fetch", *parameters(dataset="imagewoof")], "imagewoof2-160", "-p dataset imagewoof -p image_variant 160"),
        (
            ["fetch", *parameters(dataset="imagewoof", image_variant="full")],
            "imagewoof2",
            "-p dataset imagewoof -p image_variant full",
        ),
        (["fetch", "--imagenette"], "imagenette2-160", "--imagenette"),
    ],
)
def test_what_is_missing_is_named_with_the_command_that_fetches_it(offline, command, missing, fetch, capsys):
    assert main(command) == 2
    message = capsys.readouterr().err
    assert message.startswith(f"error: {missing}")
    assert "WOOFKIT_OFFLINE is set: where there is internet, run python -m woofkit fetch" in message
    assert f"fetch {fetch}" in message
    assert offline == []


def test_without_it_the_network_is_asked(opened):
    """So the tests above would see a socket that is opened."""
    with pytest.raises(ConfigError, match="could not be loaded"):
        build_model("vit_tiny_patch16_224", weights="timm")
    with pytest.raises(ConnectionError, match="cannot be reached"):
        imagewoof.fetch_archive(imagewoof.ARCHIVES["160"], data.PROJECT_ROOT)
    assert len(opened) >= 2


def test_weights_that_do_not_lie_on_the_hub_are_not_asked_for(offline):
    with pytest.raises(ConfigError, match="are not on this machine, and WOOFKIT_OFFLINE is set"):
        build_model("vit_giant_patch16_gap_224.in22k_ijepa", weights="timm")
    assert offline == []


@pytest.mark.parametrize(("value", "means"), [("1", True), ("yes", True), ("0", False), ("", False)])
def test_what_the_variable_may_say(monkeypatch, value, means):
    monkeypatch.setenv("WOOFKIT_OFFLINE", value)
    assert download.is_offline() == means


def test_fetch_says_when_all_is_there(offline, tmp_path, capsys):
    assert main(["fetch", *parameters(**TINY)]) == 0
    assert "all is here that a study with profile 'demo' needs" in capsys.readouterr().out
    assert offline == []
