"""Where and how a run computes: "auto" becomes a fact here, once per run, and is passed down as one `Runtime`.

The faster forms of this room are chosen here and nowhere else; `fast=False` computes as the formulas stand.
"""

from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn

from woofkit.config import ConfigError, TrainConfig
from woofkit.fast.forward import (
    COMPILE_FROM,
    Forward,
    Step,
    compiled_logits,
    fast_logits,
    logits_from,
    plain_logits,
    prefer_fast_attention,
)
from woofkit.fast.lora_kernel import use_fast_lora
from woofkit.fast.memory import keep_freed_memory
from woofkit.fast.ranks import Ranks

# Images per batch where nothing is trained. On a CPU more would leave the caches; a GPU needs many to be busy.
EVALUATION_BATCH = {"cpu": 64, "cuda": 512}
BF16_CPUS = ("avx512_bf16", "amx_bf16")  # instruction sets that multiply in bf16; others would emulate it, slowly


@dataclass(frozen=True)
class Runtime:
    """The device, the number format ("fp32" or "bf16"), whether the faster forms are used, and where they start.

    With a `start` above 0, tokens that enter that block take the images' place (`fast.frozen`). `micro_batch` and
    `checkpointing` are the settings of the same names. Beside other processes of one training, `ranks` has this one's
    place among them.
    """

    device: torch.device = torch.device("cpu")
    precision: str = "fp32"
    fast: bool = True
    start: int = 0
    micro_batch: int = 0
    checkpointing: bool = False
    ranks: Ranks = Ranks()

    @classmethod
    def pick(cls, device: str = "auto", precision: str = "auto", fast: bool = True) -> "Runtime":
        """Resolve "auto": the GPU if there is one, and bf16 where the device multiplies in it.

        Raises:
            ConfigError: "cuda" is asked for and there is none.
        """
        picked = pick_device(device)
        return cls(picked, pick_precision(precision, picked), fast)

    @classmethod
    def of(cls, config: TrainConfig) -> "Runtime":
        """The runtime of a run with these settings, among the processes that torchrun has started, if any.

        Raises ConfigError as `pick` and `Ranks.join`.
        """
        runtime = cls.pick(config.device, config.precision, config.fast)
        ranks = Ranks.join(runtime.device)
        return replace(runtime, micro_batch=config.micro_batch, checkpointing=config.checkpointing, ranks=ranks)

    def prepare(self, model: nn.Module) -> nn.Module:
        """Move a model to the device and give it the kernels that suit the device, in place."""
        if self.fast:
            keep_freed_memory()
        if self.checkpointing:
            model.set_grad_checkpointing()
        return use_fast_lora(prefer_fast_attention(model.to(self.device), self.device, self.fast), self.fast)

    def forward(self, num_images: int = 0, batch_size: int = 0) -> Forward:
        """The function that computes logits from a model and its images, (B, 3, H, W) -> (B, C).

        For a training on `num_images` (epochs times images) that is long enough to pay for it, compiled.
        """
        if self.start:
            return partial(logits_from, start=self.start)
        if not self.fast:
            return plain_logits
        batch_size = self.ranks.size(batch_size)
        part = min(self.micro_batch or batch_size, batch_size)
        return compiled_logits(part) if num_images >= COMPILE_FROM[self.device.type] else fast_logits

    def repeated(self, step: Step, batch_size: int) -> Step:
        """A training step that is to be repeated on batches of `batch_size`: on a GPU recorded and replayed.

        A step in parts or with checkpointing is not recorded: it is to save memory, which a recording keeps for
        itself, and checkpointing reads the state of the random numbers, which no recording allows. Neither is one that
        waits for other processes.
        """
        unfit = self.micro_batch or self.checkpointing or self.ranks.count > 1
        if not self.fast or self.device.type != "cuda" or unfit:
            return step
        from woofkit.fast.cuda_graph import CudaRecorder, GraphedStep

        return GraphedStep(step, batch_size, CudaRecorder(self.device))

    def autocast(self) -> AbstractContextManager:
        """bf16 mixed precision on the device, or nothing for "fp32"."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16")

    @property
    def evaluation_batch(self) -> int:
        """Images per batch where nothing is trained."""
        return EVALUATION_BATCH[self.device.type]

    def near(self, pixels: Tensor) -> Tensor:
        """`pixels` on the GPU, where they take at most half of its free memory, and otherwise where they are.

        From a GPU's own memory a batch is ready in microseconds; uint8 images are small (150 kB at 224 pixels).
        """
        if self.device.type != "cuda" or pixels.device.type == "cuda":
            return pixels
        free, _ = torch.cuda.mem_get_info(self.device)
        return pixels.to(self.device) if pixels.nbytes <= free // 2 else pixels


def pick_device(name: str) -> torch.device:
    """The device for "auto" (a GPU if there is one), "cpu" or "cuda".

    Raises:
        ConfigError: "cuda" is asked for and there is none.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device 'cuda' is not available here: allowed are 'auto' and 'cpu'")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def pick_precision(precision: str, device: torch.device) -> str:
    """What "auto" means on `device`: "bf16" where it multiplies in bf16, "fp32" elsewhere; others stay."""
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    able = torch.cpu.get_capabilities()
    return "bf16" if any(able.get(instructions) for instructions in BF16_CPUS) else "fp32"
