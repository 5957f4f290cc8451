"""A recorded step is the step: on a GPU it is replayed, and here a recorder that only pretends shows the same."""

import copy

import pytest
import torch

from woofkit.config import TrainConfig
from woofkit.data import Images, Transform
from woofkit.fast.cuda_graph import WARM_UP, CudaRecorder, GraphedStep
from woofkit.fast.runtime import Runtime
from woofkit.train import fit, make_optimizer, set_learning_rate

BATCH = 4


class Pretender:
    """Records as a GPU does: recording computes nothing, and every replay fills the same tensors."""

    def __init__(self, classes: int):
        self.result = torch.zeros(()), torch.zeros(BATCH, classes)
        self.warmed = self.recorded = self.replayed = 0

    def warm_up(self, work):
        self.warmed += 1
        return work()

    def record(self, work):
        self.recorded += 1

        def replay():
            self.replayed += 1
            for held, new in zip(self.result, work(), strict=True):
                held.copy_(new)

        return replay, self.result


class Recording(Runtime):
    """A runtime on the CPU that records its steps."""

    def repeated(self, step, batch_size):
        object.__setattr__(self, "recorder", Pretender(10))
        return GraphedStep(step, batch_size, self.recorder)


@pytest.fixture
def split():
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (26, 3, 32, 32), generator=generator, dtype=torch.uint8)
    transform = Transform(32, None, None, False, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    return Images(pixels, torch.arange(26) % 10, transform)


def test_a_recorded_training_is_the_training_to_the_last_bit(small_vit, split):
    config = TrainConfig(epochs=2, batch_size=BATCH, lr=1e-2, schedule="cosine", device="cpu", precision="fp32")
    trained = []
    recording = Recording()
    for runtime in (Runtime(), recording):
        model = copy.deepcopy(small_vit)
        history = fit(model, {"train": split, "val": split}, config, runtime)
        losses = [
            (record["train_loss"], record["train_accuracy"], record["val_loss"], record["lr"]) for record in history
        ]
        trained.append((losses, model.state_dict()))
    assert trained[0][0] == trained[1][0]
    assert all(tensor.equal(trained[1][1][name]) for name, tensor in trained[0][1].items())
    whole = 2 * (26 // BATCH)  # the last batch of an epoch has two images, and runs as it is
    assert (recording.recorder.warmed, recording.recorder.recorded) == (WARM_UP, 1)
    assert recording.recorder.replayed == whole - WARM_UP


def test_the_learning_rate_of_a_recorded_step_changes_in_place():
    parameter = torch.nn.Parameter(torch.ones(2))
    rate = torch.tensor(1.0)
    optimizer = torch.optim.SGD([parameter], lr=rate)
    set_learning_rate(optimizer, 0.25)
    assert optimizer.param_groups[0]["lr"] is rate
    assert rate == 0.25
    plain = torch.optim.SGD([parameter], lr=1.0)
    set_learning_rate(plain, 0.25)
    assert plain.param_groups[0]["lr"] == 0.25


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_gpu_replays_what_it_would_have_computed(small_vit, split, precision):
    device = torch.device("cuda")
    trained = []
    for record in (False, True):
        model, runtime = copy.deepcopy(small_vit).to(device).train(), Runtime(device, precision)
        optimizer = make_optimizer(model, 1e-2, runtime)

        def step(images, targets, model=model, optimizer=optimizer, runtime=runtime):
            with runtime.autocast():
                logits = model(images)
            loss = torch.nn.functional.cross_entropy(logits.float(), targets)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            return loss.detach(), logits.detach()

        repeated = GraphedStep(step, BATCH, CudaRecorder(device)) if record else step
        pixels = split.transform.normalize(split.pixels.to(device))
        losses = [
            repeated(pixels[at : at + BATCH], split.labels[at : at + BATCH].to(device))[0].item() for at in range(20)
        ]
        trained.append((losses, model.state_dict()))
    assert trained[0][0] == trained[1][0]
    assert all(tensor.equal(trained[1][1][name]) for name, tensor in trained[0][1].items())
