"""README's answer says no more than the verdicts that notebook 05 gives on the same effects."""

import pytest

from tools import overview
from woofkit.claims.effects import BEST_LR, Effect, Key, Quantity

WORLD = "drawings"
ACCURACY = Key(Quantity.ACCURACY, "full", "lora", "", WORLD)
KEPT = Key(Quantity.KEPT, "lora", "full", "", WORLD)


@pytest.fixture
def answer(monkeypatch):
    """The answer by these effects of drawings: of H1's and of H9's two conditions each."""

    def told(ahead=None, kept=None):
        effects = {}
        for key, effect in ((ACCURACY, ahead), (KEPT, kept)):
            for setting in ("", BEST_LR) if effect else ():
                effects[key._replace(setting=setting)] = effect
                value, low, high, *rest = effect
                mirrored = key._replace(first=key.second, second=key.first, setting=setting)
                effects[mirrored] = Effect(-value, -high, -low, *rest)
        monkeypatch.setattr(overview, "kept_effects", lambda dataset: effects if dataset == "sketchwoof" else {})
        return overview.answer_markdown()

    return told


def test_the_answer_has_the_verdicts_and_says_what_they_rest_on(answer):
    fresh = Effect(0.05, 0.04, 0.06, (0.05,) * 5, "5 seeds, 5,000 test images (sweep confirm, 96 pixels)", 20, True)
    old = Effect(0.05, 0.04, 0.06, (0.05,) * 3, "3 seeds, 1,000 test images (sweep rigor)", 20)
    text = answer(ahead=fresh, kept=old)
    assert "on drawings LoRA has 5.0 points fewer than full fine-tuning (+4.0 to +6.0);" in text
    assert (
        'H1, "full fine-tuning is ahead of LoRA by at least 1 point", is **supported** on drawings (confirmatory)'
        in text
    )
    assert "is **supported** on drawings (exploratory)" in text
    assert "Measured on drawings: 5 seeds, 5,000 test images (sweep confirm, 96 pixels); drawings: 3 seeds" in text


def test_a_difference_that_does_not_survive_the_correction_is_called_undecided(answer):
    barely = Effect(0.138, 0.03, 0.246, (0.1,) * 3, "3 seeds", 5)
    text = answer(kept=barely)
    assert "has 13.8 points more than full fine-tuning at the paper's learning rate (+3.0 to +24.6)" in text
    assert "is **undecided** on drawings (exploratory)" in text
    assert "ahead of full fine-tuning" not in text


@pytest.mark.parametrize(
    ("lead", "says"), [(0.004, "no method is shown to beat it"), (0.05, "full fine-tuning is shown to beat it")]
)
def test_the_probe_stands_beside_the_best_of_all(monkeypatch, lead, says):
    effects = {}
    for other, ahead in (("lora", lead / 2), ("full", lead)):
        for first, second, value in (("probe", other, -ahead), (other, "probe", ahead)):
            key = Key(Quantity.ACCURACY, first, second, BEST_LR, WORLD)
            effects[key] = Effect(value, value - 0.005, value + 0.005, (), "5 seeds")
    monkeypatch.setattr(overview, "kept_effects", lambda dataset: effects if dataset == "sketchwoof" else {})
    text = overview.answer_markdown()
    assert f"on drawings it has {100 * lead:.1f} points fewer than full fine-tuning (" in text
    assert f"corrected for all pairs of methods, {says}" in text


def test_without_effects_the_answer_claims_nothing(answer):
    text = answer()
    assert text.count("is not measured.") == 2
    assert "1 seed: not tested)" in text
    assert "**supported**" not in text
