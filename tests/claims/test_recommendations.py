"""The recommendations: what nothing is shown to beat, need by need, and no more than the tests allow."""

from itertools import permutations

import numpy as np

from woofkit.claims.effects import COUNTED, WORLDS, Effect, Key, Quantity, in_world
from woofkit.claims.recommendations import NEEDS, Need, advise
from woofkit.tables.claims import decisions_markdown

NEED = Need("accuracy", Quantity.ACCURACY)


def pairs(quantity, **values):
    """Effects of every pair of methods whose values are these, each with an interval of 1 to either side."""
    found = {}
    for (first, ours), (second, theirs) in permutations(values.items(), 2):
        found[Key(quantity, first, second)] = Effect(ours - theirs, ours - theirs - 1, ours - theirs + 1, (), "here")
    return found


def test_all_methods_that_nothing_beats_are_named_and_the_cheapest_first():
    advice = advise(NEED, pairs(Quantity.ACCURACY, full=5.0, probe=4.5, lora=2.0), "")
    assert advice.unbeaten == ("probe", "full")
    assert list(advice.beaten) == ["lora"]
    assert advice.beaten["lora"][0] == Key(Quantity.ACCURACY, "full", "lora")  # by the one that is surest
    assert advise(NEED, {}, "") == ((), {})
    assert advise(NEED, pairs(Quantity.ACCURACY, full=5.0, probe=1.0), "drawings") == ((), {})


def test_what_one_of_many_comparisons_shows_by_itself_is_not_called_beaten():
    """Four methods are six pairs; the interval of one of them just misses 0, as one of six may by chance."""
    effects = pairs(Quantity.ACCURACY, full=0.0, lora=0.0, bitfit=0.0, probe=0.0)
    for key in (Key(Quantity.ACCURACY, "lora", "probe"), Key(Quantity.ACCURACY, "probe", "lora")):
        side = 1 if key.first == "lora" else -1
        effects[key] = Effect(side * 1.2, *sorted((side * 0.05, side * 2.35)))
    assert advise(NEED, effects, "").unbeaten == ("probe", "bitfit", "lora", "full")
    two = {key: effect for key, effect in effects.items() if {key.first, key.second} == {"lora", "probe"}}
    assert advise(NEED, two, "").unbeaten == ("lora",)


def test_methods_that_are_alike_are_rarely_called_beaten():
    rng, wrong, studies = np.random.default_rng(0), 0, 400
    for _ in range(studies):
        means = dict(zip(("probe", "bitfit", "lora", "full"), rng.normal(0, 1 / 1.96 / 2**0.5, 4), strict=True))
        wrong += bool(advise(NEED, pairs(Quantity.ACCURACY, **means), "").beaten)
    assert 0 < wrong / studies <= 0.05 + 2 * (0.05 * 0.95 / studies) ** 0.5


def test_equal_counts_beat_nobody():
    equal = {
        Key(Quantity.FILE, *pair): Effect(1.0, 1.0, 1.0, (), COUNTED) for pair in (("lora", "full"), ("full", "lora"))
    }
    assert advise(Need("", Quantity.FILE), equal, "").unbeaten == ("lora", "full")


def test_of_what_is_spent_less_is_better():
    ratios = {
        Key(Quantity.TIME, "full", "lora"): Effect(1.3, 1.2, 1.4),
        Key(Quantity.TIME, "lora", "full"): Effect(0.8, 0.7, 0.9),
    }
    assert advise(Need("", Quantity.TIME), ratios, "").unbeaten == ("lora",)


def test_the_recommendations_stand_side_by_side_for_both_worlds():
    effects = in_world(pairs(Quantity.KEPT, lora=0.15, full=-5.0), "sketchwoof")
    text = decisions_markdown(effects, tuple(WORLDS.values()))
    assert "| if you need | take, judging by drawings | take, judging by photographs |" in text
    row = (
        "| the earlier task must survive | **LoRA**<br>full fine-tuning is 515.0 (415.0 to 615.0) points behind LoRA |"
    )
    assert f"{row} not measured |" in text
    assert text.count("not measured") == 2 * len(NEEDS) - 1
