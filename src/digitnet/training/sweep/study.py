"""The study that all workers share: a journal of Optuna in the study's folder, and who works on which trial.

A worker holds the lock of the folder of its trial. A trial that is running according to the journal and whose lock is
free belongs to a worker that was killed, so the next worker that asks for a trial continues it. Locks are released by
the operating system, however a process ends; on several machines, the shared file system must support them.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from filelock import FileLock
from optuna.samplers import BaseSampler, TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
from optuna.trial import TrialState

from digitnet.checkpoints.atomic import check_writable
from digitnet.errors import UsageError
from digitnet.signals import defer_signals
from digitnet.training.run_dir import lock_run_dir
from digitnet.training.sweep.pruning import PRUNERS
from digitnet.training.sweep.search_space import SweepSettings

_STUDY_NAME = "sweep"
_RECORD = "command"  # attribute of the study with SweepSettings.record


def journal_path(study_dir: Path) -> Path:
    """Return the path of the journal of a study."""
    return study_dir / "journal.log"


def trial_dir(study_dir: Path, number: int) -> Path:
    """Return the folder of a trial."""
    return study_dir / f"{number:04d}"


class NumberedTPE(BaseSampler):
    """The sampler TPE, whose random numbers depend on a seed and the number of the trial only.

    So workers with the same seed suggest different values, and a study of one worker is the same however often it was
    interrupted.

    Args:
        seed: The seed, at least 0.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._tpe = TPESampler()

    def before_trial(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
        """Set the random numbers of a trial."""
        (seed,) = np.random.SeedSequence((self.seed, trial.number)).generate_state(1)
        # constant_liar: a worker keeps away from the values that other workers are trying.
        self._tpe = TPESampler(seed=int(seed), multivariate=True, constant_liar=True)

    def infer_relative_search_space(self, *arguments: Any) -> Any:
        """Return the keys that are sampled together."""
        return self._tpe.infer_relative_search_space(*arguments)

    def sample_relative(self, *arguments: Any) -> Any:
        """Sample keys together."""
        return self._tpe.sample_relative(*arguments)

    def sample_independent(self, *arguments: Any) -> Any:
        """Sample one key."""
        return self._tpe.sample_independent(*arguments)


def check_study(settings: SweepSettings) -> None:
    """Check that the folder holds the study of the same search, or nothing yet; create nothing.

    Args:
        settings: The command line.

    Raises:
        UsageError: If the folder cannot be used.
    """
    folder = settings.study_dir
    check_writable(folder, "study")
    if not journal_path(folder).exists():
        if folder.exists() and any(path.name != ".lock" for path in folder.iterdir()):
            raise UsageError(f"study={folder}: holds other files and no study; choose another folder")
        return
    try:
        study = optuna.load_study(study_name=_STUDY_NAME, storage=_open_journal(folder))
    except KeyError:  # a worker was killed, or is about to create it
        return
    except ValueError as error:
        raise UsageError(f"study={folder}: {journal_path(folder).name} is damaged ({error})") from error
    before, now = study.user_attrs.get(_RECORD, settings.record), settings.record
    if before != now:
        old, new = (" ".join(sorted(set(a) - set(b))) or "nothing" for a, b in ((before, now), (now, before)))
        raise UsageError(f"study={folder}: was started with {old} where this has {new}; choose another folder")


def open_study(settings: SweepSettings, seed: int, max_epochs: int | None) -> optuna.Study:
    """Open or create the study.

    Args:
        settings: The command line.
        seed: Seed of the sampler.
        max_epochs: Number of epochs of every trial; None if they differ.

    Returns:
        The study.

    Raises:
        UsageError: If the folder holds another study, which may have been created since it was checked.
    """
    folder = settings.study_dir
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with FileLock(folder.resolve() / ".lock"):
        check_study(settings)
        with defer_signals():
            study = optuna.create_study(
                study_name=_STUDY_NAME,
                storage=_open_journal(folder),
                direction="maximize",
                sampler=NumberedTPE(seed),
                pruner=PRUNERS[settings.pruner](max_epochs),
                load_if_exists=True,
            )
            study.set_user_attr(_RECORD, settings.record)
    return study


def _open_journal(folder: Path) -> JournalStorage:
    """Open the journal, after the removal of a line that a full disk or a kill has cut off, which Optuna refuses."""
    path = journal_path(folder).resolve()  # the lock is a link to it, so the path must be absolute
    lock = JournalFileSymlinkLock(str(path))
    backend = JournalFileBackend(str(path), lock)
    lock.acquire()
    try:
        with path.open("rb+") as file:
            content = file.read()
            file.truncate(content.rfind(b"\n") + 1)
    finally:
        lock.release()
    return JournalStorage(backend)


@contextmanager
def claim_trial(study: optuna.Study, settings: SweepSettings) -> Iterator[optuna.Trial | None]:
    """Give this worker a trial, and lock the trial's folder until the end of the block.

    Args:
        study: The study.
        settings: The command line.

    Yields:
        A trial that another worker was killed in, or else a new one; None if the study has all its trials.
    """
    with ExitStack() as held:
        with FileLock(settings.study_dir.resolve() / ".lock"), defer_signals():
            trial = _adopt_trial(study, settings, held)
            trials = [each for each in study.get_trials(deepcopy=False) if each.params]
            if trial is None and len(trials) < settings.trials:
                trial = study.ask({name: key.distribution for name, key in settings.searched.items()})
                held.enter_context(lock_run_dir(trial_dir(settings.study_dir, trial.number)))
        yield trial


def _adopt_trial(study: optuna.Study, settings: SweepSettings, held: ExitStack) -> optuna.Trial | None:
    """Return a running trial whose folder nobody has locked, and lock it."""
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        try:
            held.enter_context(lock_run_dir(trial_dir(settings.study_dir, trial.number)))
        except UsageError:  # its worker is alive
            continue
        if trial.params.keys() == settings.searched.keys():
            return optuna.Trial(study, trial._trial_id)
        study.tell(trial.number, state=TrialState.FAIL)  # killed before all its values were chosen
    return None
