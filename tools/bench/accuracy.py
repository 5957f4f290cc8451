"""What the optimisations do to the accuracy: the same training with and without them, seed by seed."""

from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd

from woofkit.config import PROJECT_ROOT, LoRAConfig, TrainConfig
from woofkit.data import Images, WoofDataset, load_dataset, load_pixels, make_transform
from woofkit.fast.runtime import Runtime
from woofkit.files import describe_environment, write_table
from woofkit.models import build_for, data_config
from woofkit.stats.intervals import accuracy_interval
from woofkit.train import evaluate, fit

ACCURACIES = PROJECT_ROOT / "data" / "results" / "speed_accuracy.csv"
METHODS = {"full": "full fine-tuning", "lora": "LoRA"}
VARIANTS = {  # the settings of each
    "as it is": {"precision": "bf16"},
    "nothing optimised": {"precision": "fp32", "fast": False},
    "fp32": {"precision": "fp32"},
    "bf16, nothing else optimised": {"precision": "bf16", "fast": False},
}


def measure_accuracies(path: Path, seeds: int, num_val: int = 1000, **train_options: Any) -> pd.DataFrame:
    """Train full and LoRA with every variant and seed: one row each in the CSV file `path`; what is there stays.

    Accuracy and loss are those on `num_val` validation drawings after the last epoch, with Wilson's 95% interval.
    `train_options` are settings of TrainConfig other than the demo's.
    """
    rows = pd.read_csv(path).to_dict("records") if path.exists() else []
    done = {(row["variant"], row["seed"], row["method"]) for row in rows}
    val = load_dataset("sketchwoof", split="val", num=num_val)
    path.parent.mkdir(parents=True, exist_ok=True)
    for variant, seed, method in product(VARIANTS, range(seeds), METHODS):
        if (variant, seed, method) in done:
            continue
        lora = LoRAConfig.paper() if method == "lora" else None
        config = TrainConfig(method=method, seed=seed, lora=lora, **VARIANTS[variant], **train_options)
        rows.append({"variant": variant, "method": method, "seed": seed, **_train(config, val)})
        write_table(pd.DataFrame(rows), path)
        print(f"{variant:28} {method:5} seed {seed}  {rows[-1]['accuracy']:6.1%}", flush=True)
    return pd.DataFrame(rows)


def accuracies_markdown(table: pd.DataFrame) -> str:
    """One row per variant in markdown: the mean accuracy of full and LoRA over the seeds, and each seed's."""
    lines = [f"| | {' | '.join(METHODS.values())} |", "|---|---:|---:|"]
    for variant, rows in table.groupby("variant", sort=False):
        cells = []
        for method in METHODS:
            per_cent = 100 * rows.loc[rows["method"] == method, "accuracy"]
            single = ", ".join(f"{accuracy:.1f}" for accuracy in per_cent)
            cells.append(f"{per_cent.mean():.1f}% ({single})" if single else "-")
        lines.append(f"| {variant} | {' | '.join(cells)} |")
    one = table.iloc[0]
    notes = (
        f"Accuracy on {int(one['num_val_images']):,} validation drawings after training on "
        f"{int(one['num_train_images'])}: the mean over seeds, and each. An image more or less is "
        f"{100 / one['num_val_images']:.1f} points; the 95% interval of one accuracy is about "
        f"{50 * (table['high'] - table['low']).mean():.1f} points to either side. Measured {one['date'][:10]}, "
        f"{one['machine']}, PyTorch {one['torch']}."
    )
    return "\n".join([*lines, "", notes])


def _train(config: TrainConfig, val: WoofDataset) -> dict[str, Any]:
    model, runtime = build_for(config), Runtime.of(config)
    transform = make_transform(data_config(model), config.preprocess)
    train = load_dataset("sketchwoof", split="train", num=config.num_train, seed=config.seed)
    images = [Images(load_pixels(split, transform, progress=False), split.labels, transform) for split in (train, val)]
    fit(model, {"train": images[0]}, config, runtime)
    score = evaluate(model, images[1], runtime)
    interval = accuracy_interval((score.logits.argmax(1) == score.labels).numpy().astype(bool))
    measured = {"accuracy": interval.value, "low": interval.low, "high": interval.high, "loss": score.loss}
    environment = describe_environment(runtime.device)
    noted = {name: environment[name] for name in ("date", "machine", "torch", "commit")}
    return measured | {"num_val_images": len(val), "num_train_images": len(train)} | noted
