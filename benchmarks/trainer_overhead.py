"""Measure what the Trainer and the data pipeline add to the time of an epoch.

    python benchmarks/trainer_overhead.py        writes benchmarks/results/trainer_overhead.json

An epoch of digitnet (Trainer, logging, checkpoints, progress bar, validation) is compared with the same network,
batches, schedule and validation in a hand-written loop, and with Lightning on torchvision's dataset in a DataLoader.
"""

import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import harness
import lightning as L
import torch
import torch.nn.functional as F
from hydra.utils import instantiate
from torch.utils.data import DataLoader
from torchvision.datasets import MNIST
from torchvision.transforms import ToTensor

from digitnet import MLP, EpochLog, RunCheckpoint

PLAIN_BATCH_SIZE = 128
PLAIN = ("model=mlp", "data.augmentation=null", f"data.batch_size={PLAIN_BATCH_SIZE}")
RECIPES = {"cnn": ("model=cnn",), "mlp": ("model=mlp",), "mlp_plain": PLAIN}
EPOCHS = {"cnn": 2, "mlp": 4, "mlp_plain": 4}  # more of the short ones
WITHOUT_VALIDATION = "trainer_mlp_plain_without_validation"
WORKERS = (0, 2)


def time_loop_epoch(*overrides: str, epochs: int) -> float:
    """Train in a hand-written loop, without training metrics, files or a progress bar; return seconds per epoch."""
    config = harness.compose_train_config(*overrides)
    data, model = instantiate(config.data, _convert_="all"), instantiate(config.model)
    batches, validation = data.train_dataloader(), data.val_dataloader()
    settings = config.optimizer
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings.lr, weight_decay=settings.weight_decay, fused=True)
    model.total_steps = len(batches) * epochs
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, model.lr_factor)
    ends = []
    for epoch in range(epochs):
        batches.set_epoch(epoch)
        model.train()
        for images, labels in batches:
            loss = F.cross_entropy(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
        model.eval()
        with torch.inference_mode():
            for images, labels in validation:
                logits = model(images)
                F.cross_entropy(logits, labels), (logits.argmax(1) == labels).sum()
        ends.append(time.perf_counter())
    return (ends[-1] - ends[0]) / (epochs - 1)


def time_dataloader_epoch(root: Path, workers: int, max_batches: int | None) -> float:
    """Train on torchvision's MNIST with a DataLoader and a default Trainer, no validation; return seconds per epoch."""
    images = MNIST(root, transform=ToTensor())
    loader = DataLoader(
        images, batch_size=PLAIN_BATCH_SIZE, shuffle=True, num_workers=workers, persistent_workers=workers > 0
    )
    with tempfile.TemporaryDirectory() as folder:
        epoch_log = EpochLog()
        trainer = L.Trainer(
            max_epochs=2,
            accelerator="cpu",
            default_root_dir=folder,
            callbacks=[epoch_log, RunCheckpoint(Path(folder), epoch_log)],
            limit_train_batches=max_batches,
        )
        trainer.fit(MLP(), loader)
    first, second = (record["seconds"] for record in epoch_log.history)
    return second - first


def make_cases(root: Path, train_size: int | None) -> dict[str, Callable[[], float]]:
    """Return what is measured, by the key in the result file."""
    size = () if train_size is None else (f"++data.train_size={train_size}",)
    max_batches = None if train_size is None else train_size // PLAIN_BATCH_SIZE
    cases: dict[str, Callable[[], float]] = {}
    for name, recipe in RECIPES.items():
        cases[f"trainer_{name}"] = partial(harness.time_trainer_epoch, *recipe, *size, epochs=EPOCHS[name])
        cases[f"loop_{name}"] = partial(time_loop_epoch, *recipe, *size, epochs=EPOCHS[name])
    cases[WITHOUT_VALIDATION] = partial(harness.time_trainer_epoch, *PLAIN, "++data.val_size=0", *size, epochs=3)
    for workers in WORKERS:
        cases[f"dataloader_{workers}_workers"] = partial(time_dataloader_epoch, root, workers, max_batches)
    return cases


def main() -> None:
    parser = harness.benchmark_parser(__doc__, "trainer_overhead.json", repeats=5)
    harness.add_train_size(parser, default=None)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        harness.unpack_mnist(Path(root))
        seconds = harness.time_interleaved(make_cases(Path(root), arguments.train_size), arguments.repeats)
    ratios, rows = {}, []
    for name, recipe in RECIPES.items():
        ratio = harness.median_ratio(seconds, f"trainer_{name}", f"loop_{name}")
        ratios[f"trainer_vs_loop_{name}"] = ratio
        rows.append((f"Trainer ÷ hand-written loop, `{' '.join(recipe)}`", ratio))
    for workers in WORKERS:
        name = f"dataloader_{workers}_workers"
        ratio = harness.median_ratio(seconds, name, WITHOUT_VALIDATION)
        ratios[f"{name}_vs_digitnet"] = ratio
        rows.append((f"Lightning with torchvision's dataset and DataLoader, {workers} workers ÷ digitnet", ratio))
    harness.print_table("epoch | ratio", rows)
    harness.write_result(arguments.output, {"median_ratios": ratios, "seconds_per_epoch": seconds})


if __name__ == "__main__":
    main()
