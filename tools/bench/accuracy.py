"""What the optimisations do to the accuracy: the same training without all of them, and without each, seed by seed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from woofkit import train as evaluation
from woofkit import train as loop
from woofkit.config import PROJECT_ROOT, LoRAConfig, TrainConfig
from woofkit.data import load_dataset, load_pixels, make_transform
from woofkit.fast.device import pick_device
from woofkit.files import describe_environment, write_table
from woofkit.lora import LoRALinear
from woofkit.models import build_for, data_config
from woofkit.stats.intervals import accuracy_interval

ACCURACIES = PROJECT_ROOT / "data" / "results" / "speed_accuracy.csv"
NUM_VAL = 1000  # drawings; the test split stays untouched


def two_products(layer: LoRALinear, x: Tensor) -> Tensor:
    """The report's adapter as its formula stands: W x + b, and beside it scaling * (B A x + lora_bias)."""
    low_rank = F.linear(x, layer.lora_A) * layer.scaling
    return layer.base(x) + F.linear(low_rank, layer.lora_B, layer.scaling * layer.lora_bias)


def fused_attention(model: nn.Module, device: torch.device) -> nn.Module:
    """PyTorch's fused kernel in every block, whatever the device."""
    for block in model.blocks:
        block.attn.fused_attn = True
    return model


def whole_model(model: nn.Module, images: Tensor) -> Tensor:
    """The logits of the model as timm calls it, last block and all."""
    return model(images)


def plain_adam(model: nn.Module, lr: float) -> torch.optim.Adam:
    """Adam as PyTorch has it by default."""
    return torch.optim.Adam((p for p in model.parameters() if p.requires_grad), lr=lr)


# What stands in for what, and where, when an optimisation is undone.
SWITCHES = {
    "fused attention": [(module, "prefer_fast_attention", fused_attention) for module in (loop, evaluation)],
    "whole last block": [(evaluation, "class_logits", whole_model), (loop, "logits_for", lambda *long: whole_model)],
    "plain Adam": [(loop, "make_optimizer", plain_adam)],
    "two products": [(LoRALinear, "forward", two_products)],
}
# What is undone in a training: precision first, then switches.
VARIANTS = {
    "as it is": ("bf16", ()),
    "nothing optimised": ("fp32", tuple(SWITCHES)),
    "fp32": ("fp32", ()),
    **{name: ("bf16", (name,)) for name in SWITCHES},
}


@contextmanager
def undone(switches: tuple[str, ...]) -> Iterator[None]:
    """Within the block, training does without these optimisations."""
    with ExitStack() as stack:
        for replacement in (replacement for name in switches for replacement in SWITCHES[name]):
            stack.enter_context(patch.object(*replacement))
        yield


def measure_accuracies(path: Path, seeds: int, num_val: int = NUM_VAL, **train_options: Any) -> pd.DataFrame:
    """Train full and LoRA with every variant and seed, and keep a row each in the CSV file `path`; what is there stays.

    Accuracy and loss are those on validation drawings after the last epoch, with Wilson's 95 % interval.
    `train_options` are settings of TrainConfig other than the demo's.
    """
    rows = pd.read_csv(path).to_dict("records") if path.exists() else []
    done = {(row["variant"], row["method"], row["seed"]) for row in rows}
    val = load_dataset("sketchwoof", split="val", num=num_val)
    for variant in VARIANTS:
        for seed in range(seeds):
            for method in ("full", "lora"):
                lora = LoRAConfig.paper() if method == "lora" else None
                useless = variant == "two products" and not lora
                if useless or (variant, method, seed) in done:
                    continue
                precision, switches = VARIANTS[variant]
                config = TrainConfig(method=method, seed=seed, precision=precision, lora=lora, **train_options)
                with undone(switches):
                    row = {"variant": variant, "method": method, "seed": seed, **_train(config, val)}
                rows.append(row)
                path.parent.mkdir(parents=True, exist_ok=True)
                write_table(pd.DataFrame(rows), path)
                print(f"{variant:18} {method:5} seed {seed}  {row['accuracy']:6.1%}", flush=True)
    return pd.DataFrame(rows)


def accuracies_markdown(table: pd.DataFrame) -> str:
    """A row a variant in markdown: the mean accuracy of full and LoRA over the seeds, and each seed's."""
    names = {"full": "full fine-tuning", "lora": "LoRA"}
    lines = [f"| | {' | '.join(names.values())} |", "|---|" + "---:|" * len(names)]
    for variant, rows in table.groupby("variant", sort=False):
        cells = []
        for method in names:
            seeds = rows.loc[rows["method"] == method, "accuracy"]
            single = ", ".join(f"{100 * accuracy:.1f}" for accuracy in seeds)
            cells.append(f"{100 * seeds.mean():.1f} % ({single})" if len(seeds) else "-")
        lines.append(f"| {variant} | {' | '.join(cells)} |")
    one = table.iloc[0]
    notes = (
        f"Accuracy on {int(one['num_val_images']):,} validation drawings after training on "
        f"{int(one['num_train_images'])}: the mean over seeds, and each. An image more or less is "
        f"{100 / one['num_val_images']:.1f} points; the 95 % interval of one accuracy is about "
        f"{50 * (table['high'] - table['low']).mean():.1f} points to either side. Measured {one['date'][:10]}, "
        f"{one['machine']}, PyTorch {one['torch']}."
    )
    return "\n".join([*lines, "", notes])


def _train(config: TrainConfig, val) -> dict[str, Any]:
    model = build_for(config)
    transform = make_transform(data_config(model), config.preprocess)
    train = load_dataset("sketchwoof", split="train", num=config.num_train, seed=config.seed)
    loop.fit(model, load_pixels(train, transform, progress=False), train.labels, transform, config)
    device = pick_device(config.device)
    pixels = load_pixels(val, transform, progress=False)
    score = evaluation.evaluate(model, pixels, val.labels, transform, precision=config.precision, device=device)
    interval = accuracy_interval((score.logits.argmax(1) == score.labels).numpy().astype(bool))
    environment = {name: describe_environment(device)[name] for name in ("date", "machine", "torch", "commit")}
    return {
        "accuracy": interval.value,
        "low": interval.low,
        "high": interval.high,
        "loss": score.loss,
        "num_val_images": len(val),
        "num_train_images": len(train),
        **environment,
    }
