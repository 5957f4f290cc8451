"""Vision Transformers of all kinds: what walks a model holds for each of them, or refuses it in words."""

from dataclasses import replace

import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.layers import apply_rot_embed_cat
from timm.models.vision_transformer import checkpoint_filter_fn
from torch import nn

from helpers import images, trained_lora
from woofkit import models
from woofkit.adapters import load_adapter, save_adapter
from woofkit.attention import class_relevance, record_attention, token_layout
from woofkit.config import ConfigError, LoRAConfig, TrainConfig
from woofkit.explain.maps import require_maps
from woofkit.fast.forward import fast_logits, reads_class_token_alone
from woofkit.lora import add_lora, count_lora_parameters, merge_lora
from woofkit.models import build_for, build_model, count_parameters, knows_classes, original_head, zero_shot_head

SIZES = {"depth": 2, "embed_dim": 48, "num_heads": 4, "img_size": 32, "patch_size": 8}
# timm's names, with what keeps each small: registers without a head, patches of another size, layer scale, pooled
# heads with the norm before and after, and EVA's blocks with rotated queries and keys, without and with a bias.
KINDS = {
    "vit_small_patch14_reg4_dinov2": {"patch_size": 14, "img_size": 56},
    "deit3_small_patch16_224": {},
    "vit_base_patch16_gap_224": {},
    "vit_wee_patch16_reg1_gap_256": {"init_values": 0.1},
    "vit_base_patch16_siglip_224": {},
    "vit_small_patch16_dinov3": {},
    "vit_small_patch16_dinov3_qkvb": {},
    "vit_small_patch16_rope_mixed_224": {},
}
CLASS_TOKEN_ALONE = ("vit_small_patch14_reg4_dinov2", "deit3_small_patch16_224")
ROTARY = ("vit_small_patch16_dinov3", "vit_small_patch16_dinov3_qkvb", "vit_small_patch16_rope_mixed_224")
POOLED_LATE = "vit_wee_patch16_reg1_gap_256"  # its norm comes after pooling


@pytest.fixture
def build(monkeypatch):
    """`build_model` on a small model of a kind, with weights that make its parts matter."""
    create = timm.create_model

    def small(name, **settings):
        return create(name, **(SIZES | KINDS.get(name, {}) | settings))

    monkeypatch.setattr(models.timm, "create_model", small)

    def build(name):
        model = build_model(name, weights=None)
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
        return model.double()

    return build


def pictures(model, count=3):
    return images(count, 3, *model.patch_embed.img_size).double()


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_gets_a_new_head_whether_or_not_it_had_one(build, name):
    model = build(name)
    assert isinstance(model.head, nn.Linear)
    assert model(pictures(model)).shape == (3, 10)
    again = [build_model(name, weights=None, seed=seed).head.weight for seed in (1, 1, 2)]
    assert again[0].equal(again[1])
    assert not again[0].equal(again[2])


def test_weights_without_a_head_are_loaded_and_have_no_original_one(build, tmp_path):
    name = "vit_small_patch14_reg4_dinov2"
    backbone = timm.create_model(name)
    assert not any(key.startswith("head.") for key in backbone.state_dict())
    save_file(backbone.state_dict(), path := tmp_path / "dinov2.safetensors")
    state = build_model(name, weights=path).state_dict()
    assert all(state[key].equal(tensor) for key, tensor in backbone.state_dict().items())
    assert state["head.weight"].shape == (10, 48)
    match = "weights '.*dinov2.safetensors' of 'vit_small_patch14_reg4_dinov2' come without a head"
    with pytest.raises(ConfigError, match=match):
        original_head(name, path)
    config = TrainConfig(method="zero-shot", dataset="imagewoof", model_name=name, weights=str(path))
    assert not knows_classes(config)
    with pytest.raises(ConfigError, match=match):
        zero_shot_head(config)


def test_a_head_of_another_kind_is_refused():
    with pytest.raises(ConfigError, match="'samvit_base_patch16' is not a Vision Transformer with a linear head"):
        build_model("samvit_base_patch16", weights=None)


@pytest.mark.parametrize("name", KINDS)
def test_the_shortcut_is_the_models_forward_and_is_taken_where_the_class_token_is_read_alone(build, name):
    model = build(name).train()
    assert reads_class_token_alone(model) == (name in CLASS_TOKEN_ALONE)
    x = pictures(model)
    torch.testing.assert_close(fast_logits(model, x), model(x), atol=1e-11, rtol=1e-9)


@pytest.mark.parametrize("name", KINDS)
def test_lora_trains_what_the_formula_says_starts_as_the_base_and_merges(build, name):
    model, d, rank = build(name), 48, 3
    x = pictures(model)
    before = model(x)
    config = LoRAConfig.paper(rank)
    # by hand, with two blocks: qkv and proj with a bias beside B, the final norm (weight and bias) and ten classes
    expected = 2 * (rank * (d + 3 * d) + 3 * d + rank * (d + d) + d) + 2 * d + 10 * d + 10
    assert count_lora_parameters(model, config) == expected
    add_lora(model, config)
    assert count_parameters(model).trainable == expected
    torch.testing.assert_close(model(x), before, atol=1e-12, rtol=1e-10)
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if "lora_" in key:
                parameter.fill_(0.05)
    adapted = model(x)
    assert not torch.allclose(adapted, before, atol=1e-3)
    torch.testing.assert_close(merge_lora(model)(x), adapted, atol=1e-11, rtol=1e-9)


def test_a_norm_after_pooling_is_the_final_norm(build, tmp_path):
    config = LoRAConfig.paper(2)
    model = add_lora(build(POOLED_LATE), config)
    assert model.fc_norm.weight.requires_grad
    with torch.no_grad():
        model.fc_norm.weight.fill_(2.0)
    save_adapter(model, config, tmp_path / "adapter.safetensors")
    loaded = load_adapter(build(POOLED_LATE), tmp_path / "adapter.safetensors")
    x = pictures(model)
    assert loaded(x).equal(model(x))
    last = build_for(TrainConfig(method="last", model_name=POOLED_LATE, weights="random"))
    trained = {name.split(".")[0] for name, parameter in last.named_parameters() if parameter.requires_grad}
    assert trained == {"blocks", "fc_norm", "head"}


def test_norms_and_biases_of_all_kinds_train():
    settings = TrainConfig(method="norm", model_name="test_vit4", weights="random")  # RmsNorm
    norms = [name for name, parameter in build_for(settings).named_parameters() if parameter.requires_grad]
    assert "blocks.0.norm1.weight" in norms
    assert "fc_norm.weight" in norms


def test_a_projection_that_is_split_is_refused_with_the_layers_there_are():
    model = timm.create_model("eva02_base_patch14_224", **SIZES)
    with pytest.raises(ValueError, match=r"target 'attn.qkv' matches no linear layer .* attn.k_proj, attn.proj"):
        add_lora(model, LoRAConfig())
    with pytest.raises(TypeError, match="Eva cannot be recorded: .* that calls its qkv layer"), record_attention(model):
        pass


def rotated_by_hand(model, x):
    """Every layer's softmax(q k^T / sqrt(d)) of an EVA model, written out: (B, layers, heads, N, N)."""
    tokens, rope = model._pos_embed(model.patch_embed(x))
    tokens, layers, prefix = model.norm_pre(tokens), [], model.num_prefix_tokens
    for number, block in enumerate(model.blocks):
        attn, turn = block.attn, rope[number] if getattr(model, "rope_mixed", False) else rope
        qkv = attn.qkv(block.norm1(tokens))
        if getattr(attn, "q_bias", None) is not None:
            qkv = qkv + torch.cat([attn.q_bias, torch.zeros_like(attn.q_bias), attn.v_bias])
        q, k = (part.unflatten(-1, (4, -1)).transpose(1, 2) for part in qkv.chunk(3, dim=-1)[:2])
        q, k = (
            torch.cat([t[:, :, :prefix], apply_rot_embed_cat(t[:, :, prefix:], turn, half=attn.rotate_half)], dim=2)
            for t in (attn.q_norm(q), attn.k_norm(k))
        )
        layers.append((q @ k.mT / attn.head_dim**0.5).softmax(-1))
        tokens = block(tokens, rope=turn)
    return torch.stack(layers, dim=1)


@torch.no_grad()
@pytest.mark.parametrize("name", ROTARY)
@pytest.mark.parametrize("adapted", [False, True])
def test_rotated_attention_is_recorded_and_changes_no_logit(build, name, adapted):
    model = build(name)
    if adapted:
        model = merge_lora(trained_lora(model))
    x = pictures(model)
    plain = model(x)
    with record_attention(model) as recorder:
        assert model(x).equal(plain)
    torch.testing.assert_close(recorder.maps.double(), rotated_by_hand(model, x), rtol=0, atol=1e-5)
    assert torch.allclose(recorder.maps.sum(-1), torch.ones(()), atol=1e-5)


@pytest.mark.parametrize("name", ROTARY)
def test_gradients_of_rotated_attention_are_those_of_moving_one_of_its_numbers(build, name):
    model = build(name)
    x, classes = pictures(model, 1), torch.tensor([3])
    with record_attention(model, gradients=True) as recorder:
        logits = model(x)
    found = recorder.gradients(logits.gather(1, classes[:, None]).sum())
    nudge, attn, at = 1e-4, model.blocks[1].attn, (0, 2, 0, 5)  # image, head, from CLS, to a patch
    attn.fused_attn = False
    handle = attn.attn_drop.register_forward_hook(lambda _module, _inputs, weights: moved(weights, at, nudge))
    change = (model(x) - logits)[0, 3] / nudge
    handle.remove()
    assert found[0, 1, 2, 0, 5].item() == pytest.approx(change.item(), rel=1e-3, abs=1e-6)
    assert (class_relevance(recorder.maps, found, *token_layout(model)) >= 0).all()


def moved(weights, at, nudge):
    weights = weights.clone()
    weights[at] += nudge
    return weights


def test_attention_that_passes_its_projection_by_is_refused():
    raw = timm.create_model("vit_small_patch16_dinov3_qkvb", **SIZES)  # as timm makes it: `qkv` is never called
    with pytest.raises(TypeError, match="cannot be recorded: .* that calls its qkv layer"), record_attention(raw):
        pass


@pytest.mark.parametrize("name", KINDS)
def test_maps_are_for_heads_that_read_the_class_token(build, name):
    model = build(name)
    if model.cls_token is None:
        with pytest.raises(ConfigError, match="no attention maps of this model: .* has no class token"):
            require_maps(model, 32)
    elif model.global_pool != "token":
        with pytest.raises(ConfigError, match=r"its head reads all patches \('avg'\), not CLS"):
            require_maps(model, 32)
    else:
        require_maps(model, model.patch_embed.img_size[0])


@pytest.mark.parametrize("name", KINDS)
def test_a_vit_takes_images_of_another_size_and_keeps_all_else(build, name):
    patch = (SIZES | KINDS[name])["patch_size"]
    own, other = build(name), build(name)
    models._set_image_size(other, name, 6 * patch)
    assert models.data_config(other)["input_size"] == (3, 6 * patch, 6 * patch)
    assert models.data_config(build(name))["input_size"] != (3, 6 * patch, 6 * patch)  # of this model alone
    assert other.patch_embed.grid_size == (6, 6)
    differing = [key for key, tensor in own.state_dict().items() if not tensor.equal(other.state_dict()[key])]
    assert set(differing) <= {"pos_embed"}
    pixels = torch.randn(2, 3, 6 * patch, 6 * patch, dtype=torch.float64)
    logits = other(pixels)
    assert logits.shape == (2, 10)
    torch.testing.assert_close(fast_logits(other, pixels), logits)


def test_at_another_size_the_positions_are_those_that_timm_resamples(tmp_path):
    model = build_model("test_vit", weights=None, seed=4)
    with torch.no_grad():
        model.pos_embed.normal_()
    save_file(model.state_dict(), tmp_path / "weights.safetensors")
    ours = build_model("test_vit", weights=str(tmp_path / "weights.safetensors"), seed=4, image_size=96)
    theirs = timm.create_model("test_vit", num_classes=10, img_size=96)
    resampled = checkpoint_filter_fn(model.state_dict(), theirs)["pos_embed"]
    torch.testing.assert_close(ours.pos_embed.data, resampled.data)
    unchanged = build_model("test_vit", weights=str(tmp_path / "weights.safetensors"), image_size=160)
    assert unchanged.pos_embed.equal(model.pos_embed)


@pytest.mark.parametrize(
    ("name", "size", "sentence"),
    [
        ("test_vit", 100, "image_size = 100 is no multiple of 16, the side of a patch of 'test_vit'"),
        ("cait_xxs24_224", 96, "image_size = 96: timm cannot change it for 'cait_xxs24_224', leave it 0"),
        ("test_vit", 8, "image_size must be 0 or a whole number from 16 to 1024, not 8"),
    ],
)
def test_an_image_size_that_a_model_cannot_take_is_refused(name, size, sentence):
    with pytest.raises(ConfigError, match=sentence):
        build_for(TrainConfig(model_name=name, weights="random", image_size=size))


def test_models_without_checkpointing_are_refused():
    config = TrainConfig(model_name="convit_tiny", weights="random", checkpointing=True)
    with pytest.raises(ConfigError, match="checkpointing = True: timm has none for 'convit_tiny', leave it off"):
        build_for(config)
    assert build_for(replace(config, checkpointing=False)).num_classes == 10
    assert not build_for(replace(config, model_name="test_vit")).grad_checkpointing  # asked, not switched on
