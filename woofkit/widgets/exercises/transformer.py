"""Check what a student writes about the Vision Transformer: one block, rollout, and how many patches a map uses."""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import torch
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from woofkit.attention import attention_rollout
from woofkit.plots.style import method_name
from woofkit.widgets.exercises.answers import (
    UNANSWERED,
    Failed,
    as_number,
    as_tensor,
    attempt,
    checker,
    close,
    recognised,
    shown,
    tensor_trouble,
    unanswered,
)

WIDTH, HEADS, TOKENS = 12, 3, 5


# --- one block ---


@checker
def check_block(forward: Any) -> str:
    """Try `forward(block, x)` on a small timm block of which only the layers may be called."""
    block, x = _block()
    attn = SimpleNamespace(qkv=block.attn.qkv, proj=block.attn.proj, num_heads=HEADS)
    layers = SimpleNamespace(norm1=block.norm1, attn=attn, norm2=block.norm2, mlp=block.mlp)
    given = attempt(forward, layers, x)
    if unanswered(forward) or unanswered(given):
        return UNANSWERED
    if isinstance(given, Failed) and "'types.SimpleNamespace' object is not callable" in given:
        return "Wrong: block(x) and block.attn(x) are what you are to write: call only norm1, qkv, proj, norm2 and mlp."
    if trouble := tensor_trouble(given, x.shape):
        return f"Wrong: {trouble}."
    with torch.no_grad():
        if close(given, block(x)):
            return "Right: your block computes what timm's does."
        mistakes = {words: written_out(block, x, **flaw) for words, flaw in FLAWS.items()}
    found = recognised(given, mistakes)
    return f"Wrong: {found or 'the result is not what timm computes; print the shapes after every line'}."


FLAWS: dict[str, dict[str, Any]] = {
    "the residual paths are missing: x + attention(...), then x + mlp(...)": {"residual": (0, 0)},
    "the residual path around the attention is missing": {"residual": (0, 1)},
    "the residual path around the MLP is missing": {"residual": (1, 0)},
    "the scores are not divided by the root of a head's width": {"root": 1.0},
    "divide the scores by the root of a head's width, not of the whole width": {"root": WIDTH**0.5},
    "divide the scores by the root of a head's width, not by the width itself": {"root": WIDTH / HEADS},
    "the softmax runs over the wrong axis: each query's shares of the keys sum to 1 (dim=-1)": {"axis": -2},
    "there is only one head: split queries, keys and values into num_heads first": {"heads": 1},
    "the order in qkv is queries, keys, values; yours is another": {"order": (1, 0, 2)},
    "the order in qkv is queries, keys, values; yours is values first": {"order": (2, 1, 0)},
    "the order in qkv is queries, keys, values; you swap keys and values": {"order": (0, 2, 1)},
    "norm1 is not used before qkv": {"norm1": False},
    "norm2 is not used before the MLP": {"norm2": False},
    "neither norm is used": {"norm1": False, "norm2": False},
    "proj is not used after the heads": {"proj": False},
    "the MLP must read x after the attention, not the x that came in": {"stale": True},
    "the attention is missing": {"attention": False},
    "the MLP is missing": {"mlp": False},
    "this is x as it came in": {"attention": False, "mlp": False},
}


def written_out(
    block: Block, x: Tensor, *, heads: int = HEADS, root: float = (WIDTH / HEADS) ** 0.5, axis: int = -1, **flaws: Any
) -> Tensor:
    """The forward of a block, (batch, tokens, width) -> the same, step by step; with flaws, what a mistake gives."""
    order, residual = flaws.get("order", (0, 1, 2)), flaws.get("residual", (1, 1))
    came_in, (batch, tokens, width) = x, x.shape
    if flaws.get("attention", True):
        normed = block.norm1(x) if flaws.get("norm1", True) else x
        qkv = block.attn.qkv(normed).reshape(batch, tokens, 3, heads, width // heads).permute(2, 0, 3, 1, 4)
        q, k, v = (qkv[place] for place in order)  # (batch, heads, tokens, width of a head) each
        mixed = (q @ k.mT / root).softmax(axis) @ v
        joined = mixed.transpose(1, 2).reshape(batch, tokens, width)
        x = residual[0] * x + (block.attn.proj(joined) if flaws.get("proj", True) else joined)
    if flaws.get("mlp", True):
        read = came_in if flaws.get("stale") else x
        x = residual[1] * x + block.mlp(block.norm2(read) if flaws.get("norm2", True) else read)
    return x


def _block() -> tuple[Block, Tensor]:
    """A block with weights large enough that every mistake shows, and tokens (2, TOKENS, WIDTH) for it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(6)
        block = Block(WIDTH, HEADS, mlp_ratio=2, qkv_bias=True).eval().requires_grad_(False)
        for parameter in block.parameters():
            nn.init.normal_(parameter, std=0.6)
        return block, torch.randn(2, TOKENS, WIDTH)


# --- rollout ---


@checker
def check_rollout_by_hand(shares: Any, attention: Tensor) -> str:
    """Judge two shares, of the first and the second patch, by `attention_rollout` of two blocks (2, 3, 3)."""
    expected = attention_rollout(attention[None, :, None], grid=(1, 2))[0, 0]
    if unanswered(shares):
        return UNANSWERED
    given = attempt(list, shares)
    given = [] if isinstance(given, Failed) else [as_number(share) for share in given]
    if len(given) != 2 or any(share != share for share in given):
        return "Wrong: write two shares, as in [0.5, 0.5]; leave out what CLS keeps of itself."
    if all(abs(share - due) < 0.005 for share, due in zip(given, expected.tolist(), strict=True)):
        return "Right. And CLS in the last block alone gives the second patch nothing at all."
    variants = _rollouts(attention[:, None])
    for words in variants:
        wrong = variants[words][1:].tolist()
        if all(abs(share - due) < 0.005 for share, due in zip(given, wrong, strict=True)):
            return f"Wrong: {words}."
    if max(given) > 1:
        return "Wrong: write shares of 1, not per cent."
    return "Wrong: the first row of the second block's matrix, times the first block's matrix."


@checker
def check_rollout(rollout: Any) -> str:
    """Try `rollout(attention)`, (blocks, heads, tokens, tokens) -> shares (tokens - 1,), by `attention_rollout`."""
    generator = torch.Generator().manual_seed(7)
    trials = [(2 * torch.randn(*shape, generator=generator)).softmax(-1) for shape in ((3, 2, 5, 5), (2, 4, 10, 10))]
    for attention in trials:
        patches = attention.shape[-1] - 1
        expected = attention_rollout(attention[None], grid=(1, patches))[0, 0]
        given = attempt(rollout, attention)
        if unanswered(rollout) or unanswered(given):
            return UNANSWERED
        tensor = as_tensor(given)
        if tensor is not None and tuple(tensor.shape) == (patches + 1,):
            return "Wrong: leave out what CLS keeps of itself, the first share."
        if trouble := tensor_trouble(given, (patches,)):
            return f"Wrong: {trouble}."
        if not close(given, expected):
            mistakes = {words: shares[1:] for words, shares in _rollouts(attention).items()}
            usual = "average the heads, add the identity, divide each row by its sum, and multiply the last block first"
            return f"Wrong: {recognised(given, mistakes) or usual}."
    return "Right: your rollout gives what attention_rollout gives."


def _rollouts(attention: Tensor) -> dict[str, Tensor]:
    """What mistakes give as CLS's shares of all tokens, (tokens,), from attention (blocks, heads, tokens, tokens)."""
    mean, eye = attention.mean(1), torch.eye(attention.shape[-1])
    halved = (mean + eye) / 2

    def product(blocks: Tensor) -> Tensor:
        result = eye
        for block in blocks:
            result = block @ result
        return result

    summed = attention.sum(1) + eye
    return {
        "the identity is missing: each token also keeps itself": product(mean)[0],
        "divide each row by its sum after adding the identity": product(mean + eye)[0],
        "the blocks are multiplied in the wrong order: the last block stands at the left": product(halved.flip(0))[0],
        "this is CLS's column; what flows into CLS is its row": product(halved)[:, 0],
        "this is the column, and of blocks in the wrong order": product(halved.flip(0))[:, 0],
        "the heads are added up; take their mean": product(summed / summed.sum(-1, keepdim=True))[0],
        "this is the last block alone": mean[-1, 0],
        "this is the last block alone, with the identity": halved[-1, 0],
        "this is the first block alone": halved[0, 0],
        "the strongest head is taken; take the mean of the heads": product(
            (attention.amax(1) + eye) / (attention.amax(1) + eye).sum(-1, keepdim=True)
        )[0],
    }


# --- patches used ---


@checker
def check_patches_used(function: Any, maps: Mapping[str, Tensor]) -> str:
    """Try the effective number of patches on maps whose answer is known, then on the models' (N, height, width)."""
    grid = next(iter(maps.values())).shape[1:]
    patches = grid.numel()
    even, one_patch = torch.full(grid, 1 / patches), torch.zeros(grid)
    one_patch[0, 0] = 1
    trials = [attempt(function, each) for each in (even, one_patch)]
    if unanswered(function) or all(unanswered(trial) for trial in trials):
        return UNANSWERED
    on_even, on_one = map(as_number, trials)
    if abs(on_even - patches) < 0.01 * patches and abs(on_one - 1) < 0.01:
        used = {name: stack / stack.sum(dim=(1, 2), keepdim=True) for name, stack in maps.items()}
        means = {name: sum(as_number(attempt(function, each)) for each in s) / len(s) for name, s in used.items()}
        words = ", ".join(f"{method_name(name)} {mean:.0f}" for name, mean in means.items())
        return f"Right. Of {patches} patches use, on average: {words}."
    return f"Wrong: {_patches_hint(trials, on_even, on_one, patches)}"


def _patches_hint(trials: list, on_even: float, on_one: float, patches: int) -> str:
    for trial in trials:
        if isinstance(trial, Failed):
            return f"your function gives no result: {trial}."
        if isinstance(trial, Tensor) and trial.numel() > 1:
            return "return one number per map, not a matrix: sum over the patches."
    if abs(on_even - patches) < 0.01 * patches and on_one != on_one:
        return "where a share is 0, 0 · ln 0 gives NaN and has to count as 0."
    entropy = torch.tensor(float(patches)).log().item()
    if abs(on_even - entropy) < 0.01:
        return "this is the entropy; the number of patches is exp of it."
    if abs(on_even * patches - 1) < 0.01:
        return "the sign is missing: exp(-sum p ln p)."
    given = " and ".join(shown(trial) for trial in trials)
    return f"the even map uses {patches} patches and the single patch 1; yours gives {given}."
