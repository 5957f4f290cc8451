"""The study's question asked of one's own pictures: train nothing, a probe, BitFit, LoRA or everything?

The runs are those of sweeps/own.yaml, in an order that answers early: training nothing and the probe first, whose
features are computed once; then each other method's search for a learning rate, its other seeds, and fewer labels. What
is known is written after each of these steps, so the command may be stopped at any time.
"""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np

from woofkit.config import StudyConfig, TrainConfig
from woofkit.data import load_dataset
from woofkit.files import hold, require_folder, write_atomic, write_json
from woofkit.models import knows_classes
from woofkit.own.answer import answer, curve_frame
from woofkit.own.facts import (
    BEST,
    SEARCH,
    earlier_task,
    found_rates,
    gather,
    keep_curve,
    keep_effects,
    measure_step_costs,
    read_costs,
    read_curves,
)
from woofkit.own.labels import FRACTIONS, LEAST_FOR_A_CURVE, fraction_config, label_curve, probe_answers, run_answers
from woofkit.own.pace import Pace, in_words
from woofkit.progress import ProgressLines
from woofkit.results import METHOD_NAMES, percent
from woofkit.sweeps.grid import Sweep, load_sweep, settings_hash
from woofkit.sweeps.results import read_outcome
from woofkit.sweeps.run import choose, train_job, write_agenda

ON_FEWER = ("lora", "full")  # methods that are trained on FRACTIONS of the images
FEW_STEPS = 50  # below which a training has hardly begun
SMALLEST_BATCH = 4  # that is proposed
ANSWER = "recommendation.md"
OUTDATED = ("jobs/*.json", "best_lr/*.json", "rates.json", "step_costs.json", "label_curves.json", ANSWER)


def recommend(
    parameters: dict[str, Any], cores: int | None = None, source_dir: str = "", log: Callable[[str], None] = print
) -> int:
    """Train what is missing of sweeps/own.yaml, and say again and again what is known; return 0, or 130 if stopped.

    Args:
        cores: for each training; None takes those of this machine.
        source_dir: folder with Imagenette, to measure what weights of ImageNet have forgotten.

    Raises:
        ConfigError: the pictures or a parameter are refused, before anything is trained.
    """
    sweep = load_sweep("own", parameters)
    require_folder("runs_dir", sweep.root)
    if cores:
        import torch

        torch.set_num_threads(cores)
    load_task, _ = earlier_task(sweep.study, source_dir)
    if load_task and source_dir:  # whose images are refused now, not after an hour
        load_task(log=log)
    log(pictures := describe_pictures(sweep))
    busy = f"another search (process {{owner}}) is at work in {sweep.root}: wait for it, or stop it"
    with hold(sweep.root / ".sweep.lease", busy, wait=False):
        begin(sweep)
        session = _Session(sweep, source_dir, pictures, log)
        try:
            session.run()
        except KeyboardInterrupt:
            log(f"stopped. This is what is known; the same command goes on.\n\n{session.known(measure=False)}")
            return 130
    log(f"\nThe answer is kept in {sweep.root / ANSWER}")
    return 0


def read_recommendation(study: StudyConfig) -> str:
    """The answer that is kept for a study's settings, in markdown, or how to get one."""
    path = study.run_root / ANSWER
    if study.dataset != "folder":
        return (
            "For pictures of your own, `python -m woofkit recommend -p data_dir FOLDER` says which method suits them."
        )
    kept = study.run_root / "asked.json"
    asked = json.loads(kept.read_text(encoding="utf-8")) if kept.is_file() else {}
    if path.is_file() and asked.get("settings") == study.searched_settings:
        return path.read_text(encoding="utf-8")
    given = f"-p data_dir '{study.data_dir}' -p weights '{study.weights}' -p profile {study.profile}"
    return f"Nobody has asked yet which method suits these pictures: `python -m woofkit recommend {given}` does."


def describe_pictures(sweep: Sweep) -> str:
    """How many images of how many classes there are in each split, and how sure an accuracy on them can be."""
    splits = _splits(sweep)
    counts = {split: np.bincount(each.labels) for split, each in splits.items()}
    sizes = ", ".join(
        f"{len(each):,} {split} ({counts[split].min()} or more per class)" for split, each in splits.items()
    )
    half = 100 * 1.96 * (0.9 * 0.1 / len(splits["test"])) ** 0.5
    words = (
        f"{len(splits['train'].class_names)} classes: {sizes}. On so many test images, an accuracy of 90% is known to "
        f"about {half:.1f} points to either side."
    )
    return f"{words} {_few_steps(sweep.study, len(splits['train']))}".strip()


def _few_steps(study: StudyConfig, images: int) -> str:
    """A sentence on how to make more steps, where a training has few."""
    steps = study.epochs * ceil(images / study.batch_size)
    if steps >= FEW_STEPS:
        return ""
    smaller, more = study.epochs * images // FEW_STEPS, ceil(FEW_STEPS / ceil(images / study.batch_size))
    how = f"`-p batch_size {smaller}` makes {FEW_STEPS}" if smaller >= SMALLEST_BATCH else f"try `-p epochs {more}`"
    return f"Each training has {steps} steps, which is few: {how}."


def begin(sweep: Sweep) -> None:
    """Forget what was asked before of other pictures or settings; the runs stay, and equal ones are found again."""
    pictures = {split: dataset.fingerprint() for split, dataset in _splits(sweep).items()}
    asked, path = {"settings": sweep.study.searched_settings, "pictures": pictures}, sweep.root / "asked.json"
    before = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    if before != asked:
        for pattern in OUTDATED:
            for file in sweep.root.glob(pattern):
                file.unlink()
    for folder in ("jobs", "best_lr"):
        (sweep.root / folder).mkdir(parents=True, exist_ok=True)
    write_json(path, asked)


def _splits(sweep: Sweep) -> dict[str, Any]:
    study = sweep.study
    source = {"data_dir": study.data_dir, "skip_unreadable": study.skip_unreadable}
    numbers = {"train": study.num_train, "val": study.num_val, "test": study.num_test}
    return {split: load_dataset(study.dataset, split=split, num=num, **source) for split, num in numbers.items()}


class _Rarely(ProgressLines):
    """Lines on a run that takes more than half a minute; `trained` is False where it was found finished."""

    trained = True

    def epoch(self, record: dict) -> None:
        """Runs are many, and so are their epochs."""

    def end(self, message: str) -> None:
        """What has become of the run is told with what is left of all runs."""
        self.trained = "found finished" not in message


@dataclass
class _Session:
    """A recommendation at work."""

    sweep: Sweep
    source_dir: str
    pictures: str
    log: Callable[[str], None]
    agenda: dict[str, Any] = field(init=False)
    pace: Pace = field(init=False)
    curves: bool = field(init=False)  # whether there are images enough to train on a half and a quarter of them
    news: bool = field(default=False, init=False)  # whether something is known that was not told
    said: set[str] = field(default_factory=set, init=False)  # what is logged once

    def __post_init__(self) -> None:
        self.agenda = json.loads(write_agenda(self.sweep).read_text(encoding="utf-8"))
        splits = _splits(self.sweep)
        sizes = {split: len(dataset) for split, dataset in splits.items()}
        self.curves = np.bincount(splits["train"].labels).min() >= LEAST_FOR_A_CURVE
        self.pace = Pace(sizes, read_costs(self.sweep))

    def run(self) -> None:
        """Do what is left, the cheapest first, and tell what is known after each step."""
        methods = list(dict.fromkeys(job.config.method for job in self.sweep.jobs))
        zero_shot = self.sweep.study.train_config("zero-shot")
        if knows_classes(zero_shot):
            self.train(zero_shot, "zero-shot")
        self.search(methods[0])
        self.seeds(methods[0])
        self.tell()
        self.curve_of_the_probe()
        if read_costs(self.sweep) is None:
            self.log("measuring what a training step of each method costs")
            measure_step_costs(self.sweep, methods)
            self.news = True
            self.pace = replace(self.pace, costs=read_costs(self.sweep))
        self.tell()
        for method in methods[1:]:
            self.search(method)
            self.seeds(method, only=0)
            self.tell()
        for method in methods[1:]:
            self.seeds(method)
        self.tell()
        for method in ON_FEWER:
            self.on_fewer(method)
        self.news = True
        self.tell()

    # --- what is trained ---

    def search(self, method: str) -> None:
        """Find a method's learning rate on the validation images."""
        for job in self.sweep.jobs_of(SEARCH):
            if job.config.method == method:
                self.train(job.config, job.name)
        for search in self.sweep.searches:
            if search.startswith(f"{method}-") and not (self.sweep.root / "best_lr" / f"{search}.json").is_file():
                log = lambda line, search=search: self.log(line.replace(search, METHOD_NAMES[method]))  # noqa: E731
                choose(self.sweep.root, self.agenda, search, self.train, log)
        rates = {"settings": self.sweep.study.searched_settings, "rates": found_rates(self.sweep)}
        write_json(self.sweep.study.rates_file, rates)

    def seeds(self, method: str, only: int | None = None) -> None:
        """Train a method's seeds at its best rate, or one of them."""
        rate = found_rates(self.sweep)[method]
        for job in self.sweep.jobs_of(BEST):
            if job.config.method == method and only in (None, job.config.seed):
                self.train(replace(job.config, lr=rate), job.name)

    def curve_of_the_probe(self) -> None:
        """Measure the probe on growing amounts of images, once."""
        if not self.curves or any(curve.method == "probe" for curve in read_curves(self.sweep)):
            return
        config = self.sweep.study.train_config("probe")
        rates = sorted({job.config.lr for job in self.sweep.jobs_of(SEARCH) if job.config.method == "probe"})
        rates = sorted({*rates, found_rates(self.sweep)["probe"]})
        if curve := label_curve("probe", probe_answers(config, rates, self.log)):
            keep_curve(self.sweep, curve)

    def on_fewer(self, method: str) -> None:
        """Train a method on FRACTIONS of the images, with the seeds and the rate that it has on all."""
        runs: dict[int, list[Path]] = {}
        for config, name in self.fewer(method):
            self.train(config, name)
            size = round(config.label_fraction * self.pace.sizes["train"])
            if "run" in (outcome := read_outcome(self.sweep.root, name)):
                runs.setdefault(size, []).append(self.sweep.root / outcome["run"])
        if curve := label_curve(method, run_answers({size: own for size, own in runs.items() if len(own) > 1})):
            keep_curve(self.sweep, curve)

    def fewer(self, method: str) -> list[tuple[TrainConfig, str]]:
        """The trainings of a method on all images and on FRACTIONS, each with the name of its job."""
        rate = found_rates(self.sweep).get(method, 0.0)
        jobs = []
        for job in self.sweep.jobs_of(BEST):
            if job.config.method == method and rate and self.curves:
                whole = replace(job.config, lr=rate)
                parts = [fraction_config(whole, fraction, self.pace.sizes["train"]) for fraction in FRACTIONS]
                jobs += [(whole, job.name), *((part, settings_hash(part.to_dict())) for part in parts)]
        return jobs

    def train(self, config: TrainConfig, name: str) -> None:
        """Train a run, unless it is done, and log what came of it and how long the rest will take."""
        if read_outcome(self.sweep.root, name):
            return
        begun, monitor = time.monotonic(), _Rarely(self.once)
        train_job(self.sweep.root, config, name, monitor)
        if not monitor.trained:
            return
        self.news = True
        self.pace.note(config, seconds := time.monotonic() - begun)
        outcome = read_outcome(self.sweep.root, name)
        words = METHOD_NAMES[config.method]
        if config.method != "zero-shot":
            words += f", rate {config.lr:g}, seed {config.seed}"
        words += f", {percent(config.label_fraction)} of the labels" if config.label_fraction < 1 else ""
        if (accuracy := outcome.get("val_accuracy")) is not None:
            words += f": validation accuracy {percent(accuracy)}"
        words += " diverged" if "diverged" in outcome else ""
        self.log("; ".join(filter(None, (f"{words} ({in_words(seconds)})", self.left()))))

    def once(self, line: str) -> None:
        """Log a line, unless what stands behind its colon was logged before, as each of many runs says the same."""
        if (said := line.rpartition(": ")[2]) not in self.said:
            self.said.add(said)
            self.log(line)

    # --- what is known ---

    def left(self) -> str:
        """How many runs are still to do, and how long they will take."""
        rates, images = found_rates(self.sweep), self.pace.sizes["train"]
        todo: dict[str, TrainConfig] = {}
        for job in self.sweep.jobs:
            whole = replace(job.config, lr=rates.get(job.config.method, job.config.lr)) if job.search else job.config
            todo[job.name] = whole
            if job.search and whole.method in ON_FEWER and self.curves:
                parts = [fraction_config(whole, fraction, images) for fraction in FRACTIONS]
                todo |= {settings_hash(part.to_dict()): part for part in parts}
        todo = {name: config for name, config in todo.items() if not read_outcome(self.sweep.root, name)}
        if not todo:
            return ""
        seconds = self.pace.seconds(list(todo.values()))
        words = f"{len(todo)} {'run' if len(todo) == 1 else 'runs'} left"
        return f"{words}, about {in_words(seconds)}" if seconds else words

    def known(self, measure: bool = True) -> str:
        """What is known; it is kept beside the runs, its effects where notebook 05 looks."""
        facts = gather(self.sweep, self.source_dir, self.log if measure else None)
        if facts.curves:
            from woofkit.plots.accuracy import label_curve_figure
            from woofkit.plots.style import save_figure, use_style

            use_style()
            figure = label_curve_figure(curve_frame(facts))
            save_figure(figure, self.sweep.root / "figures", "label_curves", close=True)
        keep_effects(facts)
        left = self.left()
        text = answer(facts, self.pictures, left, self.curves and bool(left))
        write_atomic(self.sweep.root / ANSWER, lambda path: path.write_text(text + "\n", encoding="utf-8"))
        return text

    def tell(self) -> None:
        """Log what is known, unless it was told before."""
        if self.news:
            self.log(f"\n{self.known()}\n")
        self.news = False
