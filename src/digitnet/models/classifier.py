"""Extends DigitModule to the base class of networks: loss, optimizer, learning rate schedule and checkpoints."""

import math
from collections.abc import Callable, Hashable, Iterable
from typing import Any, Literal

import torch
import torch.nn.functional as F
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from digitnet.errors import check_argument
from digitnet.models.calibration import Calibration
from digitnet.models.dataset_record import describe_datamodule
from digitnet.models.distillation import Distillation
from digitnet.models.metrics import EpochMetrics, gather
from digitnet.models.module import Batch, DigitModule
from digitnet.models.registry import model_name, register

SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": lambda remaining: 1.0,
    "cosine": lambda remaining: (1 - math.cos(math.pi * remaining)) / 2,  # Loshchilov and Hutter, 2017
    "linear": lambda remaining: remaining,  # with warm-up, the 1cycle of Smith and Topin, 2018, at constant momentum
}
"""Factor of the learning rate after warm-up by schedule, as a function of the fraction of steps that remain.

These are pure functions, so there is no state to save and restore.
"""


def is_finite(tensors: Iterable[Tensor]) -> bool:
    """Return whether all floating-point tensors are finite; synchronizes with the device once for all of them."""
    return bool(torch.stack([tensor.isfinite().all() for tensor in tensors if tensor.is_floating_point()]).all())


class DigitClassifier(DigitModule):
    """Base class of a network that can be trained.

    A subclass assigns the network to `self.net`, which maps normalized pixels `[N, 1, 28, 28]` to logits `[N, C]` with
    C = `self.num_classes`, and passes the arguments below on. All hyper-parameters are plain values, so a checkpoint
    that stores them is plain data, and `load_from_checkpoint` needs no further arguments.

    Args:
        optimizer: "adam" (Kingma and Ba, 2015), "adamw" (Loshchilov and Hutter, 2019) or "sgd".
        lr: Highest learning rate, which the schedule reaches at the end of the warm-up. Must be above 0.
        weight_decay: Weight decay of the optimizer. Must be 0 or more.
        momentum: Momentum of SGD, or the first beta of Adam and AdamW. In [0, 1).
        schedule: Learning rate after the warm-up: "constant", "cosine" (to 0; Loshchilov and Hutter, 2017) or "linear"
            (to 0).
        warmup_fraction: Fraction of all steps during which the learning rate rises linearly from `lr / 25` to `lr`.
            In [0, 1).
        label_smoothing: Label smoothing of the training loss (Szegedy et al., 2016). In [0, 1).
        num_classes: Number of classes, C. At least 2.
        distillation: Loss of knowledge distillation, which needs a teacher. It is stored in no checkpoint.
        calibration: Calibration of the probabilities. It is stored in no checkpoint, and training discards it.

    Raises:
        ArgumentError: If a value is out of range.
    """

    net: nn.Module

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        register(cls)  # checkpoints may name it from now on

    def __init__(
        self,
        optimizer: Literal["adam", "adamw", "sgd"] = "adamw",
        lr: float = 1e-3,
        weight_decay: float = 0.0,
        momentum: float = 0.9,
        schedule: Literal["constant", "cosine", "linear"] = "linear",
        warmup_fraction: float = 0.2,
        label_smoothing: float = 0.0,
        num_classes: int = 10,
        distillation: Distillation | None = None,
        calibration: Calibration | None = None,
    ) -> None:
        super().__init__()
        check_argument(num_classes >= 2, "num_classes", num_classes, "at least 2")
        check_argument(optimizer in ("adam", "adamw", "sgd"), "optimizer", optimizer, "adam, adamw or sgd")
        check_argument(0 < lr < math.inf, "lr", lr, "above 0")
        check_argument(0 <= weight_decay < math.inf, "weight_decay", weight_decay, "0 or more")
        check_argument(0 <= momentum < 1, "momentum", momentum, "at least 0 and below 1")
        check_argument(schedule in SCHEDULES, "schedule", schedule, f"one of {', '.join(SCHEDULES)}")
        check_argument(0 <= warmup_fraction < 1, "warmup_fraction", warmup_fraction, "at least 0 and below 1")
        check_argument(0 <= label_smoothing < 1, "label_smoothing", label_smoothing, "at least 0 and below 1")
        self.save_hyperparameters(logger=False, ignore=["distillation", "calibration"])
        self.num_classes = num_classes
        self.total_steps = math.inf
        self.distillation = distillation
        self.calibration = calibration
        self._resumed_metrics: list[dict[str, Any]] | None = None

    @property
    def needs_end(self) -> bool:
        """Whether the learning rate depends on the number of steps of the whole training."""
        return bool(self.hparams["schedule"] != "constant" or self.hparams["warmup_fraction"] > 0)

    def compute_logits(self, pixels: Tensor) -> Tensor:
        """Return the logits `[N, C]` of normalized pixels `[N, 1, 28, 28]`."""
        logits: Tensor = self.net(pixels)
        return logits

    def training_step(self, batch: Batch, batch_idx: int = 0) -> Tensor:
        """Return the loss of a batch, and add the batch to the metrics of the epoch."""
        images, labels = batch
        logits = self(images)
        loss = F.cross_entropy(logits, labels, label_smoothing=self.hparams["label_smoothing"])
        if self.distillation is not None:
            loss = self.distillation(loss, logits, images, self._batch_id(batch_idx))
        self.epoch_metrics["train"].add(loss, logits, labels)
        return loss

    def _batch_id(self, batch_idx: int) -> Hashable | None:
        """Return what identifies a batch that occurs in several epochs, if the loader tells."""
        identify = getattr(self.trainer.train_dataloader, "batch_id", None)
        return identify(batch_idx) if identify else None

    def on_fit_start(self) -> None:
        """Record the data set, also of a run that is complete and trains no further."""
        self.dataset = describe_datamodule(getattr(self.trainer, "datamodule", None), self.num_classes)

    def on_train_start(self) -> None:
        """Read the length of the schedule, and restore the metrics of an unfinished epoch."""
        self.calibration = None  # it belongs to the weights before training
        if self.distillation is not None:
            self.distillation.forget_batches()
        # Before this hook, reading the number of steps breaks resuming (Lightning #20550).
        self.total_steps = self.trainer.estimated_stepping_batches
        is_endless = math.isinf(self.total_steps) and self.needs_end
        check_argument(not is_endless, "max_epochs", -1, "above 0, or max_steps must be: the schedule needs an end")
        if self._resumed_metrics:  # of an unfinished epoch, whose start Lightning does not repeat
            self.epoch_metrics["train"] = EpochMetrics()
            rank, saved = self.trainer.global_rank, self._resumed_metrics
            # Each process continues with its own metrics; if their number has changed, the first one takes all.
            mine = saved[rank : rank + 1] if len(saved) == self.trainer.world_size else saved if rank == 0 else []
            for state in mine:
                self.epoch_metrics["train"].load_state_dict(state, self.device)
            self._resumed_metrics = None

    def on_train_epoch_start(self) -> None:
        """Start the metrics of the epoch."""
        self.epoch_metrics["train"] = EpochMetrics()

    def on_train_epoch_end(self) -> None:
        """Log the metrics of the epoch."""
        self.log_dict(self.compute_metrics("train"))
        del self.epoch_metrics["train"]  # only a checkpoint of an unfinished epoch stores metrics

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store the name of the class, the data set, and the metrics of an unfinished epoch (a list, by process)."""
        checkpoint["digitnet_model"] = model_name(type(self))
        checkpoint["digitnet_dataset"] = self.dataset.to_dict() if self.dataset else None
        if "train" in self.epoch_metrics:
            state = self.epoch_metrics["train"].state_dict()
            checkpoint["epoch_metrics"] = gather(state) if self.trainer.world_size > 1 else state

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the metrics of an unfinished epoch until training starts."""
        saved = checkpoint.get("epoch_metrics")
        self._resumed_metrics = [saved] if isinstance(saved, dict) else saved

    def has_diverged(self) -> bool:
        """Return whether a weight or, within an epoch, the loss of a batch is not finite; synchronizes the device."""
        losses = self.epoch_metrics["train"].losses if "train" in self.epoch_metrics else []
        return not is_finite([*self.state_dict().values(), *losses])

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return the optimizer, and a schedule that is updated at each step."""
        name, momentum = self.hparams["optimizer"], self.hparams["momentum"]
        optimizer_class: Any = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}[name]
        options = {"momentum": momentum} if name == "sgd" else {"betas": (momentum, 0.999)}
        options |= {"lr": self.hparams["lr"], "weight_decay": self.hparams["weight_decay"]}
        # One kernel updates all parameters. In mixed precision Lightning cannot clip gradients before a fused step, and
        # in 16-mixed a step that is not fused waits for the device.
        fused = "mixed" not in str(self.trainer.precision) or not self.trainer.gradient_clip_val
        optimizer = optimizer_class(self.parameters(), **options, fused=fused)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, self.lr_factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def lr_factor(self, step: int) -> float:
        """Return the factor of `lr` at an optimizer step.

        Args:
            step: Number of optimizer steps that were taken.

        Returns:
            A factor that rises from 1/25 to 1 during the warm-up and then follows the schedule. After the last
            scheduled step, it keeps the final value of the schedule.
        """
        progress, warmup = min(step / self.total_steps, 1.0), float(self.hparams["warmup_fraction"])
        if progress < warmup:
            return 0.04 + 0.96 * progress / warmup
        return SCHEDULES[self.hparams["schedule"]]((1 - progress) / (1 - warmup))
