"""A callback for processes that no sabotage reaches: it writes down what is trained on, and may send a signal."""

import os
import signal
import zlib
from pathlib import Path
from typing import Any

import lightning as L


class Ledger(L.Callback):
    def __init__(self, path: str, stop_at: int = 0) -> None:
        self.path, self.stop_at = path, stop_at

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        with Path(f"{self.path}.{trainer.global_rank}").open("a") as file:
            file.writelines(f"{trainer.current_epoch} {zlib.crc32(image.numpy().tobytes())}\n" for image in batch[0])
        if trainer.is_global_zero and trainer.global_step == self.stop_at > 0:
            os.kill(os.getpid(), signal.SIGTERM)
