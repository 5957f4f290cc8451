"""Where a map lies: its share on each part of a picture, its strongest patch, and two maps that know nothing.

A model's map means something only where it beats a random map and one that always looks at the centre.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, one_hot


def to_shares(maps: Tensor) -> Tensor:
    """Scale maps (..., height, width), none negative, so that each sums to 1; a map of zeros becomes even."""
    total = maps.sum(dim=(-2, -1), keepdim=True)
    even = torch.full_like(maps, 1 / (maps.shape[-2] * maps.shape[-1]))
    return torch.where(total > 0, maps / total, even)


def random_map(grid: tuple[int, int], seed: int) -> Tensor:
    """A baseline that looks anywhere: uniform random shares (height, width) that sum to 1."""
    return to_shares(torch.rand(grid, generator=torch.Generator().manual_seed(seed)))


def center_gaussian_map(grid: tuple[int, int], sigma: float = 0.25) -> Tensor:
    """A baseline that always looks at the centre: Gaussian shares (height, width) that sum to 1.

    `sigma` is the standard deviation as a fraction of the grid's height and width.
    """
    height, width = (torch.exp(-(((torch.arange(n) + 0.5) / n - 0.5) ** 2) / (2 * sigma**2)) for n in grid)
    return to_shares(height[:, None] * width[None, :])


def part_cover(masks: Tensor, num_parts: int, grid: tuple[int, int]) -> Tensor:
    """How much of each patch belongs to each part: fractions (batch, parts, grid height, grid width).

    `masks` are integers (batch, H, W) from 0 to num_parts - 1.
    """
    parts = one_hot(masks.long(), num_parts).permute(0, 3, 1, 2).float()  # (batch, parts, H, W)
    return adaptive_avg_pool2d(parts, grid)


def part_shares(maps: Tensor, masks: Tensor, num_parts: int) -> Tensor:
    """The share of each map that lies on each part, its relevance mass: (batch, parts), rows that sum to 1.

    A patch counts for a part by the fraction of its pixels that belong to it.

    Args:
        maps: (batch, grid height, grid width), not negative.
        masks: integers (batch, H, W) from 0 to num_parts - 1.
    """
    _check_pairs(maps, masks)
    return (to_shares(maps)[:, None] * part_cover(masks, num_parts, maps.shape[-2:])).sum(dim=(-2, -1))


def part_densities(maps: Tensor, masks: Tensor, num_parts: int) -> Tensor:
    """How densely maps cover each part of a mask: (batch, parts); 1 is what an even map would give.

    density = (share of the map on the part) / (share of the image that the part covers). It is nan where the part
    covers less than one patch in all: a map cannot resolve it, and the division would blow up its noise.
    Arguments as for `part_shares`.
    """
    cover = part_cover(masks, num_parts, maps.shape[-2:])
    density = part_shares(maps, masks, num_parts) / cover.mean(dim=(-2, -1))
    return density.masked_fill(cover.sum(dim=(-2, -1)) < 1, torch.nan)


def group_densities(maps: Tensor, masks: Tensor, parts: Sequence[int], num_parts: int) -> Tensor:
    """The density of several parts taken as one, such as head and ears: (batch,). See `part_densities`."""
    member = torch.zeros(num_parts, dtype=torch.long)
    member[list(parts)] = 1
    return part_densities(maps, member[masks.long()], 2)[:, 1]


def empty_share(maps: Tensor, masks: Tensor, background: int = 0) -> Tensor:
    """The share of each map on patches without a single pixel of the object: (batch,).

    Patches on the outline hold both object and background. They are not counted: the rest is off the object for sure.
    """
    _check_pairs(maps, masks)
    cover = adaptive_avg_pool2d((masks != background).float()[:, None], maps.shape[-2:])[:, 0]
    return (to_shares(maps) * (cover == 0)).sum(dim=(-2, -1))


def pointing_hits(maps: Tensor, masks: Tensor, parts: Sequence[int]) -> Tensor:
    """The pointing game: does a map's strongest patch lie on these parts? (batch,) from 0 (no) to 1.

    A hit is the fraction of that patch's pixels that belong to them, or the mean of several equally strong patches
    (Zhang et al. 2016, https://arxiv.org/abs/1608.00507, who take the strongest pixel).
    """
    _check_pairs(maps, masks)
    target = torch.isin(masks.long(), torch.tensor(list(parts))).float()[:, None]
    cover = adaptive_avg_pool2d(target, maps.shape[-2:])[:, 0]  # (batch, grid height, grid width)
    strongest = (maps == maps.amax(dim=(-2, -1), keepdim=True)).float()
    return (strongest * cover).sum(dim=(-2, -1)) / strongest.sum(dim=(-2, -1))


def map_correlations(first: Tensor, second: Tensor) -> Tensor:
    """Pearson's correlation over the patches of each pair of maps (batch, height, width): (batch,)."""
    if first.shape != second.shape:
        raise ValueError(f"maps of shapes {tuple(first.shape)} and {tuple(second.shape)} cannot be compared")
    first, second = (maps.flatten(1) - maps.flatten(1).mean(dim=1, keepdim=True) for maps in (first, second))
    return torch.nn.functional.cosine_similarity(first, second, dim=1)


def corner_density(maps: Tensor) -> Tensor:
    """The mean of a map's four corner patches relative to its mean: (...,) of (..., height, width)."""
    corners = maps[..., [0, 0, -1, -1], [0, -1, 0, -1]].mean(dim=-1)
    return corners / maps.mean(dim=(-2, -1))


def _check_pairs(maps: Tensor, masks: Tensor) -> None:
    if len(maps) != len(masks):
        raise ValueError(f"{len(maps)} maps, but {len(masks)} masks")
