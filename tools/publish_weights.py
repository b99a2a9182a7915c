r"""Copy the weights of a trained run into the package, with a card that describes how they were made.

The run is that of the first seed of `tools/train_seeds.py`, not that of the best one. Calibration must not be measured
on images that the network was trained on, and the published networks were trained on all images but the test images. It
is therefore measured on another run of the same recipe, at its last epoch, that held out the validation images:

    python -m digitnet.train experiment=cnn_best data.val_size=5000 seed=1 test=false \
        hydra.run.dir=results/calibration/cnn
    python -m tools.publish_weights cnn results/cnn_best results/calibration/cnn

The teachers of a distillation need no calibration, and there are several of them, so the seed is given instead:

    python -m tools.publish_weights teachers/2 results/cnn_teacher_unpadded --seed 1

Both commands write NAME.safetensors and NAME.json into src/digitnet/models/pretrained and print the card. Its test
accuracy is that of the weights in float32, as `digitnet.evaluate` computes it; that of a run in bfloat16, which is in
`test_acc_by_seed`, may differ by a few images.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import lightning as L

from digitnet import MNISTDataModule
from digitnet.checkpoints import checkpoint_format, pretrained
from digitnet.inference.reader import DigitReader
from digitnet.models import DigitClassifier
from digitnet.training.lightning_messages import silence_lightning
from digitnet.training.resume_overrides import read_overrides
from tools.aggregate_seeds import aggregate_sweep

DATA = "MNIST, all 60,000 training images; the 10,000 test images chose nothing (LeCun, Cortes, Burges; NIST)"
HELD_OUT = "data.val_size=5000"
TEACHERS = "teachers/"  # prefix of the names of networks that are only teachers
RUN_FIELDS = ("seed", "parameters", "test/acc", "test/loss", "train/seconds", "machine", "versions")


def make_parser() -> argparse.ArgumentParser:
    """Create the parser of the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("name", help="cnn, mlp or teachers/NAME")
    parser.add_argument("runs", type=Path, help="the folder that tools/train_seeds.py has written")
    parser.add_argument(
        "calibration", type=Path, nargs="?", help="a run of the same recipe that held out the validation images"
    )
    parser.add_argument("--seed", type=int, help="seed of a teacher, instead of a calibration run")
    return parser


def make_card(sweep: dict[str, Any], seed: int, calibration: dict[str, Any] | None) -> dict[str, Any]:
    """Describe the run of one seed.

    Args:
        sweep: The result of `aggregate_sweep`.
        seed: The seed of the published run.
        calibration: The result of `measure_calibration`, or None for a teacher.

    Returns:
        The card, without the description of the model.
    """
    recipe = " ".join(sweep["overrides"])
    run = next(run for run in sweep["runs"] if run["seed"] == seed)
    card: dict[str, Any] = {
        "recipe": recipe,
        "reproduce": f"python -m digitnet.train {recipe} seed={seed}",
        "data": DATA,
    }
    if calibration:
        card["calibration"] = calibration
    card["test_acc_by_seed"] = {str(run["seed"]): run["test/acc"] for run in sweep["runs"]}
    return card | {field: run[field] for field in RUN_FIELDS}


def measure_calibration(run_dir: Path, overrides: list[str]) -> dict[str, Any]:
    """Measure the calibration of the last epoch of a run on its validation images.

    Args:
        run_dir: The run that held out the validation images.
        overrides: The overrides that it was started with.

    Returns:
        The calibration, and under `reproduce` the command that repeats the run.
    """
    model = checkpoint_format.load_checkpoint_model(run_dir / "checkpoints" / "last.ckpt")
    calibration = DigitReader(model).fit_calibration()
    recipe = [override for override in overrides if not override.startswith(("test=", "resume=", "hydra."))]
    return {
        "temperature": calibration.temperature,
        "energy": calibration.energy_threshold,
        "reproduce": f"python -m digitnet.train {' '.join(recipe)}",
    }


def measure_accuracy(model: DigitClassifier) -> dict[str, float]:
    """Score a model on the test images in float32.

    Args:
        model: The trained model.

    Returns:
        The accuracy and the loss, under the names in metrics.json.
    """
    silence_lightning()
    trainer = L.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False)
    (metrics,) = trainer.test(model, MNISTDataModule(), verbose=False)
    return {name: metrics[name] for name in ("test/acc", "test/loss")}


def publish(model: DigitClassifier, name: str, card: dict[str, Any]) -> None:
    """Write NAME.safetensors and its card into the package.

    Args:
        model: The trained model.
        name: Name of the bundled model, for example "cnn" or "teachers/1".
        card: Entries of the card beside the description of the model.
    """
    path = pretrained.PRETRAINED_DIR / f"{name}.safetensors"
    pretrained.save_with_card(path, pretrained.serialize(model), pretrained.model_metadata(model) | card)


def main() -> None:
    parser = make_parser()
    arguments = parser.parse_args()
    is_teacher = arguments.name.startswith(TEACHERS)
    if (arguments.calibration is None, arguments.seed is not None) != (is_teacher, is_teacher):
        parser.error("give a run to calibrate with or, for a teacher, its --seed")
    sweep = aggregate_sweep(arguments.runs)
    seed = arguments.seed if is_teacher else min(run["seed"] for run in sweep["runs"])
    calibration = None
    if arguments.calibration:
        overrides = [override.lstrip("+") for override in read_overrides(arguments.calibration, "calibration")]
        if not {*sweep["overrides"], HELD_OUT} <= set(overrides):
            parser.error(f"{arguments.calibration} must be a run of: {' '.join(sweep['overrides'])} {HELD_OUT}")
        calibration = measure_calibration(arguments.calibration, overrides)
    model = pretrained.load(arguments.runs / str(seed))
    card = make_card(sweep, seed, calibration) | measure_accuracy(model)
    publish(model, arguments.name, card)
    print(json.dumps(card, indent=1))


if __name__ == "__main__":
    main()
