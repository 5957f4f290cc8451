"""A faster forward of a Vision Transformer: the same logits, without what the head never reads."""

import warnings
from collections.abc import Callable

import torch
from timm.layers import Attention, use_fused_attn
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn

# From how many images of training on compiling pays: it takes about a minute and saves about a tenth of each step.
# (The CPU's number is measured; a GPU takes the same minute, but has done fifty times as many images by then.)
COMPILE_FROM = {"cpu": 40_000, "cuda": 2_000_000}


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
