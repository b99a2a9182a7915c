"""One epoch of each network gives the weights and metrics that are committed in reference_epoch.json.

The file holds a reference for each machine that it was written on. A change of the weights on the same software and
processor means that training has changed. If that is intended, write the file anew, on another machine add to it:

    python -m tests.test_training_is_unchanged
"""

import csv
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch

MODELS = ("mlp", "cnn")
REFERENCE = Path(__file__).with_name("reference_epoch.json")


def fingerprint() -> dict[str, Any]:
    """Return what the rounding of the arithmetic depends on, for training in one thread."""
    processor = "unknown"
    if (cpuinfo := Path("/proc/cpuinfo")).is_file():
        names = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        processor = names[0] if names else processor
    capability = torch.backends.cpu.get_cpu_capability()
    return {"torch": torch.__version__, "cpu_capability": capability, "processor": processor, "threads": 1}


def sha256_of(state_dict: dict[str, torch.Tensor]) -> str:
    """Return the SHA-256 of all names and values, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(state_dict):
        digest.update(name.encode())
        digest.update(state_dict[name].contiguous().numpy().tobytes())
    return digest.hexdigest()


def train_one_epoch(model: str, run_dir: Path) -> dict[str, Any]:
    """Train a network for one epoch in a process of its own, and return its metrics and the hash of its weights."""
    overrides = (f"model={model}", "seed=1", "trainer.max_epochs=1", "test=false", "trainer.enable_progress_bar=false")
    command = [sys.executable, "-m", "digitnet.train", *overrides, "++trainer.accelerator=cpu"]
    subprocess.run(
        [*command, f"hydra.run.dir={run_dir}"], env=os.environ | {"OMP_NUM_THREADS": "1"}, check=True,
        capture_output=True, timeout=600,
    )  # fmt: skip
    with (run_dir / "metrics.csv").open(newline="") as file:
        (metrics,) = csv.DictReader(file)
    state_dict = torch.load(run_dir / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    numbers = {name: float(metrics[name]) for name in ("train/loss", "val/acc")}
    return numbers | {"sha256": sha256_of(state_dict)}


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
def test_one_epoch_gives_the_reference_metrics_and_on_a_reference_machine_the_same_weights(
    model: str, tmp_path: Path
) -> None:
    machines = json.loads(REFERENCE.read_text())
    result = train_one_epoch(model, tmp_path / "run")
    same = [machine["models"][model] for machine in machines if machine["fingerprint"] == fingerprint()]
    if same:
        assert [result] == same
    else:  # the rounding is that of another processor
        assert any(is_near(result, machine["models"][model]) for machine in machines), result


def is_near(result: dict[str, Any], expected: dict[str, Any]) -> bool:
    """Return whether the metrics of two trainings differ by no more than rounding explains."""
    near_loss = result["train/loss"] == pytest.approx(expected["train/loss"], rel=1e-3)
    return near_loss and result["val/acc"] == pytest.approx(expected["val/acc"], abs=0.003)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        models = {model: train_one_epoch(model, Path(folder) / model) for model in MODELS}
    others = [machine for machine in json.loads(REFERENCE.read_text()) if machine["fingerprint"] != fingerprint()]
    REFERENCE.write_text(json.dumps([*others, {"fingerprint": fingerprint(), "models": models}], indent=2) + "\n")


if __name__ == "__main__":
    main()
