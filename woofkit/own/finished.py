"""A finished run ready for use: its model with what belongs to it, so that other pictures are cut as its own were."""

import json
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from woofkit.adapters import import_peft, load_run_model
from woofkit.config import ConfigError, StudyConfig, TrainConfig
from woofkit.data import Transform, make_transform
from woofkit.datasets.folder import readable
from woofkit.models import class_names, data_config, new_model, run_classes
from woofkit.results import is_finished, read_metrics
from woofkit.storage.peft import CONFIG_FILE as PEFT_FILE

RUN_FILE, COPIED_FILE = "config.json", "run.json"  # a run's settings, and their copy in an exported folder
ALLOWED = "allowed is the folder of a finished run (python -m woofkit runs lists them), or of an adapter of PEFT"


@dataclass(frozen=True, eq=False)
class Finished:
    """A model in eval mode on the CPU, LoRA's adapters on and unmerged, and what it takes and gives.

    class_names: what its outputs stand for, in their order.
    """

    model: nn.Module
    transform: Transform
    class_names: tuple[str, ...]
    config: TrainConfig


def load_finished(folder: Path, study: StudyConfig | None = None) -> Finished:
    """Load a run's folder, or a PEFT folder whose settings lie beside it or are those of `study`.

    PEFT does not record its base, so that an adapter on the wrong one is refused only where its shapes do not fit.

    Raises:
        ConfigError: the folder is neither, the run is not finished or has settings of its own beside `study`, the
            settings of an adapter are not to be found, or as `load_run_model` and `import_peft`.
    """
    if not folder.is_dir():
        raise ConfigError(f"there is no folder {folder}: {ALLOWED}")
    if (folder / PEFT_FILE).is_file():
        return _load_peft(folder, study)
    if not (folder / RUN_FILE).is_file():
        raise ConfigError(f"{folder} is not a run, as it has no {RUN_FILE}: {ALLOWED}")
    if study:
        raise ConfigError(
            f"{folder} has settings of its own: --profile and -p are allowed for an adapter of PEFT alone"
        )
    require_finished(folder)
    config, classes = _read_settings(folder / RUN_FILE)
    return _ready(load_run_model(folder), config, classes)


def require_finished(run: Path) -> None:
    """Raise ConfigError unless a run is finished."""
    if not is_finished(run):
        read_metrics(run)  # which says what is damaged
        raise ConfigError(f"run {run} is not finished: the command that began it goes on with it")


def _load_peft(folder: Path, study: StudyConfig | None) -> Finished:
    if study:
        config = study.train_config("lora")
        classes = run_classes(config)
    else:
        places = [place / name for place in (folder, folder.parent) for name in (RUN_FILE, COPIED_FILE)]
        found = next((file for file in places if file.is_file()), None)
        if found is None:
            raise ConfigError(
                f"{folder} is an adapter without settings: allowed is {RUN_FILE} of its run or {COPIED_FILE} of its "
                "export, in it or in the folder above it, or --profile and -p with the settings of its run"
            )
        config, classes = _read_settings(found)
    model = new_model(config, classes)
    import_peft(model, folder)
    return _ready(model.eval(), config, classes)


def _read_settings(file: Path) -> tuple[TrainConfig, tuple[str, ...]]:
    """The settings of a run and its classes, wherever its images are now."""
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
        settings, classes = record["config"], tuple(record.get("classes", ()))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{file} is damaged: {error!r}") from error
    anywhere = str(file.parent) if settings["dataset"] == "folder" else ""
    return TrainConfig(**settings | {"data_dir": anywhere}), classes


def _ready(model: nn.Module, config: TrainConfig, classes: tuple[str, ...]) -> Finished:
    names = readable(classes) if classes else class_names(config)
    if len(names) != model.num_classes:
        raise ConfigError(f"the model knows {model.num_classes} classes, and its settings name {len(names)}")
    return Finished(model, make_transform(data_config(model), config.preprocess), names, config)
