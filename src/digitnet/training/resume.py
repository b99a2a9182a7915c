"""Continues a run in its own folder, from the command line that started it."""

import json
import os
import shlex
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from digitnet.checkpoints.checkpoint_format import load_checkpoint
from digitnet.checkpoints.latest import expand_latest
from digitnet.checkpoints.migrations import is_of_0_1_0, migrate_config, migrate_override
from digitnet.errors import UsageError, check_argument
from digitnet.models import DigitClassifier, DigitModule
from digitnet.models.registry import find_model, model_name
from digitnet.training.build import stop_criteria
from digitnet.training.run_dir import RunResult, last_checkpoint, metrics_json
from digitnet.training.trust import is_trusted

# The parts of a config that may differ when a run is resumed: how long it runs, where, what is done afterwards, and
# which modules are imported.
_MUTABLE_ON_RESUME = (
    *("resume", "imports", "test", "plots", "tensorboard", "compile"),
    *("trainer", "peer_timeout", "logger", "callbacks", "hydra"),
)


def expand_resume(overrides: list[str], config_dir: str | None = None) -> list[str]:
    """Replace `resume=RUN_DIR` by the overrides that the run was started with.

    `resume=latest` stands for the run below ./logs that was started last, and the path of a run's last checkpoint for
    its run.

    A run folder may come from a stranger, so only overrides that `is_trusted` accepts are repeated; the others must be
    typed again, and `--config-dir` as well.

    Args:
        overrides: The overrides that were typed.
        config_dir: The folder of config files that was typed, if any.

    Returns:
        All overrides of the resumed run; the same list if nothing is resumed.

    Raises:
        UsageError: If there is no run, or the overrides would change what it computes.
    """
    typed = OverridesParser.create().parse_overrides(overrides)
    values = {override.key_or_group: override.value() for override in typed if not override.is_delete()}
    if values.get("resume") in (None, ""):
        return overrides
    run_dir = _find_run(str(values["resume"]))
    output_dir = str(values.get("hydra.run.dir", run_dir))
    check_argument(
        Path(output_dir) == run_dir, "hydra.run.dir", output_dir, f"omitted: resume={run_dir} continues in that folder"
    )
    recorded = _read_migrated_overrides(run_dir)
    for override in typed:
        _require_unchanged_override(override, recorded, run_dir)
    typed_again = {*overrides, *(line.lstrip("+") for line in overrides)}
    kept = [
        override
        for override in _parse_record(recorded, run_dir)
        if override.key_or_group not in {*values, "resume"} and override.input_line not in typed_again
    ]
    untrusted = [str(override.input_line) for override in kept if not is_trusted(override)]
    if config_dir is None:
        untrusted = [*_recorded_config_dir(run_dir), *untrusted]
    if untrusted:
        raise UsageError(
            f"resume={run_dir}: the run was started with {shlex.join(untrusted)}; type that again if you trust it"
        )
    location = [] if "hydra.run.dir" in values else [f"hydra.run.dir={run_dir}"]
    overrides = [
        f"resume={run_dir}" if override.key_or_group == "resume" else text
        for text, override in zip(overrides, typed, strict=True)
    ]
    return [*(str(override.input_line) for override in kept), *overrides, *location]


def _find_run(reference: str) -> Path:
    """Return the run folder that `resume=` names."""
    path = Path(expand_latest(reference, "resume"))
    if path.suffix != ".ckpt" or path.is_dir():
        return path
    is_last = path.parts[-2:] == last_checkpoint(Path()).parts
    check_argument(is_last, "resume", path, "a run folder or its checkpoints/last.ckpt, from which a run continues")
    return path.parents[1]


def _read_migrated_overrides(run_dir: Path) -> list[str]:
    """Return the recorded overrides without "+", under the names of this version."""
    lines = read_overrides(run_dir, "resume")
    if is_of_0_1_0(_read_hydra_record(run_dir, "config.yaml", dict, "resume")):
        lines = [migrate_override(line) for line in lines]
    return [line.lstrip("+") for line in lines]


def _recorded_config_dir(run_dir: Path) -> list[str]:
    """Return the option `--config-dir DIR` that a run was started with; empty if there was none."""
    if not (run_dir / ".hydra" / "hydra.yaml").is_file():
        return []
    record = _read_hydra_record(run_dir, "hydra.yaml", dict, "resume")
    try:
        sources = record["hydra"]["runtime"]["config_sources"]
        folders = [str(source["path"]) for source in sources if source["provider"] == "command-line"]
    except (KeyError, TypeError) as error:
        raise UsageError(f"resume={run_dir}: .hydra/hydra.yaml is damaged") from error
    return ["--config-dir", os.path.relpath(folders[0])] if folders else []


def _parse_record(lines: list[str], run_dir: Path) -> list[Override]:
    try:
        return OverridesParser.create().parse_overrides(lines)
    except HydraException as error:
        raise UsageError(f"resume={run_dir}: .hydra/overrides.yaml is damaged ({error})") from error


def _require_unchanged_override(override: Override, recorded: list[str], run_dir: Path) -> None:
    """Refuse an override that was not recorded and changes what the run computes."""
    line = str(override.input_line)
    part = override.key_or_group.replace("/", ".").partition(".")[0]
    mutable = part in _MUTABLE_ON_RESUME and not override.is_delete()
    if line.lstrip("+") not in recorded and not mutable:
        raise UsageError(
            f"resume={run_dir} continues the run as it was started, so {line} cannot change; "
            "trainer.…, peer_timeout, logger, callbacks, test and compile may"
        )


def read_overrides(run_dir: Path, option: str) -> list[str]:
    """Read the overrides that a run or a sweep was started with.

    Args:
        run_dir: The folder.
        option: The option that names the folder, for the error message.

    Returns:
        The overrides, as they were typed.

    Raises:
        UsageError: If there is no record, or it is damaged.
    """
    return [str(line) for line in _read_hydra_record(run_dir, "overrides.yaml", list, option)]


def _read_hydra_record(run_dir: Path, file: str, kind: type, option: str) -> Any:
    """Return the content of a file in `.hydra`, with interpolations as they were typed."""
    record = run_dir / ".hydra" / file
    try:
        content = OmegaConf.to_container(OmegaConf.load(record), resolve=False)
    except Exception as error:  # a YAML parser raises several types
        raise UsageError(f"{option}={run_dir}: no run there, {record} is missing or damaged") from error
    if not isinstance(content, kind):
        raise UsageError(f"{option}={run_dir}: {record} is damaged")
    return content


def require_unchanged_config(config: DictConfig, run_dir: Path) -> None:
    """Check that the config files from which the recorded overrides choose have not changed since the run started.

    Args:
        config: The composed config of the resumed run.
        run_dir: The run folder.

    Raises:
        UsageError: If a part of the config that may not change has changed.
    """
    before = migrate_config(_read_hydra_record(run_dir, "config.yaml", dict, "resume"))
    now = OmegaConf.to_container(config, resolve=False)
    assert isinstance(now, dict)
    mutable = {*_MUTABLE_ON_RESUME, "run_dir"}
    keys = {str(key) for key in (*before, *now)} - mutable
    changed = sorted(key for key in keys if before.get(key) != now.get(key))
    if changed:
        raise UsageError(
            f"resume={run_dir}: the config files define {changed[0]} differently than when the run started"
        )


def require_matching_checkpoint(
    model: DigitClassifier, checkpoint: dict[str, Any], weight_averaging: bool, run_dir: Path
) -> None:
    """Check that a checkpoint holds the state of a run of the configured model.

    Args:
        model: The model that the config describes.
        checkpoint: The content of the last checkpoint.
        weight_averaging: Whether the config asks for averaged weights.
        run_dir: The run folder.

    Raises:
        UsageError: If the checkpoint holds another model, or only the weights of one.
    """
    if not {"loops", "callbacks", "optimizer_states"} <= set(checkpoint):
        raise UsageError(f"{last_checkpoint(run_dir)}: holds a model but no state of a run that could be resumed")
    # Checkpoints of 0.2.0 and earlier do not store the number of classes, which was always 10.
    default = {"num_classes": DigitModule.num_classes}
    saved = checkpoint["digitnet_model"], default | checkpoint["hyper_parameters"], "current_model_state" in checkpoint
    name = model_name(type(model)) if find_model(saved[0]) is not type(model) else saved[0]
    configured = name, default | dict(model.hparams), weight_averaging
    check_argument(saved == configured, "resume", run_dir, f"a run of {configured}, but its checkpoint is of {saved}")


def completed_epochs(checkpoint: dict[str, Any]) -> int:
    """Return how many epochs a run has completed, from the content of its last checkpoint."""
    return int(checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"])


def load_finished_result(config: DictConfig) -> RunResult | None:
    """Load the result of a run that has already done what a config asks for.

    Args:
        config: The composed config of `train`.

    Returns:
        The content of metrics.json, or None if there is something left to do.

    Raises:
        UsageError: If the last checkpoint is damaged.
    """
    run_dir = Path(config.run_dir)
    result_file, checkpoint_file = metrics_json(run_dir), last_checkpoint(run_dir)
    if not (result_file.is_file() and checkpoint_file.is_file()):
        return None
    try:
        result: RunResult = json.loads(result_file.read_text())
    except ValueError:
        return None  # the run is scored again
    if config.test and "test/acc" not in result:
        return None
    checkpoint = load_checkpoint(checkpoint_file)
    if result.get("steps") != checkpoint["global_step"]:
        return None
    limits = (
        (config.trainer.get("max_epochs") or -1, completed_epochs(checkpoint)),
        (config.trainer.get("max_steps") or -1, checkpoint["global_step"]),
    )
    reached = any(0 < limit <= done for limit, done in limits)
    stopped = checkpoint["callbacks"]["RunLength"]["stopped_under"] == stop_criteria(config)
    return result if reached or stopped else None
