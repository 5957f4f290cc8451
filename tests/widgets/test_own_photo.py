"""A photograph of one's own: brought by upload or path, answered by every model, and refused in a sentence."""

import io

import numpy as np
import pytest
import torch
from ipywidgets import FileUpload
from PIL import Image

from helpers import TRANSFORM, alts, control, message, page, random_models, tiny_vit, walk, words
from woofkit.attention import cls_attention, record_attention, token_layout
from woofkit.config import PROJECT_ROOT, ConfigError
from woofkit.explain.maps import to_even
from woofkit.plots.pages import verdict
from woofkit.plots.style import method_name
from woofkit.widgets import own_photo
from woofkit.widgets.explorer import attention_explorer
from woofkit.widgets.own_path import own_path
from woofkit.widgets.own_photo import own_photo_explorer
from woofkit.widgets.photos import read_photo

BREEDS = [f"breed {letter}" for letter in "abcdefghij"]


def picture(size=(60, 40)):
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), dtype=np.uint8))


def content(image, kind="png"):
    memory = io.BytesIO()
    image.save(memory, format=kind)
    return memory.getvalue()


def bring(box, name, data):
    """What the page does when a file is dropped."""
    [upload] = [child for child in walk(box) if isinstance(child, FileUpload)]
    upload.set_state(
        {"value": [{"name": name, "type": "", "size": len(data), "content": memoryview(data), "last_modified": 0}]}
    )
    return upload


@pytest.fixture
def models():
    return random_models("full", "lora")


@pytest.fixture
def box(models):
    return own_photo_explorer(models, TRANSFORM, BREEDS, True)


def test_an_uploaded_photo_is_answered_by_every_model(models, box):
    assert "have only seen drawings of dogs, never a photograph" in words(box)
    upload = bring(box, "dog.png", content(picture()))
    pixels = torch.from_numpy(TRANSFORM.geometry(picture())).permute(2, 0, 1)[None]
    for name, model in models.items():
        with torch.no_grad():
            probabilities = model(TRANSFORM.normalize(pixels))[0].softmax(0)
        assert f"{method_name(name)} says {verdict(probabilities, None, BREEDS)}" in words(box)
        assert f"{method_name(name)} looks at" in words(box)
    assert "each must name one of its 10 classes" in words(box)
    assert alts(box) == [
        "Picture dog.png",
        "Full fine-tuning: attention of CLS over dog.png",
        "LoRA: attention of CLS over dog.png",
    ]
    assert upload.value == ()  # the same file may come again


def test_the_map_is_the_last_blocks_attention(models, monkeypatch):
    drawn = []
    monkeypatch.setattr(own_photo, "photo_page", lambda *given: drawn.append(given) or "")
    bring(own_photo_explorer(models, TRANSFORM, BREEDS), "dog.png", content(picture()))
    pixels = torch.from_numpy(TRANSFORM.geometry(picture())).permute(2, 0, 1)[None]
    for name, model in models.items():
        with torch.no_grad(), record_attention(model) as recorder:
            model(TRANSFORM.normalize(pixels))
        expected = to_even(cls_attention(recorder.maps, *token_layout(model))[0, -1].mean(0))
        np.testing.assert_allclose(drawn[0][4][name], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("drawn", [True, False, None])
def test_what_the_models_have_met_is_said_only_where_it_is_known(models, drawn):
    said = words(own_photo_explorer(models, TRANSFORM, BREEDS, drawn))
    assert ("have only seen drawings" in said) == (drawn is True)
    assert ("if they were trained on drawings" in said) == (drawn is None)
    assert "must name one of its 10 classes" in said


NO_FORMAT = "it is no JPEG, PNG, WEBP, BMP, TIFF or GIF"
HEIC = "it is HEIC, AVIF or a film: export it as JPEG"
BAD = {
    "words.png": (b"no image at all", NO_FORMAT),
    "empty.png": (b"", NO_FORMAT),
    "half.png": (content(picture())[:900], "image file is truncated"),
    "stripe.png": (content(picture((60, 2))), "60 x 2 pixels: allowed is one side 20 times as long as the other"),
    "dog.HEIC": (b"anything", HEIC),
    "renamed.jpg": (b"\0\0\0\x18ftypheic\0\0\0\0", HEIC),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_upload_is_a_sentence_and_the_next_is_welcome(box, name):
    data, reason = BAD[name]
    before = page(box)
    bring(box, name, data)
    assert message(box).startswith(f"{name} cannot be read ({reason})")
    assert page(box) == before
    bring(box, "good.png", content(picture()))
    assert message(box) == ""
    assert "Picture good.png" in alts(box)


def test_the_attention_explorer_takes_uploads_too(models):
    pixels = torch.randint(0, 256, (2, 3, 32, 32), generator=torch.Generator().manual_seed(2), dtype=torch.uint8)
    box = attention_explorer(models, pixels, [3, 1], TRANSFORM, BREEDS)
    assert "must name one of its" not in words(box)
    bring(box, "dog.jpg", content(picture(), "jpeg"))
    assert control(box, "image").value == 2
    assert control(box, "image").options[-1] == ("own: dog.jpg", 2)
    assert "each must name one of its 10 classes" in words(box)
    bring(box, "dog.heic", b"")
    assert "export it as JPEG" in message(box)


def test_a_path_may_be_quoted_and_start_at_the_notebook_the_project_or_home(tmp_path, monkeypatch):
    picture().save(tmp_path / "my dog.png")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for text in ("my dog.png", '"my dog.png"', " 'my dog.png' ", "~/my dog.png", f"file://{tmp_path}/my dog.png"):
        assert read_photo(text, TRANSFORM).shape == (3, 32, 32)
    assert own_path("README.md") == PROJECT_ROOT / "README.md"  # as nothing of that name lies here
    (tmp_path / "README.md").touch()
    assert own_path("README.md") == tmp_path / "README.md"
    assert own_path("absent.png") == tmp_path / "absent.png"


def test_what_cannot_be_asked_is_refused():
    with pytest.raises(ConfigError, match="there is no model to ask"):
        own_photo_explorer({}, TRANSFORM, BREEDS)
    with pytest.raises(ConfigError, match="model 'lora' is in training mode"):
        own_photo_explorer({"lora": tiny_vit().train()}, TRANSFORM, BREEDS)


def test_without_a_kernel_a_widget_says_in_words_what_it_is(box):
    assert box._repr_mimebundle_()["text/plain"] == (
        "[Interactive part: a photograph of your own. It needs a running kernel: run this cell.]"
    )
