"""Limit torch to one thread in every test process.

pytest-xdist runs two processes on two cores. The idle worker threads of torch would spin on the cores, and threads do
not survive a fork.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # has to be set before anything imports torch
