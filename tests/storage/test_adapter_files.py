"""Adapters of others: whatever their files hold, the adapter is put on or refused in a sentence, and none hangs."""

import copy
import json
import shutil
import string

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from helpers import budget, tiny_vit, trained_lora
from woofkit.adapters import export_peft, import_peft, load_adapter, save_adapter
from woofkit.config import ConfigError, LoRAConfig
from woofkit.lora import lora_layers, remove_lora
from woofkit.storage.peft import CONFIG_FILE, WEIGHTS_FILE

CONFIG = LoRAConfig(rank=4, alpha=8.0, bias=True)
FEW = budget(30, derandomize=True)
DAMAGE = st.tuples(
    st.lists(st.tuples(st.floats(0, 1), st.binary(min_size=1, max_size=4)), max_size=3), st.floats(0, 1) | st.just(1.0)
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(string.printable, max_size=12),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(string.ascii_letters, max_size=6), inner, max_size=3)
    ),
    max_leaves=4,
)
SETTINGS = ("peft_type", "r", "lora_alpha", "lora_dropout", "use_rslora", "lora_bias", "target_modules")
SETTINGS += ("modules_to_save", "alpha_pattern", "rank_pattern", "bias", "use_dora", "anything")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A base, and an adapter for it: as a file of ours and as a folder of PEFT."""
    folder, base = tmp_path_factory.mktemp("adapters"), tiny_vit()
    model = trained_lora(copy.deepcopy(base))
    save_adapter(model, CONFIG, folder / "a.safetensors")
    export_peft(model, CONFIG, folder / "peft")
    return base, folder


def damaged(content, damage):
    changes, kept = damage
    content = bytearray(content)
    for place, new in changes:
        at = int(place * len(content))
        content[at : at + len(new)] = new
    return content[: int(kept * len(content))]


def assert_put_on_or_refused(model, put_on):
    """The adapter is on and the model computes numbers, or the model is as it was."""
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    try:
        put_on()
    except ConfigError as error:
        refused = str(error)
    else:
        assert all(tensor.isfinite().all() for tensor in model.state_dict().values())
        remove_lora(model)
        return
    assert refused
    assert "\n" not in refused
    assert not lora_layers(model)
    assert all(tensor.equal(before[name]) for name, tensor in model.state_dict().items())


@FEW
@given(damage=DAMAGE)
def test_whatever_an_adapters_file_holds(files, tmp_path, damage):
    base, folder = files
    model, path = copy.deepcopy(base), tmp_path / "a.safetensors"
    path.write_bytes(damaged((folder / path.name).read_bytes(), damage))
    assert_put_on_or_refused(model, lambda: load_adapter(model, path))


@FEW
@given(which=st.sampled_from([CONFIG_FILE, WEIGHTS_FILE]), damage=DAMAGE)
def test_whatever_the_files_of_a_peft_folder_hold(files, tmp_path, which, damage):
    base, folder = files
    model = copy.deepcopy(base)
    shutil.copytree(folder / "peft", tmp_path / "peft", dirs_exist_ok=True)
    (tmp_path / "peft" / which).write_bytes(damaged((folder / "peft" / which).read_bytes(), damage))
    assert_put_on_or_refused(model, lambda: import_peft(model, tmp_path / "peft"))


@FEW
@given(changes=st.dictionaries(st.sampled_from(SETTINGS), VALUES, min_size=1, max_size=2))
def test_whatever_the_settings_of_a_peft_folder_say(files, tmp_path, changes):
    base, folder = files
    model = copy.deepcopy(base)
    shutil.copytree(folder / "peft", tmp_path / "peft", dirs_exist_ok=True)
    said = json.loads((folder / "peft" / CONFIG_FILE).read_text())
    (tmp_path / "peft" / CONFIG_FILE).write_text(json.dumps(said | changes))
    assert_put_on_or_refused(model, lambda: import_peft(model, tmp_path / "peft"))


@FEW
@given(pattern=st.text("(a|.*)+?{2,9}[]^$q", max_size=30))
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_whatever_pattern_a_layer_is_matched_with(files, tmp_path, pattern):
    base, folder = files
    model = copy.deepcopy(base)
    shutil.copytree(folder / "peft", tmp_path / "peft", dirs_exist_ok=True)
    said = json.loads((folder / "peft" / CONFIG_FILE).read_text())
    (tmp_path / "peft" / CONFIG_FILE).write_text(json.dumps(said | {"alpha_pattern": {pattern: 4}}))
    assert_put_on_or_refused(model, lambda: import_peft(model, tmp_path / "peft"))


def test_what_is_whole_is_put_on(files):
    base, folder = files
    x = torch.zeros(1, 3, 32, 32)
    one, two = copy.deepcopy(base), copy.deepcopy(base)
    load_adapter(one, folder / "a.safetensors")
    import_peft(two, folder / "peft")
    assert not torch.allclose(one(x), base(x), atol=1e-3)
    torch.testing.assert_close(one(x), two(x))
