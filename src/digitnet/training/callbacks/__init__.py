"""The callbacks of a training run, one job each."""

from digitnet.training.callbacks.epoch_log import EpochLog
from digitnet.training.callbacks.graceful_stop import GracefulStop
from digitnet.training.callbacks.histograms import Histograms
from digitnet.training.callbacks.logger_report import LoggerReport
from digitnet.training.callbacks.progress_bar import TimedProgressBar
from digitnet.training.callbacks.run_checkpoint import RunCheckpoint
from digitnet.training.callbacks.run_length import RunLength
from digitnet.training.callbacks.tensorboard import TensorBoardReport

__all__ = [
    "EpochLog",
    "GracefulStop",
    "Histograms",
    "LoggerReport",
    "RunCheckpoint",
    "RunLength",
    "TensorBoardReport",
    "TimedProgressBar",
]
