"""Translates what digitnet 0.1.0 wrote: checkpoints, model cards and the records of runs."""

import re
from typing import Any

# Hyper-parameters, in checkpoints and in the cards of exported models: old name, new name.
_HYPER_PARAMETERS = {"warmup": "warmup_fraction", "pool": "pool_size"}
# Keys of the config and classes in it, in the order in which they are replaced.
_CONFIG_KEYS = {
    "averaging": "weight_averaging",
    "folder": "run_dir",
    "schedule.warmup": "schedule.warmup_fraction",
    "model.warmup": "model.warmup_fraction",
    "model.pool": "model.pool_size",
    "distillation.weight": "distillation.alpha",
    "distillation.teacher.source": "distillation.teacher.model",
    "distillation.teacher.shift": "distillation.teacher.tta_shift",
}
_CONFIG_VALUES = {
    "digitnet.weights.load_all": "digitnet.checkpoints.pretrained.load_ensemble",
    "${folder}": "${run_dir}",
    "${schedule.warmup}": "${schedule.warmup_fraction}",
}


def migrate_hyper_parameters(hyper_parameters: dict[str, Any]) -> dict[str, Any]:
    """Rename the hyper-parameters of an earlier version.

    Args:
        hyper_parameters: As stored in a checkpoint or a card, of any version.

    Returns:
        The hyper-parameters under the names of this version.
    """
    if "warmup" not in hyper_parameters:  # every model of 0.1.0 has stored it
        return hyper_parameters
    renamed = {_HYPER_PARAMETERS.get(name, name): value for name, value in hyper_parameters.items()}
    if renamed.get("schedule") == "onecycle":
        renamed["schedule"] = "linear"
    return renamed


def migrate_checkpoint(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """Translate a checkpoint of an earlier version.

    Args:
        checkpoint: The content of a checkpoint, of any version.

    Returns:
        The content under the names of this version.
    """
    migrated = checkpoint | {"hyper_parameters": migrate_hyper_parameters(checkpoint["hyper_parameters"])}
    from digitnet.models.dataset_record import MNIST_RECORD  # imports torch, which the records of runs do not need

    migrated.setdefault("digitnet_dataset", MNIST_RECORD.to_dict())  # before 0.3.0, there was no other data set
    if "tally" in migrated:
        migrated["epoch_metrics"] = migrated.pop("tally")
    callbacks = dict(migrated.get("callbacks", {}))
    if old := callbacks.pop("Recorder", None):
        callbacks["EpochLog"] = {
            "history": old["rows"],
            "val_metrics": old["validation"],
            "seconds": old["seconds"],
        }
        callbacks["RunLength"] = {
            "scheduled_steps": old["planned_steps"],
            "stopped_under": old.get("stopped_by"),
        }
        migrated["callbacks"] = callbacks
    return migrated


def is_of_0_1_0(config: dict[str, Any]) -> bool:
    """Return whether a recorded config is of 0.1.0, whose key `folder` was renamed."""
    return "folder" in config


def migrate_override(override: str) -> str:
    """Translate a recorded command-line override of an earlier version.

    Args:
        override: A line of `.hydra/overrides.yaml`, such as "averaging=ema".

    Returns:
        The line under the names of this version.
    """
    prefix, key, equals, value = re.fullmatch(r"([~+]*)([^=]*)(=?)(.*)", override, re.DOTALL).groups()  # type: ignore[union-attr]
    for old, new in _CONFIG_KEYS.items():
        if key == old or key.startswith(f"{old}."):
            key = new + key.removeprefix(old)
            break
    if key == "schedule.name" and value == "onecycle":
        value = "linear"
    if key == "experiment" and value == "cnn_teacher_valid":
        value = "cnn_teacher_unpadded"
    for old, new in _CONFIG_VALUES.items():
        value = value.replace(old, new)
    return f"{prefix}{key}{equals}{value}"


def migrate_config(config: dict[str, Any]) -> dict[str, Any]:
    """Translate a recorded config of an earlier version.

    Args:
        config: The content of `.hydra/config.yaml`, interpolations unresolved.

    Returns:
        The content under the names of this version.
    """
    migrated: dict[str, Any] = _migrate_node(config, "") if is_of_0_1_0(config) else config
    return migrated


def _migrate_node(node: Any, path: str) -> Any:
    """Translate the keys and values of a node and of everything below it."""
    if isinstance(node, dict):
        renamed = {}
        for name, value in node.items():
            key = f"{path}.{name}".lstrip(".")
            new = _CONFIG_KEYS.get(key, key).rpartition(".")[2]
            renamed[new] = _migrate_node(value, key)
        return renamed
    if isinstance(node, list):
        return [_migrate_node(item, path) for item in node]
    if path == "schedule.name" and node == "onecycle":
        return "linear"
    return _CONFIG_VALUES.get(node, node) if isinstance(node, str) else node
