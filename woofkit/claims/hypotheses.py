"""What the study expects, as data: written down before any result, read back for the verdicts.

H0 to H8 turn the report's claims C1 to C8 into conditions that a measurement can miss; H9 and H10 are what its reviewer
asked. An effect is named in words; evidence.py measures it.
"""

from woofkit.claims.verdicts import Condition, Hypothesis

# Smallest differences worth the name; smaller ones are noise to a user, even where a test could see them.
POINT = 0.01  # of accuracy
SHARE = 0.1  # of the even share of a map: nothing that one would see
FACTOR = 0.1  # of a cost: a tenth
OUTSIDE = 0.05  # of a map on patches without any dog may pass for none

PAIRED = "paired on the same test images; variance over images and over seeds"
MAPS = "the last block's CLS attention on test drawings; variance over dogs and over seeds, each seed on the same side"

HYPOTHESES = (
    Hypothesis(
        "H0",
        "",
        "(left out)",
        "fine-tuning beats the pretrained model as it is",
        (
            Condition("full fine-tuning beats the untouched backbone", "accuracy, full minus untouched", margin=POINT),
            Condition("LoRA beats the untouched backbone", "accuracy, lora minus untouched", margin=POINT),
        ),
        f"{PAIRED}; untouched is zero-shot where the weights know the breeds, elsewhere a linear probe",
    ),
    Hypothesis(
        "H1",
        "C1",
        "full fine-tuning has the highest accuracy",
        "full fine-tuning is ahead of LoRA",
        (
            Condition(
                "full fine-tuning is ahead at the report's learning rate", "accuracy, full minus lora", margin=POINT
            ),
            Condition(
                "full fine-tuning is ahead at each method's best", "accuracy, full minus lora, best lr", margin=POINT
            ),
        ),
        f"{PAIRED}; the best learning rate is chosen on validation images",
    ),
    Hypothesis(
        "H2",
        "C2",
        "LoRA is significantly more parameter-efficient",
        "LoRA trains at most a tenth of the parameters",
        (Condition("trained parameters, full over LoRA", "parameters, full over lora", limit=10),),
        "counted",
    ),
    Hypothesis(
        "H3",
        "C3",
        "LoRA is computationally lighter",
        "a training step takes less of everything, and so does the file",
        (
            Condition("operations of a step, full over LoRA", "operations, full over lora", limit=1, margin=FACTOR),
            Condition("memory of a step, full over LoRA", "memory, full over lora", limit=1, margin=FACTOR),
            Condition("time of a step, full over LoRA", "time, full over lora", limit=1, margin=FACTOR),
            Condition("file, full over LoRA", "file, full over lora", limit=1, margin=FACTOR),
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
                "lead of lora, a tenth of the labels minus all",
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
        (
            Condition(
                f"LoRA attends to the face more than full fine-tuning does, by {SHARE:g} even shares at least",
                "density on the face, lora minus full",
                margin=SHARE,
            ),
            Condition(
                f"full fine-tuning attends to the legs more than LoRA does, by {SHARE:g} at least",
                "density on legs, full minus lora",
                margin=SHARE,
            ),
            Condition(
                f"LoRA attends to the face more than a map that only looks at the centre, by {SHARE:g} at least",
                "density on the face, lora minus centre",
                margin=SHARE,
            ),
            Condition(
                f"full fine-tuning attends to the legs more than the centre map, by {SHARE:g} at least",
                "density on legs, full minus centre",
                margin=SHARE,
            ),
        ),
        MAPS,
    ),
    Hypothesis(
        "H6",
        "C6",
        "the model attends exclusively to the object",
        "patches without any dog get next to nothing",
        (
            Condition(
                f"full fine-tuning spends at most {OUTSIDE:.0%} on patches without any dog",
                "share without dog, full",
                above=False,
                limit=OUTSIDE,
            ),
            Condition(
                f"LoRA spends at most {OUTSIDE:.0%} on patches without any dog",
                "share without dog, lora",
                above=False,
                limit=OUTSIDE,
            ),
        ),
        MAPS,
    ),
    Hypothesis(
        "H7",
        "C7",
        "the accuracy plateaus within five epochs",
        "four times the epochs gain less than a point",
        (
            Condition(
                "full fine-tuning gains no point from 5 to 20 epochs",
                "gain of 20 epochs over 5, full",
                above=False,
                limit=POINT,
            ),
            Condition(
                "LoRA gains no point from 5 to 20 epochs", "gain of 20 epochs over 5, lora", above=False, limit=POINT
            ),
        ),
        PAIRED,
    ),
    Hypothesis(
        "H8",
        "C8",
        "the LoRA model demonstrates superior performance",
        "LoRA is ahead of full fine-tuning",
        (
            Condition("LoRA is ahead at the report's learning rate", "accuracy, lora minus full", margin=POINT),
            Condition("LoRA is ahead at each method's best", "accuracy, lora minus full, best lr", margin=POINT),
        ),
        PAIRED,
    ),
    Hypothesis(
        "H9",
        "",
        "(the reviewer: what is forgotten?)",
        "LoRA forgets less than full fine-tuning",
        (
            Condition(
                "LoRA keeps more at the report's learning rate",
                "kept of the earlier task, lora minus full",
                margin=2 * POINT,
            ),
            Condition(
                "LoRA keeps more at each method's best",
                "kept of the earlier task, lora minus full, best lr",
                margin=2 * POINT,
            ),
        ),
        "the original head put back on the adapted backbone; paired on the same images of the earlier task",
    ),
    Hypothesis(
        "H10",
        "",
        "(the reviewer: why should a map say anything about the class?)",
        "patches in the order of the report's map matter more than those in the middle of the picture",
        (
            Condition(
                "taking away the map's patches first costs LoRA more",
                "area under deletion, lora minus centre",
                above=False,
            ),
            Condition("giving them back first brings LoRA more", "area under insertion, lora minus centre"),
        ),
        MAPS,
    ),
)
