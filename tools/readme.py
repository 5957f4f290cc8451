"""`make readme`: write results into README.md and docs/, and the pictures that they show into figures/.

A file marks each place with `<!-- results:NAME -->` ... `<!-- /results:NAME -->`. The place named like the given
profile takes that study's table, or the recommendation where it has one. A place with tables of its name,
data/results/NAME_*.csv, takes those: they took long to measure and are kept in the repository. A place in RENDERED
takes what `make bench`, a sweep, `python -m woofkit attention` or `python -m woofkit forgetting` has left in
data/results/. Every other place stays as it is.
"""

import json
import re
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path

import pandas as pd

from tools.bench.accuracy import accuracies_markdown
from tools.bench.result import as_markdown, gpu_markdown
from tools.bench.scale import hours_markdown, scale_markdown
from tools.command import run_on_study
from tools.fuzz.table import faults_markdown
from tools.overview import answer_markdown, overview_markdown
from woofkit.config import PROJECT_ROOT, ConfigError, resolve_path
from woofkit.files import RESULTS, require_folder, write_atomic
from woofkit.measure.forgetting_study import kept_forgetting, repeated_settings
from woofkit.own.recommend import ANSWER
from woofkit.study import read_study_table
from woofkit.sweeps.results import kept_runs
from woofkit.tables.attention import measures_markdown, verdicts_markdown
from woofkit.tables.forgetting import forgetting_markdown
from woofkit.tables.results import results_markdown
from woofkit.tables.sweeps import kept_markdown, rates_markdown

FILES = tuple(
    PROJECT_ROOT / name
    for name in (
        "README.md",
        *(f"docs/{page}.md" for page in ("results", "speed", "clusters", "your-own-pictures", "running")),
    )
)  # whichever exist
FIGURES = PROJECT_ROOT / "figures"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return 0, or 2 after a refusal."""
    about = "Write the tables and figures of a finished study into README.md and docs/."
    return run_on_study(lambda *study: print("\n".join(write_readme(*study))), "tools.readme", about, arguments)


def write_readme(profile: str = "demo", runs_dir: str = "runs") -> list[str]:
    """Bring README.md, docs/ and figures/ up to date from a finished study; return one line on each of them.

    Raises ConfigError, having written nothing, if the study is not finished, if no file has a place for it, or if one
    shows a figure that the study lacks.
    """
    study = resolve_path(runs_dir) / profile
    table = study_markdown(study, profile)
    for folder in {FIGURES, *(path.parent for path in FILES)}:
        require_folder("the folder to write to", folder)
    texts = {path: path.read_text(encoding="utf-8") for path in FILES if path.is_file()}
    places = {path: find_places(path.name, text) for path, text in texts.items()}
    names = [name for found in places.values() for name in found]
    if profile not in names:
        raise ConfigError(
            f"{', '.join(path.name for path in FILES)} have no place for {profile!r}: they have"
            f" {', '.join(names) or 'none'}; mark one with <!-- results:{profile} --> and <!-- /results:{profile} -->"
        )
    contents = kept_contents(names) | {profile: table}
    texts = {path: fill_places(text, contents) for path, text in texts.items()}
    shown = copy_figures("".join(texts.values()), profile, study / "figures")
    for path, text in texts.items():
        write_atomic(path, partial(Path.write_text, data=text, encoding="utf-8"))
    done = [f"{path.name}: {', '.join(name for name in found if name in contents)}" for path, found in places.items()]
    return [*done, f"figures/{profile}: {', '.join(shown) or 'none is shown'}"]


def study_markdown(study: Path, profile: str) -> str:
    """A finished study's table, or, where there is a recommendation, that one: without its title, a level lower.

    Raises ConfigError if the study is not finished.
    """
    table, answer = read_study_table(study, profile), study / ANSWER
    if not answer.is_file():
        return table
    _, text = answer.read_text(encoding="utf-8").split("\n\n", 1)
    return re.sub(r"^#", "##", text.strip(), flags=re.M)


def find_places(name: str, text: str) -> list[str]:
    """Return the names of the marked places in a file's text. Raises ConfigError for one not closed, or there twice."""
    marks = re.findall(r"<!-- (/?results:[\w-]+) -->", text)
    opened, closed = marks[::2], marks[1::2]
    if [f"/{mark}" for mark in opened] != closed or len(set(opened)) != len(opened):
        raise ConfigError(f"{name} has the marks {', '.join(marks)}: open and close each place once, in turn")
    return [mark.removeprefix("results:") for mark in opened]


def fill_places(text: str, contents: Mapping[str, str]) -> str:
    """Return `text` with the marked places named in `contents` filled with what stands there."""

    def filled(found: re.Match) -> str:
        start, name, end = found.groups()
        return f"{start}\n{contents[name]}\n{end}" if name in contents else found[0]

    return re.sub(r"(<!-- results:([\w-]+) -->).*?(<!-- /results:\2 -->)", filled, text, flags=re.S)


def copy_figures(text: str, profile: str, source: Path) -> list[str]:
    """Copy the study's figures that `text` shows to figures/<profile>/, and remove those that it no longer shows.

    Returns their file names. Raises ConfigError, having copied nothing, if the study lacks one.
    """
    shown = sorted(set(re.findall(rf"figures/{re.escape(profile)}/([\w.-]+\.png)", text)))
    for name in shown:
        if not (source / name).is_file():
            there = ", ".join(sorted(path.name for path in source.glob("*.png"))) or "none"
            raise ConfigError(f"figures/{profile}/{name} is to be shown, but {source} has: {there}")
    target = FIGURES / profile
    if shown:
        target.mkdir(parents=True, exist_ok=True)
    for name in shown:
        write_atomic(target / name, partial(shutil.copyfile, source / name))
    for path in target.glob("*.png"):
        if path.name not in shown:
            path.unlink()
    return shown


def kept_contents(names: Iterable[str]) -> dict[str, str]:
    """Return the Markdown for those of the named places that data/results/ has something for."""
    contents = {}
    for name in names:
        tables = sorted(RESULTS.glob(f"{name}_*.csv"))
        file, render = RENDERED.get(name, ("", None))
        if tables:
            contents[name] = results_markdown(pd.concat(map(pd.read_csv, tables), ignore_index=True))
        elif render and (RESULTS / file).is_file():
            contents[name] = render(RESULTS / file)
    return contents


def _bench(path: Path) -> str:
    return as_markdown(json.loads(path.read_text(encoding="utf-8")))


def _gpu(path: Path) -> str:
    return gpu_markdown(json.loads(path.read_text(encoding="utf-8")))


def _accuracies(path: Path) -> str:
    return accuracies_markdown(pd.read_csv(path))


def _faults(path: Path) -> str:
    return faults_markdown(pd.read_csv(path))


def _forgetting(dataset: str) -> Callable[[Path], str]:
    return lambda path: forgetting_markdown(repeated_settings(kept_forgetting(dataset, path.parent)))


def _attention(path: Path) -> str:
    record = json.loads(path.read_text(encoding="utf-8"))
    verdicts = [verdicts_markdown(record)] if record["verdicts"] else []
    return "\n\n".join([*verdicts, measures_markdown(record, pd.read_csv(path.with_suffix(".csv")))])


RENDERED = {
    "answer": ("bench.json", lambda _: answer_markdown()),
    "overview": ("sweep_rigor-small.csv", lambda _: overview_markdown()),
    "bench": ("bench.json", _bench),
    "scale": ("scale.json", scale_markdown),
    "hours": ("gpu.json", lambda _: hours_markdown()),
    "gpu": ("gpu.json", _gpu),
    "speed_accuracy": ("speed_accuracy.csv", _accuracies),
    "faults": ("faults.csv", _faults),
    "rates-drawings": ("sweep_rigor-small.csv", lambda _: rates_markdown(kept_runs("sketchwoof", every=True))),
    "rates-photographs": ("sweep_imagewoof.csv", lambda _: rates_markdown(kept_runs("imagewoof", every=True))),
    "sweep-drawings": ("sweep_rigor-small.csv", lambda _: kept_markdown(kept_runs("sketchwoof", every=True))),
    "sweep-photographs": ("sweep_imagewoof.csv", lambda _: kept_markdown(kept_runs("imagewoof", every=True))),
    "forgetting-drawings": ("forgetting_sketchwoof_demo.csv", _forgetting("sketchwoof")),
    "forgetting-photographs": ("forgetting_imagewoof_clean.csv", _forgetting("imagewoof")),
    "attention-drawings": ("attention_sketchwoof_demo.json", _attention),
    "attention-photographs": ("attention_imagewoof_clean.json", _attention),
}


if __name__ == "__main__":
    sys.exit(main())
