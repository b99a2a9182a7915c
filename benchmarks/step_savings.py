"""Measure what each change to the training step saves: epochs of the bare MLP without one of the changes, and with all.

    python benchmarks/step_savings.py            writes benchmarks/results/step_savings.json

Each case undoes one change by putting back what Lightning or torch does by default. `loop` is the hand-written loop of
trainer_overhead.py, and `without_any` undoes all changes together.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any
from unittest import mock

import harness
import lightning as L
import torch
from lightning.pytorch.callbacks import TQDMProgressBar
from lightning.pytorch.profilers import PassThroughProfiler
from trainer_overhead import PLAIN, time_loop_epoch

from digitnet.data import loader
from digitnet.models.module import DigitModule
from digitnet.training import build
from digitnet.training.callbacks.base import EpochEndCallback
from digitnet.training.step_overhead import STEP_HOOKS

EPOCHS = 3
LABELS = {
    "empty_hooks": "Hooks that nobody defines are None, and Lightning skips them",
    "profiler": "One context for all calls of the profiler that measures nothing",
    "progress_bar": "The progress bar is drawn five times a second instead of at each step",
    "hook_name": "The name of the current hook is set as a plain attribute of the module",
    "fused_optimizer": "One kernel updates all weights",
    "gpu_check": "The optimizer does not look for a GPU driver in each step",
    "seeding": "Only the generator of the device in use is seeded",
    "any": "All of them",
}


@contextmanager
def empty_hooks() -> Iterator[None]:
    """Let Lightning call every hook."""
    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(build, "remove_empty_step_hooks"))
        for name in STEP_HOOKS:
            stack.enter_context(mock.patch.object(EpochEndCallback, name, getattr(L.Callback, name)))
        yield


@contextmanager
def hook_name() -> Iterator[None]:
    """Let torch look at each attribute that is set, whether it is a parameter, a module or a buffer."""
    with mock.patch.object(DigitModule, "__setattr__", torch.nn.Module.__setattr__):
        yield


@contextmanager
def fused_optimizer() -> Iterator[None]:
    """Update the weights one after the other."""
    optimizer = torch.optim.AdamW

    def make_optimizer(*arguments: Any, **options: Any) -> torch.optim.Optimizer:
        return optimizer(*arguments, **options | {"fused": False})

    with mock.patch.object(torch.optim, "AdamW", make_optimizer):
        yield


@contextmanager
def gpu_check() -> Iterator[None]:
    """Set the variable again that Lightning sets at import."""
    build_run = harness.build_run

    def build_and_set(*arguments: Any) -> build.Run:
        run = build_run(*arguments)
        os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "1"
        return run

    with mock.patch.object(harness, "build_run", build_and_set):
        yield
    os.environ.pop("PYTORCH_NVML_BASED_CUDA_CHECK", None)


UNDO: dict[str, Callable[[], Any]] = {
    "empty_hooks": empty_hooks,
    "profiler": partial(mock.patch.object, build, "NoProfiler", PassThroughProfiler),
    "progress_bar": partial(mock.patch.object, build, "TimedProgressBar", TQDMProgressBar),
    "hook_name": hook_name,
    "fused_optimizer": fused_optimizer,
    "gpu_check": gpu_check,
    "seeding": partial(mock.patch.object, loader, "_seed_device", lambda device, seed: torch.manual_seed(seed)),
}


def time_epoch_without(*changes: str, overrides: tuple[str, ...]) -> float:
    """Return the seconds of an epoch without these changes."""
    with ExitStack() as stack:
        for change in changes:
            stack.enter_context(UNDO[change]())
        return harness.time_trainer_epoch(*overrides, epochs=EPOCHS)


def main() -> None:
    parser = harness.benchmark_parser(__doc__, "step_savings.json", repeats=5)
    harness.add_train_size(parser, default=None)
    arguments = parser.parse_args()
    size = () if arguments.train_size is None else (f"++data.train_size={arguments.train_size}",)
    overrides = (*PLAIN, *size)
    cases = {
        "loop": partial(time_loop_epoch, *overrides, epochs=EPOCHS),
        "with_all": partial(time_epoch_without, overrides=overrides),
        **{f"without_{change}": partial(time_epoch_without, change, overrides=overrides) for change in UNDO},
        "without_any": partial(time_epoch_without, *UNDO, overrides=overrides),
    }
    seconds = harness.time_interleaved(cases, arguments.repeats)
    without = {change: harness.median_ratio(seconds, f"without_{change}", "with_all") for change in LABELS}
    vs_loop = {case: harness.median_ratio(seconds, case, "loop") for case in cases if case != "loop"}
    rows = [(LABELS[change], without[change], vs_loop[f"without_{change}"]) for change in LABELS]
    harness.print_table("change | epoch without it ÷ with all | epoch without it ÷ hand-written loop", rows)
    print(f"\nwith all changes ÷ hand-written loop: {vs_loop['with_all']:.2f}")
    result = {"without_vs_with": without, "vs_loop": vs_loop, "seconds_per_epoch": seconds}
    harness.write_result(arguments.output, result)


if __name__ == "__main__":
    main()
