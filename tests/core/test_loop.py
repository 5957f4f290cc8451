"""The training loop: what it computes, selects and resumes."""

import math
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from helpers import transform_for
from woofkit import progress
from woofkit import train as loop
from woofkit.config import TrainConfig
from woofkit.data import Images
from woofkit.fast.loss_guard import LossGuard
from woofkit.fast.runtime import Runtime
from woofkit.progress import Monitor
from woofkit.train import Evaluation, evaluate, fit, learning_rate, selected_epoch

TRANSFORM = transform_for(8)
PIXELS = torch.randint(0, 256, (25, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
LABELS = np.arange(25) % 10
IMAGES = Images(PIXELS, LABELS, TRANSFORM)
CONFIG = TrainConfig(weights="random", epochs=4, batch_size=10, lr=0.01, precision="fp32", device="cpu")


def new_model():
    torch.manual_seed(7)
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 16), nn.Dropout(0.3), nn.GELU(), nn.Linear(16, 10))


def watching(**methods):
    """A monitor with these functions in place of its methods."""
    monitor = Monitor()
    vars(monitor).update(methods)
    return monitor


def run_fit(model, config=CONFIG, checkpoint=None, val=None, **methods):
    """`fit` with a monitor of these methods; `val` are the validation images, if any."""
    images = {"train": IMAGES} | ({"val": val} if val else {})
    return fit(model, images, config, Runtime.of(config), checkpoint=checkpoint, monitor=watching(**methods))


def state(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def test_evaluate_is_the_mean_over_images_and_leaves_the_mode_alone():
    model = new_model().train()
    result = evaluate(model, IMAGES, batch_size=10)
    assert model.training
    with torch.inference_mode():
        logits = model.eval()(TRANSFORM.normalize(PIXELS))
    labels = torch.as_tensor(LABELS)
    assert torch.allclose(result.logits, logits, atol=1e-5)
    assert result.loss == pytest.approx(F.cross_entropy(logits, labels).item(), rel=1e-5)
    assert result.accuracy == pytest.approx((logits.argmax(1) == labels).float().mean().item())
    model.train()
    with pytest.raises(RuntimeError, match="must match the size"):
        evaluate(model, Images(PIXELS[:, :2], LABELS, TRANSFORM))
    assert model.training
    with pytest.raises(ValueError, match="evaluate got no images"):
        evaluate(model, Images(PIXELS[:0], LABELS[:0], TRANSFORM))


def test_the_epochs_loss_weighs_the_smaller_last_batch_by_its_size():
    model = new_model()
    model[2] = nn.Identity()
    expected = evaluate(model, IMAGES)
    still = replace(CONFIG, epochs=1, lr=1e-12)
    record = run_fit(model, still)[0]  # a learning rate that moves nothing: 25 images in batches of 10, 10, 5
    assert record["train_loss"] == pytest.approx(expected.loss, rel=1e-5)
    assert record["train_accuracy"] == pytest.approx(expected.accuracy)
    assert math.isnan(record["val_accuracy"])


def test_it_learns_and_only_what_is_trainable():
    model = new_model()
    model[4].requires_grad_(False)
    frozen = model[4].weight.clone()
    history = run_fit(model, replace(CONFIG, epochs=30))
    assert history[-1]["train_loss"] < 0.5 * history[0]["train_loss"]
    assert model[4].weight.equal(frozen)


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_interrupted_training_ends_as_if_it_had_not_been(tmp_path, schedule):
    config = replace(CONFIG, schedule=schedule)
    whole, broken = new_model(), new_model()
    expected = run_fit(whole, config)

    def break_after_two(record):
        if record["epoch"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_fit(broken, config, checkpoint=tmp_path / "c.pt", epoch=break_after_two)
    resumed = new_model()
    history = run_fit(resumed, config, checkpoint=tmp_path / "c.pt")
    losses = [record["train_loss"] for record in history]
    assert losses == [record["train_loss"] for record in expected]
    assert all(tensor.equal(state(whole)[name]) for name, tensor in state(resumed).items())


def stop_after(steps):
    """A `stop` that says True from so many steps on."""
    asked = iter(range(1, 1000))
    return lambda: next(asked) >= steps


@pytest.mark.parametrize(("steps", "whole_epochs", "images"), [(1, 0, [10]), (3, 1, [25]), (5, 1, [25, 20])])
def test_a_stopped_training_keeps_what_was_learned(tmp_path, steps, whole_epochs, images):
    """Three steps an epoch: the model is that of so many steps, and the checkpoint that of the last whole epoch."""
    model, checkpoint = new_model(), tmp_path / "c.pt"
    history = run_fit(model, checkpoint=checkpoint, stop=stop_after(steps))
    assert [record["images"] for record in history] == images

    states, reference = [], new_model()
    run_fit(reference, step=lambda *_: states.append(state(reference)))
    assert all(tensor.equal(states[steps - 1][name]) for name, tensor in state(model).items())
    assert checkpoint.exists() == (whole_epochs > 0)

    goes_on, begun = new_model(), []
    whole = run_fit(goes_on, checkpoint=checkpoint, begin=lambda config, count, history: begun.extend(history))
    assert len(begun) == whole_epochs
    assert [record["images"] for record in whole] == [25] * 4
    assert all(tensor.equal(states[-1][name]) for name, tensor in state(goes_on).items())


def test_a_step_reports_the_means_so_far_and_its_watcher_costs_no_training_time(monkeypatch):
    now, means = [0.0], []
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])

    def slow_watcher(epoch, images, so_far):
        means.append((images, so_far()))
        now[0] += 100.0

    record = run_fit(new_model(), replace(CONFIG, epochs=1), step=slow_watcher)[0]
    assert [images for images, _ in means] == [10, 20, 25]
    assert means[-1][1] == (record["train_loss"], record["train_accuracy"])
    assert record["seconds"] < 1


def test_the_same_seed_gives_the_same_weights_and_another_one_others():
    models = [new_model() for _ in range(3)]
    for model, seed in zip(models, (1, 1, 2), strict=True):
        run_fit(model, replace(CONFIG, epochs=1, seed=seed))
    assert models[0][1].weight.equal(models[1][1].weight)
    assert not models[0][1].weight.equal(models[2][1].weight)


@pytest.mark.parametrize("interrupted", [False, True])
def test_the_best_epoch_on_validation_is_kept(tmp_path, monkeypatch, interrupted):
    scores = iter([(0.5, 1.0), (0.7, 0.9), (0.7, 0.8), (0.6, 0.1)])  # epoch 3: as accurate as 2, lower loss
    after, model = [], new_model()

    def validate(model, images, runtime):
        assert images.pixels is IMAGES.pixels
        after.append(state(model))
        accuracy, loss = next(scores)
        return Evaluation(torch.empty(0), torch.empty(0), loss, accuracy)

    def stop(record):
        if interrupted and record["epoch"] == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(loop, "evaluate", validate)
    if interrupted:
        with pytest.raises(KeyboardInterrupt):
            run_fit(model, val=IMAGES, checkpoint=tmp_path / "c.pt", epoch=stop)
        model = new_model()
    history = run_fit(model, val=IMAGES, checkpoint=tmp_path / "c.pt")
    assert selected_epoch(history) == 3
    assert all(tensor.equal(after[2][name]) for name, tensor in state(model).items())
    assert any(not tensor.equal(after[3][name]) for name, tensor in state(model).items())


def test_validation_may_be_rarer_than_epochs_and_follows_the_last(monkeypatch):
    """Of five epochs the second, the fourth and the last are validated; the others cannot be selected."""
    scores, after, model = iter([0.5, 0.7, 0.6]), [], new_model()

    def validate(model, images, runtime):
        after.append(state(model))
        return Evaluation(torch.empty(0), torch.empty(0), 1.0, next(scores))

    monkeypatch.setattr(loop, "evaluate", validate)
    history = run_fit(model, replace(CONFIG, epochs=5, validate_every=2), val=IMAGES)
    validated = [record["epoch"] for record in history if not math.isnan(record["val_accuracy"])]
    assert (validated, selected_epoch(history)) == ([2, 4, 5], 4)
    assert all(tensor.equal(after[1][name]) for name, tensor in state(model).items())
    trained = [record["train_loss"] for record in history]
    assert trained == [record["train_loss"] for record in run_fit(new_model(), replace(CONFIG, epochs=5))]


def test_without_validation_the_last_epoch_counts():
    assert selected_epoch([{"epoch": n, "val_accuracy": math.nan, "val_loss": math.nan} for n in (1, 2)]) == 2


def test_learning_rates():
    cosine = TrainConfig(lr=0.1, schedule="cosine")
    assert learning_rate(cosine, 0, 100) == pytest.approx(0.1)
    assert learning_rate(cosine, 50, 100) == pytest.approx(0.05)
    assert learning_rate(cosine, 99, 100) < 1e-4
    assert learning_rate(TrainConfig(lr=0.1), 99, 100) == 0.1


def test_the_cosine_runs_once_over_the_whole_training():
    config = replace(CONFIG, lr=0.1, schedule="cosine")
    ends = [record["lr"] for record in run_fit(new_model(), config)]  # of the last of three steps an epoch
    assert ends == pytest.approx([0.05 * (1 + math.cos(math.pi * step / 12)) for step in (2, 5, 8, 11)])


def test_weights_that_are_no_numbers_are_named_before_training():
    model = new_model()
    with torch.no_grad():
        model[1].weight[0, 0] = math.inf
    seen = []
    with pytest.raises(
        FloatingPointError, match="^1.weight holds nan or inf before training: the weights are to blame"
    ):
        run_fit(model, step=lambda *where: seen.append(where))
    assert seen == []


def test_a_loss_that_is_no_number_before_any_update_is_not_the_rates_fault():
    images = replace(IMAGES, transform=replace(TRANSFORM, std=(0.0, 1.0, 1.0)))
    match = (
        "the loss is nan in step 1, in epoch 1, at lr 0.01: nothing had been trained yet, .* mean and std, are to blame"
    )
    with pytest.raises(FloatingPointError, match=match):
        fit(new_model(), {"train": images}, CONFIG, Runtime.of(CONFIG))


def break_after(steps, model, number=math.nan):
    """Watch a training of `model` and spoil a weight after so many steps, as a rate that is too high would."""
    seen = []

    def step(*where):
        seen.append(where)
        if len(seen) == steps:
            with torch.no_grad():
                model[1].weight.fill_(number)

    return seen, step


@pytest.mark.parametrize(("number", "loss"), [(math.nan, "nan"), (1e38, "nan|inf")])
def test_the_first_loss_that_is_no_number_ends_the_run_at_its_step_and_the_last_epoch_stays(tmp_path, number, loss):
    model, lines = new_model(), []
    seen, step = break_after(5, model, number)
    match = (
        rf"the loss is ({loss}) in step 6, in epoch 2, at lr 0.01: the weights were numbers before training \(the norm "
        r"of the gradients was [\d.]+ in step 5, in epoch 2, at lr 0.01\), so try a lower lr than 0.01"
    )
    with pytest.raises(FloatingPointError, match=match):
        run_fit(model, checkpoint=tmp_path / "c.pt", step=step)
    assert len(seen) == 5  # the sixth ended it
    again = new_model()
    history = run_fit(again, checkpoint=tmp_path / "c.pt", log=lines.append)  # goes on after the first epoch
    whole = new_model()
    assert [record["train_loss"] for record in history] == [record["train_loss"] for record in run_fit(whole)]
    assert all(tensor.equal(state(whole)[name]) for name, tensor in state(again).items())
    assert lines == []


def test_an_epoch_whose_last_step_broke_the_weights_is_not_kept(tmp_path):
    model = new_model()
    _, step = break_after(6, model)  # three steps per epoch
    with pytest.raises(
        FloatingPointError, match="1.weight holds nan or inf after the last step of epoch 2 .* in step 6"
    ):
        run_fit(model, checkpoint=tmp_path / "c.pt", step=step)
    assert len(run_fit(new_model(), replace(CONFIG, epochs=1), checkpoint=tmp_path / "c.pt")) == 1


def test_the_norm_that_is_named_is_that_of_the_steps_gradients():
    model = new_model()
    guard = LossGuard(model, 0.01, 10)
    F.cross_entropy(model(TRANSFORM.normalize(PIXELS)), torch.as_tensor(LABELS)).backward()
    norm = torch.cat([p.grad.flatten() for p in model.parameters()]).norm().item()
    guard.step(torch.tensor(2.0), 1, 0, 0.01, 10)
    with pytest.raises(FloatingPointError, match=rf"the norm of the gradients was {norm:.3g} in step 1, in epoch 1"):
        guard.step(torch.tensor(math.nan), 1, 1, 0.01, 10)


def test_bf16_computes_nearly_the_same_and_keeps_weights_and_logits_in_float32():
    model = new_model()
    exact, rounded = (evaluate(model, IMAGES, Runtime(precision=name)) for name in ("fp32", "bf16"))
    assert rounded.logits.dtype == torch.float32
    assert not rounded.logits.equal(exact.logits)
    assert torch.allclose(rounded.logits, exact.logits, atol=0.05)
    run_fit(model, replace(CONFIG, epochs=1, precision="bf16"))
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())


def test_each_epoch_has_its_own_order(monkeypatch):
    orders, original = [], loop.batches

    def record(images, batch_size, **options):
        batches = list(original(images, batch_size, **options))
        orders.append(torch.cat([images for images, _ in batches]))
        return iter(batches)

    monkeypatch.setattr(loop, "batches", record)
    for _ in range(2):
        run_fit(new_model(), replace(CONFIG, epochs=2))
    first, second, first_again, second_again = orders
    assert not first.equal(second)
    assert (first.equal(first_again), second.equal(second_again)) == (True, True)


def test_a_training_that_has_ended_is_not_continued(tmp_path):
    first, again = new_model(), new_model()
    expected = run_fit(first, checkpoint=tmp_path / "c.pt")
    seen = []
    history = run_fit(again, checkpoint=tmp_path / "c.pt", epoch=seen.append)
    assert (len(history), len(expected), seen) == (4, 4, [])
    assert all(tensor.equal(state(first)[name]) for name, tensor in state(again).items())


@pytest.mark.parametrize(("share", "said"), [(0.3, True), (0.9, False)])
def test_a_line_says_when_other_programs_have_the_cores(monkeypatch, share, said):
    monkeypatch.setattr(progress, "SECONDS_TO_JUDGE", 0.0)
    start = time.perf_counter()
    threads = torch.get_num_threads()
    monkeypatch.setattr(time, "process_time", lambda: share * threads * (time.perf_counter() - start))
    lines = []
    run_fit(new_model(), replace(CONFIG, epochs=1), log=lines.append)
    assert any("other programs are at work" in line for line in lines) == said
