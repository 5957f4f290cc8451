"""Who takes part: our contestants, which call what a run of the study calls; all of them as a table; and the pairs."""

import time
from collections.abc import Callable, Iterator
from functools import cache, partial
from itertools import count
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from tools.bench import rivals
from tools.bench.setting import LR, Setting, Step, build_vit, ready_batch, repeat_step, timm_config, train_on
from woofkit.data import Images, batches, load_pixels, make_transform
from woofkit.fast.forward import compiled_logits, plain_logits
from woofkit.fast.runtime import pick_precision
from woofkit.train import make_optimizer, train_step


def prepare_steps(
    setting: Setting, method: str, precision: str, other_attention: bool = False, compiled: bool = False
) -> Callable[[], int]:
    """Training steps on a ready batch; `other_attention` takes the kernel that `prefer_fast_attention` passes over."""
    step, model = our_step(setting, method, precision)
    if other_attention:
        for block in model.blocks:
            block.attn.fused_attn = not block.attn.fused_attn
    step = partial(step, forward=compiled_logits(setting.batch_size)) if compiled else step
    return repeat_step(setting.runtime(precision).repeated(step, setting.batch_size), setting)


def prepare_epochs(setting: Setting, method: str) -> Callable[[], int]:
    """Epochs over the files, which are read in the first one."""
    step, model = our_step(setting, method, setting.precision)
    runtime, epochs = setting.runtime(setting.precision), count()

    @cache
    def images() -> Images:
        transform = make_transform(timm_config(model, setting))
        pixels = runtime.near(load_pixels(setting.pictures, transform, progress=False))
        return Images(pixels, setting.pictures.labels, transform)

    def shuffled() -> Iterator[tuple[Tensor, Tensor]]:
        return batches(images(), setting.batch_size, device=runtime.device, generator_seed=next(epochs))

    return train_on(shuffled, runtime.repeated(step, setting.batch_size))


def our_step(setting: Setting, method: str, precision: str) -> tuple[Step, nn.Module]:
    """What a run of the study does with a batch, and the model that it trains."""
    runtime = setting.runtime(precision)
    model = runtime.prepare(build_vit(setting, method))
    return partial(train_step, model, optimizer=make_optimizer(model, LR, runtime), runtime=runtime), model


def prepare_peak(setting: Setting) -> Callable[[], dict[str, float]]:
    """The yardstick: GFLOP/s of a block's four products with a batch's tokens, in either format; and FLOPs per image.

    These are the step's own shapes, so a step without anything else would reach it.
    """
    shapes, formats = _block_products(setting), {"fp32": torch.float32, "bf16": torch.bfloat16}
    native = pick_precision("auto", torch.device(setting.device)) == "bf16"
    operands = {}
    for precision, dtype in formats.items():
        tokens = (
            1 if native or precision == "fp32" else 16
        )  # an emulated bf16 takes its time: a sixteenth tells as much
        pairs = [(torch.randn(rows // tokens, inner), torch.randn(inner, out)) for rows, inner, out in shapes]
        operands[precision] = [tuple(each.to(setting.device, dtype) for each in pair) for pair in pairs]
    counts = {"flops_per_image": False, "model_flops_per_image": True}
    flops = {name: count_step_flops(setting, whole) / setting.batch_size for name, whole in counts.items()}

    def perform() -> dict[str, float]:
        peaks = {}
        for precision, pairs in operands.items():
            speeds = [_gflops(pairs) for _ in range(6)]
            peaks[precision] = max(speeds[1:])  # the first warms up
        return peaks | flops

    return perform


def _block_products(setting: Setting) -> list[tuple[int, int, int]]:
    """(tokens, in, out) of the linear layers of a block, for a batch."""
    model = build_vit(setting)
    tokens = setting.batch_size * (model.patch_embed.num_patches + model.num_prefix_tokens)
    layers = [layer for layer in model.blocks[0].modules() if isinstance(layer, nn.Linear)]
    return [(tokens, layer.in_features, layer.out_features) for layer in layers]


def count_step_flops(setting: Setting, whole: bool = False) -> int:
    """FLOPs of one step of our full fine-tuning on a batch, counted while it runs (a multiply-add is two).

    What the step leaves out is not counted, so that a share of the peak says how busy the device was; `whole` counts
    the step of the model as timm calls it, the usual yardstick of training speed (model FLOPs utilisation).
    """
    step, _ = our_step(setting, "full", "bf16")
    with FlopCounterMode(display=False) as counter:
        step(*ready_batch(setting), forward=plain_logits if whole else None)
    return counter.get_total_flops()


def synchronize(device: str) -> None:
    """Wait until the device has done what it was told; a CPU has."""
    if device == "cuda":
        torch.cuda.synchronize()


def _gflops(pairs: list[tuple[Tensor, Tensor]]) -> float:
    device = pairs[0][0].device.type
    synchronize(device)
    start = time.perf_counter()
    for a, b in pairs:
        a @ b
    synchronize(device)
    seconds = time.perf_counter() - start
    return sum(2 * len(a) * b.numel() for a, b in pairs) / seconds / 1e9


class Contestant(NamedTuple):
    """`prepare(setting)`, called in the contestant's own process, returns the function that performs a round.

    With `rehearse`, every turn begins with a round that is not timed, and its memory is given back after the turn: a
    dozen processes that keep theirs would need more than most machines have.
    """

    title: str
    method: str
    ours: bool
    prepare: Callable[[Setting], Callable[[], Any]]
    rehearse: bool = True


def _steps(title: str, method: str, precision: str, **options: bool) -> Contestant:
    return Contestant(title, method, True, partial(prepare_steps, method=method, precision=precision, **options))


def _epochs(title: str, method: str, prepare: Callable[..., Callable[[], int]] = prepare_epochs) -> Contestant:
    return Contestant(title, method, prepare is prepare_epochs, partial(prepare, method=method), rehearse=False)


PARTS = {
    "steps": {
        "full_bf16": _steps("Full, bf16", "full", "bf16"),
        "lora_bf16": _steps("LoRA, bf16", "lora", "bf16"),
        "probe_bf16": _steps("Probe, bf16", "probe", "bf16"),
        "full_fp32": _steps("Full, fp32", "full", "fp32"),
        "lora_fp32": _steps("LoRA, fp32", "lora", "fp32"),
        "full_bf16_other_attention": _steps("Full, bf16, {other} attention", "full", "bf16", other_attention=True),
        "full_bf16_compiled": _steps("Full, bf16, compiled", "full", "bf16", compiled=True),
        "lora_bf16_compiled": _steps("LoRA, bf16, compiled", "lora", "bf16", compiled=True),
        "peft_bf16": Contestant("PEFT LoRA, bf16", "lora", False, rivals.prepare_peft_steps),
        "peft_bf16_our_attention": Contestant(
            "PEFT LoRA, bf16, our attention", "lora", False, partial(rivals.prepare_peft_steps, our_attention=True)
        ),
        "plain_fp32": Contestant("Plain PyTorch full, fp32", "full", False, rivals.prepare_plain_steps),
    },
    "epochs": {
        "full": _epochs("Full, {precision}", "full"),
        "lora": _epochs("LoRA, {precision}", "lora"),
        "paper_full": _epochs("Paper's full, fp32", "full", rivals.prepare_paper_epochs),
        "paper_lora": _epochs("Paper's LoRA, fp32", "lora", rivals.prepare_paper_epochs),
        "plain_fp32": Contestant("Plain DataLoader full, fp32", "full", False, rivals.prepare_plain_epochs, False),
    },
}
PEAK = Contestant("Matrix products", "", False, prepare_peak)


class Pair(NamedTuple):
    """How many times as fast `fast` is as `slow`, two contestants of one part."""

    title: str
    part: str
    fast: str
    slow: str


PAIRS = {
    "full_vs_paper": Pair("our full : the paper's full", "epochs", "full", "paper_full"),
    "lora_vs_paper": Pair("our LoRA : the paper's LoRA", "epochs", "lora", "paper_lora"),
    "full_vs_dataloader": Pair("our full : plain DataLoader, fp32", "epochs", "full", "plain_fp32"),
    "lora_vs_full_epoch": Pair("our LoRA : our full", "epochs", "lora", "full"),
    "lora_vs_peft": Pair("our LoRA : PEFT as found, bf16", "steps", "lora_bf16", "peft_bf16"),
    "lora_vs_peft_our_attention": Pair(
        "our LoRA : PEFT with our attention, bf16", "steps", "lora_bf16", "peft_bf16_our_attention"
    ),
    "lora_vs_full_bf16": Pair("our LoRA : our full, bf16", "steps", "lora_bf16", "full_bf16"),
    "lora_vs_full_fp32": Pair("our LoRA : our full, fp32", "steps", "lora_fp32", "full_fp32"),
    "probe_vs_full": Pair("our probe : our full, bf16", "steps", "probe_bf16", "full_bf16"),
    "our_vs_other_attention": Pair(
        "our full : the same with {other} attention, bf16", "steps", "full_bf16", "full_bf16_other_attention"
    ),
    "full_compiled": Pair("our full, compiled : the same as it is, bf16", "steps", "full_bf16_compiled", "full_bf16"),
    "lora_compiled": Pair("our LoRA, compiled : the same as it is, bf16", "steps", "lora_bf16_compiled", "lora_bf16"),
    "full_vs_plain_fp32": Pair("our full : plain PyTorch full, fp32", "steps", "full_fp32", "plain_fp32"),
    "full_bf16_vs_plain": Pair("our full, bf16 : plain PyTorch full, fp32", "steps", "full_bf16", "plain_fp32"),
}
