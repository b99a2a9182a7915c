"""What has turned into NaN is a failure, found before it is saved."""

from pathlib import Path
from typing import Any

import pytest
import torch

from digitnet.models import DigitClassifier
from digitnet.models.metrics import EpochMetrics
from tests.faults.child import STEPS, TINY, Forks, Give, Sabotage
from tests.faults.conftest import stop_at, trials


class Poison:
    """In place of a method: what it returns, or the weights it finds, become NaN at the n-th call."""

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
WHAT = {
    "loss": lambda step: Sabotage(
        f"{CLASSIFIER}:DigitClassifier.training_step", 0, Poison(DigitClassifier, "training_step", step), instead=True
    ),
    "weight": lambda step: Sabotage(
        f"{CLASSIFIER}:DigitClassifier.training_step",
        0,
        Poison(DigitClassifier, "training_step", step, True),
        instead=True,
    ),
    # Two sums an epoch, of training and validation.
    "metric": lambda step: Sabotage(
        f"{METRICS}:EpochMetrics.totals", 0, Poison(EpochMetrics, "totals", 1 + step // 5), instead=True
    ),
}
CASES = [(what, step) for what in WHAT for step in (1, 12, STEPS)]


@pytest.mark.parametrize(("what", "step"), trials(CASES, fast=[("loss", 12), ("weight", STEPS), ("metric", 12)]))
def test_a_number_that_is_none(what: str, step: int, forks: Forks, tmp_path: Path) -> None:
    failed = forks.run("train", *TINY, "hydra.run.dir=out", folder=tmp_path, sabotages=[WHAT[what](step)])
    assert failed.status == 1
    assert failed.err.count("\n") == 1, failed.err
    assert f"diverged in epoch {(step - 1) // 8 + 1}" in failed.err
    found = {path: torch.load(path, weights_only=True) for path in (tmp_path / "out").rglob("*.ckpt")}
    assert len(found) == (0 if step == 1 else 2)
    for checkpoint in found.values():
        for key in ("state_dict", "current_model_state"):
            assert all(weight.isfinite().all() for weight in checkpoint[key].values())
    assert not (tmp_path / "out" / "metrics.json").exists()


def test_a_stop_does_not_save_what_has_diverged(forks: Forks, tmp_path: Path) -> None:
    failed = forks.run("train", *TINY, "hydra.run.dir=out", folder=tmp_path, sabotages=[WHAT["loss"](10), stop_at(12)])
    assert failed.status == 1
    assert "diverged in epoch 2" in failed.err
    last = torch.load(tmp_path / "out" / "checkpoints" / "last.ckpt", weights_only=True)
    assert last["global_step"] == 8


def test_a_high_learning_rate_is_answered(forks: Forks, tmp_path: Path) -> None:
    failed = forks.run("train", *TINY, "optimizer.name=sgd", "optimizer.lr=1e20", "hydra.run.dir=out", folder=tmp_path)
    assert failed.status == 1
    assert "try a lower optimizer.lr than 1e+20" in failed.err


def test_a_test_figure_that_is_none_is_not_an_outcome(forks: Forks, tmp_path: Path) -> None:
    seventh = Sabotage(
        f"{METRICS}:EpochMetrics.totals", 0, Poison(EpochMetrics, "totals", 7), instead=True
    )  # after two an epoch
    failed = forks.run("train", *TINY, "hydra.run.dir=out", folder=tmp_path, sabotages=[seventh])
    assert failed.status == 1
    assert "test/loss is not finite" in failed.err
    assert not (tmp_path / "out" / "metrics.json").exists()


def test_without_the_look_nan_is_saved_as_if_nothing_were(forks: Forks, tmp_path: Path) -> None:
    blind = [
        Sabotage(f"{CLASSIFIER}:DigitClassifier.has_diverged", 0, Give(False), instead=True),
        Sabotage("math:isfinite", 0, Give(True), instead=True),
    ]
    forks.run("train", *TINY, "hydra.run.dir=out", folder=tmp_path, sabotages=[WHAT["weight"](12), *blind])
    last = torch.load(tmp_path / "out" / "checkpoints" / "last.ckpt", weights_only=True)
    assert not all(weight.isfinite().all() for weight in last["current_model_state"].values())
