"""What an attention map is measured with: the share of it on each part of a picture, and two baselines.

A model's map means something only where it beats one that looks anywhere and one that looks at the centre.
"""

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, one_hot


def to_shares(maps: Tensor) -> Tensor:
    """Scale maps (..., height, width) so that each sums to 1."""
    return maps / maps.sum(dim=(-2, -1), keepdim=True)


def random_map(grid: tuple[int, int], seed: int) -> Tensor:
    """Return a baseline that looks anywhere: uniform random shares (height, width) that sum to 1."""
    return to_shares(torch.rand(grid, generator=torch.Generator().manual_seed(seed)))


def center_gaussian_map(grid: tuple[int, int], sigma: float = 0.25) -> Tensor:
    """Return a baseline that always looks at the centre: Gaussian shares (height, width) that sum to 1.

    `sigma` is the standard deviation as a fraction of the grid's height and width.
    """
    height, width = (torch.exp(-(((torch.arange(n) + 0.5) / n - 0.5) ** 2) / (2 * sigma**2)) for n in grid)
    return to_shares(height[:, None] * width[None, :])


def part_densities(maps: Tensor, masks: Tensor, num_parts: int) -> Tensor:
    """Measure how densely maps cover each part of a mask: (batch, parts); 1 is what an even map would give.

    density = (share of the map on the part) / (share of the image that the part covers), where a patch counts
    for a part by the fraction of its pixels that belong to it. It is nan where the part covers less than one
    patch in all: a map cannot resolve it, and the division would blow up its noise.

    Args:
        maps: (batch, grid height, grid width), not negative.
        masks: integers (batch, H, W) from 0 to num_parts - 1.
    """
    if len(maps) != len(masks):
        raise ValueError(f"{len(maps)} maps, but {len(masks)} masks")
    parts = one_hot(masks.long(), num_parts).permute(0, 3, 1, 2).float()  # (batch, parts, H, W)
    cover = adaptive_avg_pool2d(parts, maps.shape[-2:])  # (batch, parts, grid height, grid width)
    share = (to_shares(maps)[:, None] * cover).sum(dim=(-2, -1))
    density = share / cover.mean(dim=(-2, -1))
    return density.masked_fill(cover.sum(dim=(-2, -1)) < 1, torch.nan)
