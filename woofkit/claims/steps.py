"""What lies between the paper's text and its code: the same training with one factor changed at a time.

On the paper's own split of the photographs. The grids stand in sweeps/photographs.yaml.
"""

TEXT = "paper-text"  # the grid in which everything is as the text has it
ALL_STEPS = "paper-code"
# Grid -> the setting of its effects: what differs from TEXT.
STEPS = {
    "paper-rate": "the rate of the figures, 1e-4",
    "paper-grey": "grey images",
    "paper-squeeze": "images squeezed into a square",
    "paper-imagenet-norm": "ImageNet's mean and std",
    ALL_STEPS: "all of these, as in the code",
}
SPLIT = "the paper's split"  # the setting of TEXT's effects
