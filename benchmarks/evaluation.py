"""Measure the evaluation of the 10,000 test images by `Trainer.test` against one plain forward pass over the tensor.

python benchmarks/evaluation.py              writes benchmarks/results/evaluation.json

The figures that `digitnet-evaluate` adds (intervals, calibration, classes, mistakes, prediction sets) are timed against
`Trainer.test`.
"""

from functools import partial

import harness
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from digitnet import MNISTDataModule
from digitnet.models import DigitClassifier
from digitnet.training.assessment import HeldOut, assess
from digitnet.training.build import build_trainer
from digitnet.training.experiment import score_test_set

LABELS = {"one_pass": "one pass", "batches_of_1000": "one pass in batches of 1,000"}
WARM_UP_ROUNDS = 2  # the first rounds are slow


def time_trainer_test(model: DigitClassifier, data: MNISTDataModule) -> float:
    """Return the seconds of `Trainer.test` with all its metrics."""
    config = OmegaConf.create(
        {"_target_": "lightning.Trainer", "logger": False, "enable_checkpointing": False, "accelerator": "cpu"}
    )
    trainer = build_trainer(config, [])
    return float(score_test_set(trainer, model, data)["test/seconds"])


def time_forward_pass(model: DigitClassifier, images: torch.Tensor, batch_size: int) -> float:
    """Return the seconds of a forward pass over `images`, `[N, 28, 28]`, in batches."""
    with torch.inference_mode():
        return harness.time_call(lambda: torch.cat([model(batch) for batch in images.split(batch_size)]))


def time_assessment(logits: dict[str, torch.Tensor], labels: dict[str, torch.Tensor]) -> float:
    """Return the seconds that the figures of an evaluation take, from logits `[N, 10]` of both splits."""
    held_out = HeldOut(logits["val"], labels["val"])
    return harness.time_call(
        lambda: assess(logits["test"], labels["test"], [str(digit) for digit in range(10)], held_out)
    )


def main() -> None:
    arguments = harness.benchmark_parser(__doc__, "evaluation.json", repeats=15).parse_args()
    model = instantiate(harness.compose_train_config("model=cnn").model).eval()
    data = MNISTDataModule()
    images, _ = data.split("test")
    labels = {split: data.split(split)[1] for split in ("val", "test")}
    with torch.inference_mode():
        logits = {split: torch.cat([model(batch) for batch in data.split(split)[0].split(1000)]) for split in labels}
    cases = {
        "trainer_test": partial(time_trainer_test, model, data),
        "one_pass": partial(time_forward_pass, model, images, len(images)),
        "batches_of_1000": partial(time_forward_pass, model, images, 1000),
        "assessment": partial(time_assessment, logits, labels),
    }
    harness.time_interleaved(cases, WARM_UP_ROUNDS)
    seconds = harness.time_interleaved(cases, arguments.repeats)
    ratios = {f"trainer_test_vs_{name}": harness.median_ratio(seconds, "trainer_test", name) for name in LABELS}
    ratios["assessment_vs_trainer_test"] = harness.median_ratio(seconds, "assessment", "trainer_test")
    rows = [(f"Trainer.test ÷ {LABELS[name]}", ratios[f"trainer_test_vs_{name}"]) for name in LABELS]
    rows.append(("figures of digitnet-evaluate ÷ Trainer.test", ratios["assessment_vs_trainer_test"]))
    harness.print_table("10,000 test images, default CNN | ratio", rows)
    harness.write_result(arguments.output, {"median_ratios": ratios, "seconds": seconds})


if __name__ == "__main__":
    main()
