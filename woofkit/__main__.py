"""The command line: `python -m woofkit COMMAND`, each with --help."""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from woofkit.config import (
    LABELS,
    METHODS,
    ConfigError,
    StudyConfig,
    available_profiles,
    load_profile,
    parse_override,
    resolve_path,
)

RUN_COLUMNS = (
    "method",
    "dataset",
    "scheme",
    "epochs",
    "lr",
    "test_accuracy",
    "test_loss",
    "trainable_parameters",
    "train_seconds",
    "run",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return 0 (done), 1 (broke off), 2 (refused before it began) or 130 (interrupted)."""
    parser = _parser()
    options, rest = parser.parse_known_args(arguments)
    if options.command in (_backbone, _bench, _sweep, _evidence):
        options.rest = rest
    elif rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    try:
        return options.command(options) or 0
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except (ConnectionError, FloatingPointError) as error:  # a download that broke off, a loss that is no number
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; the same command goes on where this one stopped", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m woofkit", description="LoRA against full fine-tuning.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    run = _command(commands, "run", _run, "run the notebooks headlessly")
    _add_settings(run)
    run.add_argument(
        "-n",
        "--notebook",
        action="extend",
        nargs="+",
        metavar="NAME",
        help="only these, such as 03_lora_finetune (default: all five)",
    )

    train = _command(commands, "train", _train, "train one model, or find it trained")
    _add_settings(train)
    train.add_argument("--method", required=True, choices=METHODS, help="what trains")
    train.add_argument("--label", default="breed", choices=LABELS, help="what to name (default: %(default)s)")
    train.add_argument("--last-blocks", type=int, default=1, metavar="N", help="of method last (default: %(default)s)")

    attention = _command(commands, "attention", _attention, "measure where a study's models look, and judge the claims")
    _add_settings(attention)
    attention.add_argument(
        "--dogs", type=int, default=200, metavar="N", help="of the test split (default: %(default)s)"
    )
    attention.add_argument(
        "--seeds", type=int, default=3, metavar="N", help="models of each method (default: %(default)s)"
    )
    attention.add_argument(
        "--output", default="data/results", metavar="FOLDER", help="for the table (default: %(default)s)"
    )

    forgetting = _command(commands, "forgetting", _forgetting, "measure what a study's finished runs have forgotten")
    _add_settings(forgetting)
    forgetting.add_argument(
        "--source-dir", default="", metavar="FOLDER", help="Imagenette, for weights of ImageNet (default: downloaded)"
    )
    forgetting.add_argument(
        "--drawings", type=int, default=2000, metavar="N", help="of invented breeds (default: %(default)s)"
    )
    forgetting.add_argument(
        "--output", default="data/results", metavar="FOLDER", help="for the table (default: %(default)s)"
    )

    runs = _command(commands, "runs", _runs, "print the finished runs as a table")
    runs.add_argument("--root", default="runs", metavar="FOLDER", help="where to look (default: %(default)s)")

    place = argparse.ArgumentParser(add_help=False)
    place.add_argument("--profile", default="demo", metavar="NAME", help="the study (default: %(default)s)")
    place.add_argument("--runs-dir", default="runs", metavar="FOLDER", help="(default: %(default)s)")
    _command(commands, "readme", _readme, "write README.md's tables and figures from a finished study", parents=[place])
    _command(commands, "report", _report, "make one HTML site of a finished study, to open from disk", parents=[place])

    keep = _command(commands, "keep", _keep, "keep a profile's finished runs as a table in data/results/")
    keep.add_argument("--profile", required=True, metavar="NAME", help="the study")
    keep.add_argument("--runs-dir", default="runs", metavar="FOLDER", help="(default: %(default)s)")

    # What follows these, --help included, belongs to their own modules.
    _command(commands, "sweep", _sweep, "train what a sweep names, on Snakemake", add_help=False)
    _command(commands, "evidence", _evidence, "keep the effects of a sweep's finished runs", add_help=False)
    _command(commands, "backbone", _backbone, "pretrain the bundled backbone", add_help=False)
    _command(commands, "bench", _bench, "measure our training beside what others use", add_help=False)
    return parser


def _command(commands: Any, name: str, command: Callable, help: str, **options: Any) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=help, description=f"{help[0].upper()}{help[1:]}.", **options)
    parser.set_defaults(command=command)
    return parser


def _add_settings(parser: argparse.ArgumentParser) -> None:
    known = ", ".join(available_profiles())
    parser.add_argument(
        "--profile", default="demo", metavar="P", help=f"{known}, or a .yaml file (default: %(default)s)"
    )
    parser.add_argument(
        "-p",
        "--parameter",
        action="append",
        nargs="+",
        default=[],
        metavar="X",
        help="set a parameter: -p lr 1e-4, or -p lr=1e-4; may be repeated",
    )


def parse_parameters(pairs: Sequence[Sequence[str]]) -> dict[str, Any]:
    """Return the parameters given as ["name", "value"] or ["name=value"]. Raises ConfigError."""
    parameters: dict[str, Any] = {}
    for given in pairs:
        parts = given[0].split("=", 1) if len(given) == 1 else given
        if len(parts) != 2:
            raise ConfigError(f"-p {' '.join(given)}: give a name and a value, as in -p lr 1e-4")
        name, text = parts
        if name in parameters:
            raise ConfigError(f"parameter {name!r} is given twice")
        parameters[name] = parse_override(name, text)
    return parameters


def _run(options: argparse.Namespace) -> int:
    parameters = parse_parameters(options.parameter)
    from woofkit.study import StudyError, run_study

    try:
        run_study(options.profile, parameters, options.notebook)
    except StudyError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _train(options: argparse.Namespace) -> None:
    parameters = load_profile(options.profile) | parse_parameters(options.parameter)
    study = StudyConfig.from_dict(parameters)
    from woofkit.train import run_training

    config = replace(study.train_config(options.method), label=options.label, last_blocks=options.last_blocks)
    run = run_training(config, study.run_root)
    metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    for name, value in metrics.items():
        print(f"{name:24} {value}")
    print(f"{'run':24} {run}")


def _attention(options: argparse.Namespace) -> None:
    study = StudyConfig.from_dict(load_profile(options.profile) | parse_parameters(options.parameter))
    from woofkit.explain.study import study_attention
    from woofkit.tables.attention import verdict_lines

    report = partial(print, flush=True)
    table, verdicts = study_attention(study, options.dogs, options.seeds, resolve_path(options.output), report)
    print("\n".join([*verdict_lines(json.loads(verdicts.read_text(encoding="utf-8"))), f"kept in {table}"]))


def _forgetting(options: argparse.Namespace) -> None:
    study = StudyConfig.from_dict(load_profile(options.profile) | parse_parameters(options.parameter))
    from woofkit.measure.forgetting_study import study_forgetting

    report, output = partial(print, flush=True), resolve_path(options.output)
    table = study_forgetting(study, options.source_dir, options.drawings, output, report)
    print(f"kept in {table}")


def _runs(options: argparse.Namespace) -> None:
    root = resolve_path(options.root)
    if not root.is_dir():
        raise ConfigError(f"there is no folder {root}: --root names the one that holds runs")
    from woofkit.results import load_runs

    frame = load_runs(root)
    if frame.empty:
        print(f"no finished run in {root}")
        return
    frame["run"] = [str(Path(run).relative_to(root)) for run in frame["run"]]
    print(frame[[column for column in RUN_COLUMNS if column in frame]].to_string(index=False))


def _keep(options: argparse.Namespace) -> None:
    from tools.readme import keep_results

    print(keep_results(options.profile, options.runs_dir))


def _readme(options: argparse.Namespace) -> None:
    from tools.readme import write_readme

    for line in write_readme(options.profile, options.runs_dir):
        print(line)


def _report(options: argparse.Namespace) -> None:
    from tools.site.building import write_site

    print(write_site(options.profile, options.runs_dir))


def _sweep(options: argparse.Namespace) -> int:
    from woofkit.sweeps import run as sweep_command

    return sweep_command.main(options.rest)


def _evidence(options: argparse.Namespace) -> int:
    from woofkit.claims import study as evidence_study

    return evidence_study.main(options.rest)


def _backbone(options: argparse.Namespace) -> int:
    from tools import backbone as pretrain

    return pretrain.main(options.rest)


def _bench(options: argparse.Namespace) -> int:
    from tools import bench

    return bench.main(options.rest)


if __name__ == "__main__":
    sys.exit(main())
