"""`make backbone`: pretrain a ViT-Tiny from random weights on drawn breeds that are not the ten of the study."""
