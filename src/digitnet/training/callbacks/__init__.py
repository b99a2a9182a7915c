"""The callbacks of a training run, one job each."""
