"""The measured turns as one JSON-ready result, and the result as a text."""

from typing import Any

from tools.bench.contestants import PAIRS, PARTS, name_in
from tools.bench.rounds import compare, spread, summarize
from tools.bench.setting import Setting

PART_TITLES = {"steps": "Training steps on a ready batch", "epochs": "Epochs over JPEG files, without the first"}


def collect(turns: dict[str, dict[str, list]], setting: Setting) -> dict[str, Any]:
    """Parts, ratios and shares of the peak out of every part's turns; "peak" holds the yardstick's."""
    result: dict[str, Any] = {}
    for part, contestants in PARTS.items():
        result[part] = {
            key: {
                "title": name_in(setting, one.title),
                "method": one.method,
                "ours": one.ours,
                **summarize(turns[part][key]),
            }
            for key, one in contestants.items()
        }
    result["ratios"] = {}
    for key, pair in PAIRS.items():
        names = (pair.fast, pair.slow)
        fast, slow = (sum(seconds for seconds, _ in turns[pair.part][name]) for name in names)
        result["ratios"][key] = {
            "title": name_in(setting, pair.title),
            "part": pair.part,
            "fast": pair.fast,
            "slow": pair.slow,
            **compare(*(result[pair.part][name]["images_per_second"] for name in names)),
            "warmup_included": slow / fast,
        }
    rounds = [measured for _, measured in turns["peak"]["peak"][1:]]
    result |= {name: rounds[0][name] for name in ("flops_per_image", "model_flops_per_image")}
    result["peak_gflops"] = {}
    for precision in ("bf16", "fp32"):
        peaks = [measured[precision] for measured in rounds]
        result["peak_gflops"][precision] = {"rounds": peaks, **spread(peaks)}
    result["share_of_peak"] = {key: _share(result, key) for key in ("full_bf16", "full_bf16_compiled", "full_fp32")}
    return result


def _share(result: dict[str, Any], key: str) -> dict[str, Any]:
    """How busy a contestant of the steps kept the device, and its model FLOPs utilisation, by round."""
    peaks = result["peak_gflops"]["fp32" if "fp32" in key else "bf16"]["rounds"]
    speeds = result["steps"][key]["images_per_second"]
    busy, model = (
        [speed * result[name] / 1e9 for speed in speeds] for name in ("flops_per_image", "model_flops_per_image")
    )
    return {**compare(busy, peaks), "model": compare(model, peaks)}


def as_text(result: dict[str, Any]) -> str:
    """Tables of images/s and of ratios: median, and lowest to highest over the rounds."""
    lines = []
    for part in PARTS:
        lines += ["", f"{PART_TITLES[part]:44} images/s      lowest to highest       warm-up"]
        for one in result[part].values():
            owner, spread_text = "ours " if one["ours"] else "rival", f"{_number(one['low'])} to {_number(one['high'])}"
            lines.append(
                f"  {owner} {one['title']:34} {_number(one['median']):>10}   {spread_text:>20} "
                f"{one['warmup_seconds']:11.2f} s"
            )
    lines += ["", f"{'Times as fast, within a round':68} median   lowest to highest"]
    for one in result["ratios"].values():
        spread_text = f"{one['low']:.2f} to {one['high']:.2f}"
        first = f"   {one['warmup_included']:.2f} with the first epoch" if one["part"] == "epochs" else ""
        lines.append(f"  {one['part']:6} {one['title']:58} {one['median']:7.2f}   {spread_text:>17}{first}")
    run, model = result["flops_per_image"] / 1e9, result["model_flops_per_image"] / 1e9
    lines += ["", f"A step of our full fine-tuning: {run:.3g} GFLOPs an image, of the {model:.3g} of the whole model"]
    for key, share in result["share_of_peak"].items():
        peak = result["peak_gflops"]["fp32" if "fp32" in key else "bf16"]["median"]
        busy, model = (
            "{median:.1%} ({low:.1%} to {high:.1%})".format_map(one).replace("%", " %")
            for one in (share, share["model"])
        )
        lines.append(
            f"  {result['steps'][key]['title']:22} {busy} of the peak of matrix products, {peak:,.0f} GFLOP/s;"
            f" by the whole model's FLOPs {model}"
        )
    return "\n".join(lines)


def as_markdown(result: dict[str, Any]) -> str:
    """The ratios as a table in markdown, with settings, date and machine below it."""
    lines = ["| | times as fast | lowest to highest round |", "|---|---:|---:|"]
    for one in result["ratios"].values():
        where = "end to end" if one["part"] == "epochs" else "a step"
        lines.append(f"| {where}: {one['title']} | {one['median']:.2f} | {one['low']:.2f} to {one['high']:.2f} |")
    settings, environment = result["settings"], result["environment"]
    shares = [
        f"{result['steps'][key]['title']} {100 * share['median']:.0f} % ({100 * share['model']['median']:.0f} %)"
        for key, share in result["share_of_peak"].items()
    ]
    notes = (
        f"Batches of {settings['batch_size']} at {settings['image_size']} px, medians of {settings['rounds']} "
        f"alternating rounds. Share of the peak of matrix products, by the {result['flops_per_image'] / 1e9:.1f} GFLOP "
        f"an image that a step of ours runs (by the whole model's {result['model_flops_per_image'] / 1e9:.1f}): "
        f"{', '.join(shares)}. "
        f"Measured {environment['date'][:10]}, {environment['machine']}, PyTorch {environment['torch']}."
    )
    lines += ["", notes]
    return "\n".join(lines)


def _number(value: float) -> str:
    return f"{value:,.1f}" if value < 100 else f"{value:,.0f}"
