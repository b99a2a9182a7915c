"""The evaluation command: which models it accepts, what it prints and writes, and how it reports invalid input."""

import errno
import json
import os
import re
from pathlib import Path
from shutil import copytree

import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import multiclass_calibration_error

import digitnet
from digitnet import evaluate, train
from digitnet.analysis.corruptions import CORRUPTIONS, corrupt
from digitnet.checkpoints.checkpoint_format import load_checkpoint
from digitnet.inference.calibration import fit_calibration
from tests.conftest import Run, spawn

PNG = b"\x89PNG"

OLD_CARD = Path(__file__).parent / "golden" / "pretrained" / "cnn.safetensors"  # its card does not record the split


def test_the_table_has_the_accuracy_of_every_digit(run: Run, trained_run: Path) -> None:
    result = run(evaluate, "model=out")
    assert result.status == 0, result.err
    assert "10,000 test images" in result.out
    assert len(re.findall(r"^.*\b[0-9] +\d+\.\d\d +\d+\.\d\d +\d+\.\d\d", result.out, re.MULTILINE)) == 10
    assert "Tip" not in result.out + result.err


def test_json_path_writes_the_metrics_and_creates_the_folder(run: Run, trained_run: Path) -> None:
    assert run(evaluate, "model=out", "json_path=sub/scores.json").status == 0
    scores = json.loads((trained_run.parent / "sub" / "scores.json").read_text())
    counts = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    by_digit = sum(scores[f"test/acc/{digit}"] * count for digit, count in enumerate(counts))
    assert by_digit == pytest.approx(scores["test/acc"] * 10_000)


def test_model_accepts_a_run_folder_or_a_checkpoint(run: Run, trained_run: Path) -> None:
    run_folder, best, last = (
        json.loads(run(evaluate, f"model={path}", "json_path=-").out)
        for path in ("out", "out/checkpoints/best.ckpt", "out/checkpoints/last.ckpt")
    )
    assert run_folder["test/loss"] == best["test/loss"]
    assert run_folder["checkpoints"] == best["checkpoints"] != last["checkpoints"]


def test_a_name_selects_the_bundled_model_and_a_path_the_run_folder_of_the_same_name(
    run: Run, trained_run: Path
) -> None:
    trained_run.rename(trained_run.with_name("mlp"))
    assert run(evaluate, "model=mlp").status == 2, "The name stands for both."
    bundled, own_run = (
        json.loads(run(evaluate, f"model={name}", "json_path=-").out) for name in ("bundled:mlp", "./mlp")
    )
    assert bundled["checkpoints"] != own_run["checkpoints"] == ["mlp/checkpoints/best.ckpt"]
    sweep = trained_run.with_name("cnn")
    copytree(trained_run.with_name("mlp"), sweep / "0")
    assert json.loads(run(evaluate, "model=bundled:cnn", "json_path=-").out)["test/acc"] > 0.99


def test_null_stands_for_the_default_and_is_not_a_file_name(run: Run, trained_run: Path) -> None:
    assert run(evaluate, "model=out", "json_path=null", "plots_dir=null", "data.root=null").status == 0
    assert not (trained_run.parent / "null").exists()
    result = run(evaluate, "model=null")
    assert (result.status, result.out) == (2, "")
    assert result.err == "digitnet: error: model=null: must be a run folder, a checkpoint, cnn or mlp\n"


@pytest.mark.parametrize("name", ["a=b", "two words", "x, y", "it's", "[z]", "ünï"])
def test_the_name_of_a_run_folder_may_contain_any_character(name: str, run: Run, trained_run: Path) -> None:
    trained_run.rename(trained_run.with_name(name))
    result = run(evaluate, f"model={name}", "json_path=-")
    assert result.status == 0, result.err
    assert json.loads(result.out)["checkpoints"] == [f"{name}/checkpoints/best.ckpt"]


def test_plots_dir_writes_the_plots_of_curves_and_samples(run: Run, trained_run: Path) -> None:
    assert run(evaluate, "model=out", "plots_dir=plots").status == 0
    for name in ("curves.png", "samples.png"):
        content = (trained_run.parent / "plots" / name).read_bytes()
        assert content.startswith(PNG)
        assert len(content) > 5000


def test_a_plot_that_does_not_fit_on_the_disk_leaves_the_old_file(
    run: Run, trained_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = trained_run.parent / "plots" / "samples.png"
    old.parent.mkdir()
    old.write_bytes(b"old")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    result = run(evaluate, "model=out", "plots_dir=plots")
    assert (result.status, result.err.count("\n")) == (1, 1)
    assert "plots/samples.png: cannot be written (No space left on device)" in result.err
    assert [path.read_bytes() for path in old.parent.iterdir()] == [b"old"]


def test_without_output_options_no_file_is_written_or_changed(run: Run, trained_run: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in trained_run.parent.rglob("*")}
    run(evaluate, "model=out")
    assert {path: path.stat().st_mtime_ns for path in trained_run.parent.rglob("*")} == before


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model=nothing", "no checkpoint there"),
        ("model=out/.hydra", "no checkpoint there"),
        ("model=text.ckpt", "not an intact checkpoint"),
        ("model=empty.ckpt", "not an intact checkpoint"),
        ("model=foreign.ckpt", "not a checkpoint that digitnet wrote"),
        ("model=unknown_model.ckpt", "Transformer"),
        ("model=short.ckpt", "not an intact checkpoint"),
        ("model=misfit.ckpt", "does not fit the MLP"),
        ("modle=out", "did you mean model"),
        ("model=out trainer.devices=many", "trainer"),
        ("model=out plots_dir=/proc/p", "plots_dir=/proc/p: cannot write there"),
        ("model=out json_path=/proc/p.json", "json_path=/proc: cannot write there"),
        ("model=out robustness=elsewhere", "robustness=elsewhere: shot_noise/test_images.npy is missing"),
        ("model=out robustness=3", "robustness=3: "),
        ("model=out robustness=true seed=-1", "seed=-1"),
        ("", "model: has no value; type model=VALUE"),
        ("model=digits.onnx", "ONNX files are for other programs"),
    ],
)
def test_invalid_input_is_reported_in_one_line(override: str, message: str, run: Run, trained_run: Path) -> None:
    folder = trained_run.parent
    checkpoint = torch.load(trained_run / "checkpoints" / "best.ckpt", weights_only=True)
    (folder / "text.ckpt").write_text("hello")
    (folder / "empty.ckpt").write_bytes(b"")
    (folder / "digits.onnx").write_bytes(b"onnx")
    torch.save({"state_dict": {}}, folder / "foreign.ckpt")
    torch.save(checkpoint | {"digitnet_model": "Transformer"}, folder / "unknown_model.ckpt")
    torch.save(checkpoint | {"hyper_parameters": {"hidden": [3]}}, folder / "misfit.ckpt")
    (folder / "short.ckpt").write_bytes((trained_run / "checkpoints" / "best.ckpt").read_bytes()[:-500])
    result = run(evaluate, *override.split())
    assert result.status == 2
    assert result.err.count("\n") == 1, result.err
    assert message in result.err


@pytest.mark.parametrize("value", ["0", "0.0"])
def test_an_evaluation_of_no_image_is_refused(value: str, run: Run, trained_run: Path) -> None:
    result = run(evaluate, "model=out", f"trainer.limit_test_batches={value}")
    assert (result.status, result.out) == (2, "")
    assert result.err == "digitnet: error: trainer.limit_test_batches=0: must be above 0\n"


def test_a_json_path_that_is_a_folder_is_refused_before_the_evaluation(run: Run, trained_run: Path) -> None:
    result = run(evaluate, "model=out", "json_path=out")
    assert (result.status, result.out) == (2, "")
    assert result.err == (
        "digitnet: error: json_path=out: must be the name of a file, not of a folder; - prints the figures\n"
    )


class WriteSentinel:
    """An object that creates the file `sentinel` when it is unpickled without restrictions."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        import os

        return os.system, ("touch sentinel",)


def test_a_malicious_checkpoint_is_rejected_and_executes_no_code(run: Run, tmp_path: Path) -> None:
    torch.save(
        {"digitnet_model": "MLP", "hyper_parameters": WriteSentinel(), "state_dict": {}}, tmp_path / "malicious.ckpt"
    )
    assert run(evaluate, "model=malicious.ckpt").status == 2
    assert not (tmp_path / "sentinel").exists()
    torch.load(tmp_path / "malicious.ckpt", weights_only=False)
    assert (tmp_path / "sentinel").exists(), (
        "The object does not execute code even without restrictions, so that this test proves nothing."
    )


def test_a_sweep_folder_is_scored_as_an_ensemble_of_its_runs(run: Run, trained_run: Path) -> None:
    """The runs are two copies of one run, so that the ensemble must score exactly what the single run scores."""
    for name in ("0", "1"):
        copytree(trained_run, trained_run.parent / "sweep" / name)
    single, ensemble = (json.loads(run(evaluate, f"model={path}", "json_path=-").out) for path in ("out", "sweep"))
    assert len(ensemble["checkpoints"]) == 2
    assert ensemble["test/acc"] == single["test/acc"]
    assert ensemble["test/loss"] == pytest.approx(single["test/loss"], abs=1e-6)


def test_a_tta_shift_out_of_range_is_rejected(run: Run, trained_run: Path) -> None:
    result = run(evaluate, "model=out", "tta=9")
    assert result.status == 2
    assert "tta=9: must be from 0 to 4 pixels" in result.err


def test_the_table_fits_on_one_screen(run: Run, trained_run: Path) -> None:
    lines = run(evaluate, "model=out").out.splitlines()
    assert len(lines) <= 32
    assert max(map(len, lines)) <= 80


def test_a_run_tells_what_its_accuracy_is_worth(run: Run, trained_run: Path) -> None:
    """The validation images of this run did not train it, so that the temperature and the sets come from them."""
    scores = json.loads(run(evaluate, "model=out", "json_path=-").out)
    low, high = scores["test/acc_interval"]
    assert low < scores["test/acc"] < high
    assert scores["temperature_from"] == "5,000 validation images"
    assert scores["test/loss_with_temperature"] < scores["test/loss"]
    assert scores["disputed_labels"] == 15
    assert scores["test/acc_undisputed"] == pytest.approx(scores["test/acc"], abs=0.0015)
    for level, result in scores["conformal"].items():
        assert result["coverage"] == pytest.approx(float(level.strip("%")) / 100, abs=0.03)
        assert 0.5 < result["mean_size"] <= 10
    assert scores["by_class"]["1"]["images"] == 1135
    assert scores["by_class"]["1"]["recall"] == pytest.approx(scores["test/acc/1"])
    assert len(scores["mistakes"]) == 10
    assert scores["unavailable"] is None


def test_the_temperature_comes_from_the_validation_images_and_from_no_test_image(run: Run, trained_run: Path) -> None:
    scores = json.loads(run(evaluate, "model=out", "json_path=-").out)
    model, (images, labels) = digitnet.load(trained_run), digitnet.MNISTDataModule().split("val")
    with torch.inference_mode():
        expected = fit_calibration(model(images), labels).temperature
    assert scores["temperature"] == expected


def test_brier_score_and_ece_are_those_of_a_plain_sum_and_of_torchmetrics(run: Run, trained_run: Path) -> None:
    scores = json.loads(run(evaluate, "model=out", "json_path=-").out)
    model, (images, labels) = digitnet.load(trained_run), digitnet.MNISTDataModule().split("test")
    with torch.inference_mode():
        probabilities = model(images).softmax(dim=1)
    errors = probabilities - torch.nn.functional.one_hot(labels, 10)
    assert scores["test/brier"] == pytest.approx(float(errors.square().sum() / len(labels)), abs=1e-6)
    ece = multiclass_calibration_error(probabilities, labels, num_classes=10, n_bins=15)
    assert scores["test/ece"] == pytest.approx(float(ece), abs=1e-5)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([f"model={OLD_CARD}"], "it is not recorded which images"),
        (["model=bundled:mlp"], "was trained on some of these validation images"),
        (["model=out", "data.val_size=0"], "there are no validation images"),
        (["model=out", "data.val_size=100"], "was trained on some of these validation images"),
        (["model=out", "data.split_seed=7"], "was trained on some of these validation images"),
    ],
)
def test_images_that_the_network_may_have_seen_calibrate_nothing(
    arguments: list[str], reason: str, run: Run, trained_run: Path
) -> None:
    result = run(evaluate, *arguments)
    assert result.status == 0, result.err
    assert reason in " ".join(result.out.split())
    assert "conformal set " not in result.out
    has_card = "bundled" in arguments[0] or str(OLD_CARD) in arguments[0]
    assert ("from the model's card" in " ".join(result.out.split())) == has_card
    assert ("T = 1.35" in result.out) == ("bundled:mlp" in arguments[0]), "the card has a temperature"


def test_an_ensemble_is_calibrated_on_images_that_none_of_its_networks_has_seen(run: Run, trained_run: Path) -> None:
    for name in ("0", "1"):
        copytree(trained_run, trained_run.parent / "sweep" / name)
    assert json.loads(run(evaluate, "model=sweep", "json_path=-").out)["conformal"]
    path = trained_run.parent / "sweep" / "1" / "checkpoints" / "best.ckpt"
    checkpoint = load_checkpoint(path)
    checkpoint["digitnet_dataset"]["arguments"]["val_size"] = 0
    torch.save(checkpoint, path)
    scores = json.loads(run(evaluate, "model=sweep", "json_path=-").out)
    assert scores["conformal"] is None
    assert "trained on some of these validation images" in scores["unavailable"]


def test_several_processes_say_that_only_one_tells_more(run: Run, trained_run: Path) -> None:
    result = spawn(
        "digitnet.evaluate", "model=out", "trainer.devices=2", "trainer.accelerator=cpu", folder=trained_run.parent
    )
    assert result.status == 0, result.err
    assert "computed in one process only: trainer.devices=1" in result.out
    assert "test/acc" in result.out
    refused = run(evaluate, "model=out", "trainer.devices=2", "trainer.accelerator=cpu", "robustness=true")
    assert (refused.status, refused.err.count("\n")) == (2, 1)
    assert "robustness=True: is scored in one process only" in refused.err


def test_plots_dir_writes_the_confusion_and_the_worst_mistakes(run: Run, trained_run: Path) -> None:
    assert run(evaluate, "model=out", "plots_dir=plots").status == 0
    names = {path.name for path in (trained_run.parent / "plots").iterdir()}
    assert names == {"samples.png", "confusion.png", "mistakes.png", "curves.png"}


@pytest.fixture(scope="module")
def small_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Arrays of a hundred images of three classes with names."""
    path = tmp_path_factory.mktemp("small") / "small.npz"
    images, labels = (tensor.numpy() for tensor in digitnet.MNISTDataModule().split("test"))
    chosen = np.flatnonzero(labels < 3)[:400]
    arrays = {"train_images": images[chosen[:300]], "train_labels": labels[chosen[:300]]}
    arrays |= {"test_images": images[chosen[300:]], "test_labels": labels[chosen[300:]]}
    np.savez(path, **arrays, classes=np.array(["zero", "one", "two"]))
    return path


@pytest.fixture
def small_run(small_data: Path, run: Run, tmp_path: Path) -> Path:
    """A run on these arrays, with sixty validation images."""
    data = ("data=arrays", f"data.root={small_data}", "data.val_size=60", "data.batch_size=32")
    assert run(train, "model=mlp", *data, "trainer.max_epochs=2", "hydra.run.dir=small").status == 0
    return tmp_path / "small"


def test_other_data_has_its_own_class_names_and_no_disputed_labels(run: Run, small_run: Path) -> None:
    result = run(evaluate, "model=small", "json_path=scores.json")
    assert result.status == 0, result.err
    assert "100 test images of arrays" in result.out
    assert "zero" in result.out
    assert "disputed" not in result.out
    scores = json.loads((small_run.parent / "scores.json").read_text())
    assert scores["test/acc_undisputed"] is None
    assert list(scores["by_class"]) == ["zero", "one", "two"]
    assert scores["conformal"]["99%"]["mean_size"] == 3, "60 images are too few for 99 %: every class is in every set"


def test_robustness_scores_fifteen_corruptions_and_draws_them(run: Run, small_run: Path) -> None:
    arguments = ("model=small", "robustness=true", "json_path=scores.json", "plots_dir=plots")
    result = run(evaluate, *arguments)
    assert result.status == 0, result.err
    assert "MNIST-C-like" in result.out
    scores = json.loads((small_run.parent / "scores.json").read_text())
    robustness = scores["robustness"]
    assert (robustness["kind"], robustness["seed"]) == ("MNIST-C-like", 1)
    accuracies = {name: each["test/acc"] for name, each in robustness["corruptions"].items()}
    assert list(accuracies) == ["identity", *CORRUPTIONS]
    assert accuracies["identity"] == scores["test/acc"]
    assert robustness["mean_acc"] == pytest.approx(sum(list(accuracies.values())[1:]) / 15)
    assert (small_run.parent / "plots" / "corruptions.png").read_bytes().startswith(PNG)
    model = digitnet.load(small_run)
    with np.load(model.dataset.arguments["root"]) as arrays:
        images, labels = corrupt(arrays["test_images"], "fog", 1), arrays["test_labels"]
    with torch.inference_mode():
        predicted = model(torch.from_numpy(images)).argmax(dim=1).numpy()
    assert accuracies["fog"] == (predicted == labels).mean()
    again, other = (
        json.loads(run(evaluate, "model=small", "robustness=true", f"seed={seed}", "json_path=-").out)["robustness"]
        for seed in (1, 2)
    )
    assert again == robustness
    assert other != robustness


def test_the_archive_of_mnist_c_is_used_if_it_is_named(run: Run, trained_run: Path) -> None:
    """An archive in the published layout, in which every corruption is an inverted image."""
    images, labels = (tensor.numpy() for tensor in digitnet.MNISTDataModule().split("test"))
    for name in CORRUPTIONS:
        folder = trained_run.parent / "mnist_c" / name
        folder.mkdir(parents=True)
        np.save(folder / "test_images.npy", 255 - images[..., None])
        np.save(folder / "test_labels.npy", labels)
    result = run(evaluate, "model=out", "robustness=mnist_c", "json_path=-")
    assert result.status == 0, result.err
    robustness = json.loads(result.out)["robustness"]
    assert (robustness["kind"], robustness["seed"]) == ("MNIST-C", None)
    model = digitnet.load(trained_run)
    with torch.inference_mode():
        expected = (model(torch.from_numpy(255 - images)).argmax(dim=1).numpy() == labels).mean()
    assert {each["test/acc"] for name, each in robustness["corruptions"].items() if name != "identity"} == {expected}
    (trained_run.parent / "mnist_c" / "fog" / "test_labels.npy").unlink()
    refused = run(evaluate, "model=out", "robustness=mnist_c")
    assert (refused.status, refused.err.count("\n")) == (2, 1)
    assert "robustness=mnist_c: fog/test_labels.npy is missing" in refused.err


def test_the_archive_of_mnist_c_is_refused_for_other_data(run: Run, small_run: Path) -> None:
    refused = run(evaluate, "model=small", "robustness=mnist_c")
    assert (refused.status, refused.err.count("\n")) == (2, 1)
    assert "robustness=true corrupts those of other data" in refused.err
