"""What trains: the methods that are compared, from everything to nothing.

Each starts from the same model with a new head, which always trains. `full`: every parameter. `lora`: the adapters
and `modules_to_save`. `bitfit`: the biases (Ben Zaken et al. 2022, https://arxiv.org/abs/2106.10199). `norm`: weights
and biases of the normalisation layers. `last`: the last blocks and the norm after them. `probe`: the head alone.
`zero-shot`: nothing; its head is the original one, restricted to the ten breeds.
"""

import torch
from torch import nn

from woofkit.config import ConfigError, TrainConfig
from woofkit.imagewoof import BREEDS, IMAGENET_INDEX
from woofkit.lora import add_lora
from woofkit.models import build_model, original_head
from woofkit.sketch import POSES

IMAGENET_CLASSES = 1000


def build_for(config: TrainConfig) -> nn.Module:
    """Build the model of a run, with exactly the parameters trainable that its method trains.

    Raises:
        ConfigError: the weights, the adapter's targets or `last_blocks` do not fit, or the weights do not know the
            breeds.
    """
    model = new_model(config)
    if config.method == "zero-shot":
        model.head = zero_shot_head(config)
        return model.requires_grad_(False)
    if config.method == "lora":
        try:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(config.seed)
                return add_lora(model, config.lora)
        except ValueError as error:
            raise ConfigError(f"LoRA does not fit {config.model_name!r}: {error}") from error
    if config.method != "full":
        model.requires_grad_(False)
        for parameter in [*_chosen_parameters(model, config), *model.head.parameters()]:
            parameter.requires_grad_(True)
    return model


def new_model(config: TrainConfig) -> nn.Module:
    """Build the model that a run starts from: its weights, and a new head for the breeds or the poses."""
    classes = len(POSES if config.label == "pose" else BREEDS)
    return build_model(config.model_name, num_classes=classes, weights=config.weights, seed=config.seed)


def _chosen_parameters(model: nn.Module, config: TrainConfig) -> list[nn.Parameter]:
    """What `probe`, `bitfit`, `norm` and `last` train beside the head."""
    if config.method == "bitfit":
        return [parameter for name, parameter in model.named_parameters() if name.endswith("bias")]
    if config.method == "norm":
        return [p for module in model.modules() if isinstance(module, nn.LayerNorm) for p in module.parameters()]
    if config.method == "last":
        if config.last_blocks > len(model.blocks):
            raise ConfigError(f"last_blocks = {config.last_blocks} is more than {config.model_name!r} has: "
                              f"{len(model.blocks)}")  # fmt: skip
        trained = [*model.blocks[-config.last_blocks :], model.norm]
        return [parameter for module in trained for parameter in module.parameters()]
    return []


def knows_breeds(config: TrainConfig) -> bool:
    """Whether the weights come with a head that names the ten breeds: ImageNet's 1,000 classes do."""
    if config.dataset != "imagewoof" or config.weights == "random":
        return False
    return original_head(config.model_name, config.weights).out_features == IMAGENET_CLASSES


def untouched_method(config: TrainConfig) -> str:
    """The method that leaves the pretrained backbone as it was and can name the classes of `config`.

    "zero-shot" where the weights know the breeds; elsewhere "probe", whose head alone has learned.
    """
    return "zero-shot" if knows_breeds(config) else "probe"


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
