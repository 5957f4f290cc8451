"""What a finished run says of other pictures: a table of probabilities, and, where asked, maps of where it looks."""

import csv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from glob import glob
from pathlib import Path
from typing import NamedTuple, TextIO

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from woofkit.config import ConfigError, require_range
from woofkit.data import Images, Transform
from woofkit.datasets.pictures import in_processes, pictures_below, read_picture, why_unreadable
from woofkit.fast.runtime import Runtime
from woofkit.files import require_folder, write_atomic
from woofkit.own.finished import Finished
from woofkit.results import percent

BATCH = 32
MANY = 36  # pictures from which on progress is shown
FEW = 200  # pictures that are read before other processes have started
MAPS = ("attention", "relevance")


class Asked(NamedTuple):
    """What to write. output: a CSV file, or None for stdout. maps: a folder for figures, or None for no figure.

    top: so many of the most probable classes with their probabilities, in place of one column per class; None is all.
    """

    output: Path | None = None
    maps: Path | None = None
    top: int | None = None


def predict(
    finished: Finished, pictures: Sequence[Path], asked: Asked, log: Callable[[str], None], stdout: TextIO
) -> int:
    """Write one row per picture that can be read; name the others to `log`, and return how many there are.

    The model computes in float32, LoRA's adapters on. An interrupted call leaves no part of `asked.output`.

    Raises:
        ConfigError: no such number of classes, no folder for the output, a folder for maps that holds something, or
            a model without maps; nothing has been read then.
    """
    require_asked(finished, asked)
    unreadable: dict[Path, str] = {}

    def write(file: TextIO) -> None:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(header(finished.class_names, asked.top))
        for batch in _batches(finished, pictures, unreadable):
            if asked.maps:
                _draw_maps(finished, batch, asked.maps)
            for path, row in zip(batch.paths, batch.probabilities, strict=True):
                table.writerow([path, *answer(row, finished.class_names, asked.top)])

    if asked.output:
        write_atomic(asked.output, lambda temporary: _into(temporary, write))
    else:
        write(stdout)
    for path, why in unreadable.items():
        log(f"{path} cannot be read: {why}")
    if unreadable:
        log(f"{len(unreadable)} of {len(pictures)} pictures cannot be read; the others are in the table")
    return len(unreadable)


def find_pictures(given: Sequence[str]) -> list[Path]:
    """The pictures that files, folders and globs name, each once; relative names start where the caller stands.

    A file counts whatever its name; below a folder, at any depth, and under a glob only what ends like an image.
    Globs are expanded here too, as some shells leave them to the program; "**" goes down any number of folders.

    Raises:
        ConfigError: a name stands for no picture.
    """
    found: dict[Path, None] = {}
    for text in given:
        path = Path(text).expanduser()
        if path.is_file():
            own = [path]
        elif path.is_dir():
            own = pictures_below(path)
        else:
            below = [pictures_below(Path(match)) for match in sorted(glob(str(path), recursive=True))]
            own = [picture for pictures in below for picture in pictures]
        if not own:
            what = "holds no picture" if path.is_dir() else "stands for no picture"
            raise ConfigError(
                f"{text!r} {what}: allowed are image files, folders with some, and globs such as 'a/*.jpg'"
            )
        found |= dict.fromkeys(own)
    return list(found)


def header(class_names: Sequence[str], top: int | None = None) -> list[str]:
    """The columns: path, predicted and probability, then one per class, or with `top` two for each of so many."""
    if not top:
        return ["path", "predicted", "probability", *class_names]
    return ["path", "predicted", "probability", *(f"{name}_{k}" for k in range(1, top + 1) for name in ("class", "p"))]


def answer(probabilities: np.ndarray, class_names: Sequence[str], top: int | None = None) -> list[str]:
    """What stands in a row behind the path; probabilities (C,) are written with six decimals."""
    order = np.argsort(-probabilities, kind="stable")
    written = [f"{probability:.6f}" for probability in probabilities]
    best = [class_names[order[0]], written[order[0]]]
    if not top:
        return [*best, *written]
    return [*best, *(word for place in order[:top] for word in (class_names[place], written[place]))]


def require_asked(finished: Finished, asked: Asked) -> None:
    """Raise ConfigError for what cannot be written, before anything is read."""
    if asked.top is not None:
        require_range("top", asked.top, 1, len(finished.class_names))
    if asked.output and (asked.output.is_dir() or not asked.output.absolute().parent.is_dir()):
        raise ConfigError(f"--output {asked.output} cannot be written: allowed is a file in a folder that exists")
    if asked.output:
        require_folder("the folder of --output", asked.output.absolute().parent)
    if asked.maps:
        from woofkit.explain.maps import require_maps

        require_empty(asked.maps)
        require_folder("--maps", asked.maps)
        require_maps(finished.model, finished.transform.size)


def require_empty(folder: Path) -> None:
    """Raise ConfigError unless a folder is new or empty."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder} is there and not empty: allowed is a new or an empty folder")


class _Batch(NamedTuple):
    """Pictures that were read, the number of the first (from 1), pixels uint8 (B, 3, H, W), probabilities (B, C)."""

    first: int
    paths: list[Path]
    pixels: Tensor
    probabilities: np.ndarray


def _batches(finished: Finished, pictures: Sequence[Path], unreadable: dict[Path, str]) -> Iterator[_Batch]:
    """Yield the readable pictures with what the model says of them; the others go to `unreadable`."""
    runtime = Runtime.pick(precision="fp32")
    model, forward = runtime.prepare(finished.model), runtime.forward()
    loader = in_processes(_Cut(pictures, finished.transform), BATCH, FEW)
    first = 1
    with tqdm(total=len(pictures), desc="Predicting", unit=" pictures", disable=len(pictures) < MANY) as bar:
        for part in loader:
            unreadable |= {path: found for path, found in part if isinstance(found, str)}
            whole = {path: found for path, found in part if not isinstance(found, str)}
            if whole:
                pixels = torch.from_numpy(np.stack(list(whole.values()))).permute(0, 3, 1, 2)
                with torch.inference_mode():
                    logits = forward(model, finished.transform.normalize(pixels.to(runtime.device)))
                yield _Batch(first, list(whole), pixels, logits.float().softmax(dim=1).cpu().numpy())
            first += len(whole)
            bar.update(len(part))


@dataclass(frozen=True)
class _Cut:
    """Pictures by index: the path with the pixels, uint8 (size, size, 3), or, if it cannot be read, with the reason.

    Arrays, as tensors that come from other processes would need shared memory.
    """

    pictures: Sequence[Path]
    transform: Transform

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> tuple[Path, np.ndarray | str]:
        path = self.pictures[index]
        try:
            return path, self.transform.geometry(read_picture(path))
        except OSError as error:
            return path, why_unreadable(path, error)


def _draw_maps(finished: Finished, batch: _Batch, folder: Path) -> None:
    """Write one figure per picture, named by its row in the table: the picture, and its maps beside it."""
    from woofkit.explain.maps import explain_images
    from woofkit.plots.attention import explorer_grid
    from woofkit.plots.style import save_figure, use_style

    use_style()
    maps = explain_images(finished.model, Images(batch.pixels, None, finished.transform), MAPS).maps
    method = finished.config.method
    for place, (path, row) in enumerate(zip(batch.paths, batch.probabilities, strict=True)):
        says = f"says {finished.class_names[row.argmax()]} ({percent(row.max())})"
        own = {kind: {method: made[place].numpy()} for kind, made in maps.items()}
        figure = explorer_grid(batch.pixels[place].permute(1, 2, 0).numpy(), own, {method: says}, path.name)
        save_figure(figure, folder, f"{batch.first + place:04d}-{path.stem}", dpi=100, close=True)


def _into(path: Path, write: Callable[[TextIO], None]) -> None:
    """Open a file for a CSV table; a path that is no valid text is written as the bytes that it is."""
    with path.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        write(file)
