"""SketchWoof: dogs drawn by code, each with the mask of its parts; a pure function of traits, seed and index."""

from woofkit.sketch.breeds import BREEDS, breed_traits
from woofkit.sketch.drawing import Drawing, code_hash, draw_dog, drawing_hash, pose_of
from woofkit.sketch.layers import PARTS
from woofkit.sketch.litter import litter
from woofkit.sketch.scene import UNSEEN_PLACE
from woofkit.sketch.skeleton import POSES, UNSEEN_POSE
from woofkit.sketch.traits import Traits, trait_distance

__all__ = ["BREEDS", "PARTS", "POSES", "Drawing", "Traits", "breed_traits", "code_hash", "draw_dog", "litter"]
__all__ += ["UNSEEN_PLACE", "UNSEEN_POSE", "drawing_hash", "pose_of", "trait_distance"]
