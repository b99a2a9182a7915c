"""The base class of callbacks that work at the end of an epoch."""

from typing import Any

from lightning.pytorch.callbacks import Checkpoint


class EpochEndCallback(Checkpoint):
    """A callback that runs at the end of an epoch, after the metrics of the epoch were computed.

    Lightning calls `on_train_epoch_end` of `Checkpoint` subclasses and of EarlyStopping, and of no other callbacks,
    after that of the LightningModule, which logs the epoch's metrics.

    Lightning also calls six hooks of every callback in each training step, at about 2 µs each even if they are empty.
    It skips hooks that are None. A subclass that needs one of these hooks defines it, without calling
    `super()`.
    """

    on_train_batch_start: Any = None
    on_before_zero_grad: Any = None
    on_before_backward: Any = None
    on_after_backward: Any = None
    on_before_optimizer_step: Any = None
    on_train_batch_end: Any = None
