"""Measure what every network and preset of the package costs, and count the cost of published classifiers.

    python benchmarks/network_cost.py            writes benchmarks/results/network_cost.json

The multiply-adds of a training step are three times those of a forward pass, because the backward pass computes the
gradients of the inputs and of the weights; a teacher takes a forward pass only. The seconds are those of an epoch
through the Trainer, with logs, checkpoints and the progress bar but without validation; they are measured on fewer
images and scaled to those of the preset. If the distortions of a distilled preset repeat, so that its teacher is asked
in the first epochs only, they are a mean over both kinds of epochs.
"""

import statistics
from functools import partial
from pathlib import Path
from typing import Any

import harness
import torch
from published_systems import SYSTEMS, PublishedSystem
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from digitnet import configs
from digitnet.checkpoints.pretrained import load_ensemble
from digitnet.training.build import build_run

CONFIGS = Path(configs.__file__).parent
REPEATED = "data.augmentation.views=1"  # from the second epoch, the teacher has seen all batches
PASSES_PER_STEP = 3  # forward, gradients of the inputs, gradients of the weights


def list_presets() -> list[str]:
    """Return the override of every network and of every preset in the configs."""
    return [
        f"{group}={path.stem}" for group in ("model", "experiment") for path in sorted(CONFIGS.glob(f"{group}/*.yaml"))
    ]


def count_parameters(net: nn.Module) -> int:
    """Return the number of weights of a network."""
    return sum(parameter.numel() for parameter in net.parameters())


def describe_preset(override: str) -> dict[str, Any]:
    """Return the cost of a preset that needs no measurement."""
    config = harness.compose_train_config(override)
    run = build_run(config)
    run.data.prepare_data()
    epochs, images = config.trainer.max_epochs, run.data.train_size
    multiply_adds = run.model.count_multiply_adds()
    teacher = run.model.distillation.teacher.count_multiply_adds() if run.model.distillation else 0
    # The logits of a teacher are kept for the epochs that repeat.
    taught_epochs = min(epochs, getattr(run.data.augmentation, "views", None) or epochs) if teacher else 0
    training = images * (PASSES_PER_STEP * multiply_adds * epochs + teacher * taught_epochs)
    return {
        "parameters": count_parameters(run.model),
        "multiply_adds": multiply_adds,
        "epochs": epochs,
        "taught_epochs": taught_epochs,
        "train_images": images,
        "training_multiply_adds": training,
    }


def repeats_views(cost: dict[str, Any]) -> bool:
    """Return whether the teacher of a preset is asked in the first epochs only."""
    return bool(0 < cost["taught_epochs"] < cost["epochs"])


def mean_seconds(override: str, cost: dict[str, Any], seconds: harness.Seconds) -> float:
    """Return the seconds of an epoch of a preset, a mean over the epochs with and without its teacher."""
    first = statistics.median(seconds[override])
    later = statistics.median(seconds.get(f"{override},{REPEATED}", seconds[override]))
    taught = cost["taught_epochs"] / cost["epochs"]
    return taught * first + (1 - taught) * later


def describe_teachers() -> dict[str, Any]:
    """Return the cost of the ensemble of the bundled teachers."""
    ensemble = load_ensemble("teachers")
    return {"parameters": count_parameters(ensemble), "multiply_adds": ensemble.count_multiply_adds()}


def describe_published(system: PublishedSystem) -> dict[str, Any]:
    """Return what a published classifier costs and reaches."""
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        system.net.eval()(torch.zeros(1, 1, 28, 28))
    multiply_adds = counter.get_total_flops() // 2
    steps = None if system.epochs is None else system.epochs * system.train_images
    return {
        "parameters": count_parameters(system.net),
        "multiply_adds": multiply_adds,
        "epochs": system.epochs,
        "train_images": system.train_images,
        "training_multiply_adds": None if steps is None else PASSES_PER_STEP * multiply_adds * steps,
        "test_acc": system.test_acc,
        "n": system.n,
        "source": system.source,
    }


def main() -> None:
    parser = harness.benchmark_parser(__doc__, "network_cost.json", repeats=2)
    harness.add_train_size(parser, default=20_000)
    arguments = parser.parse_args()
    costs = {override: describe_preset(override) for override in list_presets()}
    size = ("++data.val_size=0", f"++data.train_size={arguments.train_size}")
    cases = {override: partial(harness.time_trainer_epoch, override, *size, epochs=2) for override in costs}
    for override in filter(lambda each: repeats_views(costs[each]), costs):
        cases[f"{override},{REPEATED}"] = partial(cases[override], f"++{REPEATED}")
    seconds = harness.time_interleaved(cases, arguments.repeats)
    for override, cost in costs.items():
        epoch = mean_seconds(override, cost, seconds) * cost["train_images"] / arguments.train_size
        cost |= {"seconds_per_epoch": epoch, "minutes": epoch * cost["epochs"] / 60}
    rows = [
        (f"`{override}`", f"{cost['parameters']:,}", f"{cost['multiply_adds']:,}", cost["seconds_per_epoch"])
        for override, cost in costs.items()
    ]
    harness.print_table("preset | parameters | multiply-adds | seconds an epoch", rows)
    result = {
        "digitnet": costs | {"teachers": describe_teachers()},
        "published": {name: describe_published(system) for name, system in SYSTEMS.items()},
        "seconds": {"train_images": arguments.train_size, "by_preset": seconds},
    }
    harness.write_result(arguments.output, result)


if __name__ == "__main__":
    main()
