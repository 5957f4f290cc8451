"""ImageWoof v2: the ten breeds, and fast.ai's archives downloaded, checked and unpacked.

Source of the archives: https://github.com/fastai/imagenette (ImageWoof v2, a part of ImageNet;
ImageNet's terms hold for the photographs: research, not commerce).
"""

import errno
import gzip
import hashlib
import os
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from glob import glob
from pathlib import Path

from woofkit.config import ConfigError, resolve_path
from woofkit.datasets.download import OfflineError, download
from woofkit.datasets.pictures import named_in_utf8, shown
from woofkit.files import hold, require_folder

# WordNet's id, the breed, and its class among ImageNet-1k's 1000. Label 0..9 is the position, in the order of the ids.
_CLASSES = (
    ("n02086240", "Shih-Tzu", 155),
    ("n02087394", "Rhodesian ridgeback", 159),
    ("n02088364", "beagle", 162),
    ("n02089973", "English foxhound", 167),
    ("n02093754", "Border terrier", 182),
    ("n02096294", "Australian terrier", 193),
    ("n02099601", "golden retriever", 207),
    ("n02105641", "Old English sheepdog", 229),
    ("n02111889", "Samoyed", 258),
    ("n02115641", "dingo", 273),
)
WNIDS, BREEDS, IMAGENET_INDEX = zip(*_CLASSES, strict=True)
LOOK_ALIKE = (
    ("beagle", "English foxhound"),
    ("Border terrier", "Australian terrier"),
    ("golden retriever", "dingo", "Rhodesian ridgeback"),
    ("Old English sheepdog", "Samoyed", "Shih-Tzu"),
)


@dataclass(frozen=True)
class Archive:
    """A .tgz file and what is in it: `folder/{train,val}/<wnid>/*.JPEG`."""

    url: str
    md5: str
    folder: str
    num_train: int = 9025
    num_val: int = 3929
    wnids: tuple[str, ...] = WNIDS
    most_bytes: int = 2_000_000_000  # what is larger is something else; the largest archive has two thirds of it

    @property
    def fetched_with(self) -> str:
        """The options of `python -m woofkit fetch` that bring it."""
        name, size = self.folder.split("2")[0], self.folder.rpartition("-")[2]
        variant = size if size.isdecimal() else "full"
        return "--imagenette" if name == "imagenette" else f"-p dataset imagewoof -p image_variant {variant}"


MOST_UNPACKED = 3  # times `most_bytes`: photographs hardly shrink
_BUCKET = "https://s3.amazonaws.com/fast-ai-imageclas/"
ARCHIVES = {
    "160": Archive(_BUCKET + "imagewoof2-160.tgz", "3d200a7be99704a0d7509be2a9fbfe15", "imagewoof2-160"),
    "320": Archive(_BUCKET + "imagewoof2-320.tgz", "0f46d997ec2264e97609196c95897a44", "imagewoof2-320"),
    "full": Archive(_BUCKET + "imagewoof2.tgz", "9aafe18bcdb1632c4249a76c458465ba", "imagewoof2"),
}


def label_of(key: str) -> int:
    """Label 0..9 of a file such as "val/n02088364/n02088364_4991.JPEG"."""
    return WNIDS.index(key.split("/")[1])


def is_unseen(key: str) -> bool:
    """Whether no ImageNet backbone was trained on the file.

    ImageWoof was cut from ImageNet's training and validation images alike, and mixed; the prefix marks the latter.
    """
    return key.rsplit("/", 1)[-1].startswith("ILSVRC2012_val_")


def list_images(folder: Path, split: str, wnids: tuple[str, ...] = WNIDS) -> list[str]:
    """Every image of `folder/split` ("train" or "val") but hidden ones, as a sorted key "split/wnid/file.JPEG".

    Raises:
        ConfigError: a name is not UTF-8.
    """
    names = {f"{split}/{wnid}": sorted(glob("*.JPEG", root_dir=folder / split / wnid)) for wnid in wnids}
    keys = [f"{place}/{name}" for place in names for name in names[place]]
    if odd := [key for key in keys if not named_in_utf8(key)]:
        raise ConfigError(f"{folder}: {shown(odd[0])!r} has a name that is not UTF-8: rename it, or unpack anew")
    return keys


def photographs(folder: Path, split: str, scheme: str) -> list[str]:
    """The keys of a split's images under a scheme: see `data.load_dataset`."""
    train, val = list_images(folder, "train"), list_images(folder, "val")
    if scheme == "clean" and split == "test":
        return [key for key in train + val if is_unseen(key)]
    keys = train if split == "train" else val
    return keys if scheme == "paper" else [key for key in keys if not is_unseen(key)]


def check_counts(folder: Path, archive: Archive) -> None:
    """Raises ConfigError unless `folder` holds as many train and val images as `archive`."""
    train, val = (len(list_images(folder, split, archive.wnids)) for split in ("train", "val"))
    if (train, val) != (archive.num_train, archive.num_val):
        raise ConfigError(
            f"{folder} is not a complete {archive.folder}: found {train:,} images in train/ and {val:,} in val/ "
            f"(<wnid>/*.JPEG), expected {archive.num_train:,} and {archive.num_val:,}. Remove the folder to have it "
            "downloaded again, or unpack the archive anew."
        )


def locate(data_dir: str, variant: str, root: Path) -> Path:
    """The folder with train/ and val/: in `data_dir`, or, if that is "", downloaded to `root`."""
    return find_folder(data_dir, variant) if data_dir else fetch_archive(ARCHIVES[variant], root)


def find_folder(data_dir: str, variant: str) -> Path:
    """The folder with train/ and val/: `data_dir` itself, or `imagewoof2*/` inside it.

    Raises ConfigError where there is none, where the counts are wrong, and where the folder's name
    says that its images have another size than `variant`.
    """
    archive, given = ARCHIVES[variant], resolve_path(data_dir)
    places = [given, given / archive.folder, *sorted(given.glob("imagewoof2*"))]
    found = [place for place in places if (place / "train").is_dir() and (place / "val").is_dir()]
    if not found:
        raise ConfigError(
            f"data_dir {str(given)!r} {'has no train/ and val/' if given.exists() else 'does not exist'}. Expected: a "
            "folder that holds train/<wnid>/*.JPEG and val/<wnid>/*.JPEG, or its parent with "
            f"{archive.folder}/. Leave data_dir empty to download it."
        )
    for other, its in ARCHIVES.items():
        if its.folder == found[0].name and other != variant:
            raise ConfigError(
                f"data_dir leads to {its.folder}, but image_variant is {variant!r}: "
                f"set image_variant to {other!r}, or data_dir to a folder with {archive.folder}"
            )
    check_counts(found[0], archive)
    return found[0]


def fetch_archive(archive: Archive, root: Path) -> Path:
    """Download, check and unpack an archive below `root`; returns the unpacked folder.

    A folder that is already there is only counted. A download that was cut off goes on where it stopped; one that
    another process is at is waited for. Nothing has its final name before it is whole, and the archive is deleted in
    the end, by the next call where this one is killed.

    Raises:
        ConnectionError: there is no network, or the download broke off; what came so far is kept as `*.part`.
        ConfigError: wrong md5, an archive that is too large or would write outside its folder, or wrong counts.
    """
    folder = root / archive.folder
    busy = f"another process ({{owner}}) downloads {archive.folder} to {root}: waiting for it"
    if not folder.exists():
        require_folder("the folder for downloads", root)
        with hold(root / f".{archive.folder}.lease", busy, partial(print, flush=True)):
            if not folder.exists():
                _download_and_unpack(archive, root)
    check_counts(folder, archive)
    _remove_unpacked(archive, root)
    with suppress(OSError):  # it stays where files are not ours to remove
        _packed(archive, root).unlink()
    return folder


def _packed(archive: Archive, root: Path) -> Path:
    return root / archive.url.rsplit("/", 1)[-1]


def _remove_unpacked(archive: Archive, root: Path) -> None:
    """Remove what processes that were killed have unpacked; a living one holds the lock, or has what it wanted."""
    for left in root.glob(f".{archive.folder}-*/"):
        shutil.rmtree(left, ignore_errors=True)


def _download_and_unpack(archive: Archive, root: Path) -> None:
    _remove_unpacked(archive, root)
    packed = _download(archive, root)
    try:
        _unpack(packed, archive)
    except ConfigError:
        packed.unlink()
        raise


def _download(archive: Archive, root: Path) -> Path:
    packed = _packed(archive, root)
    if not packed.exists():
        try:
            download(archive.url, packed, archive.most_bytes)
        except OfflineError as error:
            raise ConfigError(
                f"{archive.folder} is not in {root}, and {error}: where there is internet, run "
                f"python -m woofkit fetch {archive.fetched_with}"
            ) from error
        except ConnectionError as error:
            raise ConnectionError(
                f"could not download {archive.url}: {error}. Run the same again to go on from where it stopped. "
                f"Without internet, unpack {packed.name} elsewhere, bring {archive.folder}/ here, set data_dir to it."
            ) from error
    with open(packed, "rb") as file:
        found = hashlib.file_digest(file, "md5").hexdigest()
    if found != archive.md5:
        packed.unlink()
        raise ConfigError(f"{archive.url} is not the known archive: expected md5:{archive.md5} but got {found}")
    return packed


# What tarfile and gzip raise of an archive that is cut, damaged, has a file where another name needs a folder, or links
# that lead round in a circle.
BROKEN = (tarfile.TarError, zlib.error, gzip.BadGzipFile, EOFError, KeyError, UnicodeError, RecursionError)
BROKEN += (FileExistsError, FileNotFoundError, IsADirectoryError, NotADirectoryError)


def _unpack(packed: Path, archive: Archive) -> None:
    from tqdm.auto import tqdm

    def checked() -> Iterator[tarfile.TarInfo]:
        size = 0
        for member in tqdm(tar, f"Unpacking {packed.name}", unit=" files"):
            size += member.size
            if size > MOST_UNPACKED * archive.most_bytes:
                raise ConfigError(f"{packed.name} was not unpacked: it holds more than {size / 1e6:,.0f} MB")
            yield member

    with tempfile.TemporaryDirectory(prefix=f".{archive.folder}-", dir=packed.parent) as temporary:
        try:
            with tarfile.open(packed) as tar:
                tar.extractall(temporary, checked(), filter="data")  # refuses ../, absolute paths and devices
        except BROKEN as error:
            raise ConfigError(f"{packed.name} was not unpacked: {error}") from error
        except OSError as error:
            if error.errno not in (errno.ENAMETOOLONG, errno.EINVAL, errno.ELOOP):  # the disk's
                raise
            raise ConfigError(f"{packed.name} was not unpacked, for a name in it: {error.strerror}") from error
        unpacked = Path(temporary) / archive.folder
        check_counts(unpacked, archive)
        os.replace(unpacked, packed.parent / archive.folder)
