"""What Lightning and the data path cost: an epoch through our Trainer, with logging, checkpoints and progress, against
the same network, batches, schedule and validation in a hand-written loop; and against torchvision's dataset in a
DataLoader.

    python benchmarks/plumbing.py                prints the ratios; writes benchmarks/results/plumbing.json
"""

import gzip
import tempfile
import time
from functools import partial
from pathlib import Path

import hydra
import lightning as L
import measure
import torch
import torch.nn.functional as F
from hydra.utils import instantiate
from torch.utils.data import DataLoader
from torchvision.datasets import MNIST
from torchvision.transforms import ToTensor

from digitnet import MLP
from digitnet.data import mnist
from digitnet.training import recording

BARE = ("model=mlp", "data.augmentation=null", "data.batch_size=128")
RECIPES = {"model=cnn": ("model=cnn",), "model=mlp": ("model=mlp",), " ".join(BARE): BARE}


def epoch_by_hand(*overrides: str, epochs: int) -> float:
    """The same as a loop of one's own, without figures of the training, files or progress."""
    with hydra.initialize_config_module("digitnet.configs", version_base="1.3"):
        config = hydra.compose("train", [*overrides, "folder=unused"])
    data, model = instantiate(config.data, _convert_="all"), instantiate(config.model)
    batches, validation = data.train_dataloader(), data.val_dataloader()
    settings = config.optimizer
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings.lr, weight_decay=settings.weight_decay, fused=True)
    model.total_steps = len(batches) * epochs
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, model.rate_at)
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


def epoch_by_loader(root: Path, workers: int, batches: int | None) -> float:
    """What most people write: torchvision's MNIST, a DataLoader, a Trainer as it comes; no validation."""
    images = MNIST(root, transform=ToTensor())
    loader = DataLoader(images, batch_size=128, shuffle=True, num_workers=workers, persistent_workers=workers > 0)
    with tempfile.TemporaryDirectory() as folder:
        recorder = recording.Recorder(Path(folder))
        trainer = L.Trainer(
            max_epochs=2, accelerator="cpu", default_root_dir=folder, callbacks=[recorder], limit_train_batches=batches
        )
        trainer.fit(MLP(), loader)
    first, second = (row["seconds"] for row in recorder.rows)
    return second - first


def unpack(root: Path) -> None:
    """The layout that torchvision reads."""
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for path in (Path(mnist.__file__).parent / "files").glob("*.gz"):
        (raw / path.stem).write_bytes(gzip.decompress(path.read_bytes()))


def main() -> None:
    parser = measure.arguments(__doc__, "plumbing.json", repeats=5)
    parser.add_argument("--train-size", type=int, help="fewer images, to try the command")
    chosen = parser.parse_args()
    less = () if chosen.train_size is None else (f"++data.train_size={chosen.train_size}",)
    batches = None if chosen.train_size is None else chosen.train_size // 128
    cases, rows = {}, []
    for name, recipe in RECIPES.items():
        epochs = 2 if "cnn" in name else 4
        cases[f"Trainer, {name}"] = partial(measure.epoch_by_trainer, *recipe, *less, epochs=epochs)
        cases[f"by hand, {name}"] = partial(epoch_by_hand, *recipe, *less, epochs=epochs)
    whole = "Trainer, all 60,000, no validation"
    cases[whole] = partial(measure.epoch_by_trainer, *BARE, "++data.val_size=0", *less, epochs=3)
    with tempfile.TemporaryDirectory() as root:
        unpack(Path(root))
        for workers in (0, 2):
            cases[f"DataLoader, {workers} workers"] = partial(epoch_by_loader, Path(root), workers, batches)
        seconds = measure.interleave(cases, chosen.repeats)
    for name in RECIPES:
        rows.append(
            (f"Trainer ÷ hand-written loop, `{name}`", measure.ratio(seconds, f"Trainer, {name}", f"by hand, {name}"))
        )
    for workers in (0, 2):
        name = f"DataLoader, {workers} workers"
        rows.append(
            (f"Lightning with torchvision's dataset and {name} ÷ digitnet", measure.ratio(seconds, name, whole))
        )
    measure.show("epoch | ratio", rows)
    measure.write(chosen.output, {"median ratios": dict(rows), "seconds an epoch": seconds})


if __name__ == "__main__":
    main()
