"""The splits: test images are never trained on, and the validation images are some of the training images."""

from pathlib import Path

import pytest
import torch

from digitnet import MLP
from digitnet.data import MNISTDataModule, mnist
from digitnet.data.splits import split_indices
from digitnet.errors import UsageError
from tests.conftest import quiet_trainer


def test_training_and_validation_divide_the_60000_images_and_the_test_split_is_the_official_one() -> None:
    data = MNISTDataModule()
    train_images, train_labels = mnist.load_mnist("train")
    indices = split_indices(train_labels, data.val_size, data.train_size, data.split_seed)
    assert (len(indices["train"]), len(indices["val"])) == (55_000, 5_000)
    assert torch.equal(torch.cat(list(indices.values())).sort().values, torch.arange(60_000))
    assert torch.equal(data.split("val")[0], train_images[indices["val"]])
    assert torch.equal(data.split("train")[1], train_labels[indices["train"]].long())
    images, targets = data.split("test")
    assert torch.equal(images, mnist.load_mnist("test")[0])
    assert torch.equal(targets, mnist.load_mnist("test")[1].long())


def test_no_test_image_is_among_the_training_images() -> None:
    data = MNISTDataModule(val_size=0)
    trained_on = {image.numpy().tobytes() for image in data.split("train")[0]}
    assert not any(image.numpy().tobytes() in trained_on for image in data.split("test")[0])


def test_the_validation_split_is_stratified() -> None:
    _, labels = mnist.load_mnist("train")
    _, val = MNISTDataModule(val_size=5000).split("val")
    assert len(val) == 5000
    assert (val.bincount() - labels.bincount() * 5000 / 60_000).abs().max() <= 1


def test_the_validation_split_depends_on_split_seed_only() -> None:
    images, _ = MNISTDataModule(seed=1).split("val")
    assert torch.equal(images, MNISTDataModule(seed=2).split("val")[0])
    assert torch.equal(images, MNISTDataModule(seed=1, train_size=100).split("val")[0])
    assert not torch.equal(images, MNISTDataModule(split_seed=1).split("val")[0])


def test_a_model_can_be_trained_without_validation_on_a_stratified_subset(tmp_path: Path) -> None:
    data = MNISTDataModule(val_size=0, train_size=500)
    trainer = quiet_trainer(tmp_path, max_epochs=1)
    trainer.fit(MLP(), data)
    assert set(trainer.callback_metrics) == {"train/acc", "train/loss"}
    images, labels = data.split("train")
    assert len(images) == 500
    assert (labels.bincount() - mnist.load_mnist("train")[1].bincount() / 120).abs().max() <= 1


def test_the_loader_yields_uint8_images_and_int64_labels_of_a_cached_split() -> None:
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
def test_an_argument_out_of_range_raises_an_error_that_names_it(name: str, value: int) -> None:
    with pytest.raises(UsageError, match=rf"^{name}={value}: must be"):
        MNISTDataModule(**{name: value})
