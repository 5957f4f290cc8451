"""The first screen of README.md: the answer in four sentences, and one table of both worlds and all methods."""

import json
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from woofkit.claims.effects import BEST_LR, WORLDS, Effects, Key, Quantity, kept_effects
from woofkit.claims.hypotheses import HYPOTHESES
from woofkit.claims.laws import ALL_LAYERS
from woofkit.claims.recommendations import NEEDS, advise
from woofkit.claims.verdicts import UNMEASURED, judge_all
from woofkit.config import METHODS
from woofkit.files import RESULTS
from woofkit.results import percent
from woofkit.sweeps.results import data_words, pixels, tuned_runs
from woofkit.tables import markdown_table
from woofkit.tables.claims import NAMES

ORDER = (*METHODS, ALL_LAYERS)
KEPT_COLUMNS = ("trainable_parameters", "accuracy", "low", "high", "other")  # of a study's kept table


def best_rates(dataset: str, folder: Path = RESULTS) -> pd.DataFrame:
    """`tuned_runs` by method: LoRA at the paper's rank, and on all layers as a method of its own.

    Where their sweep lacks zero-shot, it is of the profile `clean`, if that had images of the same size.
    """
    tuned = tuned_runs(dataset, folder)
    tuned["method"] = tuned["method"].mask(tuned["name"].str.endswith(", all layers"), ALL_LAYERS)
    usual = (tuned["method"] != "lora") | (tuned["name"] == "LoRA, rank 12")
    table = tuned[usual].drop_duplicates("method").set_index("method")
    path = folder / f"{dataset}_clean.csv"
    if "zero-shot" not in table.index and path.is_file():
        kept = pd.read_csv(path).reindex(columns=["method", *KEPT_COLUMNS])
        kept = kept[kept["method"] == "zero-shot"].assign(dataset=dataset, seeds=1).set_index("method")
        if pixels(kept) == pixels(table):
            table = pd.concat([kept, table])
    return table.reindex(filter(table.index.__contains__, ORDER))


def overview_markdown(folder: Path = RESULTS) -> str:
    """One row per method: trained parameters, and the accuracy with its interval in both worlds."""
    tables = {dataset: best_rates(dataset, folder) for dataset in WORLDS}
    rows = []
    for method in ORDER:
        found = [table.loc[method] for table in tables.values() if method in table.index]
        if found:
            cells = [_accuracy(table.loc[method]) if method in table.index else "-" for table in tables.values()]
            sizes = sorted({int(row.trainable_parameters) for row in found})
            rows.append([NAMES[method], " or ".join(f"{size:,}" for size in sizes), *cells])
    trained = [table[table["trainable_parameters"] > 0] for table in tables.values() if len(table)]
    note = "In brackets: the interval and the learning rate. A dash means: not measured. Trained on "
    note += f"{' and on '.join(f'{data_words(table)} ({_seeds(table)})' for table in trained)}."
    return f"{markdown_table(['method', 'trained parameters', *WORLDS.values()], rows, 'lrrr')}\n\n{note}"


def _seeds(table: pd.DataFrame) -> str:
    fewest, most = table["seeds"].min(), table["seeds"].max()
    return f"{fewest} to {most} seeds" if fewest < most else f"{most} seed{'s' if most > 1 else ''}"


def answer_markdown() -> str:
    """The answer to the study's question in a few sentences: the committed numbers, and what they decide."""
    tables = {dataset: best_rates(dataset) for dataset in WORLDS}
    effects = {key: effect for dataset in WORLDS for key, effect in kept_effects(dataset).items()}
    speed = json.loads((RESULTS / "bench.json").read_text(encoding="utf-8"))["ratios"]["lora_vs_full_bf16"]
    sizes = pd.read_csv(RESULTS / "sketchwoof_seeds.csv").groupby("method")
    sizes = sizes[["trainable_parameters", "checkpoint_bytes"]].first()
    parameters, file = sizes.loc["full"] / sizes.loc["lora"]
    best, kept = Key(Quantity.ACCURACY, "lora", "full", BEST_LR), Key(Quantity.KEPT, "lora", "full")
    shown, ahead, probes, keeps = {}, [], [], []
    for dataset, world in WORLDS.items():
        table = tables[dataset]
        ahead.append(_lead(best._replace(world=world), effects, table, shown))
        probes.append(_probe(world, effects, table, shown))
        for rate, setting in ((" at the paper's learning rate", ""), (" at each method's best", BEST_LR)):
            if (key := kept._replace(setting=setting, world=world)) in effects:
                keeps.append(_lead(key, effects, table, shown, rate))
    sentences = [
        f"**Accuracy,** each method at its own best learning rate: {_joined(ahead)}. {_verdicts('H1', effects)}",
        f"**Storage and time:** LoRA trains 1/{parameters:.0f} of the parameters and its file is 1/{file:.0f} of the "
        f"size, but a training step is only {speed['median']:.2f} times as fast (from {speed['low']:.2f} to "
        f"{speed['high']:.2f} over rounds).",
        f"**Forgetting,** by the accuracy on what the backbone knew before: {_joined(keeps)}. "
        f"{_verdicts('H9', effects)}",
        f"**A linear probe** trains the head alone. Its accuracy beside the best of the others: {_joined(probes)}.",
    ]
    sources = "; ".join(f"{world}: {source}" for source, world in shown.items())
    bullets = "\n".join(f"- {sentence.rstrip()}" for sentence in sentences)
    note = f"In brackets: the 95% interval, of each difference by itself. Measured on {sources}."
    return f"{bullets}\n\n{note}" if shown else bullets


def _lead(key: Key, effects: Effects, table: pd.DataFrame, shown: dict[str, str], rate: str = "") -> str:
    """How one method stands beside another in a world, which adds its source to `shown`; a verdict says what follows.

    Where no effect is kept, the two accuracies in the table; "" without them.
    """
    ours, theirs = "it" if key.first == "probe" else NAMES[key.first], NAMES[key.second]
    if key in effects:
        shown[effects[key].source] = key.world
        value, low, high = (100 * number for number in effects[key][:3])
        more, (low, high) = ("more", (low, high)) if value >= 0 else ("fewer", (-high, -low))
        interval = f"{low:+.1f} to {high:+.1f}".replace("-", "−")
        return f"on {key.world} {ours} has {abs(value):.1f} points {more} than {theirs}{rate} ({interval})"
    if not {key.first, key.second} <= set(table.index):
        return ""
    rows = [table.loc[method] for method in (key.first, key.second)]
    found = [f"{name} has {percent(row.accuracy)}" for name, row in zip((ours, theirs), rows, strict=True)]
    seeds = min(int(row.seeds) for row in rows)
    return f"on {key.world} {' and '.join(found)} ({seeds} seed{'s' if seeds > 1 else ''}: not tested)"


def _probe(world: str, effects: Effects, table: pd.DataFrame, shown: dict[str, str]) -> str:
    """The probe beside the method with the best accuracy of all, and whether any is shown to beat it."""
    leads = {
        key.second: -effect.value
        for key, effect in effects.items()
        if key[:2] == (Quantity.ACCURACY, "probe") and key[3:] == (BEST_LR, world) and key.second != "untouched"
    } or table["accuracy"].drop("probe", errors="ignore").to_dict()
    if not leads:
        return ""
    key = Key(Quantity.ACCURACY, "probe", max(leads, key=leads.get), BEST_LR, world)
    said = _lead(key, effects, table, shown)
    if key not in effects:
        return said
    beaten = advise(NEEDS[0], effects, world).beaten.get("probe")
    winner = NAMES[beaten[0].first] if beaten else "no method"
    return f"{said}; corrected for all pairs of methods, {winner} is shown to beat it"


def _verdicts(name: str, effects: Effects) -> str:
    """What became of a hypothesis, judged among all, in each world that it was measured in."""
    found, words = None, []
    for world in WORLDS.values():
        found = next(each for each in judge_all(HYPOTHESES, effects, world) if each.hypothesis.id == name)
        if found.verdict != UNMEASURED:
            words.append(f"**{found.verdict}** on {world} ({found.kind})")
    return f'{name}, "{found.hypothesis.statement}", is {" and ".join(words) or UNMEASURED}.'


def _joined(parts: Iterable[str]) -> str:
    return "; ".join(filter(None, parts)) or UNMEASURED


def _accuracy(row: pd.Series) -> str:
    rate = "" if pd.isna(row.lr) else f"; {row.lr:g}"
    return f"{percent(row.accuracy)} ({100 * row.low:.1f} to {100 * row.high:.1f}{rate})"
