"""A run that is interrupted and resumed ends with the same bits as a run without an interruption."""

import json
import random
import shutil
import signal
import subprocess
import sys
import time
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from digitnet.checkpoints import checkpoint_format
from digitnet.data import Augmentation
from digitnet.training import run_dir
from tests.conftest import spawn
from tests.faults.child import (
    STEPS,
    STEPS_PER_EPOCH,
    TINY,
    CompletedRun,
    FaultInjection,
    ForkServer,
    KillAfter,
    ReturnValue,
    SendSignal,
)
from tests.faults.conftest import (
    RunStoppedAt,
    file_contents,
    first_difference,
    partial_files,
    run_state,
    stop_after_step,
    trials,
    without_curves,
)


def resume(fork_server: ForkServer, folder: Path, faults: tuple[FaultInjection, ...] = ()) -> CompletedRun:
    """Repeat the command, with `resume=out` if the interrupted run has written a record to resume from."""
    if (folder / "out" / ".hydra" / "overrides.yaml").exists():
        return fork_server.run("train", "resume=out", folder=folder, faults=faults)
    return fork_server.run("train", *TINY, "hydra.run.dir=out", folder=folder, faults=faults)


@pytest.mark.parametrize("step", trials(range(1, STEPS + 1), fast=(1, 7, 8, 9, 20, 24)))
def test_a_run_stopped_after_any_step_resumes_to_the_same_bits(
    step: int, fork_server: ForkServer, reference_state: dict[str, Any], tmp_path: Path
) -> None:
    stopped = fork_server.run("train", *TINY, "hydra.run.dir=out", folder=tmp_path, faults=[stop_after_step(step)])
    assert stopped.status == 143, stopped.err
    if step < STEPS:
        assert f"stopped at step {step}; resume=out" in stopped.err
    assert checkpoint_format.load_checkpoint(tmp_path / "out" / "checkpoints" / "last.ckpt")["global_step"] == step
    assert resume(fork_server, tmp_path).status == 0
    assert first_difference(run_state(tmp_path / "out"), reference_state) == ""


def test_every_training_step_changes_all_weights(shared_stopped_run: RunStoppedAt) -> None:
    """Without this, the tests of resuming would also pass for a run that learns nothing."""
    before, after = (
        checkpoint_format.load_checkpoint(shared_stopped_run(step) / "checkpoints" / "last.ckpt")["current_model_state"]
        for step in (11, 12)
    )
    assert not any(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize(
    ("guard", "value"),
    [
        ("digitnet.data.loader:DeterministicLoader.resume_step", 0),
        ("digitnet.data.loader:_seed_device", None),
        ("digitnet.models.classifier:DigitClassifier.on_load_checkpoint", None),
        ("lightning.pytorch.callbacks:EMAWeightAveraging.on_load_checkpoint", None),
    ],
)
def test_without_restoring_its_state_a_resumed_run_ends_differently(
    guard: str, value: Any, fork_server: ForkServer, reference_state: dict[str, Any], tmp_path: Path
) -> None:
    disabled = FaultInjection(guard, 0, ReturnValue(value), replace=True)
    fork_server.run("train", *TINY, "hydra.run.dir=out", folder=tmp_path, faults=[stop_after_step(11), disabled])
    resumed = resume(fork_server, tmp_path, (disabled,))
    assert resumed.status != 0 or first_difference(run_state(tmp_path / "out"), reference_state) != ""


def retry_until_killed(delay: float, attempt: Callable[[float], bool], folder: Path) -> None:
    """Repeat an attempt with half the delay while the run ends before it is killed."""
    while not attempt(delay):
        shutil.rmtree(folder / "out")
        delay /= 2


@pytest.mark.parametrize("seed", trials(range(90), fast=range(8)))
def test_a_run_killed_at_a_random_moment_resumes_to_the_same_bits(
    seed: int, fork_server: ForkServer, reference_run: Path, reference_state: dict[str, Any], tmp_path: Path
) -> None:
    """The moment lies between the first step and the end of the test.

    The default action of SIGALRM kills the process, and no handler runs.
    """
    durations = json.loads((reference_run / "metrics.json").read_text())
    delay = random.Random(seed).uniform(0.001, durations["train/seconds"] + durations["test/seconds"])

    def train_and_kill(delay: float) -> bool:
        kill = FaultInjection(
            "digitnet.training.callbacks.graceful_stop:GracefulStop.on_train_start", 1, KillAfter(delay)
        )
        completed = fork_server.run("train", *TINY, "hydra.run.dir=out", folder=tmp_path, faults=[kill])
        assert completed.status in (-signal.SIGALRM, 0), completed.err
        return completed.status != 0

    retry_until_killed(delay, train_and_kill, tmp_path)
    assert resume(fork_server, tmp_path).status == 0
    final_state = run_state(tmp_path / "out")
    assert first_difference(without_curves(final_state), without_curves(reference_state)) == ""
    assert all(curve in reference_state["curves"]["train/lr"] for curve in final_state["curves"]["train/lr"])
    assert len(final_state["curves"]["train/lr"]) == len(set(final_state["curves"]["train/lr"])), (
        "The curve must have one point per step."
    )
    assert partial_files(tmp_path) == []


def test_a_run_killed_before_the_last_row_of_metrics_csv_is_written_restores_the_row(
    fork_server: ForkServer, reference_state: dict[str, Any], tmp_path: Path
) -> None:
    """The checkpoint already holds the row, and no epoch remains to be trained."""
    kill_at_third_row = FaultInjection("digitnet.training.run_dir:write_metrics_csv", 3, SendSignal(signal.SIGKILL))
    assert (
        fork_server.run("train", *TINY, "hydra.run.dir=out", folder=tmp_path, faults=[kill_at_third_row]).status == -9
    )
    assert len(run_dir.read_metrics_csv(tmp_path / "out" / "metrics.csv")) == 2
    assert resume(fork_server, tmp_path).status == 0
    assert first_difference(without_curves(run_state(tmp_path / "out")), without_curves(reference_state)) == ""


@pytest.mark.fault
@pytest.mark.parametrize("seed", range(10))
def test_a_real_process_killed_by_sigkill_resumes_to_the_same_bits(
    seed: int, reference_state: dict[str, Any], tmp_path: Path
) -> None:
    def train_and_kill(delay: float) -> bool:
        """Kill the process so many seconds after it created its run folder."""
        command = [sys.executable, "-m", "digitnet.train", *TINY, "hydra.run.dir=out"]
        with (tmp_path / "log").open("w") as log:
            process = subprocess.Popen(command, cwd=tmp_path, stdout=log, stderr=log)
            while process.poll() is None and not (tmp_path / "out").exists():
                time.sleep(0.01)
            time.sleep(delay)
            process.kill()
            status = process.wait()
        assert status in (-signal.SIGKILL, 0), (tmp_path / "log").read_text()
        return status != 0

    retry_until_killed(random.Random(seed).uniform(0, 2.5), train_and_kill, tmp_path)
    arguments = ["resume=out"] if (tmp_path / "out/.hydra/overrides.yaml").exists() else [*TINY, "hydra.run.dir=out"]
    result = spawn("digitnet.train", *arguments, folder=tmp_path)
    assert result.status == 0, result.err
    assert first_difference(without_curves(run_state(tmp_path / "out")), without_curves(reference_state)) == ""


@pytest.mark.parametrize("epochs", trials((3, 10), fast=(3,)))
def test_a_run_killed_after_every_epoch_resumes_to_the_same_bits(
    epochs: int, fork_server: ForkServer, tmp_path: Path
) -> None:
    options = (*TINY, f"trainer.max_epochs={epochs}")
    assert fork_server.run("train", *options, "hydra.run.dir=reference", folder=tmp_path).status == 0
    kill_after_saving = FaultInjection(
        "digitnet.training.callbacks.epoch_log:format_epoch", 1, SendSignal(signal.SIGKILL)
    )
    assert (
        fork_server.run("train", *options, "hydra.run.dir=out", folder=tmp_path, faults=[kill_after_saving]).status
        == -9
    )
    for _ in range(epochs - 1):
        assert resume(fork_server, tmp_path, (kill_after_saving,)).status == -9
    assert resume(fork_server, tmp_path).status == 0
    assert first_difference(*(without_curves(run_state(tmp_path / name)) for name in ("out", "reference"))) == ""


class ImageLogger:
    """Write the checksum of every image that is augmented to a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __call__(self, augmentation: Augmentation, images: torch.Tensor, seed: int) -> None:
        with self.path.open("a") as file:
            file.writelines(f"{zlib.crc32(image.numpy().tobytes())}\n" for image in images)

    def epochs(self, size: int) -> list[Counter[str]]:
        """Return how often each image occurs in each epoch of `size` images."""
        lines = self.path.read_text().split()
        return [Counter(lines[start : start + size]) for start in range(0, len(lines), size)]


def images_by_epoch(step: int, fork_server: ForkServer, folder: Path, *disabled: FaultInjection) -> list[Counter[str]]:
    """Return how often each image occurs in each epoch of a run that was stopped after a step and resumed."""
    logger = ImageLogger(folder / "images")
    log_images = FaultInjection("digitnet.data.augmentation:Augmentation.__call__", 0, logger)
    no_sample_image = FaultInjection(
        "digitnet.training.callbacks.tensorboard:TensorBoardReport.on_train_start", 0, ReturnValue(), replace=True
    )  # This hook augments an image for TensorBoard.
    faults = (log_images, no_sample_image, *disabled)
    fork_server.run("train", *TINY, "hydra.run.dir=out", folder=folder, faults=[stop_after_step(step), *faults])
    assert resume(fork_server, folder, faults).status == 0
    return logger.epochs(size=512)


@pytest.mark.parametrize("step", trials(range(1, STEPS), fast=(3, 8)))
def test_a_stopped_and_resumed_run_trains_on_each_image_once_per_epoch(
    step: int, fork_server: ForkServer, tmp_path: Path
) -> None:
    first, *others = images_by_epoch(step, fork_server, tmp_path)
    assert len(others) == STEPS // STEPS_PER_EPOCH - 1
    assert all(epoch == first for epoch in others)
    assert sum(first.values()) == 512


def test_without_the_loader_position_a_resumed_run_repeats_images(fork_server: ForkServer, tmp_path: Path) -> None:
    disabled = FaultInjection("digitnet.data.loader:DeterministicLoader.resume_step", 0, ReturnValue(0), replace=True)
    first, *others = images_by_epoch(3, fork_server, tmp_path, disabled)
    assert any(epoch != first for epoch in others)


def test_resuming_a_finished_run_changes_no_file(finished_run: Path, fork_server: ForkServer, tmp_path: Path) -> None:
    before = file_contents(finished_run)
    result = resume(fork_server, tmp_path)
    assert result.status == 0
    assert "out is finished" in result.out
    assert file_contents(finished_run) == before


def test_a_finished_run_can_be_extended_and_reports_the_new_number_of_steps(
    finished_run: Path, fork_server: ForkServer, tmp_path: Path
) -> None:
    result = fork_server.run("train", "resume=out", "trainer.max_epochs=4", folder=tmp_path)
    assert result.status == 0, result.err
    assert "planned for 24 steps and now has 32" in result.out
    assert [row["epoch"] for row in run_state(finished_run)["rows"]] == [0, 1, 2, 3]
    assert resume(fork_server, tmp_path).out.count("is finished") == 1, "The extended run must be finished as well."


# The loss never improves by min_delta=9, so that training stops after the second of three epochs.
EARLY_STOPPING = (
    "trainer.callbacks=[{_target_: lightning.pytorch.callbacks.EarlyStopping, monitor: val/loss, min_delta: 9,"
    " patience: 1}]"
)


@pytest.fixture(scope="module")
def shared_early_stopped_run(fork_server: ForkServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run that was ended by early stopping; tests must not change it."""
    folder = tmp_path_factory.mktemp("early")
    assert fork_server.run("train", *TINY, EARLY_STOPPING, "test=false", "hydra.run.dir=out", folder=folder).status == 0
    assert len(run_dir.read_metrics_csv(folder / "out" / "metrics.csv")) == 2, (
        "Early stopping did not end the run after two epochs."
    )
    return folder / "out"


@pytest.fixture
def early_stopped_run(shared_early_stopped_run: Path, tmp_path: Path) -> Path:
    """Return a copy of that run in the folder of the test."""
    return Path(shutil.copytree(shared_early_stopped_run, tmp_path / "out"))


def test_resuming_an_early_stopped_run_changes_no_file(
    early_stopped_run: Path, shared_early_stopped_run: Path, fork_server: ForkServer, tmp_path: Path
) -> None:
    result = fork_server.run("train", "resume=out", folder=tmp_path)
    assert result.status == 0, result.err
    assert "out is finished" in result.out
    assert file_contents(early_stopped_run) == file_contents(shared_early_stopped_run)


def test_an_early_stopped_run_interrupted_before_metrics_json_resumes_without_training(
    shared_early_stopped_run: Path, fork_server: ForkServer, tmp_path: Path
) -> None:
    send_sigterm = FaultInjection("digitnet.training.run_dir:to_json", 1, SendSignal(signal.SIGTERM))
    options = (*TINY, EARLY_STOPPING, "test=false", "hydra.run.dir=out")
    assert fork_server.run("train", *options, folder=tmp_path, faults=[send_sigterm]).status == 143
    assert resume(fork_server, tmp_path).status == 0
    assert (
        first_difference(
            without_curves(run_state(tmp_path / "out")), without_curves(run_state(shared_early_stopped_run))
        )
        == ""
    )


def test_resuming_an_early_stopped_run_with_test_true_only_scores_it(
    early_stopped_run: Path, shared_early_stopped_run: Path, fork_server: ForkServer, tmp_path: Path
) -> None:
    assert fork_server.run("train", "resume=out", "test=true", folder=tmp_path).status == 0
    assert "test/acc" in run_state(early_stopped_run)["metrics"]
    assert (
        first_difference(
            run_state(early_stopped_run)["checkpoints"], run_state(shared_early_stopped_run)["checkpoints"]
        )
        == ""
    )
    assert "is finished" in fork_server.run("train", "resume=out", folder=tmp_path).out


@pytest.mark.parametrize(("override", "epochs"), [("trainer.callbacks=null", 3), ("trainer.max_epochs=4", 3)])
def test_an_early_stopped_run_continues_without_early_stopping_or_with_more_epochs(
    override: str, epochs: int, early_stopped_run: Path, fork_server: ForkServer, tmp_path: Path
) -> None:
    """Early stopping, if it is still configured, ends the run after one more epoch."""
    assert fork_server.run("train", "resume=out", override, folder=tmp_path).status == 0
    assert len(run_dir.read_metrics_csv(early_stopped_run / "metrics.csv")) == epochs


def test_without_the_saved_stop_reason_an_early_stopped_run_trains_on(
    early_stopped_run: Path, fork_server: ForkServer, tmp_path: Path
) -> None:
    disabled = FaultInjection(
        "digitnet.training.callbacks.run_length:RunLength.on_fit_start", 0, ReturnValue(), replace=True
    )
    assert fork_server.run("train", "resume=out", "test=true", folder=tmp_path, faults=[disabled]).status == 0
    assert len(run_dir.read_metrics_csv(early_stopped_run / "metrics.csv")) == 3


@pytest.mark.parametrize(
    ("override", "rejected_override"), [("optimizer.lr=1", "optimizer.lr=1"), ("model=mlp", "model=mlp")]
)
def test_resume_rejects_an_override_that_would_change_the_experiment(
    override: str, rejected_override: str, stopped_run: RunStoppedAt, fork_server: ForkServer, tmp_path: Path
) -> None:
    stopped_run(3)
    result = fork_server.run("train", "resume=out", override, folder=tmp_path)
    assert result.status == 2
    assert f"{rejected_override} cannot change" in result.err


def test_resume_rejects_a_run_with_an_empty_record_of_overrides(
    stopped_run: RunStoppedAt, fork_server: ForkServer, tmp_path: Path
) -> None:
    stopped_run(3)
    (tmp_path / "out" / ".hydra" / "overrides.yaml").write_text("")
    result = resume(fork_server, tmp_path)
    assert result.status == 2
    assert "overrides.yaml is damaged" in result.err


def test_resume_rejects_a_run_whose_configuration_files_have_changed(
    stopped_run: RunStoppedAt, fork_server: ForkServer, tmp_path: Path
) -> None:
    stopped_run(3)
    record = tmp_path / "out" / ".hydra" / "config.yaml"
    record.write_text(record.read_text().replace("rotation: 10", "rotation: 11"))
    result = resume(fork_server, tmp_path)
    assert result.status == 2
    assert "the config files define data differently" in result.err


@pytest.mark.parametrize("arguments", [("++resume=out",), ("resume=out", "hydra.run.dir=out")])
def test_resume_accepts_equivalent_spellings(
    arguments: tuple[str, ...],
    stopped_run: RunStoppedAt,
    fork_server: ForkServer,
    reference_state: dict[str, Any],
    tmp_path: Path,
) -> None:
    stopped_run(3)
    assert fork_server.run("train", *arguments, folder=tmp_path).status == 0
    assert first_difference(run_state(tmp_path / "out"), reference_state) == ""


def test_resume_rejects_another_run_folder(stopped_run: RunStoppedAt, fork_server: ForkServer, tmp_path: Path) -> None:
    stopped_run(3)
    assert fork_server.run("train", "resume=out", "hydra.run.dir=other", folder=tmp_path).status == 2
    assert not (tmp_path / "other").exists()


def test_resuming_a_finished_run_with_test_true_scores_it(fork_server: ForkServer, tmp_path: Path) -> None:
    fork_server.run("train", *TINY, "test=false", "hydra.run.dir=out", folder=tmp_path)
    result = fork_server.run("train", "resume=out", "test=true", folder=tmp_path)
    assert result.status == 0, result.err
    assert "test/acc" in run_state(tmp_path / "out")["metrics"]


def test_a_run_with_an_interpolation_in_an_override_can_be_resumed(fork_server: ForkServer, tmp_path: Path) -> None:
    options = (*TINY, "model.dropout=${schedule.warmup_fraction}", "hydra.run.dir=out")
    fork_server.run("train", *options, folder=tmp_path, faults=[stop_after_step(3)])
    assert resume(fork_server, tmp_path).status == 0
