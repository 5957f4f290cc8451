"""What is done to an image before the model sees it: the model's own transform, or the paper's."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image

from woofkit.config import PREPROCESSES, ConfigError, require_choice

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Transform:
    """Geometry on 8-bit images (done once, kept), then normalisation on tensors (done in each batch).

    size: the model's input side in pixels. resize: the shorter side before the centre crop, or None to
    squeeze the whole image into the square. mean, std: per channel, of values in 0..1.
    """

    size: int
    resize: int | None
    interpolation: Image.Resampling
    greyscale: bool
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def geometry(self, image: Image.Image) -> np.ndarray:
        """Cut an RGB image to uint8 (size, size, 3)."""
        if self.greyscale:
            grey = np.asarray(self._fit(image.convert("L"), self.interpolation))
            return np.repeat(grey[:, :, None], 3, axis=2)
        return np.array(self._fit(image.convert("RGB"), self.interpolation))

    def mask(self, mask: np.ndarray) -> np.ndarray:
        """Cut a part mask, uint8 (H, W), the same way; the nearest pixel decides, since parts do not mix."""
        return np.array(self._fit(Image.fromarray(mask), Image.Resampling.NEAREST))

    def normalize(self, pixels: torch.Tensor) -> torch.Tensor:
        """(pixels / 255 - mean) / std: uint8 (B, 3, H, W) to float32, on the tensor's device."""
        mean = torch.tensor(self.mean, device=pixels.device)[:, None, None]
        std = torch.tensor(self.std, device=pixels.device)[:, None, None]
        return pixels.to(torch.float32).div_(255).sub_(mean).div_(std)

    def __call__(self, image: Image.Image) -> torch.Tensor:
        """One image as the model gets it: float32 (3, size, size)."""
        return self.normalize(torch.from_numpy(self.geometry(image)).permute(2, 0, 1)).contiguous()

    def _fit(self, image: Image.Image, interpolation: Image.Resampling) -> Image.Image:
        if self.resize is None:
            return image.resize((self.size, self.size), interpolation)
        width, height = image.size
        short = min(width, height)
        # the longer side is rounded down and the crop's corner to even, as in torchvision
        wanted = (int(self.resize * width / short), int(self.resize * height / short))
        if wanted != (width, height):
            image = image.resize(wanted, interpolation)
        left, top = round((wanted[0] - self.size) / 2), round((wanted[1] - self.size) / 2)
        return image.crop((left, top, left + self.size, top + self.size))


def make_transform(data_config: dict[str, Any], preprocess: str = "timm") -> Transform:
    """The transform for a model with this timm data config (`models.data_config(model)`).

    "timm": what the model was trained for; equal to timm.data.create_transform(**data_config).
    "paper-code": what the paper's code did: greyscale in three equal channels, squeezed to the square by
    bilinear resizing, ImageNet's mean and std whatever the model wants. (That code resized last, on
    floats; here the resized image is rounded to 8 bits.)

    Raises ConfigError for an unknown `preprocess`, an input that is not square, or a crop mode other
    than "center".
    """
    require_choice("preprocess", preprocess, PREPROCESSES)
    channels, height, width = data_config["input_size"]
    if (channels, height) != (3, width):
        raise ConfigError(f"input_size {data_config['input_size']} is not supported: allowed is (3, n, n)")
    if preprocess == "paper-code":
        return Transform(height, None, Image.Resampling.BILINEAR, True, IMAGENET_MEAN, IMAGENET_STD)
    require_choice("crop_mode", data_config.get("crop_mode", "center"), ("center",))
    return Transform(
        size=height,
        resize=math.floor(height / data_config["crop_pct"]),
        interpolation=Image.Resampling[data_config["interpolation"].upper()],
        greyscale=False,
        mean=tuple(data_config["mean"]),
        std=tuple(data_config["std"]),
    )
