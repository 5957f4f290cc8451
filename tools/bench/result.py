"""What the rounds amount to: medians, ratios within a round and shares of the peak, and the result as text."""

from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Any

import numpy as np
import pandas as pd

from tools.bench.contestants import PAIRS, PARTS
from tools.bench.setting import Setting
from woofkit.results import METHOD_NAMES, percent

COMPARED_TO_PEAK = {"full_bf16": "bf16", "full_bf16_compiled": "bf16", "full_fp32": "fp32"}


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, lowest and highest."""
    return {"median": median(values), "low": min(values), "high": max(values)}


def summarize(turns: Sequence[tuple[float, int]]) -> dict[str, Any]:
    """A contestant's turns, (seconds, images) each and the warm-up first, as images/s over the rounds that count."""
    (warmup, _), *counted = turns
    speeds = [images / seconds for seconds, images in counted]
    seconds = [seconds for seconds, _ in counted]
    shared = {"warmup_seconds": warmup, "seconds": seconds, "images": counted[-1][1], "images_per_second": speeds}
    return shared | spread(speeds)


def compare(fast: Sequence[float], slow: Sequence[float]) -> dict[str, Any]:
    """fast / slow, round by round: what slows down a round slows down both, and cancels."""
    ratios = [a / b for a, b in zip(fast, slow, strict=True)]
    return {"ratios": ratios, **spread(ratios)}


def collect(turns: Mapping[str, Mapping[str, list]], setting: Setting) -> dict[str, Any]:
    """Parts, ratios and shares of the peak out of every part's turns; "peak" among the steps is the yardstick."""
    result: dict[str, Any] = {part: {} for part in PARTS} | {"ratios": {}}
    for part, contestants in PARTS.items():
        for key, one in contestants.items():
            about = {"title": setting.fill(one.title), "method": one.method, "ours": one.ours}
            result[part][key] = about | summarize(turns[part][key])
    for key, pair in PAIRS.items():
        names = (pair.fast, pair.slow)
        ratio = compare(*(result[pair.part][name]["images_per_second"] for name in names))
        fast, slow = (sum(seconds for seconds, _ in turns[pair.part][name]) for name in names)
        about = pair._asdict() | {"title": setting.fill(pair.title)}
        result["ratios"][key] = about | ratio | {"warmup_included": slow / fast}
    rounds = pd.DataFrame([measured for _, measured in turns["steps"]["peak"][1:]])
    result |= {name: rounds[name].iloc[0] for name in ("flops_per_image", "model_flops_per_image")}
    peaks = {precision: rounds[precision].tolist() for precision in ("bf16", "fp32")}
    result["peak_gflops"] = {precision: {"rounds": values, **spread(values)} for precision, values in peaks.items()}
    result["share_of_peak"] = {}
    for key, precision in COMPARED_TO_PEAK.items():
        speeds, peak = np.array(result["steps"][key]["images_per_second"]), 1e9 * np.array(peaks[precision])
        busy = compare(speeds * result["flops_per_image"], peak)
        utilisation = compare(speeds * result["model_flops_per_image"], peak)  # as the literature has it
        result["share_of_peak"][key] = busy | {"model": utilisation}
    return result


def as_text(result: Mapping[str, Any]) -> str:
    """Tables of images/s, of ratios and of shares of the peak: median, and lowest to highest over the rounds."""
    peaks = [peak | {"title": precision} for precision, peak in result["peak_gflops"].items()]
    shares = [
        share | {"title": result["steps"][key]["title"], "of_whole_model": share["model"]["median"]}
        for key, share in result["share_of_peak"].items()
    ]
    run, model = result["flops_per_image"] / 1e9, result["model_flops_per_image"] / 1e9
    title = f"Share of the peak, by the {run:.3g} GFLOP per image that a step runs, of {model:.3g} of the whole model"
    tables = [
        _table("Training steps on a ready batch, images/s", result["steps"].values(), "warmup_seconds", "ours"),
        _table("Epochs over files, without the first, images/s", result["epochs"].values(), "warmup_seconds", "ours"),
        _table("Times as fast, within a round", result["ratios"].values(), "warmup_included", "part"),
        _table("Peak of matrix products, GFLOP/s", peaks),
        _table(title, shares, "of_whole_model"),
    ]
    return "\n\n".join(tables)


def _table(title: str, rows: Iterable[Mapping[str, Any]], *columns: str) -> str:
    frame = pd.DataFrame(rows).set_index("title").rename_axis(None)
    text = frame[["median", "low", "high", *columns]].to_string(float_format="{:,.2f}".format)
    return f"{title}\n{text}"


def as_markdown(result: Mapping[str, Any]) -> str:
    """The ratios as a table in markdown, with settings, date and machine below it."""
    lines = ["| | times as fast | lowest to highest round |", "|---|---:|---:|"]
    for one in result["ratios"].values():
        where = "end to end" if one["part"] == "epochs" else "a step"
        lines.append(f"| {where}: {one['title']} | {one['median']:.2f} | {one['low']:.2f} to {one['high']:.2f} |")
    settings, environment = result["settings"], result["environment"]
    shares = [
        f"{result['steps'][key]['title']} {100 * share['median']:.0f}% ({100 * share['model']['median']:.0f}%)"
        for key, share in result["share_of_peak"].items()
    ]
    notes = (
        f"Batches of {settings['batch_size']} at {settings['image_size']} px, medians of {settings['rounds']} "
        f"alternating rounds. Share of the peak of matrix products, by the {result['flops_per_image'] / 1e9:.1f} GFLOP "
        f"per image that a step of ours runs (by the whole model's {result['model_flops_per_image'] / 1e9:.1f}): "
        f"{', '.join(shares)}. "
        f"Measured {environment['date'][:10]}, {environment['machine']}, PyTorch {environment['torch']}."
    )
    return "\n".join([*lines, "", notes])


def gpu_markdown(result: Mapping[str, Any]) -> str:
    """Training images/s on a GPU by method, batch size and form of a step, and the paper's protocol, in markdown."""
    rates = pd.DataFrame(result["rates"])
    forms = list(dict.fromkeys(rates["form"]))
    table = rates.pivot(index=["method", "batch_size"], columns="form", values="images_per_second")[forms]
    lines = [f"| method | batch | {' | '.join(forms)} |", f"|---|---:|{'---:|' * len(forms)}"]
    for (method, batch), row in table.iterrows():
        cells = ["" if np.isnan(value) else f"{value:,.0f}" for value in row]
        lines.append(f"| {METHOD_NAMES[method]} | {batch} | {' | '.join(cells)} |")
    ratios = (table.loc["lora"] / table.loc["full"]).stack().dropna().items()
    ahead = ", ".join(f"{ratio:.2f} ({form}, batches of {batch})" for (batch, form), ratio in ratios)
    about, protocol = result["environment"], result["protocol"]
    trained = "; ".join(
        f"{METHOD_NAMES[method]} {one['train_seconds']:.1f} s ({one['images_per_second']:,.0f} images/s, "
        f"{one['peak_memory_mb'] / 1000:.1f} GB; test {percent(one['test_accuracy'])})"
        for method, one in protocol.items()
    )
    notes = (
        f"Training images/s, input included, {result['precision']}. LoRA's speed, divided by full fine-tuning's: "
        f"{ahead}. The paper's protocol on all of ImageWoof, training alone: {trained}. "
        f"Measured {about['date'][:10]}, {about['machine']}, PyTorch {about['torch']}."
    )
    return "\n".join([*lines, "", notes])
