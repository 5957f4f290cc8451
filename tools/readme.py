"""`make readme`: write the results into README.md and the pictures it shows into figures/.

README.md marks each place with `<!-- results:NAME -->` ... `<!-- /results:NAME -->`. The place named like the
given profile takes that study's table. A place with tables of its name, data/results/NAME_*.csv, takes those:
they took long to measure and are kept in the repository; `bench` and `speed_accuracy` take what `make bench` left
there, `attention-...` and `forgetting-...` what `python -m woofkit attention` and `forgetting` did. Every other place
stays as it is.
"""

import re
import shutil
from functools import partial
from pathlib import Path

import pandas as pd

from tools.bench.accuracy import ACCURACIES, accuracies_markdown
from tools.bench.result import as_markdown
from woofkit.config import METHODS, PROJECT_ROOT, ConfigError, resolve_path
from woofkit.files import write_atomic, write_table
from woofkit.results import load_runs
from woofkit.study import _read_json, read_study_table
from woofkit.sweeps.results import kept_runs
from woofkit.tables.attention import measures_markdown, verdicts_markdown
from woofkit.tables.forgetting import forgetting_markdown
from woofkit.tables.results import compare_runs, results_markdown
from woofkit.tables.sweeps import kept_markdown

README = PROJECT_ROOT / "README.md"
FIGURES = PROJECT_ROOT / "figures"
KEPT_RESULTS = PROJECT_ROOT / "data" / "results"


def _attention_markdown(path: Path) -> str:
    record = _read_json(path)
    parts = [verdicts_markdown(record)] if record["verdicts"] else []
    return "\n\n".join([*parts, measures_markdown(record, pd.read_csv(path.with_suffix(".csv")))])


def _forgetting_markdown(path: Path) -> str:
    return forgetting_markdown(pd.read_csv(path))


RENDERED = {
    "bench": (KEPT_RESULTS / "bench.json", lambda path: as_markdown(_read_json(path))),
    "speed_accuracy": (ACCURACIES, lambda path: accuracies_markdown(pd.read_csv(path))),
    "sweep-drawings": (KEPT_RESULTS / "sweep_rigor-small.csv", lambda path: kept_markdown(kept_runs("sketchwoof"))),
    "sweep-photographs": (KEPT_RESULTS / "sweep_imagewoof.csv", lambda path: kept_markdown(kept_runs("imagewoof"))),
    "forgetting-drawings": (KEPT_RESULTS / "forgetting_sketchwoof_demo.csv", _forgetting_markdown),
    "forgetting-photographs": (KEPT_RESULTS / "forgetting_imagewoof_clean.csv", _forgetting_markdown),
    "attention-drawings": (KEPT_RESULTS / "attention_sketchwoof_demo.json", _attention_markdown),
    "attention-photographs": (KEPT_RESULTS / "attention_imagewoof_clean.json", _attention_markdown),
}


def write_readme(profile: str = "demo", runs_dir: str = "runs") -> list[str]:
    """Bring README.md and figures/ up to date from a finished study; return a line on each thing done.

    Raises ConfigError if the study is not finished, README.md has no place for it or shows a figure it lacks.
    """
    study = resolve_path(runs_dir) / profile
    table = read_study_table(study, profile)
    if not README.is_file():
        raise ConfigError(f"there is no {README} to write into")
    text = README.read_text(encoding="utf-8")
    places = find_places(text)
    if profile not in places:
        raise ConfigError(
            f"README.md has no place for {profile!r}: it has {', '.join(places) or 'none'}; "
            f"mark one with <!-- results:{profile} --> and <!-- /results:{profile} -->"
        )
    done = []
    for name in places:
        kept = sorted(KEPT_RESULTS.glob(f"{name}_*.csv"))
        if name == profile:
            content, source = table, study
        elif kept:
            content, source = kept_table(kept), KEPT_RESULTS
        elif name in RENDERED and RENDERED[name][0].is_file():
            source, render = RENDERED[name]
            content = render(source)
        else:
            continue
        text = fill_place(text, name, content)
        done.append(f"README.md: results of {name} from {source}")
    shown = copy_figures(text, profile, study / "figures")

    write_atomic(README, lambda path: path.write_text(text, encoding="utf-8"))
    return [*done, f"figures/{profile}: {', '.join(shown) or 'README.md shows none'}"]


def keep_results(profile: str, runs_dir: str = "runs") -> Path:
    """Write the table of a profile's finished runs to data/results/<dataset>_<profile>.csv and return its path.

    For measurements that took long: runs/ is not part of the repository, data/results/ is.
    Raises ConfigError if no run of the profile is finished, or its runs are on several datasets.
    """
    study = resolve_path(runs_dir) / profile
    runs = load_runs(study)
    if runs.empty:
        raise ConfigError(f"no finished run in {study}: run make study PROFILE={profile}")
    datasets = runs["dataset"].unique()
    if len(datasets) > 1:
        raise ConfigError(f"{study} has runs on {' and '.join(datasets)}: keep those of one dataset in one profile")
    order = runs["method"].map(METHODS.index).sort_values(kind="stable").index
    table = compare_runs(map(Path, runs.loc[order, "run"]), profile)
    path = KEPT_RESULTS / f"{datasets[0]}_{profile}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_table(table, path)
    return path


def find_places(text: str) -> list[str]:
    """Return the names of the marked places. Raises ConfigError for one that is not closed or comes twice."""
    marks = re.findall(r"<!-- (/?results:[\w-]+) -->", text)
    opened, closed = marks[::2], marks[1::2]
    if [f"/{mark}" for mark in opened] != closed or len(set(opened)) != len(opened):
        raise ConfigError(f"README.md has the marks {', '.join(marks)}: open and close each place once, in turn")
    return [mark.removeprefix("results:") for mark in opened]


def fill_place(text: str, name: str, content: str) -> str:
    """Return `text` with what stands between the markers of `name` replaced by `content`."""
    start, end = f"<!-- results:{name} -->", f"<!-- /results:{name} -->"
    before, rest = text.split(start)
    return f"{before}{start}\n{content}\n{end}{rest.split(end)[1]}"


def kept_table(paths: list[Path]) -> str:
    """Return the rows of kept result files as one table in markdown, with date and machine below it."""
    return results_markdown(pd.concat([pd.read_csv(path) for path in paths], ignore_index=True))


def copy_figures(text: str, profile: str, source: Path) -> list[str]:
    """Copy the study's figures that `text` shows to figures/<profile>/, remove those it no longer shows.

    Returns their file names. Raises ConfigError, having copied nothing, if the study lacks one.
    """
    shown = sorted(set(re.findall(rf"figures/{re.escape(profile)}/([\w.-]+\.png)", text)))
    for name in shown:
        if not (source / name).is_file():
            there = ", ".join(sorted(path.name for path in source.glob("*.png"))) or "none"
            raise ConfigError(f"README.md shows figures/{profile}/{name}, but {source} has: {there}")
    target = FIGURES / profile
    if shown:
        target.mkdir(parents=True, exist_ok=True)
    for name in shown:
        write_atomic(target / name, partial(shutil.copyfile, source / name))
    for path in target.glob("*.png"):
        if path.name not in shown:
            path.unlink()
    return shown
