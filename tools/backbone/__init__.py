"""`make backbone`: pretrain a ViT-Tiny from random weights on drawn breeds that are not the ten of the study."""

from tools.backbone.command import main
from tools.backbone.model import accuracies
from tools.backbone.recipe import Recipe, Stage
from tools.backbone.training import train

__all__ = ["Recipe", "Stage", "accuracies", "main", "train"]
