"""Distillation: a student learns from its teacher and is independent of it afterwards."""

from pathlib import Path

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor

import digitnet
from digitnet import MLP, MNISTDataModule, train
from digitnet.data import Augmentation
from digitnet.data.loader import DeterministicLoader
from digitnet.errors import UsageError
from digitnet.models import Distillation
from tests.conftest import FAST, Run, quiet_trainer
from tests.test_configs import compose


class Mislabelled(MNISTDataModule):
    def split(self, name: str) -> tuple[Tensor, Tensor]:
        images, labels = super().split(name)
        return images, labels if name != "train" else labels.roll(1)


@pytest.mark.parametrize(("alpha", "learns"), [(1.0, True), (0.0, False)])
def test_with_alpha_1_the_student_learns_from_the_teacher_only(alpha: float, learns: bool, tmp_path: Path) -> None:
    """The training labels are wrong, so a student that learns from them does not reach the accuracy."""
    student = MLP(lr=4e-3, distillation=Distillation(digitnet.load("cnn"), alpha=alpha))
    trainer = quiet_trainer(tmp_path, max_epochs=1)
    trainer.fit(student, Mislabelled(train_size=10_000))
    assert (trainer.callback_metrics["val/acc"] > 0.85) == learns


def test_the_checkpoint_of_a_student_does_not_contain_the_teacher(tmp_path: Path) -> None:
    student = MLP(distillation=Distillation(digitnet.load("cnn")))
    trainer = quiet_trainer(tmp_path, max_epochs=1)
    trainer.fit(student, MNISTDataModule(train_size=100, val_size=0))
    trainer.save_checkpoint(tmp_path / "student.ckpt")
    restored = MLP.load_from_checkpoint(tmp_path / "student.ckpt")
    assert restored.state_dict().keys() == MLP().state_dict().keys()
    assert restored.distillation is None


def test_the_ensemble_of_all_runs_of_a_sweep_can_be_the_teacher(run: Run, tmp_path: Path) -> None:
    assert run(train, "-m", *FAST, "seed=1,2", "hydra.sweep.dir=teachers").status == 0
    images = torch.rand(8, 28, 28)
    members = [digitnet.load(tmp_path / "teachers" / number).predict_step(images) for number in "01"]
    student = compose(tmp_path, "distillation=cnn", f"distillation.teacher.model={tmp_path / 'teachers'}").model
    assert student.distillation is not None
    ensemble = student.distillation.teacher(images).softmax(dim=1)
    torch.testing.assert_close(ensemble, torch.stack(members).mean(dim=0))


def test_the_ensemble_of_the_bundled_teachers_can_be_the_teacher(tmp_path: Path) -> None:
    images = torch.rand(8, 28, 28)
    members = [digitnet.load(f"teachers/{number}").predict_step(images) for number in "1234"]
    student = compose(tmp_path, "experiment=cnn_best").model
    assert student.distillation is not None
    ensemble = student.distillation.teacher(images).softmax(dim=1)
    torch.testing.assert_close(ensemble, torch.stack(members).mean(dim=0))


class CountingTeacher(torch.nn.Module):
    """The bundled CNN, which counts the batches that it receives."""

    def __init__(self) -> None:
        super().__init__()
        self.cnn, self.batches = digitnet.load("cnn"), 0

    def forward(self, images: Tensor) -> Tensor:
        self.batches += 1
        return self.cnn(images)


def train_student(folder: Path, resume: Path | None = None, callbacks: list[Callback] | None = None) -> tuple[MLP, int]:
    """Train for four epochs of two batches, with two views of each image."""
    torch.manual_seed(1)
    teacher = CountingTeacher()
    student = MLP(distillation=Distillation(teacher))
    data = MNISTDataModule(batch_size=64, val_size=0, train_size=128, augmentation=Augmentation(rotation=10, views=2))
    quiet_trainer(folder, max_epochs=4, callbacks=callbacks).fit(student, data, ckpt_path=resume)
    return student, teacher.batches


def equal_weights(first: MLP, second: MLP) -> bool:
    return all(map(torch.equal, first.state_dict().values(), second.state_dict().values()))


def test_the_teacher_sees_each_view_once_and_the_student_learns_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    student, batches = train_student(tmp_path)
    assert batches == 2 * 2
    monkeypatch.setattr(DeterministicLoader, "batch_id", lambda loader, step: None)
    unaided, batches = train_student(tmp_path)
    assert batches == 4 * 2
    assert equal_weights(student, unaided)


def test_a_second_training_on_other_batches_asks_the_teacher_again(tmp_path: Path) -> None:
    teacher = CountingTeacher()
    student = MLP(distillation=Distillation(teacher))
    for seed in (1, 2):
        data = MNISTDataModule(batch_size=64, val_size=0, train_size=128, seed=seed, augmentation=Augmentation(views=1))
        quiet_trainer(tmp_path, max_epochs=2).fit(student, data)
        assert teacher.batches == 2 * seed


def test_a_student_that_resumes_within_an_epoch_gets_the_outputs_of_the_right_batches(tmp_path: Path) -> None:
    class SaveInThirdEpoch(Callback):
        def on_train_batch_end(self, trainer: L.Trainer, *_: object) -> None:
            if trainer.global_step == 5:
                trainer.save_checkpoint(tmp_path / "interrupted.ckpt")

    uninterrupted, _ = train_student(tmp_path, callbacks=[SaveInThirdEpoch()])
    resumed, _ = train_student(tmp_path, resume=tmp_path / "interrupted.ckpt")
    assert equal_weights(resumed, uninterrupted)


def test_the_distillation_loss_is_zero_for_equal_logits() -> None:
    teacher = digitnet.load("cnn")
    images = torch.rand(8, 28, 28)
    logits = teacher(images)
    for temperature in (1.0, 4.0):
        loss = Distillation(teacher, temperature)(torch.tensor(9.0), logits, images)
        assert loss.item() == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"temperature": 0}, "temperature=0: must be above 0"), ({"alpha": 1.5}, "alpha=1.5: must be from 0 to 1")],
)
def test_an_argument_out_of_range_raises_an_error_that_names_it(arguments: dict[str, float], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Distillation(MLP(), **arguments)
