"""`make backbone`: pretrain a ViT-Tiny from random weights on drawn breeds that are not the ten of the study."""

from woofkit.pretrain.command import main
from woofkit.pretrain.model import accuracies
from woofkit.pretrain.recipe import Recipe, Stage
from woofkit.pretrain.training import train

__all__ = ["Recipe", "Stage", "accuracies", "main", "train"]
