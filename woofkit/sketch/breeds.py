"""The ten breeds of the study, told apart by what tells the real ones apart."""

from __future__ import annotations

from woofkit.sketch.traits import Traits

_TRAITS = {
    "Shih-Tzu": Traits(
        body_size=0.25, body_length=0.55, leg_length=0.1, leg_thickness=0.6, chest_depth=0.5, tuck_up=0.1,
        neck_length=0.25, head_size=0.75, skull_width=0.7, muzzle_length=0.05, muzzle_depth=0.6,
        ear_shape="drop", ear_length=0.65, ear_width=0.65, tail_shape="curled", tail_length=0.6,
        coat_texture="silky", coat_length=0.85, feathering=0.8, ruff=0.2, beard=0.75,
        coat_color="white", marking_color="brown", pattern="patched", white=0.3, tail_tip=0.5,
    ),
    "Rhodesian ridgeback": Traits(
        body_size=0.8, body_length=0.55, leg_length=0.8, leg_thickness=0.55, chest_depth=0.65, tuck_up=0.7,
        neck_length=0.65, head_size=0.45, skull_width=0.5, muzzle_length=0.7, muzzle_depth=0.65,
        ear_shape="drop", ear_length=0.4, ear_width=0.5, tail_shape="sabre", tail_length=0.65,
        coat_texture="smooth", coat_length=0.05, ridge=0.65, coat_color="wheaten", marking_color="brown",
        pattern="solid", white=0.1, dark_mask=0.3,
    ),
    "beagle": Traits(
        body_size=0.38, body_length=0.5, leg_length=0.4, leg_thickness=0.55, chest_depth=0.55, tuck_up=0.38,
        neck_length=0.43, head_size=0.57, skull_width=0.5, muzzle_length=0.47, muzzle_depth=0.55,
        ear_shape="drop", ear_length=0.72, ear_width=0.62, tail_shape="sabre", tail_length=0.53,
        coat_texture="smooth", coat_length=0.08, coat_color="tan", marking_color="black", pattern="saddle",
        white=0.68, tail_tip=0.85,
    ),
    "English foxhound": Traits(
        body_size=0.64, body_length=0.5, leg_length=0.7, leg_thickness=0.57, chest_depth=0.6, tuck_up=0.52,
        neck_length=0.58, head_size=0.46, skull_width=0.45, muzzle_length=0.7, muzzle_depth=0.58,
        ear_shape="drop", ear_length=0.5, ear_width=0.5, tail_shape="sabre", tail_length=0.63,
        coat_texture="smooth", coat_length=0.08, coat_color="tan", marking_color="black", pattern="saddle",
        white=0.82, tail_tip=0.8,
    ),
    "Border terrier": Traits(
        body_size=0.25, body_length=0.4, leg_length=0.5, leg_thickness=0.4, chest_depth=0.4, tuck_up=0.3,
        neck_length=0.4, head_size=0.6, skull_width=0.7, muzzle_length=0.32, muzzle_depth=0.55,
        ear_shape="folded", ear_length=0.3, ear_width=0.45, tail_shape="sabre", tail_length=0.35,
        coat_texture="wiry", coat_length=0.38, ruff=0.2, beard=0.3, coat_color="tan", marking_color="blue",
        pattern="saddle", dark_mask=0.7,
    ),
    "Australian terrier": Traits(
        body_size=0.22, body_length=0.55, leg_length=0.35, leg_thickness=0.4, chest_depth=0.45, tuck_up=0.3,
        neck_length=0.5, head_size=0.55, skull_width=0.4, muzzle_length=0.45, muzzle_depth=0.45,
        ear_shape="pricked", ear_length=0.4, ear_width=0.45, tail_shape="sabre", tail_length=0.25,
        coat_texture="wiry", coat_length=0.45, feathering=0.2, ruff=0.45, beard=0.25,
        coat_color="tan", marking_color="blue", pattern="saddle",
    ),
    "golden retriever": Traits(
        body_size=0.7, body_length=0.6, leg_length=0.6, leg_thickness=0.65, chest_depth=0.65, tuck_up=0.35,
        neck_length=0.5, head_size=0.55, skull_width=0.65, muzzle_length=0.55, muzzle_depth=0.65,
        ear_shape="drop", ear_length=0.45, ear_width=0.55, tail_shape="straight", tail_length=0.75,
        coat_texture="silky", coat_length=0.25, feathering=0.5, coat_color="golden",
        marking_color="cream", pattern="solid",
    ),
    "Old English sheepdog": Traits(
        body_size=0.85, body_length=0.5, leg_length=0.5, leg_thickness=0.9, chest_depth=0.75, tuck_up=0.05,
        neck_length=0.35, head_size=0.85, skull_width=0.7, muzzle_length=0.4, muzzle_depth=0.75,
        ear_shape="drop", ear_length=0.5, ear_width=0.5, tail_shape="bobbed", tail_length=0.05,
        coat_texture="fluffy", coat_length=0.95, feathering=0.5, ruff=0.4, fringe=1.0, beard=0.6,
        coat_color="white", marking_color="grey", pattern="mantle", white=0.4,
    ),
    "Samoyed": Traits(
        body_size=0.65, body_length=0.45, leg_length=0.5, leg_thickness=0.65, chest_depth=0.65, tuck_up=0.25,
        neck_length=0.4, head_size=0.6, skull_width=0.65, muzzle_length=0.45, muzzle_depth=0.5,
        ear_shape="pricked", ear_length=0.45, ear_width=0.6, tail_shape="curled", tail_length=0.75,
        coat_texture="fluffy", coat_length=0.75, feathering=0.8, ruff=0.85, coat_color="white",
        marking_color="cream", pattern="solid",
    ),
    "dingo": Traits(
        body_size=0.55, body_length=0.55, leg_length=0.7, leg_thickness=0.4, chest_depth=0.45, tuck_up=0.7,
        neck_length=0.5, head_size=0.45, skull_width=0.5, muzzle_length=0.6, muzzle_depth=0.4,
        ear_shape="pricked", ear_length=0.55, ear_width=0.5, tail_shape="straight", tail_length=0.65,
        coat_texture="smooth", coat_length=0.15, feathering=0.1, coat_color="ginger", marking_color="cream",
        pattern="solid", white=0.25, tail_tip=0.4,
    ),
}  # fmt: skip

BREEDS = tuple(_TRAITS)


def breed_traits(name: str) -> Traits:
    """Return the traits of one of the ten `BREEDS`.

    Raises:
        ValueError: no such breed; the message lists the ten.
    """
    if name not in _TRAITS:
        raise ValueError(f"unknown breed {name!r}: one of {', '.join(BREEDS)}")
    return _TRAITS[name]
