"""Tests of what is removed from each training step: empty hooks, profiler contexts and updates of the progress bar."""

import time
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import LambdaCallback
from lightning.pytorch.profilers import SimpleProfiler

from benchmarks.harness import compose_train_config
from digitnet import MLP
from digitnet.training.build import Run, build_run
from digitnet.training.callbacks import TimedProgressBar
from digitnet.training.callbacks.progress_bar import SECONDS_BETWEEN_UPDATES
from digitnet.training.step_overhead import STEP_HOOKS, NoProfiler, remove_empty_step_hooks

STEPS = 4
TINY = ("model=mlp", "++data.train_size=64", "data.batch_size=16", "++data.val_size=0", "trainer.max_epochs=1")


class Listener(L.Callback):
    """Records the hooks that are called; each calls the empty one of its base class, as generated code often does."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def on_before_zero_grad(self, *args: Any) -> None:
        super().on_before_zero_grad(*args)
        self.calls.append("on_before_zero_grad")

    def on_train_batch_end(self, *args: Any) -> None:
        super().on_train_batch_end(*args)
        self.calls.append("on_train_batch_end")


class ListeningMLP(MLP):
    """A network with a hook of its own."""

    def __init__(self) -> None:
        super().__init__(hidden=[8])
        self.calls: list[str] = []

    def on_after_backward(self) -> None:
        super().on_after_backward()
        self.calls.append("on_after_backward")


def build(tmp_path: Path, *overrides: str, callbacks: tuple[L.Callback, ...] = ()) -> Run:
    config = compose_train_config(*TINY, "++trainer.accelerator=cpu", *overrides, run_dir=str(tmp_path))
    return build_run(config, callbacks)


def test_hooks_that_were_set_on_an_object_stay(tmp_path: Path) -> None:
    calls: list[int] = []
    callback = LambdaCallback(on_train_batch_end=lambda trainer, model, outputs, batch, index: calls.append(index))
    run = build(tmp_path, callbacks=(callback,))
    run.trainer.fit(run.model, datamodule=run.data)
    assert calls == [*range(STEPS)]


def test_hooks_that_nobody_defines_are_gone_and_the_others_are_called(tmp_path: Path) -> None:
    listener = Listener()
    run = build(tmp_path, callbacks=(listener,))
    for part in (run.model, *run.trainer.callbacks):  # type: ignore[attr-defined]
        defined = {name for name in STEP_HOOKS if getattr(part, name) is not None}
        empty = {name for name in STEP_HOOKS if getattr(type(part), name, None) in _empty_hooks()}
        assert not defined & empty, type(part)
    assert {name for name in STEP_HOOKS if listener.__dict__.get(name, 0) is None} == set(STEP_HOOKS) - {
        "on_before_zero_grad",
        "on_train_batch_end",
    }
    run.trainer.fit(run.model, run.data)
    assert listener.calls == ["on_before_zero_grad", "on_train_batch_end"] * STEPS


def _empty_hooks() -> list[Any]:
    return [getattr(base, name) for base in (L.Callback, L.LightningModule) for name in STEP_HOOKS]


def test_a_hook_of_a_network_is_called_and_may_call_super(tmp_path: Path) -> None:
    run, model = build(tmp_path), ListeningMLP()
    remove_empty_step_hooks(run.trainer, model)
    run.trainer.fit(model, run.data)
    assert model.calls == ["on_after_backward"] * STEPS
    assert MLP.on_after_backward is L.LightningModule.on_after_backward, "the class is as it was"


@pytest.mark.parametrize("limit", [None, 1e-6])
def test_gradients_are_clipped_only_if_there_is_a_limit(tmp_path: Path, limit: float | None) -> None:
    class Gradients(L.Callback):
        def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
            largest.append(max(float(p.grad.abs().max()) for p in pl_module.parameters() if p.grad is not None))

    largest: list[float] = []
    run = build(tmp_path, f"++trainer.gradient_clip_val={limit or 'null'}", callbacks=(Gradients(),))
    run.trainer.fit(run.model, run.data)
    assert len(largest) == STEPS
    assert all((gradient <= 1e-6) == (limit is not None) for gradient in largest)


def test_a_profiler_that_is_asked_for_is_kept(tmp_path: Path) -> None:
    assert isinstance(build(tmp_path).trainer.profiler, NoProfiler)  # type: ignore[attr-defined]
    asked = build(tmp_path, "++trainer.profiler=simple").trainer.profiler  # type: ignore[attr-defined]
    assert isinstance(asked, SimpleProfiler)


def test_the_attribute_that_lightning_sets_in_each_hook_is_plain_and_parameters_are_still_registered() -> None:
    model = MLP(hidden=[8])
    model._current_fx_name = "training_step"
    model.scale = torch.nn.Parameter(torch.ones(1))
    assert model.__dict__["_current_fx_name"] == "training_step"
    assert "scale" in dict(model.named_parameters())
    assert "scale" not in model.__dict__


def test_the_progress_bar_is_drawn_by_time_and_after_the_last_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    bar, now = TimedProgressBar(), 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    assert bar._should_update(1, 50)
    assert not bar._should_update(2, 50)
    now += SECONDS_BETWEEN_UPDATES
    assert bar._should_update(3, 50)
    assert not bar._should_update(4, 50)
    assert bar._should_update(50, 50)
    bar.disable()
    now += SECONDS_BETWEEN_UPDATES
    assert not bar._should_update(50, 50)
