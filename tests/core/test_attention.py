"""Laws of recorded attention: it is what the model computes, and recording changes nothing."""

import pytest
import timm
import torch
from torch import nn

from helpers import forward_written_out, hook_count, images, set_fused, tiny_vit, trained_lora
from woofkit.attention import attention_rollout, cls_attention, record_attention, token_layout
from woofkit.lora import merge_lora


@torch.no_grad()
def explicit_attention(model, x):
    """Every layer's softmax(q k^T / sqrt(d)) in float64, written out from the weights."""
    return torch.stack(forward_written_out(model.double(), x.double())[1], dim=1)


def record(model, x, layers=None):
    """The recorder of one forward."""
    with torch.no_grad(), record_attention(model, layers) as recorder:
        model(x)
    return recorder


VARIANTS = {
    "plain": {},
    "explicit matmuls": {},
    "q_norm and k_norm": {"qk_norm": True},
    "registers": {"reg_tokens": 4},
    "not square": {"img_size": (24, 40)},
    "distilled": {"name": "deit_tiny_distilled_patch16_224"},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_recorded_attention_equals_the_softmax_written_out_in_float64(variant):
    model = tiny_vit(**VARIANTS[variant])
    set_fused(model, variant != "explicit matmuls")
    x = images(2, 3, *model.patch_embed.img_size)
    recorder = record(model, x)
    assert recorder.maps.dtype == torch.float32
    torch.testing.assert_close(recorder.maps.double(), explicit_attention(model, x), rtol=0, atol=1e-5)


@pytest.mark.parametrize("merged", [False, True], ids=["adapters", "merged"])
def test_adapters_are_part_of_the_recorded_attention(merged):
    x = images(2, 3, 32, 32)
    model = trained_lora(tiny_vit())
    if merged:
        merge_lora(model)
    recorder = record(model, x)
    assert not torch.allclose(recorder.maps.double(), explicit_attention(tiny_vit(), x), atol=1e-3)
    torch.testing.assert_close(recorder.maps.double(), explicit_attention(model, x), rtol=0, atol=1e-5)


@pytest.mark.parametrize("autocast", [False, True], ids=["fp32", "bf16"])
@pytest.mark.parametrize("fused", [False, True], ids=["explicit", "fused"])
def test_logits_are_bit_equal_with_and_without_recording(autocast, fused):
    model, x = trained_lora(tiny_vit()), images(3, 3, 32, 32)
    set_fused(model, fused)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        plain = model(x)
        with record_attention(model) as recorder:
            recorded = model(x)
    assert torch.equal(plain, recorded)
    assert recorder.maps.dtype == torch.float32
    torch.testing.assert_close(recorder.maps.sum(-1), torch.ones_like(recorder.maps.sum(-1)), rtol=0, atol=1e-5)


def test_recording_leaves_the_gradients_as_they_are_and_holds_no_graph():
    x, gradients = images(2, 3, 32, 32), []
    for recording in (False, True):
        model = tiny_vit()
        if recording:
            with record_attention(model) as recorder:
                model(x).square().sum().backward()
        else:
            model(x).square().sum().backward()
        gradients.append(model.blocks[0].attn.qkv.weight.grad)
    assert torch.equal(*gradients)
    assert not recorder.maps.requires_grad


def test_hooks_are_gone_after_the_block_and_after_an_exception():
    model = tiny_vit()
    with record_attention(model):
        assert hook_count(model) == 4  # two layers, each with the recording and the refusal of masks
    assert hook_count(model) == 0
    with pytest.raises(KeyError, match="on purpose"), record_attention(model):
        raise KeyError("on purpose")
    with pytest.raises(AssertionError, match="height"), record_attention(model):
        model(images(1, 3, 40, 40))
    assert hook_count(model) == 0


def test_chosen_layers_are_those_of_the_full_recording_and_only_they_are_hooked():
    model, x = tiny_vit(depth=4), images(2, 3, 32, 32)
    everything = record(model, x)
    with torch.no_grad(), record_attention(model, layers=[-1, 1]) as chosen:
        assert hook_count(model) == 4
        model(x)
    assert chosen.layers == (3, 1)
    assert torch.equal(chosen.maps, everything.maps[:, [3, 1]])


def test_several_forwards_are_joined_along_the_batch():
    model, x = tiny_vit(), images(5, 3, 32, 32)
    with torch.no_grad(), record_attention(model, layers=-1) as recorder:
        for batch in x.split(2):
            model(batch)
    at_once = record(model, x, -1)
    torch.testing.assert_close(recorder.maps, at_once.maps)


def break_off(*_):
    raise KeyError("on purpose")


def test_a_forward_that_broke_off_leaves_nothing_behind():
    model, x = tiny_vit(), images(2, 3, 32, 32)
    with torch.no_grad(), record_attention(model) as recorder:
        handle = model.blocks[1].norm1.register_forward_pre_hook(break_off)
        with pytest.raises(KeyError, match="on purpose"):
            model(x)
        handle.remove()
        with pytest.raises(RuntimeError, match="no attention was recorded"):
            _ = recorder.maps
        model(x)
    undisturbed = record(model, x)
    assert torch.equal(recorder.maps, undisturbed.maps)


@pytest.mark.parametrize("layers", [12, -13, [0, 12], "last"])
def test_an_unknown_layer_is_refused_with_the_allowed_ones(layers):
    match = r"no layer .*allowed are 0 to 11, or -12 to -1"
    with pytest.raises(ValueError, match=match), record_attention(tiny_vit(depth=12), layers):
        pass


def test_layers_named_twice_or_not_at_all_are_refused():
    for layers in ([], [1, -1]):
        match = "at least one layer, and none twice"
        with pytest.raises(ValueError, match=match), record_attention(tiny_vit(), layers):
            pass


@pytest.mark.parametrize("model", [nn.Linear(2, 2), timm.create_model("resnet10t"), tiny_vit(attn_layer="diff")])
def test_a_model_without_plain_attention_is_refused(model):
    match = "cannot be recorded: allowed are timm Vision Transformers"
    with pytest.raises(TypeError, match=match), record_attention(model):
        pass


def test_no_forward_means_an_error_that_says_so():
    with record_attention(tiny_vit()) as recorder:
        pass
    with pytest.raises(RuntimeError, match="no attention was recorded: run the model inside"):
        _ = recorder.maps


def test_attention_under_a_mask_is_refused_rather_than_recorded_wrongly():
    model = tiny_vit()
    with record_attention(model), pytest.raises(ValueError, match="under a mask cannot be recorded"):
        model.forward_features(images(1, 3, 32, 32), attn_mask=torch.zeros(17, 17))


def test_the_grid_is_height_then_width():
    model = tiny_vit(img_size=(24, 40))  # 3 patches high, 5 wide
    recorder = record(model, images(2, 3, 24, 40))
    grid, num_prefix_tokens = token_layout(model)
    maps = cls_attention(recorder.maps, grid, num_prefix_tokens)
    assert (grid, num_prefix_tokens, maps.shape) == ((3, 5), 1, (2, 2, 4, 3, 5))
    # patch (row 1, column 2) is token 1 + 1 * 5 + 2
    assert torch.equal(maps[..., 1, 2], recorder.maps[..., 0, 8])


def test_prefix_tokens_stay_out_of_the_map():
    attention = torch.arange(1.0, 8 * 8 + 1).reshape(1, 1, 1, 8, 8).softmax(-1)  # CLS, a register, 2 x 3 patches
    maps = cls_attention(attention, (2, 3), num_prefix_tokens=2)
    assert torch.equal(maps[0, 0, 0], attention[0, 0, 0, 0, 2:].reshape(2, 3))


def test_a_wrong_grid_is_refused_and_a_model_without_class_token_too():
    attention = torch.full((1, 2, 3, 17, 17), 1 / 17)
    for make_map in (cls_attention, attention_rollout):
        with pytest.raises(ValueError, match=r"does not fit: .*N = 26, .* 1 prefix tokens .* \(5, 5\) patches"):
            make_map(attention, (5, 5))
    with pytest.raises(TypeError, match="no class token"):
        token_layout(tiny_vit(class_token=False, global_pool="avg"))


def test_rollout_equals_a_two_layer_example_worked_out_by_hand():
    # CLS and two patches, two heads. First layer: the heads' mean is [[0, 1, 0], [0, 1, 0], [.5, 0, .5]].
    first = torch.tensor([[[0, 1, 0], [0, 1, 0], [1, 0, 0]], [[0, 1, 0], [0, 1, 0], [0, 0, 1.0]]])
    # Second layer: the heads' mean is [[0, .5, .5], [0, 0, 1], [1, 0, 0]].
    second = torch.tensor([[[0, 1, 0], [0, 0, 1], [1, 0, 0]], [[0, 0, 1], [0, 0, 1], [1, 0, 0.0]]])
    attention = torch.stack([first, second])[None]
    # Plus identity, halved: A1 = [[.5, .5, 0], [0, 1, 0], [.25, 0, .75]] and A2's first row = [.5, .25, .25].
    # That row times A1: [.25 + .0625, .25 + .25, .1875] = [.3125, .5, .1875].
    assert torch.equal(attention_rollout(attention, (1, 2)), torch.tensor([[[0.5, 0.1875]]]))
    # With the larger head, A1 = [[.5, .5, 0], [0, 1, 0], [1/3, 0, 2/3]], A2's first row = [1/3, 1/3, 1/3].
    expected = torch.tensor([[[0.5, 2 / 9]]])
    torch.testing.assert_close(attention_rollout(attention, (1, 2), head_fusion="max"), expected)


def test_rollout_multiplies_the_last_layer_first_and_treats_every_image_alike():
    attention = (3 * images(3, 4, 2, 17, 17)).softmax(-1)
    together = attention_rollout(attention, (4, 4))
    for image, rollout in zip(attention.double().mean(2), together, strict=True):
        first, second, third, last = (image + torch.eye(17)) / 2
        expected = (last @ third @ second @ first)[0, 1:].reshape(4, 4).float()
        torch.testing.assert_close(rollout, expected)
    assert (together.sum(dim=(-2, -1)) < 1).all()  # the rest stays on CLS


def test_an_unknown_head_fusion_is_refused():
    with pytest.raises(ValueError, match="unknown head_fusion 'median': allowed are 'mean', 'max', 'min'"):
        attention_rollout(torch.full((1, 1, 1, 5, 5), 0.2), (2, 2), head_fusion="median")
