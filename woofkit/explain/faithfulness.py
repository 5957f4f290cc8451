"""Does a map matter to the decision? Patches are taken away and given back in its order, and the model is run again.

A faithful map ranks first what the decision depends on: without those patches the class's probability falls early
(deletion), and with them alone it rises early (insertion) (Petsiuk et al. 2018, https://arxiv.org/abs/1806.07421).
"""

from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageFilter
from torch import Tensor, nn

from woofkit.config import ConfigError, require_range
from woofkit.data import Images
from woofkit.explain.maps import Explanations
from woofkit.explain.measures import map_correlations
from woofkit.fast.runtime import Runtime

STEPS = 8  # equal steps from no patch to all of them
BATCH = 64


class Curves(NamedTuple):
    """Probability of a class by share of patches: `shares` (steps + 1,), `deletion` and `insertion` (N, steps + 1).

    At share s, `deletion` has lost the strongest s of the patches, `insertion` has only them.
    """

    shares: np.ndarray
    deletion: np.ndarray
    insertion: np.ndarray

    @property
    def areas(self) -> dict[str, np.ndarray]:
        """Area under each curve, (N,), 0 to 1: a good map has a small one for deletion, a large one for insertion."""
        return {name: np.trapezoid(getattr(self, name), self.shares) for name in ("deletion", "insertion")}


def deletion_and_insertion(
    model: nn.Module,
    images: Images,
    explanations: Explanations,
    runtime: Runtime,
    steps: int = STEPS,
    on_image: Callable[[], object] | None = None,
) -> dict[str, Curves]:
    """Delete and insert patches in the order of each map and follow the probability of a class.

    A deleted patch takes the picture's mean colour; insertion starts from the picture blurred by a patch's width
    (standard deviation). Patches of equal strength come in an order drawn once for each picture.

    Args:
        model: on the runtime's device.
        explanations: of the images: the maps to test, and the classes whose probability is followed.
        on_image: is called after each image.

    Raises:
        ConfigError: maps of another number than images, or on a grid that does not divide them; no step.
    """
    require_range("steps", steps, 1, 1000)
    pixels, maps = images.pixels, explanations.maps
    for name, stack in maps.items():
        if len(stack) != len(pixels) or pixels.shape[-2] % stack.shape[-2] or pixels.shape[-1] % stack.shape[-1]:
            raise ConfigError(f"maps {name!r} of shape {tuple(stack.shape)} do not fit images {tuple(pixels.shape)}")
    forward = runtime.forward()
    curves: dict[str, list[np.ndarray]] = {name: [] for name in maps}
    for index, image in enumerate(pixels):
        ranks = [patch_ranks(stack[index], seed=index) for stack in maps.values()]
        probabilities = []
        for chunk in _variants(image, ranks, steps).split(BATCH):
            with torch.inference_mode(), runtime.autocast():
                logits = forward(model, images.transform.normalize(chunk.to(runtime.device)))
            probabilities.append(logits.float().softmax(dim=1)[:, explanations.classes[index]].cpu())
        whole, blank, blurred, *between = torch.cat(probabilities).tolist()
        between = np.reshape(between, (len(maps), 2, steps - 1))
        for name, (deleted, inserted) in zip(maps, between, strict=True):
            curves[name].append(np.array([[whole, *deleted, blank], [blurred, *inserted, whole]]))
        if on_image:
            on_image()
    shares = np.linspace(0, 1, steps + 1)
    return {name: Curves(shares, *np.stack(pairs, axis=1)) for name, pairs in curves.items()}


def patch_ranks(heatmap: Tensor, seed: int = 0) -> Tensor:
    """The rank of each patch of a map (height, width), 0 for the strongest; equal patches are ordered by the seed."""
    flat = heatmap.flatten()
    shuffled = torch.randperm(len(flat), generator=torch.Generator().manual_seed(seed))
    order = shuffled[flat[shuffled].argsort(descending=True, stable=True)]
    ranks = torch.empty_like(order)
    ranks[order] = torch.arange(len(order))
    return ranks.view(heatmap.shape)


def _variants(image: Tensor, ranks: list[Tensor], steps: int) -> Tensor:
    """The whole picture, the blank and the blurred one, then for each map those between: uint8 (pictures, 3, H, W).

    The ends of the curves are the same for every map, so they are made once.
    """
    _, height, width = image.shape
    grid = ranks[0].shape
    blank = image.float().mean(dim=(1, 2), keepdim=True).round().to(torch.uint8).expand_as(image)
    picture = Image.fromarray(image.permute(1, 2, 0).numpy()).filter(ImageFilter.GaussianBlur(width // grid[1]))
    blurred = torch.from_numpy(np.array(picture)).permute(2, 0, 1)
    pictures = [image, blank, blurred]
    for places in ranks:
        places = places.repeat_interleave(height // grid[0], 0).repeat_interleave(width // grid[1], 1)
        chosen = [places < round(step / steps * grid.numel()) for step in range(1, steps)]
        pictures += [torch.where(strongest, blank, image) for strongest in chosen]
        pictures += [torch.where(strongest, image, blurred) for strongest in chosen]
    return torch.stack(pictures)


def shuffled_models(model: nn.Module, seed: int = 0) -> Iterator[tuple[str, nn.Module]]:
    """Yield a copy of a Vision Transformer that loses what it learned from the top down: (what was lost last, copy).

    First the head and the final norms, then block after block to the first, then the embedding; it is one copy,
    shuffled further at each step. The numbers in each parameter change places among themselves, so that its spread
    stays. A map that stays like the trained model's does not show what the model has learned (Adebayo et al. 2018,
    https://arxiv.org/abs/1810.03292).
    """
    copy = deepcopy(model)
    top = [getattr(copy, name) for name in ("norm", "fc_norm", "head", "head_dist") if getattr(copy, name, None)]
    blocks = [(f"block {number}", [block]) for number, block in enumerate(copy.blocks, start=1)]
    generator, shuffled = torch.Generator().manual_seed(seed), set()
    for stage, modules in [("head", top), *reversed(blocks), ("embedding", [copy])]:  # last, what is left
        for parameter in (parameter for module in modules for parameter in module.parameters()):
            if parameter not in shuffled:
                order = torch.randperm(parameter.numel(), generator=generator).to(parameter.device)
                with torch.no_grad():
                    parameter.copy_(parameter.flatten()[order].view_as(parameter))
                shuffled.add(parameter)
        yield stage, copy


def rank_correlations(first: Tensor, second: Tensor) -> np.ndarray:
    """Spearman's correlation over the patches of each pair of maps (N, height, width): (N,); 0 if one is even."""
    from scipy.stats import rankdata

    ranks = [torch.from_numpy(rankdata(maps.flatten(1).numpy(), axis=1)).view(maps.shape) for maps in (first, second)]
    return map_correlations(*ranks).numpy()
