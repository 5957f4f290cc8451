"""The first screen of README.md: the answer in four sentences, and one table of both worlds and all methods."""

import json
from pathlib import Path

import pandas as pd

from woofkit.claims.effects import BEST_LR, WORLDS, Effect, Key, Quantity, kept_effects
from woofkit.config import METHODS
from woofkit.files import RESULTS
from woofkit.results import METHOD_NAMES, percent
from woofkit.sweeps.results import data_words, pixels, tuned_runs
from woofkit.tables import markdown_table

KEPT_COLUMNS = ("trainable_parameters", "accuracy", "low", "high", "other")  # of a study's kept table


def best_rates(dataset: str, folder: Path = RESULTS) -> pd.DataFrame:
    """`tuned_runs` by method, LoRA at the paper's rank.

    Where their sweep lacks zero-shot, it is of the profile `clean`, if that had images of the same size.
    """
    tuned = tuned_runs(dataset, folder)
    usual = (tuned["method"] != "lora") | (tuned["name"] == "LoRA, rank 12")
    table = tuned[usual].drop_duplicates("method").set_index("method")
    path = folder / f"{dataset}_clean.csv"
    if "zero-shot" not in table.index and path.is_file():
        kept = pd.read_csv(path).reindex(columns=["method", *KEPT_COLUMNS])
        kept = kept[kept["method"] == "zero-shot"].assign(dataset=dataset, seeds=1).set_index("method")
        if pixels(kept) == pixels(table):
            table = pd.concat([kept, table])
    return table.reindex(filter(table.index.__contains__, METHODS))


def overview_markdown(folder: Path = RESULTS) -> str:
    """One row per method: trained parameters, and the accuracy with its interval in both worlds."""
    tables = {dataset: best_rates(dataset, folder) for dataset in WORLDS}
    rows = []
    for method in METHODS:
        found = [table.loc[method] for table in tables.values() if method in table.index]
        if found:
            cells = [_accuracy(table.loc[method]) if method in table.index else "-" for table in tables.values()]
            sizes = sorted({int(row.trainable_parameters) for row in found})
            rows.append([METHOD_NAMES[method], " or ".join(f"{size:,}" for size in sizes), *cells])
    trained = [table[table["trainable_parameters"] > 0] for table in tables.values() if len(table)]
    note = "In brackets: the interval and the learning rate. A dash means: not measured. Trained on "
    note += f"{' and on '.join(f'{data_words(table)} ({_seeds(table)})' for table in trained)}."
    return f"{markdown_table(['method', 'trained parameters', *WORLDS.values()], rows, 'lrrr')}\n\n{note}"


def _seeds(table: pd.DataFrame) -> str:
    fewest, most = table["seeds"].min(), table["seeds"].max()
    return f"{fewest} to {most} seeds" if fewest < most else f"{most} seed{'s' if most > 1 else ''}"


def answer_markdown() -> str:
    """The answer to the study's question in four sentences, with the numbers of the committed measurements."""
    effects, tables = kept_effects("sketchwoof"), {dataset: best_rates(dataset) for dataset in WORLDS}
    accuracy = effects[Key(Quantity.ACCURACY, "lora", "full", BEST_LR, "drawings")]
    kept = effects[Key(Quantity.KEPT, "lora", "full", world="drawings")]
    lora, full = (percent(tables["imagewoof"].loc[method].accuracy) for method in ("lora", "full"))
    speed = json.loads((RESULTS / "bench.json").read_text(encoding="utf-8"))["ratios"]["lora_vs_full_bf16"]
    seeds = pd.read_csv(RESULTS / "sketchwoof_seeds.csv").groupby("method")
    sizes = seeds[["trainable_parameters", "checkpoint_bytes"]].first()
    parameters, file = sizes.loc["full"] / sizes.loc["lora"]
    probes = [f"{percent(tables[dataset].loc['probe'].accuracy)} on {world}" for dataset, world in WORLDS.items()]
    sentences = [
        f"**Accuracy:** with each method at its own best learning rate, {_difference(accuracy)} on drawings; on "
        f"photographs (one seed) LoRA reaches {lora} and full fine-tuning {full}.",
        f"**Storage and time:** LoRA trains 1/{parameters:.0f} of the parameters and its file is 1/{file:.0f} of the "
        f"size, but a training step is only {speed['median']:.2f} times as fast (from {speed['low']:.2f} to "
        f"{speed['high']:.2f} over rounds).",
        f"**Forgetting:** on the backbone's earlier task, at the paper's learning rate, {_difference(kept)}.",
        f"**Before either,** try a linear probe: it trains the head alone and reaches {' and '.join(probes)}.",
    ]
    return "\n".join(f"- {sentence}" for sentence in sentences)


def _difference(effect: Effect) -> str:
    """LoRA minus full fine-tuning, in points, and whether the 95% interval shows a difference."""
    value, low, high = (100 * number for number in effect[:3])
    numbers = f"({value:+.1f} points, 95% interval {low:+.1f} to {high:+.1f})"
    if low <= 0 <= high:
        return f"no difference between LoRA and full fine-tuning is shown {numbers}"
    return f"LoRA is {'ahead of' if value > 0 else 'behind'} full fine-tuning {numbers}"


def _accuracy(row: pd.Series) -> str:
    rate = "" if pd.isna(row.lr) else f"; {row.lr:g}"
    return f"{percent(row.accuracy)} ({100 * row.low:.1f} to {100 * row.high:.1f}{rate})"
