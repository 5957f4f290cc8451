"""Two or more runs laid over each other: their curves, where their settings differ, and by how much one is ahead."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from woofkit.config import ConfigError
from woofkit.plots.pages import comparison_page, curves_in_words, overlaid_png
from woofkit.plots.style import method_name
from woofkit.results import read_answers, read_history, read_predictions, read_record
from woofkit.stats.intervals import mcnemar_test
from woofkit.stats.seeds import paired_bootstrap

MOST = 6  # runs that can be told apart in one figure
BY_CHANCE = 0.05  # a p below it is called more than chance
ONE_SEED = "This is about these two trained models: the same settings with another seed give other ones."
MANY = "Whoever tests many pairs finds a small p by chance: these are not corrected for their number."


def compared_page(runs: Sequence[dict[str, Any]], settings: dict[str, Sequence[str]]) -> str:
    """Return the page that compares the first run with each of the others.

    Args:
        runs: of each its `run` (the folder), `name` and `method`; those beyond MOST are left out, and the page says so.
        settings: name -> one word per run, as the table shows them.
    """
    shown = runs[:MOST]
    settings = {name: words[:MOST] for name, words in settings.items()}
    names, methods = [run["name"] for run in shown], [method_name(run["method"]) for run in shown]
    called = methods if len(set(methods)) == len(shown) else names
    lines = [
        difference_in_words([Path(shown[0]["run"]), Path(other["run"])], [called[0], name])
        for other, name in zip(shown[1:], called[1:], strict=True)
    ]
    if not settings:
        lines.append("No setting differs.")
    lines.append(f"{ONE_SEED} {MANY}" if len(shown) > 2 else ONE_SEED)
    if len(runs) > MOST:
        lines.append(f"Of the {len(runs)} chosen runs, the first {MOST} are shown.")
    histories, unread = [], []
    for run in shown:
        try:
            if (Path(run["run"]) / "history.csv").is_file():  # zero-shot trains nothing
                histories.append((run["name"], run["method"], read_history(Path(run["run"]))))
        except ConfigError as error:
            unread.append(str(error))
    alt = ". ".join(f"{name}. {curves_in_words(history, method)}" for name, method, history in histories)
    return comparison_page(names, settings, lines + unread, overlaid_png(histories) if histories else None, alt)


def difference_in_words(folders: Sequence[Path], names: Sequence[str]) -> str:
    """Say by how much one of two runs is ahead on the same test images, how sure that is, or why it cannot be said.

    The difference has its bootstrap interval (`paired_bootstrap`) and p of McNemar's exact test.
    """
    one, other = names
    try:
        frames = [read_predictions(folder) for folder in folders]
        tested = [read_record(folder)["identity"].get("data", {}).get("test") for folder in folders]
    except ConfigError as error:
        return f"{one} and {other} cannot be compared picture by picture: {error}"
    counts = [len(frame) for frame in frames]
    apart = f"{one} ({counts[0]:,} pictures) and {other} ({counts[1]:,} pictures)"
    if not frames[0]["key"].equals(frames[1]["key"]):
        return f"{apart} were tested on different pictures, so they cannot be compared picture by picture."
    if tested[0] != tested[1]:  # drawings of another size or by another version have the same keys
        return f"{apart} were tested on drawings with different hashes: perhaps not the same ones, so not compared."
    if not frames[0]["label"].equals(frames[1]["label"]):
        return f"{apart} learned to name different things, so their answers cannot be compared."
    correct, labels = read_answers(folders)
    test = mcnemar_test(*correct)
    begin = (
        f"Both runs saw the same {counts[0]:,} pictures. {one} gets {test.only_first} right that {other} gets wrong;"
        f" {other} gets {test.only_second} right that {one} gets wrong."
    )
    if test.only_first + test.only_second == 0:
        return f"{begin} No picture tells them apart."
    ahead = f"{one} is ahead by" if test.difference > 0 else f"{other} is ahead by" if test.difference < 0 else "Equal:"
    try:
        interval = paired_bootstrap(*correct, labels)
        low, high = sorted(100 * (end if test.difference >= 0 else -end) for end in interval[1:3])
        sure = f"95% interval {low:+.1f} to {high:+.1f}, "
    except ValueError:  # a class with one picture: nothing to resample
        sure = ""
    measured = f"{ahead} {100 * abs(test.difference):.1f} points ({sure}McNemar's exact p = {test.p_value:.2g})."
    verdict = "Chance alone rarely does that." if test.p_value < BY_CHANCE else "That may be chance."
    return f"{begin} {measured} {verdict}"
