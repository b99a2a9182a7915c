"""Measure where the time of a training step goes, for the bare MLP and the CNN, through the Trainer.

    python benchmarks/step_profile.py            writes benchmarks/results/step_profile.json

Python's profiler attributes the time of every function to the layer whose file or name it has. It makes Python code
slower than it is, so the shares compare the layers with each other and are no seconds of a real run.
"""

import cProfile
import pstats
import tempfile

import harness

from digitnet.training.build import build_run

RECIPES = {"cnn": ("model=cnn",), "mlp_plain": ("model=mlp", "data.augmentation=null", "data.batch_size=128")}
LAYERS = (  # the first match counts; (layer, part of the file or function name)
    ("autograd", ("run_backward", "autograd/")),
    ("loader", ("digitnet/data/",)),
    ("callbacks", ("callbacks/", "callback")),
    ("optimizer", ("torch/optim/", "_fused_adam", "zero_grad")),
    ("lightning_loops", ("lightning/",)),
    ("arithmetic", ("torch/nn/", "torch._C", "method of 'torch", "torch/_tensor", "digitnet/models/")),
)


def layer_of(file: str, function: str) -> str:
    """Return the layer of a function, or "other"."""
    name = f"{file}:{function}"
    return next((layer for layer, parts in LAYERS if any(part in name for part in parts)), "other")


def profile_epoch(*overrides: str) -> dict[str, float]:
    """Train for one epoch and return the share of each layer in its time; the shares sum to 1."""
    fixed = (
        "trainer.max_epochs=1",
        "++trainer.accelerator=cpu",
        "++data.val_size=0",
        "++trainer.enable_progress_bar=true",
    )
    with tempfile.TemporaryDirectory() as run_dir:
        run = build_run(harness.compose_train_config(*fixed, *overrides, run_dir=run_dir))
        profiler = cProfile.Profile()
        profiler.enable()
        run.trainer.fit(run.model, run.data)
        profiler.disable()
    seconds = dict.fromkeys([*(layer for layer, _ in LAYERS), "other"], 0.0)
    for (file, _, function), (_, _, own_time, _, _) in pstats.Stats(profiler).stats.items():  # type: ignore[attr-defined]
        seconds[layer_of(file, function)] += own_time
    total = sum(seconds.values())
    return {layer: spent / total for layer, spent in seconds.items()}


def main() -> None:
    parser = harness.benchmark_parser(__doc__, "step_profile.json", repeats=1)
    harness.add_train_size(parser, default=None)
    arguments = parser.parse_args()
    size = () if arguments.train_size is None else (f"++data.train_size={arguments.train_size}",)
    shares = {name: profile_epoch(*recipe, *size) for name, recipe in RECIPES.items()}
    rows = [(layer, *(f"{shares[name][layer]:.1%}" for name in RECIPES)) for layer in shares["cnn"]]
    harness.print_table(f"% of an epoch | {' | '.join(' '.join(recipe) for recipe in RECIPES.values())}", rows)
    harness.write_result(arguments.output, {"fraction_of_time": shares})


if __name__ == "__main__":
    main()
