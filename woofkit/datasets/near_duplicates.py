"""Near-copies: is an image one of the known images, perhaps re-lit or mirrored?

Images are compared as thumbnails that have lost what light gives an image: the mean of every neighbourhood,
and the contrast. So a brighter, tinted or unevenly lit copy is still found, and a bright sky above dark ground,
which half of all photographs have in common, makes no copy.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

SIDE = 32  # pixels of a thumbnail
NEIGHBOURHOOD = 9  # pixels of a thumbnail whose mean counts as light
BATCH = 1024  # images compared at a time, which bounds the memory


class Nearest(NamedTuple):
    """The known image nearest to each of N images: `index` (N,), `similarity` (N,) up to 1, `mirrored` (N,) bool."""

    index: np.ndarray
    similarity: np.ndarray
    mirrored: np.ndarray


def nearest_images(images: Tensor, known: Tensor) -> Nearest:
    """Find, for each of `images` uint8 (N, 3, H, W), the most similar of `known` uint8 (M, 3, H', W').

    The similarity is the correlation of two thumbnails without their neighbourhoods' means, averaged over red,
    green, blue and grey; of an image as it is and mirrored, the better one counts. 1 is a copy, 0 unrelated; an
    image without any detail is similar to none. It takes O(N M) in matrix products: seconds for thousands.

    Raises:
        ValueError: no images, not uint8 (N, 3, H, W), or less than 32 pixels high or wide.
    """
    _require_images("images", images)
    _require_images("known", known)
    targets = torch.cat([_describe(some) for some in known.split(BATCH)])  # (M, D)
    found = []
    for some in images.split(BATCH):
        views = (_describe(some), _describe(some.flip(3)))
        best, index = torch.stack([view @ targets.T for view in views]).max(dim=2)  # (2, B) each
        similarity, mirrored = best.max(dim=0)
        found.append((index.gather(0, mirrored[None])[0], similarity, mirrored.bool()))
    return Nearest(*(torch.cat(parts).numpy() for parts in zip(*found, strict=True)))


def copy_groups(images: Tensor, threshold: float) -> np.ndarray:
    """Which of `images` uint8 (N, 3, H, W) are copies of one another: int (N,), equal for those that are.

    Two are copies if their similarity, as they are or mirrored, reaches the threshold, or if both are of a third.

    Raises:
        ValueError: as `nearest_images`.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    _require_images("images", images)
    described, pairs = torch.cat([_describe(some) for some in images.split(BATCH)]), []
    for start, some in zip(range(0, len(images), BATCH), images.split(BATCH), strict=True):
        views = (_describe(some), _describe(some.flip(3)))
        alike = torch.stack([view @ described.T for view in views]).amax(0) >= threshold
        pairs.append(alike.nonzero().numpy() + (start, 0))
    rows, columns = np.concatenate(pairs).T
    graph = coo_array((np.ones(len(rows), bool), (rows, columns)), shape=(len(images), len(images)))
    return connected_components(graph, directed=False)[1]


def thumbnails(images: Tensor) -> Tensor:
    """`images` uint8 (N, 3, H, W), H and W at least 32, shrunk to (N, 3, 32, 32): each pixel the mean of its tile.

    Raises:
        ValueError: as `nearest_images`.
    """
    _require_images("images", images)
    small = [F.adaptive_avg_pool2d(some.float(), SIDE).round_().to(torch.uint8) for some in images.split(BATCH)]
    return torch.cat(small)


def relit_copies(images: Tensor, seed: int = 0) -> Tensor:
    """Return `images` uint8 (N, 3, H, W) as copies in another light, to learn how similar a copy is.

    Brightness times 0.6 to 1.3, each colour times 0.85 to 1.15, plus -25 to 25 grey levels, noise of 3 grey
    levels; every second image is mirrored.

    Raises:
        ValueError: as `nearest_images`.
    """
    _require_images("images", images)
    random = torch.Generator().manual_seed(seed)

    def between(low: float, high: float, channels: int) -> Tensor:
        return low + (high - low) * torch.rand((len(images), channels, 1, 1), generator=random)

    lit = images * between(0.6, 1.3, 1) * between(0.85, 1.15, 3) + between(-25, 25, 1)
    lit += 3 * torch.randn(lit.shape, generator=random)
    lit[::2] = lit[::2].flip(3)
    return lit.round_().clamp_(0, 255).to(torch.uint8)


def _require_images(name: str, images: Tensor) -> None:
    fits = images.ndim == 4 and len(images) and images.shape[1] == 3 and min(images.shape[2:]) >= SIDE
    if not fits or images.dtype != torch.uint8:
        raise ValueError(
            f"{name} must be uint8 (N, 3, H, W), at least one and {SIDE} pixels a side: "
            f"got {str(images.dtype).removeprefix('torch.')} {tuple(images.shape)}"
        )


def _describe(images: Tensor) -> Tensor:
    """Return unit vectors (N, 4 * SIDE * SIDE) whose dot product is the similarity."""
    small = F.adaptive_avg_pool2d(images.float(), SIDE)  # (N, 3, SIDE, SIDE)
    small = torch.cat([small, small.mean(dim=1, keepdim=True)], dim=1)  # grey finds a copy that lost its colour
    light = F.avg_pool2d(small, NEIGHBOURHOOD, 1, NEIGHBOURHOOD // 2, count_include_pad=False)
    detail = (small - light).flatten(2)
    detail = detail - detail.mean(dim=2, keepdim=True)
    # eps: in an image without detail only rounding is left, which must not be blown up to contrast
    return F.normalize(detail, dim=2, eps=1.0).flatten(1) / 2  # four channels of length 1/2
