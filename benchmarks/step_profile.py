"""Measure where the time of a training step goes, for the bare MLP and the CNN, through the Trainer.

    python benchmarks/step_profile.py            writes benchmarks/results/step_profile.json

Only the steps are profiled, without the start and the end of the epoch. Python's profiler attributes the time of every
function to the layer whose file or name it has, and that of a function of no layer, such as `isinstance`, to the layers
of its callers. It makes Python code slower than it is, so the shares compare the layers with each other and are no
seconds of a real run.
"""

import cProfile
import pstats
import tempfile
from collections import defaultdict
from typing import Any

import harness
import lightning as L

from digitnet.training.build import build_run

RECIPES = {"cnn": ("model=cnn",), "mlp_plain": ("model=mlp", "data.augmentation=null", "data.batch_size=128")}
LAYERS = (  # the first match counts; (layer, part of the file or function name)
    ("autograd", ("run_backward", "autograd/")),
    ("loader", ("digitnet/data/",)),
    ("callbacks", ("callbacks/", "tqdm/")),
    ("optimizer", ("torch/optim/", "_fused_adam", "zero_grad")),
    ("lightning_loops", ("lightning/", "lightning_utilities/", "step_overhead.py")),
    ("arithmetic", ("torch/nn/", "torch._C", "method of 'torch", "torch/_tensor", "digitnet/models/")),
)


MAX_CALL_DEPTH = 8  # of functions of no layer, such as those of contextlib

Function = tuple[str, int, str]  # file, line, name


class StepProfiler(L.Callback):
    """Profiles from the start of the second step to the end of the last but one."""

    def __init__(self) -> None:
        self.profiler = cProfile.Profile()

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        """Start after the first step, and end before the last, with which the end of the epoch begins."""
        if trainer.fit_loop.epoch_loop.batch_idx == 0:
            self.profiler.enable()
        elif trainer.fit_loop.epoch_loop.batch_idx == trainer.num_training_batches - 2:
            self.profiler.disable()


def layer_of(function: Function) -> str | None:
    """Return the layer of a function, or None."""
    file, _, name = function
    full_name = f"{file}:{name}"
    return next((layer for layer, parts in LAYERS if any(part in full_name for part in parts)), None)


def share_time(function: Function, seconds: float, stats: dict[Function, Any], depth: int = 0) -> dict[str, float]:
    """Return the seconds of each layer in the own time of a function, which may be shared by those that called it."""
    layer, callers = layer_of(function), stats[function][4]
    calls = {caller: counts[0] for caller, counts in callers.items() if caller in stats and caller != function}
    if layer or not calls or depth == MAX_CALL_DEPTH:
        return {layer or "other": seconds}
    shares = defaultdict[str, float](float)
    for caller, count in calls.items():
        for name, part in share_time(caller, seconds * count / sum(calls.values()), stats, depth + 1).items():
            shares[name] += part
    return shares


def profile_epoch(*overrides: str) -> dict[str, float]:
    """Train for one epoch and return the share of each layer in the time of its steps; the shares sum to 1."""
    fixed = (
        "trainer.max_epochs=1",
        "++trainer.accelerator=cpu",
        "++data.val_size=0",
        "++trainer.enable_progress_bar=true",
    )
    with tempfile.TemporaryDirectory() as run_dir:
        steps = StepProfiler()
        run = build_run(harness.compose_train_config(*fixed, *overrides, run_dir=run_dir), [steps])
        run.trainer.fit(run.model, run.data)
    seconds = dict.fromkeys([*(layer for layer, _ in LAYERS), "other"], 0.0)
    stats: dict[Function, Any] = pstats.Stats(steps.profiler).stats  # type: ignore[attr-defined]
    for function, (_, _, own_time, _, _) in stats.items():
        for layer, part in share_time(function, own_time, stats).items():
            seconds[layer] += part
    total = sum(seconds.values())
    return {layer: spent / total for layer, spent in seconds.items()}


def main() -> None:
    parser = harness.benchmark_parser(__doc__, "step_profile.json", repeats=1)
    harness.add_train_size(parser, default=None)
    arguments = parser.parse_args()
    size = () if arguments.train_size is None else (f"++data.train_size={arguments.train_size}",)
    shares = {name: profile_epoch(*recipe, *size) for name, recipe in RECIPES.items()}
    rows = [(layer, *(f"{shares[name][layer]:.1%}" for name in RECIPES)) for layer in shares["cnn"]]
    harness.print_table(f"% of the steps | {' | '.join(' '.join(recipe) for recipe in RECIPES.values())}", rows)
    harness.write_result(arguments.output, {"fraction_of_time": shares})


if __name__ == "__main__":
    main()
