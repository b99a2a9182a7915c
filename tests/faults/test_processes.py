"""Two processes stop and resume together, and a run may be resumed with another number of processes."""

import json
from collections import Counter
from pathlib import Path

import pytest

from digitnet.checkpoints import checkpoint_format
from tests.conftest import CompletedRun, spawn
from tests.faults.child import TINY

TWO_PROCESSES = ("trainer.accelerator=cpu", "trainer.devices=2", "trainer.strategy=ddp")
REPOSITORY = str(Path(__file__).parents[2])


def train_and_log(folder: Path, *arguments: str, signal_step: int = 0) -> CompletedRun:
    """Train in a new process that logs its images and, if given, sends SIGTERM to itself before a step."""
    target = "tests.faults.batch_logger.BatchLogger"
    logger = f"trainer.callbacks=[{{_target_: {target}, path: '{folder}/images', signal_step: {signal_step}}}]"
    return spawn("digitnet.train", *arguments, logger, folder=folder, PYTHONPATH=REPOSITORY)


@pytest.mark.fault
def test_a_signal_to_one_of_two_processes_stops_both_and_each_epoch_has_every_image_once(tmp_path: Path) -> None:
    options = (*TINY, "data.batch_size=32", "data.augmentation=null", *TWO_PROCESSES, "hydra.run.dir=out")
    stopped = train_and_log(tmp_path, *options, signal_step=3)
    assert stopped.status == 143, stopped.err
    assert "stopped at step 10" in stopped.err, "The processes agree on a stop after every tenth step of an epoch."
    result = train_and_log(tmp_path, "resume=out", *TWO_PROCESSES)
    assert result.status == 0, result.err
    lines = [line for rank in (0, 1) for line in (tmp_path / f"images.{rank}").read_text().splitlines()]
    epochs = [Counter(line.split()[1] for line in lines if line.startswith(f"{epoch} ")) for epoch in range(3)]
    assert sum(epochs[0].values()) == 512
    assert epochs[0] == epochs[1] == epochs[2]


@pytest.mark.fault
@pytest.mark.parametrize("processes_before", [1, 2])
def test_a_run_can_be_resumed_with_another_number_of_processes(processes_before: int, tmp_path: Path) -> None:
    """The run resumes with its weights and at its step, but its later results are not bit-identical."""
    two, one = TWO_PROCESSES, ("trainer.devices=1", "trainer.strategy=auto")
    before, after = (one, two) if processes_before == 1 else (two, one)
    stopped = train_and_log(tmp_path, *TINY, "data.batch_size=32", *before, "hydra.run.dir=out", signal_step=9)
    assert stopped.status == 143, stopped.err
    step = checkpoint_format.load_checkpoint(tmp_path / "out" / "checkpoints" / "last.ckpt")["global_step"]
    assert 9 < step < 48
    result = train_and_log(tmp_path, "resume=out", *after)
    assert result.status == 0, result.err
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["steps"] == 48
