"""Settings of the study: frozen, checked when they are made, and plain enough to be written as JSON.

Three levels: `LoRAConfig` (an adapter), `TrainConfig` (one training run) and `StudyConfig` (the parameters of the
notebooks, flat literals because papermill passes those). Profiles are StudyConfigs in YAML files, which follow
YAML 1.2: `4e-4` is a number and `no` a word. Every refusal is a `ConfigError` that names the setting, what was given
and what is allowed.
"""

import math
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import yaml

PROJECT_ROOT = Path(__file__).resolve().parent.parent


class ConfigError(ValueError):
    """A setting is unknown, has the wrong type or lies out of range.

    A notebook shows its sentence alone: who has mistyped a parameter is not helped by the lines it passed through.
    """

    def _render_traceback_(self) -> list[str]:  # IPython asks for it
        return [f"{type(self).__name__}: {self}"]


def resolve_path(path: str | Path) -> Path:
    """Return `path` as an absolute path; a relative one starts at the project's root, not at the notebook."""
    path = Path(path).expanduser()
    return path if path.is_absolute() else PROJECT_ROOT / path


def require_choice(name: str, value: Any, allowed: tuple[str, ...]) -> None:
    """Raise ConfigError unless `value` is one of `allowed`."""
    if value not in allowed:
        raise ConfigError(f"unknown {name} {value!r}: allowed are {', '.join(map(repr, allowed))}")


def require_range(name: str, value: float, low: float, high: float, *, above: bool = False) -> None:
    """Raise ConfigError unless low <= value <= high (low < value with `above`)."""
    inside = (low < value if above else low <= value) and value <= high
    if not inside:  # also catches nan
        sign = "above" if above else "from"
        raise ConfigError(f"{name} = {value!r} is out of range: allowed is {sign} {low:g} to {high:g}")


def check_types(config: Any) -> None:
    """Check each field of a dataclass against its annotation, strictly: no string for a number, no bool for an int.

    An int is welcome where a float is expected and becomes one.
    """
    for field in fields(config):
        value = getattr(config, field.name)
        if field.type is float and type(value) is int:
            object.__setattr__(config, field.name, float(value))
        elif field.type in (int, float, str, bool) and type(value) is not field.type:
            kind = type(value).__name__
            raise ConfigError(f"{field.name} must be of type {field.type.__name__}, not {kind} ({value!r})")


NUM_BREEDS = 10
DATASETS = ("sketchwoof", "imagewoof")
SCHEMES = ("clean", "paper")
IMAGE_VARIANTS = ("160", "320", "full")
PREPROCESSES = ("timm", "paper-code")
METHODS = ("zero-shot", "probe", "bitfit", "norm", "last", "full", "lora")
LABELS = ("breed", "pose")
SCHEDULES = ("constant", "cosine")
PRECISIONS = ("auto", "fp32", "bf16")  # "auto": bf16 where the device multiplies in it
AUGMENTS = ("none", "flip", "flip-crop")
DEVICES = ("auto", "cpu", "cuda")


@dataclass(frozen=True)
class LoRAConfig:
    """How adapters are built: delta W = scaling * B A for every targeted linear layer.

    `targets` are dotted name suffixes ("attn.proj" is never "patch_embed.proj"). "attn.qkv[qv]" adapts only the
    queries and values of a fused projection, with one A for both, or one each (`shared_A=False`). `blocks` keeps
    to a range of transformer blocks, (8, 12) for 8 to 11. `modules_to_save` are trained in full beside the
    adapters. `init_std=None` draws A as Hu et al.'s code does (Kaiming-uniform with a = sqrt 5); a number is
    the standard deviation of a Gaussian. `rslora` scales by alpha / sqrt(rank) (Kalajdzievski 2023,
    https://arxiv.org/abs/2312.03732) instead of alpha / rank.
    """

    rank: int = 8
    alpha: float = 8.0
    targets: tuple[str, ...] = ("attn.qkv", "attn.proj")
    dropout: float = 0.0
    bias: bool = False
    init_std: float | None = None
    modules_to_save: tuple[str, ...] = ("head",)
    rslora: bool = False
    blocks: tuple[int, int] | None = None
    shared_A: bool = True

    def __post_init__(self) -> None:
        check_types(self)
        for name in ("targets", "modules_to_save"):
            value = getattr(self, name)
            if not isinstance(value, (list, tuple)) or not all(isinstance(item, str) and item for item in value):
                raise ConfigError(f"{name} must be a sequence of module names, not {value!r}")
            object.__setattr__(self, name, tuple(value))
        if not self.targets:
            raise ConfigError("targets is empty: name at least one linear layer, such as 'attn.qkv'")
        for target in self.targets:
            if not re.fullmatch(r"[^\[\]]+(\[(q|k|v|qk|qv|kv|qkv)\])?", target):
                raise ConfigError(
                    f"target {target!r} is not allowed: a name such as 'attn.proj', or 'attn.qkv[...]' with one of "
                    "q, k, v, qk, qv, kv, qkv between the brackets"
                )
        if self.blocks is not None:
            self._check_blocks()
        require_range("rank", self.rank, 1, 4096)
        require_range("alpha", self.alpha, 0, 1e6, above=True)
        require_range("dropout", self.dropout, 0, 0.99)
        if self.init_std is not None:
            if isinstance(self.init_std, bool) or not isinstance(self.init_std, (int, float)):
                raise ConfigError(f"init_std must be a number or None, not {self.init_std!r}")
            require_range("init_std", self.init_std, 0, 1, above=True)

    def _check_blocks(self) -> None:
        blocks = self.blocks
        whole = isinstance(blocks, (list, tuple)) and len(blocks) == 2 and all(type(block) is int for block in blocks)
        if not whole or not 0 <= blocks[0] < blocks[1]:
            raise ConfigError(f"blocks must be two rising whole numbers, the second not included, not {blocks!r}")
        object.__setattr__(self, "blocks", tuple(blocks))

    @property
    def scaling(self) -> float:
        """The factor on B A: alpha / rank, or alpha / sqrt(rank) with `rslora`; true divisions.

        (alpha // rank would be zero for alpha < rank.)
        """
        return self.alpha / (math.sqrt(self.rank) if self.rslora else self.rank)

    @classmethod
    def paper(cls, rank: int = 12) -> "LoRAConfig":
        """The report's adapter: 177,418 trainable parameters at rank 12 on ViT-Tiny with ten classes.

        Scaling 1, A Gaussian with std 0.01, a trained bias beside B, final norm and head trained too.
        """
        return cls(rank=rank, alpha=float(rank), bias=True, init_std=0.01, modules_to_save=("norm", "head"))


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides the outcome of one training run; two equal ones are the same run."""

    method: str = "full"
    dataset: str = "sketchwoof"
    scheme: str = "clean"
    data_dir: str = ""
    image_variant: str = "160"
    preprocess: str = "timm"
    num_train: int = 600
    num_test: int = 500
    label_fraction: float = 1.0
    model_name: str = "vit_tiny_patch16_224"
    weights: str = "bundled"
    epochs: int = 5
    batch_size: int = 32
    lr: float = 4e-4
    schedule: str = "constant"
    precision: str = "auto"
    augment: str = "none"
    device: str = "auto"
    fast: bool = True  # False computes as the formulas stand, without the faster forms of woofkit.fast
    seed: int = 0
    label: str = "breed"  # what is to be named; drawings know their pose, too
    last_blocks: int = 1  # how many blocks method "last" trains
    lora: LoRAConfig | None = None

    def __post_init__(self) -> None:
        check_types(self)
        require_choice("method", self.method, METHODS)
        require_choice("dataset", self.dataset, DATASETS)
        require_choice("label", self.label, LABELS)
        if self.label == "pose" and (self.dataset != "sketchwoof" or self.method == "zero-shot"):
            raise ConfigError(
                f"label 'pose' with dataset {self.dataset!r}, method {self.method!r}: only drawings know their pose, "
                "and no weights know poses before training"
            )
        require_range("last_blocks", self.last_blocks, 1, 1000)
        require_choice("scheme", self.scheme, SCHEMES)
        require_choice("image_variant", self.image_variant, IMAGE_VARIANTS)
        require_choice("preprocess", self.preprocess, PREPROCESSES)
        require_choice("schedule", self.schedule, SCHEDULES)
        require_choice("precision", self.precision, PRECISIONS)
        require_choice("augment", self.augment, AUGMENTS)
        require_choice("device", self.device, DEVICES)
        for name in ("num_train", "num_test"):
            if getattr(self, name) != 0:  # 0 is "all"
                require_range(name, getattr(self, name), NUM_BREEDS, 10_000_000)
        require_range("label_fraction", self.label_fraction, 0, 1, above=True)
        require_range("epochs", self.epochs, 1, 10_000)
        require_range("batch_size", self.batch_size, 1, 65_536)
        require_range("lr", self.lr, 0, 10, above=True)
        require_range("seed", self.seed, 0, 2**31 - 1)
        if not self.model_name:
            raise ConfigError("model_name is empty: name a timm Vision Transformer, such as 'vit_tiny_patch16_224'")
        if self.weights not in ("bundled", "timm", "random") and not resolve_path(self.weights).is_file():
            raise ConfigError(
                f"weights {self.weights!r} is not a file: allowed are 'bundled', 'timm', 'random' or a path to one"
            )
        if self.data_dir and not resolve_path(self.data_dir).is_dir():
            raise ConfigError(f"data_dir {self.data_dir!r} is not a folder: allowed is a folder or '' to download")
        if isinstance(self.lora, dict):
            known = [field.name for field in fields(LoRAConfig)]
            if unknown := [name for name in self.lora if name not in known]:
                raise ConfigError(f"unknown setting of LoRA {unknown[0]!r}: allowed are {', '.join(known)}")
            object.__setattr__(self, "lora", LoRAConfig(**self.lora))
        if not isinstance(self.lora, (LoRAConfig, type(None))):
            raise ConfigError(f"lora must be a LoRAConfig or None, not {self.lora!r}")
        if (self.lora is not None) != (self.method == "lora"):
            raise ConfigError(f"method {self.method!r} with lora={self.lora!r}: 'lora' needs a LoRAConfig, others none")

    def to_dict(self) -> dict[str, Any]:
        """The settings as JSON-ready values; `TrainConfig(**d)` gives them back."""
        settings = asdict(self)
        if self.lora is not None:
            settings["lora"] = {k: list(v) if isinstance(v, tuple) else v for k, v in settings["lora"].items()}
        return settings


@dataclass(frozen=True)
class StudyConfig:
    """The parameters of the notebooks, one field each; the defaults are the `demo` profile.

    0 stands for "all" in `num_train` and `num_test`, "" for "download" in `data_dir`.
    """

    profile: str = "demo"
    dataset: str = "sketchwoof"
    scheme: str = "clean"
    data_dir: str = ""
    image_variant: str = "160"
    preprocess: str = "timm"
    num_train: int = 600
    num_test: int = 500
    label_fraction: float = 1.0
    model_name: str = "vit_tiny_patch16_224"
    weights: str = "bundled"
    epochs: int = 5
    batch_size: int = 32
    lr: float = 4e-4
    schedule: str = "constant"
    precision: str = "auto"
    augment: str = "none"
    seed: int = 0
    rank: int = 12
    runs_dir: str = "runs"

    def __post_init__(self) -> None:
        check_types(self)
        if not self.profile or not all(letter.isalnum() or letter in "-_" for letter in self.profile):
            raise ConfigError(f"profile {self.profile!r} names a folder: allowed are letters, digits, '-' and '_'")
        if not self.runs_dir:
            raise ConfigError("runs_dir is empty: name the folder that takes the runs, such as 'runs'")
        if self.num_test != 0:  # 0 is "all"; no interval is known with one image a breed
            require_range("num_test", self.num_test, 2 * NUM_BREEDS, 10_000_000)
        for method in METHODS:  # whatever a run would refuse, the study refuses before it starts
            self.train_config(method)

    @classmethod
    def from_notebook(cls, namespace: dict[str, Any]) -> "StudyConfig":
        """Take the parameters from a notebook's `globals()`, where papermill has put them."""
        missing = [field.name for field in fields(cls) if field.name not in namespace]
        if missing:
            raise ConfigError(f"the parameters cell lacks {', '.join(missing)}")
        return cls(**{field.name: namespace[field.name] for field in fields(cls)})

    @classmethod
    def from_dict(cls, parameters: dict[str, Any]) -> "StudyConfig":
        """Make a StudyConfig from named values; an unknown name is a ConfigError that lists the known ones."""
        known = [field.name for field in fields(cls)]
        for name in parameters:
            if name not in known:
                raise ConfigError(f"unknown parameter {name!r}: allowed are {', '.join(known)}")
        return cls(**parameters)

    def train_config(self, method: str) -> TrainConfig:
        """The settings of this study's training run with `method`."""
        own = ("profile", "rank", "runs_dir")
        shared = {field.name: getattr(self, field.name) for field in fields(self) if field.name not in own}
        return TrainConfig(method=method, lora=LoRAConfig.paper(self.rank) if method == "lora" else None, **shared)

    @property
    def run_root(self) -> Path:
        """The folder of this profile's runs, executed notebooks and figures."""
        return resolve_path(self.runs_dir) / self.profile


PROFILES_DIR = PROJECT_ROOT / "notebooks" / "profiles"


class _Yaml12Loader(yaml.SafeLoader):
    """Safe YAML with the four scalars of the 1.2 core schema, and no name given twice."""

    yaml_implicit_resolvers: dict = {}  # none of YAML 1.1's: octal 010, sexagesimal 1:30, yes/no, dates

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        names = [key.value for key, _ in node.value]
        for name in names:
            if names.count(name) > 1:
                raise ConfigError(f"{name!r} is given twice{node.start_mark}")
        return super().construct_mapping(node, deep=deep)


def _core_scalar(tag: str, pattern: str, first: str, convert: Callable[[str], Any]) -> None:
    # PyYAML looks resolvers up by a scalar's first character; "" is the empty scalar's.
    starts = [*first, ""] if re.fullmatch(pattern, "") else list(first)
    _Yaml12Loader.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(f"^(?:{pattern})$"), starts)
    _Yaml12Loader.add_constructor(f"tag:yaml.org,2002:{tag}", lambda _, node: convert(node.value))


_core_scalar("null", "~|null|Null|NULL|", "~nN", lambda text: None)

_core_scalar("bool", "true|True|TRUE|false|False|FALSE", "tTfF", lambda text: text.lower() == "true")

_core_scalar("int", "[-+]?[0-9]+", "-+0123456789", int)

_core_scalar("float", r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", "-+.0123456789", float)


def available_profiles() -> list[str]:
    """Return the names of the profiles in notebooks/profiles, in alphabetical order."""
    return sorted(path.stem for path in PROFILES_DIR.glob("*.yaml"))


def load_profile(name_or_path: str | Path) -> dict[str, Any]:
    """Return the parameters a profile sets, by name; `profile` is always among them.

    `name_or_path` is a name from notebooks/profiles, or a YAML file's path relative to the project's root.
    Raises ConfigError for an unknown profile, a missing file, or a file that does not map names to values.
    """
    text = str(name_or_path)
    if text.endswith((".yaml", ".yml")):
        path = resolve_path(text)
        if not path.is_file():
            raise ConfigError(f"there is no profile file {path}")
    else:
        if text not in available_profiles():
            known = ", ".join(available_profiles())
            raise ConfigError(f"unknown profile {text!r}: allowed are {known}, or the path of a .yaml file")
        path = PROFILES_DIR / f"{text}.yaml"
    parameters = _read_mapping(path)
    # A copied file that keeps the old name would silently write into the other profile's folder.
    if parameters.setdefault("profile", path.stem) != path.stem:
        raise ConfigError(
            f"{path.name} says profile: {parameters['profile']}, but must carry its own name, {path.stem}"
        )
    return parameters


def parse_override(name: str, text: str) -> Any:
    """Return the value of a parameter given as text on the command line.

    A text parameter takes the text as it stands (`image_variant 160` is "160"); others read a YAML scalar.
    Raises ConfigError for an unknown name.
    """
    types = {field.name: field.type for field in fields(StudyConfig)}
    if name not in types:
        raise ConfigError(f"unknown parameter {name!r}: allowed are {', '.join(types)}")
    if types[name] is str:
        return text
    try:
        return yaml.load(text, _Yaml12Loader)
    except yaml.YAMLError:
        return text  # StudyConfig refuses it by type, with the parameter's name


def _read_mapping(path: Path) -> dict[str, Any]:
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _Yaml12Loader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not a YAML file: {error}") from error
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    content = {} if content is None else content
    if not isinstance(content, dict) or not all(isinstance(name, str) for name in content):
        raise ConfigError(f"{path} must hold lines of the form 'name: value', not {content!r}")
    return content
