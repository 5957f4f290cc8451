"""Small models, pictures and widget handles that several tests share."""

import base64
import functools
import io
import re
import statistics
import time
from html import unescape

import numpy as np
import timm
import torch
from hypothesis import HealthCheck, settings
from PIL import Image
from torch import nn

from woofkit.config import LoRAConfig
from woofkit.data import IMAGENET_MEAN, IMAGENET_STD, Images, Transform, make_transform
from woofkit.datasets import imagewoof
from woofkit.lora import add_lora


def budget(examples, seconds=5.0, **options):
    """Decorate a law, above `given`: it is tried with so many examples, but with no new one after so many seconds."""

    def decorate(law):
        law.hypothesis.inner_test = _until(seconds, law.hypothesis.inner_test)
        function_scoped = [HealthCheck.function_scoped_fixture]
        return settings(max_examples=examples, deadline=None, suppress_health_check=function_scoped, **options)(law)

    return decorate


def _until(seconds, test):
    begin, failed = None, False

    @functools.wraps(test)
    def within(*values, **named):
        nonlocal begin, failed
        begin = begin or time.monotonic()
        if failed or time.monotonic() - begin < seconds:  # what has failed is tried with less, however long it takes
            try:
                test(*values, **named)
            except Exception:
                failed = True
                raise

    return within


def tiny_vit(name="vit_tiny_patch16_224", **settings):
    torch.manual_seed(0)
    # four heads, not three: else a mix-up of heads with q, k and v could hide
    sizes = {"depth": 2, "embed_dim": 48, "num_heads": 4, "img_size": 32, "patch_size": 8, "num_classes": 10}
    return timm.create_model(name, pretrained=False, **(sizes | settings)).eval()


def images(*size, seed=1):
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed))


def trained_lora(model):
    """Adapters that do something, as if trained."""
    add_lora(model, LoRAConfig(rank=4, alpha=8.0, bias=True))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.normal_(std=0.2)
    return model


def hook_count(model):
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())


def set_fused(model, fused):
    """Let every block compute its attention with the fused kernel, or with explicit matrix products."""
    for block in model.blocks:
        block.attn.fused_attn = fused
    return model


def forward_written_out(model, x):
    """A forward written out, so that every layer's attention is a tensor of autograd's graph: logits, [attention]."""
    tokens = model.norm_pre(model.patch_drop(model._pos_embed(model.patch_embed(x))))
    layers = []
    for block in model.blocks:
        attn, (batch, count, dim) = block.attn, tokens.shape
        q, k, v = attn.qkv(block.norm1(tokens)).reshape(batch, count, 3, attn.num_heads, -1).permute(2, 0, 3, 1, 4)
        attention = (attn.q_norm(q) @ attn.k_norm(k).mT / attn.head_dim**0.5).softmax(-1)
        attention.requires_grad_()
        layers.append(attention)
        tokens = tokens + attn.proj(attn.norm((attention @ v).transpose(1, 2).reshape(batch, count, dim)))
        tokens = tokens + block.mlp(block.norm2(tokens))
    return model.forward_head(model.norm(tokens)), layers


def data_config(size, **changes):
    """What timm says of a model for square images of this size."""
    config = {"input_size": (3, size, size), "interpolation": "bicubic", "crop_pct": 0.9, "crop_mode": "center"}
    return config | {"mean": (0.5,) * 3, "std": (0.5,) * 3} | changes


def transform_for(size):
    return make_transform(data_config(size, crop_pct=1.0))


def imagewoof_folder(tmp_path, monkeypatch, **counts):
    """A folder in ImageWoof's layout: `train` and `val` images of noise per breed, the first new to pretraining."""
    rng = np.random.default_rng(0)
    root = tmp_path / "imagewoof2-160"
    for split, count in counts.items():
        for wnid in imagewoof.WNIDS:
            (root / split / wnid).mkdir(parents=True)
            for i in range(count):
                name = f"ILSVRC2012_val_{split}_{i}" if i == 0 else f"{wnid}_{i}"
                width, height = rng.integers(40, 80, 2)
                shape = (height, width) if i == 1 else (height, width, 3)  # one grey file per breed
                pixels = rng.integers(0, 256, shape, dtype=np.uint8)
                Image.fromarray(pixels).save(root / split / wnid / f"{name}.JPEG")
    sizes = [10 * counts[split] for split in ("train", "val")]
    monkeypatch.setitem(imagewoof.ARCHIVES, "160", imagewoof.Archive("", "", root.name, *sizes))
    return root


def noise(count, size=32):
    """Images of noise, (count, 3, size, size), without labels; the same each time."""
    pixels = torch.randint(
        0, 256, (count, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    return Images(pixels, None, transform_for(size))


def train_a_little(model, images, steps=3):
    """A few steps of Adam on whatever is trainable, so that adapters are no longer zero."""
    torch.manual_seed(0)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=0.01)
    labels = torch.arange(len(images)) % 10
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()
    return model


TRANSFORM = Transform(32, 32, Image.Resampling.BILINEAR, False, IMAGENET_MEAN, IMAGENET_STD)


def random_models(*names, **sizes):
    """Models alike in shape, each with weights of its own, large enough for maps that differ."""
    models = {}
    for seed, name in enumerate(names):
        models[name] = tiny_vit(depth=3, **sizes)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in models[name].parameters():
                parameter.normal_(std=0.2, generator=generator)
    return models


def control(box, name):
    """The control with this visible label."""
    found = [child for child in walk(box) if getattr(child, "description", None) == name]
    assert len(found) == 1, f"{len(found)} controls are called {name!r}"
    return found[0]


def walk(box):
    yield box
    for child in getattr(box, "children", ()):
        yield from walk(child)


def page(box):
    return box.children[-1].value


def words(box):
    return " ".join(unescape(re.sub(r"<img.*?>|<style>.*?</style>|<.*?>", " ", page(box), flags=re.S)).split())


def pictures(box):
    return [Image.open(io.BytesIO(base64.b64decode(data))) for data in re.findall('base64,([^"]+)', page(box))]


def alts(box):
    """The words for those who cannot see the pictures."""
    return [unescape(alt) for alt in re.findall('<img alt="([^"]*)"', page(box))]


def median_seconds(control, values):
    """How long one change of a control takes, with all that follows from it."""
    taken = []
    for value in values:
        begin = time.perf_counter()
        control.value = value
        taken.append(time.perf_counter() - begin)
    return statistics.median(taken)


def lacking(text, *passages):
    """Those of the passages that do not stand in a text."""
    return [passage for passage in passages if passage not in text]


def message(box):
    [line] = [child.value for child in walk(box) if 'role="alert"' in str(getattr(child, "value", ""))] or [""]
    return unescape(re.sub("<.*?>", "", line))
