"""ImageWoof v2: the ten breeds, and fast.ai's archives downloaded, checked and unpacked.

Source of the archives: https://github.com/fastai/imagenette (ImageWoof v2, a part of ImageNet;
ImageNet's terms hold for the photographs: research, not commerce).
"""

import hashlib
import io
import os
import tarfile
import tempfile
from dataclasses import dataclass
from glob import glob
from pathlib import Path
from typing import BinaryIO

from PIL import Image

from woofkit.config import ConfigError, resolve_path

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
    """Every image of `folder/split` ("train" or "val") as a sorted key "split/wnid/file.JPEG"."""
    names = {f"{split}/{wnid}": sorted(glob("*.JPEG", root_dir=folder / split / wnid)) for wnid in wnids}
    return [f"{place}/{name}" for place in names for name in names[place]]


def photographs(folder: Path, split: str, scheme: str) -> list[str]:
    """The keys of a split's images under a scheme: see `data.load_dataset`."""
    train, val = list_images(folder, "train"), list_images(folder, "val")
    if scheme == "clean" and split == "test":
        return [key for key in train + val if is_unseen(key)]
    keys = train if split == "train" else val
    return keys if scheme == "paper" else [key for key in keys if not is_unseen(key)]


def read_image(folder: Path, key: str) -> Image.Image:
    """Read one image as RGB. Raises OSError that names the image."""
    data = io.BytesIO((folder / key).read_bytes())
    try:
        return Image.open(data).convert("RGB")
    except OSError as error:  # PIL does not say which file
        raise OSError(f"{key} cannot be read as an image: {error}") from error


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

    A folder that is already there is only counted. A download that was cut off goes on where it stopped. Nothing has
    its final name before it is whole, and the archive is deleted in the end.

    Raises:
        ConnectionError: the download broke off; what came so far is kept as `*.part`.
        ConfigError: wrong md5, an archive that would write outside its folder, or wrong counts.
    """
    folder = root / archive.folder
    if not folder.exists():
        packed = _download(archive, root)
        try:
            _unpack(packed, archive)
        except ConfigError:
            packed.unlink()
            raise
        packed.unlink()  # but not after a full disk: the next call then need not download it again
    check_counts(folder, archive)
    return folder


def _download(archive: Archive, root: Path) -> Path:
    import requests

    packed = root / archive.url.rsplit("/", 1)[-1]
    if not packed.exists():
        root.mkdir(parents=True, exist_ok=True)
        part = packed.with_name(f"{packed.name}.part")
        try:
            with open(part, "ab") as file:
                _append_rest(archive.url, file)
        except requests.RequestException as error:
            if part.stat().st_size == 0:
                part.unlink()
            raise ConnectionError(
                f"could not download {archive.url}: {error}. Run the same again to go on from where it stopped. "
                f"Without internet, unpack {packed.name} elsewhere, bring {archive.folder}/ here, set data_dir to it."
            ) from error
        os.replace(part, packed)
    with open(packed, "rb") as file:
        found = hashlib.file_digest(file, "md5").hexdigest()
    if found != archive.md5:
        packed.unlink()
        raise ConfigError(f"{archive.url} is not the known archive: expected md5:{archive.md5} but got {found}")
    return packed


def _append_rest(url: str, file: BinaryIO) -> None:
    """Append what `file` lacks of `url`. A broken connection is taken up again as long as each try brings something."""
    import requests
    from tqdm.auto import tqdm

    while True:
        start = file.tell()
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
        try:
            with requests.get(url, headers=headers, stream=True, timeout=30) as response:
                if response.headers.get("Content-Range") == f"bytes */{start}":
                    return  # nothing lies beyond `start`
                if response.status_code == 416:
                    file.truncate(0)
                    raise requests.ConnectionError("the part that was there did not fit and was removed")
                response.raise_for_status()
                if response.status_code == 200:  # the server sends everything from the beginning
                    file.truncate(file.seek(0))
                total = file.tell() + int(response.headers.get("Content-Length", 0))
                name = url.rsplit("/", 1)[-1]
                with tqdm(desc=name, total=total, initial=file.tell(), unit="B", unit_scale=True) as bar:
                    for chunk in response.iter_content(1 << 14):  # raises if the answer breaks off
                        bar.update(file.write(chunk))
                return
        except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError):
            if file.tell() <= start:
                raise


def _unpack(packed: Path, archive: Archive) -> None:
    from tqdm.auto import tqdm

    with tempfile.TemporaryDirectory(prefix=f".{archive.folder}-", dir=packed.parent) as temporary:
        try:
            with tarfile.open(packed) as tar:
                # the filter refuses ../, absolute paths and devices
                tar.extractall(temporary, tqdm(tar, f"Unpacking {packed.name}", unit=" files"), filter="data")
        except tarfile.TarError as error:
            raise ConfigError(f"{packed.name} was not unpacked: {error}") from error
        unpacked = Path(temporary) / archive.folder
        check_counts(unpacked, archive)
        os.replace(unpacked, packed.parent / archive.folder)
