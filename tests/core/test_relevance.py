"""Laws of class relevance: exact gradients beside an untouched forward, and the authors' rule made of them."""

import pytest
import torch

from helpers import forward_written_out, hook_count, images, set_fused, tiny_vit, trained_lora
from woofkit.attention import class_relevance, record_attention, token_layout
from woofkit.lora import merge_lora


def relevance_by_the_authors_rule(attention, gradients):
    """R <- R + mean_h((grad * A)^+) R from the first layer to the last, one image (L, h, N, N); CLS's row."""
    relevance = torch.eye(attention.shape[-1], dtype=attention.dtype)
    for cam, gradient in zip(attention, gradients, strict=True):
        relevance = relevance + (gradient * cam).clamp(min=0).mean(0) @ relevance
    return relevance[0]


def recorded(model, x, classes, **settings):
    with record_attention(model, gradients=True, **settings) as recorder:
        logits = model(x)
    return logits, recorder.maps, recorder.gradients(logits.gather(1, classes[:, None]).sum())


MODELS = {
    "plain": lambda: tiny_vit(depth=3),
    "explicit matmuls": lambda: set_fused(tiny_vit(depth=3), False),
    "frozen": lambda: tiny_vit(depth=3).requires_grad_(False),
    "registers": lambda: tiny_vit(depth=3, reg_tokens=2),
    "norms of q, k and A V": lambda: tiny_vit(depth=3, qk_norm=True, scale_attn_norm=True),
    "not square": lambda: tiny_vit(depth=3, img_size=(24, 40)),
    "adapters": lambda: trained_lora(tiny_vit(depth=3)),
    "merged adapters": lambda: merge_lora(trained_lora(tiny_vit(depth=3))),
}


@pytest.mark.parametrize("name", MODELS)
def test_gradients_and_relevance_equal_those_of_a_forward_written_out_in_float64(name):
    model = MODELS[name]()
    x, classes = images(2, 3, *model.patch_embed.img_size), torch.tensor([3, 7])
    _, attention, gradients = recorded(model, x, classes)
    relevance = class_relevance(attention, gradients, *token_layout(model))

    logits, layers = forward_written_out(model.double(), x.double())
    exact = torch.autograd.grad(logits.gather(1, classes[:, None]).sum(), layers)
    torch.testing.assert_close(gradients.double(), torch.stack(exact, dim=1), rtol=1e-4, atol=1e-6)
    prefix = model.num_prefix_tokens
    for image in range(2):
        pairs = ([layer[image] for layer in layers], [layer[image] for layer in exact])
        expected = relevance_by_the_authors_rule(*(torch.stack(pair) for pair in pairs))
        torch.testing.assert_close(relevance[image].flatten().double(), expected[prefix:], rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("autocast", [False, True], ids=["fp32", "bf16"])
@pytest.mark.parametrize("frozen", [False, True], ids=["trainable", "frozen"])
def test_logits_are_bit_equal_with_and_without_recording_gradients(autocast, frozen):
    model, x = trained_lora(tiny_vit()), images(3, 3, 32, 32)
    if frozen:
        model.requires_grad_(False)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        plain = model(x)
        logits, _, gradients = recorded(model, x, torch.tensor([0, 1, 2]))
    assert torch.equal(plain, logits)
    assert gradients.dtype == torch.float32
    assert hook_count(model) == 0
    assert all(parameter.grad is None for parameter in model.parameters())


def test_each_image_and_each_layer_has_its_own_gradient():
    model, x, classes = tiny_vit(depth=3), images(3, 3, 32, 32), torch.tensor([1, 2, 3])
    _, _, together = recorded(model, x, classes)
    for image in range(3):
        _, _, alone = recorded(model, x[image : image + 1], classes[image : image + 1])
        torch.testing.assert_close(together[image : image + 1], alone, rtol=1e-4, atol=1e-7)
    _, _, chosen = recorded(model, x, classes, layers=[2, 0])
    torch.testing.assert_close(chosen, together[:, [2, 0]])


def test_several_forwards_are_joined_along_the_batch_for_gradients_too():
    model, x, classes = tiny_vit(), images(5, 3, 32, 32), torch.arange(5)
    _, _, at_once = recorded(model, x, classes)
    with record_attention(model, gradients=True) as recorder:
        logits = torch.cat([model(batch) for batch in x.split(2)])
    gradients = recorder.gradients(logits.gather(1, classes[:, None]).sum())
    torch.testing.assert_close(gradients, at_once, rtol=1e-4, atol=1e-7)


def test_relevance_depends_on_the_class_and_attention_does_not():
    model, x = tiny_vit(), images(1, 3, 32, 32)
    _, attention, first = recorded(model, x, torch.tensor([0]))
    _, again, second = recorded(model, x, torch.tensor([5]))
    assert torch.equal(attention, again)
    layout = token_layout(model)
    assert not torch.allclose(class_relevance(attention, first, *layout), class_relevance(again, second, *layout))


def test_relevance_of_two_layers_worked_out_by_hand():
    # CLS and two patches, one head. Negative products count as nothing.
    attention = torch.tensor([[[0.5, 0.5, 0], [0, 1, 0], [0, 0.5, 0.5]], [[0, 0.25, 0.75], [0, 1, 0], [0, 0, 1]]])
    gradients = torch.tensor([[[0, 2.0, 9], [0, 0, 0], [0, 4, -8]], [[1, 4, 4], [0, 0, 0], [0, 0, 0]]])
    # W1 = [[0, 1, 0], [0, 0, 0], [0, 2, 0]], W2's first row = [0, 1, 3].
    # (1, 0, 0) + (0, 1, 3) = (1, 1, 3); times (I + W1): 1 * (1, 1, 0) + 1 * (0, 1, 0) + 3 * (0, 2, 1) = (1, 8, 3).
    relevance = class_relevance(attention[None, :, None], gradients[None, :, None], (1, 2))
    assert relevance.tolist() == [[[8, 3]]]


def test_gradients_that_cannot_be_had_are_refused_in_words():
    model = tiny_vit()
    with torch.no_grad(), pytest.raises(RuntimeError, match="leave out no_grad"):
        recorded(model, images(1, 3, 32, 32), torch.tensor([0]))
    assert hook_count(model) == 0
    with record_attention(model) as recorder:
        score = model(images(1, 3, 32, 32)).sum()
    with pytest.raises(RuntimeError, match=r"record_attention\(gradients=True\)"):
        recorder.gradients(score)
    attention = torch.full((1, 2, 1, 5, 5), 0.2)
    with pytest.raises(ValueError, match="do not belong to"):
        class_relevance(attention, attention[:, :1], (2, 2))


def test_the_grid_follows_the_size_of_the_image_where_the_model_does():
    model, x = tiny_vit(dynamic_img_size=True), images(1, 3, 48, 16)
    _, attention, gradients = recorded(model, x, torch.tensor([0]))
    grid, prefix = token_layout(model, (48, 16))
    assert class_relevance(attention, gradients, grid, prefix).shape == (1, 6, 2)
