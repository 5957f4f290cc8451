"""Every figure of the study: arrays or frames and Axes in, Axes out, in one style.

The only part of woofkit that imports pyplot or seaborn. Accuracies and shares come as fractions (0 to 1) and
are shown in per cent. Colours are those of Okabe and Ito (https://jfly.uni-koeln.de/color/), which
colour-blind readers can tell apart, and text is large enough for the back of a lecture hall.
"""

from tools.bench.chart import throughput_bars, throughput_figure
from woofkit.plots.attention import attention_comparison, attention_overlay, interval_dots, map_rows
from woofkit.plots.costs import cost_bars, stacked_costs
from woofkit.plots.evidence import (
    METHOD_MARKERS,
    VERDICT_LOOKS,
    method_marker,
    reliability_diagram,
    seed_dots,
    target_versus_source,
    verdict_table,
)
from woofkit.plots.explanations import all_heads, by_layer_and_head, faithfulness_curves, layer_lines, sanity_lines
from woofkit.plots.outcomes import accuracy_intervals, confusion, learning_curves, per_class_accuracy, top_predictions
from woofkit.plots.pictures import (
    class_balance,
    image_sizes,
    mask_overlay,
    pretraining_overlap,
    sample_grid,
    similarity_histogram,
)
from woofkit.plots.sheets import contact_sheet, mask_sheet
from woofkit.plots.style import (
    MAP_LOOKS,
    MAP_NAMES,
    METHOD_COLORS,
    METHOD_NAMES,
    PART_COLORS,
    method_color,
    method_name,
    save_figure,
    use_style,
)
from woofkit.plots.sweeps import DOTS, PANELS, forgetting_lines, run_dots, sweep_lines, sweep_panels
from woofkit.plots.weights import captured_curves, layer_heatmap, matrix_values, overlap_bars, singular_values

__all__ = [
    "DOTS",
    "MAP_LOOKS",
    "MAP_NAMES",
    "METHOD_COLORS",
    "METHOD_MARKERS",
    "METHOD_NAMES",
    "PANELS",
    "PART_COLORS",
    "VERDICT_LOOKS",
    "accuracy_intervals",
    "all_heads",
    "attention_comparison",
    "attention_overlay",
    "by_layer_and_head",
    "captured_curves",
    "class_balance",
    "confusion",
    "contact_sheet",
    "cost_bars",
    "faithfulness_curves",
    "forgetting_lines",
    "image_sizes",
    "interval_dots",
    "layer_heatmap",
    "layer_lines",
    "learning_curves",
    "map_rows",
    "mask_overlay",
    "mask_sheet",
    "matrix_values",
    "method_color",
    "method_marker",
    "method_name",
    "overlap_bars",
    "per_class_accuracy",
    "pretraining_overlap",
    "reliability_diagram",
    "run_dots",
    "sample_grid",
    "sanity_lines",
    "save_figure",
    "seed_dots",
    "similarity_histogram",
    "singular_values",
    "stacked_costs",
    "sweep_lines",
    "sweep_panels",
    "target_versus_source",
    "throughput_bars",
    "throughput_figure",
    "top_predictions",
    "use_style",
    "verdict_table",
]
