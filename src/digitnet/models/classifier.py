"""What every digit classifier shares: the pixels it takes, its loss and figures, its optimiser and schedule."""

import math
from collections.abc import Callable, Iterable
from typing import Any, Literal

import lightning as L
import torch
import torch.nn.functional as F
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torchmetrics.classification import MulticlassConfusionMatrix

from digitnet.errors import check_argument
from digitnet.models.calibration import Calibration
from digitnet.models.distillation import Distillation

MEAN, STD = 0.1307, 0.3081  # of the training pixels, 0 to 1

Batch = tuple[Tensor, Tensor]  # images and labels

# Learning rates as pure functions of the share of the fall that is left: nothing to save, nothing to restore.
SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": lambda left: 1.0,
    "cosine": lambda left: (1 - math.cos(math.pi * left)) / 2,  # Loshchilov and Hutter, 2017
    "onecycle": lambda left: left,  # Smith and Topin, 2018, in straight lines; the momentum stays as it is
}


def is_finite(tensors: Iterable[Tensor]) -> bool:
    """Waits for the device once, however many they are."""
    return bool(torch.stack([tensor.isfinite().all() for tensor in tensors if tensor.is_floating_point()]).all())


class Tally:
    """What the figures of an epoch are made of, kept as it comes: a sum at each step would be five more operations."""

    def __init__(self) -> None:
        self.losses: list[Tensor] = []
        self.logits: list[Tensor] = []
        self.labels: list[Tensor] = []

    def add(self, mean_loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        self.losses.append(mean_loss.detach())
        self.logits.append(logits.detach())
        self.labels.append(labels)

    def state_dict(self) -> dict[str, Any]:
        """Of an epoch that is not over; the loss of each batch apart, for a sum of sums may round differently."""
        parts = {"losses": torch.stack(self.losses), "logits": torch.cat(self.logits), "labels": torch.cat(self.labels)}
        return {name: part.cpu() for name, part in parts.items()} | {"sizes": [len(labels) for labels in self.labels]}

    def load_state_dict(self, state_dict: dict[str, Any], device: torch.device) -> None:
        losses, logits, labels = (state_dict[name].to(device) for name in ("losses", "logits", "labels"))
        sizes = state_dict["sizes"]
        self.losses, self.logits, self.labels = [*losses], [*logits.split(sizes)], [*labels.split(sizes)]

    def sums(self) -> Tensor:
        """Loss, hits and images, on the device."""
        sizes = torch.tensor([len(labels) for labels in self.labels], dtype=torch.float64)
        losses, labels = torch.stack(self.losses), torch.cat(self.labels)
        loss = losses @ sizes.to(losses)
        hits = (torch.cat(self.logits).argmax(dim=1) == labels).sum()
        return torch.stack([loss, hits.to(loss), sizes.sum().to(loss)])


class DigitClassifier(L.LightningModule):
    """Subclass it, pass the training arguments on, build `self.net`: `[N, 1, 28, 28]` in, logits `[N, 10]` out.

    `lr` is the highest rate the schedule reaches, `warmup` the share of all steps on which it rises, `momentum` that of
    SGD or the first beta of Adam. Every argument is a plain value, so a checkpoint that holds them is plain data and
    `load_from_checkpoint` needs nothing else. Raises UsageError for a value out of range.
    """

    net: nn.Module

    def __init__(
        self,
        optimizer: Literal["adam", "adamw", "sgd"] = "adamw",
        lr: float = 1e-3,
        weight_decay: float = 0.0,
        momentum: float = 0.9,
        schedule: Literal["constant", "cosine", "onecycle"] = "onecycle",
        warmup: float = 0.2,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        check_argument(optimizer in ("adam", "adamw", "sgd"), "optimizer.name", optimizer, "adam, adamw or sgd")
        check_argument(0 < lr < math.inf, "optimizer.lr", lr, "above 0")
        check_argument(0 <= weight_decay < math.inf, "optimizer.weight_decay", weight_decay, "0 or more")
        check_argument(0 <= momentum < 1, "optimizer.momentum", momentum, "at least 0 and below 1")
        check_argument(schedule in SCHEDULES, "schedule.name", schedule, f"one of {', '.join(SCHEDULES)}")
        check_argument(0 <= warmup < 1, "schedule.warmup", warmup, "at least 0 and below 1")
        check_argument(0 <= label_smoothing < 1, "model.label_smoothing", label_smoothing, "at least 0 and below 1")
        self.save_hyperparameters(logger=False)
        self.example_input_array = torch.zeros(1, 1, 28, 28, dtype=torch.uint8)
        self.total_steps = math.inf
        self.distillation: Distillation | None = None
        self.calibration: Calibration | None = None  # from a card; a DigitReader would have to fit it
        self.tallies: dict[str, Tally] = {}
        self.resumed_tally: dict[str, Any] | None = None

    def forward(self, images: Tensor) -> Tensor:
        """Logits `[N, 10]` for `[N, 28, 28]` or `[N, 1, 28, 28]`, bright ink on dark, uint8 or float from 0 to 1."""
        pixels = images.to(self.dtype) / 255 if images.dtype == torch.uint8 else images.to(self.dtype)
        logits: Tensor = self.net(((pixels.unsqueeze(1) if pixels.dim() == 3 else pixels) - MEAN) / STD)
        return logits.float()

    def training_step(self, batch: Batch) -> Tensor:
        images, labels = batch
        logits = self(images)
        loss = F.cross_entropy(logits, labels, label_smoothing=self.hparams["label_smoothing"])
        if self.distillation is not None:
            loss = self.distillation(loss, logits, images)
        self.tallies["train"].add(loss, logits, labels)
        return loss

    def validation_step(self, batch: Batch) -> None:
        self.score(batch, "val")

    def test_step(self, batch: Batch) -> None:
        self.confusion.update(self.score(batch, "test"), batch[1])

    def predict_step(self, batch: Batch | Tensor) -> Tensor:
        """Probabilities `[N, 10]`."""
        images = batch if isinstance(batch, Tensor) else batch[0]
        probabilities: Tensor = self(images).softmax(dim=1)
        return probabilities

    def score(self, batch: Batch, stage: str) -> Tensor:
        images, labels = batch
        logits: Tensor = self(images)
        self.tallies[stage].add(F.cross_entropy(logits, labels), logits, labels)
        return logits

    def on_train_epoch_start(self) -> None:
        self.tallies["train"] = Tally()

    def on_validation_epoch_start(self) -> None:
        self.tallies["val"] = Tally()

    def on_test_epoch_start(self) -> None:
        self.tallies["test"] = Tally()
        # Made only here, or it would stand among the layers in the summary of the network.
        self.confusion = MulticlassConfusionMatrix(10, validate_args=False).to(self.device)

    def on_train_epoch_end(self) -> None:
        self.log_dict(self.figures("train"))
        del self.tallies["train"]  # so that it stands only in a checkpoint from the middle of an epoch

    def on_validation_epoch_end(self) -> None:
        self.log_dict(self.figures("val"))

    def on_test_epoch_end(self) -> None:
        counts = self.confusion.compute().cpu().double()
        by_digit = {f"test/acc/{digit}": counts[digit, digit] / counts[digit].sum() for digit in range(10)}
        self.log_dict(self.figures("test") | by_digit, logger=False)  # one point makes no curve

    def figures(self, stage: str) -> dict[str, Tensor]:
        """Loss and accuracy over the images of all processes, each counted once.

        In float64, so that 9,923 of 10,000 reads 0.9923 in the files, and on the CPU, for not every device knows it.
        """
        loss, hits, images = self.trainer.strategy.reduce(self.tallies[stage].sums(), reduce_op="sum").tolist()
        share = torch.tensor([loss, hits], dtype=torch.float64) / images
        return {f"{stage}/loss": share[0], f"{stage}/acc": share[1]}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["digitnet_model"] = type(self).__name__
        if "train" in self.tallies:
            checkpoint["tally"] = self.tallies["train"].state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.resumed_tally = checkpoint.get("tally")

    def has_diverged(self) -> bool:
        """Whether a weight or, in the middle of an epoch, the loss of a batch is not finite. Waits for the device."""
        losses = self.tallies["train"].losses if "train" in self.tallies else []
        return not is_finite([*self.state_dict().values(), *losses])

    def configure_optimizers(self) -> OptimizerLRScheduler:
        name, momentum = self.hparams["optimizer"], self.hparams["momentum"]
        kind: Any = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}[name]
        options = {"momentum": momentum} if name == "sgd" else {"betas": (momentum, 0.999)}
        options |= {"lr": self.hparams["lr"], "weight_decay": self.hparams["weight_decay"]}
        # One kernel for all parameters; Lightning cannot clip gradients before it in mixed precision.
        optimizer = kind(self.parameters(), **options, fused="mixed" not in str(self.trainer.precision))
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, self.rate_at)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def rate_at(self, step: int) -> float:
        """The share of `lr` at an optimiser step: a rise from 1/25 to 1, then the schedule.

        A run that goes on past its plan stays at the schedule's end.
        """
        progress, warmup = min(step / self.total_steps, 1.0), float(self.hparams["warmup"])
        if progress < warmup:
            return 0.04 + 0.96 * progress / warmup
        return SCHEDULES[self.hparams["schedule"]]((1 - progress) / (1 - warmup))

    def on_train_start(self) -> None:
        self.calibration = None  # it was of other weights
        self.total_steps = self.trainer.estimated_stepping_batches  # asked any earlier, it breaks a resume (#20550)
        endless = math.isinf(self.total_steps) and (self.hparams["schedule"] != "constant" or self.hparams["warmup"])
        check_argument(not endless, "trainer.max_epochs", -1, "set, or trainer.max_steps: the schedule needs an end")
        if self.resumed_tally:  # from the middle of an epoch: Lightning does not start that a second time
            self.tallies["train"] = Tally()
            if self.trainer.is_global_zero:  # it was the first process's
                self.tallies["train"].load_state_dict(self.resumed_tally, self.device)
            self.resumed_tally = None
