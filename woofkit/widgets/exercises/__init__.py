"""What the exercises' check cells call: each prints one sentence on an answer of any kind, and raises no error."""

from woofkit.widgets.exercises.adapters import check_exchange, check_lora, check_own_rank, check_twenty_steps
from woofkit.widgets.exercises.answers import as_number, attempt
from woofkit.widgets.exercises.numbers import (
    check_block_parameters,
    check_images_needed,
    check_paper_count,
    check_smallest_k,
    check_tasks_needed,
    check_usual_loss,
    check_who_moves,
)
from woofkit.widgets.exercises.statistics import check_label_curve, check_mcnemar, check_shared_images
from woofkit.widgets.exercises.transformer import check_block, check_patches_used, check_rollout, check_rollout_by_hand

__all__ = [
    "as_number",
    "attempt",
    "check_block",
    "check_block_parameters",
    "check_exchange",
    "check_images_needed",
    "check_label_curve",
    "check_lora",
    "check_mcnemar",
    "check_own_rank",
    "check_paper_count",
    "check_patches_used",
    "check_rollout",
    "check_rollout_by_hand",
    "check_shared_images",
    "check_smallest_k",
    "check_tasks_needed",
    "check_twenty_steps",
    "check_usual_loss",
    "check_who_moves",
]
