"""Two processes stop together, go on together, and a run may change from one to two and back."""

import json
from collections import Counter
from pathlib import Path

import pytest

from digitnet.checkpoints import checkpoint_format
from tests.conftest import Finished, spawn
from tests.faults.child import TINY

TWO = ("trainer.accelerator=cpu", "trainer.devices=2", "trainer.strategy=ddp")
ROOT = str(Path(__file__).parents[2])


def command(folder: Path, *arguments: str, stop_at: int = 0) -> Finished:
    ledger = (
        f"trainer.callbacks=[{{_target_: tests.faults.ledger.Ledger, path: '{folder}/ledger', stop_at: {stop_at}}}]"
    )
    return spawn("digitnet.train", *arguments, ledger, folder=folder, PYTHONPATH=ROOT)


@pytest.mark.fault
def test_a_signal_to_one_of_two_stops_both_and_loses_no_image(tmp_path: Path) -> None:
    plain = (*TINY, "data.batch_size=32", "data.augmentation=null", *TWO, "hydra.run.dir=out")
    stopped = command(tmp_path, *plain, stop_at=3)
    assert stopped.status == 143, stopped.err
    assert "stopped at step 10" in stopped.err, "they agree every ten steps of an epoch"
    done = command(tmp_path, "resume=out", *TWO)
    assert done.status == 0, done.err
    lines = [line for rank in (0, 1) for line in (tmp_path / f"ledger.{rank}").read_text().splitlines()]
    epochs = [Counter(line.split()[1] for line in lines if line.startswith(f"{epoch} ")) for epoch in range(3)]
    assert sum(epochs[0].values()) == 512
    assert epochs[0] == epochs[1] == epochs[2]


@pytest.mark.fault
@pytest.mark.parametrize("first", [1, 2])
def test_a_run_goes_on_with_another_number_of_processes(first: int, tmp_path: Path) -> None:
    """With the weights and at the step where it was; the bits that follow are others."""
    two, one = (*TWO,), ("trainer.devices=1", "trainer.strategy=auto")
    before, after = (one, two) if first == 1 else (two, one)
    stopped = command(tmp_path, *TINY, "data.batch_size=32", *before, "hydra.run.dir=out", stop_at=9)
    assert stopped.status == 143, stopped.err
    step = checkpoint_format.load_checkpoint(tmp_path / "out" / "checkpoints" / "last.ckpt")["global_step"]
    assert 9 < step < 48
    done = command(tmp_path, "resume=out", *after)
    assert done.status == 0, done.err
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["steps"] == 48
