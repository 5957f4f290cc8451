"""What is known of one's own pictures, in words: the answer, the methods side by side, what more labels would bring.

Every number has its interval; what is not measured yet is said to be so.
"""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from woofkit.claims.effects import BEST_LR, OWN, Effect, Quantity, in_world
from woofkit.claims.recommendations import CHEAPEST_FIRST, NEEDS, advise
from woofkit.own.facts import KEEPS_ALL, SEARCH, Facts
from woofkit.own.labels import LEAST_FOR_A_CURVE, LabelCurve
from woofkit.results import METHOD_NAMES, percent, read_answers, read_metrics
from woofkit.stats.intervals import Interval, accuracy_interval
from woofkit.stats.power import detectable_difference
from woofkit.stats.seeds import OverSeeds, seed_and_image_variance
from woofkit.tables import markdown_table
from woofkit.tables.claims import decisions_markdown

OWN_NEEDS = tuple(
    need._replace(question=question)
    for need in NEEDS
    for quantity, setting, question in (
        (Quantity.ACCURACY, BEST_LR, "the best accuracy"),
        (Quantity.MEMORY, "", need.question),
        (Quantity.TIME, "", need.question),
        (Quantity.FILE, "", need.question),
        (Quantity.KEPT, "", "what the weights knew before must survive"),
    )
    if (need.quantity, need.setting) == (quantity, setting)
)
NOT_YET = "not yet"


def answer(facts: Facts, pictures: str, left: str = "", curves_to_come: bool = False) -> str:
    """The whole recommendation in markdown; `pictures` describes them, and `left` says what is still to do."""
    name = Path(facts.sweep.study.data_dir).name
    parts = [f"# Which method for {name}?", _headline(facts), pictures]
    parts += [f"*Not everything is measured yet: {left}.*"] if left else []
    parts += ["## The methods", methods_markdown(facts), _notes(facts)]
    if facts.costs is not None and any(key.quantity == Quantity.TIME for key in facts.effects):
        effects = in_world(facts.effects, facts.sweep.study.dataset)
        parts += ["## By what you need", decisions_markdown(effects, (OWN,), OWN_NEEDS)]
    return "\n\n".join([*parts, "## What more labels would bring", labels_markdown(facts, curves_to_come)])


def _headline(facts: Facts) -> str:
    """What to take, by accuracy alone, and how far that can be believed."""
    measured = [METHOD_NAMES[method] for method in CHEAPEST_FIRST if method in facts.runs]
    if not measured:
        return "Nothing is known yet: no search for a learning rate has ended."
    if len(measured) == 1:
        [runs] = facts.runs.values()
        only = f"**Only one way has been measured: {measured[0]}, with {_right(runs)}.**"
        return f"{only} Whether training more would be better is not known yet."
    need = OWN_NEEDS[0]
    unbeaten, beaten = advise(need, in_world(facts.effects, facts.sweep.study.dataset), OWN)
    equals = [_with_share(facts, method) for method in unbeaten[1:]]
    take = "Train nothing (zero-shot)" if unbeaten[0] == "zero-shot" else f"Take {_named(unbeaten[0])}"
    lines = [f"**{take}, if accuracy is what counts: {_right(facts.runs[unbeaten[0]])}.**"]
    if equals:
        more = "they train" if equals[1:] else "it trains"
        also = f"{_at_the_start(_listed(equals))} may be as good or better, which these test images cannot tell"
        lines.append(f"No other method was shown to beat it. {also}; {more} more.")
    else:
        lines.append("It was shown to beat every other method that was measured.")
    for method, (key, effect) in beaten.items():
        winner = key.second if key.first == method else key.first
        lines.append(f"{_at_the_start(_named(method))} is {_points(effect)} behind {_named(winner)}.")
    lines.append(_resolution(facts))
    missing = [METHOD_NAMES[job.config.method] for job in facts.sweep.jobs if job.config.method not in facts.runs]
    if missing:
        lines.append(f"Not measured yet: {_listed(list(dict.fromkeys(missing)))}.")
    return " ".join(lines)


def _right(runs: Mapping[int, Path]) -> str:
    """How much of the test images a method gets right, within a sentence."""
    return f"{_accuracy(list(runs.values()))} of the test images right"


def _with_share(facts: Facts, method: str) -> str:
    correct, _ = read_answers(list(facts.runs[method].values()))
    return f"{METHOD_NAMES[method]} ({percent(correct.mean())})"


def _named(method: str) -> str:
    """A method's name within a sentence."""
    return f"the {METHOD_NAMES[method]}" if method == "probe" else METHOD_NAMES[method]


def _resolution(facts: Facts) -> str:
    images = read_metrics(next(iter(next(iter(facts.runs.values())).values())))["num_test_images"]
    try:
        points = 100 * detectable_difference(images)
    except ValueError:
        return f"{images:,} test images are too few to show any difference with certainty: take this as a first hint."
    return (
        f"{images:,} test images show differences from about {points:.0f} points on (with power 80%, if two methods "
        "disagree on a tenth of the images); a smaller one may be there all the same."
    )


# --- the methods ---


def methods_markdown(facts: Facts) -> str:
    """One row per method, from those that train least."""
    methods = [method for method in CHEAPEST_FIRST if method in {job.config.method for job in facts.sweep.jobs}]
    methods = ["zero-shot", *methods] if "zero-shot" in facts.runs else methods
    head = ("method", "trained parameters", "learning rate", "validation accuracy", "test accuracy", "training")
    head += ("memory of a step", "file", "change on the earlier task")
    return markdown_table(head, [_row(facts, method) for method in methods], "lrrrrrrrr")


def _row(facts: Facts, method: str) -> tuple[str, ...]:
    own = facts.frame[facts.frame["method"] == method] if len(facts.frame) else facts.frame
    rate, val = _search(own, method)
    row = (METHOD_NAMES[method], f"{own['trainable_parameters'].iloc[0]:,.0f}" if len(own) else NOT_YET, rate, val)
    if method not in facts.runs:
        return (*row, NOT_YET, NOT_YET, _memory(facts, method), NOT_YET, NOT_YET)
    runs = list(facts.runs[method].values())
    metrics = [read_metrics(run) for run in runs]
    seconds = sum(each.get("train_seconds", 0.0) for each in metrics) / len(metrics)
    seeds = f", {len(runs)} seed{'s' if len(runs) > 1 else ''}" if method != "zero-shot" else ""
    return (
        *row,
        f"{_accuracy(runs)}{seeds}",
        _duration(seconds) if seconds else "none",
        _memory(facts, method),
        _megabytes(metrics[0]["checkpoint_bytes"] / 1e6),
        _kept(facts, method),
    )


def _search(own: pd.DataFrame, method: str) -> tuple[str, str]:
    """The rate with the best validation accuracy so far, and that accuracy, with its interval over the images."""
    if method == "zero-shot":
        return "none", "none"
    tried = own[own["grid"] == SEARCH] if len(own) else own
    if not len(tried):
        return NOT_YET, NOT_YET
    by_rate = tried.groupby("lr")["val_accuracy"].mean()
    images = int(tried["num_val_images"].iloc[0])
    right = round(float(by_rate.max()) * images)
    found = accuracy_interval(pd.Series([True] * right + [False] * (images - right)).to_numpy())
    return f"{by_rate.idxmax():g}", f"{percent(by_rate.max())} ({_ends(found)})"


def _accuracy(runs: list[Path]) -> str:
    """The accuracy of a method's runs with its interval."""
    correct, labels = read_answers(runs)
    found = seed_and_image_variance(correct, labels) if len(correct) > 1 else accuracy_interval(correct[0])
    return f"{percent(found.value)} ({_ends(found)})"


def _memory(facts: Facts, method: str) -> str:
    if method == "zero-shot":
        return "none"
    if facts.costs is None:
        return NOT_YET
    row = facts.costs.set_index("method").loc[method]
    return _megabytes(sum(row[f"{part}_mb"] for part in ("weights", "optimizer", "gradients", "activations")))


def _kept(facts: Facts, method: str) -> str:
    if method in KEEPS_ALL:
        return "none: the backbone stays"
    return _points(facts.kept[method]) if method in facts.kept else "not measured"


def _notes(facts: Facts) -> str:
    """What has to be known to read the table, in sentences."""
    lines = [
        "Intervals are of 95%; with several seeds they count images and seeds, otherwise images alone. Learning rates "
        "were chosen on the validation images, nothing on the test images; the validation accuracy of the best of "
        "several rates is a little too high. Training is the mean of the runs on this machine.",
        facts.earlier,
        _epochs(facts),
    ]
    if "zero-shot" not in facts.runs:
        lines.append(
            "Zero-shot (training nothing) is left out: the weights have no head that knows all the classes, by "
            "ImageNet's ids or names."
        )
    elif facts.sweep.study.dataset == "folder":
        lines.append("Should these pictures come from ImageNet itself, the weights may have seen the test images.")
    return " ".join(filter(None, lines))


def _epochs(facts: Facts) -> str:
    """How long each training was, and whose last epoch was its best: more of them may bring more."""
    epochs, metrics = facts.sweep.study.epochs, {}
    for method, seeds in facts.runs.items():
        if method != "zero-shot":
            metrics[method] = [read_metrics(run)["selected_epoch"] for run in seeds.values()]
    growing = [METHOD_NAMES[method] for method, selected in metrics.items() if min(selected) == epochs]
    words = f"Each method was trained for {epochs} {'epoch' if epochs == 1 else 'epochs'}."
    if growing:
        words += f" The last one was the best of {_listed(growing)} in every run: more may help (`-p epochs N`)."
    return words


# --- more labels ---


def labels_markdown(facts: Facts, to_come: bool) -> str:
    """What was measured on fewer images, and what more are expected to bring."""
    if not facts.curves and to_come:
        return "Not measured yet."
    if not facts.curves:
        return f"Not known: it takes {LEAST_FOR_A_CURVE} training images of each class or more."
    parts = []
    for curve in facts.curves:
        name = METHOD_NAMES[curve.method]
        rows = [(f"{size:,}", f"{percent(value)} ± {196 * error:.1f}", "") for size, value, error in curve.measured]
        rows += [(f"{each.size:,.0f}", "", f"{percent(each.value)} ({_ends(each)})") for each in curve.expected]
        table = markdown_table(("training images", f"{name}, measured", "expected"), rows, "rrr")
        parts += [_more(curve), table]
    parts.append(
        "Each amount was trained on anew, with as many steps as all images take. The probe's rate was chosen for each "
        "amount, that of other methods on all images. Expected: an inverse power law with a floor, error = c + a n^-b; "
        "the interval has every such curve that the measured accuracies do not contradict. It is for more pictures of "
        "the same kind. "
        "The figure is `figures/label_curves.png`."
    )
    return "\n\n".join(parts)


def _more(curve: LabelCurve) -> str:
    """What twice the images bring, in one sentence."""
    name, gain = METHOD_NAMES[curve.method], curve.gain
    words = "bring" if gain.low > 0 else "may bring nothing; the best guess is"
    numbers = f"{100 * gain.value:.1f} points ({100 * gain.low:.1f} to {100 * gain.high:.1f})"
    return (
        f"**{_at_the_start(name)}:** twice as many training images as these {curve.measured[-1][0]:,} {words} "
        f"{numbers} more."
    )


def curve_frame(facts: Facts) -> pd.DataFrame:
    """The curves as `plots.accuracy.label_curves` takes them."""
    rows = []
    for curve in facts.curves:
        for size, value, error in curve.measured:
            low, high = max(value - 1.96 * error, 0.0), min(value + 1.96 * error, 1.0)
            rows.append((curve.method, size, value, low, high, False))
        rows += [(curve.method, round(each.size), each.value, each.low, each.high, True) for each in curve.expected]
    return pd.DataFrame(rows, columns=["method", "images", "accuracy", "low", "high", "expected"])


# --- numbers in words ---


def _ends(found: Interval | OverSeeds) -> str:
    return f"{100 * found.low:.1f} to {100 * found.high:.1f}"


def _points(effect: Effect) -> str:
    value, low, high = (f"{100 * number:.1f}".replace("-", "−") for number in effect[:3])
    return f"{value} points" if low == high else f"{value} points ({low} to {high})"


def _duration(seconds: float) -> str:
    if seconds < 1:
        return "under 1 s"
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.1f} min"


def _megabytes(size: float) -> str:
    if size < 0.1:
        return f"{1000 * size:.0f} kB"
    return f"{size:.1f} MB" if size < 100 else f"{size:,.0f} MB"


def _at_the_start(name: str) -> str:
    return name[0].upper() + name[1:]


def _listed(names: list[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
