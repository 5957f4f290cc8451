"""What is prepared for a GPU, as far as a CPU can tell: every run has its worker, and what comes back is complete."""

import tarfile

import pytest
import torch

from tools.bench import gpu
from woofkit.config import TrainConfig
from woofkit.data import Images, Transform
from woofkit.fast.runtime import Runtime
from woofkit.sweeps.grid import load_sweep


@pytest.mark.parametrize("name", ["photographs", "confirm"])
def test_every_run_has_one_worker_and_a_search_stays_with_what_waits_for_it(name):
    sweep = load_sweep(name)
    workers = [methods for sweep_name, methods in gpu.WORKERS if sweep_name == name]
    owners = {job.name: [methods for methods in workers if job.config.method in methods] for job in sweep.jobs}
    assert all(len(found) == 1 for found in owners.values())
    for job in sweep.jobs:
        for _, tried in sweep.searches.get(job.search, []):
            assert owners[tried] == owners[job.name]


def test_runs_come_back_without_their_weights_in_archives_of_limited_size(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu, "ARCHIVE_BYTES", 2500)
    root = tmp_path / "study"
    for number in range(3):
        run = root / f"full-r0-s{number}-0"
        run.mkdir(parents=True)
        for name in (*gpu.WITHOUT_WEIGHTS, "model.safetensors"):
            (run / name).write_bytes(bytes(500))
    (root / "jobs").mkdir()
    (root / "jobs" / "abc.json").write_text("{}")
    (tmp_path / "out").mkdir()
    gpu.pack(root, tmp_path / "out")
    names = []
    for path in (tmp_path / "out").iterdir():
        with tarfile.open(path) as archive:
            assert sum(member.size for member in archive) <= 2500
            names += archive.getnames()
    runs = [f"study/full-r0-s{number}-0/{name}" for number in range(3) for name in gpu.WITHOUT_WEIGHTS]
    assert sorted(names) == sorted([*runs, "study/jobs/abc.json"])


def test_a_rate_counts_images_of_whole_batches(monkeypatch):
    monkeypatch.setattr(gpu, "ROUND_SECONDS", 0.01)
    pixels = torch.zeros(10, 3, 160, 160, dtype=torch.uint8)
    images = Images(pixels, torch.arange(10), Transform(160, None, None, False, (0.5,) * 3, (0.5,) * 3))
    config = TrainConfig(model_name="test_vit", weights="random", batch_size=4)
    found = gpu._rate(images, Runtime(), config, "recorded")
    assert 0 < found["low"] <= found["images_per_second"] <= found["high"]
