"""Our contestants: the functions that a run of the study calls for its batches and steps."""

from collections.abc import Callable

from torch import Tensor

from tools.bench.setting import LR, Setting, build_vit, our_transform, repeat_step
from woofkit.data import Images, batches, load_pixels
from woofkit.fast.forward import compiled_logits
from woofkit.train import make_optimizer, train_step


def prepare_steps(
    setting: Setting, method: str, precision: str, other_attention: bool = False, compiled: bool = False
) -> Callable[[], int]:
    """Training steps on a ready batch; `other_attention` takes the kernel that `prefer_fast_attention` passes over."""
    runtime = setting.runtime(precision)
    model = runtime.prepare(build_vit(setting, method))
    if other_attention:
        for block in model.blocks:
            block.attn.fused_attn = not block.attn.fused_attn
    optimizer = make_optimizer(model, LR)
    forward = compiled_logits(setting.batch_size) if compiled else runtime.forward()

    def step(images: Tensor, targets: Tensor) -> None:
        train_step(model, images, targets, optimizer, runtime, forward)

    return repeat_step(step, setting)


def prepare_epochs(setting: Setting, method: str) -> Callable[[], int]:
    """Epochs over the files, which are read in the first one."""
    runtime = setting.runtime(setting.precision)
    model = runtime.prepare(build_vit(setting, method))
    transform, optimizer = our_transform(model, setting), make_optimizer(model, LR)
    images, epoch = None, 0

    def perform() -> int:
        nonlocal images, epoch
        if images is None:
            pixels = runtime.near(load_pixels(setting.pictures, transform, progress=False))
            images = Images(pixels, setting.pictures.labels, transform)
        for batch, targets in batches(images, setting.batch_size, device=runtime.device, generator_seed=epoch):
            train_step(model, batch, targets, optimizer, runtime)
        epoch += 1
        return len(images)

    return perform
