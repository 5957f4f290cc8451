"""Does a map matter to the decision? Patches are taken away and given back in its order, and the model is asked again.

A faithful map names first what the decision hangs on: without those patches the class's probability falls early
(deletion), and with them alone it rises early (insertion) (Petsiuk et al. 2018, https://arxiv.org/abs/1806.07421).
"""

from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageFilter
from torch import Tensor, nn

from woofkit.config import ConfigError, require_range
from woofkit.data import Transform
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
    pixels: Tensor,
    maps: Mapping[str, Tensor],
    classes: Tensor,
    transform: Transform,
    *,
    steps: int = STEPS,
    runtime: Runtime | None = None,
    on_image: Callable[[], object] | None = None,
) -> dict[str, Curves]:
    """Delete and insert patches in the order of each map and follow the probability of a class.

    A deleted patch takes the picture's mean colour; insertion starts from the picture blurred by a patch's width
    (standard deviation). Patches of equal strength come in an order drawn once for each picture.

    Args:
        pixels: uint8 (N, 3, H, W).
        maps: name -> (N, grid height, grid width).
        classes: int64 (N,), whose probability is followed.
        runtime: None is the device of the model, and bf16 where it multiplies in it.
        on_image: is called after each image.

    Raises:
        ConfigError: maps of another number than images, or on a grid that does not divide them; no step.
    """
    require_range("steps", steps, 1, 1000)
    for name, stack in maps.items():
        if len(stack) != len(pixels) or pixels.shape[-2] % stack.shape[-2] or pixels.shape[-1] % stack.shape[-1]:
            raise ConfigError(f"maps {name!r} of shape {tuple(stack.shape)} do not fit images {tuple(pixels.shape)}")
    runtime = runtime or Runtime.pick(next(model.parameters()).device.type)
    forward = runtime.forward()
    curves: dict[str, list[np.ndarray]] = {name: [] for name in maps}
    for index, image in enumerate(pixels):
        ranks = [patch_ranks(stack[index], seed=index) for stack in maps.values()]
        probabilities = []
        for chunk in _variants(image, ranks, steps).split(BATCH):
            with torch.inference_mode(), runtime.autocast():
                logits = forward(model, transform.normalize(chunk.to(runtime.device)))
            probabilities.append(logits.float().softmax(dim=1)[:, classes[index]].cpu())
        whole, blank, blurred, *between = torch.cat(probabilities).tolist()
        between = np.reshape(between, (len(maps), 2, steps - 1))
        for name, (deleted, inserted) in zip(maps, between, strict=True):
            curves[name].append(np.array([[whole, *deleted, blank], [blurred, *inserted, whole]]))
        if on_image:
            on_image()
    shares = np.linspace(0, 1, steps + 1)
    return {name: Curves(shares, *np.stack(pairs, axis=1)) for name, pairs in curves.items()}


def patch_ranks(heatmap: Tensor, seed: int = 0) -> Tensor:
    """The place of each patch of a map (height, width) from the strongest, 0, on; equals are ordered by the seed."""
    flat = heatmap.flatten()
    shuffled = torch.randperm(len(flat), generator=torch.Generator().manual_seed(seed))
    order = shuffled[flat[shuffled].argsort(descending=True, stable=True)]
    ranks = torch.empty_like(order)
    ranks[order] = torch.arange(len(order))
    return ranks.view(heatmap.shape)


def _variants(image: Tensor, ranks: list[Tensor], steps: int) -> Tensor:
    """The whole picture, the blank and the blurred one, then for each map those between: uint8 (pictures, 3, H, W).

    The ends of the curves are the same for every map, and so are made once.
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
    """A copy of a Vision Transformer that loses what it learned from the top down: (what was lost last, the copy).

    First the head and the final norms, then block after block to the first, then the embedding; it is one copy,
    shuffled further at each step. The numbers in each parameter change places among themselves, so that its spread
    stays. A map that stays like the trained model's does not show what the model has learned (Adebayo et al. 2018,
    https://arxiv.org/abs/1810.03292).
    """
    copy = deepcopy(model)
    top = (getattr(copy, name, None) for name in ("norm", "fc_norm", "head", "head_dist"))
    stages = {"head": [module for module in top if module is not None]}
    stages |= {f"block {number + 1}": [copy.blocks[number]] for number in reversed(range(len(copy.blocks)))}
    above = {id(parameter) for modules in stages.values() for module in modules for parameter in module.parameters()}
    rest = [parameter for parameter in copy.parameters() if id(parameter) not in above]
    generator = torch.Generator().manual_seed(seed)
    for stage, modules in {**stages, "embedding": None}.items():
        parameters = rest if modules is None else [p for module in modules for p in module.parameters()]
        with torch.no_grad():
            for parameter in parameters:
                order = torch.randperm(parameter.numel(), generator=generator).to(parameter.device)
                parameter.copy_(parameter.flatten()[order].view_as(parameter))
        yield stage, copy


def rank_correlations(first: Tensor, second: Tensor) -> np.ndarray:
    """Spearman's correlation over the patches of each pair of maps (N, height, width): (N,); 0 if one is even."""
    from scipy.stats import rankdata

    ranks = [torch.from_numpy(rankdata(maps.flatten(1).numpy(), axis=1)).view(maps.shape) for maps in (first, second)]
    return map_correlations(*ranks).numpy()
