"""The versions and the machine that a result depends on."""

import platform
from importlib.metadata import version
from typing import Any

import torch

_PACKAGES = ("digitnet", "torch", "torchvision", "lightning", "torchmetrics", "hydra-core")


def environment_info() -> dict[str, Any]:
    """Describe what a measurement depends on besides the code.

    Returns:
        `versions`, by package, and `machine`: processor architecture, number of threads and GPU.
    """
    versions = {"python": platform.python_version()} | {name: version(name) for name in _PACKAGES}
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return {"versions": versions, "machine": f"{platform.machine()}, {torch.get_num_threads()} threads{gpu}"}
