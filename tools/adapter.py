"""`python -m tools.adapter RUN`: ship the adapter of a finished LoRA run in data/adapter/, with its card.

Notebook 00 starts from it. The card, lora.json, holds the settings, the accuracy and the file's hash; nothing in it is
typed by hand.
"""

import hashlib
import json
import shutil
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from woofkit.config import PROJECT_ROOT, ConfigError, TrainConfig
from woofkit.files import write_atomic
from woofkit.models import run_classes
from woofkit.results import is_finished, read_config, read_metrics

FOLDER = PROJECT_ROOT / "data" / "adapter"
MEASURED = ("test_accuracy", "test_accuracy_low", "test_accuracy_high", "num_test_images", "num_train_images")
MEASURED += ("trainable_parameters", "total_parameters", "checkpoint_bytes", "precision")


def ship_adapter(run: Path, folder: Path = FOLDER) -> Path:
    """Copy a finished run's adapter into `folder` as lora.safetensors, write its card beside it, return the card.

    Raises ConfigError for a run that is not finished, or that is not LoRA's on drawings with the bundled backbone.
    """
    if not is_finished(run):
        raise ConfigError(f"{run} is no finished run: python -m woofkit run trains and finishes one")
    settings, metrics = read_config(run), read_metrics(run)
    wanted = {"method": "lora", "dataset": "sketchwoof", "weights": "bundled", "label": "breed"}
    for name, value in wanted.items():
        if settings[name] != value:
            raise ConfigError(f"{run.name} has {name} = {settings[name]!r}: what is shipped has {value!r}")
    classes = run_classes(TrainConfig(**settings))
    content = (run / "adapter.safetensors").read_bytes()
    card = {"classes": classes, "sha256": hashlib.sha256(content).hexdigest(), "settings": settings}
    card["measured"] = {name: metrics[name] for name in MEASURED}
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / "lora.safetensors", partial(shutil.copyfile, run / "adapter.safetensors"))
    write_atomic(
        folder / "lora.json", partial(Path.write_text, data=json.dumps(card, indent=2) + "\n", encoding="utf-8")
    )
    return folder / "lora.json"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return 0, or 2 after a refusal."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    if len(given) != 1:
        print("usage: python -m tools.adapter RUN", file=sys.stderr)
        return 2
    try:
        print(ship_adapter(Path(given[0])))
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
