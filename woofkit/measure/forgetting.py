"""What a model has forgotten of what its backbone was pretrained for (catastrophic forgetting).

The adapted backbone gets its *original* head back and is asked the old question. If it fails, two things may have
happened: the features no longer hold the answer, or they hold it where the old head does not look. The nearest
neighbours of an image among the others tell them apart: they need no head.
"""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from woofkit.data import Transform
from woofkit.fast.runtime import Runtime
from woofkit.files import write_atomic
from woofkit.measure.source_tasks import SourceTask
from woofkit.stats.intervals import accuracy_interval, mean_interval

MEASURES = {
    "head": "the original head",
    "restricted": "the original head, choosing among the task's classes",
    "knn": "nearest neighbours",
}
NEIGHBOURS, TEMPERATURE = 5, 0.07
BATCH = 64


@torch.inference_mode()
def pooled_features(model: nn.Module, pixels: Tensor, transform: Transform) -> Tensor:
    """What the head is given, float32 (N, dim), for images uint8 (N, 3, H, W)."""
    runtime = Runtime.pick(next(model.parameters()).device.type)
    features = []
    for chunk in pixels.split(BATCH):
        with runtime.autocast():
            tokens = model.forward_features(transform.normalize(chunk.to(runtime.device)))
            features.append(model.forward_head(tokens, pre_logits=True).float().cpu())
    return torch.cat(features)


def neighbour_votes(features: Tensor, labels: np.ndarray, neighbours: int = NEIGHBOURS) -> np.ndarray:
    """The class (N,) that each image's nearest neighbours among the other images vote for.

    A neighbour's vote weighs exp(cosine similarity / 0.07) (Wu et al. 2018, https://arxiv.org/abs/1805.01978).

    Raises ValueError without enough other images.
    """
    if len(features) != len(labels) or len(features) <= neighbours:
        raise ValueError(f"{len(features)} features and {len(labels)} labels for {neighbours} neighbours each")
    unit = normalize(features.float(), dim=1)
    similarity = (unit @ unit.T).fill_diagonal_(-torch.inf)
    closest, places = similarity.topk(neighbours, dim=1)
    votes = torch.zeros(len(features), int(labels.max()) + 1)
    votes.scatter_add_(1, torch.from_numpy(labels)[places], torch.exp(closest / TEMPERATURE))
    return votes.argmax(dim=1).numpy()


def source_hits(model: nn.Module, head: nn.Linear, task: SourceTask, transform: Transform) -> dict[str, np.ndarray]:
    """Which images of the earlier task the model still gets right, by each of MEASURES: bool (N,).

    "restricted" is left out where the task has all of the head's classes.

    Args:
        model: its own head is not used.
        head: the original one, from `models.original_head`.
    """
    features = pooled_features(model, task.pixels, transform)
    with torch.inference_mode():
        logits = features @ head.weight.cpu().float().T + head.bias.cpu().float()
    hits = {"head": logits.argmax(dim=1).numpy() == task.labels}
    if len(task.classes) < head.out_features:
        chosen = logits[:, list(task.classes)].argmax(dim=1).numpy()
        hits["restricted"] = np.array(task.classes)[chosen] == task.labels
    hits["knn"] = neighbour_votes(features, task.labels) == task.labels
    return hits


def kept_hits(
    path: Path, model: Callable[[], nn.Module], head: nn.Linear, task: SourceTask, transform: Transform
) -> pd.DataFrame:
    """`source_hits` as a frame, a row an image, from the file `path` where an earlier call has left it.

    `model` is called only if it has to be measured.
    """
    if not path.is_file():
        frame = pd.DataFrame(source_hits(model(), head, task, transform))
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, lambda temporary: frame.to_parquet(temporary, index=False))
    return pd.read_parquet(path)


def hits_path(root: Path, name: str, task: SourceTask, run: Path | None = None) -> Path:
    """Where a study keeps a model's hits: a file named after the model, the task, and the weights of its run."""
    settings = [task.fingerprint, task.classes, NEIGHBOURS, TEMPERATURE]
    digest = hashlib.sha256(json.dumps(settings).encode())
    for weights in sorted(run.glob("*.safetensors")) if run else ():
        digest.update(weights.read_bytes())
    return root / "forgetting" / f"{name}-{digest.hexdigest()[:8]}.parquet"


def forgetting_rows(hits: pd.DataFrame, before: pd.DataFrame) -> dict[str, float]:
    """Accuracy on the earlier task by each measure, with its interval, and the paired change from `before`.

    `before` holds the untouched backbone's hits. Intervals: Wilson's of the accuracy, bootstrap over the images of the
    change.
    """
    row: dict[str, float] = {}
    for measure in hits:
        accuracy = accuracy_interval(hits[measure].to_numpy())
        change = mean_interval(hits[measure].to_numpy().astype(float) - before[measure].to_numpy())
        row |= {measure: accuracy.value, f"{measure}_low": accuracy.low, f"{measure}_high": accuracy.high}
        row |= {f"{measure}_change": change.value, f"{measure}_change_low": change.low}
        row |= {f"{measure}_change_high": change.high}
    return row
