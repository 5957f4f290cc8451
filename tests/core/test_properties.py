"""Laws over what nobody thought of: any value of a parameter, any damage to a run's files."""

import string
from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers import budget
from woofkit.config import ConfigError, StudyConfig
from woofkit.profiles import load_profile, parse_override
from woofkit.results import FILES, METRICS, damage, is_finished, is_whole, load_runs, write_metrics

NAMES = [field.name for field in fields(StudyConfig)]
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
VALUES = SCALARS | st.lists(SCALARS, max_size=3) | st.dictionaries(st.text(max_size=3), SCALARS, max_size=2)
ODD_METRICS = st.sampled_from([b"{}", b"[]", b"null", b'{"files": 3}', b'{"files": {"a": 1}}'])
BUDGET = budget(150)


def refusal(make):
    """The sentence with which a value is refused, or ""."""
    try:
        make()
    except ConfigError as error:
        return str(error)
    return ""


@BUDGET
@given(st.sampled_from([*NAMES, "Lr", "use_amp"]), VALUES)
def test_any_value_of_any_parameter_is_taken_or_refused_in_one_line(name, value):
    words = refusal(lambda: StudyConfig.from_dict({name: value}))
    assert len(words.splitlines()) <= 1
    assert not words or name in words or "path" in words
    assert words or getattr(StudyConfig.from_dict({name: value}), name) == value


@BUDGET
@given(st.sampled_from(NAMES), st.text(max_size=40))
def test_any_text_on_the_command_line_is_a_value_or_refused(name, text):
    assert len(refusal(lambda: StudyConfig.from_dict({name: parse_override(name, text)})).splitlines()) <= 1


@BUDGET
@given(content=st.binary(max_size=60) | st.text(string.printable, max_size=60).map(str.encode))
def test_any_profile_file_is_read_or_refused(content, tmp_path):
    (tmp_path / "odd.yaml").write_bytes(content)
    refusal(lambda: StudyConfig.from_dict(load_profile(tmp_path / "odd.yaml")))  # nothing else is raised


@BUDGET
@given(name=st.sampled_from([METRICS, *FILES[:4]]), after=st.binary(max_size=80), bit=st.none() | st.integers(0, 10**4))
def test_no_change_of_a_runs_bytes_passes_for_whole(name, after, bit, tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "full-r0-s0-00000000"
    run.mkdir()
    for each in FILES[:4]:
        (run / each).write_bytes(each.encode() * 3)
    write_metrics(run, {"test_accuracy": 0.5})
    assert is_whole(run)
    file = run / name
    before = file.read_bytes()
    if bit is not None:
        after = bytearray(before)
        after[bit // 8 % len(before)] ^= 1 << bit % 8
    file.write_bytes(after)
    is_finished(run)  # reads sizes alone, and raises nothing
    if file.name != METRICS:
        assert damage(run) == "" if bytes(after) == before else file.name in damage(run)


@pytest.mark.filterwarnings("ignore:.*is damaged")
@BUDGET
@given(
    content=st.binary(max_size=60) | st.sampled_from([b"{}", b"[]", b"null", b'{"files": 3}', b'{"files": {"a": 1}}'])
)
def test_no_metrics_stop_a_table(content, tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "full-r0-s0-00000000"
    run.mkdir()
    (run / METRICS).write_bytes(content)
    assert load_runs(run.parent).empty
    assert not is_whole(run)
