"""What a model looks at: maps, where they lie, and whether they matter to the decision."""

from woofkit.explain.faithfulness import Curves, deletion_and_insertion, rank_correlations, shuffled_models
from woofkit.explain.maps import KINDS, Explanations, baseline_maps, explain_images, require_maps
from woofkit.explain.measures import corner_density, map_correlations
from woofkit.explain.movement import measure_movement, token_norms
from woofkit.explain.per_model import Dogs, load_dogs, measure_model, part_measures, with_intervals

__all__ = [
    "KINDS",
    "Curves",
    "Dogs",
    "Explanations",
    "baseline_maps",
    "corner_density",
    "deletion_and_insertion",
    "explain_images",
    "load_dogs",
    "map_correlations",
    "measure_model",
    "measure_movement",
    "part_measures",
    "rank_correlations",
    "require_maps",
    "shuffled_models",
    "token_norms",
    "with_intervals",
]
