"""The official split: what is tested on is never trained on, and validation comes out of the training images."""

from pathlib import Path

import pytest
import torch

from digitnet import MLP
from digitnet.data import MNISTDataModule, mnist
from digitnet.errors import UsageError
from tests.conftest import quiet_trainer


def test_train_and_val_are_the_60000_and_test_is_the_10000() -> None:
    data = MNISTDataModule()
    _, labels = mnist.load_mnist("train")
    split = data.split(labels)
    assert (len(split["train"]), len(split["val"])) == (55_000, 5_000)
    assert torch.equal(torch.cat(list(split.values())).sort().values, torch.arange(60_000))
    images, targets = data.split("test")
    assert torch.equal(images, mnist.load_mnist("test")[0])
    assert torch.equal(targets, mnist.load_mnist("test")[1].long())


def test_no_test_image_is_trained_on() -> None:
    data = MNISTDataModule(val_size=0)
    trained_on = {image.numpy().tobytes() for image in data.split("train")[0]}
    assert not any(image.numpy().tobytes() in trained_on for image in data.split("test")[0])


def test_validation_has_every_digit_in_proportion() -> None:
    _, labels = mnist.load_mnist("train")
    val = labels[MNISTDataModule(val_size=5000).split(labels)["val"]]
    assert (val.bincount() - labels.bincount() * 5000 / 60_000).abs().max() <= 1


def test_the_split_depends_on_its_own_seed_only() -> None:
    _, labels = mnist.load_mnist("train")
    first = MNISTDataModule(seed=1).split(labels)["val"]
    assert torch.equal(first, MNISTDataModule(seed=2).split(labels)["val"])
    assert not torch.equal(first, MNISTDataModule(split_seed=1).split(labels)["val"])


def test_validation_can_be_left_out_and_training_cut_short(tmp_path: Path) -> None:
    data = MNISTDataModule(val_size=0, train_size=500)
    trainer = quiet_trainer(tmp_path, max_epochs=1)
    trainer.fit(MLP(), data)
    assert set(trainer.callback_metrics) == {"train/acc", "train/loss"}
    images, labels = data.split("train")
    assert len(images) == 500
    assert (labels.bincount() - mnist.load_mnist("train")[1].bincount() / 120).abs().max() <= 1


def test_a_trainer_gets_uint8_images_and_int64_labels_moved_once() -> None:
    data = MNISTDataModule(batch_size=100)
    images, labels = next(iter(data.train_dataloader()))
    assert (images.shape, images.dtype, labels.dtype) == ((100, 28, 28), torch.uint8, torch.int64)
    assert data.split("train")[0].data_ptr() == data.split("train")[0].data_ptr()


OUT_OF_RANGE = {
    "batch_size": (0, -5),
    "val_size": (-1, 60_000),
    "train_size": (0, 55_001),
    "seed": (-1, 2**32),
    "split_seed": (-1,),
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in OUT_OF_RANGE.items() for value in values]
)
def test_a_number_out_of_range_is_refused_by_name(name: str, value: int) -> None:
    with pytest.raises(UsageError, match=rf"{name}={value}: must be"):
        MNISTDataModule(**{name: value})
