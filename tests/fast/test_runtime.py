"""Fast is allowed to be different only in time: the same numbers come out."""

import copy

import pytest
import timm
import torch
from torch.utils.flop_counter import FlopCounterMode

from woofkit.attention import record_attention
from woofkit.config import ConfigError, LoRAConfig
from woofkit.fast import memory, runtime
from woofkit.fast.forward import compiled_logits, fast_logits, patch_product, plain_logits, prefer_fast_attention
from woofkit.fast.memory import keep_freed_memory
from woofkit.fast.runtime import Runtime, pick_device, pick_precision
from woofkit.lora import add_lora, merge_lora

CPU = torch.device("cpu")


def gradients(model, logits):
    model.zero_grad()
    logits.square().sum().backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("kind", ["plain", "lora", "merged"])
def test_the_logits_and_gradients_are_the_models_own(small_vit, images, kind):
    model = small_vit.double().train()
    if kind != "plain":
        add_lora(model, LoRAConfig(rank=2, targets=("attn.qkv", "attn.proj", "mlp.fc1")))
    if kind == "merged":
        merge_lora(model)
    images = images.double()
    quick, whole = fast_logits(model, images), model(images)
    assert torch.allclose(quick, whole, atol=1e-12, rtol=1e-10)
    expected, found = gradients(model, whole), gradients(model, quick)
    assert expected.keys() == found.keys()
    assert all(torch.allclose(found[name], expected[name], atol=1e-10) for name in expected)


def test_the_product_with_the_patches_is_the_convolution(small_vit, images):
    embed, images = small_vit.patch_embed.double(), images.double()
    product, convolution = patch_product(embed, images), embed(images)
    assert torch.allclose(product, convolution, atol=1e-12)
    expected, found = gradients(embed, convolution), gradients(embed, product)
    assert all(torch.allclose(found[name], expected[name], atol=1e-10) for name in expected)


def test_most_of_the_last_block_is_left_out(small_vit, images):
    def flops(call):
        with FlopCounterMode(display=False) as counter:
            call(images)
        return counter.get_total_flops()

    saved = flops(small_vit) - flops(lambda images: fast_logits(small_vit, images))
    block = flops(small_vit) / len(small_vit.blocks)
    assert 0.5 * block < saved < block


@pytest.mark.parametrize(
    "name", ["vit_tiny_patch16_224", "deit_tiny_distilled_patch16_224", "vit_wee_patch16_reg1_gap_256"]
)
def test_models_of_all_kinds_give_their_own_logits(name):
    model = timm.create_model(name, img_size=64, num_classes=3).eval()
    images = torch.randn(2, 3, 64, 64)
    assert torch.allclose(fast_logits(model, images), model(images), atol=1e-5)


def test_hooks_that_would_be_passed_over_are_called(small_vit, images):
    called = []
    small_vit.blocks[-1].register_forward_hook(lambda *_: called.append(1))
    assert fast_logits(small_vit, images).equal(small_vit(images))
    assert len(called) == 2


def test_attention_is_recorded_as_ever(small_vit, images):
    maps = []
    for call in (small_vit, lambda images: fast_logits(small_vit, images)):
        with torch.no_grad(), record_attention(small_vit) as recorder:
            call(images)
        maps.append(recorder.maps)
    assert maps[0].equal(maps[1])


def test_both_attention_kernels_give_the_same_logits(small_vit, images):
    logits = []
    for device in ("cpu", "cuda"):
        prefer_fast_attention(small_vit, torch.device(device))
        assert [block.attn.fused_attn for block in small_vit.blocks] == [device == "cuda"] * len(small_vit.blocks)
        logits.append(small_vit(images))
    assert torch.allclose(*logits, atol=1e-5)


def test_a_device_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pick_device("auto").type == "cpu"
    with pytest.raises(ConfigError, match="device 'cuda' is not available here: allowed are 'auto' and 'cpu'"):
        pick_device("cuda")


@pytest.mark.parametrize(("able", "expected"), [("avx512_bf16", "bf16"), ("amx_bf16", "bf16"), ("avx512_f", "fp32")])
def test_auto_precision_is_bf16_where_the_cpu_multiplies_in_it(monkeypatch, able, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {able: True})
    assert pick_precision("auto", CPU) == expected
    assert [pick_precision(name, CPU) for name in ("fp32", "bf16")] == ["fp32", "bf16"]


def test_keeping_freed_memory_changes_no_number(small_vit, images):
    before = copy.deepcopy(small_vit)(images)
    keep_freed_memory()
    keep_freed_memory()
    assert small_vit(images).equal(before)


def test_only_whole_batches_are_compiled(small_vit, images, monkeypatch):
    seen = []

    def compiler(function, dynamic):
        return lambda model, images: seen.append(len(images)) or function(model, images)

    monkeypatch.setattr(torch, "compile", compiler)
    logits = compiled_logits(len(images))
    assert all(logits(small_vit, batch).equal(fast_logits(small_vit, batch)) for batch in (images, images[1:], images))
    assert seen == [len(images)] * 2


@pytest.mark.parametrize("adapted", [False, True])
def test_the_compiler_sees_the_whole_model_at_once(small_vit, images, adapted):
    model = add_lora(small_vit, LoRAConfig.paper(rank=2)) if adapted else small_vit
    with torch._dynamo.config.patch(disable=False):
        compiled = torch.compile(fast_logits, dynamic=False, backend="eager", fullgraph=True)  # a break would raise
        logits = compiled(model.train(), images)
    expected, found = gradients(model, fast_logits(model, images)), gradients(model, logits)
    assert all(torch.allclose(found[name], expected[name], atol=1e-5) for name in expected)


def test_without_a_compiler_training_goes_on_and_says_so(small_vit, images, monkeypatch):
    calls = []

    def broken(model, images):
        calls.append(1)
        raise RuntimeError("no C++ compiler found")

    monkeypatch.setattr(torch, "compile", lambda function, dynamic: broken)
    logits = compiled_logits(len(images))
    with pytest.warns(UserWarning, match="not compiled, and so a little slower: no C.. compiler found"):
        first = logits(small_vit, images)
    assert first.equal(logits(small_vit, images))
    assert first.equal(fast_logits(small_vit, images))
    assert len(calls) == 1


def test_only_a_long_training_is_compiled(monkeypatch):
    monkeypatch.setattr(runtime, "compiled_logits", lambda batch_size: f"compiled for {batch_size}")
    assert Runtime().forward(5 * 600, 32) is fast_logits
    assert Runtime().forward(5 * 9_025, 128) == "compiled for 128"
    assert Runtime(fast=False).forward(5 * 9_025, 128) is plain_logits


@pytest.mark.parametrize("place", ["norm", "blocks.1.mlp", "blocks.1.attn.proj"])
@pytest.mark.parametrize("kind", ["register_forward_hook", "register_full_backward_hook", "forward"])
def test_whoever_watches_the_last_block_sees_every_token(small_vit, images, place, kind):
    module, shapes = small_vit.get_submodule(place), []
    if kind == "forward":
        forward = module.forward
        module.forward = lambda x: shapes.append(x.shape) or forward(x)
    else:
        getattr(module, kind)(lambda module, inputs, outputs: shapes.append(inputs[0].shape))
    fast_logits(small_vit, images).sum().backward()
    assert [shape[1] for shape in shapes] == [17]


@pytest.mark.parametrize("name", ["vit_small_patch16_18x2_224", "mixer_s32_224"])
def test_models_with_blocks_of_another_kind_are_left_as_they_are(name):
    model = prefer_fast_attention(timm.create_model(name, depth=2) if "vit" in name else timm.create_model(name), CPU)
    assert not any(getattr(module, "fused_attn", False) for module in model.modules())


def test_without_glibc_memory_is_left_alone(monkeypatch):
    monkeypatch.setattr(memory.sys, "platform", "win32")
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda name: pytest.fail("asked for a C library"))
    keep_freed_memory()
    memory.return_freed_memory()


def test_an_older_glibc_is_asked_for_what_it_allows(monkeypatch):
    calls = []

    class Old:
        def mallopt(self, name, value):
            calls.append((name, value))
            return 0 if value > 2**25 and name == -3 else 1

    monkeypatch.setattr(memory, "_c_library", Old)
    keep_freed_memory()
    assert calls == [(-3, 2**30), (-3, 2**25), (-1, 2**30)]
