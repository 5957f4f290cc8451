"""The ten breeds of the study, told apart by what tells the real ones apart."""

from functools import cache

from woofkit.sketch.traits import CHOICES, Traits

BREEDS = (
    "Shih-Tzu",
    "Rhodesian ridgeback",
    "beagle",
    "English foxhound",
    "Border terrier",
    "Australian terrier",
    "golden retriever",
    "Old English sheepdog",
    "Samoyed",
    "dingo",
)

# One row for each of the traits, one column for each of the breeds above.
_TABLE = """
              Shih-Tzu ridgeback   beagle foxhound   Border Australian   golden sheepdog  Samoyed    dingo
body_size         0.25      0.80     0.38     0.64     0.25       0.22     0.70     0.85     0.65     0.55
body_length       0.55      0.55     0.50     0.50     0.40       0.55     0.60     0.50     0.45     0.55
leg_length        0.10      0.80     0.40     0.70     0.50       0.35     0.60     0.50     0.50     0.70
leg_thickness     0.60      0.55     0.55     0.57     0.40       0.40     0.65     0.90     0.65     0.40
chest_depth       0.50      0.65     0.55     0.60     0.40       0.45     0.65     0.75     0.65     0.45
tuck_up           0.10      0.70     0.38     0.52     0.30       0.30     0.35     0.05     0.25     0.70
neck_length       0.25      0.65     0.43     0.58     0.40       0.50     0.50     0.35     0.40     0.50
head_size         0.75      0.45     0.57     0.46     0.60       0.55     0.55     0.85     0.60     0.45
skull_width       0.70      0.50     0.50     0.45     0.70       0.40     0.65     0.70     0.65     0.50
muzzle_length     0.05      0.70     0.47     0.70     0.32       0.45     0.55     0.40     0.45     0.60
muzzle_depth      0.60      0.65     0.55     0.58     0.55       0.45     0.65     0.75     0.50     0.40
ear_shape         drop      drop     drop     drop   folded    pricked     drop     drop  pricked  pricked
ear_length        0.65      0.40     0.72     0.50     0.30       0.40     0.45     0.50     0.45     0.55
ear_width         0.65      0.50     0.62     0.50     0.45       0.45     0.55     0.50     0.60     0.50
tail_shape      curled     sabre    sabre    sabre    sabre      sabre straight   bobbed   curled straight
tail_length       0.60      0.65     0.53     0.63     0.35       0.25     0.75     0.05     0.75     0.65
coat_texture     silky    smooth   smooth   smooth     wiry       wiry    silky   fluffy   fluffy   smooth
coat_length       0.85      0.05     0.08     0.08     0.38       0.45     0.25     0.95     0.75     0.15
feathering        0.80         0        0        0        0       0.20     0.50     0.50     0.80     0.10
ruff              0.20         0        0        0     0.20       0.45        0     0.40     0.85        0
fringe               0         0        0        0        0          0        0     1.00        0        0
beard             0.75         0        0        0     0.30       0.25        0     0.60        0        0
ridge                0      0.65        0        0        0          0        0        0        0        0
coat_color       white   wheaten      tan      tan      tan        tan   golden    white    white   ginger
marking_color    brown     brown    black    black     blue       blue    cream     grey    cream    cream
pattern        patched     solid   saddle   saddle   saddle     saddle    solid   mantle    solid    solid
white             0.30      0.10     0.68     0.82        0          0        0     0.40        0     0.25
tail_tip          0.50         0     0.85     0.80        0          0        0        0        0     0.40
dark_mask            0      0.30        0        0     0.70          0        0        0        0        0
"""


@cache
def breed_traits(name: str) -> Traits:
    """Return the traits of one of the ten `BREEDS`.

    Raises:
        ValueError: no such breed; the message lists the ten.
    """
    if name not in BREEDS:
        raise ValueError(f"unknown breed {name!r}: one of {', '.join(BREEDS)}")
    column = 1 + BREEDS.index(name)
    rows = [line.split() for line in _TABLE.strip().splitlines()[1:]]
    return Traits(**{row[0]: row[column] if row[0] in CHOICES else float(row[column]) for row in rows})
