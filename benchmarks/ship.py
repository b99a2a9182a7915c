"""Puts the first seed of a preset, not the best, into the package, with a card that says how it was made.

python benchmarks/ship.py cnn results/cnn_best
"""

import argparse
import json
from pathlib import Path

from collect import collect

from digitnet import checkpoints, weights

DATA = "MNIST, all 60,000 training images; the 10,000 test images chose nothing (LeCun, Cortes, Burges; NIST)"


def main() -> None:
    arguments = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    arguments.add_argument("name", choices=["cnn", "mlp"])
    arguments.add_argument("runs", type=Path, help="the folder of benchmarks/seeds.py")
    chosen = arguments.parse_args()
    found = collect(chosen.runs)
    first = min(found["runs"], key=lambda run: run["seed"])
    recipe = " ".join(found["overrides"])
    card = {
        "recipe": recipe,
        "reproduce": f"python -m digitnet.train {recipe} seed={first['seed']}",
        "data": DATA,
        "test/acc of all seeds": {str(run["seed"]): run["test/acc"] for run in found["runs"]},
        **{name: first[name] for name in ("seed", "parameters", "test/acc", "test/loss", "train/seconds")},
        **{name: first[name] for name in ("machine", "versions")},
    }
    model = checkpoints.restore(checkpoints.find(chosen.runs / str(first["seed"])))
    weights.ship(model, chosen.name, card)
    print(json.dumps(card, indent=1))


if __name__ == "__main__":
    main()
