"""What fine-tuning does to a weight matrix: its update, how low its rank is, and where two updates meet.

The measures are those of section 7 of the LoRA paper (Hu et al. 2022, https://arxiv.org/abs/2106.09685), applied to
the update of full fine-tuning and to LoRA's.
"""

import torch
from torch import Tensor, nn

from woofkit.lora import lora_layers


def weight_updates(before: nn.Module, after: nn.Module) -> dict[str, Tensor]:
    """The change of every matrix in the blocks, (out, in), by the name of its layer.

    Where `after` has LoRA, only the adapted layers: their `delta_weight()`.

    Raises:
        ValueError: the two are not the same architecture; the message names a matrix that only one has, or that
            has another shape in the other.
    """
    adapters = lora_layers(after)
    if adapters:
        return {name: layer.delta_weight().detach() for name, layer in adapters.items()}
    old, new = (dict(model.named_parameters()) for model in (before, after))
    matrices = [name for name, weight in old.items() if name.startswith("blocks.") and weight.ndim == 2]
    extra = [name for name in new if name.startswith("blocks.") and name not in old]
    if odd := extra + [name for name in matrices if name not in new or new[name].shape != old[name].shape]:
        raise ValueError(f"{odd[0]} is not in both models, or not of one shape: compare two of one architecture")
    return {name.removesuffix(".weight"): (new[name] - old[name]).detach() for name in matrices}


def captured_share(update: Tensor) -> Tensor:
    """The share of an update (out, in) that the best matrix of rank 1, 2, ... holds: (min(out, in),), up to 1.

    It is a share of the squared Frobenius norm: the r largest squared singular values over the sum of all; NaN for
    an update of zero. No matrix of rank r comes closer (Eckart and Young 1936).
    """
    squares = torch.linalg.svdvals(update.double()).square()
    return squares.cumsum(0) / squares.sum()


def subspace_overlap(one: Tensor, other: Tensor, i: int, j: int) -> float:
    """How far the `i` strongest input directions of one update lie within the `j` strongest of the other.

    phi = |U_i^T V_j|^2 / min(i, j), with the right singular vectors as columns: 0 for orthogonal subspaces, 1 where
    one holds the other. Two random subspaces of n dimensions reach max(i, j) / n on average (`chance_overlap`).

    Raises:
        ValueError: the updates have different inputs, or i or j is not a number of directions that they have.
    """
    if one.shape[1] != other.shape[1]:
        raise ValueError(f"the updates have {one.shape[1]} and {other.shape[1]} inputs: compare those of one layer")
    for name, number, update in (("i", i, one), ("j", j, other)):
        rank = int(torch.linalg.matrix_rank(update.double(), rtol=1e-6))
        if not 1 <= number <= rank:
            raise ValueError(f"{name} = {number} is not allowed: the update has {rank} directions")
    U, V = (torch.linalg.svd(update.double(), full_matrices=False).Vh[:n] for update, n in ((one, i), (other, j)))
    return float((U @ V.T).square().sum() / min(i, j))


def chance_overlap(inputs: int, i: int, j: int) -> float:
    """The mean of `subspace_overlap` over random subspaces of `inputs` dimensions: max(i, j) / inputs."""
    return max(i, j) / inputs


def intruder_dimensions(before: Tensor, after: Tensor, top: int = 10, threshold: float = 0.6) -> int:
    """How many of the `top` strongest output directions of a tuned matrix (out, in) are new.

    A left singular vector of `after` is an intruder where its cosine with every one of `before` stays below the
    threshold (Shuttleworth et al. 2024, https://arxiv.org/abs/2410.21228).
    """
    old, new = (torch.linalg.svd(weight.double(), full_matrices=False).U for weight in (before, after))
    return int(((old.T @ new[:, :top]).abs().amax(0) < threshold).sum())


def count_intruders(before: nn.Module, after: nn.Module) -> int:
    """Intruder dimensions in all attention matrices that a fine-tuned model has changed, its adapters merged."""
    updates = {name: update for name, update in weight_updates(before, after).items() if ".attn." in name}
    weights = {name: before.get_submodule(name).weight.detach() for name in updates}
    return sum(intruder_dimensions(weights[name], weights[name] + update) for name, update in updates.items())
