"""How long a sweep takes: from the finished runs in its folder, or, before there are any, from a table."""

import json
from pathlib import Path

from woofkit.config import TrainConfig
from woofkit.files import write_json
from woofkit.results import is_finished, load_runs
from woofkit.sweeps.grid import Sweep
from woofkit.sweeps.plan import Job, run_sizes

# Until a run of the method has finished: images a second in training, ViT-Tiny at 224 px, bf16 on two cores.
RATES = {"full": 70.0, "lora": 80.0, "bitfit": 85.0, "norm": 85.0, "last": 150.0, "probe": 190.0}
EVALUATION_RATE = 200.0  # images a second
START_SECONDS = 6.0  # Python, PyTorch, the model, the images


def measured_rates(root: Path) -> dict[str, float]:
    """Images a second in training, by method: the median of the finished runs below `root`, else RATES."""
    runs = load_runs(root)
    if "images_per_second" not in runs:
        return dict(RATES)
    return RATES | runs.dropna(subset="images_per_second").groupby("method")["images_per_second"].median().to_dict()


def effort(config: TrainConfig) -> tuple[int, float]:
    """What a run takes: images to train on, all epochs together, and the seconds for all else.

    That is starting, the validation after each epoch, and the test.
    """
    sizes = run_sizes(config)
    seconds = START_SECONDS + sizes["test"] / EVALUATION_RATE
    if config.method == "zero-shot":
        return 0, seconds
    return config.epochs * sizes["train"], seconds + config.epochs * sizes.get("val", 0) / EVALUATION_RATE


def expected_seconds(method: str, effort: tuple[int, float], rates: dict[str, float]) -> float:
    """How long a run of such an effort takes."""
    images, others = effort
    return others + (images / rates[method] if images else 0.0)


def agenda_file(sweep: Sweep) -> Path:
    """The file that tells a job of the others."""
    return sweep.root / f".{sweep.name}.agenda.json"


def write_agenda(sweep: Sweep, jobs: list[Job], done_before: int) -> None:
    """Write what `progress_line` reads. `done_before` jobs were done when the sweep was started, and do not count."""
    entries = [[job.run.name if job.run else "", job.config.method, effort(job.config)] for job in jobs]
    write_json(agenda_file(sweep), {"done_before": done_before, "jobs": entries})


def progress_line(agenda: Path, run: Path) -> str:
    """The line that a job begins with: which of how many it is, and how long it and the others will take."""
    given, rates = json.loads(agenda.read_text()), measured_rates(agenda.parent)
    left = [job for job in given["jobs"] if not (job[0] and is_finished(agenda.parent / job[0]))]
    count = len(given["jobs"]) - given["done_before"]
    minutes = round(sum(expected_seconds(method, effort, rates) for _, method, effort in left) / 60)
    return f"job {count - len(left) + 1} of {count}, about {minutes // 60}:{minutes % 60:02d} left: {run.name}"
