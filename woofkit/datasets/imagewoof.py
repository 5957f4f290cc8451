"""ImageWoof v2: the ten breeds, and fast.ai's archives downloaded, checked and unpacked.

Source of the archives: https://github.com/fastai/imagenette (ImageWoof v2, a part of ImageNet;
ImageNet's terms hold for the photographs: research, not commerce).
"""

import io
import os
import shutil
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from woofkit.config import ConfigError, resolve_path

# Label 0..9 is the position in these tables, the order of the sorted folder names.
WNIDS = (
    "n02086240",
    "n02087394",
    "n02088364",
    "n02089973",
    "n02093754",
    "n02096294",
    "n02099601",
    "n02105641",
    "n02111889",
    "n02115641",
)
BREEDS = (
    "Shih-Tzu",
    "Rhodesian ridgeback",
    "beagle",
    "English foxhound",
    "Border terrier",
    "Australian terrier",
    "golden retriever",
    "Old English sheepdog",
    "Samoyed",
    "dingo",
)
LOOK_ALIKE = (
    ("beagle", "English foxhound"),
    ("Border terrier", "Australian terrier"),
    ("golden retriever", "dingo", "Rhodesian ridgeback"),
    ("Old English sheepdog", "Samoyed", "Shih-Tzu"),
)
IMAGENET_INDEX = (155, 159, 162, 167, 182, 193, 207, 229, 258, 273)  # class in ImageNet-1k's 1000

# ImageWoof was cut from ImageNet's training and validation images alike, and mixed. Only the files
# with this prefix come from the validation images, which no ImageNet backbone was trained on.
UNSEEN_PREFIX = "ILSVRC2012_val_"


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
    """Whether the file comes from ImageNet's validation images, unseen by an ImageNet backbone."""
    return key.rsplit("/", 1)[-1].startswith(UNSEEN_PREFIX)


def list_images(folder: Path, split: str, wnids: tuple[str, ...] = WNIDS) -> list[str]:
    """Every image of `folder/split` ("train" or "val") as a sorted key "split/wnid/file.JPEG"."""
    return [
        f"{split}/{wnid}/{name}"
        for wnid in wnids
        if (folder / split / wnid).is_dir()
        for name in sorted(os.listdir(folder / split / wnid))
        if name.endswith(".JPEG")
    ]


def photographs(folder: Path, split: str, scheme: str) -> list[str]:
    """The keys of a split's images under a scheme: see `data.load_dataset`."""
    train, val = list_images(folder, "train"), list_images(folder, "val")
    if scheme == "paper":
        return train if split == "train" else val
    if split == "test":
        return [key for key in train + val if is_unseen(key)]
    return [key for key in (train if split == "train" else val) if not is_unseen(key)]


def read_image(folder: Path, key: str) -> Image.Image:
    """Read one image as RGB. Raises OSError that names the image."""
    data = (folder / key).read_bytes()
    try:
        return Image.open(io.BytesIO(data)).convert("RGB")
    except OSError as error:  # PIL does not say which file
        raise OSError(f"{key} cannot be read as an image: {error}") from error


def check_counts(folder: Path, archive: Archive) -> None:
    """Raises ConfigError unless `folder` holds as many train and val images as `archive`."""
    found = {split: len(list_images(folder, split, archive.wnids)) for split in ("train", "val")}
    if found != {"train": archive.num_train, "val": archive.num_val}:
        raise ConfigError(
            f"{folder} is not a complete {archive.folder}: found {found['train']:,} images in train/ and "
            f"{found['val']:,} in val/ (<wnid>/*.JPEG), expected {archive.num_train:,} and "
            f"{archive.num_val:,}. Remove the folder to have it downloaded again, or unpack the archive anew."
        )


def find_folder(data_dir: str, variant: str) -> Path:
    """The folder with train/ and val/: `data_dir` itself, or `imagewoof2*/` inside it.

    Raises ConfigError where there is none, where the counts are wrong, and where the folder's name
    says that its images have another size than `variant`.
    """
    archive = ARCHIVES[variant]
    given = resolve_path(data_dir)
    inside = [given / archive.folder, *sorted(given.glob("imagewoof2*"))]
    found = [path for path in [given, *inside] if (path / "train").is_dir() and (path / "val").is_dir()]
    if not found:
        state = "does not exist" if not given.exists() else "has no train/ and val/"
        raise ConfigError(
            f"data_dir {str(given)!r} {state}. Expected: a folder that holds train/<wnid>/*.JPEG and "
            f"val/<wnid>/*.JPEG, or its parent with {archive.folder}/. Leave data_dir empty to download it."
        )
    folder = found[0]
    sizes = {other.folder: name for name, other in ARCHIVES.items()}
    if sizes.get(folder.name, variant) != variant:
        raise ConfigError(
            f"data_dir leads to {folder.name}, but image_variant is {variant!r}: "
            f"set image_variant to {sizes[folder.name]!r}, or data_dir to a folder with {archive.folder}"
        )
    check_counts(folder, archive)
    return folder


def fetch_archive(archive: Archive, root: Path, progress: bool = True) -> Path:
    """Download, check and unpack an archive below `root`; returns the unpacked folder.

    A folder that is already there is only counted. A download that was cut off goes on where it
    stopped. Nothing has its final name before it is whole, and the archive is deleted in the end.

    Raises:
        ConnectionError: the download broke off; what came so far is kept as `*.part`.
        ConfigError: wrong md5, an archive that would write outside its folder, or wrong counts.
    """
    folder = root / archive.folder
    if not folder.exists():
        packed = _download(archive, root, progress)
        try:
            _unpack(packed, archive, root, progress)
        except ConfigError:
            packed.unlink()
            raise
        packed.unlink()  # but not after a full disk: the next call then need not download it again
    check_counts(folder, archive)
    return folder


def _download(archive: Archive, root: Path, progress: bool) -> Path:
    import pooch
    import requests

    name = archive.url.rsplit("/", 1)[-1]
    download = ResumingDownloader(root / f"{name}.part", progress)
    try:
        # pooch hands a temporary file to the downloader and renames it only if the md5 is right
        path = pooch.retrieve(archive.url, f"md5:{archive.md5}", name, root, downloader=download)
    except requests.RequestException as error:
        raise ConnectionError(
            f"could not download {archive.url}: {error}. Run the same again to go on from where it stopped. "
            f"Without internet, unpack {name} elsewhere, bring {archive.folder}/ here and set data_dir to it."
        ) from error
    except ValueError as error:  # pooch's word for a wrong hash; it names what it expected and got
        raise ConfigError(f"{archive.url} is not the known archive {name}: {error}") from error
    return Path(path)


def _unpack(packed: Path, archive: Archive, root: Path, progress: bool) -> None:
    from tqdm.auto import tqdm

    with tempfile.TemporaryDirectory(prefix=f".{archive.folder}-", dir=root) as temporary:
        bar = tqdm(
            desc=f"Unpacking {packed.name}",
            total=archive.num_train + archive.num_val,
            unit=" files",
            disable=not progress,
        )
        try:
            with bar, tarfile.open(packed) as tar:
                for member in tar:
                    tar.extract(member, temporary, filter="data")  # refuses ../, absolute paths, devices
                    bar.update(member.isfile())
        except tarfile.TarError as error:
            raise ConfigError(f"{packed.name} was not unpacked: {error}") from error
        check_counts(Path(temporary) / archive.folder, archive)
        os.replace(Path(temporary) / archive.folder, root / archive.folder)


class ResumingDownloader:
    """A downloader for pooch that goes on with a partial file by an HTTP range request.

    pooch's own HTTPDownloader begins at zero each time, hours on a slow line. The bytes go to
    `part`; when all are there, it is moved to where pooch checks it. A connection that breaks is
    taken up again as long as each try brings something new.
    """

    def __init__(self, part: Path, progress: bool = True):
        self.part, self.progress = part, progress

    def __call__(self, url: str, output_file: str, pooch: object) -> None:
        import requests

        while True:
            before = self._size()
            try:
                self._fetch_rest(url)
                break
            except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError):
                if self._size() <= before:
                    raise
        shutil.move(self.part, output_file)

    def _size(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0

    def _fetch_rest(self, url: str) -> None:
        import requests
        from tqdm.auto import tqdm

        start = self._size()
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
        with requests.get(url, headers=headers, stream=True, timeout=30) as response:
            if response.status_code == 416:  # nothing lies beyond `start`: the part is complete, or not ours
                if response.headers.get("Content-Range") != f"bytes */{start}":
                    self.part.unlink()
                    raise requests.ConnectionError(f"{self.part.name} did not fit {url} and was removed")
                return
            response.raise_for_status()
            start = start if response.status_code == 206 else 0  # a 200 sends everything from the beginning
            total = start + int(response.headers.get("Content-Length", 0))
            bar = tqdm(
                desc=self.part.stem,
                total=total or None,
                initial=start,
                unit="B",
                unit_scale=True,
                disable=not self.progress,
            )
            with bar, open(self.part, "ab" if start else "wb") as file:
                for chunk in response.iter_content(1 << 14):
                    file.write(chunk)
                    bar.update(len(chunk))
        if total > self._size():
            raise requests.ConnectionError(f"received {self._size():,} of {total:,} bytes")
