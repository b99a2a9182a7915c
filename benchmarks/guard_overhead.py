"""Measure what the safety checks cost: the fraction of an epoch of the default CNN that is spent in each of them.

    python benchmarks/guard_overhead.py          writes benchmarks/results/guard_overhead.json

Every call of a check is timed in one run. The difference of a run with and a run without the checks would be smaller
than the noise of the machine.
"""

import functools
import os
import time
from typing import Any

import harness
from torch.utils.tensorboard.writer import SummaryWriter

from digitnet.checkpoints import lightning_io
from digitnet.models import DigitClassifier
from digitnet.training.callbacks import graceful_stop

DEFAULT_TRAIN_SIZE = 55_000  # the training images that remain beside the validation images

GUARDS: dict[str, tuple[Any, str]] = {
    "signal_check": (graceful_stop, "shutdown_requested"),
    "divergence_check": (DigitClassifier, "has_diverged"),
    "checkpoint_checksum": (lightning_io, "append_checksum"),
    "fsync": (os, "fsync"),
    "event_file_flush": (SummaryWriter, "flush"),
}
LABELS = {
    "signal_check": "check for a signal, each step",
    "divergence_check": "check that loss and weights are finite",
    "checkpoint_checksum": "checksum of the checkpoint",
    "fsync": "fsync",
    "event_file_flush": "flush of the TensorBoard event file",
    "all_guards": "all checks",
}


def record_calls(owner: Any, name: str) -> list[float]:
    """Replace a function by one that also appends the seconds of each call to the list that is returned."""
    original, seconds = getattr(owner, name), []

    @functools.wraps(original)
    def timed(*arguments: Any, **options: Any) -> Any:
        start = time.perf_counter()
        try:
            return original(*arguments, **options)
        finally:
            seconds.append(time.perf_counter() - start)

    setattr(owner, name, timed)
    return seconds


def main() -> None:
    parser = harness.benchmark_parser(__doc__, "guard_overhead.json", repeats=3)
    harness.add_train_size(parser, DEFAULT_TRAIN_SIZE)
    arguments = parser.parse_args()
    calls = {name: record_calls(*function) for name, function in GUARDS.items()}
    epochs = arguments.repeats + 1  # the time per epoch leaves the first epoch out
    epoch = harness.time_trainer_epoch("model=cnn", f"++data.train_size={arguments.train_size}", epochs=epochs)
    fractions = {name: sum(seconds) / epochs / epoch for name, seconds in calls.items()}
    fractions["all_guards"] = sum(fractions.values())
    rows = [(LABELS[name], 100 * fraction) for name, fraction in fractions.items()]
    harness.print_table("of an epoch of `model=cnn` | %", rows)
    harness.write_result(arguments.output, {"fraction_of_epoch": fractions, "seconds_per_epoch": epoch})


if __name__ == "__main__":
    main()
