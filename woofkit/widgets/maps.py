"""The maps that the attention explorer shows: recorded once per picture and model, then only picked."""

from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from woofkit.attention import attention_rollout, class_relevance, cls_attention, record_attention, token_layout
from woofkit.data import Transform
from woofkit.explain.maps import to_even
from woofkit.widgets.prompt import own_models

BEFORE = "original"  # the model that is subtracted from the others
PREDICTED = -1  # in place of a class: the one that the model predicts
PICTURES = 12  # whose records stay in memory: 50 kB for each model
SMALLEST_SCALE = 0.01  # even shares; two equal models differ by nothing


class Choice(NamedTuple):
    """What is to be shown; images and blocks count from 0, heads from 1.

    against: a model whose map is subtracted, or "". kind: one of `explain.KINDS`. head: 0 is the mean of all.
    asked: the class that relevance is about, or PREDICTED.
    """

    image: int
    model: str
    against: str = ""
    kind: str = "attention"
    layer: int = -1
    head: int = 0
    asked: int = PREDICTED


class Record(NamedTuple):
    """What a model makes of a picture: probabilities (C,), and maps in multiples of the even share.

    `attention` is (layers, 1 + heads, grid height, grid width), the mean of the heads first; `rollout` and `relevance`
    are (grid height, grid width).
    """

    probabilities: Tensor
    attention: Tensor
    rollout: Tensor
    relevance: Tensor

    @property
    def predicted(self) -> int:
        """The most probable class."""
        return int(self.probabilities.argmax())


class ExplorerMaps:
    """The maps of pictures under several models, as they are now; the latest records stay in memory.

    `pictures` is a list of uint8 (3, H, W); an own photo may be appended to it.
    """

    def __init__(self, models: Mapping[str, nn.Module], pixels: Tensor, transform: Transform):
        self.models, self.pictures, self.transform = own_models(models), list(pixels), transform
        self.record = lru_cache(PICTURES * len(self.models))(self._record)

    def image(self, index: int) -> np.ndarray:
        """The picture as it is drawn, uint8 (H, W, 3)."""
        return self.pictures[index].permute(1, 2, 0).cpu().numpy()

    def map(self, choice: Choice) -> np.ndarray:
        """The map of a choice, (grid height, grid width), in multiples of the even share; or what two differ by."""
        asked = self.asked(choice)
        shown = self._maps(choice.image, choice.model, choice.kind, asked)
        if choice.against:
            shown = shown - self._maps(choice.image, choice.against, choice.kind, asked)
        return (shown[choice.layer, choice.head] if choice.kind == "attention" else shown).numpy()

    def asked(self, choice: Choice) -> int:
        """The class that relevance is about. In a difference, both models are asked about the same."""
        predicted = choice.asked == PREDICTED
        return self.record(choice.image, choice.model).predicted if predicted else choice.asked

    def scale(self, image: int, kind: str, signed: bool) -> float:
        """Where the colours of a picture's maps of one kind end, in multiples of the even share.

        It is the 98th percentile over all models (with `signed`, over the sizes of their differences from the
        original), all blocks, all heads and their mean, and relevance about each prediction. So it stays as it is while
        block, head, model and class are changed, and no stray patch sets it.
        """
        pool = []
        for model in self.models:
            asked = self.record(image, model).predicted
            maps = self._maps(image, model, kind, asked)
            if not signed:
                pool.append(maps)
            elif model != BEFORE:
                pool.append((maps - self._maps(image, BEFORE, kind, asked)).abs())
        return max(float(np.percentile(torch.stack(pool), 98)), SMALLEST_SCALE)

    def _maps(self, image: int, model: str, kind: str, asked: int) -> Tensor:
        record = self.record(image, model)
        if kind == "relevance" and asked != record.predicted:
            record = self.record(image, model, asked)
        return getattr(record, kind)

    def _record(self, image: int, model: str, asked: int = PREDICTED) -> Record:
        network = self.models[model]
        inputs = self.transform.normalize(self.pictures[image][None].to(next(network.parameters()).device))
        layout = token_layout(network, tuple(inputs.shape[-2:]))
        with torch.enable_grad(), record_attention(network, gradients=True) as recorder:
            logits = network(inputs)[0]
        heads = cls_attention(recorder.maps, *layout)[0]  # (layers, heads, grid height, grid width)
        attention = torch.cat([heads.mean(dim=1, keepdim=True), heads], dim=1)
        rollout = attention_rollout(recorder.maps, *layout)[0]
        score = logits.max() if asked == PREDICTED else logits[asked]
        relevance = class_relevance(recorder.maps, recorder.gradients(score), *layout)[0]
        maps = (to_even(each).cpu() for each in (attention, rollout, relevance))
        return Record(logits.detach().softmax(dim=0).cpu(), *maps)
