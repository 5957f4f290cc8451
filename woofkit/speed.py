"""What makes a step fast on the device at hand: its number format, its attention kernel, its memory.

None of these is part of a model or of what it learns; `make bench` measures what each of them is worth.
"""

import ctypes
import gc
import sys
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager

import torch
from timm.layers import Attention, use_fused_attn
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn

from woofkit.config import ConfigError

BF16_CPUS = ("avx512_bf16", "amx_bf16")  # instruction sets that multiply in bf16; others would emulate it, slowly
# From how many images of training on compiling pays: it takes about a minute and saves about a tenth of each step.
# (The CPU's number is measured; a GPU takes the same minute, but has done fifty times as many images by then.)
COMPILE_FROM = {"cpu": 40_000, "cuda": 2_000_000}
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_KEPT_BYTES, _KEPT_BYTES_BEFORE = 2**30, 2**25  # older versions of glibc allow no more than the second


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


def autocast(device: torch.device, precision: str) -> AbstractContextManager:
    """bf16 mixed precision on `device`, or nothing for "fp32"."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


def prefer_fast_attention(model: nn.Module, device: torch.device) -> nn.Module:
    """Let the model use the faster attention kernel, in place: explicit matmuls on a CPU, elsewhere what timm chose.

    A fixed choice for a kind of device, so that equal runs stay equal; measured by `make bench`.
    """
    for module in model.modules():
        if hasattr(module, "fused_attn"):
            module.fused_attn = device.type != "cpu" and bool(use_fused_attn())
    return model


def class_logits(model: nn.Module, images: Tensor) -> Tensor:
    """`model(images)`, (B, 3, H, W) -> (B, C), without what the head never reads: the last block's patch tokens.

    The head of a Vision Transformer that pools by its class token reads one token of the last block's output. The
    others' attention, projection and MLP are left out, forward and backward, and no number changes but by rounding.
    Every other model is called as it is, and so is one with hooks there, which would see less.
    """
    if not _reads_class_token_alone(model):
        return model(images)
    x = model.norm_pre(model.patch_drop(model._pos_embed(model.patch_embed(images))))
    x = model.blocks[:-1](x)  # (B, N, D)
    last, attn = model.blocks[-1], model.blocks[-1].attn
    batch, tokens, _ = x.shape
    qkv = attn.qkv(last.norm1(x)).reshape(batch, tokens, 3, attn.num_heads, attn.head_dim)
    q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # (B, heads, N, d)
    q, k = attn.q_norm(q[:, :, :1]), attn.k_norm(k)
    attention = attn.attn_drop(((q * attn.scale) @ k.transpose(-2, -1)).softmax(-1))  # (B, heads, 1, N)
    y = attn.norm((attention @ v).transpose(1, 2).reshape(batch, 1, attn.attn_dim))
    x = x[:, :1] + last.drop_path1(last.ls1(attn.proj_drop(attn.proj(y))))
    x = x + last.drop_path2(last.ls2(last.mlp(last.norm2(x))))
    return model.forward_head(model.norm(x))


def logits_for(num_images: int, batch_size: int, device: torch.device) -> Callable[[nn.Module, Tensor], Tensor]:
    """The function that computes logits in a training on `num_images` (epochs times images): `class_logits`.

    In a long training it is compiled.
    """
    return compiled_logits(batch_size) if num_images >= COMPILE_FROM[device.type] else class_logits


def compiled_logits(batch_size: int) -> Callable[[nn.Module, Tensor], Tensor]:
    """`class_logits`, compiled for whole batches; the smaller last ones, which it would be compiled for anew, are not.

    Where compiling fails, for want of a C++ compiler for example, a warning says so and nothing is compiled.
    """
    compiled, works = torch.compile(class_logits, dynamic=False), None  # unknown until the first batch

    def logits(model: nn.Module, images: Tensor) -> Tensor:
        nonlocal works
        if works is False or len(images) != batch_size:
            return class_logits(model, images)
        if works:
            return compiled(model, images)
        try:
            result = compiled(model, images)
        except Exception as error:  # the compiler raises many kinds
            works = False
            warnings.warn(f"training is not compiled, and so a little slower: {error}", stacklevel=2)
            return class_logits(model, images)
        works = True
        return result

    return logits


def _reads_class_token_alone(model: nn.Module) -> bool:
    if type(model) is not VisionTransformer or model.cls_token is None or model.attn_pool is not None:
        return False
    last = model.blocks[-1]
    plain = type(last) is Block and type(last.attn) is Attention and last.attn.gate is None
    # the projection of queries, keys and values is computed as ever, so that attention can be recorded there
    cut_short = [model, model.blocks, model.norm, *(module for module in last.modules() if module is not last.attn.qkv)]
    return plain and model.global_pool == "token" and not model.grad_checkpointing and not _watched(cut_short)


def _watched(modules: list[nn.Module]) -> bool:
    """Whether anybody has put a hook, or a forward of their own, on one of these modules."""
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return any("forward" in vars(module) or any(getattr(module, hook) for hook in hooks) for module in modules)


def near(pixels: Tensor, device: torch.device) -> Tensor:
    """`pixels` on the GPU, where they take at most half of its free memory, and else where they are.

    From a GPU's own memory a batch is ready in microseconds; uint8 images are small (150 kB at 224 pixels).
    """
    if device.type != "cuda" or pixels.device.type == "cuda":
        return pixels
    free, _ = torch.cuda.mem_get_info(device)
    return pixels.to(device) if pixels.nbytes <= free // 2 else pixels


def keep_freed_memory() -> None:
    """Let this process keep the memory that tensors free, for the next tensors, instead of giving it back.

    By default the C library returns every large block to the system, and each step of a training on a CPU has its
    activations' pages mapped and cleared anew. Only glibc can be told; elsewhere nothing happens.
    """
    library = _c_library()
    if not hasattr(library, "mallopt"):
        return
    for most in (_KEPT_BYTES, _KEPT_BYTES_BEFORE):
        if library.mallopt(_M_MMAP_THRESHOLD, most):
            library.mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
            return


def return_freed_memory() -> None:
    """Give the memory that this process has freed, but kept, back to the system; only glibc can be told to."""
    gc.collect()
    library = _c_library()
    if hasattr(library, "malloc_trim"):
        library.malloc_trim(0)


def _c_library() -> ctypes.CDLL | None:
    return ctypes.CDLL(None) if sys.platform == "linux" else None
