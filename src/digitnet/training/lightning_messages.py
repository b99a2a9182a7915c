"""Suppresses messages of Lightning that a user can do nothing about."""

import logging
import warnings


def silence_lightning() -> None:
    """Suppress what Lightning reports at every start, such as advertisements, and warnings about what is intended."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in (
        "Total length of `list` across ranks is zero",  # data.val_size=0 is intended
        "It is recommended to use .* sync_dist",  # the metrics are reduced before they are logged
        "Precision .* is not supported by the model summary",
        ".*torch.jit",  # torch uses it to draw the graph
        ".*LeafSpec.*deprecated",  # lightning 2.6 with torch 2.15
        "The number of training batches .* is smaller than the logging interval",  # each epoch logs its metrics
        "The `srun` command is available on your system but is not used",  # on every login node of a cluster
    ):
        warnings.filterwarnings("ignore", message=message)
