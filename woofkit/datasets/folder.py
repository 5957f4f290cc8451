"""A folder of one's own pictures as a dataset: which classes it has, which files, and which of them train and test.

    my pictures/cat/1.jpg                    class folders: split here, the same way each time
    my pictures/train/cat/1.jpg              or split folders with class folders; what is missing is split off train

Pictures that are nearly copies of one another never come to lie in two splits that are split off here.
"""

import hashlib
import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from woofkit.config import ConfigError
from woofkit.datasets.near_duplicates import SIDE, copy_groups
from woofkit.datasets.pictures import (
    FORMATS,
    LONGEST,
    PIXELS,
    in_processes,
    named_in_utf8,
    pictures_below,
    read_picture,
    shown,
    why_unreadable,
)
from woofkit.files import write_json

SPLIT_FOLDERS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val"}
SPLIT_FOLDERS |= {"test": "test", "testing": "test"}
SHARES = {"test": 0.2, "val": 0.2}  # of a class, split off
LEAST = {"train": 2, "val": 1, "test": 2}  # pictures of each class; an interval needs two to test on
COPY = 0.9  # similarity from which two pictures are copies: re-lit copies have 0.93 and more, others 0.6 and less
FEW = 200  # pictures that are read before other processes have started
SHOWN, SHOWN_FILES = 20, 200  # classes and files that a message names


class Pictures(NamedTuple):
    """The splits as (keys, labels): keys are paths below the folder, labels int64 positions in `class_names`."""

    class_names: tuple[str, ...]
    splits: dict[str, tuple[tuple[str, ...], np.ndarray]]
    unreadable: dict[str, str]  # what was left out: key -> why


def find_pictures(
    root: Path, cache: Path, skip_unreadable: bool = False, log: Callable[[str], None] = print
) -> Pictures:
    """The pictures below `root`, split, with at least LEAST of every class in each split.

    Every file whose name ends like an image's counts, at any depth below its class; hidden ones do not. All are read
    once, and what was found is kept in the folder `cache` until a file changes.

    Raises:
        ConfigError: no folder, fewer than two classes, too few pictures of a class, or unreadable ones, all named;
            with `skip_unreadable` these are left out.
    """
    listed = _listing(root)
    names = _class_folders(root, listed)
    labels = {key: names.index(name) for own in listed.values() for key, name in own.items()}
    kept = _inspected(root, list(labels), cache, log)
    unreadable = kept["unreadable"]
    if unreadable and not skip_unreadable:
        by_reason = defaultdict(list)
        for key, why in list(unreadable.items())[:SHOWN_FILES]:
            by_reason[why].append(shown(key))
        named = [f"{', '.join(keys)} ({why})" for why, keys in by_reason.items()]
        more = f" and {len(unreadable) - SHOWN_FILES} more" if len(unreadable) > SHOWN_FILES else ""
        raise ConfigError(
            f"{len(unreadable)} of {len(labels):,} images in {str(root)!r} cannot be read: {'; '.join(named)}{more}. "
            "Mend or remove them, or set skip_unreadable to leave them out"
        )
    splits = {split: [key for key in own if key not in unreadable] for split, own in listed.items()}
    missing = [split for split in SHARES if split not in splits]
    splits |= _split_off(splits.pop("train"), labels, kept["groups"], missing)
    _require_enough(root, splits, labels, names)
    tidy = {split: (tuple(own), np.array([labels[key] for key in own], np.int64)) for split, own in splits.items()}
    return Pictures(readable(names), tidy, unreadable)


def class_folders(root: Path) -> tuple[str, ...]:
    """The names of the class folders below `root`, in alphabetical order whatever their case; no image is read.

    Raises:
        ConfigError: no folder, or fewer than two classes.
    """
    return _class_folders(root, _listing(root))


# --- what there is ---


def _listing(root: Path) -> dict[str, dict[str, str]]:
    """Split -> key -> class folder, in order; all of it is "train" unless train/ lies beside val/ or test/."""
    if not root.is_dir():
        raise ConfigError(f"data_dir {str(root)!r} is not a folder: allowed is one with a folder of images per class")
    folders = {path.name: _pictures_of(root, path) for path in _visible_folders(root)}
    nested = {name: _pictures_of(root, root / name, depth=1) for name in folders if name.lower() in SPLIT_FOLDERS}
    given = {SPLIT_FOLDERS[name.lower()]: own for name, own in nested.items() if own}
    if not given:
        return {"train": {key: name for own in folders.values() for key, name in own.items()}}
    strangers = [name for name, own in folders.items() if own and name.lower() not in SPLIT_FOLDERS]
    if strangers:
        raise ConfigError(
            f"data_dir {str(root)!r} is split into {', '.join(nested)}, and beside them lies {strangers[0]!r} with "
            "images: move it into one of them, or elsewhere"
        )
    if "train" not in given:
        return {"train": {key: name for own in given.values() for key, name in own.items()}}
    return {split: given[split] for split in LEAST if split in given}


def _visible_folders(path: Path) -> list[Path]:
    return [each for each in sorted(path.iterdir()) if each.is_dir() and not each.name.startswith((".", "__"))]


def _pictures_of(root: Path, folder: Path, depth: int = 0) -> dict[str, str]:
    """Key -> class of all images below a folder; the class is the folder, or, with depth 1, the one below it."""
    found = {}
    for path in pictures_below(folder):
        below = path.relative_to(folder).parts
        if len(below) > depth:
            found[path.relative_to(root).as_posix()] = below[0] if depth else folder.name
    return found


def _class_folders(root: Path, listed: Mapping[str, Mapping[str, str]]) -> tuple[str, ...]:
    """The names of the listed pictures' class folders, sorted."""
    found = {name for own in listed.values() for name in own.values()}
    if len(found) < 2:
        what = f"one class alone, {found.pop()!r}" if found else "no folder with images"
        raise ConfigError(
            f"data_dir {str(root)!r} has {what}. Expected: a folder of images per class, two at least, or train/ (and "
            "val/, test/) with such folders"
        )
    if odd := [name for name in found if not named_in_utf8(name)]:
        raise ConfigError(
            f"data_dir {str(root)!r}: the folder {shown(odd[0])!r} has a name that is not UTF-8: rename it"
        )
    return tuple(sorted(found, key=lambda name: (name.casefold(), name)))


def readable(names: Sequence[str]) -> tuple[str, ...]:
    """Class folders' names to show: ImageNet's own for those that are named by its ids, such as n01440764."""
    if not all(re.fullmatch(r"n\d{8}", name) for name in names):
        return tuple(names)
    from timm.data import ImageNetInfo

    known = ImageNetInfo()
    words = {known.index_to_label_name(i): known.index_to_description(i) for i in range(known.num_classes())}
    shown = tuple(words.get(name, name).split(",")[0] for name in names)
    return shown if len(set(shown)) == len(shown) else tuple(names)


def imagenet_positions(names: Sequence[str]) -> tuple[int, ...] | None:
    """Where class folders stand among ImageNet's 1,000, by id or by name; None if one of them is not there.

    Names match whatever their case, with "_" or "-" for a space. A name that several classes have stands for none.
    """
    from timm.data import ImageNetInfo

    known, found = ImageNetInfo(), defaultdict(set)
    for position in range(known.num_classes()):
        words = known.index_to_description(position).split(", ")
        for name in (known.index_to_label_name(position), *words):
            found[_plain(name)].add(position)
    matches = [found[_plain(name)] for name in names]
    positions = tuple(min(match) for match in matches if len(match) == 1)
    return positions if len(set(positions)) == len(matches) else None


def _plain(name: str) -> str:
    return " ".join(re.split(r"[\s_-]+", name.casefold()))


def _inspected(root: Path, keys: Sequence[str], cache: Path, log: Callable[[str], None]) -> dict[str, dict]:
    """Which images cannot be read, key -> why, and which are copies of one another, key -> number of its group."""
    stats = [(root / key).stat() for key in keys]
    signature = [
        str(root),
        [COPY, FORMATS, PIXELS, LONGEST],
        [(key, stat.st_size, stat.st_mtime_ns) for key, stat in zip(keys, stats, strict=True)],
    ]
    path = cache / f"folder-{hashlib.sha256(json.dumps(signature).encode()).hexdigest()[:16]}.json"
    if path.is_file():
        return json.loads(path.read_text(encoding="utf-8"))
    log(f"reading {len(keys):,} images in {root}, once: which are damaged, and which are copies of one another?")
    unreadable, small = {}, {}
    loader = in_processes(_Thumbnails(root, keys), 16, FEW)
    for key, thumbnail in zip(keys, (each for batch in loader for each in batch), strict=True):
        if isinstance(thumbnail, str):
            unreadable[key] = thumbnail
        else:
            small[key] = torch.from_numpy(thumbnail).permute(2, 0, 1)
    groups = copy_groups(torch.stack(list(small.values())), COPY).tolist() if small else []
    found = {"unreadable": unreadable, "groups": dict(zip(small, groups, strict=True))}
    cache.mkdir(parents=True, exist_ok=True)
    write_json(path, found)
    return found


class _Thumbnails:
    """Images by index as uint8 (SIDE, SIDE, 3), or, of one that cannot be read, why."""

    def __init__(self, root: Path, keys: Sequence[str]):
        self.root, self.keys = root, keys

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index: int) -> np.ndarray | str:
        if not named_in_utf8(self.keys[index]):
            return "its name is not UTF-8: rename it"
        path = self.root / self.keys[index]
        try:
            picture = read_picture(path)
        except OSError as error:
            return why_unreadable(path, error)
        return np.array(picture.resize((SIDE, SIDE), Image.Resampling.BOX))


# --- who trains, who tests ---


def _split_off(
    keys: Sequence[str], labels: Mapping[str, int], groups: Mapping[str, int], missing: Sequence[str]
) -> dict[str, list[str]]:
    """Split the missing splits off: SHARES of every class, LEAST at least, and copies of one picture together.

    The same pictures always give the same splits.
    """
    together = defaultdict(list)
    for key in keys:
        together[groups[key]].append(key)
    sizes = Counter(labels[key] for key in keys)
    due = {
        split: {label: max(LEAST[split], round(SHARES[split] * size)) for label, size in sizes.items()}
        for split in missing
    }
    splits = {split: [] for split in ("train", *missing)}
    order = np.random.default_rng(0).permutation(len(together))
    for group in (list(together.values())[place] for place in order):
        label = labels[group[0]]
        split = next((split for split in missing if due[split][label] >= len(group)), "train")
        splits[split] += group
        if split != "train":
            due[split][label] -= len(group)
    place = {key: number for number, key in enumerate(keys)}
    return {split: sorted(own, key=place.get) for split, own in splits.items()}


def _require_enough(
    root: Path, splits: Mapping[str, Sequence[str]], labels: Mapping[str, int], names: Sequence[str]
) -> None:
    for split, least in LEAST.items():
        counts = Counter(labels[key] for key in splits[split])
        if few := [f"{name} ({counts[label]})" for label, name in enumerate(names) if counts[label] < least]:
            whole = Counter(labels[key] for own in splits.values() for key in own)
            smallest = min(whole[label] for label in range(len(names)))
            raise ConfigError(
                f"too few images in {str(root)!r}: {split} needs {least} of every class, and there are fewer of "
                f"{', '.join(few[:SHOWN])}. The smallest class has {smallest} in all; {sum(LEAST.values())} are the "
                "least, copies of one picture counted once. Add images, or remove the class"
            )
