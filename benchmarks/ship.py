"""Puts the first seed of a preset, not the best, into the package, with a card that says how it was made.

How sure it may be is not to be measured on images that it was trained on, and it has seen all but those for testing. So
that is measured on another run of the recipe, from which the validation images were held out, at its last epoch:

python -m digitnet.train experiment=cnn_best data.val_size=5000 seed=1 test=false hydra.run.dir=results/calibration/cnn
python benchmarks/ship.py cnn results/cnn_best results/calibration/cnn
"""

import argparse
import json
from pathlib import Path

from collect import collect

from digitnet import checkpoints, weights
from digitnet.reading import Reader
from digitnet.train import recorded_overrides

DATA = "MNIST, all 60,000 training images; the 10,000 test images chose nothing (LeCun, Cortes, Burges; NIST)"


def main() -> None:
    arguments = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    arguments.add_argument("name", choices=["cnn", "mlp"])
    arguments.add_argument("runs", type=Path, help="the folder of benchmarks/seeds.py")
    arguments.add_argument("calibration", type=Path, help="the folder of a run that has not seen the validation images")
    chosen = arguments.parse_args()
    found = collect(chosen.runs)
    first = min(found["runs"], key=lambda run: run["seed"])
    recipe = " ".join(found["overrides"])
    held_out = [override.lstrip("+") for override in recorded_overrides(chosen.calibration, "calibration")]
    if not {*found["overrides"], "data.val_size=5000"} <= set(held_out):
        arguments.error(f"{chosen.calibration} must be a run of: {recipe} data.val_size=5000")
    told = [override for override in held_out if not override.startswith(("test=", "hydra."))]
    measured = Reader(checkpoints.restore(chosen.calibration / "checkpoints" / "last.ckpt")).calibrate()
    card = {
        "recipe": recipe,
        "reproduce": f"python -m digitnet.train {recipe} seed={first['seed']}",
        "data": DATA,
        "calibration": measured | {"reproduce": f"python -m digitnet.train {' '.join(told)}"},
        "test/acc of all seeds": {str(run["seed"]): run["test/acc"] for run in found["runs"]},
        **{name: first[name] for name in ("seed", "parameters", "test/acc", "test/loss", "train/seconds")},
        **{name: first[name] for name in ("machine", "versions")},
    }
    model = checkpoints.restore(checkpoints.find(chosen.runs / str(first["seed"])))
    weights.ship(model, chosen.name, card)
    print(json.dumps(card, indent=1))


if __name__ == "__main__":
    main()
