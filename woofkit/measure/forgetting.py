"""What a model has forgotten of what its backbone was pretrained for (catastrophic forgetting).

The adapted backbone gets its *original* head back and is tested on the old task. If it fails, two things may have
happened: the features no longer hold the answer, or they hold it where the old head does not look. The nearest
neighbours of an image among the others tell these two apart, because they need no head.
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

from woofkit.data import Images, batches
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
def pooled_features(model: nn.Module, images: Images, runtime: Runtime) -> Tensor:
    """What the head is given, float32 (N, dim); the model is on the runtime's device."""
    features = []
    for inputs, _ in batches(images, BATCH, device=runtime.device):
        with runtime.autocast():
            features.append(model.forward_head(model.forward_features(inputs), pre_logits=True).float().cpu())
    return torch.cat(features)


def neighbour_votes(features: Tensor, labels: np.ndarray, neighbours: int = NEIGHBOURS) -> np.ndarray:
    """The class (N,) for which each image's nearest neighbours among the other images vote.

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


def source_hits(model: nn.Module, task: SourceTask, runtime: Runtime) -> dict[str, np.ndarray]:
    """Which images of the earlier task the model still gets right, by each of MEASURES: bool (N,).

    "restricted" is left out where the task has all of the head's classes. The model's own head is not used.
    """
    features = pooled_features(model, task, runtime)
    with torch.inference_mode():
        logits = features @ task.head.weight.cpu().float().T + task.head.bias.cpu().float()
    hits = {"head": logits.argmax(dim=1).numpy() == task.labels}
    if len(task.classes) < task.head.out_features:
        chosen = logits[:, list(task.classes)].argmax(dim=1).numpy()
        hits["restricted"] = np.array(task.classes)[chosen] == task.labels
    hits["knn"] = neighbour_votes(features, task.labels) == task.labels
    return hits


def kept_hits(path: Path, load: Callable[[], nn.Module], task: SourceTask, runtime: Runtime) -> pd.DataFrame:
    """`source_hits` as a frame, one row per image, from the file `path` where an earlier call has left it.

    `load` makes the model; it is called only if the model has to be measured.
    """
    if not path.is_file():
        frame = pd.DataFrame(source_hits(load().to(runtime.device), task, runtime))
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

    `before` holds the untouched backbone's hits. Intervals: Wilson's of the accuracy, a bootstrap's of the change.
    """
    row: dict[str, float] = {}
    for measure in hits:
        accuracy = accuracy_interval(hits[measure].to_numpy())
        change = mean_interval(hits[measure].to_numpy().astype(float) - before[measure].to_numpy())
        for name, found in ((measure, accuracy), (f"{measure}_change", change)):
            row |= {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high}
    return row
