"""Measure digitnet against the published recipes in Keras, and `experiment=fast` against one Keras epoch of the CNN.

    python3.11 -m venv keras && keras/bin/pip install -r benchmarks/keras/requirements.txt
    python benchmarks/against_keras.py --keras keras/bin/python       writes benchmarks/results/keras.json

Times are of training and the final evaluation, from the first batch; start-up and compilation are left out on both
sides. The accuracy of `experiment=fast` is the mean over all repeats, each with a seed of its own; no seed is left out.
"""

import json
import statistics
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from pathlib import Path

import harness

RECIPES = ("cnn", "mlp", "cnn_dropout")
ROUNDS_PER_EPOCH_MEASUREMENT = 10  # the single epochs are measured once in so many repeats
LABELS = {
    "fast_run_vs_keras_cnn_epoch": "all of `experiment=fast` ÷ one Keras epoch of the CNN",
    "fastest_fast_run_vs_fastest_keras_cnn_epoch": "the same, fastest of each",
} | {
    f"baseline_{recipe}_epoch_vs_keras": f"an epoch of `experiment=baseline_{recipe}` ÷ the same in Keras"
    for recipe in RECIPES
}


def time_keras_epoch(python: Path, recipe: str, raw: Path, train_size: int) -> float:
    """Return the seconds of the second epoch of a recipe in Keras; see keras/epoch.py."""
    command = [python, Path(__file__).parent / "keras" / "epoch.py", recipe, raw, str(train_size)]
    process = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(process.stdout.split()[-1])


def time_fast_run(accuracies: list[float], seeds: Iterator[int], train_size: int) -> float:
    """Train `experiment=fast` with the next seed, append its test accuracy, return the seconds of training and test."""
    with tempfile.TemporaryDirectory() as run_dir:
        overrides = ("experiment=fast", f"seed={next(seeds)}", f"data.train_size={train_size}")
        subprocess.run(harness.train_command(run_dir, *overrides), capture_output=True, check=True)
        metrics = json.loads((Path(run_dir) / "metrics.json").read_text())
    accuracies.append(metrics["test/acc"])
    return float(metrics["train/seconds"] + metrics["test/seconds"])


def measure(python: Path, train_size: int, repeats: int) -> tuple[harness.Seconds, list[float]]:
    """Return the seconds of all cases and the test accuracies of the runs of `experiment=fast`."""
    accuracies: list[float] = []
    sizes = ("++data.val_size=0", f"++data.train_size={train_size}")
    with tempfile.TemporaryDirectory() as folder:
        raw = harness.unpack_mnist(Path(folder))
        whole_runs = {
            "fast_run": partial(time_fast_run, accuracies, count(1), train_size),
            "keras_cnn_epoch_beside_fast_run": partial(time_keras_epoch, python, "cnn", raw, train_size),
        }
        seconds = harness.time_interleaved(whole_runs, repeats)
        epochs: dict[str, Callable[[], float]] = {}
        for recipe in RECIPES:
            preset = f"experiment=baseline_{recipe}"
            epochs[f"keras_{recipe}_epoch"] = partial(time_keras_epoch, python, recipe, raw, train_size)
            epochs[f"baseline_{recipe}_epoch"] = partial(harness.time_trainer_epoch, preset, *sizes, epochs=2)
        rounds = -(-repeats // ROUNDS_PER_EPOCH_MEASUREMENT)  # rounded up
        seconds |= harness.time_interleaved(epochs, rounds)
    return seconds, accuracies


def compute_ratios(seconds: harness.Seconds) -> dict[str, float]:
    """Return the ratios of digitnet to Keras, by the key in the result file."""
    fast, keras = "fast_run", "keras_cnn_epoch_beside_fast_run"
    ratios = {
        "fast_run_vs_keras_cnn_epoch": harness.median_ratio(seconds, fast, keras),
        # Other processes slow down some repeats; the fastest ones are the least disturbed.
        "fastest_fast_run_vs_fastest_keras_cnn_epoch": min(seconds[fast]) / min(seconds[keras]),
    }
    for recipe in RECIPES:
        ratio = harness.median_ratio(seconds, f"baseline_{recipe}_epoch", f"keras_{recipe}_epoch")
        ratios[f"baseline_{recipe}_epoch_vs_keras"] = ratio
    return ratios


def main() -> None:
    parser = harness.benchmark_parser(__doc__, "keras.json", repeats=10)
    parser.add_argument("--keras", type=Path, required=True, help="Python interpreter of an environment that has Keras")
    harness.add_train_size(parser, harness.FULL_TRAINING_SET)
    arguments = parser.parse_args()
    seconds, accuracies = measure(arguments.keras, arguments.train_size, arguments.repeats)
    ratios = compute_ratios(seconds)
    harness.print_table("what | ratio", [(LABELS[name], ratio) for name, ratio in ratios.items()])
    mean, deviation = statistics.mean(accuracies), statistics.stdev(accuracies) if len(accuracies) > 1 else 0.0
    print(f"\nexperiment=fast: {mean:.2%} ± {deviation:.2%} of the test images, n = {len(accuracies)}")
    result = {"median_ratios": ratios, "fast_run_test_acc": accuracies, "seconds": seconds}
    harness.write_result(arguments.output, result)


if __name__ == "__main__":
    main()
