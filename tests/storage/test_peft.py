"""Against Hugging Face PEFT as the oracle: the same numbers, and files that either side reads."""

import contextlib
import copy
import json
import time
import warnings

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from helpers import train_a_little
from woofkit.adapters import export_peft, import_peft, load_adapter, save_adapter
from woofkit.config import ConfigError, LoRAConfig
from woofkit.lora import add_lora, lora_layers, merge_lora
from woofkit.storage.peft import CONFIG_FILE, WEIGHTS_FILE

PAPER = LoRAConfig.paper(rank=5)
RSLORA = LoRAConfig(rank=6, alpha=3.0, rslora=True, modules_to_save=("norm", "head"))
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-9}


def vit(depth):
    """The study's architecture, which has twelve blocks, on images small enough for a test."""
    torch.manual_seed(0)
    return timm.create_model("vit_tiny_patch16_224", img_size=48, num_classes=10, depth=depth).eval()


def oracle(model: nn.Module, config: LoRAConfig) -> nn.Module:
    """PEFT's model with the settings of ours."""
    import peft  # not above: it takes seconds of every process that collects the tests

    settings = peft.LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        target_modules=list(config.targets),
        use_rslora=config.rslora,
        lora_bias=config.bias,
        modules_to_save=list(config.modules_to_save) or None,
    )
    return peft.get_peft_model(model, settings)


def pairs(ours: nn.Module, theirs: nn.Module) -> list[tuple[str, nn.Parameter, nn.Parameter]]:
    """Every trained parameter of ours beside PEFT's."""
    other = dict(theirs.named_parameters())
    found = []
    for name, parameter in ours.named_parameters():
        if parameter.requires_grad:
            stem, _, kind = name.rpartition(".lora_")
            path = (
                {
                    "A": f"{stem}.lora_A.default.weight",
                    "B": f"{stem}.lora_B.default.weight",
                    "bias": f"{stem}.lora_B.default.bias",
                }.get(kind)
                if stem
                else ("{}.modules_to_save.default.{}".format(*name.rsplit(".", 1)))
            )
            found.append((name, parameter, other[f"base_model.model.{path}"]))
    return found


def apart(ours: list[torch.Tensor], theirs: list[torch.Tensor]) -> float:
    """|ours - theirs| / |theirs|, all tensors as one vector."""
    one, other = (torch.cat([t.detach().double().flatten() for t in tensors]) for tensors in (ours, theirs))
    return float((one - other).norm() / other.norm())


@pytest.mark.parametrize(
    ("dtype", "depth"),
    [pytest.param(torch.float32, 12, marks=pytest.mark.long), (torch.float64, 3)],
    ids=["float32", "float64"],
)
@pytest.mark.parametrize("config", [PAPER, RSLORA], ids=["LoRA", "rsLoRA"])
@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.Adam])
def test_outputs_gradients_and_twenty_steps_agree_with_peft(kind, config, dtype, depth):
    model = vit(depth)
    torch.manual_seed(1)
    images, labels = torch.randn(6, 3, 48, 48, dtype=dtype), torch.arange(6)
    ours = add_lora(copy.deepcopy(model).to(dtype), config)
    theirs = oracle(copy.deepcopy(model).to(dtype), config)
    together = pairs(ours, theirs)
    assert sum(p.numel() for p in theirs.parameters() if p.requires_grad) == sum(p.numel() for _, p, _ in together)
    with torch.no_grad():
        for name, mine, other in together:
            if ".lora_" in name:  # B away from zero, or A would have no gradient yet
                nn.init.normal_(mine, std=0.05)
            other.copy_(mine)
    assert apart([ours(images)], [theirs(images)]) < TOLERANCE[dtype]

    rate = {torch.optim.SGD: 0.02, torch.optim.Adam: 1e-3}[kind]
    optimizers = [kind([p for p in m.parameters() if p.requires_grad], lr=rate) for m in (ours, theirs)]
    for step in range(20):
        for each, optimizer in zip((ours, theirs), optimizers, strict=True):
            optimizer.zero_grad()
            nn.functional.cross_entropy(each(images), labels).backward()
        if step == 0:
            assert apart([p.grad for _, p, _ in together], [q.grad for *_, q in together]) < TOLERANCE[dtype]
            before = [p.detach().clone() for _, p, _ in together]
        for optimizer in optimizers:
            optimizer.step()
    if kind is torch.optim.Adam:
        # A shift of all keys changes no attention: their bias has no gradient but rounding, which Adam blows up
        # to whole steps, in a direction that means nothing.
        keys = slice(model.embed_dim, 2 * model.embed_dim)
        for name, *both in together:
            if name.endswith("qkv.lora_bias"):
                for parameter in both:
                    assert parameter.grad[keys].norm() < 1e-6 * parameter.grad.norm()
                    parameter.data[keys] = 0
    mine, other = [p for _, p, _ in together], [q for *_, q in together]
    assert apart(mine, other) < TOLERANCE[dtype]
    assert apart(mine, before) > 1e-3  # they moved
    assert apart([ours(images)], [theirs(images)]) < TOLERANCE[dtype]


ADAPTERS = {
    "LoRA": PAPER,
    "rsLoRA": RSLORA,
    "no head": LoRAConfig(rank=2, targets=("mlp.fc1",), modules_to_save=()),
    "parts, one A": LoRAConfig(rank=3, alpha=6.0, targets=("attn.qkv[qv]", "attn.proj"), bias=True),
    "parts, one A each": LoRAConfig(
        rank=3, alpha=2.0, targets=("attn.qkv[kv]", "attn.proj"), shared_A=False, bias=True
    ),
    "parts, rsLoRA": LoRAConfig(rank=2, targets=("attn.qkv[qkv]", "mlp.fc2"), shared_A=False, rslora=True),
    "blocks": LoRAConfig(rank=2, blocks=(1, 2), modules_to_save=("head",)),
}


@pytest.mark.parametrize("config", ADAPTERS.values(), ids=ADAPTERS)
def test_peft_reads_what_we_export_and_we_read_it_back(small_vit, images, tmp_path, config):
    import peft

    model = train_a_little(add_lora(copy.deepcopy(small_vit), config), images)
    export_peft(model, config, tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        theirs = peft.PeftModel.from_pretrained(copy.deepcopy(small_vit), str(tmp_path)).eval()
    logits = model(images)
    assert not torch.allclose(logits, small_vit(images), atol=1e-3)
    assert apart([theirs(images)], [logits]) < 1e-5
    back = copy.deepcopy(small_vit)
    settings = import_peft(back, tmp_path)
    assert apart([back(images)], [logits]) < 1e-5
    save_adapter(back, settings, tmp_path / "ours.safetensors")
    assert load_adapter(small_vit, tmp_path / "ours.safetensors")(images).equal(back(images))


@pytest.mark.filterwarnings("ignore:Adapter 'default'")  # PEFT 0.21 takes its own lora_bias for a broken shard
@pytest.mark.parametrize(
    "config", [PAPER, RSLORA, LoRAConfig(rank=2, modules_to_save=())], ids=["LoRA", "rsLoRA", "bare"]
)
def test_we_read_what_peft_saves(small_vit, images, tmp_path, config):
    theirs = train_a_little(oracle(copy.deepcopy(small_vit), config), images)
    theirs.eval().save_pretrained(str(tmp_path))
    settings = import_peft(small_vit, tmp_path)
    assert (settings.rank, settings.scaling, settings.bias) == (config.rank, config.scaling, config.bias)
    assert sorted(settings.targets) == sorted(config.targets)
    assert sorted(settings.modules_to_save) == sorted(config.modules_to_save)
    assert apart([small_vit(images)], [theirs(images)]) < 1e-5
    trained = {name.split(".lora_")[0] for name, p in small_vit.named_parameters() if p.requires_grad}
    assert trained == {
        *lora_layers(small_vit),
        *(f"{m}.{k}" for m in config.modules_to_save for k in ("weight", "bias")),
    }
    assert apart([merge_lora(small_vit)(images)], [theirs(images)]) < 1e-5


def test_layers_of_different_rank_and_scaling_become_one_rank_with_the_same_update(small_vit, images, tmp_path):
    import peft

    settings = peft.LoraConfig(
        r=2,
        lora_alpha=3,
        target_modules=["attn.qkv", "attn.proj", "fc1"],
        rank_pattern={"attn.qkv": 5, "blocks.1.mlp.fc1": 1},
        alpha_pattern={"fc1": 7},
    )
    theirs = train_a_little(peft.get_peft_model(copy.deepcopy(small_vit), settings), images).eval()
    theirs.save_pretrained(str(tmp_path))
    assert import_peft(small_vit, tmp_path).rank == 5
    assert apart([small_vit(images)], [theirs(images)]) < 1e-5


def edit_settings(**changes):
    def edit(folder):
        path = folder / CONFIG_FILE
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return edit


def edit_tensors(change):
    def edit(folder):
        tensors = load_file(folder / WEIGHTS_FILE)
        change(tensors)
        save_file(tensors, folder / WEIGHTS_FILE)

    return edit


FIRST = "base_model.model.blocks.0.attn.qkv"


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (edit_settings(peft_type="IA3"), "describes no LoRA adapter: its peft_type is 'IA3', not 'LORA'"),
        (edit_settings(r=0), "r=0 is not what PEFT writes there"),
        (edit_settings(lora_dropout="x"), "lora_dropout='x' is not what PEFT writes there"),
        (edit_settings(modules_to_save=5), "modules_to_save=5 is not what PEFT writes there"),
        (edit_settings(target_modules=5), "target_modules=5 is not what PEFT writes there"),
        (edit_settings(alpha_pattern={"(": 3}), r"alpha_pattern '\(' is not a regular expression"),
        (edit_settings(alpha_pattern={"(?R)": 3}), r"alpha_pattern '\(\?R\)' takes too long to match: name layers"),
        (lambda folder: (folder / CONFIG_FILE).write_text("[" * 10**5), "adapter_config.json is missing or damaged"),
        (edit_tensors(lambda t: t[f"{FIRST}.lora_B.weight"].fill_(torch.nan)), f"{FIRST}.lora_B.weight holds nan or"),
        (
            edit_tensors(lambda t: t.update({k: v.to(torch.int8) for k, v in t.items() if "lora_A" in k})),
            "lora_A.weight is int8, allowed are numbers with a fraction",
        ),
        (
            edit_tensors(
                lambda t: t.update(
                    {
                        "base_model.model.patch_embed.proj.lora_A.weight": torch.ones(5, 3, 8, 8),
                        "base_model.model.patch_embed.proj.lora_B.weight": torch.ones(48, 5, 1, 1),
                    }
                )
            ),
            r"adapts the convolution patch_embed.proj, which LoRALinear cannot: .*'attn.qkv', 'attn.proj'",
        ),
        (edit_settings(init_lora_weights="pissa"), "init_lora_weights='pissa' is not supported, only True"),
        (
            edit_tensors(lambda t: t.update({f"{FIRST}.lora_B.weight": torch.ones(144, 7)})),
            r"A \(5, 48\) and B \(144, 7\) of blocks.0.attn.qkv do not fit",
        ),
        (edit_settings(use_dora=True), "use_dora=True is not supported, only False"),
        (edit_settings(bias="lora_only"), "bias='lora_only' is not supported, only 'none'"),
        (edit_settings(r="five"), "r='five' is not what PEFT writes there"),
        (lambda folder: (folder / CONFIG_FILE).write_text("{"), "adapter_config.json is missing or damaged"),
        (lambda folder: (folder / WEIGHTS_FILE).unlink(), "adapter_model.safetensors is missing or damaged"),
        (lambda folder: (folder / WEIGHTS_FILE).write_bytes(b"1" * 99), "model.safetensors is missing or damaged"),
        (edit_tensors(lambda t: t.pop(f"{FIRST}.lora_B.weight")), "lacks a matrix of blocks.0.attn.qkv"),
        (edit_tensors(lambda t: t.update(head=torch.ones(1))), "'head' does not begin with 'base_model.model.'"),
        (
            edit_tensors(lambda t: t.update({f"{FIRST}.lora_magnitude_vector": torch.ones(3)})),
            "unexpected blocks.0.attn.qkv.lora_magnitude_vector",
        ),
        (
            edit_tensors(lambda t: t.update({f"{FIRST}.lora_A.weight": torch.ones(5, 7)})),
            r"blocks.0.attn.qkv.lora_A has shape \(5, 7\) instead of \(5, 48\)",
        ),
        (
            edit_tensors(lambda t: [t.update({k.replace("blocks.1", "blocks.7"): t.pop(k)}) for k in list(t)]),
            "target 'blocks.7.attn.proj' matches no linear layer of the model",
        ),
        (edit_tensors(lambda t: [t.pop(k) for k in list(t) if "lora_" in k]), "holds no LoRA matrix"),
    ],
)
def test_what_cannot_be_read_is_refused_by_name_and_changes_nothing(small_vit, images, tmp_path, edit, message):
    export_peft(add_lora(copy.deepcopy(small_vit), PAPER), PAPER, tmp_path)
    edit(tmp_path)
    before = small_vit(images)
    with pytest.raises(ConfigError, match=message):
        import_peft(small_vit, tmp_path)
    assert not lora_layers(small_vit)
    assert small_vit(images).equal(before)
    assert all(p.requires_grad for p in small_vit.parameters())


@pytest.mark.parametrize("pattern", ["(.*)*(.*)*(.*)*(.*)*X", "(a|a)*" * 30 + "X", "(.+)+(.+)+$Z"])
def test_patterns_that_backtrack_do_not_hang(small_vit, tmp_path, pattern):
    export_peft(add_lora(copy.deepcopy(small_vit), PAPER), PAPER, tmp_path)
    edit_settings(alpha_pattern={pattern: 4})(tmp_path)
    start = time.perf_counter()
    with contextlib.suppress(ConfigError):
        import_peft(small_vit, tmp_path)
    assert time.perf_counter() - start < 5


def test_export_refuses_what_save_refuses(small_vit, tmp_path):
    with pytest.raises(ValueError, match="no active LoRA to save"):
        export_peft(small_vit, PAPER, tmp_path)
    with pytest.raises(ValueError, match="made with other settings"):
        export_peft(add_lora(small_vit, PAPER), RSLORA, tmp_path)
    assert not list(tmp_path.iterdir())
