"""What makes a drawn breed: its traits, their limits, and how far two breeds are apart."""

from dataclasses import dataclass, fields

COLORS = {  # RGB
    "white": (240, 236, 228),
    "cream": (230, 212, 176),
    "golden": (214, 168, 98),
    "wheaten": (186, 130, 80),
    "ginger": (190, 116, 62),
    "tan": (176, 114, 66),
    "red": (146, 72, 42),
    "brown": (106, 70, 46),
    "grey": (128, 129, 134),
    "blue": (88, 98, 116),
    "black": (46, 44, 46),
}
CHOICES = {
    "ear_shape": ("pricked", "folded", "drop"),
    "tail_shape": ("straight", "sabre", "curled", "bobbed"),
    "coat_texture": ("smooth", "wiry", "silky", "fluffy"),
    "coat_color": tuple(COLORS),
    "marking_color": tuple(COLORS),
    "pattern": ("solid", "saddle", "patched", "mantle"),
}


@dataclass(frozen=True)
class Traits:
    """The traits of one breed; every number runs from 0 (least) to 1 (most), every word comes from `CHOICES`.

    Use `dataclasses.replace(traits, ear_shape="drop")` to change a trait; the result is checked again.

    Raises:
        ValueError: a value that is not allowed; the message names the trait and what is.
    """

    body_size: float = 0.5  # how much of the frame the dog tends to fill
    body_length: float = 0.5
    leg_length: float = 0.5
    leg_thickness: float = 0.5
    chest_depth: float = 0.5
    tuck_up: float = 0.5  # 0 a barrel, 1 a greyhound's waist
    neck_length: float = 0.5
    head_size: float = 0.5
    skull_width: float = 0.5
    muzzle_length: float = 0.5
    muzzle_depth: float = 0.5
    ear_shape: str = "drop"
    ear_length: float = 0.5
    ear_width: float = 0.5
    tail_shape: str = "straight"
    tail_length: float = 0.5
    coat_texture: str = "smooth"
    coat_length: float = 0.2
    feathering: float = 0.0  # long hair on the tail, the backs of the legs and the belly
    ruff: float = 0.0  # collar of long hair around the neck
    fringe: float = 0.0  # hair falling over the eyes
    beard: float = 0.0
    ridge: float = 0.0  # stripe of hair growing the other way along the back
    coat_color: str = "tan"
    marking_color: str = "black"
    pattern: str = "solid"
    white: float = 0.0  # white on the feet, the chest, the belly and the muzzle
    tail_tip: float = 0.0  # white on the end of the tail
    dark_mask: float = 0.0  # dark muzzle

    def __post_init__(self) -> None:
        for name in NUMBERS:
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
                raise ValueError(f"trait {name}={value!r} is not allowed: a number from 0 to 1")
        for name, allowed in CHOICES.items():
            value = getattr(self, name)
            if value not in allowed:
                raise ValueError(f"trait {name}={value!r} is not allowed: one of {', '.join(allowed)}")


NAMES = tuple(field.name for field in fields(Traits))
NUMBERS = tuple(name for name in NAMES if name not in CHOICES)


def trait_distance(one: Traits, other: Traits) -> float:
    """Return Gower's distance: the mean over the traits of |difference| or, for words, of 0 (same) or 1.

    Range 0 (the same breed) to 1. Source: J. C. Gower, "A general coefficient of similarity and some of
    its properties", Biometrics 27 (1971).
    """
    total = sum(abs(getattr(one, name) - getattr(other, name)) for name in NUMBERS)
    total += sum(getattr(one, name) != getattr(other, name) for name in CHOICES)
    return total / len(NAMES)
