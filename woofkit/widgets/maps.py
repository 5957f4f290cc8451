"""The maps that the attention explorer shows: recorded once a picture and model, then only picked. No widgets here."""

from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from woofkit.attention import attention_rollout, class_relevance, cls_attention, record_attention, token_layout
from woofkit.data import Images, Transform
from woofkit.explain.maps import explain_images, to_even

BEFORE = "original"  # the model that is subtracted from the others
PREDICTED = -1  # in place of a class: the one that the model predicts
PICTURES = 12  # whose maps are kept: 50 kB each and model
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
    layer: int = 0
    head: int = 0
    asked: int = PREDICTED


class Record(NamedTuple):
    """What a model makes of a picture: probabilities (C,), and maps in multiples of the even share.

    `attention` is (layers, 1 + heads, grid height, grid width), the mean of the heads first; `rollout` and `relevance`
    are (grid height, grid width), relevance about the predicted class.
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
    """The maps of pictures under several models; those of the latest PICTURES pictures are kept.

    `pictures` is a list of uint8 (3, H, W); an own photo may be appended to it.
    """

    def __init__(self, models: Mapping[str, nn.Module], pixels: Tensor, transform: Transform):
        self.models, self.pictures, self.transform = dict(models), list(pixels), transform
        count = PICTURES * len(self.models)
        self.record = lru_cache(count)(self._record)
        self.relevance = lru_cache(4 * count)(self._relevance)
        self.scale = lru_cache(6 * PICTURES)(self._scale)

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

    def _scale(self, image: int, kind: str, signed: bool) -> float:
        """`scale`: where the colours of a picture's maps of one kind end, in multiples of the even share.

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
        return self.relevance(image, model, asked) if kind == "relevance" else getattr(self.record(image, model), kind)

    def _record(self, image: int, model: str) -> Record:
        network = self.models[model]
        inputs = self.transform.normalize(self.pictures[image][None].to(next(network.parameters()).device))
        layout = token_layout(network, tuple(inputs.shape[-2:]))
        with torch.enable_grad(), record_attention(network, gradients=True) as recorder:
            logits = network(inputs)
        heads = cls_attention(recorder.maps, *layout)[0]  # (layers, heads, grid height, grid width)
        attention = torch.cat([heads.mean(dim=1, keepdim=True), heads], dim=1)
        rollout = attention_rollout(recorder.maps, *layout)[0]
        relevance = class_relevance(recorder.maps, recorder.gradients(logits.amax()), *layout)[0]
        maps = (to_even(each).cpu() for each in (attention, rollout, relevance))
        return Record(logits[0].detach().softmax(dim=0).cpu(), *maps)

    def _relevance(self, image: int, model: str, asked: int) -> Tensor:
        record = self.record(image, model)
        if asked == record.predicted:
            return record.relevance
        picture = Images(self.pictures[image][None], None, self.transform)
        return explain_images(self.models[model], picture, ("relevance",), torch.tensor([asked])).maps["relevance"][0]
