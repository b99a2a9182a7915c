"""Commands on other data than MNIST: a run knows the data that it was trained on.

The second real data set is Fashion-MNIST of Debian's package dataset-fashion-mnist.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import digitnet
from digitnet import evaluate, export, predict, train
from digitnet.checkpoints import pretrained
from digitnet.checkpoints.recorded_data import open_recorded_data
from digitnet.data import DATASETS, PublishedDataModule, mnist
from digitnet.errors import UsageError
from tests.conftest import FAST, Run, call

FASHION = Path("/usr/share/datasets/fashion-mnist")
needs_fashion = pytest.mark.skipif(not FASHION.is_dir(), reason="needs apt-get install dataset-fashion-mnist")
GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(scope="session")
def shared_fashion_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a short run on Fashion-MNIST; tests must not change it."""
    folder = tmp_path_factory.mktemp("fashion")
    with pytest.MonkeyPatch.context() as patch:
        overrides = (*FAST, "data=fashion_mnist", f"data.root={FASHION}", "hydra.run.dir=out")
        assert call(train, *overrides, folder=folder, patch=patch) == 0
    return folder / "out"


@pytest.fixture
def fashion_run(shared_fashion_run: Path, tmp_path: Path) -> Path:
    """Return a copy of the run on Fashion-MNIST in the folder of the test."""
    return Path(shutil.copytree(shared_fashion_run, tmp_path / "out"))


def fashion_accuracy(run_dir: Path) -> float:
    """Return the accuracy of a run on the test images of Fashion-MNIST, computed without the commands."""
    images, labels = PublishedDataModule("fashion_mnist", FASHION).split("test")
    with torch.inference_mode():
        return (digitnet.load(run_dir)(images).argmax(dim=1) == labels).double().mean().item()


def copy_mnist(folder: Path) -> None:
    shutil.copytree(Path(mnist.__file__).parent / "files", folder)


def truncate_fashion_mnist(folder: Path) -> None:
    shutil.copytree(FASHION, folder)
    images = folder / "train-images-idx3-ubyte.gz"
    images.write_bytes(images.read_bytes()[:1_000_000])


def write_arrays(folder: Path, size: int, first_label: int, name: str = "a.npz") -> None:
    folder.mkdir()
    images, labels = np.zeros((90, size, size), np.uint8), np.arange(90) % 3 + first_label
    np.savez(folder / name, train_images=images, train_labels=labels)


def write_arrays_of_classes(folder: Path, classes: list[str]) -> None:
    write_arrays(folder, 28, 0, "named.npz")
    with np.load(folder / "named.npz") as arrays:
        np.savez(folder / "named.npz", **dict(arrays), classes=np.array(classes))


def write_pictures_of_an_unprintable_class(folder: Path) -> None:
    for name in ("a", "b\x1b[31m"):
        (folder / name).mkdir(parents=True)
        for index in range(45):
            Image.new("L", (28, 28), index).save(folder / name / f"{index}.png")


def write_a_text_as_a_picture(folder: Path) -> None:
    for name in "ab":
        (folder / name).mkdir(parents=True)
        (folder / name / "x.png").write_text("no picture")


# For each data set that cannot be used: how to make it, the overrides, and what the message must contain.
UNUSABLE_DATA: dict[str, tuple[Callable[[Path], None], list[str], str]] = {
    "not there": (Path.mkdir, ["data=kmnist", "data.root=files"], "there is no train-images-idx3-ubyte[.gz] in files"),
    "no MNIST there": (
        Path.mkdir,
        ["data.root=files"],
        "data.root=files: must be a folder with the four files of MNIST",
    ),
    "damaged": (
        truncate_fashion_mnist,
        ["data=fashion_mnist", "data.root=files"],
        "train-images-idx3-ubyte.gz is damaged",
    ),
    "another data set": (
        copy_mnist,
        ["data=fashion_mnist", "data.root=files"],
        "differs from that of the published file",
    ),
    "other sizes": (
        lambda folder: write_arrays(folder, 20, 0),
        ["data=arrays", "data.root=files/a.npz"],
        "[90, 20, 20]",
    ),
    "labels out of range": (
        lambda folder: write_arrays(folder, 28, -1),
        ["data=arrays", "data.root=files/a.npz"],
        "range from -1 to 1",
    ),
    "a class twice": (
        lambda folder: write_arrays_of_classes(folder, ["a", "b", "a"]),
        ["data=arrays", "data.root=files/named.npz", "data.batch_size=32"],
        "data: ArrayDataModule: the class 'a' is there twice",
    ),
    "an unprintable class": (
        write_pictures_of_an_unprintable_class,
        ["data=folder", "data.root=files", "data.batch_size=32"],
        r"data: FolderDataModule: the name 'b\x1b[31m' is not a printable text",
    ),
    "a huge label": (
        lambda folder: write_arrays(folder, 28, 10**9, "huge.npz"),
        ["data=arrays", "data.root=files/huge.npz"],
        "files/huge.npz: train_labels has a label 1000000002; number the classes from 0 to at most 9999",
    ),
    "no pictures": (write_a_text_as_a_picture, ["data=folder", "data.root=files"], "files/a/x.png: not an image"),
}


@pytest.mark.parametrize("case", UNUSABLE_DATA)
def test_data_that_cannot_be_used_is_reported_in_one_line_and_no_file_is_written(
    case: str, run: Run, tmp_path: Path
) -> None:
    make, overrides, expected = UNUSABLE_DATA[case]
    if make is truncate_fashion_mnist and not FASHION.is_dir():
        pytest.skip("needs apt-get install dataset-fashion-mnist")
    make(tmp_path / "files")
    before = set(tmp_path.rglob("*"))
    result = run(train, *FAST, *overrides)
    assert result.status == 2
    assert result.out == ""
    assert result.err.count("\n") == 1, result.err
    assert expected in result.err
    assert set(tmp_path.rglob("*")) == before


@needs_fashion
def test_a_run_is_scored_on_the_data_that_it_was_trained_on(fashion_run: Path, run: Run) -> None:
    result = run(evaluate, "model=out", "json_path=-")
    assert result.status == 0, result.err
    scores = json.loads(result.out)
    assert scores["data"] == "fashion_mnist"
    assert scores["test/acc"] == pytest.approx(fashion_accuracy(fashion_run), abs=1e-12)
    assert {name.removeprefix("test/acc/") for name in scores if name.startswith("test/acc/")} == set(
        DATASETS["fashion_mnist"].classes
    )


@needs_fashion
def test_scoring_a_run_on_other_data_is_refused_unless_it_is_asked_for(fashion_run: Path, run: Run) -> None:
    refused = run(evaluate, "model=out", "data=mnist")
    assert refused.status == 2
    assert refused.err.count("\n") == 1
    assert "was trained on fashion_mnist, not on mnist" in refused.err
    asked_for = run(evaluate, "model=out", "data=mnist", "allow_other_data=true", "json_path=-")
    assert asked_for.status == 0, asked_for.err
    images, labels = mnist.load_mnist("test")
    with torch.inference_mode():
        expected = (digitnet.load(fashion_run)(images).argmax(dim=1) == labels).double().mean().item()
    assert json.loads(asked_for.out)["test/acc"] == pytest.approx(expected, abs=1e-12)


@needs_fashion
@pytest.mark.parametrize("reference", ["cnn", str(GOLDEN / "0.1.0-mlp.ckpt")])
def test_bundled_models_and_checkpoints_of_earlier_versions_were_trained_on_mnist(reference: str, run: Run) -> None:
    result = run(evaluate, f"model={reference}", "data=fashion_mnist", f"data.root={FASHION}")
    assert result.status == 2
    assert "was trained on mnist, not on fashion_mnist" in result.err


@needs_fashion
def test_an_export_is_scored_on_the_data_of_the_run_and_its_card_names_the_classes(
    fashion_run: Path, run: Run, tmp_path: Path
) -> None:
    result = run(export, "--model", "out", "-o", "m.safetensors")
    assert result.status == 0, result.err
    card_text = (tmp_path / "m.json").read_text()
    card = json.loads(card_text)
    assert card["test/acc"] == pytest.approx(fashion_accuracy(fashion_run), abs=1e-12)
    assert (card["dataset"]["name"], card["dataset"]["classes"]) == (
        "fashion_mnist",
        list(DATASETS["fashion_mnist"].classes),
    )
    assert str(FASHION) not in card_text, "A file to publish contains no path of this machine."
    assert "of the test images of fashion_mnist correct" in result.out
    assert digitnet.load(tmp_path / "m.safetensors").class_names == DATASETS["fashion_mnist"].classes
    scored = run(evaluate, "model=m.safetensors", f"data.root={FASHION}", "json_path=-")
    assert json.loads(scored.out)["test/acc"] == pytest.approx(card["test/acc"], abs=1e-12)


@needs_fashion
def test_an_export_whose_data_is_gone_has_no_accuracy_in_its_card(
    fashion_run: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = pretrained.load_dataset_record(fashion_run / "checkpoints" / "best.ckpt")
    assert record is not None
    monkeypatch.setattr("digitnet.inference.model_export.open_recorded_data", lambda *_: None)
    result = run(export, "--model", "out", "-o", "m.safetensors")
    assert result.status == 0, result.err
    assert "not scored" in result.out
    assert "test/acc" not in json.loads((tmp_path / "m.json").read_text())
    with pytest.raises(UsageError, match=r"a folder with the four files of Fashion-MNIST"):
        open_recorded_data(record, tmp_path)


@needs_fashion
def test_predictions_of_a_run_on_clothes_name_the_classes(fashion_run: Path, run: Run, tmp_path: Path) -> None:
    result = run(predict, "--model", "out", "--test-samples", "40", "--contact-sheet", "s.png")
    assert result.status == 0, result.err
    assert "Sneaker" in result.out
    assert (tmp_path / "s.png").stat().st_size > 10_000
    photo = Path(__file__).parents[1] / "docs" / "images" / "photo.jpg"
    header = run(predict, "--model", "out", "--csv", str(photo)).out.splitlines()[0]
    assert "probability of Ankle boot" in header


def save_stripes(root: Path) -> Path:
    """Save 200 pictures of stripes, in two folders by direction, and return the folder of both."""
    random = np.random.default_rng(0)
    for name, axis in (("across", 0), ("down", 1)):
        (root / name).mkdir(parents=True)
        for number in range(100):
            lines = np.repeat(random.integers(0, 256, (28, 1), dtype=np.uint8), 28, axis=1)
            Image.fromarray(lines if axis == 0 else lines.T).save(root / name / f"{number}.png")
    return root


def test_an_export_finds_the_test_images_of_a_folder_that_is_named(run: Run, tmp_path: Path) -> None:
    pictures = save_stripes(tmp_path / "pictures")
    options = (*FAST, "data=folder", f"data.root={pictures}", "data.test_size=0.3", "data.train_size=null")
    assert run(train, *options, "data.val_size=0.2", "hydra.run.dir=out").status == 0
    assert run(export, "--model", "out", "-o", "m.safetensors").status == 0
    card = json.loads((tmp_path / "m.json").read_text())
    assert card["dataset"]["arguments"]["test_size"] == 0.3
    assert "root" not in card["dataset"]["arguments"]

    unknown = run(predict, "--model", "m.safetensors", "--test-samples", "60")
    assert unknown.status == 2
    assert "name their folder with --data-root" in unknown.err
    pictures = pictures.rename(tmp_path / "moved")
    known = run(predict, "--model", "m.safetensors", "--test-samples", "60", "--data-root", str(pictures))
    assert known.status == 0, known.err
    assert known.out.count("\n") > 60
    assert {"across", "down"} <= set(known.out.split())
    scored = run(evaluate, "model=m.safetensors", f"data.root={pictures}", "json_path=-")
    assert json.loads(scored.out)["test/acc"] == pytest.approx(card["test/acc"], abs=1e-12)


@needs_fashion
def test_a_run_on_another_data_set_resumes(fashion_run: Path, run: Run) -> None:
    result = run(train, "resume=out", "trainer.max_epochs=3")
    assert result.status == 0, result.err
    assert "epoch 3/3" in result.out
    assert json.loads((fashion_run / "metrics.json").read_text())["data"] == "fashion_mnist"


@needs_fashion
def test_a_student_is_not_taught_by_a_network_of_other_data(run: Run, tmp_path: Path) -> None:
    result = run(train, *FAST, "data=fashion_mnist", f"data.root={FASHION}", "distillation=cnn")
    assert result.status == 2
    assert "was trained on mnist, but the data is fashion_mnist" in result.err
    assert list(tmp_path.iterdir()) == []


def test_data_that_is_not_there_is_answered_with_its_size_and_both_ways_to_it(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    result = run(train, *FAST, "data=kmnist")
    assert result.status == 2
    assert result.err.count("\n") == 1
    for part in ("data.root=DIR", "Kuzushiji-MNIST", "data.download=true", "21 MB"):
        assert part in result.err
    assert list(tmp_path.iterdir()) == []


def make_letters(folder: Path, train_size: int = 40) -> Path:
    """Write arrays of 26 classes: the label is visible as the number of bright rows."""
    rng = np.random.default_rng(0)
    arrays = {}
    for split, size in (("train", 26 * train_size), ("test", 52)):
        labels = np.arange(size) % 26
        images = rng.integers(0, 60, (size, 28, 28), dtype=np.uint8)
        for image, label in zip(images, labels, strict=True):
            image[: label + 1] += 150
        arrays |= {f"{split}_images": images, f"{split}_labels": labels}
    path = folder / "letters.npz"
    np.savez(path, **arrays, classes=np.array([chr(65 + label) for label in range(26)]))
    return path


def test_the_network_and_its_metrics_follow_the_number_of_classes(run: Run, tmp_path: Path) -> None:
    make_letters(tmp_path)
    epochs = ("trainer.max_epochs=3", "trainer.log_every_n_steps=1", "data.batch_size=64", "data.augmentation=null")
    result = run(train, "model=mlp", "data=arrays", "data.root=letters.npz", *epochs, "hydra.run.dir=out")
    assert result.status == 0, result.err
    model = digitnet.load(tmp_path / "out")
    assert (model.num_classes, model.class_names[25]) == (26, "Z")
    scored = run(evaluate, "model=out", "json_path=-", "plots_dir=plots")
    scores = json.loads(scored.out.partition("\nplot")[0])
    assert scored.status == 0, scored.err
    assert scores["test/acc/Z"] >= 0
    assert scores["test/acc"] > 3 / 26, "better than chance"
    assert (tmp_path / "plots" / "samples.png").is_file()
    mismatch = run(evaluate, "model=cnn", "data=arrays", "data.root=letters.npz", "allow_other_data=true")
    assert mismatch.status == 2
    assert "has 10 classes, but arrays has 26" in mismatch.err
    fixed = run(train, *FAST, "data=arrays", "data.root=letters.npz", "model.num_classes=10")
    assert fixed.status == 2
    assert "model.num_classes=10: must be 26" in fixed.err
