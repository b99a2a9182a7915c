"""Checks that a run can be continued in its own folder, and whether anything is left to do."""

import json
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from digitnet.checkpoints.checkpoint_format import load_checkpoint
from digitnet.checkpoints.migrations import migrate_config
from digitnet.errors import UsageError, check_argument
from digitnet.models import DigitClassifier, DigitModule
from digitnet.models.registry import find_model, model_name
from digitnet.training.build import stop_criteria
from digitnet.training.resume_overrides import MUTABLE_ON_RESUME, read_hydra_record
from digitnet.training.run_dir import RunResult, last_checkpoint, metrics_json


def require_unchanged_config(config: DictConfig, run_dir: Path) -> None:
    """Check that the config files from which the recorded overrides choose have not changed since the run started.

    Args:
        config: The composed config of the resumed run.
        run_dir: The run folder.

    Raises:
        UsageError: If a part of the config that may not change has changed.
    """
    before = migrate_config(read_hydra_record(run_dir, "config.yaml", dict, "resume"))
    now = OmegaConf.to_container(config, resolve=False)
    assert isinstance(now, dict)
    mutable = {*MUTABLE_ON_RESUME, "run_dir"}
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
