"""What trains: full fine-tuning, LoRA, a linear probe, and zero-shot, in which nothing does."""

import torch
from torch import nn

from woofkit.config import ConfigError, TrainConfig
from woofkit.imagewoof import IMAGENET_INDEX
from woofkit.lora import add_lora
from woofkit.models import build_model, original_head

IMAGENET_CLASSES = 1000


def build_for(config: TrainConfig) -> nn.Module:
    """Build the model of a run, with exactly the parameters trainable that its method trains.

    full: all. lora: adapters, their biases and `modules_to_save`. probe: the new head. zero-shot: none; its
    head is the original one, restricted to the ten breeds.

    Raises:
        ConfigError: the weights or the adapter's targets do not fit, or the weights do not know the breeds.
    """
    model = build_model(config.model_name, weights=config.weights, seed=config.seed)
    if config.method == "zero-shot":
        model.head = zero_shot_head(config)
    if config.method in ("probe", "zero-shot"):
        model.requires_grad_(False)
    if config.method == "probe":
        model.head.requires_grad_(True)
    if config.method == "lora":
        try:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(config.seed)
                add_lora(model, config.lora)
        except ValueError as error:
            raise ConfigError(f"LoRA does not fit {config.model_name!r}: {error}") from error
    return model


def knows_breeds(config: TrainConfig) -> bool:
    """Whether the weights come with a head that names the ten breeds: ImageNet's 1,000 classes do."""
    if config.dataset != "imagewoof" or config.weights == "random":
        return False
    return original_head(config.model_name, config.weights).out_features == IMAGENET_CLASSES


def zero_shot_head(config: TrainConfig) -> nn.Linear:
    """The ten rows of the weights' original head that stand for the breeds.

    Raises:
        ConfigError: the head does not know the breeds.
    """
    if config.dataset != "imagewoof":
        raise ConfigError(f"zero-shot on {config.dataset!r}: no pretraining has seen its breeds, use 'imagewoof'")
    head = original_head(config.model_name, config.weights)
    if head.out_features != IMAGENET_CLASSES:
        raise ConfigError(
            f"zero-shot needs a head with ImageNet's {IMAGENET_CLASSES:,} classes; weights {config.weights!r} "
            f"have {head.out_features:,}"
        )
    rows = torch.tensor(IMAGENET_INDEX)
    restricted = nn.Linear(head.in_features, len(rows))
    restricted.load_state_dict({"weight": head.weight[rows], "bias": head.bias[rows]})
    return restricted
