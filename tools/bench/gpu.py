"""`python -m tools.bench.gpu`: what a GPU makes of the study, in minutes, on a machine that has only this checkout.

    protocol   the paper's protocol on all of ImageWoof, each method in a process of its own: seconds from end to end
    sweeps     the runs of sweeps/photographs.yaml and sweeps/confirm.yaml, as many as the time allows
    after      what their models have forgotten, and what shifts do to them
    rates      training images/s with input, and memory: by method, batch size and how a step reaches the GPU

Everything lands in one folder: rates.json, protocol.json, tables, and the runs without their weights in archives.
"""

import multiprocessing
import subprocess
import sys
import tarfile
import time
from argparse import ArgumentDefaultsHelpFormatter, ArgumentParser, Namespace
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import replace
from functools import partial
from itertools import islice, product
from pathlib import Path
from statistics import median
from typing import Any

import torch

from tools.bench.contestants import count_step_flops, synchronize
from tools.bench.setting import Setting
from woofkit.__main__ import parse_parameters
from woofkit.config import PROJECT_ROOT, StudyConfig, TrainConfig
from woofkit.data import Images, WoofDataset, batches, cached_pixels, load_dataset, make_transform
from woofkit.fast import forward
from woofkit.fast.runtime import Runtime
from woofkit.files import describe_environment, write_json
from woofkit.models import build_for, data_config
from woofkit.sweeps.grid import Job, Sweep, load_sweep
from woofkit.train import make_optimizer, train_step

METHODS = ("full", "lora", "probe")
BATCHES = (128, 32, 512, 1024)
COMPILED_BATCHES = (128, 32)
IMAGES = 4096  # in the GPU's memory; their content costs no time
ROUND_SECONDS = 0.4
CPU_THREADS = 2  # of each worker; more would wait for each other beside those that draw and read
COMPILE_PAYS = 12  # runs of one kind in one process: each kind is compiled once
# Who does which runs: one process per line. A search and the runs that wait for it are of one method.
WORKERS = (
    ("photographs", ("full", "zero-shot")),
    ("photographs", ("lora", "bitfit", "probe")),
    ("confirm", ("full", "probe", "last", "norm")),
    ("confirm", ("lora", "bitfit")),
)
ARCHIVE_BYTES = 15_000_000
WITHOUT_WEIGHTS = ("config.json", "metrics.json", "history.csv", "predictions.parquet")


def main(arguments: Sequence[str] | None = None) -> int:
    """Do the parts that are asked for, one after the other; what fails is said, and the next part begins."""
    parser = ArgumentParser(
        prog="python -m tools.bench.gpu", description=__doc__, formatter_class=ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--data-dir", required=True, help="folder with ImageWoof")
    parser.add_argument("--weights", required=True, help="weights of ViT-Tiny that know ImageNet")
    parser.add_argument("--source-dir", required=True, help="folder with Imagenette")
    parser.add_argument("--output", required=True, help="folder for what comes of it")
    parser.add_argument("--seconds", type=int, default=420, help="when no further run begins")
    parser.add_argument("-p", "--parameter", action="append", nargs="+", default=[], help="of all runs, for a trial")
    parser.add_argument("--parts", nargs="+", default=["protocol", "sweeps", "after", "rates"])
    options = parser.parse_args(arguments)
    begin = time.time()
    Path(options.output).mkdir(parents=True, exist_ok=True)
    parts = {"protocol": measure_protocol, "sweeps": run_sweeps, "after": measure_after, "rates": measure_rates}
    failed = 0
    if "sweeps" in options.parts:  # half of the cores are enough for what else runs meanwhile
        multiprocessing.get_context("spawn").Process(target=_draw, args=(options, begin + options.seconds)).start()
    for name in options.parts:
        try:
            parts[name](options, begin + options.seconds)
        except Exception as error:
            failed += 1
            print(f"{name} failed: {type(error).__name__}: {error}", flush=True)
        print(f"{name}: done after {time.time() - begin:.0f} s", flush=True)
    return 1 if failed else 0


# --- the paper's protocol ---


def measure_protocol(options: Namespace, deadline: float) -> None:
    """Train full and LoRA as profile `paper` says, each by the command that a user types, and time that command."""
    rows = {}
    for method in ("full", "lora"):
        command = [sys.executable, "-m", "woofkit", "train", "--profile", "paper", "--method", method]
        command += ["-p", "data_dir", options.data_dir, "-p", "weights", options.weights]
        command += [word for given in options.parameter for word in ("-p", *given)]
        start = time.time()
        done = subprocess.run(command, cwd=PROJECT_ROOT, capture_output=True, text=True, check=False)
        print(done.stdout[-1500:], done.stderr[-1500:], flush=True)
        done.check_returncode()
        rows[method] = {"seconds": time.time() - start, "output": done.stdout}
    write_json(Path(options.output) / "protocol.json", rows)


# --- the sweeps ---


def the_sweeps(options: Namespace) -> dict[str, Sweep]:
    """The sweeps, with where the photographs and their weights are."""
    given = parse_parameters(options.parameter)
    places = {"data_dir": options.data_dir, "weights": options.weights}
    return {"photographs": load_sweep("photographs", places | given), "confirm": load_sweep("confirm", given)}


def run_sweeps(options: Namespace, deadline: float) -> None:
    """Let every worker do its runs until the deadline; then pack what is there."""
    context = multiprocessing.get_context("spawn")
    processes = []
    for number, (sweep, methods) in enumerate(WORKERS):
        processes.append(context.Process(target=_work, args=(options, sweep, methods, number, deadline)))
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    for sweep in the_sweeps(options).values():
        count = len(list((sweep.root / "jobs").glob("*.json")))
        print(f"{sweep.name}: {count} of {len(sweep.jobs)} runs", flush=True)
        pack(sweep.root, Path(options.output))


def _draw(options: Namespace, deadline: float) -> None:
    """Draw what the later runs need, while the first ones train."""
    sweep = the_sweeps(options)["confirm"]
    model = build_for(sweep.study.train_config("full"))
    transform = make_transform(data_config(model))
    for split in ("val", "test"):
        _pixels(sweep.study, split, transform)
    for seed in dict.fromkeys(job.config.seed for job in sweep.jobs):
        if time.time() < deadline:
            _pixels(sweep.study, "train", transform, seed)


def _pixels(study: StudyConfig, split: str, transform: Any, seed: int = 0) -> tuple[WoofDataset, torch.Tensor]:
    number = {"train": study.num_train, "val": study.num_val, "test": study.num_test}[split]
    dataset = load_dataset(study.dataset, split=split, num=number, seed=seed, image_size=transform.size)
    return dataset, cached_pixels(dataset, transform, fingerprint=dataset.fingerprint(), progress=False)


def _work(options: Namespace, name: str, methods: Sequence[str], number: int, deadline: float) -> None:
    """Do a sweep's runs of some methods, in the order of its file."""
    from woofkit.sweeps.run import train

    torch.set_num_threads(CPU_THREADS)
    sweep = the_sweeps(options)[name]
    (sweep.root / "jobs").mkdir(parents=True, exist_ok=True)
    jobs = [job for job in sweep.jobs if job.config.method in methods]
    kinds = Counter(_kind(job) for job in jobs)
    agenda = {"runs": {j.name: {"settings": j.config.to_dict(), "search": j.search} for j in jobs}}
    agenda["searches"] = sweep.searches
    with (Path(options.output) / f"worker{number}.log").open("w", buffering=1) as log, redirect_stdout(log):
        for job in jobs:
            if time.time() > deadline:
                print("no time is left")
                break
            forward.COMPILE_FROM["cuda"] = 0 if kinds[_kind(job)] >= COMPILE_PAYS else 10**12
            start = time.time()
            try:
                if job.search:
                    _choose(sweep.root, agenda, job.search)
                train(sweep.root, agenda, job.name)
            except Exception as error:
                print(f"{job.name} failed: {type(error).__name__}: {error}")
            print(f"{job.grids[0]} {job.config.method} {job.config.lr:g} {time.time() - start:.1f} s")


def _kind(job: Job) -> tuple:
    """What the compiler would compile anew."""
    return job.config.method, job.config.lora, job.config.batch_size


def _choose(root: Path, agenda: dict[str, Any], search: str) -> None:
    from woofkit.sweeps.run import choose

    if not (root / "best_lr" / f"{search}.json").is_file():
        choose(root, agenda, search)


def pack(root: Path, output: Path) -> None:
    """The runs below `root`, without their weights, in archives of at most ARCHIVE_BYTES each."""
    notes = [*root.glob("jobs/*.json"), *root.glob("best_lr/*.json")]
    files = sorted(path for path in root.glob("*/*") if path.name in WITHOUT_WEIGHTS)
    parts, size = [[]], 0
    for path in notes + files:
        size += path.stat().st_size
        if size > ARCHIVE_BYTES:
            parts.append([])
            size = path.stat().st_size
        parts[-1].append(path)
    for number, part in enumerate(parts):
        with tarfile.open(output / f"{root.name}-{number}.tar.gz", "w:gz") as archive:
            for path in part:
                archive.add(path, path.relative_to(root.parent))


# --- after training ---


def measure_after(options: Namespace, deadline: float) -> None:
    """Measure what the sweeps' models have forgotten and lose to shifts, and keep every effect and table."""
    from woofkit.claims.study import study_evidence
    from woofkit.sweeps.results import keep

    for sweep in the_sweeps(options).values():
        keep(sweep, Path(options.output))
        with (Path(options.output) / f"evidence-{sweep.name}.log").open("w", buffering=1) as log:
            study_evidence(sweep, options.source_dir, Path(options.output), partial(print, file=log))


# --- rates ---


def measure_rates(options: Namespace, deadline: float) -> None:
    """Training images/s with input, and memory, by method, batch size and how a step reaches the device."""
    study, runtime = the_sweeps(options)["confirm"].study, Runtime.pick()
    model = build_for(study.train_config("full"))
    generator = torch.Generator().manual_seed(0)
    side = data_config(model)["input_size"][1]
    pixels = torch.randint(0, 256, (IMAGES, 3, side, side), generator=generator, dtype=torch.uint8)
    images = Images(runtime.near(pixels), torch.arange(IMAGES) % 10, make_transform(data_config(model)))
    rows, path = [], Path(options.output) / "rates.json"
    cells = list(product(BATCHES, ("launched", "recorded"), METHODS))
    cells += product(BATCHES[:1], ("recorded, explicit attention",), METHODS)
    cells += product(COMPILED_BATCHES, ("recorded, compiled",), METHODS[:2])
    for batch, form, method in cells:
        try:
            row = _rate(images, runtime, replace(study.train_config(method), batch_size=batch), form)
        except Exception as error:
            row = {"failed": f"{type(error).__name__}: {error}"[:300]}
        rows.append({"batch_size": batch, "method": method, "form": form, **row})
        print(rows[-1], flush=True)
        result = {"environment": describe_environment(runtime.device), "precision": runtime.precision, "rates": rows}
        write_json(path, result)
    setting = Setting(runtime.device.type, runtime.precision, side, BATCHES[0], images)
    result["peak_tflops"] = [_peak(runtime) for _ in range(5)]
    for name, whole in (("flops_per_image", False), ("model_flops_per_image", True)):
        result[name] = count_step_flops(setting, whole) / BATCHES[0]
    write_json(path, result)


def _rate(images: Images, runtime: Runtime, config: TrainConfig, form: str) -> dict[str, float]:
    batch = config.batch_size
    model = runtime.prepare(build_for(config)).train()
    if "explicit" in form:
        for block in model.blocks:
            block.attn.fused_attn = False
    optimizer = make_optimizer(model, config.lr, runtime)
    logits = forward.compiled_logits(batch) if "compiled" in form else None
    step = partial(train_step, model, optimizer=optimizer, runtime=runtime, forward=logits)
    if "recorded" in form:
        step = runtime.repeated(step, batch)
    if runtime.device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    held = _held(runtime)
    start = time.time()
    for seen, targets in islice(_endless(images, batch, runtime), 8):
        step(seen, targets)
    synchronize(runtime.device.type)
    warm, rates = time.time() - start, []
    for _ in range(5):
        count, start = 0, time.time()
        for seen, targets in _endless(images, batch, runtime):
            step(seen, targets)
            count += batch
            if count % (8 * batch) == 0:
                synchronize(runtime.device.type)
                if time.time() - start > ROUND_SECONDS / 5 * 2:
                    break
        synchronize(runtime.device.type)
        rates.append(count / (time.time() - start))
    found = {"images_per_second": median(rates), "low": min(rates), "high": max(rates), "warm_up_seconds": warm}
    if runtime.device.type == "cuda":
        found["memory_mb"] = (torch.cuda.max_memory_allocated() - held) / 1e6
    return found


def _endless(images: Images, batch: int, runtime: Runtime) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    seed = 0
    while True:
        for seen, targets in batches(images, batch, device=runtime.device, generator_seed=seed):
            if len(targets) == batch:
                yield seen, targets
        seed += 1


def _held(runtime: Runtime) -> int:
    return torch.cuda.memory_allocated() if runtime.device.type == "cuda" else 0


def _peak(runtime: Runtime) -> float:
    """TFLOP/s of a square product in the run's format."""
    size = 8192 if runtime.device.type == "cuda" else 1024
    dtype = torch.bfloat16 if runtime.precision == "bf16" else torch.float32
    a, b = (torch.randn(size, size, device=runtime.device, dtype=dtype) for _ in range(2))
    a @ b
    synchronize(runtime.device.type)
    start = time.time()
    for _ in range(10):
        a @ b
    synchronize(runtime.device.type)
    return 10 * 2 * size**3 / (time.time() - start) / 1e12


if __name__ == "__main__":
    sys.exit(main())
