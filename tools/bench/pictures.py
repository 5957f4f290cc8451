"""The JPEG files that the contestants read from end to end: drawings saved for the purpose, or photographs."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from woofkit.config import NUM_BREEDS
from woofkit.data import WoofDataset, load_dataset

SHORT_SIDE = 160  # of imagewoof2-160: the smallest files, whose decoding costs those least who do it in every epoch


def jpeg_pictures(num: int, data_dir: str, folder: Path) -> WoofDataset:
    """`num` JPEG files with their breeds: of ImageWoof in `data_dir`, or, with "", drawings written to `folder`.

    Raises:
        ConfigError: `data_dir` does not hold ImageWoof, or holds fewer images.
    """
    size = max(num, NUM_BREEDS)  # a stratified subset has an image a breed at least
    if data_dir:
        return load_dataset("imagewoof", split="train", scheme="paper", data_dir=data_dir, num=size).subset(range(num))
    drawings = load_dataset("sketchwoof", split="train", num=size, image_size=SHORT_SIDE).subset(range(num))
    keys = tuple(f"{key}.jpg" for key in drawings.keys)
    for index, key in enumerate(keys):
        drawings.image(index).save(folder / key, quality=75)
    return replace(drawings, keys=keys, folder=folder)


class JpegFiles(Dataset):
    """The usual data set over files: each access reads, decodes and transforms one image anew."""

    def __init__(self, pictures: WoofDataset, transform: Callable[[Image.Image], Tensor]):
        self.paths = [pictures.folder / key for key in pictures.keys]
        self.labels = [int(label) for label in pictures.labels]
        self.transform = transform

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        with Image.open(self.paths[index]) as image:
            return self.transform(image.convert("RGB")), self.labels[index]
