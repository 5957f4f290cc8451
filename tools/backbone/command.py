"""`python -m tools.backbone`: draw, train, write.

1. Draw the upstream pictures and the masks of their parts once, into memory-mapped files under data/cache/.
2. Train at a small size, then larger ones; a checkpoint every three minutes, and the same command goes on from it.
3. Write the weights (half precision, upstream head included), their sha256 and data/results/backbone.json.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

import torch

from tools.backbone import files
from tools.backbone.drawings import draw_cache
from tools.backbone.model import MODEL, accuracies, resize_input
from tools.backbone.recipe import LITTER_SEED, TRAIN_SEED, VAL_SEED, Recipe
from tools.backbone.tasks import trait_table
from tools.backbone.training import train
from woofkit.config import PROJECT_ROOT, ConfigError
from woofkit.sketch import litter

CACHE = PROJECT_ROOT / "data" / "cache"
WEIGHTS = PROJECT_ROOT / "data" / "backbone" / f"{MODEL}.sketch.safetensors"
RESULT = PROJECT_ROOT / "data" / "results" / "backbone.json"


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tools.backbone", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scale", type=float, default=1.0, help="this share of the pictures (0.01: a quick try)")
    parser.add_argument("--minutes", type=float, default=180.0, help="stop training after so many; run again to go on")
    parser.add_argument("--threads", type=int, default=2, help="of PyTorch; 1 is faster where other work runs")
    parser.add_argument("--workers", type=int, default=2, help="processes that draw")
    parser.add_argument("--cache", type=Path, default=CACHE, help="folder for drawings and the checkpoint")
    parser.add_argument("--out", type=Path, default=WEIGHTS, help="the safetensors file to write")
    parser.add_argument("--result", type=Path, default=RESULT, help="the json file to write")
    options = parser.parse_args(arguments)
    for name, low, high in (("scale", 1e-4, 10), ("minutes", 1e-3, 1e5), ("threads", 1, 1024), ("workers", 1, 1024)):
        if not low <= getattr(options, name) <= high:
            raise ConfigError(f"--{name} {getattr(options, name)} is out of range: allowed is {low:g} to {high:g}")
    return options


def main(arguments: list[str] | None = None) -> int:
    """Make the backbone; return 0."""
    options = _options(arguments)
    torch.set_num_threads(options.threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    recipe = Recipe().scaled(options.scale)
    breeds = litter(recipe.num_breeds, LITTER_SEED)
    drawings = {
        size: draw_cache(options.cache, breeds, TRAIN_SEED, size, number, options.workers)
        for size, number in recipe.drawings
    }
    val = draw_cache(options.cache, breeds, VAL_SEED, 224, recipe.num_val, options.workers)

    state_path = options.cache / f"pretrain-{files.short_hash(asdict(recipe))}.pt"
    model, log = train(
        recipe, drawings, trait_table(breeds), minutes=options.minutes, state_path=state_path, device=device
    )
    resize_input(model, 224)
    right = accuracies(model, val.images, recipe.num_breeds)
    finished = all(n >= s.images for n, s in zip(log["seen"], recipe.stages, strict=True))
    digest = files.write_weights(model, options.out, recipe.num_breeds)
    files.write_json(
        options.result,
        {
            "upstream_val_accuracy": right["top1"],
            "upstream_val_top5": right["top5"],
            "upstream_val_family": right["family"],
            "chance": 1 / recipe.num_breeds,
            "upstream_val_images": len(val.images),
            "finished": finished,
            "images_seen": {str(s.size): n for s, n in zip(recipe.stages, log["seen"], strict=True)},
            "drawing_minutes": round(sum(cache.seconds for cache in (*drawings.values(), val)) / 60, 1),
            "training_minutes": round(sum(log["seconds"]) / 60, 1),
            "sha256": digest,
            "recipe": asdict(recipe),
            "seeds": {"litter": LITTER_SEED, "train": TRAIN_SEED, "val": VAL_SEED},
            "threads": options.threads,
            **files.machine(),
        },
    )
    state = "finished" if finished else "not finished: run again to go on"
    print(f"upstream val accuracy {right['top1']:.1%} (chance {1 / recipe.num_breeds:.1%}), {state}", flush=True)
    return 0
