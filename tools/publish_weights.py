"""Puts the first seed of a preset, not the best, into the package, with a card that says how it was made.

How sure it may be is not to be measured on images that it was trained on, and it has seen all but those for testing. So
that is measured on another run of the recipe, from which the validation images were held out, at its last epoch:

python -m digitnet.train experiment=cnn_best data.val_size=5000 seed=1 test=false hydra.run.dir=results/calibration/cnn
python benchmarks/ship.py cnn results/cnn_best results/calibration/cnn

A network that only teaches tells nobody how sure it is, and of them there are several:

python benchmarks/ship.py teachers/2 results/cnn_teacher_valid --seed 1
"""

import argparse
import json
from pathlib import Path
from typing import Any

from collect import collect

from digitnet.checkpoints import checkpoint_format, pretrained
from digitnet.inference.reader import Reader
from digitnet.train import recorded_overrides

DATA = "MNIST, all 60,000 training images; the 10,000 test images chose nothing (LeCun, Cortes, Burges; NIST)"


def main() -> None:
    arguments = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    arguments.add_argument("name", help="cnn, mlp or teachers/NAME")
    arguments.add_argument("runs", type=Path, help="the folder of benchmarks/seeds.py")
    arguments.add_argument("calibration", type=Path, help="a run that has not seen the validation images", nargs="?")
    arguments.add_argument("--seed", type=int, help="of a teacher, instead of the calibration; else the first")
    chosen = arguments.parse_args()
    teaches = chosen.name.startswith("teachers/")
    if (chosen.calibration is None, chosen.seed is not None) != (teaches, teaches):
        arguments.error("it takes a run to calibrate by or, for a teacher, its --seed")
    found = collect(chosen.runs)
    recipe = " ".join(found["overrides"])
    seed = chosen.seed if teaches else min(run["seed"] for run in found["runs"])
    run = next(run for run in found["runs"] if run["seed"] == seed)
    card = {"recipe": recipe, "reproduce": f"python -m digitnet.train {recipe} seed={seed}", "data": DATA}
    if chosen.calibration:
        held_out = [override.lstrip("+") for override in recorded_overrides(chosen.calibration, "calibration")]
        if not {*found["overrides"], "data.val_size=5000"} <= set(held_out):
            arguments.error(f"{chosen.calibration} must be a run of: {recipe} data.val_size=5000")
        card["calibration"] = calibration(chosen.calibration, held_out)
    card["test/acc of all seeds"] = {str(run["seed"]): run["test/acc"] for run in found["runs"]}
    known = ("seed", "parameters", "test/acc", "test/loss", "train/seconds", "machine", "versions")
    card |= {name: run[name] for name in known}
    pretrained.ship(pretrained.load(chosen.runs / str(seed)), chosen.name, card)
    print(json.dumps(card, indent=1))


def calibration(run: Path, overrides: list[str]) -> dict[str, Any]:
    """What a reader measures of the last epoch of the run, and the command that repeats the run."""
    measured = Reader(checkpoint_format.restore(run / "checkpoints" / "last.ckpt")).calibrate()
    told = [override for override in overrides if not override.startswith(("test=", "hydra."))]
    return measured | {"reproduce": f"python -m digitnet.train {' '.join(told)}"}


if __name__ == "__main__":
    main()
