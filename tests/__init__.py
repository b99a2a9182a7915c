"""Two processes share two cores, so each has one thread: idle ones of torch spin, and none survives a fork."""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before anything imports torch
