"""timm Vision Transformers: their weights, their head, their parameters, and what each method trains of them.

Each method starts from the same model with a new head, which always trains. `full`: every parameter. `lora`: the
adapters and `modules_to_save`. `bitfit`: the biases (Ben Zaken et al. 2022, https://arxiv.org/abs/2106.10199).
`norm`: weights and biases of the normalisation layers. `last`: the last blocks and the norm after them, before or after
pooling. `probe`: the head alone. `zero-shot`: nothing; its head is the original one, restricted to the classes.
"""

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import NamedTuple

import timm
import torch
from timm.data import resolve_model_data_config
from timm.layers import RmsNorm, SimpleNorm
from torch import nn

from woofkit.config import PROJECT_ROOT, ConfigError, RunSettings, TrainConfig, require_range, resolve_path
from woofkit.datasets import folder
from woofkit.datasets.download import OFFLINE, OfflineError, is_offline, offline_where_there_is_no_network
from woofkit.datasets.imagewoof import BREEDS, IMAGENET_INDEX
from woofkit.lora import add_lora, call_projections, final_norm
from woofkit.storage.weights import WEIGHT_FORMATS, npz_sizes, read_weights, tensor_differences, verify_checksum

BUNDLED_MODEL = "vit_tiny_patch16_224"
BUNDLED_WEIGHTS = PROJECT_ROOT / "data" / "backbone" / "vit_tiny_patch16_224.sketch.safetensors"
NORMS = (nn.LayerNorm, nn.RMSNorm, RmsNorm, SimpleNorm)


class ParameterCount(NamedTuple):
    total: int
    trainable: int


def build_model(
    name: str, num_classes: int = 10, weights: str | Path | None = "bundled", seed: int = 0, image_size: int = 0
) -> nn.Module:
    """Build a timm Vision Transformer in eval mode, with pretrained weights and a new head.

    The weights may have no head of their own, as those of DINOv2 and DINOv3.

    Args:
        name: timm's model name, such as "vit_tiny_patch16_224".
        num_classes: size of the new head (weights normal with std 0.02, bias zero).
        weights: "bundled" (this project's, for vit_tiny_patch16_224), "timm" (downloaded by timm), the path of a
            file in one of WEIGHT_FORMATS, or None or "random" for random weights.
        seed: of the new head and of random weights.
        image_size: pixels a side that the model is to take; 0 is its own size.

    Raises:
        ConfigError: unknown model or weights, a file that does not fit the model, with what differs, or an image size
            that the model cannot take.
    """
    require_range("num_classes", num_classes, 1, 1_000_000)
    model = _pretrained_model(name, weights, seed)
    if image_size:
        _set_image_size(model, name, image_size)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model.reset_classifier(num_classes)
        if not isinstance(model.head, nn.Linear):
            raise _not_a_vision_transformer(name)
        draw_head(model.head)
    return model


def backbone(settings: RunSettings) -> nn.Module:
    """The model of a study or of a run as pretraining left it, with the images' size that it is to take."""
    return build_model(settings.model_name, weights=settings.weights, image_size=settings.image_size)


def _set_image_size(model: nn.Module, name: str, size: int) -> None:
    """Let `model` take images of size x size: timm resamples its position embedding (bicubic, with antialiasing)."""
    if not hasattr(model, "set_input_size"):
        raise ConfigError(f"image_size = {size}: timm cannot change it for {name!r}, leave it 0")
    if size % (patch := model.patch_embed.patch_size[0]):
        raise ConfigError(f"image_size = {size} is no multiple of {patch}, the side of a patch of {name!r}")
    model.set_input_size(img_size=(size, size))
    model.pretrained_cfg = model.pretrained_cfg | {"input_size": (3, size, size)}  # a copy: timm shares the original


def draw_head(head: nn.Linear) -> None:
    """Begin a head anew, in place, by torch's random numbers: weights normal with std 0.02, bias zero."""
    nn.init.normal_(head.weight, std=0.02)
    nn.init.zeros_(head.bias)


def original_head(name: str, weights: str | Path | None) -> nn.Linear:
    """The classification head that came with the weights, for zero-shot and for measuring forgetting.

    Raises:
        ConfigError: the weights are random or come without a head; else as `build_model`.
    """
    if weights in (None, "random"):
        raise ConfigError("random weights have no original head: choose weights='bundled', 'timm' or a path")
    head = _pretrained_model(name, weights, seed=0).head
    if not isinstance(head, nn.Linear):
        raise ConfigError(f"weights {str(weights)!r} of {name!r} come without a head: there is no original one")
    return head


def data_config(model: nn.Module) -> dict:
    """timm's data settings for the model: input_size (C, H, W), mean, std, crop_pct, interpolation."""
    return resolve_model_data_config(model)


def count_parameters(model: nn.Module) -> ParameterCount:
    """Count all and the trainable parameters (numbers, not tensors)."""
    sizes = [(p.numel(), p.requires_grad) for p in model.parameters()]
    return ParameterCount(sum(n for n, _ in sizes), sum(n for n, trainable in sizes if trainable))


def _pretrained_model(name: str, weights: str | Path | None, seed: int) -> nn.Module:
    if not timm.is_model(name):
        close = get_close_matches(name, timm.list_models(), n=3) or [BUNDLED_MODEL]
        raise ConfigError(f"unknown model {name!r}: timm has, for example, {', '.join(close)}")
    try:
        timm.get_pretrained_cfg(name)
    except RuntimeError as error:  # the part after the dot, which picks one of timm's weights
        known = ", ".join(timm.list_pretrained(f"{name.partition('.')[0]}.*"))
        raise ConfigError(f"unknown weights in model name {name!r}: timm has {known}") from error
    if weights in (None, "random"):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return _vision_transformer(name).eval()
    if weights == "timm":
        return _from_timm(name)
    if weights != "bundled":
        return _from_file(name, resolve_path(weights))
    if name != BUNDLED_MODEL:
        raise ConfigError(f"weights='bundled' are for {BUNDLED_MODEL!r}, not {name!r}: choose 'timm' or a path")
    verify_checksum(BUNDLED_WEIGHTS)
    return _from_file(name, BUNDLED_WEIGHTS)


def _vision_transformer(name: str, **settings) -> nn.Module:
    model = timm.create_model(name, **settings)
    if hasattr(model, "head_dist"):
        raise ConfigError(
            f"model {name!r} has a second head, head_dist, which would stay random while the first learns: choose a "
            "model with one, such as 'deit_tiny_patch16_224'"
        )
    if not isinstance(getattr(model, "head", None), nn.Linear | nn.Identity) or not hasattr(model, "blocks"):
        raise _not_a_vision_transformer(name)
    return call_projections(model)


def _not_a_vision_transformer(name: str) -> ConfigError:
    return ConfigError(f"model {name!r} is not a Vision Transformer with a linear head: try {BUNDLED_MODEL!r}")


def _from_timm(name: str) -> nn.Module:
    try:
        if is_offline() and not timm.get_pretrained_cfg(name).hf_hub_id:  # a few lie elsewhere, where timm would ask
            raise OfflineError(f"{OFFLINE} is set")
        with offline_where_there_is_no_network():  # what was downloaded before is found all the same
            return _vision_transformer(name, pretrained=True).eval()
    except ConfigError:
        raise
    except Exception as error:  # the hub client raises many kinds; each means that the weights did not come
        if is_offline():
            raise ConfigError(
                f"timm's weights for {name!r} are not on this machine, and {OFFLINE} is set: where there is internet, "
                f"run python -m woofkit fetch -p weights timm -p model_name {name}"
            ) from error
        raise ConfigError(
            f"timm's weights for {name!r} could not be loaded ({type(error).__name__}): without internet, pass the "
            f"path of a {', '.join(WEIGHT_FORMATS)} file as weights"
        ) from error


def _from_file(name: str, path: Path) -> nn.Module:
    if not path.is_file():
        raise ConfigError(f"weights file {path} does not exist: allowed are 'bundled', 'timm', 'random' or a path")
    if path.suffix not in WEIGHT_FORMATS:
        raise ConfigError(f"weights file {path.name}: format {path.suffix!r} is not one of {', '.join(WEIGHT_FORMATS)}")
    if path.suffix == ".npz":
        num_classes, count = npz_sizes(path)
        model = _vision_transformer(name, num_classes=num_classes)
        if count != count_parameters(model).total:  # timm would ignore what is too much
            expected = f"{count_parameters(model).total:,}"
            raise ConfigError(f"weights file {path.name} does not fit {name!r}: {count:,} parameters, not {expected}")
        try:
            model.load_pretrained(str(path))
        except Exception as error:
            raise ConfigError(f"weights file {path.name} does not fit {name!r}: {error}") from error
        return model.eval()
    tensors, overlay = read_weights(path)
    head = tensors.get("head.bias")
    num_classes = 0 if head is None else head.numel()  # 0: weights without a head
    model = _vision_transformer(name, num_classes=num_classes, pretrained_cfg_overlay=overlay)
    if problems := tensor_differences(model.state_dict(), tensors):
        raise ConfigError(f"weights file {path.name} does not fit {name!r}: {'; '.join(problems)}")
    model.load_state_dict(tensors, strict=True)
    return model.eval()


IMAGENET_CLASSES = 1000


def build_for(config: TrainConfig, classes: Sequence[str] = ()) -> nn.Module:
    """Build the model of a run, with exactly the parameters trainable that its method trains.

    `classes` are those of `run_classes`, for a folder that may be gone.

    Raises:
        ConfigError: the weights, the adapter's targets or `last_blocks` do not fit, the weights do not know the
            classes, or the model has no checkpointing.
    """
    model = new_model(config, classes)
    if config.checkpointing:
        _require_checkpointing(model, config.model_name)
    if config.method == "zero-shot":
        model.head = zero_shot_head(config, classes)
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


def _require_checkpointing(model: nn.Module, name: str) -> None:
    """Raise ConfigError for a model that timm cannot checkpoint; the model stays as it was."""
    try:
        model.set_grad_checkpointing(True)
        model.set_grad_checkpointing(False)
    except (AssertionError, AttributeError) as error:
        raise ConfigError(f"checkpointing = True: timm has none for {name!r}, leave it off") from error


def new_model(config: TrainConfig, classes: Sequence[str] = ()) -> nn.Module:
    """Build the model that a run starts from: its weights, and a new head for what it learns to name."""
    classes = classes or run_classes(config)
    return build_model(config.model_name, len(classes), config.weights, config.seed, config.image_size)


def class_names(config: TrainConfig) -> tuple[str, ...]:
    """The names to show of what a run learns to name."""
    return folder.readable(run_classes(config))


def run_classes(config: TrainConfig) -> tuple[str, ...]:
    """What a run learns to name: the breeds, with label "pose" the poses, or a folder's class folders."""
    if config.dataset == "folder":
        return folder.class_folders(resolve_path(config.data_dir))
    if config.label == "breed":
        return BREEDS
    from woofkit.sketch import POSES  # only here: the breeds need no drawing code

    return POSES


def _chosen_parameters(model: nn.Module, config: TrainConfig) -> list[nn.Parameter]:
    """What `probe`, `bitfit`, `norm` and `last` train beside the head."""
    if config.method == "bitfit":
        return [parameter for name, parameter in model.named_parameters() if name.endswith("bias")]
    if config.method == "norm":
        return [p for module in model.modules() if isinstance(module, NORMS) for p in module.parameters()]
    if config.method != "last":
        return []
    if config.last_blocks > (depth := len(model.blocks)):
        raise ConfigError(f"last_blocks = {config.last_blocks} is more than {config.model_name!r} has: {depth}")
    trained = [*model.blocks[-config.last_blocks :], model.get_submodule(final_norm(model))]
    return [parameter for module in trained for parameter in module.parameters()]


def imagenet_positions(config: TrainConfig, classes: Sequence[str] = ()) -> tuple[int, ...] | None:
    """Where a run's classes stand among ImageNet's 1,000; None if not all of them are there."""
    if config.dataset == "folder":
        return folder.imagenet_positions(classes or run_classes(config))
    return IMAGENET_INDEX if config.dataset == "imagewoof" else None


def knows_classes(config: TrainConfig) -> bool:
    """Whether the weights come with a head that names a run's classes, as ImageNet's 1,000 do."""
    if config.weights == "random" or imagenet_positions(config) is None:
        return False
    head = _pretrained_model(config.model_name, config.weights, seed=0).head
    return isinstance(head, nn.Linear) and head.out_features == IMAGENET_CLASSES


def untouched_method(config: TrainConfig) -> str:
    """The method that leaves the pretrained backbone as it was and can name the classes of `config`.

    "zero-shot" where the weights know the classes; elsewhere "probe", whose head alone has learned.
    """
    return "zero-shot" if knows_classes(config) else "probe"


def zero_shot_head(config: TrainConfig, classes: Sequence[str] = ()) -> nn.Linear:
    """The rows of the weights' original head that stand for the run's classes.

    Raises:
        ConfigError: there is no head, or it does not know the classes.
    """
    if (positions := imagenet_positions(config, classes)) is None:
        raise ConfigError(
            f"zero-shot on {config.dataset!r}: its classes are not among ImageNet's, so no pretraining has seen them. "
            "Use 'imagewoof', or a folder whose classes are named as ImageNet's are"
        )
    head = original_head(config.model_name, config.weights)
    if head.out_features != IMAGENET_CLASSES:
        raise ConfigError(
            f"zero-shot needs a head with ImageNet's {IMAGENET_CLASSES:,} classes; weights {config.weights!r} "
            f"have {head.out_features:,}"
        )
    rows = torch.tensor(positions)
    restricted = nn.Linear(head.in_features, len(rows))
    restricted.load_state_dict({"weight": head.weight[rows], "bias": head.bias[rows]})
    return restricted
