"""Search for the best values of overrides: `python -m digitnet.sweep study=DIR trials=9 'optimizer.lr=interval(…)'`."""

import sys
from collections.abc import Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from digitnet.cli.argparse_app import version_line
from digitnet.cli.command_line import validate_command_line
from digitnet.cli.hydra_app import call_hydra, exit_with_status
from digitnet.cli.hydra_internals import parse_command_line
from digitnet.distributed import current_process
from digitnet.errors import UsageError
from digitnet.signals import ShutdownRequested

if TYPE_CHECKING:
    from digitnet.training.sweep.search_space import SweepSettings

# Modules that import torch are imported where they are used, so that `--help` does not wait for them.

HELP = """\
Search the values of overrides that give the highest validation accuracy.

  digitnet-sweep study=logs/lr trials=20 'optimizer.lr=interval(1e-3,1e-1)'
  digitnet-sweep study=logs/mlp trials=9 model=mlp 'model.hidden=[64],[256,128]'
  digitnet-sweep study=logs/sgd trials=2 seeds=3 optimizer.name=sgd,adam

Values (key=value):
  study=DIR      folder of the study; the same command again continues it
  trials=N       trials of the study, those of earlier starts included
  pruner=NAME    what ends bad trials early: median (default), hyperband, none
  seeds=N        train every trial with N seeds, compare the means (default: 1)

All other words are overrides of digitnet-train, whose --help-all lists them.
Those with choice(…), range(…), interval(…) or a list of values are searched.
Start the command several times, on one machine or on several with a shared
folder, for several workers.

Options:
  --config-dir DIR   add a folder with configuration files of your own
  --version          show the version
"""


def main() -> None:
    """Run the command."""
    words = sys.argv[1:]
    if {"-h", "--help", "--help-all"} & set(words):
        print(HELP, end="")
        return
    if "--version" in words:
        print(version_line())
        return
    with exit_with_status():
        if sweep(words):
            sys.exit(1)


def sweep(words: list[str]) -> int:
    """Run trials of a study, and print what it has found.

    Args:
        words: The command line, without the program.

    Returns:
        How many trials have failed.

    Raises:
        UsageError: If the input is wrong; nothing was created.
    """
    settings, configs = validate(words)

    from digitnet.training.sweep import study, summary, trial

    config, epochs = configs[0], {config.trainer.get("max_epochs") for config in configs}
    opened = study.open_study(settings, config.seed, epochs.pop() if len(epochs) == 1 else None)
    try:
        failures = trial.run_trials(opened, settings, config.seed, partial(_train, settings.flags))
    except ShutdownRequested:
        sys.stderr.write("digitnet: the same command continues the study\n")
        raise
    summary.summarize(opened, settings, config)
    return failures


def validate(words: list[str]) -> tuple["SweepSettings", list[DictConfig]]:
    """Check a command line, the study's folder, and runs with the extreme values of all searched keys.

    Args:
        words: The command line, without the program.

    Returns:
        The settings, and the configs of these runs.

    Raises:
        UsageError: If the input is wrong; nothing was created.
    """
    if find_spec("optuna") is None:
        raise UsageError("a sweep needs another package (optuna): pip install 'digitnet[sweep]'")
    process = current_process()
    if process.rank > 0 or process.world_size > 1:
        raise UsageError(
            f"{process.launcher} has started {process.world_size} processes, but a worker of a sweep is one process; "
            "start them one by one, as the job array of examples/slurm/sweep.sbatch does"
        )
    words, flags = _split_flags(words)

    from digitnet.training.sweep import search_space, study, trial

    settings = search_space.parse_settings(words, flags)
    study.check_study(settings)
    configs = []
    for params in settings.extreme_params:
        run = [*flags, *settings.overrides(params), f"hydra.run.dir={settings.study_dir / 'unused'}"]
        configs += validate_command_line(run, "train", trial.validate_trial)[1]
    return settings, configs


def _split_flags(words: list[str]) -> tuple[list[str], list[str]]:
    """Separate the overrides from the options of Hydra that are passed on to every trial."""
    if {"-m", "--multirun"} & set(words):
        raise UsageError("-m: leave it out; a sweep starts its trials itself, and each further start adds a worker")
    options = vars(parse_command_line(words))
    overrides: list[str] = options.pop("overrides")
    passed_on = ("config_dir", "config_name")
    for name in options.keys() - passed_on:
        if options[name]:
            raise UsageError(f"--{name.replace('_', '-')}: not in a sweep; digitnet-train has it")
    return overrides, [f"--{name.replace('_', '-')}={options[name]}" for name in passed_on if options[name]]


def _train(flags: Sequence[str], overrides: list[str], run_dir: Path, callbacks: Sequence[Any]) -> Any:
    """Train a run of a trial as `digitnet-train` would, or continue it, and return its result."""
    from digitnet.training.experiment import run_experiment
    from digitnet.training.resume_overrides import expand_resume
    from digitnet.training.sweep.trial import validate_trial

    is_started = (run_dir / "checkpoints").exists()
    words = [*flags, *overrides, f"resume={run_dir}" if is_started else f"hydra.run.dir={run_dir}"]
    sys.argv[1:], _ = validate_command_line(words, "train", validate_trial, expand_resume)
    outcomes: list[Any] = []

    def job(config: DictConfig) -> None:
        try:
            outcomes.append(run_experiment(config, test=False, callbacks=callbacks))
        except Exception as error:  # Hydra would print a line about it
            outcomes.append(error)

    call_hydra("train", job)
    (outcome,) = outcomes
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


if __name__ == "__main__":
    main()
