"""Settings of the study: frozen, checked when they are made, and plain enough to be written as JSON.

There are three levels: `LoRAConfig` (an adapter), `TrainConfig` (one training run) and `StudyConfig` (the parameters
of the notebooks, flat literals because papermill passes those). All are dataclasses that pydantic checks strictly: no
string for a number and no bool for an int. Only an int where a float is expected and a list where a tuple is expected
are welcome, because YAML and JSON write them so. Every refusal is a `ConfigError`: one sentence with the setting, the
value given and what is allowed. Profiles are StudyConfigs in YAML 1.2 files: `4e-4` is a number and `no` a word.
"""

import json
import math
import os
import re
from collections.abc import Callable
from dataclasses import asdict, fields
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, Literal, dataclass_transform, get_args

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic.dataclasses import dataclass, rebuild_dataclass

PROJECT_ROOT = Path(__file__).resolve().parent.parent
LONGEST_NAME = 255  # bytes of one name, on nearly every disk

NUM_BREEDS = 10
DATASETS = ("sketchwoof", "imagewoof", "folder")
SCHEMES = ("clean", "paper")
IMAGE_VARIANTS = ("160", "320", "full")
SKETCH_SIZES = {"train": 600, "val": 200, "test": 500}  # what num=0 means for drawings
PREPROCESSES = ("timm", "grey", "squeeze", "imagenet-norm", "paper-code")
METHODS = ("zero-shot", "probe", "bitfit", "norm", "last", "full", "lora")
LABELS = ("breed", "pose")
SCHEDULES = ("constant", "cosine")
PRECISIONS = ("auto", "fp32", "bf16")  # "auto": bf16 where the device multiplies in it
AUGMENTS = ("none", "flip", "flip-crop")
DEVICES = ("auto", "cpu", "cuda")
SAVES_MEMORY = ("micro_batch", "checkpointing")
# Settings that are named only where they are not the default: a run without them is the run it always was.
NAMED_IF_CHANGED = (*SAVES_MEMORY, "image_size", "validate_every")


class ConfigError(ValueError):
    """A setting is unknown, has the wrong type or lies out of range.

    A notebook shows its sentence alone: who has mistyped a parameter is not helped by the lines it passed through.
    """

    def _render_traceback_(self) -> list[str]:  # IPython asks for it
        return [f"{type(self).__name__}: {self}"]


def resolve_path(path: str | Path) -> Path:
    """Return `path` as an absolute path; a relative one starts at the project's root, not at the notebook.

    Raises:
        ConfigError: no disk has such a name: it has a NUL or a part of more than 255 bytes, or no user is called so.
    """
    try:
        path = Path(path).expanduser()
    except RuntimeError as error:
        raise ConfigError(f"path {str(path)!r}: no user of this machine is called so") from error
    if "\0" in str(path):
        raise ConfigError(f"path {str(path)!r} has a NUL, which no name may have")
    if long := [part for part in path.parts if len(os.fsencode(part)) > LONGEST_NAME]:
        raise ConfigError(f"path '{long[0][:20]}...' has a name of {len(long[0])} characters: allowed are 255 bytes")
    return path if path.is_absolute() else PROJECT_ROOT / path


def require_choice(name: str, value: Any, allowed: tuple[str, ...]) -> None:
    """Raise ConfigError unless `value` is one of `allowed`."""
    if value not in allowed:
        raise ConfigError(f"unknown {name} {value!r}: allowed are {', '.join(map(repr, allowed))}")


def require_range(name: str, value: float, low: float, high: float, *, above: bool = False) -> None:
    """Raise ConfigError unless low <= value <= high (low < value with `above`)."""
    if not ((low < value if above else low <= value) and value <= high):  # also catches nan
        raise _out_of_range(name, value, f"{'above' if above else 'from'} {low:.10g} to {high:.10g}")


def _out_of_range(name: str, value: float, allowed: str) -> ConfigError:
    return ConfigError(f"{name} = {_shown(value)} is out of range: allowed is {allowed}")


# --- how settings are checked ---


@dataclass_transform(frozen_default=True, kw_only_default=True)
def settings(cls: type) -> type:
    """Make a class a frozen dataclass that checks its fields strictly; a value refused is a ConfigError.

    What a field allows stands in its annotation alone: a type, a Literal, a Field's limits, or the words of `checked`.
    """
    config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False, defer_build=True)  # --help does without
    cls = dataclass(frozen=True, kw_only=True, config=config)(cls)
    check = cls.__init__

    @wraps(check)
    def init(self: Any, /, **given: Any) -> None:
        if not cls.__pydantic_complete__:
            rebuild_dataclass(cls)
            cls.__init__ = init  # which that has replaced
        try:
            check(self, **given)
        except ValidationError as error:
            raise _refusal(cls, given, error.errors()[0]) from None

    cls.__init__ = init
    return cls


def checked(kind: Any, allowed: str, holds: Callable[[Any], Any] = bool) -> Any:
    """Annotate a field: values of `kind` for which `holds` is true, or "NAME must be ALLOWED, not VALUE"."""

    def check(value: Any) -> Any:
        if not holds(value):
            raise ValueError
        return value

    as_tuple = BeforeValidator(lambda value: tuple(value) if isinstance(value, list) else value)  # YAML has only lists
    return Annotated[kind, as_tuple, AfterValidator(check), Field(description=allowed)]


def _refusal(cls: type, given: dict[str, Any], error: dict[str, Any]) -> ConfigError:
    """Say in one sentence what pydantic found wrong with a value given to `cls`."""
    kind = error["type"]
    if isinstance(own := error.get("ctx", {}).get("error"), ConfigError):
        return own
    name = error["loc"][0]
    if kind == "unexpected_keyword_argument":
        return ConfigError(f"unknown parameter {name!r}: allowed are {', '.join(field.name for field in fields(cls))}")
    field, value, shown = cls.__pydantic_fields__[name], given[name], _shown(given[name])
    if kind == "literal_error":
        return ConfigError(f"unknown {name} {shown}: allowed are {', '.join(map(repr, get_args(field.annotation)))}")
    if kind in ("greater_than", "greater_than_equal", "less_than_equal", "finite_number"):
        words = {"gt": "above", "ge": "from", "le": "to"}
        limits = [(words[key], getattr(each, key)) for each in field.metadata for key in words if hasattr(each, key)]
        return _out_of_range(name, value, " ".join(f"{word} {limit:.10g}" for word, limit in limits))
    if field.description:
        return ConfigError(f"{name} must be {field.description}, not {shown}")
    return ConfigError(f"{name} must be of type {type(field.default).__name__}, not {type(value).__name__} ({shown})")


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 120 else f"{text[:100]}..."


def _images(fewest: int) -> Any:
    allowed = f"0 for all or a whole number from {fewest} to 10000000"
    return checked(int, allowed, lambda num: num == 0 or fewest <= num <= 10_000_000)


Rank = Annotated[int, Field(ge=1, le=4096)]
Targets = checked(
    tuple[str, ...],
    "a sequence of layers' names such as 'attn.proj', or 'attn.qkv[...]' with one of q, k, v, qk, qv, kv, qkv in the "
    "brackets",
    lambda names: names and all(re.fullmatch(r"[^\[\]]+(\[(q|k|v|qk|qv|kv|qkv)\])?", name) for name in names),
)
Blocks = checked(
    tuple[int, int] | None,
    "two rising whole numbers, the second not included, or None",
    lambda blocks: blocks is None or 0 <= blocks[0] < blocks[1],
)
DataDir = checked(str, "a folder that exists, or '' to download", lambda path: not path or resolve_path(path).is_dir())
Weights = checked(
    str,
    "'bundled', 'timm', 'random' or the path of a file that exists",
    lambda weights: weights in ("bundled", "timm", "random") or resolve_path(weights).is_file(),
)
ModelName = checked(str, "a timm Vision Transformer, such as 'vit_tiny_patch16_224'")
ProfileName = checked(str, "a folder's name of letters, digits, '-' and '_'", re.compile(r"[\w-]{1,100}").fullmatch)


# --- the settings ---


@settings
class LoRAConfig:
    """How adapters are built: delta W = scaling * B A for every targeted linear layer.

    `targets` are dotted name suffixes ("attn.proj" is never "patch_embed.proj"). "attn.qkv[qv]" adapts only the
    queries and values of a fused projection, with one A for both, or one each (`shared_A=False`). `blocks` keeps
    to a range of transformer blocks, (8, 12) for 8 to 11. `modules_to_save` are trained in full beside the
    adapters. `init_std=None` draws A as Hu et al.'s code does (Kaiming-uniform with a = sqrt 5); a number is
    the standard deviation of a Gaussian. `rslora` scales by alpha / sqrt(rank) (Kalajdzievski 2023,
    https://arxiv.org/abs/2312.03732) instead of alpha / rank.
    """

    rank: Rank = 8
    alpha: Annotated[float, Field(gt=0, le=1e6)] = 8.0
    targets: Targets = ("attn.qkv", "attn.proj")
    dropout: Annotated[float, Field(ge=0, le=0.99)] = 0.0
    bias: bool = False
    init_std: Annotated[float | None, Field(gt=0, le=1, description="a number or None")] = None
    modules_to_save: checked(tuple[str, ...], "a sequence of module names", all) = ("head",)
    rslora: bool = False
    blocks: Blocks = None
    shared_A: bool = True

    @property
    def scaling(self) -> float:
        """The factor on B A: alpha / rank, or alpha / sqrt(rank) with `rslora`; true divisions."""
        return self.alpha / (math.sqrt(self.rank) if self.rslora else self.rank)

    @classmethod
    def paper(cls, rank: int = 12) -> "LoRAConfig":
        """The paper's adapter: 177,418 trainable parameters at rank 12 on ViT-Tiny with ten classes.

        Scaling 1, A Gaussian with std 0.01, a trained bias beside B, final norm and head trained too.
        """
        return cls(rank=rank, alpha=rank, bias=True, init_std=0.01, modules_to_save=("norm", "head"))


@settings
class RunSettings:
    """What a study and each of its runs have in common.

    0 stands for "all" in `num_train`, `num_val` and `num_test`, "" for "download" in `data_dir`. With dataset "folder",
    `skip_unreadable` goes on without the images that cannot be read.

    The model takes images of `image_size` pixels a side; 0 is what it was pretrained with. At another size its position
    embedding is resampled. Half the side is a quarter of the patches, and of the work.

    A step on a batch is computed in parts of at most `micro_batch` images (0: all at once), whose gradients are added
    up; `checkpointing` keeps only what enters each block, and computes the rest again for the backward pass. Both save
    memory.
    """

    dataset: Literal[DATASETS] = "sketchwoof"
    scheme: Literal[SCHEMES] = "clean"
    data_dir: DataDir = ""
    skip_unreadable: bool = False
    image_variant: Literal[IMAGE_VARIANTS] = "160"
    preprocess: Literal[PREPROCESSES] = "timm"
    num_train: _images(NUM_BREEDS) = 600
    num_val: _images(NUM_BREEDS) = 0
    num_test: _images(NUM_BREEDS) = 500
    label_fraction: Annotated[float, Field(gt=0, le=1)] = 1.0
    model_name: ModelName = "vit_tiny_patch16_224"
    weights: Weights = "bundled"
    image_size: checked(int, "0 or a whole number from 16 to 1024", lambda size: size == 0 or 16 <= size <= 1024) = 0
    epochs: Annotated[int, Field(ge=1, le=10_000)] = 5
    batch_size: Annotated[int, Field(ge=1, le=65_536)] = 32
    micro_batch: Annotated[int, Field(ge=0, le=65_536)] = 0
    checkpointing: bool = False
    lr: Annotated[float, Field(gt=0, le=10)] = 4e-4
    schedule: Literal[SCHEDULES] = "constant"
    precision: Literal[PRECISIONS] = "auto"
    augment: Literal[AUGMENTS] = "none"
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] = 0

    def __post_init__(self) -> None:
        if self.dataset == "folder" and not self.data_dir:
            raise ConfigError("dataset 'folder' needs data_dir: the folder with your images, one folder per class")
        if self.dataset == "folder" and self.scheme != "clean":
            raise ConfigError("dataset 'folder' has scheme 'clean' alone: 'paper' is the paper's split of ImageWoof")


def _named(config: RunSettings) -> dict[str, Any]:
    settings = json.loads(json.dumps(asdict(config)))
    usual = {field.name: field.default for field in fields(config) if field.name in NAMED_IF_CHANGED}
    return {name: value for name, value in settings.items() if name not in usual or value != usual[name]}


# The fields of the last base come first: the method of a run, the profile of a study, then what they share.
@settings
class _Method:
    method: Literal[METHODS] = "full"


@settings
class _Profile:
    profile: ProfileName = "demo"


@settings
class TrainConfig(RunSettings, _Method):
    """Everything that decides the outcome of one training run; two equal ones are the same run."""

    device: Literal[DEVICES] = "auto"
    label: Literal[LABELS] = "breed"  # what is to be named; drawings know their pose, too
    last_blocks: Annotated[int, Field(ge=1, le=1000)] = 1  # how many blocks method "last" trains
    validate_every: Annotated[int, Field(ge=1, le=10_000)] = (
        1  # epochs from one validation to the next; the last has one
    )
    lora: Annotated[
        LoRAConfig | None,
        BeforeValidator(lambda lora: LoRAConfig(**lora) if isinstance(lora, dict) else lora),
        Field(description="a LoRAConfig or None"),
    ] = None
    fast: bool = True  # compute with the faster forms of woofkit.fast; False computes as the formulas stand

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.label == "pose" and (self.dataset != "sketchwoof" or self.method == "zero-shot"):
            raise ConfigError(
                f"label 'pose' with dataset {self.dataset!r}, method {self.method!r}: only drawings know their pose, "
                "and no weights know poses before training"
            )
        if (self.lora is not None) != (self.method == "lora"):
            raise ConfigError(f"method {self.method!r} with lora={self.lora!r}: 'lora' needs a LoRAConfig, others none")

    def to_dict(self) -> dict[str, Any]:
        """The settings as JSON-ready values, NAMED_IF_CHANGED only if they are; `TrainConfig(**d)` gives them back."""
        return _named(self)


@settings
class StudyConfig(RunSettings, _Profile):
    """The parameters of the notebooks, one field each; the defaults are the `demo` profile.

    With lr 0, every method takes the rate that `python -m woofkit recommend` has found for it.
    """

    lr: Annotated[float, Field(ge=0, le=10)] = RunSettings.lr
    num_test: _images(2 * NUM_BREEDS) = RunSettings.num_test  # no interval is known with one image per breed
    rank: Rank = 12
    runs_dir: checked(str, "a folder's path, such as 'runs'") = "runs"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.lr == 0 and self.dataset != "folder":
            raise ConfigError(
                f"lr = 0 with dataset {self.dataset!r}: rates are searched for a folder of your own alone, so give one"
            )

    @classmethod
    def from_dict(cls, parameters: dict[str, Any]) -> "StudyConfig":
        """Make a StudyConfig from named values; an unknown name is a ConfigError that lists the known ones."""
        return cls(**parameters)

    def train_config(self, method: str) -> TrainConfig:
        """The settings of this study's training run with `method`."""
        shared = {field.name: getattr(self, field.name) for field in fields(RunSettings)}
        shared["lr"] = self.lr or self._found_rate(method)
        return TrainConfig(method=method, lora=LoRAConfig.paper(self.rank) if method == "lora" else None, **shared)

    def _found_rate(self, method: str) -> float:
        found = json.loads(self.rates_file.read_text(encoding="utf-8")) if self.rates_file.is_file() else {}
        rates = found.get("rates", {}) if found.get("settings") == self.searched_settings else {}
        if method not in rates and method != "zero-shot":
            raise ConfigError(
                f"lr = 0 takes the rate that a search has found, and there is none for method {method!r} and these "
                f"settings in {self.run_root}: python -m woofkit recommend searches, or give a number"
            )
        return rates.get(method, RunSettings.lr)

    @property
    def searched_settings(self) -> dict[str, Any]:
        """The settings for which a rate is searched, as JSON has them; whatever the seed and however it is computed."""
        ignored = ("profile", "runs_dir", "lr", "seed", "precision", *SAVES_MEMORY)
        return {name: value for name, value in _named(self).items() if name not in ignored}

    @property
    def rates_file(self) -> Path:
        """Where `python -m woofkit recommend` keeps the rates that it has found: {"settings", "rates"}."""
        return self.run_root / "rates.json"

    @property
    def run_root(self) -> Path:
        """The folder of this profile's runs, executed notebooks and figures."""
        return resolve_path(self.runs_dir) / self.profile
