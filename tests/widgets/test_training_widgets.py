"""Laws of the training monitor and the LoRA calculator."""

import re
from dataclasses import replace

import pytest

from helpers import control, page
from woofkit.config import ConfigError, LoRAConfig, TrainConfig
from woofkit.lora import add_lora, count_lora_parameters
from woofkit.models import build_model, count_parameters
from woofkit.plots.pages import live_curves
from woofkit.results import read_metrics
from woofkit.train import Means, run_training
from woofkit.widgets import monitor
from woofkit.widgets.calculator import calculator_figure, lora_calculator, sum_in_words
from woofkit.widgets.monitor import TrainingMonitor

RECORD = {"train_loss": 1.5, "train_accuracy": 0.4, "val_loss": 1.6, "val_accuracy": 0.35}
RECORD |= {"images_per_second": 30.0}


@pytest.fixture
def now(monkeypatch):
    """The clock of the monitor and of its tqdm bar, to be set."""
    seconds = [0.0]
    monkeypatch.setattr(monitor.time, "monotonic", lambda: seconds[0])
    monkeypatch.setattr("tqdm.std.time", lambda: seconds[0])
    return seconds


@pytest.fixture
def drawn(monkeypatch):
    """What was drawn: (epochs so far, running), the latest last."""
    calls = []

    def record(history, epochs, num_images, method, running=None):
        calls.append((len(history), running))
        return b"png"

    monkeypatch.setattr(monitor, "live_curves", record)
    return calls


# --- the monitor ---


def test_the_words_give_epoch_images_rate_and_time_left(now, drawn):
    watch = TrainingMonitor()
    assert watch.button.disabled
    watch.begin(TrainConfig(epochs=4), 600, [RECORD | {"epoch": 1, "images": 600}])
    assert not watch.button.disabled
    assert watch.bar.value == 1 / 4
    now[0] = 10.0
    watch.step(2, 300, lambda: Means(1.2, 0.5))
    words = watch.heading.value
    said = "Full fine-tuning, epoch 2 of 4, 300 of 600 images, 30.00 images/s, 00:50 left"  # 1,500 images at 30/s
    assert said in words
    assert watch.bar.value == 900 / 2400
    watch.step(2, 320, lambda: pytest.fail("so soon?"))
    assert watch.heading.value == words  # twice in no time


def test_curves_are_drawn_now_and_then_and_after_each_epoch(now, drawn):
    watch = TrainingMonitor()
    watch.begin(TrainConfig(epochs=2), 100, [])
    assert drawn == [(0, None)]
    for tenth in range(1, 60):
        now[0] = tenth / 10
        watch.step(1, tenth, lambda: Means(1.2, 0.5))
    between = [running for _, running in drawn[1:]]
    assert len(between) == 2  # in six seconds, one every two
    assert between[0] == (0.2, 1.2, 0.5)
    watch.epoch(RECORD | {"epoch": 1, "images": 100})
    assert drawn[-1] == (1, None)
    assert "after epoch 1 the training accuracy is 40.0%, the validation accuracy 35.0%" in watch.curves.value


def test_a_slow_picture_takes_no_more_than_its_share(now, monkeypatch):
    def slow(*_):
        now[0] += 1.0
        return b"png"

    monkeypatch.setattr(monitor, "live_curves", slow)
    watch = TrainingMonitor()
    watch.begin(TrainConfig(epochs=1), 1000, [])
    begin, pictures, last = now[0], 0, watch.curves.value
    for images in range(1, 999):
        now[0] += 0.5
        before = now[0]
        watch.step(1, images, lambda: Means(1.0, 0.5))
        pictures += now[0] > before
    assert last
    assert 0 < pictures <= monitor.CURVES_SHARE * (now[0] - begin) + 1


def test_stop_ends_a_real_training_and_saves_what_was_learned(tiny_run, tmp_path):
    class Pressed(TrainingMonitor):
        def step(self, epoch, images, means):
            self.button.click()

    watch = Pressed()
    stopped = run_training(tiny_run, tmp_path, monitor=watch)
    assert read_metrics(stopped)["stopped_images"] == 4  # one batch
    assert watch.button.disabled
    assert "stopped in epoch 1" in watch.heading.value
    assert 'role="status"' in watch.heading.value
    whole = run_training(tiny_run, tmp_path, monitor=TrainingMonitor())
    assert whole != stopped


def test_a_monitor_says_what_became_of_what_never_began():
    watch = TrainingMonitor()
    watch.end("full: broken off (out of memory)")
    assert "out of memory" in watch.heading.value
    assert watch.button.disabled


def test_what_trains_nothing_has_a_monitor_all_the_same(tiny_run):
    watch = TrainingMonitor()
    watch.begin(replace(tiny_run, method="zero-shot"), 0, [])
    watch.end("zero-shot: test accuracy 50.0%")
    assert "no epoch has ended yet" in watch.curves.value
    assert watch.bar.value == 0


def test_a_monitor_can_be_used_again(now, drawn):
    watch = TrainingMonitor()
    for _ in range(2):
        watch.begin(TrainConfig(), 100, [])
        assert not watch.stop()
        watch.button.click()
        assert watch.stop()
        assert watch.button.disabled
        watch.end("over & out")
    assert "over &amp; out" in watch.heading.value


@pytest.mark.parametrize("history", [[], [RECORD | {"epoch": 1, "images": 60}]])
@pytest.mark.parametrize("running", [None, (0.7, 1.0, 0.5)])
def test_live_curves_are_a_picture_whatever_there_is(history, running):
    png = live_curves(history, 5, 100, "lora", running)
    assert png.startswith(b"\x89PNG")


# --- the calculator ---


@pytest.fixture(scope="module")
def model():
    return build_model("vit_tiny_patch16_224", weights=None)


@pytest.fixture
def box(model):
    return lora_calculator(model, LoRAConfig.paper())


def shown(box):
    """(trained, total) as the page says."""
    found = re.search(r"([\d,]+) of ([\d,]+) parameters", page(box))
    return tuple(int(number.replace(",", "")) for number in found.groups())


def test_it_begins_with_the_papers_number(box):
    assert shown(box) == (177_418, 5_526_346)
    assert "attn.qkv: 12 × (12 × (192 + 576) + 576) = 117,504" in page(box)


@pytest.mark.parametrize(
    ("changes", "config"),
    [
        ({"rank": 1}, {"rank": 1}),
        ({"attn.qkv": False}, {"targets": ("attn.proj",)}),
        ({"mlp.fc1": True}, {"targets": ("attn.qkv", "attn.proj", "mlp.fc1")}),
        ({"blocks": (9, 12)}, {"blocks": (8, 12)}),
        ({"a bias beside B": False}, {"bias": False}),
        ({"train the final norm": False}, {"modules_to_save": ("head",)}),
    ],
)
def test_each_control_gives_what_add_lora_trains(box, changes, config):
    for name, value in changes.items():
        control(box, name).value = value
    paper = {"rank": 12, "bias": True, "modules_to_save": ("norm", "head"), "targets": ("attn.qkv", "attn.proj")}
    adapted = add_lora(build_model("vit_tiny_patch16_224", weights=None), LoRAConfig(**paper | config))
    assert shown(box)[0] == count_parameters(adapted).trainable


def test_the_sum_in_words_adds_up(model):
    config = LoRAConfig.paper(rank=7)
    parts = [int(re.search(r"([\d,]+)$", line)[1].replace(",", "")) for line in sum_in_words(model, config)]
    assert sum(parts) == count_lora_parameters(model, config)


def test_no_layer_is_answered_by_a_sentence(box):
    for name in ("attn.qkv", "attn.proj"):
        control(box, name).value = False
    assert "Choose at least one kind of layer" in page(box)
    control(box, "mlp.fc2").value = True
    assert shown(box)[0] > 0


def test_a_model_with_adapters_or_without_blocks_is_refused(small_vit):
    with pytest.raises(ConfigError, match="the model has adapters already"):
        lora_calculator(add_lora(small_vit, LoRAConfig()), LoRAConfig())
    with pytest.raises(ConfigError, match="Linear has none of the layers attn.qkv, attn.proj"):
        lora_calculator(build_model("test_vit", weights=None).head, LoRAConfig())


def test_its_figure_has_one_line_per_choice_and_marks_the_adapter(model):
    fig = calculator_figure(model, LoRAConfig.paper(rank=4))
    [ax] = fig.axes
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert f"rank 4: {count_lora_parameters(model, LoRAConfig.paper(rank=4)):,}" in labels
    assert any(label.endswith(" 177,418") for label in labels)
    assert len(labels) == 7
