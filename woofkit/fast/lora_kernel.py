"""LoRA as one matrix product: the same outputs as the formula's two, forward and backward, for less time and memory."""

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from woofkit.lora import LoRALinear, lora_layers

COLUMNS = 8  # matrix units of CPUs and GPUs take columns by eights


def use_fast_lora(model: nn.Module, fast: bool = True) -> nn.Module:
    """Let every LoRA layer compute as `FastLoRALinear`, or, with `fast=False`, as the formula stands; in place."""
    for layer in lora_layers(model).values():
        layer.__class__ = FastLoRALinear if fast else LoRALinear
    return model


class FastLoRALinear(LoRALinear):
    """A `LoRALinear` that multiplies once, by W + scaling * B A.

    With dropout in training the adapter sees another input than the base, and the formula is computed as it stands.
    """

    def forward(self, x: Tensor) -> Tensor:
        """As `LoRALinear`; equal to its `merged()` to the last bit.

        Raises RuntimeError where somebody has unfrozen the base.
        """
        if not self.enabled or (self.training and self.dropout.p > 0):
            return super().forward(x)
        if self.base.weight.requires_grad and torch.is_grad_enabled():
            raise RuntimeError("a layer with LoRA is frozen and gets no gradient: call remove_lora(model) to train it")
        dtype = x.dtype
        if torch.is_autocast_enabled(x.device.type) and dtype != torch.float64:
            dtype = torch.get_autocast_dtype(x.device.type)
        with torch.no_grad():
            weight, bias = self.adapted()
        constant = (weight.to(dtype), None if bias is None else bias.to(dtype))
        return _OneProduct.apply(x.to(dtype), *constant, *self.matrices(), self.scaling)


class _OneProduct(torch.autograd.Function):
    """y = x weight^T + bias, where `weight` and `bias` hold an update whose factors are to learn.

    Forward and backward cost what the frozen layer costs, and products with R columns: the weight's own gradient,
    (out, in), is never made. For many tokens and a small rank this order of products is the cheapest (Cherniuk et al.
    2023, https://arxiv.org/abs/2312.03415). The frozen weight and bias get no gradient. R is rounded up to `COLUMNS`
    for them, and one of the columns added gives the bias its gradient, which would else take a pass over dy.

    Shapes: x (..., in), weight (out, in), bias (out,) or None, A (R, in), B (out, R), lora_bias (out,) or None.
    """

    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        A: Tensor,
        B: Tensor,
        lora_bias: Tensor | None,
        scaling: float,
    ) -> Tensor:
        ctx.save_for_backward(x, weight, A, B)
        ctx.scaling, ctx.has_bias = scaling, lora_bias is not None
        return F.linear(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: torch.autograd.function.FunctionCtx, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, A, B = ctx.saved_tensors
        dx = dy @ weight if ctx.needs_input_grad[0] else None
        if not any(ctx.needs_input_grad[3:6]):
            return dx, None, None, None, None, None, None
        x, dy = x.reshape(-1, x.shape[-1]), dy.reshape(-1, dy.shape[-1])  # (tokens, in), (tokens, out)
        rank = len(A)
        spare = -rank % COLUMNS or COLUMNS  # at least one column is left, for the bias
        A_wide = F.pad(A.to(x.dtype), (0, 0, 0, spare))  # (R + spare, in)
        B_wide = F.pad(B.to(x.dtype), (0, spare))  # (out, R + spare)
        down = x @ A_wide.T  # (tokens, R + spare)
        down[:, rank] = 1  # its product with dy is the sum of dy over the tokens
        dB = ctx.scaling * (down.T @ dy)  # (R + spare, out)
        dA = ctx.scaling * ((dy @ B_wide).T @ x)[:rank]  # (R, in)
        dbias = dB[rank].to(B.dtype) if ctx.has_bias else None
        return dx, None, None, dA.to(A.dtype), dB[:rank].T.to(B.dtype), dbias, None
