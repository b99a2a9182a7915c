"""Finished runs, compared: their predictions, statistics and reports. Nothing here imports torch."""
