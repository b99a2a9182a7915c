"""A callback for runs in new processes, in which no FaultInjection can be installed."""

import os
import signal
import zlib
from pathlib import Path
from typing import Any

import lightning as L


class BatchLogger(L.Callback):
    """Write the epoch and the checksum of every training image to a file, and send SIGTERM at a given step.

    Args:
        path: Prefix of the log file. The rank of the process is appended.
        signal_step: Global step before which the first process sends SIGTERM to itself; 0 for never.
    """

    def __init__(self, path: str, signal_step: int = 0) -> None:
        self.path, self.signal_step = path, signal_step

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        with Path(f"{self.path}.{trainer.global_rank}").open("a") as file:
            file.writelines(f"{trainer.current_epoch} {zlib.crc32(image.numpy().tobytes())}\n" for image in batch[0])
        if trainer.is_global_zero and trainer.global_step == self.signal_step > 0:
            os.kill(os.getpid(), signal.SIGTERM)
