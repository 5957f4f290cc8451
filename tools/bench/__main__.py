"""`python -m tools.bench`: measure, print, and keep the result with its chart."""

import sys
import tempfile
from argparse import ArgumentDefaultsHelpFormatter, ArgumentParser, Namespace
from collections.abc import Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from tools.bench.accuracy import ACCURACIES, measure_accuracies
from tools.bench.chart import limit_figure, throughput_figure
from tools.bench.contestants import PARTS, PEAK
from tools.bench.result import as_text, collect
from tools.bench.setting import Setting, jpeg_pictures
from tools.bench.shares import step_shares
from tools.bench.workers import alternate, started_workers
from woofkit.__main__ import exit_status
from woofkit.config import DEVICES, PRECISIONS, ConfigError, require_choice, require_range, resolve_path
from woofkit.fast.runtime import pick_device, pick_precision
from woofkit.files import describe_environment, require_folder, write_json
from woofkit.plots.style import save_figure, use_style

PATCH = 16  # pixels a side
OPTIONS = {  # the default and the help
    "rounds": (5, "rounds that count, after one that does not"),
    "batch_size": (64, "images per step"),
    "images": (256, "images per epoch from end to end"),
    "image_size": (224, "pixels a side"),
    "device": ("auto", ", ".join(DEVICES)),
    "precision": ("auto", "of our epochs: " + ", ".join(PRECISIONS)),
    "data_dir": ("", "folder with ImageWoof; without it drawings are saved as JPEG files"),
    "output": ("data/results/bench.json", "file for the result"),
    "figures": ("figures", "folder for the charts, bench.png and bench_limit.png"),
    "accuracy": (0, "instead: train with and without the optimisations, with so many seeds; takes an hour or more"),
}
SIZES = {"rounds": (1, 1000), "batch_size": (1, 65_536), "images": (1, 100_000), "image_size": (2 * PATCH, 1024)}


def main(arguments: Sequence[str] | None = None) -> int:
    """Return 0, 1 if a contestant failed, 2 if an option is refused (nothing is measured then), 130 if interrupted."""
    parser = ArgumentParser(
        prog="python -m tools.bench",
        description="Measure our training beside what people would use instead, taking turns on this machine.",
        epilog="Every contestant keeps its memory: allow for 16 GB at the default sizes, or take smaller batches.",
        formatter_class=ArgumentDefaultsHelpFormatter,
    )
    for name, (default, words) in OPTIONS.items():
        parser.add_argument(_option(name), type=type(default), default=default, help=words)
    return exit_status(partial(_run, parser.parse_args(arguments)))


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _check(options: Namespace) -> None:
    """Raise ConfigError for an option that cannot be measured."""
    for name, (low, high) in {**SIZES, "accuracy": (0, 100)}.items():
        require_range(_option(name), getattr(options, name), low, high)
    if options.image_size % PATCH:
        raise ConfigError(f"--image-size = {options.image_size} is not allowed: it must be a multiple of {PATCH}")
    given = [_option(name) for name, (default, _) in OPTIONS.items() if getattr(options, name) != default]
    if options.accuracy and len(given) > 1:
        raise ConfigError(f"--accuracy takes no other option: leave out {', '.join(given[:-1])}")
    require_choice("--device", options.device, DEVICES)
    require_choice("--precision", options.precision, PRECISIONS)
    if options.data_dir and not resolve_path(options.data_dir).is_dir():
        raise ConfigError(f"--data-dir {options.data_dir!r} is not a folder: allowed is one with ImageWoof, or none")
    if resolve_path(options.output).suffix != ".json":
        raise ConfigError(f"--output {options.output!r} is not a .json file")
    require_folder("the folder of --output", resolve_path(options.output).parent)
    require_folder("--figures", resolve_path(options.figures))
    if not find_spec("peft"):
        raise ConfigError("the package peft, one of the contestants, is missing: pip install -r requirements.txt")


def _run(options: Namespace) -> int:
    _check(options)
    if options.accuracy:
        measure_accuracies(ACCURACIES, options.accuracy)
        print(ACCURACIES)
        return 0
    device = pick_device(options.device)
    precision = pick_precision(options.precision, device)
    with tempfile.TemporaryDirectory(prefix="woofkit-bench-") as folder:
        pictures = jpeg_pictures(options.images, options.data_dir, Path(folder))
        setting = Setting(device.type, precision, options.image_size, options.batch_size, pictures)
        try:
            turns = _measure(setting, options.rounds)
        except ChildProcessError as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print("interrupted; nothing is kept", file=sys.stderr)
            return 130
    settings = {name: getattr(options, name) for name in (*SIZES, "data_dir")}
    settings |= {"device": device.type, "precision": precision, "steps_per_round": setting.steps_per_round}
    result = {"settings": settings, "environment": describe_environment(device), **collect(turns, setting)}
    result["where_time_goes"] = step_shares(setting).to_dict("records")
    print(as_text(result))
    output = resolve_path(options.output)
    output.parent.mkdir(parents=True, exist_ok=True)
    write_json(output, result)
    use_style()
    figures = {"bench": throughput_figure(result), "bench_limit": limit_figure(result)}
    drawn = [save_figure(figure, resolve_path(options.figures), name) for name, figure in figures.items()]
    print("", output, *drawn, sep="\n")
    return 0


def _measure(setting: Setting, rounds: int) -> dict[str, dict[str, list]]:
    """Every part's turns; the yardstick takes its turn in the rounds of steps."""
    turns = {}
    for part, contestants in PARTS.items():
        everyone = {**contestants, "peak": PEAK} if part == "steps" else contestants
        print(f"{part}: starting {len(everyone)} processes", flush=True)
        with started_workers(everyone, setting) as workers:
            performs = {key: worker.perform for key, worker in workers.items()}
            turns[part] = alternate(performs, rounds, partial(print, flush=True), part)
    return turns


if __name__ == "__main__":
    sys.exit(main())
