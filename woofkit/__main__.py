"""The command line: `python -m woofkit COMMAND`, each with --help."""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from woofkit.config import LABELS, METHODS, ConfigError, StudyConfig, resolve_path
from woofkit.fast.cores import share_cores
from woofkit.faults import as_exit_status
from woofkit.files import require_folder
from woofkit.profiles import available_profiles, load_profile, parse_override, require_project

RUN_COLUMNS = ("method", "dataset", "scheme", "epochs", "lr", "test_accuracy", "test_loss", "trainable_parameters")
RUN_COLUMNS += ("train_seconds", "run")
TOOLS = "Beside these, `make help` lists what works on a finished study or on the project itself: site, readme, bench."


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit status, as `exit_status` has it."""
    options = _parser().parse_args(arguments)
    share_cores()  # before anything imports PyTorch
    return exit_status(partial(options.command, options))


def exit_status(command: Callable[[], int | None]) -> int:
    """Run a command; return 0 (done), 1 (broke off), 2 (refused before it began) or 128 + N (ended by signal N).

    What ended it is said in one sentence; a mistake of woofkit's own is raised.
    """

    def refused() -> int | None:
        try:
            require_project()
            return command()
        except ConfigError as error:
            _complain(f"error: {error}")
            return 2
        except FloatingPointError as error:  # a loss that is no number
            _complain(f"error: {error}")
            return 1

    return as_exit_status(refused, _complain)


def _complain(line: str) -> None:
    with suppress(OSError):  # the terminal may be gone
        print(line, file=sys.stderr, flush=True)


def parse_pairs(given: Sequence[Sequence[str]]) -> dict[str, str]:
    """Return the names and texts given as ["name", "value"] or ["name=value"]. Raises ConfigError."""
    pairs: dict[str, str] = {}
    for words in given:
        parts = words[0].split("=", 1) if len(words) == 1 else words
        if len(parts) != 2:
            raise ConfigError(f"-p {' '.join(words)}: give a name and a value, as in -p lr 1e-4")
        if parts[0] in pairs:
            raise ConfigError(f"parameter {parts[0]!r} is given twice")
        pairs[parts[0]] = parts[1]
    return pairs


def parse_parameters(given: Sequence[Sequence[str]]) -> dict[str, Any]:
    """Return the parameters of a study given as ["name", "value"] or ["name=value"]. Raises ConfigError."""
    return {name: parse_override(name, text) for name, text in parse_pairs(given).items()}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m woofkit", description="LoRA against full fine-tuning.", epilog=TOOLS
    )
    command = partial(_command, parser.add_subparsers(required=True, metavar="COMMAND"))
    known = ", ".join(available_profiles())
    words = "set a parameter: -p lr 1e-4, or -p lr=1e-4; may be repeated"
    parameters = _option("-p", "--parameter", action="append", nargs="+", default=[], metavar="X", help=words)
    study = (_option("--profile", default="demo", metavar="P", help=f"{known}, or a .yaml file"), parameters)
    output = _option("--output", default="data/results", metavar="FOLDER", help="for the table")
    words = "Imagenette, for weights of ImageNet (default: downloaded)"
    source = _option("--source-dir", default="", metavar="FOLDER", help=words)
    which_sweep = _option("sweep", metavar="SWEEP", help="its name in sweeps/, or a .yaml file")

    words = "only these, such as 03_lora_finetune (default: all)"
    command(_run, *study, _option("-n", "--notebook", action="extend", nargs="+", metavar="NAME", help=words))
    command(
        _train,
        *study,
        _option("--method", required=True, choices=METHODS, help="what trains"),
        _option("--label", default="breed", choices=LABELS, help="what to name"),
        _option("--last-blocks", default=1, metavar="N", help="of method last"),
    )
    words = "Imagenette too, on which forgetting of ImageNet is measured"
    command(_fetch, *study, _option("--imagenette", action="store_true", help=words))
    command(_runs, _option("--root", default="runs", metavar="FOLDER", help="where to look"))
    command(
        _keep,
        _option("--profile", required=True, metavar="NAME", help="the study"),
        _option("--runs-dir", default="runs", metavar="FOLDER", help="where to look"),
    )
    command(
        _attention,
        *study,
        output,
        _option("--dogs", default=200, metavar="N", help="of the test split"),
        _option("--seeds", default=3, metavar="N", help="models per method"),
    )
    cores = _option("--cores", type=int, metavar="N", help="for all runs together (default: those of this machine)")
    drawings = _option("--drawings", default=2000, metavar="N", help="of invented breeds")
    command(_forgetting, *study, source, output, drawings)
    command(
        _sweep,
        which_sweep,
        parameters,
        _option("-n", "--dry-run", action="store_true", help="print the jobs and the hours, and train nothing"),
        _option("--keep", action="store_true", help="write what has finished to data/results/sweep_SWEEP.csv"),
        cores,
        _option("--cluster", default="", metavar="NAME", help="run them there: a profile in sweeps/profiles, as slurm"),
        _option("--launcher", default="", metavar="WORDS", help='start each with these, as "srun -Q -n1"'),
        _option("--jobs", type=int, metavar="N", help="at once, with --cluster or --launcher"),
    )
    command(_evidence, which_sweep, parameters, source)
    command(_recommend, parameters, cores, source)
    run = _option("run", metavar="RUN", help="the folder of a finished run")
    command(
        _predict,
        _option("run", metavar="RUN", help="the folder of a finished run, or of an adapter of PEFT"),
        _option("pictures", nargs="+", metavar="PICTURE", help="image files, folders with some, or globs"),
        _option("--output", type=Path, metavar="FILE", help="for the table, as CSV (default: printed)"),
        _option("--maps", type=Path, metavar="FOLDER", help="for one figure per picture: where the model looks"),
        _option("--top", type=int, metavar="N", help="only the N most probable classes, not one column for each"),
        _option("--profile", metavar="P", help="the settings of an adapter of PEFT that lies without them"),
        parameters,
    )
    command(_export, run, _option("folder", type=Path, metavar="FOLDER", help="new or empty"))
    return parser


def _option(*names: str, **settings: Any) -> argparse.ArgumentParser:
    """A parser of one option, which commands can share; a default decides its type and is named in its help."""
    if default := settings.get("default"):
        settings |= {"type": type(default), "help": f"{settings['help']} (default: %(default)s)"}
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument(*names, **settings)
    return parser


def _command(commands: Any, function: Callable, *options: argparse.ArgumentParser) -> None:
    """Add the command that is named like `function` and described by its docstring."""
    words = function.__doc__
    short = words[0].lower() + words[1:].rstrip(".")
    parser = commands.add_parser(function.__name__[1:], help=short, description=words, parents=options)
    parser.set_defaults(command=function)


def _study(options: argparse.Namespace) -> StudyConfig:
    return StudyConfig.from_dict(load_profile(options.profile) | parse_parameters(options.parameter))


# What a command needs is imported when it runs: --help and refusals come at once.


def _run(options: argparse.Namespace) -> int:
    """Run the notebooks headlessly."""
    parameters = parse_parameters(options.parameter)
    settings = load_profile(options.profile) | parameters
    if StudyConfig.from_dict(settings).lr == 0:  # each method's own rate has to be searched first
        from woofkit.own.recommend import recommend

        asked = {name: value for name, value in settings.items() if name not in ("lr", "seed")}
        if status := recommend(asked, log=partial(print, flush=True)):
            return status
    from woofkit.study import StudyError, run_study

    try:
        run_study(options.profile, parameters, options.notebook)
    except StudyError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _train(options: argparse.Namespace) -> None:
    """Train one model, or find it trained."""
    study = _study(options)
    from woofkit.fast.ranks import first_rank
    from woofkit.results import read_metrics
    from woofkit.train import run_training

    config = replace(study.train_config(options.method), label=options.label, last_blocks=options.last_blocks)
    run = run_training(config, study.run_root)
    if not first_rank():  # of the processes that torchrun has started, one speaks
        return
    for name, value in read_metrics(run).items():
        print(f"{name:24} {value}")
    print(f"{'run':24} {run}")


def _fetch(options: argparse.Namespace) -> None:
    """Bring what a study downloads, for machines without internet."""
    study = _study(options)
    from woofkit.measure.source_tasks import fetch_imagenette
    from woofkit.study import check_inputs

    check_inputs(study)
    if options.imagenette:
        fetch_imagenette()
    print(f"all is here that a study with profile {study.profile!r} needs; WOOFKIT_OFFLINE=1 keeps it from the network")


def _runs(options: argparse.Namespace) -> None:
    """Print the finished runs as a table."""
    root = resolve_path(options.root)
    if not root.is_dir():
        raise ConfigError(f"there is no folder {root}: --root names the one that holds runs")
    from woofkit.results import load_runs

    frame = load_runs(root, log=partial(print, file=sys.stderr, flush=True))
    if frame.empty:
        print(f"no finished run in {root}")
        return
    frame["run"] = [str(Path(run).relative_to(root)) for run in frame["run"]]
    print(frame[[column for column in RUN_COLUMNS if column in frame]].to_string(index=False))


def _keep(options: argparse.Namespace) -> None:
    """Keep a profile's finished runs as a table in data/results/."""
    from woofkit.tables.results import keep_results

    print(keep_results(options.profile, options.runs_dir))


def _attention(options: argparse.Namespace) -> None:
    """Measure where a study's models look, and judge the claims."""
    study = _study(options)
    from woofkit.claims.study import study_attention
    from woofkit.tables.attention import verdict_lines

    log, output = partial(print, flush=True), resolve_path(options.output)
    require_folder("--output", output)
    table, verdicts = study_attention(study, options.dogs, options.seeds, output, log)
    print("\n".join([*verdict_lines(json.loads(verdicts.read_text(encoding="utf-8"))), f"kept in {table}"]))


def _forgetting(options: argparse.Namespace) -> None:
    """Measure what a study's finished runs have forgotten."""
    study = _study(options)
    from woofkit.measure.forgetting_study import study_forgetting

    log, output = partial(print, flush=True), resolve_path(options.output)
    require_folder("--output", output)
    print(f"kept in {study_forgetting(study, options.source_dir, options.drawings, output, log)}")


def _sweep(options: argparse.Namespace) -> int:
    """Train what a sweep names, on Snakemake."""
    from woofkit.sweeps.engine import Engine
    from woofkit.sweeps.run import run_sweep

    texts = parse_pairs(options.parameter)
    engine = Engine(options.cluster, options.launcher, options.jobs, options.cores)
    return run_sweep(options.sweep, texts, dry_run=options.dry_run, keep=options.keep, engine=engine)


def _evidence(options: argparse.Namespace) -> None:
    """Keep the effects of a sweep's finished runs."""
    from woofkit.claims.study import study_evidence
    from woofkit.sweeps.grid import load_sweep

    sweep = load_sweep(options.sweep, parse_parameters(options.parameter))
    print(f"kept in {study_evidence(sweep, options.source_dir, log=partial(print, flush=True))}")


def _recommend(options: argparse.Namespace) -> int:
    """Say which method suits your own pictures."""
    parameters = parse_parameters(options.parameter)
    from woofkit.own.recommend import recommend

    return recommend(parameters, options.cores, options.source_dir, partial(print, flush=True))


# The paths of these two start where the caller stands, as the shell completes and expands them.


def _predict(options: argparse.Namespace) -> int:
    """Say what pictures show, by a finished run."""
    study = None
    if options.profile or options.parameter:
        study = StudyConfig.from_dict(load_profile(options.profile or "demo") | parse_parameters(options.parameter))
    from woofkit.own.finished import load_finished
    from woofkit.own.predict import Asked, find_pictures, predict

    pictures = find_pictures(options.pictures)
    asked = Asked(options.output, options.maps, options.top)
    finished = load_finished(Path(options.run).expanduser(), study)
    unreadable = predict(finished, pictures, asked, partial(print, file=sys.stderr, flush=True), sys.stdout)
    return 1 if unreadable else 0


def _export(options: argparse.Namespace) -> None:
    """Write a finished run's model as files that need no woofkit."""
    from woofkit.own.export import export_run

    folder = options.folder.expanduser()
    export_run(Path(options.run).expanduser(), folder, partial(print, flush=True))
    for file in sorted(file for file in folder.rglob("*") if file.is_file()):
        print(f"{file.stat().st_size:>14,}  {file}")


if __name__ == "__main__":
    sys.exit(main())
