"""What Lightning costs: an epoch of the MLP through the Trainer with logging, checkpoints and progress on, against the
same network, batches, schedule and validation in a hand-written loop.

    python benchmarks/plumbing.py                prints the ratio; writes benchmarks/results/plumbing.json
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import hydra
import torch
import torch.nn.functional as F

from digitnet import MLP, MNISTDataModule, experiment, recording

RATE, BATCH = 2e-3, 128


def by_trainer(epochs: int, train_size: int) -> float:
    """Seconds an epoch, from the end of the first to the end of the last."""
    with tempfile.TemporaryDirectory() as folder:
        overrides = [
            f"folder={folder}",
            f"trainer.max_epochs={epochs}",
            "++trainer.accelerator=cpu",
            f"++data.train_size={train_size}",
        ]
        overrides += [
            "model=mlp",
            "data.augmentation=null",
            f"data.batch_size={BATCH}",
            f"optimizer.lr={RATE}",
            "++trainer.enable_progress_bar=true",
        ]
        with hydra.initialize_config_module("digitnet.configs", version_base="1.3"):
            data, model, trainer, recorder = experiment.build(hydra.compose("train", overrides))
        trainer.fit(model, data)
        ends = [row["seconds"] for row in recorder.rows]
    return (ends[-1] - ends[0]) / (epochs - 1)


def by_hand(epochs: int, train_size: int) -> float:
    """The same in a loop of one's own."""
    data = MNISTDataModule(train_size=train_size)
    (images, labels), (val_images, val_labels) = data.part("train"), data.part("val")
    model = MLP()
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=1e-2, fused=True)
    steps = -(-len(images) // BATCH)
    model.total_steps = steps * epochs
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, model.rate_at)
    ends = []
    for _ in range(epochs):
        model.train()
        for chosen in torch.randperm(len(images)).tensor_split(steps):
            loss = F.cross_entropy(model(images[chosen]), labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
        model.eval()
        with torch.inference_mode():
            for part, truth in zip(val_images.split(1000), val_labels.split(1000), strict=True):
                logits = model(part)
                F.cross_entropy(logits, truth), (logits.argmax(1) == truth).sum()
        ends.append(time.perf_counter())
    return (ends[-1] - ends[0]) / (epochs - 1)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    arguments.add_argument("--repeats", type=int, default=5)
    arguments.add_argument("--epochs", type=int, default=4)
    arguments.add_argument("--train-size", type=int, default=55_000)
    arguments.add_argument("--output", type=Path, default=Path("benchmarks/results/plumbing.json"))
    chosen = arguments.parse_args()
    pairs = [
        (by_trainer(chosen.epochs, chosen.train_size), by_hand(chosen.epochs, chosen.train_size))
        for _ in range(chosen.repeats)
    ]
    ratios = [trainer / hand for trainer, hand in pairs]
    outcome = {
        "seconds an epoch (Trainer, by hand)": pairs,
        "ratios": ratios,
        "median ratio": statistics.median(ratios),
    }
    repeats = ", ".join(f"{ratio:.2f}" for ratio in ratios)
    print(f"Trainer / by hand: {statistics.median(ratios):.2f} (median of {repeats})")
    chosen.output.parent.mkdir(parents=True, exist_ok=True)
    chosen.output.write_text(json.dumps(outcome | recording.surroundings(), indent=2) + "\n")


if __name__ == "__main__":
    main()
