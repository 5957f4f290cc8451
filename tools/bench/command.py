"""`python -m tools.bench`: measure, print, and keep the result with its chart."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tools.bench.accuracy import ACCURACIES, measure_accuracies
from tools.bench.chart import throughput_figure
from tools.bench.contestants import PARTS, PEAK
from tools.bench.pictures import jpeg_pictures
from tools.bench.result import as_text, collect
from tools.bench.rounds import alternate
from tools.bench.setting import Setting
from tools.bench.workers import started_workers
from woofkit.config import DEVICES, PRECISIONS, ConfigError, require_choice, require_range, resolve_path
from woofkit.fast.runtime import pick_device, pick_precision
from woofkit.files import describe_environment, write_json
from woofkit.plots.style import save_figure, use_style

PATCH = 16  # pixels a side
RANGES = {"rounds": (1, 1000), "batch_size": (1, 65_536), "images": (1, 100_000), "image_size": (2 * PATCH, 1024)}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tools.bench",
        description="Measure our training beside what people would use instead, taking turns on this machine.",
        epilog="Every contestant keeps its memory: allow for 16 GB at the default sizes, or take smaller batches.",
    )
    given = {"help": "(default: %(default)s)"}
    parser.add_argument("--rounds", type=int, default=5, help="that count, after one that does not (default: 5)")
    parser.add_argument("--batch-size", type=int, default=64, **given)
    parser.add_argument("--images", type=int, default=256, help="of an epoch from end to end (default: 256)")
    parser.add_argument("--image-size", type=int, default=224, help="pixels a side (default: 224)")
    parser.add_argument("--device", default="auto", help=f"{', '.join(DEVICES)} (default: auto)")
    parser.add_argument("--precision", default="auto", help="of our epochs: auto, fp32, bf16 (default: auto)")
    parser.add_argument("--data-dir", default="", help="folder with ImageWoof (default: drawings saved as JPEGs)")
    parser.add_argument("--output", default="data/results/bench.json", help="the result (default: %(default)s)")
    parser.add_argument(
        "--accuracy",
        type=int,
        default=0,
        metavar="SEEDS",
        help="instead: train with and without each optimisation, with so many seeds; an hour or more, "
        "kept row by row in data/results/speed_accuracy.csv",
    )
    parser.add_argument("--figures", default="figures", help="folder for the chart, bench.png (default: figures)")
    return parser


def _check(options: argparse.Namespace, defaults: dict[str, Any]) -> None:
    for name, (low, high) in RANGES.items():
        require_range(f"--{name.replace('_', '-')}", getattr(options, name), low, high)
    if options.image_size % PATCH:
        raise ConfigError(f"--image-size = {options.image_size} is not allowed: it must be a multiple of {PATCH}")
    require_range("--accuracy", options.accuracy, 0, 100)
    changed = [
        f"--{name.replace('_', '-')}"
        for name, value in vars(options).items()
        if name != "accuracy" and value != defaults[name]
    ]
    if options.accuracy and changed:
        raise ConfigError(f"--accuracy takes no other option: leave out {', '.join(changed)}")
    require_choice("--device", options.device, DEVICES)
    require_choice("--precision", options.precision, PRECISIONS)
    if options.data_dir and not resolve_path(options.data_dir).is_dir():
        raise ConfigError(f"--data-dir {options.data_dir!r} is not a folder: allowed is one with ImageWoof, or none")
    if resolve_path(options.output).suffix != ".json":
        raise ConfigError(f"--output {options.output!r} is not a .json file")
    if not find_spec("peft"):
        raise ConfigError("the package peft, one of the contestants, is missing: pip install -r requirements.txt")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure; return 0, 1 if a contestant failed, or 130 if interrupted.

    Raises:
        ConfigError: an option is refused; nothing has been measured then.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    _check(options, vars(parser.parse_args([])))
    if options.accuracy:
        measure_accuracies(ACCURACIES, options.accuracy)
        print(ACCURACIES)
        return 0
    device = pick_device(options.device)
    with tempfile.TemporaryDirectory(prefix="woofkit-bench-") as folder:
        pictures = jpeg_pictures(options.images, options.data_dir, Path(folder))
        precision = pick_precision(options.precision, device)
        setting = Setting(device.type, precision, options.image_size, options.batch_size, pictures)
        try:
            turns = _measure(setting, options.rounds)
        except ChildProcessError as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print("interrupted; nothing is kept", file=sys.stderr)
            return 130
    settings = {name: getattr(options, name) for name in (*RANGES, "data_dir")}
    settings |= {"device": device.type, "precision": precision, "steps_per_round": setting.steps_per_round}
    result = {"settings": settings, "environment": describe_environment(device), **collect(turns, setting)}
    print(as_text(result))
    output = resolve_path(options.output)
    output.parent.mkdir(parents=True, exist_ok=True)
    write_json(output, result)
    use_style()
    print(f"\n{output}\n{save_figure(throughput_figure(result), resolve_path(options.figures), 'bench')}")
    return 0


def _measure(setting: Setting, rounds: int) -> dict[str, dict[str, list]]:
    """Every part's turns; the yardstick takes its turn in the rounds of steps."""
    turns: dict[str, dict[str, list]] = {}
    for part, contestants in PARTS.items():
        everyone = {**contestants, "peak": PEAK} if part == "steps" else contestants
        print(f"{part}: starting {len(everyone)} processes", flush=True)
        with started_workers(everyone, setting) as workers:
            performs = {key: worker.perform for key, worker in workers.items()}
            titles = {key: worker.title for key, worker in workers.items()}
            turns[part] = alternate(performs, rounds, _progress(part, titles, rounds))
    turns["peak"] = {"peak": turns["steps"].pop("peak")}
    return turns


def _progress(part: str, titles: dict[str, str], rounds: int) -> Callable[[str, int, tuple[float, Any]], None]:
    """A line a turn: which round, who, how fast, and how long the rest of this part will take."""
    latest: dict[str, float] = {}
    done = dict.fromkeys(titles, 0)

    def report(key: str, number: int, measured: tuple[float, Any]) -> None:
        seconds, returned = measured
        latest[key] = seconds
        done[key] += 1
        usual = sum(latest.values()) / len(latest)  # for those who have not had a turn
        left = sum((rounds + 1 - done[name]) * latest.get(name, usual) for name in titles)
        turn = f"round {number} of {rounds}" if number else "warm-up"
        speed = f"{returned / seconds:10,.1f} images/s" if isinstance(returned, int) else f"{seconds:10,.1f} s"
        print(f"{part}, {turn:14} {titles[key]:32} {speed:19}   {left / 60:.1f} min left", flush=True)

    return report
