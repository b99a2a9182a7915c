"""The command `digitnet-sweep`: its trials, several workers, interruptions, pruning, results and wrong input."""

import importlib.util
import json
import shutil
import signal
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from digitnet import sweep, train
from digitnet.training.run_dir import read_metrics_csv
from digitnet.training.sweep.study import journal_path, trial_dir
from tests.conftest import FAST, Run
from tests.faults.child import Barrier, FaultInjection, ForkServer, ReturnValue, SendSignal
from tests.training.launchers import slurm_variables

SEARCH = "optimizer.lr=tag(log,interval(1e-4,1e-1))"
SHORT = ("pruner=none", *FAST, SEARCH)
THREE = ("trials=3", *SHORT)
STEP = "digitnet.models.classifier:DigitClassifier.training_step"
RUN_TRIAL = "digitnet.training.sweep.trial:_run_trial"


def trials_of(study: Path) -> list[FrozenTrial]:
    storage = JournalStorage(JournalFileBackend(str(journal_path(study).resolve())))
    return optuna.load_study(study_name="sweep", storage=storage).trials


def outcomes(study: Path) -> list[tuple[TrialState, float | None, dict[str, Any]]]:
    return [(trial.state, trial.value, trial.params) for trial in trials_of(study)]


def epochs_of(study: Path, number: int) -> int:
    return len(read_metrics_csv(trial_dir(study, number) / "metrics.csv"))


@pytest.fixture(scope="module")
def reference(fork_server: ForkServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a study of three trials by one worker that was not interrupted; tests must not change it."""
    folder = tmp_path_factory.mktemp("reference")
    done = fork_server.run("sweep", "study=study", *THREE, folder=folder)
    assert done.status == 0, done.err
    return folder / "study"


def run_two_workers(
    fork_server: ForkServer, folder: Path, trials: int, first: list[FaultInjection], second: list[FaultInjection]
) -> list[int | None]:
    """Run two workers that start their first trials at the same time, and return their exit statuses."""
    (folder / "barrier").mkdir()
    meet = FaultInjection(RUN_TRIAL, 1, Barrier(folder / "barrier"))
    workers = []
    for name, faults in (("first", first), ("second", second)):
        (folder / name).mkdir()
        words = (f"study={folder / 'study'}", *SHORT, f"trials={trials}")
        workers.append(fork_server.start("sweep", *words, folder=folder / name, faults=[meet, *faults]))
    for worker in workers:
        worker.join(120)
    return [worker.exitcode for worker in workers]


def test_a_killed_worker_leaves_its_trial_to_the_other_one_and_the_results_are_those_of_one_worker(
    fork_server: ForkServer, reference: Path, tmp_path: Path
) -> None:
    kill = FaultInjection(STEP, 7, SendSignal(signal.SIGKILL))
    assert run_two_workers(fork_server, tmp_path, 3, [kill], []) == [-signal.SIGKILL, 0]
    assert outcomes(tmp_path / "study") == outcomes(reference)
    assert [epochs_of(tmp_path / "study", number) for number in range(3)] == [2, 2, 2]


def test_without_the_search_for_dead_workers_the_trial_of_a_killed_worker_never_ends(
    fork_server: ForkServer, tmp_path: Path
) -> None:
    kill = FaultInjection(STEP, 7, SendSignal(signal.SIGKILL))
    never = FaultInjection("digitnet.training.sweep.study:_adopt_trial", 0, ReturnValue(None), replace=True)
    assert run_two_workers(fork_server, tmp_path, 2, [kill], [never]) == [-signal.SIGKILL, 0]
    states = sorted(trial.state for trial in trials_of(tmp_path / "study"))
    assert states == [TrialState.RUNNING, TrialState.COMPLETE]


def test_without_the_lock_two_workers_run_the_same_trial(fork_server: ForkServer, tmp_path: Path) -> None:
    no_lock = FaultInjection("digitnet.training.run_dir:lock_run_dir", 0, ReturnValue(nullcontext()), replace=True)
    run_two_workers(fork_server, tmp_path, 1, [no_lock], [no_lock])
    lines = [(tmp_path / name / ".out").read_text().splitlines()[0] for name in ("first", "second")]
    assert all(line.startswith("trial 0:") for line in lines)


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_a_study_stopped_by_a_signal_goes_on_to_the_same_results(
    number: signal.Signals, fork_server: ForkServer, reference: Path, tmp_path: Path
) -> None:
    stop = FaultInjection(STEP, 17, SendSignal(number))  # in the second trial
    words = ("study=study", *SHORT, "trials=2")
    stopped = fork_server.run("sweep", *words, folder=tmp_path, faults=[stop])
    assert stopped.status == 128 + number
    assert "the same command continues the study" in stopped.err
    assert [trial.state for trial in trials_of(tmp_path / "study")] == [TrialState.COMPLETE, TrialState.RUNNING]
    done = fork_server.run("sweep", *words, folder=tmp_path)
    assert done.status == 0, done.err
    assert done.out.startswith("trial 1:")
    assert outcomes(tmp_path / "study") == outcomes(reference)[:2]


def test_the_preset_of_the_best_trial_gives_its_validation_accuracy_again(
    reference: Path, run: Run, tmp_path: Path
) -> None:
    best = max(trials_of(reference), key=lambda trial: trial.value or 0)
    done = run(train, "--config-dir", str(reference), "experiment=best", "debug=fast", "hydra.run.dir=again")
    assert done.status == 0, done.err
    result = json.loads((tmp_path / "again" / "metrics.json").read_text())
    assert result["val/acc"] == best.value
    assert "test/acc" in result


def test_a_complete_study_prints_its_results_again_and_never_scores_the_test_images(
    reference: Path, run: Run, tmp_path: Path
) -> None:
    study = Path(shutil.copytree(reference, tmp_path / "study"))
    for name in ("study.png", "experiment/best.yaml"):
        (study / name).unlink()
    done = run(sweep, "study=study", *THREE)
    assert done.status == 0, done.err
    assert (study / "study.png").read_bytes().startswith(b"\x89PNG")
    assert (study / "experiment" / "best.yaml").read_text().startswith("# @package _global_\n")
    assert "tensorboard --logdir study\n" in done.out
    assert "optuna-dashboard study/journal.log\n" in done.out
    best = max(trials_of(study), key=lambda trial: trial.value or 0)
    first_row = next(line for line in done.out.splitlines() if line.startswith("│"))
    assert f"│ {best.number} " in first_row
    for number in range(3):
        folder = trial_dir(study, number)
        assert "test/acc" not in json.loads((folder / "metrics.json").read_text())
        assert list(folder.glob("events.out.tfevents.*"))


def test_a_line_of_the_journal_that_was_cut_off_is_removed(reference: Path, run: Run, tmp_path: Path) -> None:
    study = Path(shutil.copytree(reference, tmp_path / "study"))
    with journal_path(study).open("a") as journal:
        journal.write('{"op_code":')
    assert run(sweep, "study=study", *THREE).status == 0
    assert outcomes(study) == outcomes(reference)


def test_optuna_alone_cannot_continue_a_journal_with_a_line_that_was_cut_off(reference: Path, tmp_path: Path) -> None:
    study = Path(shutil.copytree(reference, tmp_path / "study"))
    with journal_path(study).open("a") as journal:
        journal.write('{"op_code":')
    JournalFileBackend(str(journal_path(study).resolve())).append_logs([{"op_code": 0}, {"op_code": 0}])
    with pytest.raises(ValueError, match=r"delimiter|Expecting|Invalid"):
        trials_of(study)


def test_a_pruned_trial_stops_before_its_last_epoch(fork_server: ForkServer, tmp_path: Path) -> None:
    words = ("trials=6", *FAST, "trainer.max_epochs=3", "optimizer.lr=tag(log,interval(1e-6,1e-2))")
    done = fork_server.run("sweep", "study=study", *words, folder=tmp_path)
    assert done.status == 0, done.err
    trials = trials_of(tmp_path / "study")
    pruned = [trial for trial in trials if trial.state == TrialState.PRUNED]
    assert pruned, "No trial was pruned, so that this test proves nothing."
    for trial in trials:
        epochs = epochs_of(tmp_path / "study", trial.number)
        assert epochs == max(trial.intermediate_values)
        assert epochs < 3 if trial in pruned else epochs == 3


def test_the_value_of_a_trial_with_two_seeds_is_their_mean(run: Run, tmp_path: Path) -> None:
    done = run(sweep, "study=study", "trials=1", "seeds=2", *FAST, "seed=5", SEARCH)
    assert done.status == 0, done.err
    results = [json.loads((tmp_path / f"study/0000/seed_{seed}/metrics.json").read_text()) for seed in (5, 6)]
    assert [result["seed"] for result in results] == [5, 6]
    (trial,) = trials_of(tmp_path / "study")
    assert trial.value == pytest.approx(sum(result["val/acc"] for result in results) / 2)


def test_nothing_is_an_option_of_a_group_that_is_searched(run: Run, tmp_path: Path) -> None:
    done = run(sweep, "study=study", "trials=1", *FAST, "weight_averaging=null,null")
    assert done.status == 0, done.err
    again = run(train, "--config-dir", "study", "experiment=best", "debug=fast", "hydra.run.dir=again")
    assert again.status == 0, again.err


def test_a_trial_that_diverges_is_reported_and_the_study_goes_on(run: Run, tmp_path: Path) -> None:
    done = run(sweep, "study=study", "trials=2", *FAST, "optimizer.name=sgd", "optimizer.lr=choice(1e30)")
    assert done.status == 0, done.err
    assert done.out.count("diverged in epoch 1") == 2
    assert done.err == ""
    assert "no trial is complete yet" in done.out
    assert not (tmp_path / "study" / "experiment").exists()
    assert [trial.state for trial in trials_of(tmp_path / "study")] == [TrialState.PRUNED] * 2


def test_a_trial_that_fails_is_reported_and_the_command_ends_with_status_1(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: Any) -> None:
        raise RuntimeError("no memory for this network")

    monkeypatch.setattr(sweep, "_train", fail)
    done = run(sweep, "study=study", "trials=2", *FAST, SEARCH)
    assert done.status == 1
    assert done.out.count("failed: no memory for this network") == 2
    assert "RuntimeError" in (tmp_path / "study" / "0000" / "error.txt").read_text()


WRONG = {
    (SEARCH,): "study=: must be a folder",
    ("study=x", SEARCH): "trials=: must be a whole number above 0",
    ("study=x", "trials=0", SEARCH): "trials=0: must be a whole number above 0",
    ("study=x", "trials=2", "seeds=0", SEARCH): "seeds=0: must be a whole number above 0",
    ("study=x", "trials=2", "pruner=best", SEARCH): "pruner=best: must be one of hyperband, median, none",
    ("study=x", "trials=2", "seeds", SEARCH): "seeds: has no value; type seeds=VALUE",
    ("study=x", "trials=2", "trials=3", SEARCH): "trials: given twice (trials=2 and trials=3)",
    ("study=x", "trials=2", "optimizer.lr=5e-2", SEARCH): "optimizer.lr: given 2 times (optimizer.lr=5e-2 and ",
    ("study=x", "trials=2", "model=mlp"): "no key to search",
    ("study=x", "trials=2", "seed=1,2", SEARCH): "seeds=3 makes every trial the mean of three seeds",
    ("study=x", "trials=2", "resume=y", SEARCH): "the same command continues a study",
    ("study=x", "trials=2", "hydra.run.dir=y", SEARCH): "study=DIR names the folder",
    ("study=x", "trials=2", "test=true", SEARCH): "does not score the test images",
    ("study=x", "trials=2", "-m", SEARCH): "-m: leave it out",
    ("study=x", "trials=2", "optimizer.lrr=interval(1,2)"): "optimizer.lrr: no such key; did you mean optimizer.lr?",
    ("study=x", "trials=2", "optimizer.lr=interval(-1,2)"): "optimizer.lr=-1.0: must be above 0",
    ("study=x", "trials=2", "optimizer.lr=interval(2,1)"): "`low <= high` must hold",
    ("study=x", "trials=2", "optimizer.lr=tag(log,interval(0,1))"): "`low > 0` must hold",
    ("study=x", "trials=2", "optimizer.lr=tag(lin,interval(1,2))"): "the only tag is log",
    ("study=x", "trials=2", "optimizer.lr=interval(1,"): "no viable alternative at input 'interval(1,'",
    ("study=x", "trials=2", "model=mlp,mpl"): "model=mpl: no such option; did you mean mlp?",
    ("study=x", "trials=2", "data.val_size=0", SEARCH): "a sweep compares validation accuracies",
    ("study=x", "trials=2", "trainer.devices=2", SEARCH): "trainer.devices=2: must be 1",
    ("study=/proc/x", "trials=2", SEARCH): "study=/proc/x: cannot write there",
}


@pytest.mark.parametrize("words", WRONG, ids=" ".join)
def test_wrong_input_is_reported_in_one_line_and_nothing_is_made(
    words: tuple[str, ...], run: Run, tmp_path: Path
) -> None:
    done = run(sweep, *words)
    assert done.status == 2
    assert WRONG[words] in done.err
    assert done.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_processes_that_a_launcher_has_started_together_are_refused(run: Run, tmp_path: Path) -> None:
    done = run(sweep, "study=x", *THREE, **slurm_variables(0, 2, 1))
    assert done.status == 2
    assert "srun has started 2 processes, but a worker of a sweep is one process" in done.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "difference"),
    [
        (("optimizer.lr=interval(1e-3,1e-1)",), f"was started with {SEARCH} where this has optimizer.lr=interval(1e-3"),
        ((SEARCH, "data.batch_size=64"), "was started with nothing where this has data.batch_size=64"),
        ((SEARCH, "seeds=2"), "was started with seeds=1 where this has seeds=2"),
    ],
)
def test_a_study_of_another_search_is_refused_with_the_difference(
    words: tuple[str, ...], difference: str, reference: Path, run: Run
) -> None:
    before = journal_path(reference).read_bytes()
    done = run(sweep, f"study={reference}", "trials=9", "pruner=none", *FAST, *words)
    assert done.status == 2
    assert difference in done.err
    assert journal_path(reference).read_bytes() == before


def test_a_folder_with_other_files_is_refused(run: Run, tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").touch()
    done = run(sweep, "study=notes", *THREE)
    assert done.status == 2
    assert "study=notes: holds other files and no study" in done.err
    assert [path.name for path in (tmp_path / "notes").iterdir()] == ["a.txt"]


def test_without_optuna_the_command_names_the_extra(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(sweep, "find_spec", lambda name: None if name == "optuna" else find(name))
    done = run(sweep, "study=x", *THREE)
    assert done.status == 2
    assert "pip install 'digitnet[sweep]'" in done.err
    assert list(tmp_path.iterdir()) == []
