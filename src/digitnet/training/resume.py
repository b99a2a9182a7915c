"""Continues a run in its own folder, from the command line that started it."""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from digitnet.checkpoints.checkpoint_format import load_checkpoint
from digitnet.checkpoints.migrations import migrate_config, migrate_override
from digitnet.errors import UsageError, check_argument
from digitnet.models import DigitClassifier
from digitnet.training.build import stop_criteria
from digitnet.training.run_dir import RunResult, last_checkpoint, metrics_json

Compose = Callable[[list[str]], DictConfig]

# The parts of a config that may differ when a run is resumed: how long it runs, where, and what is done afterwards.
_MUTABLE_ON_RESUME = ("resume", "test", "compile", "trainer", "hydra")
_TRUSTED = ("digitnet.", "lightning.")


def expand_resume(overrides: list[str], compose: Compose, groups: Sequence[str]) -> list[str]:
    """Replace `resume=RUN_DIR` by the overrides that the run was started with.

    A run folder may come from a stranger, so its record must not make this process import other code: classes from
    outside digitnet and Lightning, and settings of Hydra, are accepted only if they are typed again.

    Args:
        overrides: The overrides that were typed.
        compose: Composes a config from overrides.
        groups: Names of the config groups.

    Returns:
        All overrides of the resumed run; the same list if nothing is resumed.

    Raises:
        UsageError: If there is no run, or the overrides would change what it computes.
    """
    typed = parse_overrides(overrides)
    values = {override.key_or_group: override.value() for override in typed if not override.is_delete()}
    if values.get("resume") in (None, ""):
        return overrides
    run_dir = Path(str(values["resume"]))
    output_dir = str(values.get("hydra.run.dir", run_dir))
    check_argument(
        Path(output_dir) == run_dir, "hydra.run.dir", output_dir, f"omitted: resume={run_dir} continues in that folder"
    )
    recorded = [migrate_override(line).lstrip("+") for line in read_overrides(run_dir, "resume")]
    for override in typed:
        _require_unchanged_override(override, recorded, run_dir)
    kept = [
        override for override in _parse_record(recorded, run_dir) if override.key_or_group not in {*values, "resume"}
    ]
    _require_trusted(kept, overrides, compose, groups, run_dir)
    location = [] if "hydra.run.dir" in values else [f"hydra.run.dir={run_dir}"]
    return [*_lines(kept), *overrides, *location]


def parse_overrides(lines: Sequence[str]) -> list[Override]:
    """Parse overrides by Hydra's grammar.

    Args:
        lines: The overrides, such as "optimizer.lr=1e-3".

    Returns:
        The parsed overrides.

    Raises:
        hydra.errors.OverrideParseException: If an override does not follow the grammar.
    """
    return OverridesParser.create().parse_overrides(list(lines))


def _parse_record(lines: list[str], run_dir: Path) -> list[Override]:
    try:
        return parse_overrides(lines)
    except HydraException as error:
        raise UsageError(f"resume={run_dir}: .hydra/overrides.yaml is damaged ({error})") from error


def _lines(overrides: list[Override]) -> list[str]:
    return [str(override.input_line) for override in overrides]


def _require_unchanged_override(override: Override, recorded: list[str], run_dir: Path) -> None:
    """Refuse an override that was not recorded and changes what the run computes."""
    line = str(override.input_line)
    part = override.key_or_group.replace("/", ".").partition(".")[0]
    mutable = part in _MUTABLE_ON_RESUME and not override.is_delete()
    if line.lstrip("+") not in recorded and not mutable:
        raise UsageError(
            f"resume={run_dir} continues the run as it was started, so {line} cannot change; "
            "trainer.…, test and compile may"
        )


def _require_trusted(
    kept: list[Override], typed: list[str], compose: Compose, groups: Sequence[str], run_dir: Path
) -> None:
    """Refuse recorded overrides that configure Hydra, or name classes that neither a config file nor the user names."""
    for override in kept:
        if override.key_or_group.startswith("hydra"):
            raise _untrusted(override, run_dir)
    # Options of a config group are files on this machine, which the user trusts.
    choices = [override for override in kept if override.key_or_group in groups]
    values = [override for override in kept if override.key_or_group not in groups]
    trusted = _foreign_targets(compose([*_lines(choices), *typed]))

    def is_trusted(count: int) -> bool:
        config = compose([*_lines(choices), *_lines(values[:count]), *typed])
        return _foreign_targets(config) <= trusted

    if not is_trusted(len(values)):
        raise _untrusted(
            next(values[count - 1] for count in range(1, len(values) + 1) if not is_trusted(count)), run_dir
        )


def _untrusted(override: Override, run_dir: Path) -> UsageError:
    return UsageError(
        f"resume={run_dir}: the run was started with {override.input_line}; type that again if you trust it"
    )


def _foreign_targets(config: DictConfig) -> set[str]:
    """Return the names of the classes in a config, interpolations resolved, that are not of digitnet or Lightning."""
    return {name for name in _targets(OmegaConf.to_container(config, resolve=True)) if not name.startswith(_TRUSTED)}


def _targets(node: Any) -> Iterator[str]:
    if isinstance(node, dict) and "_target_" in node:
        yield str(node["_target_"])
    children = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    for child in children:
        yield from _targets(child)


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
    saved = checkpoint["digitnet_model"], checkpoint["hyper_parameters"], "current_model_state" in checkpoint
    configured = type(model).__name__, dict(model.hparams), weight_averaging
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
