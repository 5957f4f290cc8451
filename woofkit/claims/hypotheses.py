"""What the study expects, as data, read back for the verdicts; `register` says when each was stated and changed.

H0 to H7 turn the paper's claims C1 to C8 into conditions that a measurement can miss; H9 and H10 are what its reviewer
asked. A condition asks for an effect by its key. A statement says its margin: a difference that is real, but smaller,
contradicts it, and a reader must see that the smaller one is not what it claims.
"""

from woofkit.claims.effects import BEST_LR, FEW_MINUS_ALL, MORE_EPOCHS, Key, Quantity
from woofkit.claims.verdicts import Condition, Hypothesis

# Smallest differences of interest: both verdicts are tested against them.
POINT = 0.01  # of accuracy
POINTS_KEPT = 2 * POINT  # of the accuracy on the earlier task, and of a lead that grows
SHARE = 0.1  # of the even share of a map: nothing that one would see
FACTOR = 0.1  # of a cost: a tenth
FEWER = 10  # times as many parameters
OUTSIDE = 0.05  # of a map on patches without any dog may pass for none

PAIRED = "paired on the same test images; variance over images and over seeds"
MAP = "attention"  # the paper's kind of map
MAPS = "the last block's CLS attention on test drawings; variance over dogs and over seeds"


def _at_both_rates(statement: str, key: Key, margin: float) -> tuple[Condition, ...]:
    """The same at the paper's learning rate and at the best of each method."""
    return (
        Condition(f"{statement} at the paper's learning rate", key, margin=margin),
        Condition(f"{statement} at each method's best", key._replace(setting=BEST_LR), margin=margin),
    )


def _of_both(statement: str, key: Key, **bounds: float) -> tuple[Condition, ...]:
    """The same of full fine-tuning and of LoRA, which take the place of the key's `first`."""
    methods = {"full": "full fine-tuning", "lora": "LoRA"}
    return tuple(
        Condition(f"{words} {statement}", key._replace(first=name), **bounds) for name, words in methods.items()
    )


def _cost(what: str, quantity: Quantity, limit: float = 1, margin: float = FACTOR) -> Condition:
    return Condition(f"{what}, full over LoRA", Key(quantity, "full", "lora"), limit=limit, margin=margin)


def _more(statement: str, quantity: Quantity, first: str, second: str) -> Condition:
    """A map of `first` has more on a part of the dog than that of `second`."""
    return Condition(f"{statement}, by at least {SHARE:g} even shares", Key(quantity, first, second, MAP), margin=SHARE)


AT_LEAST_A_POINT = f"at least {100 * POINT:g} point"
WORDS = {  # hypothesis -> claim, the paper's words, ours
    "H0": ("", "(left out)", f"fine-tuning beats the pretrained model as it is by {AT_LEAST_A_POINT}"),
    "H1": (
        "C1, C8",
        "full fine-tuning has the highest accuracy (C1); the LoRA model demonstrates superior performance (C8)",
        f"full fine-tuning is ahead of LoRA by {AT_LEAST_A_POINT}",
    ),
    "H2": (
        "C2",
        "LoRA is significantly more parameter-efficient",
        f"full fine-tuning trains at least {FEWER} times as many parameters as LoRA",
    ),
    "H3": (
        "C3",
        "LoRA is computationally lighter",
        f"full fine-tuning takes at least {1 + FACTOR:g} times what LoRA takes: operations, memory and time of a step, "
        "and the file",
    ),
    "H4": (
        "C4",
        "LoRA needs fewer labeled data",
        f"with a tenth of the labels, LoRA's lead over full fine-tuning is at least {100 * POINTS_KEPT:g} points "
        "larger than with all, at equally many training steps",
    ),
    "H5": (
        "C5",
        "LoRA attends to facial details, full fine-tuning also to the legs",
        f"LoRA looks at head and ears more, full fine-tuning at the legs, each by at least {SHARE:g} even shares",
    ),
    "H6": (
        "C6",
        "the model attends exclusively to the object",
        f"patches without any dog get at most {100 * OUTSIDE:g}% of the attention",
    ),
    "H7": (
        "C7",
        "the accuracy plateaus within five epochs",
        f"four times as many epochs gain at most {100 * POINT:g} point",
    ),
    "H9": (
        "",
        "(the reviewer: what is forgotten?)",
        f"LoRA keeps at least {100 * POINTS_KEPT:g} points more of the earlier task than full fine-tuning",
    ),
    "H10": (
        "",
        "(the reviewer: why should a map say anything about the class?)",
        "patches in the order of the paper's map matter more than those in the middle of the picture",
    ),
}
LEAD, DELETION = Key(Quantity.LEAD, "lora", "full", FEW_MINUS_ALL), Key(Quantity.DELETION, "lora", "centre", MAP)
OUTSIDE_DOG = f"spends at most {100 * OUTSIDE:g}% on patches without any dog"
CONDITIONS = {
    "H0": _of_both("beats the untouched backbone", Key(Quantity.ACCURACY, "", "untouched", BEST_LR), margin=POINT),
    "H1": _at_both_rates("full fine-tuning is ahead", Key(Quantity.ACCURACY, "full", "lora"), POINT),
    "H2": (_cost("trained parameters", Quantity.PARAMETERS, limit=FEWER, margin=0.0),),
    "H3": (
        _cost("operations of a step", Quantity.OPERATIONS),
        _cost("memory of a step", Quantity.MEMORY),
        _cost("time of a step", Quantity.TIME),
        _cost("file", Quantity.FILE),
    ),
    "H4": (
        Condition("LoRA's lead grows from all labels to a tenth of them, at equal steps", LEAD, margin=POINTS_KEPT),
    ),
    "H5": (
        _more("LoRA attends to the face more than full fine-tuning does", Quantity.FACE, "lora", "full"),
        _more("full fine-tuning attends to the legs more than LoRA does", Quantity.LEGS, "full", "lora"),
    ),
    "H6": _of_both(OUTSIDE_DOG, Key(Quantity.NO_DOG, "", setting=MAP), above=False, limit=OUTSIDE),
    "H7": _of_both(
        f"gains at most {100 * POINT:g} point from epoch 5 to epoch 20",
        Key(Quantity.GAIN, "", setting=MORE_EPOCHS),
        above=False,
        limit=POINT,
    ),
    "H9": _at_both_rates("LoRA keeps more", Key(Quantity.KEPT, "lora", "full"), POINTS_KEPT),
    "H10": (
        Condition("taking away the map's patches first costs LoRA more", DELETION, above=False),
        Condition("giving them back first brings LoRA more", DELETION._replace(quantity=Quantity.INSERTION)),
    ),
}
MEASURED = {  # how the effects are
    "H0": f"{PAIRED}; untouched is zero-shot where the weights know the breeds, elsewhere a linear probe",
    "H1": f"{PAIRED}; the best learning rate is chosen on validation images",
    "H2": "counted",
    "H3": "operations and bytes are counted, time is measured in alternating rounds",
    "H4": f"{PAIRED}; each method at the best learning rate for its amount of data",
    "H7": f"{PAIRED}; the weights of the last epoch, not of the selected one; both at the rate that is best for five",
    "H9": "the original head put back on the adapted backbone; paired on the same images of the earlier task",
    **dict.fromkeys(("H5", "H10"), MAPS),
    "H6": f"{MAPS}; the bundled backbone does so before any fine-tuning, so this is no finding about LoRA",
}
HYPOTHESES = tuple(Hypothesis(name, *words, CONDITIONS[name], MEASURED[name]) for name, words in WORDS.items())
