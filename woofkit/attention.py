"""What a Vision Transformer attends to: recorded beside an unchanged forward pass, and made into maps.

    with record_attention(model) as recorder:
        logits = model(images)
    maps = cls_attention(recorder.maps, *token_layout(model))  # (batch, layers, heads, grid height, width)

    with record_attention(model, gradients=True) as recorder:
        logits = model(images)
    gradients = recorder.gradients(logits.gather(1, classes[:, None]).sum())
    relevance = class_relevance(recorder.maps, gradients, *token_layout(model))  # (batch, grid height, width)

An attention map says where a layer gathers information from. It is not an explanation of a decision: neither
the CLS token's attention nor rollout depends on the class (Jain & Wallace 2019, https://arxiv.org/abs/1902.10186).
`class_relevance` does (Chefer et al. 2021, https://arxiv.org/abs/2103.15679).
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

import torch
from timm.layers import Attention, AttentionRope, apply_rot_embed_cat
from timm.models.eva import EvaAttention
from torch import Tensor, nn

HEAD_FUSIONS = {"mean": torch.mean, "max": torch.amax, "min": torch.amin}


class AttentionRecorder:
    """The attention of every forward pass inside `record_attention`.

    For gradients, it also holds the values V and the products A V, which are still part of autograd's graph.
    """

    def __init__(self, layers: tuple[int, ...]):
        self.layers = layers
        self.buffers: list[Tensor] = []  # one per forward pass, (layers, B, heads, N, N)
        self.filled: set[int] = set()  # the layers that the latest forward pass has written
        self.values: dict[int, list[Tensor]] = {layer: [] for layer in layers}  # (B, heads, N, d) each
        self.contexts: dict[int, list[Tensor]] = {layer: [] for layer in layers}  # A V, (B, N, heads * d) each

    @property
    def maps(self) -> Tensor:
        """Attention of float32, (batch, layers, heads, tokens, tokens); each row sums to 1.

        Several forward passes are joined along the batch. Raises RuntimeError if there was none.
        """
        if len(self.filled) < len(self.layers):
            raise RuntimeError("no attention was recorded: run the model inside `with record_attention(...)`")
        batches = [buffer.transpose(0, 1) for buffer in self.buffers]
        return batches[0] if len(batches) == 1 else torch.cat(batches)

    def buffer(self, layer: int, shape: tuple[int, ...], device: torch.device) -> Tensor:
        """Where to write a layer's attention of this shape; the buffer of an incomplete forward pass is dropped."""
        if not self.buffers or layer in self.filled:
            complete = self.buffers if len(self.filled) == len(self.layers) else self.buffers[:-1]
            self.buffers = [*complete, torch.empty((len(self.layers), *shape), device=device)]
            self.filled = set()
        self.filled.add(layer)
        return self.buffers[-1][self.layers.index(layer)]

    def gradients(self, score: Tensor) -> Tensor:
        """How `score`, a sum over the recorded images, changes with each attention: the shape of `maps`, float32.

        A layer adds A V to the residual stream, so d score / d A = (d score / d (A V)) V^T, head by head. This is
        exact, and the model need not compute A itself. The graph is freed, as by `backward()`.

        Raises RuntimeError if nothing was recorded with `gradients=True`.
        """
        contexts = [batch for layer in self.layers for batch in self.contexts[layer]]
        values = [batch for layer in self.layers for batch in self.values[layer]]
        if not contexts:
            raise RuntimeError(
                "no gradients were recorded: run the model inside `with record_attention(gradients=True)`"
            )
        found = []
        for gradient, value in zip(torch.autograd.grad(score, contexts), values, strict=True):
            by_head = gradient.float().unflatten(-1, (value.shape[1], -1)).transpose(1, 2)  # (B, heads, N, d)
            with torch.autocast(value.device.type, enabled=False):
                found.append(by_head @ value.float().transpose(-2, -1))
        batches = len(found) // len(self.layers)
        layers = [torch.cat(found[start : start + batches]) for start in range(0, len(found), batches)]
        return torch.stack(layers, dim=1)


@contextmanager
def record_attention(
    model: nn.Module, layers: int | Sequence[int] | None = None, gradients: bool = False
) -> Iterator[AttentionRecorder]:
    """Record softmax(q k^T / sqrt(d)) in float32 while the model computes exactly what it computes without recording.

    A hook reads the output of each `attn.qkv`, whether it is a plain layer, an adapter or a merged one. So fused
    attention, which never forms the matrix, may stay on, and the logits stay bit-equal. Queries and keys are
    normalised and rotated by position as the model does it. Layers that are not asked for cost nothing. The hooks are
    removed when the block ends, also after an exception.

    Args:
        model: a timm Vision Transformer, in eval mode for meaningful maps.
        layers: numbers of blocks from 0, or negative from the end; None for all.
        gradients: keep what `recorder.gradients(score)` needs. The model may be frozen; no parameter gets a gradient.

    Raises:
        TypeError: the blocks' attention is of another kind, or does not call one layer for queries, keys and values.
        ValueError: a layer that the model does not have, or attention under a mask.
        RuntimeError: `gradients` in a forward under no_grad or inference_mode.
    """
    attentions = _attention_modules(model)
    if layers is None:
        layers = range(len(attentions))
    recorder = AttentionRecorder(_layer_numbers([layers] if isinstance(layers, int) else layers, len(attentions)))
    with ExitStack() as stack:
        for layer in recorder.layers:
            attention = attentions[layer]
            values = recorder.values[layer] if gradients else None
            before, record = _recording_hooks(attention, recorder, layer, values)
            stack.callback(attention.register_forward_pre_hook(before, with_kwargs=True).remove)
            stack.callback(attention.qkv.register_forward_hook(record).remove)
            if gradients:  # the first module that sees A V is `norm`, an identity in most models
                hook = _context_hook(recorder.contexts[layer])
                stack.callback(attention.norm.register_forward_pre_hook(hook).remove)
        yield recorder


def token_layout(model: nn.Module, image_size: tuple[int, int] | None = None) -> tuple[tuple[int, int], int]:
    """Return the patch grid (height, width) and the number of prefix tokens, the first of them CLS.

    `image_size` (height, width) in pixels is for models that take images of any size; None is the model's own.
    Raises TypeError for a model without a class token, whose first row would be something else.
    """
    if getattr(model, "cls_token", None) is None:
        raise TypeError(f"{type(model).__name__} has no class token, which CLS maps need")
    grid = model.patch_embed.grid_size if image_size is None else model.patch_embed.dynamic_feat_size(image_size)
    return tuple(grid), model.num_prefix_tokens


def cls_attention(attention: Tensor, grid: tuple[int, int], num_prefix_tokens: int = 1) -> Tensor:
    """How much the CLS token attends to each patch: (batch, layers, heads, grid height, grid width).

    The values sum to less than 1, because CLS also attends to itself.
    """
    _check_tokens(attention, grid, num_prefix_tokens)
    return attention[..., 0, num_prefix_tokens:].unflatten(-1, grid)


def attention_rollout(
    attention: Tensor, grid: tuple[int, int], num_prefix_tokens: int = 1, head_fusion: str = "mean"
) -> Tensor:
    """Follow attention through all layers down to the patches: (batch, grid height, grid width).

    rollout = A_L ... A_2 A_1, where A_l is layer l's attention, its heads fused ("mean", "max" or "min")
    plus the identity for the residual path; each row is divided by its sum (Abnar & Zuidema 2020,
    https://arxiv.org/abs/2005.00928). `attention`, (batch, layers, heads, tokens, tokens), has all layers.
    """
    if head_fusion not in HEAD_FUSIONS:
        raise ValueError(f"unknown head_fusion {head_fusion!r}: allowed are {', '.join(map(repr, HEAD_FUSIONS))}")
    _check_tokens(attention, grid, num_prefix_tokens)
    fused = HEAD_FUSIONS[head_fusion](attention, dim=2)
    mixed = fused + torch.eye(fused.shape[-1], device=fused.device, dtype=fused.dtype)
    mixed = mixed / mixed.sum(dim=-1, keepdim=True)  # (batch, layers, tokens, tokens)
    row = mixed[:, -1, :1]  # only CLS's row of the product is wanted: a vector goes down, not a matrix
    for layer in range(mixed.shape[1] - 2, -1, -1):
        row = row @ mixed[:, layer]
    return row[:, 0, num_prefix_tokens:].unflatten(-1, grid)


def class_relevance(attention: Tensor, gradients: Tensor, grid: tuple[int, int], num_prefix_tokens: int = 1) -> Tensor:
    """Follow what speaks for a class down to the patches: (batch, grid height, grid width), none negative.

    R = (I + W_L) ... (I + W_1) with W_l = mean over heads of max(0, A_l * d score / d A_l), where the score is the
    class's logit: attention counts as far as more of it would raise the score (Chefer et al. 2021,
    https://arxiv.org/abs/2103.15679, there R + W R layer by layer). The map is the CLS token's row of R.

    Args:
        attention, gradients: (batch, layers, heads, tokens, tokens) of all layers, from `record_attention`.
    """
    _check_tokens(attention, grid, num_prefix_tokens)
    if gradients.shape != attention.shape:
        raise ValueError(f"gradients of shape {tuple(gradients.shape)} do not belong to {tuple(attention.shape)}")
    weights = (attention * gradients).clamp(min=0).mean(dim=2)  # (batch, layers, tokens, tokens)
    row = torch.eye(1, weights.shape[-1], device=weights.device, dtype=weights.dtype)  # CLS's row, top layer first
    for layer in range(weights.shape[1] - 1, -1, -1):
        row = row + row @ weights[:, layer]
    return row[:, 0, num_prefix_tokens:].unflatten(-1, grid)


def recordable_images(model: nn.Module, image_size: tuple[int, int], megabytes: int = 500) -> int:
    """How many images fit into so much memory when they are recorded with gradients; at least one."""
    (height, width), prefix = token_layout(model, image_size)
    heads = sum(attention.num_heads for attention in _attention_modules(model))
    each = 3 * 4 * heads * (prefix + height * width) ** 2  # bytes: the maps, their copy in one tensor, the gradients
    return max(1, megabytes * 10**6 // each)


def _attention_modules(model: nn.Module) -> list[Attention | AttentionRope | EvaAttention]:
    attentions = [getattr(block, "attn", None) for block in getattr(model, "blocks", ())]
    if not attentions or not all(map(_calls_qkv, attentions)):
        raise TypeError(
            f"{type(model).__name__} cannot be recorded: allowed are timm Vision Transformers whose blocks "
            "hold a timm Attention, AttentionRope or EvaAttention that calls its qkv layer, as vit_tiny_patch16_224"
        )
    return attentions


def _calls_qkv(attention: nn.Module | None) -> bool:
    """Whether this is attention that can be recorded: with a bias of its own, EVA may only read the layer's weight."""
    if not isinstance(attention, Attention | AttentionRope | EvaAttention) or attention.qkv is None:
        return False
    return getattr(attention, "q_bias", None) is None or attention.qkv_bias_separate


def _layer_numbers(layers: Sequence[int], depth: int) -> tuple[int, ...]:
    for layer in layers:
        if not isinstance(layer, int) or not -depth <= layer < depth:
            raise ValueError(f"no layer {layer!r}: allowed are 0 to {depth - 1}, or {-depth} to -1 from the end")
    numbers = tuple(layer % depth for layer in layers)
    if not numbers or len(set(numbers)) < len(numbers):
        raise ValueError(f"layers must name at least one layer, and none twice, got {list(layers)}")
    return numbers


def _recording_hooks(
    attention: nn.Module, recorder: AttentionRecorder, layer: int, values: list[Tensor] | None
) -> tuple[Callable, Callable]:
    """What to call before the attention, and after its `qkv`."""
    rope = None  # how this forward pass rotates queries and keys, if it does

    def before(_module: nn.Module, _inputs: tuple, settings: dict) -> None:
        nonlocal rope
        if settings.get("attn_mask") is not None or settings.get("is_causal"):
            raise ValueError("attention under a mask cannot be recorded: leave out attn_mask and is_causal")
        rope = settings.get("rope")

    @torch.no_grad()
    def record(_module: nn.Module, _inputs: tuple, qkv: Tensor) -> None:
        if getattr(attention, "q_bias", None) is not None:  # EVA adds it after `qkv`, and in place
            qkv = qkv + torch.cat((attention.q_bias, attention.k_bias, attention.v_bias))
        q, k, v = qkv.unflatten(-1, (3, attention.num_heads, -1)).unbind(2)  # (B, N, heads, d) each
        if values is not None:
            values.append(v.detach().transpose(1, 2))
        q, k = attention.q_norm(q.transpose(1, 2)), attention.k_norm(k.transpose(1, 2))  # (B, heads, N, d)
        if rope is not None:
            q, k = _rotated(attention, q, rope), _rotated(attention, k, rope)
        with torch.autocast(qkv.device.type, enabled=False):  # autocast would multiply in half precision
            scores = (q.float() * attention.scale) @ k.float().transpose(-2, -1)
            torch.softmax(scores, dim=-1, out=recorder.buffer(layer, scores.shape, scores.device))

    return before, record


def _rotated(attention: AttentionRope | EvaAttention, tokens: Tensor, rope: Tensor) -> Tensor:
    """Queries or keys (B, heads, N, d) with those of the patches rotated; prefix tokens have no position."""
    prefix, patches = tokens.tensor_split([attention.num_prefix_tokens], dim=2)
    turned = apply_rot_embed_cat(patches, rope, half=attention.rotate_half)
    return torch.cat([prefix, turned.to(tokens.dtype)], dim=2)


def _context_hook(contexts: list[Tensor]) -> Callable:
    def keep(_module: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor] | None:
        if not torch.is_grad_enabled() or torch.is_inference_mode_enabled():
            raise RuntimeError("gradients of attention need a forward pass with gradients: leave out no_grad")
        [tokens] = inputs
        changed = not tokens.requires_grad  # a frozen model: the graph begins here
        contexts.append(tokens.detach().requires_grad_() if changed else tokens)
        return (contexts[-1],) if changed else None

    return keep


def _check_tokens(attention: Tensor, grid: tuple[int, int], num_prefix_tokens: int) -> None:
    expected = num_prefix_tokens + grid[0] * grid[1]
    if attention.ndim != 5 or attention.shape[-2:] != (expected, expected) or num_prefix_tokens < 1:
        raise ValueError(
            f"attention of shape {tuple(attention.shape)} does not fit: allowed is "
            f"(batch, layers, heads, N, N) with N = {expected}, which is {num_prefix_tokens} prefix tokens "
            f"(1 at least) and {grid} patches"
        )
