"""What the study expects, as data: written down before any result, read back for the verdicts.

H0 to H8 turn the paper's claims C1 to C8 into conditions that a measurement can miss; H9 and H10 are what its reviewer
asked. A condition asks for an effect by its key.
"""

from woofkit.claims.effects import BEST_LR, FEW_MINUS_ALL, MORE_EPOCHS, Key, Quantity
from woofkit.claims.verdicts import Condition, Hypothesis

# Smallest differences of interest; smaller ones are noise to a user, even where a test could see them.
POINT = 0.01  # of accuracy
SHARE = 0.1  # of the even share of a map: nothing that one would see
FACTOR = 0.1  # of a cost: a tenth
OUTSIDE = 0.05  # of a map on patches without any dog may pass for none

PAIRED = "paired on the same test images; variance over images and over seeds"
MAP = "attention"  # the paper's kind of map
MAPS = "the last block's CLS attention on test drawings; variance over dogs and over seeds, each seed on the same side"
FACE, LEGS, NO_DOG = Quantity.FACE, Quantity.LEGS, Quantity.NO_DOG


def _at_both_rates(statement: str, key: Key, margin: float) -> tuple[Condition, ...]:
    """The same at the paper's learning rate and at the best of each method."""
    return (
        Condition(f"{statement} at the paper's learning rate", key, margin=margin),
        Condition(f"{statement} at each method's best", key._replace(setting=BEST_LR), margin=margin),
    )


def _of_both(
    statement: str, quantity: Quantity, second: str = "", setting: str = "", **bounds: float
) -> tuple[Condition, ...]:
    """The same of full fine-tuning and of LoRA; `bounds` are those of a condition."""
    return (
        Condition(f"full fine-tuning {statement}", Key(quantity, "full", second, setting), **bounds),
        Condition(f"LoRA {statement}", Key(quantity, "lora", second, setting), **bounds),
    )


HYPOTHESES = (
    Hypothesis(
        "H0",
        "",
        "(left out)",
        "fine-tuning beats the pretrained model as it is",
        _of_both("beats the untouched backbone", Quantity.ACCURACY, "untouched", margin=POINT),
        f"{PAIRED}; untouched is zero-shot where the weights know the breeds, elsewhere a linear probe",
    ),
    Hypothesis(
        "H1",
        "C1",
        "full fine-tuning has the highest accuracy",
        "full fine-tuning is ahead of LoRA",
        _at_both_rates("full fine-tuning is ahead", Key(Quantity.ACCURACY, "full", "lora"), POINT),
        f"{PAIRED}; the best learning rate is chosen on validation images",
    ),
    Hypothesis(
        "H2",
        "C2",
        "LoRA is significantly more parameter-efficient",
        "LoRA trains at most a tenth of the parameters",
        (Condition("trained parameters, full over LoRA", Key(Quantity.PARAMETERS, "full", "lora"), limit=10),),
        "counted",
    ),
    Hypothesis(
        "H3",
        "C3",
        "LoRA is computationally lighter",
        "a training step takes less of everything, and so does the file",
        tuple(
            Condition(f"{what}, full over LoRA", Key(quantity, "full", "lora"), limit=1, margin=FACTOR)
            for what, quantity in (
                ("operations of a step", Quantity.OPERATIONS),
                ("memory of a step", Quantity.MEMORY),
                ("time of a step", Quantity.TIME),
                ("file", Quantity.FILE),
            )
        ),
        "operations and bytes counted, time by alternating rounds",
    ),
    Hypothesis(
        "H4",
        "C4",
        "LoRA needs fewer labeled data",
        "the fewer labels, the better LoRA does beside full fine-tuning",
        (
            Condition(
                "LoRA's lead grows from all labels to a tenth of them",
                Key(Quantity.LEAD, "lora", "full", FEW_MINUS_ALL),
                margin=2 * POINT,
            ),
        ),
        f"{PAIRED}; each method at its best learning rate",
    ),
    Hypothesis(
        "H5",
        "C5",
        "LoRA attends to facial details, full fine-tuning also to the legs",
        "LoRA looks at head and ears more, full fine-tuning at the legs",
        tuple(
            Condition(f"{words}, by {SHARE:g} even shares at least", Key(*asked, MAP), margin=SHARE)
            for words, *asked in (
                ("LoRA attends to the face more than full fine-tuning does", FACE, "lora", "full"),
                ("full fine-tuning attends to the legs more than LoRA does", LEGS, "full", "lora"),
                ("LoRA attends to the face more than a map that only looks at the centre", FACE, "lora", "centre"),
                ("full fine-tuning attends to the legs more than the centre map does", LEGS, "full", "centre"),
            )
        ),
        MAPS,
    ),
    Hypothesis(
        "H6",
        "C6",
        "the model attends exclusively to the object",
        "patches without any dog get next to nothing",
        _of_both(
            f"spends at most {OUTSIDE:.0%} on patches without any dog", NO_DOG, "", MAP, above=False, limit=OUTSIDE
        ),
        MAPS,
    ),
    Hypothesis(
        "H7",
        "C7",
        "the accuracy plateaus within five epochs",
        "four times the epochs gain less than a point",
        _of_both("gains no point from 5 to 20 epochs", Quantity.GAIN, "", MORE_EPOCHS, above=False, limit=POINT),
        PAIRED,
    ),
    Hypothesis(
        "H8",
        "C8",
        "the LoRA model demonstrates superior performance",
        "LoRA is ahead of full fine-tuning",
        _at_both_rates("LoRA is ahead", Key(Quantity.ACCURACY, "lora", "full"), POINT),
        PAIRED,
    ),
    Hypothesis(
        "H9",
        "",
        "(the reviewer: what is forgotten?)",
        "LoRA forgets less than full fine-tuning",
        _at_both_rates("LoRA keeps more", Key(Quantity.KEPT, "lora", "full"), 2 * POINT),
        "the original head put back on the adapted backbone; paired on the same images of the earlier task",
    ),
    Hypothesis(
        "H10",
        "",
        "(the reviewer: why should a map say anything about the class?)",
        "patches in the order of the paper's map matter more than those in the middle of the picture",
        (
            Condition(
                "taking away the map's patches first costs LoRA more",
                Key(Quantity.DELETION, "lora", "centre", MAP),
                above=False,
            ),
            Condition("giving them back first brings LoRA more", Key(Quantity.INSERTION, "lora", "centre", MAP)),
        ),
        MAPS,
    ),
)
