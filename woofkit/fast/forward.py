"""A faster forward of a Vision Transformer: the same logits, without what the head never reads."""

import warnings
from collections.abc import Callable
from functools import partial

import torch
from timm.layers import Attention, PatchEmbed, use_fused_attn
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

# From how many images of training on compiling pays. On a CPU it takes about a minute and saves a tenth of each step;
# on an H100 it takes 27 s and saves 45% (14,400 instead of 8,100 images/s in full fine-tuning with batches of 128).
COMPILE_FROM = {"cpu": 40_000, "cuda": 500_000}

Forward = Callable[[nn.Module, Tensor], Tensor]
Step = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]  # images (B, 3, H, W), targets (B,) -> loss, logits (B, C)
# What `fast_logits` takes from the inside of timm's Attention; without it the model is called as it is.
ATTENTION_PARTS = ("gate", "num_heads", "head_dim", "attn_dim", "scale", "q_norm", "k_norm", "attn_drop", "norm")


def plain_logits(model: nn.Module, images: Tensor) -> Tensor:
    """`model(images)`: the whole model as timm calls it, (B, 3, H, W) -> (B, C)."""
    return model(images)


def fast_logits(model: nn.Module, images: Tensor) -> Tensor:
    """`model(images)`, (B, 3, H, W) -> (B, C), without what the head never reads: the last block's patch tokens.

    The head of a Vision Transformer that pools by its class token reads one token of the last block's output. The
    others' attention, projection and MLP are left out, forward and backward, and no number changes but by rounding.
    Every other model is called as it is, and so is one with hooks there, which would see less.
    """
    if not reads_class_token_alone(model):
        return model(images)
    return logits_from(model, embed(model, images), 0)


def embed(model: nn.Module, images: Tensor) -> Tensor:
    """The tokens that enter the first block: (B, 3, H, W) -> (B, N, D)."""
    return model.norm_pre(model.patch_drop(model._pos_embed(_patch_tokens(model.patch_embed, images))))


def logits_from(model: nn.Module, tokens: Tensor, start: int) -> Tensor:
    """The logits (B, C) of a model that `reads_class_token_alone`, from the tokens (B, N, D) that enter block `start`.

    Behind the last block, at `start` = depth, the class token alone goes on: (B, 1, D).
    """
    return model.forward_head(model.norm(tokens_after(model, tokens, start, len(model.blocks))))


def tokens_after(model: nn.Module, x: Tensor, start: int, end: int) -> Tensor:
    """The tokens (B, N, D) that enter block `end`, from those that enter block `start`; at the depth (B, 1, D)."""
    depth = len(model.blocks)
    if start in (depth, end):
        return x
    steps = [*model.blocks[start : min(end, depth - 1)]]
    if end == depth:
        steps.append(partial(_class_token_after, model.blocks[-1]))
    for step in steps:
        again = model.grad_checkpointing and torch.is_grad_enabled()
        x = checkpoint(step, x, use_reentrant=False) if again else step(x)
    return x


def _class_token_after(last: Block, x: Tensor) -> Tensor:
    """The class token (B, 1, D) that leaves the last block, from the tokens (B, N, D) that enter it."""
    attn = last.attn
    batch, tokens, _ = x.shape
    qkv = attn.qkv(last.norm1(x)).reshape(batch, tokens, 3, attn.num_heads, attn.head_dim)
    q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # (B, heads, N, d)
    q, k = attn.q_norm(q[:, :, :1]), attn.k_norm(k)
    attention = attn.attn_drop(((q * attn.scale) @ k.transpose(-2, -1)).softmax(-1))  # (B, heads, 1, N)
    y = attn.norm((attention @ v).transpose(1, 2).reshape(batch, 1, attn.attn_dim))
    x = x[:, :1] + last.drop_path1(last.ls1(attn.proj_drop(attn.proj(y))))
    return x + last.drop_path2(last.ls2(last.mlp(last.norm2(x))))


def _patch_tokens(embed: nn.Module, images: Tensor) -> Tensor:
    """`embed(images)`, (B, 3, H, W) -> (B, N, D), in the form that suits the device."""
    known = type(embed) is PatchEmbed and embed.flatten and images.shape[2:] == embed.img_size
    if images.device.type == "cpu" or not known or _watched([embed, embed.proj]):
        return embed(images)
    return patch_product(embed, images)


def patch_product(embed: PatchEmbed, images: Tensor) -> Tensor:
    """`embed(images)`, (B, 3, H, W) -> (B, N, D), as one product with the patches, which do not overlap.

    A GPU's libraries have only slow convolutions for so large a stride; those of a CPU are fast.
    """
    (height, width), (batch, channels, *_) = embed.patch_size, images.shape
    patches = images.unflatten(3, (-1, width)).unflatten(2, (-1, height))  # (B, 3, rows, height, columns, width)
    patches = patches.permute(0, 2, 4, 1, 3, 5).reshape(batch, -1, channels * height * width)  # (B, N, 3 height width)
    return embed.norm(F.linear(patches, embed.proj.weight.flatten(1), embed.proj.bias))


def compiled_logits(batch_size: int) -> Forward:
    """`fast_logits`, compiled for whole batches; the smaller last ones, which it would be compiled for anew, are not.

    Where compiling fails, for want of a C++ compiler for example, a warning says so and nothing is compiled.
    """
    compiled, works = torch.compile(fast_logits, dynamic=False), None  # unknown until the first batch

    def logits(model: nn.Module, images: Tensor) -> Tensor:
        nonlocal works
        if works is False or len(images) != batch_size:
            return fast_logits(model, images)
        if works:
            return compiled(model, images)
        try:
            result = compiled(model, images)
        except Exception as error:  # the compiler raises many kinds
            works = False
            warnings.warn(f"training is not compiled, and so a little slower: {error}", stacklevel=2)
            return fast_logits(model, images)
        works = True
        return result

    return logits


def prefer_fast_attention(model: nn.Module, device: torch.device, fast: bool = True) -> nn.Module:
    """Let the model use the faster attention kernel, in place: explicit matmuls on a CPU, elsewhere what timm chose.

    A fixed choice for a kind of device, so that equal runs stay equal; measured by `make bench`. With `fast=False` what
    timm chose, on every device.
    """
    for module in model.modules():
        if hasattr(module, "fused_attn"):
            module.fused_attn = bool(use_fused_attn()) and not (fast and device.type == "cpu")
    return model


def reads_class_token_alone(model: nn.Module) -> bool:
    """Whether the head reads the class token alone, and nothing watches what this room leaves out."""
    if type(model) is not VisionTransformer or model.cls_token is None or model.attn_pool is not None:
        return False
    last = model.blocks[-1]
    if type(last) is not Block or type(last.attn) is not Attention:
        return False
    known = all(hasattr(last.attn, part) for part in ATTENTION_PARTS) and last.attn.gate is None
    # the projection of queries, keys and values is computed as ever, so that attention can be recorded there
    cut_short = [model, model.blocks, model.norm, *(module for module in last.modules() if module is not last.attn.qkv)]
    return known and model.global_pool == "token" and not _watched(cut_short)


def _watched(modules: list[nn.Module]) -> bool:
    """Whether one of these modules carries a hook or a forward of its own. PyTorch has no public way to ask."""
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return any("forward" in vars(module) or any(getattr(module, hook) for hook in hooks) for module in modules)
