"""Which linear layers LoRA adapts: named by suffix, by block, and within a fused projection by q, k and v.

timm computes queries, keys and values with one layer, `attn.qkv`, of 3 d outputs: rows 0 to d - 1 are the
queries, the next d the keys, the last d the values. "attn.qkv" adapts it as one matrix; "attn.qkv[qv]" only the
rows of the queries and the values, as the LoRA paper does.
"""

import re
from typing import NamedTuple

from torch import nn

from woofkit.config import LoRAConfig

FUSED = "qkv"  # the name of a fused projection, and its parts in order


class Target(NamedTuple):
    """A layer to adapt: the linear layer, and which of "qkv" are meant ("" is all of it, as one matrix)."""

    linear: nn.Linear
    parts: str


def find_targets(model: nn.Module, config: LoRAConfig) -> dict[str, Target]:
    """The layers that `config.targets` and `config.blocks` choose, by name, in the model's order.

    A target matches whole parts of a dotted name: "attn.proj" is never "patch_embed.proj".

    Raises:
        ValueError: a target matches no linear layer of the chosen blocks, or parts of a layer that is no fused
            projection; two targets claim one layer; the blocks are not in the model.
    """
    linears = {
        name.removesuffix(".base"): module for name, module in model.named_modules() if isinstance(module, nn.Linear)
    }  # a layer that is adapted already keeps its name
    candidates = {name: linear for name, linear in linears.items() if _in_blocks(name, config.blocks)}
    if config.blocks:
        last = max((block_of(name) for name in linears if block_of(name) is not None), default=-1)
        if config.blocks[1] > last + 1:
            raise ValueError(f"blocks {config.blocks} reach beyond the model's {last + 1}")
    chosen: dict[str, Target] = {}
    for target in config.targets:
        suffix, parts = split_target(target)
        matches = [name for name in candidates if name == suffix or name.endswith("." + suffix)]
        if not matches:
            where = f"linear layer of blocks {config.blocks[0]} to {config.blocks[1] - 1}" if config.blocks else (
                "linear layer of the model")  # fmt: skip
            known = sorted({".".join(name.split(".")[-2:]) for name in candidates})
            raise ValueError(f"target {target!r} matches no {where}: there are {', '.join(known)}")
        for name in matches:
            if parts and (not name.endswith(FUSED) or linears[name].out_features % 3):
                raise ValueError(f"target {target!r} names parts of a fused projection, and {name} is none")
            if name in chosen and chosen[name].parts != parts:
                raise ValueError(f"targets {', '.join(map(repr, config.targets))} claim {name} twice")
            chosen[name] = Target(linears[name], parts)
    return {name: chosen[name] for name in linears if name in chosen}


def split_target(target: str) -> tuple[str, str]:
    """Split "attn.qkv[qv]" into ("attn.qkv", "qv"), and "attn.proj" into ("attn.proj", "")."""
    suffix, _, parts = target.partition("[")
    return suffix, parts.removesuffix("]")


def block_of(name: str) -> int | None:
    """The number of the transformer block that a dotted name lies in, or None."""
    found = re.search(r"(?:^|\.)blocks\.(\d+)\.", name)
    return int(found[1]) if found else None


def adapter_shapes(target: Target, config: LoRAConfig) -> tuple[tuple[int, int], tuple[int, int]]:
    """The shapes of lora_A and lora_B on a target.

    With d = out / 3 and P parts: A is (rank, in), B (P d, rank), where the parts share one A; with one each
    A is (P rank, in), their A's stacked. A whole layer is one part of d = out.
    """
    linear, parts = target
    rows = linear.out_features * len(parts) // 3 if parts else linear.out_features
    stacked = 1 if config.shared_A or not parts else len(parts)
    return (stacked * config.rank, linear.in_features), (rows, config.rank)


def adapter_size(target: Target, config: LoRAConfig) -> int:
    """How many numbers an adapter on a target trains."""
    (rows_A, columns_A), (rows_B, columns_B) = adapter_shapes(target, config)
    return rows_A * columns_A + rows_B * columns_B + config.bias * rows_B


def _in_blocks(name: str, blocks: tuple[int, int] | None) -> bool:
    block = block_of(name)
    return blocks is None or (block is not None and blocks[0] <= block < blocks[1])
