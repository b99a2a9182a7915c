"""Where a run comes from: the command that repeats it, and the commit of the code."""

import os
import shlex
import subprocess
from functools import cache
from pathlib import Path

import lightning as L
from hydra.core.hydra_config import HydraConfig
from lightning.pytorch.utilities.model_summary.model_summary import ModelSummary
from omegaconf import DictConfig, OmegaConf

import digitnet

_PLACES = ("resume=", "run_dir=", "hydra.")  # prefixes of overrides that do not change what a run computes


def run_command() -> str | None:
    """Return the command that repeats the current run in a new folder, or None outside a Hydra job."""
    if not HydraConfig.initialized():
        return None
    hydra = HydraConfig.get()
    overrides = [override.lstrip("+") for override in hydra.overrides.task]
    kept = [override for override in overrides if not override.startswith(_PLACES)]
    folders = [source.path for source in hydra.runtime.config_sources if source.provider == "command-line"]
    options = [word for folder in folders for word in ("--config-dir", folder)]
    return shlex.join(["python", "-m", "digitnet.train", *options, *kept])


def describe_run(config: DictConfig, model: L.LightningModule) -> dict[str, str]:
    """Return the texts of TensorBoard's Text tab: the command, the composed config and the layers, as Markdown.

    Args:
        config: The composed config of `train`.
        model: The model.
    """
    return {
        "run/command": f"```\n{run_command()}\n```",
        "run/config": f"```yaml\n{OmegaConf.to_yaml(config)}```",
        "run/layers": f"```\n{ModelSummary(model, max_depth=2)}\n```",
    }


@cache  # the jobs of a sweep run the same code
def code_commit() -> str | None:
    """Return the commit of the checkout that digitnet is imported from, with "-dirty" if tracked files have changed.

    Returns:
        The commit, or None if digitnet is not imported from a git checkout, or git does not answer within two seconds.
    """
    root = Path(digitnet.__file__).parents[2]
    if not (root / ".git").exists():  # a folder of site-packages may lie in the repository of another project
        return None
    # The options keep git from starting programs that the repository configures, and from writing to it.
    command = ["git", "-C", str(root), "-c", "core.fsmonitor=false", "describe", "--always", "--dirty", "--abbrev=40"]
    environment = os.environ | {"GIT_OPTIONAL_LOCKS": "0"}
    try:
        done = subprocess.run(
            [*command, "--exclude=*"], env=environment, capture_output=True, text=True, timeout=2, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None
