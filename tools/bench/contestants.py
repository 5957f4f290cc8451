"""Who takes part, and which pairs the study compares."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from tools.bench import ours, paper_pipeline, peak, rivals
from tools.bench.setting import Setting

OTHER_ATTENTION = {"cpu": "fused", "cuda": "explicit"}  # what `prefer_fast_attention` passes over


@dataclass(frozen=True)
class Contestant:
    """`prepare(setting)`, called in the contestant's own process, returns the function that performs a round.

    With `rehearse`, every turn begins with a round that is not timed, and its memory is given back after the turn: a
    dozen processes that keep theirs would need more than most machines have.
    """

    title: str
    method: str
    ours: bool
    prepare: Callable[[Setting], Callable[[], Any]]
    rehearse: bool = True


@dataclass(frozen=True)
class Pair:
    """How many times as fast `fast` is as `slow`, two contestants of one part."""

    title: str
    part: str
    fast: str
    slow: str


def _steps(title: str, method: str, precision: str, **options: Any) -> Contestant:
    prepare = partial(ours.prepare_steps, method=method, precision=precision, **options)
    return Contestant(title, method, True, prepare)


STEPS = {
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
}
EPOCHS = {
    "full": Contestant("Full, {precision}", "full", True, partial(ours.prepare_epochs, method="full"), False),
    "lora": Contestant("LoRA, {precision}", "lora", True, partial(ours.prepare_epochs, method="lora"), False),
    "paper_full": Contestant(
        "Report's full, fp32", "full", False, partial(paper_pipeline.prepare_epochs, method="full"), False
    ),
    "paper_lora": Contestant(
        "Report's LoRA, fp32", "lora", False, partial(paper_pipeline.prepare_epochs, method="lora"), False
    ),
    "plain_fp32": Contestant("Plain DataLoader full, fp32", "full", False, rivals.prepare_plain_epochs, False),
}
PARTS = {"steps": STEPS, "epochs": EPOCHS}
PEAK = Contestant("Matrix products", "", False, peak.prepare_peak)

PAIRS = {
    "full_vs_paper": Pair("our full : the report's full", "epochs", "full", "paper_full"),
    "lora_vs_paper": Pair("our LoRA : the report's LoRA", "epochs", "lora", "paper_lora"),
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


def name_in(setting: Setting, title: str) -> str:
    """A contestant's or pair's title with what depends on the setting filled in."""
    return title.format(other=OTHER_ATTENTION[setting.device], precision=setting.precision)
