"""A student learns from its teacher, and needs it no more once it has learnt."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

import digitnet
from digitnet import MLP, MNISTDataModule, train
from digitnet.errors import UsageError
from digitnet.models import Distillation
from tests.conftest import FAST, Run, quiet_trainer
from tests.test_configs import compose


class Mislabelled(MNISTDataModule):
    def part(self, name: str) -> tuple[Tensor, Tensor]:
        images, labels = super().part(name)
        return images, labels if name != "train" else labels.roll(1)


@pytest.mark.parametrize(("weight", "learns"), [(1.0, True), (0.0, False)])
def test_with_full_weight_a_student_learns_from_the_teacher_alone(weight: float, learns: bool, tmp_path: Path) -> None:
    """The labels are worthless here: what the student gets right it has from the teacher."""
    student = MLP(lr=4e-3)
    student.distillation = Distillation(digitnet.load("cnn"), weight=weight)
    trainer = quiet_trainer(tmp_path, max_epochs=1)
    trainer.fit(student, Mislabelled(train_size=10_000))
    assert (trainer.callback_metrics["val/acc"] > 0.85) == learns


def test_the_checkpoint_of_a_student_needs_no_teacher(tmp_path: Path) -> None:
    student = MLP()
    student.distillation = Distillation(digitnet.load("cnn"))
    trainer = quiet_trainer(tmp_path, max_epochs=1)
    trainer.fit(student, MNISTDataModule(train_size=100, val_size=0))
    trainer.save_checkpoint(tmp_path / "student.ckpt")
    alone = MLP.load_from_checkpoint(tmp_path / "student.ckpt")
    assert alone.state_dict().keys() == MLP().state_dict().keys()
    assert alone.distillation is None


def test_the_runs_of_a_sweep_teach_together(run: Run, tmp_path: Path) -> None:
    assert run(train, "-m", *FAST, "seed=1,2", "hydra.sweep.dir=teachers").status == 0
    images = torch.rand(8, 28, 28)
    each = [digitnet.load(tmp_path / "teachers" / number).predict_step(images) for number in "01"]
    student = compose(tmp_path, "distillation=cnn", f"distillation.teacher.model={tmp_path / 'teachers'}").model
    assert student.distillation is not None
    together = student.distillation.teacher(images).softmax(dim=1)
    torch.testing.assert_close(together, torch.stack(each).mean(dim=0))


def test_the_shipped_teachers_teach_together(tmp_path: Path) -> None:
    images = torch.rand(8, 28, 28)
    each = [digitnet.load(f"teachers/{number}").predict_step(images) for number in "123"]
    student = compose(tmp_path, "experiment=cnn_best").model
    assert student.distillation is not None
    together = student.distillation.teacher(images).softmax(dim=1)
    torch.testing.assert_close(together, torch.stack(each).mean(dim=0))


def test_a_student_that_agrees_with_its_teacher_has_nothing_to_learn() -> None:
    teacher = digitnet.load("cnn")
    images = torch.rand(8, 28, 28)
    logits = teacher(images)
    for temperature in (1.0, 4.0):
        loss = Distillation(teacher, temperature)(torch.tensor(9.0), logits, images)
        assert loss.item() == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize(("amounts", "message"), [({"temperature": 0}, "above 0"), ({"weight": 1.5}, "from 0 to 1")])
def test_amounts_out_of_range_are_refused(amounts: dict[str, float], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Distillation(MLP(), **amounts)
