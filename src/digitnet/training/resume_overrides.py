"""Replaces `resume=RUN_DIR` by the overrides that the run was started with."""

import os
import shlex
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import OmegaConf

from digitnet.checkpoints.latest import expand_latest
from digitnet.checkpoints.migrations import is_of_0_1_0, migrate_override
from digitnet.errors import UsageError, check_argument
from digitnet.training.run_dir import last_checkpoint
from digitnet.training.trust import is_trusted

# Nothing here imports torch, so that a wrong folder is answered at once.

# The parts of a config that may differ when a run is resumed: how long it runs, where, what is done afterwards, and
# which modules are imported.
MUTABLE_ON_RESUME = (
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
    if is_of_0_1_0(read_hydra_record(run_dir, "config.yaml", dict, "resume")):
        lines = [migrate_override(line) for line in lines]
    return [line.lstrip("+") for line in lines]


def _recorded_config_dir(run_dir: Path) -> list[str]:
    """Return the option `--config-dir DIR` that a run was started with; empty if there was none."""
    if not (run_dir / ".hydra" / "hydra.yaml").is_file():
        return []
    record = read_hydra_record(run_dir, "hydra.yaml", dict, "resume")
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
    mutable = part in MUTABLE_ON_RESUME and not override.is_delete()
    if line.lstrip("+") not in recorded and not mutable:
        raise UsageError(
            f"resume={run_dir} continues the run as it was started, so {line} cannot change; "
            "trainer.…, peer_timeout, logger, callbacks, test, plots, tensorboard.…, imports and compile may"
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
    return [str(line) for line in read_hydra_record(run_dir, "overrides.yaml", list, option)]


def read_hydra_record(run_dir: Path, file: str, kind: type, option: str) -> Any:
    """Return the content of a file in `.hydra`, with interpolations as they were typed.

    Args:
        run_dir: The run folder.
        file: Name of the file.
        kind: The type of the content, dict or list.
        option: The option that names the folder, for the error message.

    Raises:
        UsageError: If there is no such file, or it is damaged.
    """
    record = run_dir / ".hydra" / file
    try:
        content = OmegaConf.to_container(OmegaConf.load(record), resolve=False)
    except Exception as error:  # a YAML parser raises several types
        reason = f"{record} is damaged" if record.exists() else "it is not the folder of a run"
        raise UsageError(f"{option}={run_dir}: {reason if run_dir.exists() else 'there is no such folder'}") from error
    if not isinstance(content, kind):
        raise UsageError(f"{option}={run_dir}: {record} is damaged")
    return content
