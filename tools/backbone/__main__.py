"""`python -m tools.backbone`: draw, train, write.

1. Draw the upstream pictures and the masks of their parts once, into memory-mapped files under data/cache/.
2. Train at a small size, then at larger ones. A checkpoint is written every three minutes; the same command continues.
3. Write the weights (half precision, upstream head included), their sha256 and data/results/backbone.json.
"""

import sys
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch

from tools.backbone.drawings import draw_cache, short_hash
from tools.backbone.recipe import LITTER_SEED, MODEL, TRAIN_SEED, VAL_SEED, Recipe
from tools.backbone.tasks import accuracies, trait_table
from tools.backbone.training import resize_input, train
from tools.backbone.weights import write_weights
from woofkit.config import PROJECT_ROOT, ConfigError
from woofkit.fast.runtime import pick_precision
from woofkit.files import describe_environment, write_json
from woofkit.sketch import litter

DATA = PROJECT_ROOT / "data"
LIMITS = {"scale": (1e-4, 10), "minutes": (1e-3, 1e5), "threads": (1, 1024), "workers": (1, 1024)}


def _options(arguments: Sequence[str] | None) -> Namespace:
    parser = ArgumentParser(
        "python -m tools.backbone", description=__doc__, formatter_class=RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    weights = DATA / "backbone" / f"{MODEL}.sketch.safetensors"
    add("--scale", type=float, default=1.0, help="this share of the pictures (0.01: a quick try)")
    add("--minutes", type=float, default=180.0, help="stop training after so many; run again to continue")
    add("--threads", type=int, default=2, help="of PyTorch; 1 is faster where other work runs")
    add("--workers", type=int, default=2, help="processes that draw")
    add("--cache", type=Path, default=DATA / "cache", help="folder for drawings and the checkpoint")
    add("--out", type=Path, default=weights, help="the safetensors file to write")
    add("--result", type=Path, default=DATA / "results" / "backbone.json", help="the JSON file to write")
    options = parser.parse_args(arguments)
    for name, (low, high) in LIMITS.items():
        value = getattr(options, name)
        if not low <= value <= high:
            raise ConfigError(f"--{name} {value} is out of range: allowed is {low:g} to {high:g}")
    return options


def make_backbone(options: Namespace) -> None:
    """Draw, train as long as the options allow, and write what is there."""
    torch.set_num_threads(options.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    recipe = Recipe().scaled(options.scale)
    breeds = litter(recipe.num_breeds, LITTER_SEED)
    draw = partial(draw_cache, options.cache, breeds, workers=options.workers)
    drawings = {size: draw(TRAIN_SEED, size, number) for size, number in recipe.drawings}
    val = draw(VAL_SEED, 224, recipe.num_val)

    state_path = options.cache / f"pretrain-{short_hash(asdict(recipe))}.pt"
    traits = trait_table(breeds).to(device)
    model, log = train(recipe, drawings, traits, minutes=options.minutes, state_path=state_path)
    resize_input(model, 224)
    right = accuracies(model, val.images, recipe.num_breeds)
    finished = all(seen >= stage.images for seen, stage in zip(log["seen"], recipe.stages, strict=True))
    result = {
        "upstream_val_accuracy": right["top1"],
        "upstream_val_top5": right["top5"],
        "upstream_val_family": right["family"],
        "chance": 1 / recipe.num_breeds,
        "upstream_val_images": len(val.images),
        "finished": finished,
        "images_seen": {str(stage.size): seen for stage, seen in zip(recipe.stages, log["seen"], strict=True)},
        "drawing_minutes": round(sum(cache.seconds for cache in (*drawings.values(), val)) / 60, 1),
        "training_minutes": round(sum(log["seconds"]) / 60, 1),
        "sha256": write_weights(model, options.out, recipe.num_breeds),
        "recipe": asdict(recipe),
        "seeds": {"litter": LITTER_SEED, "train": TRAIN_SEED, "val": VAL_SEED},
        "threads": options.threads,
        **describe_environment(device),
        "precision": pick_precision("auto", device),
    }
    options.result.parent.mkdir(parents=True, exist_ok=True)
    write_json(options.result, result)
    state = "finished" if finished else "not finished: run again to continue"
    print(f"upstream val accuracy {right['top1']:.1%} (chance {1 / recipe.num_breeds:.1%}), {state}", flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the backbone; return 0 (done), 2 (refused before it began) or 130 (interrupted)."""
    try:
        make_backbone(_options(arguments))
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; the same command continues where this one stopped", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
