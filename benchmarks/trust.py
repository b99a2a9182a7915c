"""What the guards cost: the seconds that an epoch of the default CNN spends in each of them, as a share of the epoch. A
difference of two runs would be lost in the noise of the machine.

    python benchmarks/trust.py                   prints the shares; writes benchmarks/results/trust.json
"""

import functools
import os
import time
from typing import Any

import measure
from torch.utils.tensorboard.writer import SummaryWriter

from digitnet.checkpoints import checkpoint_format
from digitnet.models import DigitClassifier
from digitnet.training import recording

GUARDS: dict[str, tuple[Any, str]] = {
    "a look for a signal, each step": (recording, "stop_asked"),
    "a look for what is not finite": (DigitClassifier, "has_diverged"),
    "sealing the checkpoint": (checkpoint_format, "sealed"),
    "waiting for the disk": (os, "fsync"),
    "flushing the curves": (SummaryWriter, "flush"),
}


def timed(owner: Any, name: str) -> list[float]:
    """The seconds of every call from now on."""
    original, seconds = getattr(owner, name), []

    @functools.wraps(original)
    def guard(*arguments: Any, **options: Any) -> Any:
        start = time.perf_counter()
        try:
            return original(*arguments, **options)
        finally:
            seconds.append(time.perf_counter() - start)

    setattr(owner, name, guard)
    return seconds


def main() -> None:
    parser = measure.arguments(__doc__, "trust.json", repeats=3)
    parser.add_argument("--train-size", type=int, default=55_000, help="fewer images, to try the command")
    chosen = parser.parse_args()
    spent = {name: timed(*place) for name, place in GUARDS.items()}
    epochs = chosen.repeats + 1
    epoch = measure.epoch_by_trainer("model=cnn", f"++data.train_size={chosen.train_size}", epochs=epochs)
    shares = {name: sum(seconds) / epochs / epoch for name, seconds in spent.items()}
    shares["all guards"] = sum(shares.values())
    measure.show("of an epoch of `model=cnn` | %", [(name, 100 * share) for name, share in shares.items()])
    measure.write(chosen.output, {"shares": shares, "seconds an epoch": epoch})


if __name__ == "__main__":
    main()
