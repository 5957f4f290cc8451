"""A linear layer with a low-rank update beside its frozen weight (Hu et al. 2022).

A frozen weight W (out x in) is left as it is and learns an update of low rank:

    h = W x + scaling * B A x        A: (rank, in), B: (out, rank), scaling = alpha / rank

In rsLoRA the scaling is alpha / sqrt(rank), so that the update keeps its size as the rank grows. B starts at
zero, so that the adapted layer equals the frozen one before its first step.
"""

import math

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from woofkit.config import LoRAConfig
from woofkit.targets import FUSED, Target, adapter_shapes


class LoRALinear(nn.Module):
    """A linear layer with a trainable low-rank update: `base(x) + scaling * (B A x + lora_bias)`.

    Without dropout it is computed as one product, with the weight W + scaling * B A.

    Args:
        base: the layer as it was; it is frozen, and neither copied nor changed.
        config: rank, alpha, dropout (on the adapter's input), bias and start of A.
        parts: for a fused projection of queries, keys and values: those to adapt, such as "qv". The other
            rows of the output are the base's.

    Shapes: x (..., in) -> (..., out); lora_A (rank, in); lora_B (out, rank); lora_bias (out,) or None. With parts,
    out stands for the adapted rows, and lora_A is (len(parts) * rank, in) unless they share one A.
    """

    def __init__(self, base: nn.Linear, config: LoRAConfig, parts: str = ""):
        super().__init__()
        self.base = base.requires_grad_(False)
        self.rank, self.scaling, self.parts = config.rank, config.scaling, parts
        self.enabled = True
        shape_A, shape_B = adapter_shapes(Target(base, parts), config)
        like = {"device": base.weight.device, "dtype": base.weight.dtype}
        self.lora_A = nn.Parameter(torch.empty(shape_A, **like))
        self.lora_B = nn.Parameter(torch.zeros(shape_B, **like))
        self.lora_bias = nn.Parameter(torch.zeros(shape_B[0], **like)) if config.bias else None
        self.dropout = nn.Dropout(config.dropout)
        if config.init_std is None:
            nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))
        else:
            nn.init.normal_(self.lora_A, std=config.init_std)

    def forward(self, x: Tensor) -> Tensor:
        if not self.enabled:
            return self.base(x)
        if self.training and self.dropout.p > 0:  # the adapter sees another x than the base
            low_rank = F.linear(self.dropout(x), self.lora_A) * self.scaling  # (..., columns)
            return self.base(x) + F.linear(low_rank, self._whole_b(), self.delta_bias())
        return self._one_product(x)

    def adapted(self) -> tuple[Tensor, Tensor | None]:
        """The weight W + scaling * B A, (out, in), and the bias b + scaling * lora_bias, (out,) or None."""
        biases = [bias for bias in (self.base.bias, self.delta_bias()) if bias is not None]
        return self.base.weight + self.delta_weight(), sum(biases) if biases else None

    def _one_product(self, x: Tensor) -> Tensor:
        """The forward with the adapted weight; the adapter and the base see the same x.

        Raises RuntimeError where somebody has unfrozen the base.
        """
        if self.base.weight.requires_grad and torch.is_grad_enabled():
            raise RuntimeError("a layer with LoRA is frozen and gets no gradient: call remove_lora(model) to train it")
        dtype = x.dtype
        if torch.is_autocast_enabled(x.device.type) and dtype != torch.float64:
            dtype = torch.get_autocast_dtype(x.device.type)
        with torch.no_grad():
            weight, bias = self.adapted()
        constant = (weight.to(dtype), None if bias is None else bias.to(dtype))
        adapter = (self.lora_A, self.lora_B, self.lora_bias)
        return _AdaptedLinear.apply(x.to(dtype), *constant, *adapter, self.scaling, self.pieces())

    def _whole_b(self) -> Tensor:
        """B over all rows of the output and all columns of A x, (out, len(lora_A)): zero where nothing is adapted."""
        if not self.parts:
            return self.lora_B
        whole = self.lora_B.new_zeros(self.base.out_features, len(self.lora_A))
        for rows, columns, adapted in self.pieces():
            whole[rows, columns] = self.lora_B[adapted]
        return whole

    def delta_weight(self) -> Tensor:
        """The update of the weight, scaling * B A, of shape (out, in); zero in rows that are not adapted."""
        delta = self.base.weight.new_zeros(self.base.weight.shape)
        with torch.autocast(delta.device.type, enabled=False):  # it would round a small update to half precision
            for rows, columns, adapted in self.pieces():
                delta[rows] = self.scaling * self.lora_B[adapted] @ self.lora_A[columns]
        return delta

    def delta_bias(self) -> Tensor | None:
        """The update of the bias, of shape (out,), or None without a trained bias."""
        if self.lora_bias is None:
            return None
        delta = self.lora_bias.new_zeros(self.base.out_features)
        for rows, _, adapted in self.pieces():
            delta[rows] = self.scaling * self.lora_bias[adapted]
        return delta

    def pieces(self) -> list[tuple[slice, slice, slice]]:
        """For each part: its rows of the output, its rows of lora_A, its rows of lora_B and lora_bias."""
        if not self.parts:
            return [(slice(None), slice(None), slice(None))]
        d, one_each = self.base.out_features // 3, len(self.lora_A) > self.rank
        starts = [(d * FUSED.index(part), self.rank * i * one_each, d * i) for i, part in enumerate(self.parts)]
        return [(slice(q, q + d), slice(a, a + self.rank), slice(b, b + d)) for q, a, b in starts]

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """A plain linear layer that computes the same, to the last bit."""
        weight, bias = self.adapted()
        out_features, in_features = weight.shape
        like = {"device": weight.device, "dtype": weight.dtype}
        linear = nn.utils.skip_init(nn.Linear, in_features, out_features, bias=bias is not None, **like)
        linear.weight.copy_(weight)
        if bias is not None:
            linear.bias.copy_(bias)
        return linear.requires_grad_(False).train(self.training)

    def extra_repr(self) -> str:
        settings = f"rank={self.rank}, scaling={self.scaling:g}, bias={self.lora_bias is not None}"
        return settings + (f", parts={self.parts}" if self.parts else "")


class _AdaptedLinear(torch.autograd.Function):
    """y = x weight^T + bias, where `weight` and `bias` hold an update whose factors are to learn.

    Forward and backward cost what the frozen layer costs, and products with `rank` columns: the weight's own
    gradient, (out, in), is never made. For many tokens and a small rank this order of products is the cheapest
    (Cherniuk et al. 2023, https://arxiv.org/abs/2312.03415). The frozen weight and bias get no gradient.
    """

    @staticmethod
    def forward(ctx, x, weight, bias, lora_A, lora_B, lora_bias, scaling, pieces) -> Tensor:
        ctx.save_for_backward(x, weight, lora_A, lora_B)
        ctx.scaling, ctx.pieces, ctx.has_bias = scaling, pieces, lora_bias is not None
        return F.linear(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, lora_A, lora_B = ctx.saved_tensors
        dx = dy @ weight if ctx.needs_input_grad[0] else None
        if not any(ctx.needs_input_grad[3:6]):
            return dx, None, None, None, None, None, None, None
        x, dy = x.reshape(-1, x.shape[-1]), dy.reshape(-1, dy.shape[-1])  # (tokens, in), (tokens, out)
        dA, dB = torch.zeros_like(lora_A), torch.zeros_like(lora_B)
        dbias = lora_B.new_zeros(len(lora_B)) if ctx.has_bias else None
        for rows, columns, adapted in ctx.pieces:
            A, B, dy_part = lora_A[columns].to(x.dtype), lora_B[adapted].to(x.dtype), dy[:, rows]
            dA[columns] += ctx.scaling * ((dy_part @ B).T @ x)
            dB[adapted] = ctx.scaling * ((x @ A.T).T @ dy_part).T
            if ctx.has_bias:
                dbias[adapted] = ctx.scaling * dy_part.sum(0)
        return dx, None, None, dA, dB, dbias, None, None
