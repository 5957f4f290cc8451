"""A run and its folder: identity, reuse, resumption, and the model it leaves behind."""

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from helpers import imagewoof_folder
from woofkit import progress, train
from woofkit.adapters import load_run_model
from woofkit.config import SCHEMES, ConfigError, LoRAConfig
from woofkit.data import Images, load_dataset, load_pixels, make_transform
from woofkit.fast.runtime import Runtime
from woofkit.models import build_model, data_config
from woofkit.progress import Monitor, ProgressLines
from woofkit.results import load_runs, read_answers, read_history, read_metrics, read_predictions, run_folder
from woofkit.train import evaluate, run_training


@pytest.fixture
def lora_run(tiny_run):
    return replace(tiny_run, method="lora", lora=LoRAConfig.paper(rank=2))


@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_run_leaves_a_whole_folder_and_its_model_gives_the_same_logits(tiny_run, lora_run, tmp_path, method):
    config = {"full": tiny_run, "lora": replace(lora_run, precision="bf16")}[method]
    lines = []
    run = run_training(config, tmp_path, ProgressLines(lines.append))
    weights = "adapter.safetensors" if method == "lora" else "model.safetensors"
    names = {"config.json", "history.csv", "predictions.parquet", "metrics.json", weights}
    assert {path.name for path in run.iterdir()} == names
    assert run.name.startswith(f"{method}-r{2 if method == 'lora' else 0}-s0-")
    [line] = [line for line in lines if line.startswith(f"{method:<5} epoch 1/1  loss ")]
    assert "images/s" in line
    assert line.endswith("left")

    model = load_run_model(run)
    assert not model.training
    transform = make_transform(data_config(model))
    test = load_dataset("sketchwoof", split="test", num=10, image_size=transform.size)
    pixels = load_pixels(test, transform, progress=False)
    again = evaluate(model, Images(pixels, test.labels, transform), Runtime(precision=config.precision))
    predictions = read_predictions(run)
    assert again.logits.equal(torch.tensor(predictions.filter(regex=r"^logit_").to_numpy()))
    assert tuple(predictions.key) == test.keys
    assert (predictions.label.to_numpy() == test.labels).all()
    metrics = read_metrics(run)
    assert metrics["test_accuracy"] == pytest.approx((predictions.predicted == predictions.label).mean())
    assert metrics["test_accuracy_low"] <= metrics["test_accuracy"] <= metrics["test_accuracy_high"]
    assert metrics["checkpoint_bytes"] == (run / weights).stat().st_size
    assert metrics["train_seconds"] == pytest.approx(read_history(run).seconds.sum())


def test_the_last_epoch_is_tested_beside_the_selected_one(tiny_run, tmp_path):
    config = replace(tiny_run, epochs=4, lr=0.01, num_train=20, seed=3)
    selecting, whole = (run_training(replace(config, scheme=scheme), tmp_path, Monitor()) for scheme in SCHEMES)
    metrics, answers = read_metrics(selecting), read_predictions(selecting)
    assert metrics["selected_epoch"] < 4
    assert not answers["last"].equals(answers["predicted"])
    trained = read_predictions(whole)  # without a validation split nothing is selected
    assert answers["last"].tolist() == trained["last"].tolist() == trained["predicted"].tolist()
    assert metrics["last_test_accuracy"] == pytest.approx(read_metrics(whole)["test_accuracy"])
    correct, _ = read_answers([selecting], last=True)
    assert correct.mean() == pytest.approx(metrics["last_test_accuracy"])
    assert not load_run_model(selecting).head.bias.equal(load_run_model(whole).head.bias)


def test_an_equal_finished_run_is_handed_back_untouched(tiny_run, tmp_path, monkeypatch):
    run = run_training(tiny_run, tmp_path, Monitor())
    before = {path: path.stat().st_mtime_ns for path in run.iterdir()}
    monkeypatch.setattr(train, "fit", lambda *args, **kwargs: pytest.fail("trained again"))
    lines = []
    assert run_training(replace(tiny_run, device="cpu"), tmp_path, ProgressLines(lines.append)) == run
    assert lines == [f"full: found finished in {run.name}"]
    assert {path: path.stat().st_mtime_ns for path in run.iterdir()} == before


def folder_of(config, root):
    return run_folder(config, identity_of(config), root)


def identity_of(config):
    model = train.build_for(config)
    return train.run_identity(config, train.load_splits(config, 160), model, Runtime.of(config))


def test_what_makes_runs_equal(tiny_run, tmp_path):
    weights = build_model("test_vit", num_classes=5, weights=None, seed=4)
    paths = [tmp_path / name for name in ("a.safetensors", "b.safetensors")]
    for path in paths:
        save_file(weights.state_dict(), path)
    one, same = (folder_of(replace(tiny_run, weights=str(path)), tmp_path) for path in paths)
    assert one == same  # the hash of the weights counts, not where they lie
    different = [{"lr": 0.001}, {"seed": 1}, {"epochs": 2}, {"num_test": 20}, {"batch_size": 5}, {"fast": False}]
    different += [{"label": "pose"}, {"method": "last"}, {"method": "last", "last_blocks": 2}]
    folders = {folder_of(replace(tiny_run, **change), tmp_path) for change in [{}, *different]}
    assert len(folders | {one}) == len(different) + 2
    elsewhere = replace(tiny_run, data_dir=str(tmp_path), device="cpu", last_blocks=2)  # method "last" alone has them
    assert identity_of(elsewhere) == identity_of(tiny_run)


def test_an_unfinished_run_goes_on_after_its_last_epoch(tiny_run, tmp_path):
    config = replace(tiny_run, epochs=2)

    def break_off(line):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_training(config, tmp_path / "broken", ProgressLines(break_off))
    assert load_runs(tmp_path / "broken").empty
    (unfinished,) = (tmp_path / "broken").iterdir()
    with pytest.raises(ConfigError, match=f"run .*{unfinished.name} is not finished: run_training with the same"):
        load_run_model(unfinished)
    lines = []
    resumed = run_training(config, tmp_path / "broken", ProgressLines(lines.append))
    whole = run_training(config, tmp_path / "whole", Monitor())
    assert "epoch 2/2" in lines[0]
    assert list(read_history(resumed).train_loss) == list(read_history(whole).train_loss)
    assert read_predictions(resumed).equals(read_predictions(whole))


class Watcher(Monitor):
    """A monitor that writes down what it is told, and stops after so many steps."""

    def __init__(self, steps):
        self.steps, self.begun, self.epochs, self.ended = steps, [], [], []

    def begin(self, config, num_images, history):
        self.begun.append((num_images, len(history)))

    def step(self, epoch, images, means):
        self.steps -= 1

    def epoch(self, record):
        self.epochs.append(record["epoch"])

    def stop(self):
        return self.steps <= 0

    def end(self, message):
        self.ended.append(message)


def test_a_stopped_run_is_kept_by_itself_and_the_whole_one_goes_on(tiny_run, tmp_path):
    config = replace(tiny_run, epochs=3)
    watcher = Watcher(steps=5)  # three steps per epoch
    stopped = run_training(config, tmp_path / "runs", watcher)
    assert watcher.begun == [(10, 0)]
    assert watcher.epochs == [1, 2]
    assert "stopped in epoch 2; the same settings go on after the last whole epoch" in watcher.ended[0]
    metrics = read_metrics(stopped)
    assert (metrics["stopped_epoch"], metrics["stopped_images"]) == (2, 8)
    assert list(read_history(stopped).images) == [10, 8]
    assert load_run_model(stopped).head.out_features == 10
    assert load_runs(tmp_path).empty  # it is not the run that was asked for
    assert list(load_runs(tmp_path, stopped=True).run) == [str(stopped)]

    watcher = Watcher(steps=100)
    whole = run_training(config, tmp_path / "runs", watcher)
    assert watcher.begun == [(10, 1)]
    assert watcher.epochs == [2, 3]
    assert whole != stopped
    assert "stopped_epoch" not in read_metrics(whole)
    expected = run_training(config, tmp_path / "elsewhere", Monitor())
    assert read_predictions(whole).equals(read_predictions(expected))
    assert not list((tmp_path / "runs").rglob("checkpoint.pt"))

    watcher = Watcher(steps=0)
    assert run_training(config, tmp_path / "runs", watcher) == whole  # nothing to stop
    assert watcher.begun == [(10, 3)]
    assert watcher.ended == [f"full: found finished in {whole.name}"]


def test_a_monitor_is_told_of_a_training_that_breaks_off(tiny_run, tmp_path):
    class Interrupted(Watcher):
        def step(self, epoch, images, means):
            raise KeyboardInterrupt

    watcher = Interrupted(steps=9)
    with pytest.raises(KeyboardInterrupt):
        run_training(tiny_run, tmp_path, watcher)
    assert watcher.ended == ["full: broken off (KeyboardInterrupt)"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_name": "vit_huge_patch1_32"}, "unknown model"),
        ({"dataset": "imagewoof", "data_dir": "tests"}, "tests"),
        ({"label_fraction": 0.01}, "leaves 0 images: 10 are the least"),
        ({"method": "lora", "lora": LoRAConfig(targets=("attn.value",))}, "matches no linear layer"),
    ],
)
def test_bad_settings_leave_nothing_behind(tiny_run, tmp_path, change, message):
    with pytest.raises(ConfigError, match=message):
        run_training(replace(tiny_run, **change), tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


@pytest.fixture
def photographs(tmp_path, monkeypatch):
    """A folder in ImageWoof's layout, 3 train and 3 val images per breed; pretraining has not seen the first."""
    return imagewoof_folder(tmp_path, monkeypatch, train=3, val=3)


def test_a_run_on_photographs_under_the_papers_scheme(tiny_run, tmp_path, photographs):
    weights = tmp_path / "imagenet.safetensors"
    save_file(build_model("test_vit", num_classes=1000, weights=None).state_dict(), weights)
    shared = {"dataset": "imagewoof", "scheme": "paper", "data_dir": str(photographs), "weights": str(weights)}
    config = replace(tiny_run, num_train=0, num_test=0, **shared)
    lines = []
    trained = run_training(config, tmp_path / "runs", ProgressLines(lines.append))
    assert "val" not in lines[0]  # nothing is selected: there is no validation split
    assert read_history(trained).val_accuracy.isna().all()
    zero_shot = run_training(replace(config, method="zero-shot"), tmp_path / "runs", ProgressLines(lines.append))
    assert run_training(replace(config, method="zero-shot", lr=1.0, epochs=9), tmp_path / "runs") == zero_shot

    frame = load_runs(tmp_path / "runs").set_index("method")
    assert list(frame.num_test_images) == [30, 30]
    assert list(frame.num_unseen_images) == [10, 10]  # those of val/ alone
    assert frame.trainable_parameters["zero-shot"] == 0
    predictions = read_predictions(zero_shot)
    unseen = predictions.key.str.contains("ILSVRC2012_val")
    right = predictions.predicted == predictions.label
    assert frame.unseen_accuracy["zero-shot"] == pytest.approx(right[unseen].mean())

    for image in photographs.rglob("*.JPEG"):
        image.unlink()
    photographs.rename(tmp_path / "gone")
    assert load_run_model(trained).head.out_features == 10  # needs the weights, not the images


def test_an_image_that_cannot_be_read_leaves_nothing_behind(tiny_run, tmp_path, photographs):
    broken = next((photographs / "val").rglob("*.JPEG"))
    broken.write_bytes(b"no image")
    settings = {"dataset": "imagewoof", "scheme": "paper", "data_dir": str(photographs), "num_train": 0, "num_test": 0}
    with pytest.raises(OSError, match=f"{broken.name} cannot be read"):
        run_training(replace(tiny_run, **settings), tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_the_folder_says_what_was_run_where_and_when(tiny_run, lora_run, tmp_path):
    run = run_training(tiny_run, tmp_path, Monitor())
    recorded = json.loads((run / "config.json").read_text())
    assert recorded["config"] == tiny_run.to_dict()
    assert set(recorded["identity"]) == {"settings", "data", "transform", "initial_weights"}
    assert {"date", "machine", "torch", "timm", "commit"} <= set(recorded["environment"])
    frame = load_runs(tmp_path)
    assert len(frame) == 1
    run_training(lora_run, tmp_path / "deeper", Monitor())
    frame = load_runs(tmp_path).set_index("method", drop=False)
    assert (len(frame), frame.loc["lora", "lora.rank"]) == (2, 2)
    assert frame["lora.rank"].isna()["full"]
    assert {"method", "lr", "test_accuracy", "train_seconds", "peak_memory_mb", "run"} <= set(frame.columns)


def test_long_epochs_report_in_between(tiny_run, tmp_path, monkeypatch):
    monkeypatch.setattr(progress, "PROGRESS_SECONDS", 0)
    lines = []
    run_training(replace(tiny_run, epochs=2), tmp_path, ProgressLines(lines.append))
    steps = [line for line in lines if " images  " in line]
    expected = [f"epoch {1 + (images > 10)}/2  {images} of 20 images" for images in (4, 8, 10, 14, 18, 20)]
    assert [line[6:].rsplit("  ", 2)[0].strip() for line in steps] == expected
    assert all(line.endswith("left") for line in steps)
    assert steps[-1].endswith("00:00 left")


def test_two_processes_that_want_the_same_run_train_it_once(tiny_run, tmp_path, monkeypatch):
    """The second waits for the first, and then finds what that has trained."""
    trained, waiting = [], threading.Event()
    whole = train._train

    def slowly(*arguments):
        trained.append(1)
        assert waiting.wait(60)
        return whole(*arguments)

    class Second(Monitor):
        def log(self, line):
            if "another process (" in line:
                waiting.set()

    monkeypatch.setattr(train, "_train", slowly)
    with ThreadPoolExecutor() as pool:  # each call opens the lock's file anew, as another process does
        first = pool.submit(run_training, tiny_run, tmp_path)
        while not trained:
            time.sleep(0.01)
        assert run_training(tiny_run, tmp_path, Second()) == first.result()
    assert trained == [1]
