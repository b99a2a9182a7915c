"""How long the published recipes take in Keras, and how long `experiment=fast` needs for the best accuracy they claim.

    python3.11 -m venv keras && keras/bin/pip install -r benchmarks/keras/requirements.txt
    python benchmarks/against_keras.py --keras keras/bin/python       writes benchmarks/results/keras.json

Times are of training and the final evaluation, from the first batch; start-up and compilation are left out on both
sides. No seed is left out and none is chosen: the accuracy is the mean over all repeats, each with a seed of its own.
"""

import json
import statistics
import subprocess
import sys
import tempfile
from functools import partial
from itertools import count
from pathlib import Path

import measure
from plumbing import unpack

EPOCHS = {
    "cnn": "experiment=baseline_cnn",
    "mlp": "experiment=baseline_mlp",
    "cnn_dropout": "experiment=baseline_cnn_dropout",
}


def keras_epoch(python: Path, recipe: str, raw: Path, limit: int) -> float:
    command = [python, Path(__file__).parent / "keras" / "epoch.py", recipe, raw, str(limit)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def fast(accuracies: list[float], seeds: "count[int]", size: int) -> float:
    """Seconds of one run of the real command; its accuracy is appended."""
    with tempfile.TemporaryDirectory() as folder:
        overrides = ["experiment=fast", f"seed={next(seeds)}", f"hydra.run.dir={folder}", f"data.train_size={size}"]
        subprocess.run([sys.executable, "-m", "digitnet.train", *overrides], capture_output=True, check=True)
        metrics = json.loads((Path(folder) / "metrics.json").read_text())
    accuracies.append(metrics["test/acc"])
    return float(metrics["train/seconds"] + metrics["test/seconds"])


def main() -> None:
    parser = measure.arguments(__doc__, "keras.json", repeats=10)
    parser.add_argument("--keras", type=Path, required=True, help="a Python that has Keras")
    parser.add_argument("--train-size", type=int, default=60_000, help="fewer images, to try the command")
    chosen = parser.parse_args()
    size = chosen.train_size
    accuracies: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        unpack(Path(folder))
        raw = Path(folder) / "MNIST" / "raw"
        whole_run = {
            "experiment=fast": partial(fast, accuracies, count(1), size),
            "Keras, cnn": partial(keras_epoch, chosen.keras, "cnn", raw, size),
        }
        seconds = measure.interleave(whole_run, chosen.repeats)
        epochs = {}
        for recipe, preset in EPOCHS.items():
            epochs[f"Keras epoch, {recipe}"] = partial(keras_epoch, chosen.keras, recipe, raw, size)
            sizes = ("++data.val_size=0", f"++data.train_size={size}")
            epochs[preset] = partial(measure.epoch_by_trainer, preset, *sizes, epochs=2)
        seconds |= measure.interleave(epochs, -(-chosen.repeats // 10))
    whole = measure.ratio(seconds, "experiment=fast", "Keras, cnn")
    fastest = min(seconds["experiment=fast"]) / min(seconds["Keras, cnn"])  # no machine is idle all the time
    rows = [("all of `experiment=fast` ÷ one Keras epoch of the CNN", whole), ("the same, fastest of each", fastest)]
    for recipe, preset in EPOCHS.items():
        rows.append(
            (f"an epoch of `{preset}` ÷ the same in Keras", measure.ratio(seconds, preset, f"Keras epoch, {recipe}"))
        )
    measure.show("what | ratio", rows)
    mean, spread = statistics.mean(accuracies), statistics.stdev(accuracies) if len(accuracies) > 1 else 0.0
    print(f"\nexperiment=fast: {mean:.2%} ± {spread:.2%} of the test images, n = {len(accuracies)}")
    measure.write(chosen.output, {"median ratios": dict(rows), "test/acc of fast": accuracies, "seconds": seconds})


if __name__ == "__main__":
    main()
