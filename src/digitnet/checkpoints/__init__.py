"""Files that hold models: atomic writes, verified checkpoints, pretrained weights."""
