"""A run that diverges to NaN fails, and no checkpoint or metric that is NaN is written."""

from pathlib import Path
from typing import Any

import pytest
import torch

from digitnet.models import DigitClassifier
from digitnet.models.metrics import EpochMetrics
from tests.faults.child import STEPS, TINY, FaultInjection, ForkServer, ReturnValue
from tests.faults.conftest import stop_after_step, trials


class NaNAtCall:
    """Replacement of a method that returns NaN at the nth call, or sets a weight of the module to NaN there."""

    def __init__(self, owner: type, name: str, nth: int, weights: bool = False) -> None:
        self.original, self.nth, self.weights, self.calls = getattr(owner, name), nth, weights, 0

    def __call__(self, module: Any, *arguments: Any) -> Any:
        self.calls += 1
        if self.calls != self.nth:
            return self.original(module, *arguments)
        if not self.weights:
            return self.original(module, *arguments) * torch.nan
        with torch.no_grad():
            next(module.parameters()).view(-1)[0] = torch.nan
        return self.original(module, *arguments)


CLASSIFIER = "digitnet.models.classifier"
METRICS = "digitnet.models.metrics"
NAN_FAULTS = {
    "loss": lambda step: FaultInjection(
        f"{CLASSIFIER}:DigitClassifier.training_step",
        0,
        NaNAtCall(DigitClassifier, "training_step", step),
        replace=True,
    ),
    "weight": lambda step: FaultInjection(
        f"{CLASSIFIER}:DigitClassifier.training_step",
        0,
        NaNAtCall(DigitClassifier, "training_step", step, True),
        replace=True,
    ),
    # EpochMetrics.totals is called twice per epoch: for training and for validation.
    "metric": lambda step: FaultInjection(
        f"{METRICS}:EpochMetrics.totals", 0, NaNAtCall(EpochMetrics, "totals", 1 + step // 5), replace=True
    ),
}
CASES = [(location, step) for location in NAN_FAULTS for step in (1, 12, STEPS)]


@pytest.mark.parametrize(("location", "step"), trials(CASES, fast=[("loss", 12), ("weight", STEPS), ("metric", 12)]))
def test_a_run_that_turns_nan_fails_and_keeps_only_finite_checkpoints(
    location: str, step: int, fork_server: ForkServer, tmp_path: Path
) -> None:
    failed = fork_server.run("train", *TINY, "hydra.run.dir=out", folder=tmp_path, faults=[NAN_FAULTS[location](step)])
    assert failed.status == 1
    assert failed.err.count("\n") == 1, failed.err
    assert f"diverged in epoch {(step - 1) // 8 + 1}" in failed.err
    checkpoints = {path: torch.load(path, weights_only=True) for path in (tmp_path / "out").rglob("*.ckpt")}
    assert len(checkpoints) == (0 if step == 1 else 2)
    for checkpoint in checkpoints.values():
        for key in ("state_dict", "current_model_state"):
            assert all(weight.isfinite().all() for weight in checkpoint[key].values())
    assert not (tmp_path / "out" / "metrics.json").exists()


def test_a_stop_signal_after_divergence_does_not_overwrite_the_last_finite_checkpoint(
    fork_server: ForkServer, tmp_path: Path
) -> None:
    failed = fork_server.run(
        "train", *TINY, "hydra.run.dir=out", folder=tmp_path, faults=[NAN_FAULTS["loss"](10), stop_after_step(12)]
    )
    assert failed.status == 1
    assert "diverged in epoch 2" in failed.err
    last = torch.load(tmp_path / "out" / "checkpoints" / "last.ckpt", weights_only=True)
    assert last["global_step"] == 8


def test_divergence_by_a_high_learning_rate_is_reported_with_the_advice_to_lower_it(
    fork_server: ForkServer, tmp_path: Path
) -> None:
    failed = fork_server.run(
        "train", *TINY, "optimizer.name=sgd", "optimizer.lr=1e20", "hydra.run.dir=out", folder=tmp_path
    )
    assert failed.status == 1
    assert "try an optimizer.lr below 1e+20" in failed.err


def test_a_nan_test_metric_fails_the_run_and_is_not_written_to_metrics_json(
    fork_server: ForkServer, tmp_path: Path
) -> None:
    nan_test_loss = FaultInjection(
        f"{METRICS}:EpochMetrics.totals", 0, NaNAtCall(EpochMetrics, "totals", 7), replace=True
    )  # The first six calls belong to the three epochs.
    failed = fork_server.run("train", *TINY, "hydra.run.dir=out", folder=tmp_path, faults=[nan_test_loss])
    assert failed.status == 1
    assert "test/loss is not finite" in failed.err
    assert not (tmp_path / "out" / "metrics.json").exists()


def test_without_the_divergence_checks_a_nan_weight_is_saved(fork_server: ForkServer, tmp_path: Path) -> None:
    checks_off = [
        FaultInjection(f"{CLASSIFIER}:DigitClassifier.has_diverged", 0, ReturnValue(False), replace=True),
        FaultInjection("math:isfinite", 0, ReturnValue(True), replace=True),
    ]
    fork_server.run(
        "train", *TINY, "hydra.run.dir=out", folder=tmp_path, faults=[NAN_FAULTS["weight"](12), *checks_off]
    )
    last = torch.load(tmp_path / "out" / "checkpoints" / "last.ckpt", weights_only=True)
    assert not all(weight.isfinite().all() for weight in last["current_model_state"].values())
