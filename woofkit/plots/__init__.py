"""Every figure of the study: arrays or frames and Axes in, Axes out, in one style.

The only room of woofkit that imports pyplot. Accuracies and shares come as fractions (0 to 1) and
are shown in per cent. Colours are those of Okabe and Ito (https://jfly.uni-koeln.de/color/), which
colour-blind readers can tell apart, and text is large enough for the back of a lecture hall.
"""

from woofkit.plots.accuracy import (
    accuracy_by_parameters,
    accuracy_intervals,
    confusion,
    per_class_accuracy,
    reliability_diagram,
    top_predictions,
)
from woofkit.plots.attention import (
    all_heads,
    attention_comparison,
    by_layer_and_head,
    faithfulness_curves,
    interval_dots,
    layer_lines,
    map_rows,
    sanity_lines,
)
from woofkit.plots.dataset import (
    class_balance,
    contact_sheet,
    image_sizes,
    mask_overlay,
    mask_sheet,
    pretraining_overlap,
    sample_grid,
    similarity_histogram,
)
from woofkit.plots.evidence import (
    DOTS,
    PANELS,
    forgetting_lines,
    run_dots,
    sweep_panels,
    target_versus_source,
    verdict_table,
)
from woofkit.plots.ideas import block_diagram, lora_picture, patches_and_tokens, what_moves
from woofkit.plots.style import MAP_NAMES, method_name, save_figure, use_style
from woofkit.plots.training import cost_bars, learning_curves, stacked_costs
from woofkit.plots.weights import captured_curves, layer_heatmap, matrix_values, overlap_bars, singular_values

__all__ = [
    "accuracy_by_parameters",
    "accuracy_intervals",
    "confusion",
    "per_class_accuracy",
    "reliability_diagram",
    "top_predictions",
]
__all__ += ["all_heads", "attention_comparison", "by_layer_and_head", "faithfulness_curves", "interval_dots"]
__all__ += ["layer_lines", "map_rows", "sanity_lines"]
__all__ += ["class_balance", "contact_sheet", "image_sizes", "mask_overlay", "mask_sheet", "pretraining_overlap"]
__all__ += ["sample_grid", "similarity_histogram"]
__all__ += ["DOTS", "PANELS", "forgetting_lines", "run_dots", "sweep_panels", "target_versus_source", "verdict_table"]
__all__ += ["block_diagram", "lora_picture", "patches_and_tokens", "what_moves"]
__all__ += ["MAP_NAMES", "method_name", "save_figure", "use_style"]
__all__ += ["cost_bars", "learning_curves", "stacked_costs"]
__all__ += ["captured_curves", "layer_heatmap", "matrix_values", "overlap_bars", "singular_values"]
