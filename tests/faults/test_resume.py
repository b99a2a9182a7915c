"""An interrupted run, resumed, ends bit for bit as the one that was never stopped."""

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
from tests.faults.child import STEPS, STEPS_AN_EPOCH, TINY, Alarm, Ended, Forks, Give, Sabotage, Send
from tests.faults.conftest import Stopped, contents, difference, leftovers, state, stop_at, trials, without_curves


def resume(forks: Forks, folder: Path, sabotages: tuple[Sabotage, ...] = ()) -> Ended:
    """The same command again, with resume if there is something to resume."""
    if (folder / "out" / ".hydra" / "overrides.yaml").exists():
        return forks.run("train", "resume=out", folder=folder, sabotages=sabotages)
    return forks.run("train", *TINY, "hydra.run.dir=out", folder=folder, sabotages=sabotages)


@pytest.mark.parametrize("step", trials(range(1, STEPS + 1), fast=(1, 7, 8, 9, 20, 24)))
def test_stopped_after_any_step(step: int, forks: Forks, whole: dict[str, Any], tmp_path: Path) -> None:
    stopped = forks.run("train", *TINY, "hydra.run.dir=out", folder=tmp_path, sabotages=[stop_at(step)])
    assert stopped.status == 143, stopped.err
    if step < STEPS:
        assert f"stopped at step {step}; resume=out" in stopped.err
    assert checkpoint_format.load_checkpoint(tmp_path / "out" / "checkpoints" / "last.ckpt")["global_step"] == step
    assert resume(forks, tmp_path).status == 0
    assert difference(state(tmp_path / "out"), whole) == ""


def test_a_step_changes_the_weights(stopped_once: Stopped) -> None:
    """Or all of the above would hold of a run that learns nothing."""
    before, after = (
        checkpoint_format.load_checkpoint(stopped_once(step) / "checkpoints" / "last.ckpt")["current_model_state"]
        for step in (11, 12)
    )
    assert not any(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize(
    ("guard", "gives"),
    [
        ("digitnet.data.loader:DeterministicLoader.resume_step", 0),
        ("digitnet.data.loader:_seed_device", None),
        ("digitnet.models.classifier:DigitClassifier.on_load_checkpoint", None),
        ("lightning.pytorch.callbacks:EMAWeightAveraging.on_load_checkpoint", None),
    ],
)
def test_without_its_guards_a_resumed_run_ends_elsewhere(
    guard: str, gives: Any, forks: Forks, whole: dict[str, Any], tmp_path: Path
) -> None:
    off = Sabotage(guard, 0, Give(gives), instead=True)
    forks.run("train", *TINY, "hydra.run.dir=out", folder=tmp_path, sabotages=[stop_at(11), off])
    resumed = resume(forks, tmp_path, (off,))
    assert resumed.status != 0 or difference(state(tmp_path / "out"), whole) != ""


def until_killed(delay: float, attempt: Callable[[float], bool], folder: Path) -> None:
    """A run that has ended before it could be killed is tried again, and killed earlier."""
    while not attempt(delay):
        shutil.rmtree(folder / "out")
        delay /= 2


@pytest.mark.parametrize("seed", trials(range(90), fast=range(8)))
def test_killed_at_a_random_moment(
    seed: int, forks: Forks, undisturbed: Path, whole: dict[str, Any], tmp_path: Path
) -> None:
    """Of SIGALRM's default action, which no handler sees; from the first step on until the run is scored."""
    took = json.loads((undisturbed / "metrics.json").read_text())
    delay = random.Random(seed).uniform(0.001, took["train/seconds"] + took["test/seconds"])

    def killed(delay: float) -> bool:
        alarm = Sabotage("digitnet.training.callbacks.graceful_stop:GracefulStop.on_train_start", 1, Alarm(delay))
        ended = forks.run("train", *TINY, "hydra.run.dir=out", folder=tmp_path, sabotages=[alarm])
        assert ended.status in (-signal.SIGALRM, 0), ended.err
        return ended.status != 0

    until_killed(delay, killed, tmp_path)
    assert resume(forks, tmp_path).status == 0
    ended = state(tmp_path / "out")
    assert difference(without_curves(ended), without_curves(whole)) == ""
    assert all(curve in whole["curves"]["lr"] for curve in ended["curves"]["lr"])
    assert len(ended["curves"]["lr"]) == len(set(ended["curves"]["lr"])), "each step once in one curve"
    assert leftovers(tmp_path) == []


def test_killed_before_the_last_row_is_in_the_table(forks: Forks, whole: dict[str, Any], tmp_path: Path) -> None:
    """The checkpoint has it by then, and no epoch is left to be trained."""
    third = Sabotage("digitnet.training.run_dir:write_metrics_csv", 3, Send(signal.SIGKILL))
    assert forks.run("train", *TINY, "hydra.run.dir=out", folder=tmp_path, sabotages=[third]).status == -9
    assert len(run_dir.read_metrics_csv(tmp_path / "out" / "metrics.csv")) == 2
    assert resume(forks, tmp_path).status == 0
    assert difference(without_curves(state(tmp_path / "out")), without_curves(whole)) == ""


@pytest.mark.fault
@pytest.mark.parametrize("seed", range(10))
def test_the_real_command_killed_by_sigkill(seed: int, whole: dict[str, Any], tmp_path: Path) -> None:
    def killed(delay: float) -> bool:
        """So long after it made its folder."""
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

    until_killed(random.Random(seed).uniform(0, 2.5), killed, tmp_path)
    again = ["resume=out"] if (tmp_path / "out/.hydra/overrides.yaml").exists() else [*TINY, "hydra.run.dir=out"]
    done = spawn("digitnet.train", *again, folder=tmp_path)
    assert done.status == 0, done.err
    assert difference(without_curves(state(tmp_path / "out")), without_curves(whole)) == ""


@pytest.mark.parametrize("epochs", trials((3, 10), fast=(3,)))
def test_killed_after_every_epoch(epochs: int, forks: Forks, tmp_path: Path) -> None:
    options = (*TINY, f"trainer.max_epochs={epochs}")
    assert forks.run("train", *options, "hydra.run.dir=whole", folder=tmp_path).status == 0
    after_the_saves = Sabotage("digitnet.training.callbacks.epoch_log:format_epoch", 1, Send(signal.SIGKILL))
    assert forks.run("train", *options, "hydra.run.dir=out", folder=tmp_path, sabotages=[after_the_saves]).status == -9
    for _ in range(epochs - 1):
        assert resume(forks, tmp_path, (after_the_saves,)).status == -9
    assert resume(forks, tmp_path).status == 0
    assert difference(*(without_curves(state(tmp_path / name)) for name in ("out", "whole"))) == ""


class Ledger:
    """Writes down which images come to be augmented; a picture is known by its checksum."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __call__(self, augmentation: Augmentation, images: torch.Tensor, seed: int) -> None:
        with self.path.open("a") as file:
            file.writelines(f"{zlib.crc32(image.numpy().tobytes())}\n" for image in images)

    def epochs(self, size: int) -> list[Counter[str]]:
        lines = self.path.read_text().split()
        return [Counter(lines[start : start + size]) for start in range(0, len(lines), size)]


def epochs_seen(step: int, forks: Forks, folder: Path, *guards_off: Sabotage) -> list[Counter[str]]:
    """Which images, how often, in each epoch of a run that was stopped after a step and gone on with."""
    ledger = Ledger(folder / "ledger")
    entries = Sabotage("digitnet.data.augmentation:Augmentation.__call__", 0, ledger)
    quiet = Sabotage(
        "digitnet.training.callbacks.tensorboard:TensorBoardReport.on_train_start", 0, Give(), instead=True
    )  # looks at one
    sabotages = (entries, quiet, *guards_off)
    forks.run("train", *TINY, "hydra.run.dir=out", folder=folder, sabotages=[stop_at(step), *sabotages])
    assert resume(forks, folder, sabotages).status == 0
    return ledger.epochs(size=512)


@pytest.mark.parametrize("step", trials(range(1, STEPS), fast=(3, 8)))
def test_each_image_comes_once_an_epoch_whatever_stops_the_run(step: int, forks: Forks, tmp_path: Path) -> None:
    first, *others = epochs_seen(step, forks, tmp_path)
    assert len(others) == STEPS // STEPS_AN_EPOCH - 1
    assert all(epoch == first for epoch in others)
    assert sum(first.values()) == 512


def test_without_the_position_of_the_loader_some_come_twice(forks: Forks, tmp_path: Path) -> None:
    off = Sabotage("digitnet.data.loader:DeterministicLoader.resume_step", 0, Give(0), instead=True)
    first, *others = epochs_seen(3, forks, tmp_path, off)
    assert any(epoch != first for epoch in others)


def test_a_finished_run_is_left_as_it_is(finished: Path, forks: Forks, tmp_path: Path) -> None:
    before = contents(finished)
    done = resume(forks, tmp_path)
    assert done.status == 0
    assert "out is finished" in done.out
    assert contents(finished) == before


def test_a_finished_run_can_be_extended_and_says_what_that_means(finished: Path, forks: Forks, tmp_path: Path) -> None:
    done = forks.run("train", "resume=out", "trainer.max_epochs=4", folder=tmp_path)
    assert done.status == 0, done.err
    assert "planned for 24 steps and now has 32" in done.out
    assert [row["epoch"] for row in state(finished)["rows"]] == [0, 1, 2, 3]
    assert resume(forks, tmp_path).out.count("is finished") == 1, "also after the extension"


# Nothing is ever an improvement by so much: after the second of three epochs its patience is at an end.
IMPATIENT = (
    "trainer.callbacks=[{_target_: lightning.pytorch.callbacks.EarlyStopping, monitor: val/loss, min_delta: 9,"
    " patience: 1}]"
)


@pytest.fixture(scope="module")
def early(forks: Forks, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("early")
    assert forks.run("train", *TINY, IMPATIENT, "test=false", "hydra.run.dir=out", folder=folder).status == 0
    assert len(run_dir.read_metrics_csv(folder / "out" / "metrics.csv")) == 2, "or it has not stopped early"
    return folder / "out"


@pytest.fixture
def stopped_early(early: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(early, tmp_path / "out"))


def test_a_run_that_has_stopped_by_itself_is_finished(
    stopped_early: Path, early: Path, forks: Forks, tmp_path: Path
) -> None:
    done = forks.run("train", "resume=out", folder=tmp_path)
    assert done.status == 0, done.err
    assert "out is finished" in done.out
    assert contents(stopped_early) == contents(early)


def test_a_run_that_has_stopped_by_itself_need_only_be_scored(early: Path, forks: Forks, tmp_path: Path) -> None:
    signalled = Sabotage("digitnet.training.run_dir:to_json", 1, Send(signal.SIGTERM))
    words = (*TINY, IMPATIENT, "test=false", "hydra.run.dir=out")
    assert forks.run("train", *words, folder=tmp_path, sabotages=[signalled]).status == 143
    assert resume(forks, tmp_path).status == 0
    assert difference(without_curves(state(tmp_path / "out")), without_curves(state(early))) == ""


def test_a_run_that_has_stopped_by_itself_can_be_tested_where_it_is(
    stopped_early: Path, early: Path, forks: Forks, tmp_path: Path
) -> None:
    assert forks.run("train", "resume=out", "test=true", folder=tmp_path).status == 0
    assert "test/acc" in state(stopped_early)["outcome"]
    assert difference(state(stopped_early)["checkpoints"], state(early)["checkpoints"]) == ""
    assert "is finished" in forks.run("train", "resume=out", folder=tmp_path).out


@pytest.mark.parametrize(("word", "epochs"), [("trainer.callbacks=null", 3), ("trainer.max_epochs=4", 3)])
def test_a_run_that_has_stopped_by_itself_goes_on_when_told_to(
    word: str, epochs: int, stopped_early: Path, forks: Forks, tmp_path: Path
) -> None:
    """Early stopping, if it is still there, gives up after one more epoch."""
    assert forks.run("train", "resume=out", word, folder=tmp_path).status == 0
    assert len(run_dir.read_metrics_csv(stopped_early / "metrics.csv")) == epochs


def test_without_a_memory_of_it_a_run_that_has_stopped_by_itself_trains_on(
    stopped_early: Path, forks: Forks, tmp_path: Path
) -> None:
    off = Sabotage("digitnet.training.callbacks.run_length:RunLength.on_fit_start", 0, Give(), instead=True)
    assert forks.run("train", "resume=out", "test=true", folder=tmp_path, sabotages=[off]).status == 0
    assert len(run_dir.read_metrics_csv(stopped_early / "metrics.csv")) == 3


@pytest.mark.parametrize(("override", "named"), [("optimizer.lr=1", "optimizer.lr=1"), ("model=mlp", "model=mlp")])
def test_a_run_does_not_become_another_on_the_way(
    override: str, named: str, stopped: Stopped, forks: Forks, tmp_path: Path
) -> None:
    stopped(3)
    done = forks.run("train", "resume=out", override, folder=tmp_path)
    assert done.status == 2
    assert f"{named} cannot change" in done.err


def test_a_damaged_record_is_no_run_of_defaults(stopped: Stopped, forks: Forks, tmp_path: Path) -> None:
    stopped(3)
    (tmp_path / "out" / ".hydra" / "overrides.yaml").write_text("")
    done = resume(forks, tmp_path)
    assert done.status == 2
    assert "overrides.yaml is damaged" in done.err


def test_a_run_whose_configs_have_changed_is_not_gone_on_with(stopped: Stopped, forks: Forks, tmp_path: Path) -> None:
    stopped(3)
    record = tmp_path / "out" / ".hydra" / "config.yaml"
    record.write_text(record.read_text().replace("rotation: 10", "rotation: 11"))
    done = resume(forks, tmp_path)
    assert done.status == 2
    assert "the config files define data differently" in done.err


@pytest.mark.parametrize("words", [("++resume=out",), ("resume=out", "hydra.run.dir=out")])
def test_resume_may_be_spelled_in_other_ways(
    words: tuple[str, ...], stopped: Stopped, forks: Forks, whole: dict[str, Any], tmp_path: Path
) -> None:
    stopped(3)
    assert forks.run("train", *words, folder=tmp_path).status == 0
    assert difference(state(tmp_path / "out"), whole) == ""


def test_resume_goes_on_in_its_own_folder_only(stopped: Stopped, forks: Forks, tmp_path: Path) -> None:
    stopped(3)
    assert forks.run("train", "resume=out", "hydra.run.dir=other", folder=tmp_path).status == 2
    assert not (tmp_path / "other").exists()


def test_a_finished_run_can_still_be_tested(forks: Forks, tmp_path: Path) -> None:
    forks.run("train", *TINY, "test=false", "hydra.run.dir=out", folder=tmp_path)
    done = forks.run("train", "resume=out", "test=true", folder=tmp_path)
    assert done.status == 0, done.err
    assert "test/acc" in state(tmp_path / "out")["outcome"]


def test_an_override_with_an_interpolation_is_resumed(forks: Forks, tmp_path: Path) -> None:
    options = (*TINY, "model.dropout=${schedule.warmup_fraction}", "hydra.run.dir=out")
    forks.run("train", *options, folder=tmp_path, sabotages=[stop_at(3)])
    assert resume(forks, tmp_path).status == 0
