"""`make backbone`: pretrain a ViT-Tiny from random weights on a litter of invented breeds.

1. Draw upstream train and val pictures once, into memory-mapped files under data/cache/.
2. Train at 96 px, then 160, then 224, along one cosine; a checkpoint every few minutes, and the same command goes on.
3. Write data/backbone/*.safetensors (half precision, upstream head included), its sha256 and data/results/backbone.json.
"""

from __future__ import annotations

import argparse
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from woofkit import pretrain_files as files
from woofkit.config import PROJECT_ROOT, ConfigError
from woofkit.sketch import litter
from woofkit.sketch.traits import CHOICES, NUMBERS, Traits

MODEL = "vit_tiny_patch16_224"
CACHE = PROJECT_ROOT / "data" / "cache"
WEIGHTS = PROJECT_ROOT / "data" / "backbone" / f"{MODEL}.sketch.safetensors"
RESULT = PROJECT_ROOT / "data" / "results" / "backbone.json"
LITTER_SEED, TRAIN_SEED, VAL_SEED = 20260, 7_000_001, 7_000_002


@dataclass(frozen=True)
class Stage:
    """Train on `images` pictures (repeats counted) at `size` pixels, cut or shrunk from drawings of `drawn` pixels."""

    size: int
    images: int
    drawn: int


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the weights, up to rounding on another machine."""

    num_breeds: int = 200
    stages: tuple[Stage, ...] = (Stage(96, 160_000, 112), Stage(160, 20_000, 224), Stage(224, 13_000, 224))
    drawings: tuple[tuple[int, int], ...] = ((112, 48_000), (224, 12_000))  # (pixels a side, how many)
    num_val: int = 1_000
    batch_size: int = 64
    lr: float = 1e-3
    weight_decay: float = 0.05
    warmup: float = 0.05  # share of the schedule
    label_smoothing: float = 0.1
    trait_weight: float = 1.0  # of the second task: name the breed's traits
    seed: int = 0

    def scaled(self, factor: float) -> Recipe:
        """The same recipe with `factor` times the pictures, drawn and seen."""
        stages = tuple(Stage(s.size, max(self.batch_size, int(s.images * factor)), s.drawn) for s in self.stages)
        drawings = tuple((size, max(self.num_breeds, int(n * factor))) for size, n in self.drawings)
        num_val = max(self.num_breeds, int(self.num_val * min(1.0, factor)))
        return Recipe(**{**vars(self), "stages": stages, "drawings": drawings, "num_val": num_val})


def trait_table(breeds: list[Traits]) -> Tensor:
    """Return the breeds' traits (B, T), each 0 to 1: the numbers as they are, every word as 0 or 1."""
    rows = []
    for breed in breeds:
        words = [float(getattr(breed, name) == word) for name, allowed in CHOICES.items() for word in allowed]
        rows.append([getattr(breed, name) for name in NUMBERS] + words)
    return torch.tensor(rows, dtype=torch.float32)


def progress_of(recipe: Recipe, seen: list[int]) -> float:
    """Return how far the schedule is, 0 to 1, counting patches and not pictures: large pictures take longer."""
    cost = [s.size**2 for s in recipe.stages]
    total = sum(c * s.images for c, s in zip(cost, recipe.stages, strict=True))
    return sum(c * n for c, n in zip(cost, seen, strict=True)) / total


def lr_at(recipe: Recipe, progress: float) -> float:
    """Return the learning rate: linear warm-up, then a cosine to zero."""
    if progress < recipe.warmup:
        return recipe.lr * (progress + 1e-3) / recipe.warmup
    return recipe.lr * 0.5 * (1 + math.cos(math.pi * (progress - recipe.warmup) / (1 - recipe.warmup)))


def make_batch(pictures: np.ndarray, stage: Stage, recipe: Recipe, step: int) -> tuple[Tensor, np.ndarray]:
    """Return batch number `step` of a stage: float (B, 3, S, S) in -1 to 1, and which drawings (B,) they are.

    A function of its arguments alone, so that a resumed run sees what an unbroken one would have seen.
    """
    per_epoch = len(pictures) // recipe.batch_size
    epoch, place = divmod(step, per_epoch)
    order = np.random.default_rng([recipe.seed, stage.size, epoch]).permutation(len(pictures))
    chosen = order[place * recipe.batch_size : (place + 1) * recipe.batch_size]
    rng = np.random.default_rng([recipe.seed, stage.size, epoch, place])
    batch = torch.from_numpy(pictures[np.sort(chosen)]).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)
    cut = stage.size if stage.drawn < 1.3 * stage.size else int(stage.drawn * rng.uniform(0.8, 1.0))
    room = stage.drawn - cut
    corners = rng.integers(0, room + 1, (len(batch), 2))
    batch = torch.stack(
        [image[:, r : r + cut, c : c + cut] for image, (r, c) in zip(batch, corners.tolist(), strict=True)]
    )
    if cut != stage.size:
        batch = F.interpolate(batch, size=stage.size, mode="bilinear", antialias=True)
    flip = torch.from_numpy(rng.uniform(size=len(batch)) < 0.5)
    batch[flip] = batch[flip].flip(3)
    tint = torch.from_numpy(rng.uniform(0.9, 1.1, (len(batch), 3, 1, 1)).astype(np.float32))
    return ((batch + 1) * tint - 1).clamp_(-1, 1), np.sort(chosen)


def new_model(recipe: Recipe) -> tuple[nn.Module, nn.Linear]:
    """Return a ViT-Tiny with random weights for 96 px and the second task's head."""
    torch.manual_seed(recipe.seed)
    model = timm.create_model(MODEL, num_classes=recipe.num_breeds, img_size=recipe.stages[0].size)
    for block in model.blocks:  # on a CPU, in bf16 and with so few tokens, the plain attention is the faster one
        block.attn.fused_attn = False
    return model, nn.Linear(model.num_features, len(trait_table(litter(1, 0))[0]))


def train(recipe: Recipe, pictures: dict[int, np.ndarray], *, deadline: float, state_path: Path) -> tuple[nn.Module, dict]:
    """Train until the recipe is done or `deadline` (time.monotonic seconds); return the model and the run's log."""
    breeds = litter(recipe.num_breeds, LITTER_SEED)
    table = trait_table(breeds)
    model, trait_head = new_model(recipe)
    parameters = [*model.parameters(), *trait_head.parameters()]
    groups = [{"params": [p for p in parameters if p.ndim > 1], "weight_decay": recipe.weight_decay},
              {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0}]  # fmt: skip
    optimizer = torch.optim.AdamW(groups, lr=recipe.lr)
    log = {"seen": [0] * len(recipe.stages), "seconds": [0.0] * len(recipe.stages), "size": recipe.stages[0].size}
    state = files.load_state(state_path)
    if state:
        log = state["log"]
        model.set_input_size(log["size"])
        model.load_state_dict(state["model"])
        trait_head.load_state_dict(state["trait_head"])
        optimizer.load_state_dict(state["optimizer"])
        print(f"going on from {state_path.name}: {sum(log['seen']):,} pictures seen", flush=True)

    def save() -> None:
        files.save_state(state_path, {"model": model.state_dict(), "trait_head": trait_head.state_dict(),
                                      "optimizer": optimizer.state_dict(), "log": log})  # fmt: skip

    model.train()
    saved, work_begun = time.monotonic(), (time.monotonic(), progress_of(recipe, log["seen"]))
    for number, stage in enumerate(recipe.stages):
        if log["seen"][number] >= stage.images:
            continue
        if log["size"] != stage.size:
            # timm resamples the position embedding; it stays one parameter, so AdamW's memory of it starts anew.
            optimizer.state.pop(model.pos_embed, None)
            old = model.pos_embed
            model.set_input_size(stage.size)
            for group in optimizer.param_groups:
                group["params"] = [model.pos_embed if p is old else p for p in group["params"]]
            log["size"] = stage.size
        recent = {"loss": 0.0, "right": 0, "count": 0, "begun": time.monotonic()}
        while log["seen"][number] < stage.images and time.monotonic() < deadline:
            begun = time.monotonic()
            step = log["seen"][number] // recipe.batch_size
            for group in optimizer.param_groups:
                group["lr"] = lr_at(recipe, progress_of(recipe, log["seen"]))
            images, chosen = make_batch(pictures[stage.drawn], stage, recipe, step)
            labels = torch.from_numpy(chosen % recipe.num_breeds)
            with torch.autocast("cpu", torch.bfloat16):
                features = model.forward_head(model.forward_features(images), pre_logits=True)
                logits, traits = model.head(features).float(), trait_head(features).float()
            loss = F.cross_entropy(logits, labels, label_smoothing=recipe.label_smoothing)
            second = F.binary_cross_entropy_with_logits(traits, table[labels])
            optimizer.zero_grad()
            (loss + recipe.trait_weight * second).backward()
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            log["seen"][number] += len(labels)
            log["seconds"][number] += time.monotonic() - begun
            recent["loss"] += loss.item() * len(labels)
            recent["right"] += int((logits.argmax(1) == labels).sum())
            recent["count"] += len(labels)
            if step % 20 == 19:
                _print_progress(recipe, stage, log["seen"], number, recent, work_begun)
                recent = {"loss": 0.0, "right": 0, "count": 0, "begun": time.monotonic()}
            if time.monotonic() - saved > 180:
                save()
                saved = time.monotonic()
        save()
    return model, log


def _print_progress(recipe: Recipe, stage: Stage, seen: list[int], number: int, recent: dict, begun: tuple) -> None:
    now = time.monotonic()
    done = progress_of(recipe, seen)
    left = (1 - done) * (now - begun[0]) / max(done - begun[1], 1e-9)
    rate = recent["count"] / (now - recent["begun"])
    print(f"{stage.size:3d} px  {seen[number]:>6,}/{stage.images:,} pictures  loss {recent['loss'] / recent['count']:.3f}"
          f"  accuracy {100 * recent['right'] / recent['count']:.1f} %  {rate:.1f} images/s"
          f"  {int(left // 60)}:{int(left % 60):02d} left", flush=True)  # fmt: skip


@torch.inference_mode()
def accuracy(model: nn.Module, pictures: np.ndarray, num_breeds: int, batch_size: int = 50) -> float:
    """Return the share of pictures (N, S, S, 3) whose breed the model names; picture i shows breed i % num_breeds."""
    model.eval()
    right = 0
    for start in range(0, len(pictures), batch_size):
        batch = torch.tensor(pictures[start : start + batch_size]).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)
        with torch.autocast("cpu", torch.bfloat16):
            named = model(batch).argmax(1)
        right += int((named == torch.arange(start, start + len(batch)) % num_breeds).sum())
    return right / len(pictures)


def main(arguments: list[str] | None = None) -> int:
    """Run `python -m woofkit backbone`."""
    parser = argparse.ArgumentParser(prog="python -m woofkit backbone", description=__doc__.splitlines()[0])
    parser.add_argument("--scale", type=float, default=1.0, help="this share of the pictures (0.01: a quick try)")
    parser.add_argument("--minutes", type=float, default=180.0, help="stop training after so many; go on by running again")
    parser.add_argument("--threads", type=int, default=2, help="of PyTorch; 1 is faster where other work runs")
    parser.add_argument("--workers", type=int, default=2, help="processes that draw")
    parser.add_argument("--out", type=Path, default=WEIGHTS, help="the safetensors file to write")
    parser.add_argument("--result", type=Path, default=RESULT, help="the json file to write")
    options = parser.parse_args(arguments)
    if not 0 < options.scale <= 10 or options.minutes <= 0 or min(options.threads, options.workers) < 1:
        raise ConfigError("allowed are --scale above 0 to 10, --minutes above 0, --threads and --workers from 1")
    torch.set_num_threads(options.threads)
    recipe = Recipe().scaled(options.scale)
    breeds = litter(recipe.num_breeds, LITTER_SEED)
    draw = {size: files.draw_cache(CACHE, breeds, TRAIN_SEED, size, number, options.workers)
            for size, number in recipe.drawings}  # fmt: skip
    val = files.draw_cache(CACHE, breeds, VAL_SEED, 224, recipe.num_val, options.workers)

    key = files.short_hash(asdict(recipe))
    deadline = time.monotonic() + 60 * options.minutes
    model, log = train(recipe, draw, deadline=deadline, state_path=CACHE / f"pretrain-{key}.pt")
    model.set_input_size(224)
    upstream = accuracy(model, val, recipe.num_breeds)
    finished = all(n >= s.images for n, s in zip(log["seen"], recipe.stages, strict=True))
    result = {
        "upstream_val_accuracy": upstream, "chance": 1 / recipe.num_breeds, "upstream_val_images": len(val),
        "finished": finished, "images_seen": dict(zip([s.size for s in recipe.stages], log["seen"], strict=True)),
        "training_minutes": round(sum(log["seconds"]) / 60, 1), "recipe": asdict(recipe),
        "seeds": {"litter": LITTER_SEED, "train": TRAIN_SEED, "val": VAL_SEED}, **files.machine(),
    }  # fmt: skip
    result["sha256"] = files.write_weights(model, options.out, recipe.num_breeds)
    files.write_json(options.result, result)
    print(f"upstream val accuracy {100 * upstream:.1f} % (chance {100 / recipe.num_breeds:.1f} %)  "
          f"{'finished' if finished else 'not finished: run again to go on'}  {options.out.name}", flush=True)  # fmt: skip
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
