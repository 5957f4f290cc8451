"""Where a map lies: its share on a region of a picture, its strongest patch, and two maps that know nothing.

A model's map means something only where it beats a random map and one that always looks at the centre. Maps are
(batch, grid height, grid width), not negative; a region is bool (batch, H, W), one mask per picture. A patch counts
for a region by the fraction of its pixels that belong to it.
"""

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, cosine_similarity


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


def region_shares(maps: Tensor, region: Tensor) -> Tensor:
    """The share of each map that lies on the region, its relevance mass: (batch,), 0 to 1."""
    return (to_shares(maps) * _cover(maps, region)).sum(dim=(-2, -1))


def region_densities(maps: Tensor, region: Tensor) -> Tensor:
    """How densely maps cover the region: (batch,); 1 is what an even map would give.

    density = (share of the map on the region) / (share of the image that the region covers). It is nan where the
    region covers less than one patch in all: a map cannot resolve it, and the division would blow up its noise.
    """
    cover = _cover(maps, region)
    return (region_shares(maps, region) / cover.mean(dim=(-2, -1))).masked_fill(cover.sum(dim=(-2, -1)) < 1, torch.nan)


def shares_outside(maps: Tensor, region: Tensor) -> Tensor:
    """The share of each map on patches without a single pixel of the region: (batch,).

    Patches on the outline hold both inside and outside. They are not counted: the rest is off the region for sure.
    """
    return (to_shares(maps) * (_cover(maps, region) == 0)).sum(dim=(-2, -1))


def pointing_hits(maps: Tensor, region: Tensor) -> Tensor:
    """The pointing game: does a map's strongest patch lie on the region? (batch,) from 0 (no) to 1.

    A hit is the fraction of that patch's pixels that belong to it, or the mean of several equally strong patches
    (Zhang et al. 2016, https://arxiv.org/abs/1608.00507, who take the strongest pixel).
    """
    strongest = (maps == maps.amax(dim=(-2, -1), keepdim=True)).float()
    return (strongest * _cover(maps, region)).sum(dim=(-2, -1)) / strongest.sum(dim=(-2, -1))


def map_correlations(first: Tensor, second: Tensor) -> Tensor:
    """Pearson's correlation over the patches of each pair of maps: (batch,)."""
    if first.shape != second.shape:
        raise ValueError(f"maps of shapes {tuple(first.shape)} and {tuple(second.shape)} cannot be compared")
    first, second = (maps.flatten(1) - maps.flatten(1).mean(dim=1, keepdim=True) for maps in (first, second))
    return cosine_similarity(first, second, dim=1)


def corner_density(maps: Tensor) -> Tensor:
    """The mean of a map's four corner patches relative to its mean: (...,) of (..., height, width)."""
    corners = maps[..., [0, 0, -1, -1], [0, -1, 0, -1]].mean(dim=-1)
    return corners / maps.mean(dim=(-2, -1))


def _cover(maps: Tensor, region: Tensor) -> Tensor:
    """How much of each patch belongs to the region: fractions (batch, grid height, grid width)."""
    if len(maps) != len(region):
        raise ValueError(f"{len(maps)} maps, but {len(region)} masks")
    return adaptive_avg_pool2d(region.float()[:, None], maps.shape[-2:])[:, 0]
