"""The report of finished runs: its groups and figures, its files, its page in a real browser, and invalid input."""

import csv
import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import binomtest

from digitnet import report, train
from digitnet.checkpoints import pretrained
from digitnet.data import mnist
from tests.conftest import Run, call, spawn
from tests.test_demo import CHROMIUM, FLAGS

SMALL = (
    "model=mlp",
    "data.train_size=1000",
    "data.batch_size=32",
    "data.val_size=500",
    "trainer.max_epochs=1",
    "trainer.logger=false",
)


@pytest.fixture(scope="session")
def shared_sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep of two learning rates with three seeds each, scored on the test images; tests must not change it."""
    folder = tmp_path_factory.mktemp("sweep")
    with pytest.MonkeyPatch.context() as patch:
        sweep = ("optimizer.lr=3e-3,1e-3", "seed=1,2,3", "test=true", "hydra.sweep.dir=sweep")
        assert call(train, "-m", *SMALL, *sweep, folder=folder, patch=patch) == 0
    return folder / "sweep"


@pytest.fixture
def sweep(shared_sweep: Path, tmp_path: Path) -> Path:
    """A copy of the sweep in the folder of the test."""
    return Path(shutil.copytree(shared_sweep, tmp_path / "sweep"))


def read_json(run: Run, folder: Path, *arguments: str) -> dict[str, Any]:
    """Report with --json and return the content of the file."""
    done = run(report, *arguments, "--json", "out.json", "--force")
    assert done.status == 0, done.err
    content: dict[str, Any] = json.loads((folder / "out.json").read_text())
    return content


def metrics(run_dir: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((run_dir / "metrics.json").read_text())
    return content


def arrays(path: Path) -> dict[str, Any]:
    with np.load(path, allow_pickle=False) as file:
        return dict(file)


def test_runs_that_differ_only_by_their_seed_are_one_group(run: Run, sweep: Path, tmp_path: Path) -> None:
    content = read_json(run, tmp_path, "sweep")
    assert content["split"] == "test"
    assert [(group["name"], group["seeds"]) for group in content["groups"]] == [
        ("optimizer.lr=0.003", [1, 2, 3]),
        ("optimizer.lr=0.001", [1, 2, 3]),
    ]


def test_the_runs_of_a_folder_are_grouped_by_their_settings_and_not_by_their_folders(
    run: Run, sweep: Path, tmp_path: Path
) -> None:
    for old, new in {"0": "cnn/t1", "1": "sweeps/s/0", "2": "sweeps/s/1", "3": "sweeps/s/2"}.items():
        shutil.copytree(sweep / old, tmp_path / "logs" / new)
    content = read_json(run, tmp_path, "logs")
    assert [(group["name"], group["seeds"]) for group in content["groups"]] == [
        ("optimizer.lr=0.003", [1, 2, 3]),
        ("optimizer.lr=0.001", [1]),
    ]


def test_the_figures_agree_with_metrics_json_to_the_last_digit(run: Run, sweep: Path, tmp_path: Path) -> None:
    group = read_json(run, tmp_path, "sweep")["groups"][0]
    recorded = [metrics(sweep / name) for name in "012"]
    assert group["accuracy"]["values"] == [each["test/acc"] for each in recorded]
    assert group["loss"]["values"] == [each["test/loss"] for each in recorded]
    assert group["accuracy"]["mean"] == pytest.approx(np.mean([each["test/acc"] for each in recorded]), abs=1e-15)
    assert group["nll"]["values"] == pytest.approx(group["loss"]["values"], rel=1e-5)


def test_the_predictions_on_file_are_those_of_the_checkpoint(sweep: Path) -> None:
    stored = arrays(sweep / "0" / "predictions.npz")
    images, labels = mnist.load_mnist("test")
    with torch.inference_mode():
        expected = pretrained.load(sweep / "0")(images).softmax(dim=1).numpy()
    assert np.abs(stored["test_probabilities"] - expected).max() < 1e-5
    wrong = np.flatnonzero(stored["test_probabilities"].argmax(axis=1) != labels.numpy())
    assert (stored["test_wrong"] == wrong).all()
    assert (stored["test_wrong_images"] == images.numpy()[wrong]).all()
    accuracy = (stored["val_probabilities"].argmax(axis=1) == stored["val_labels"]).mean()
    assert accuracy == metrics(sweep / "0")["val/acc"]


def test_two_groups_are_compared_by_paired_seeds_and_by_an_exact_mcnemar_test(
    run: Run, sweep: Path, tmp_path: Path
) -> None:
    (comparison,) = read_json(run, tmp_path, "sweep", "--baseline", "0.001")["comparisons"]
    assert (comparison["baseline"], comparison["paired_seeds"]) == ("optimizer.lr=0.001", [1, 2, 3])
    pairs = [metrics(sweep / a)["test/acc"] - metrics(sweep / b)["test/acc"] for a, b in ("03", "14", "25")]
    half = 4.302652729911275 * np.std(pairs, ddof=1) / 3**0.5
    assert comparison["accuracy_difference"] == pytest.approx(np.mean(pairs))
    assert comparison["interval_over_seeds"] == pytest.approx([np.mean(pairs) - half, np.mean(pairs) + half])
    labels = mnist.load_mnist("test")[1].numpy()
    right = []
    for names in ("345", "012"):
        files = [arrays(sweep / name / "predictions.npz") for name in names]
        right.append(sum(file["test_probabilities"].astype(float) for file in files).argmax(axis=1) == labels)
    only = [int((a & ~b).sum()) for a, b in (right, right[::-1])]
    test = comparison["mcnemar"]
    assert [test["only_first"], test["only_second"]] == only
    assert test["p_value"] == pytest.approx(binomtest(only[0], sum(only)).pvalue)
    assert [len(images) for images in comparison["correct_in_one_only"].values()] == only


def test_runs_without_test_figures_are_compared_on_validation_and_test_scores_them(
    run: Run, sweep: Path, tmp_path: Path
) -> None:
    run_dir = sweep / "0"
    recorded = metrics(run_dir)
    kept = {name: value for name, value in recorded.items() if not name.startswith("test/")}
    (run_dir / "metrics.json").write_text(json.dumps(kept))
    (run_dir / "predictions.npz").unlink()
    before = read_json(run, tmp_path, "sweep/0", "sweep/1")
    assert before["split"] == "val"
    assert before["groups"][0]["accuracy"]["values"][0] == recorded["val/acc"]
    assert "interval_over_seeds" in before["groups"][0]["accuracy"]
    assert before["groups"][0]["accuracy"]["interval_over_seeds"] is None
    assert "one or two runs give no interval over seeds" in " ".join(before["notes"])
    after = read_json(run, tmp_path, "sweep/0", "sweep/1", "--test")
    assert after["split"] == "test"
    assert after["groups"][0]["accuracy"]["values"][0] == recorded["test/acc"]


def test_a_repeated_seed_counts_once(run: Run, sweep: Path, tmp_path: Path) -> None:
    shutil.copytree(sweep / "0", tmp_path / "again")
    content = read_json(run, tmp_path, "sweep/0", "sweep/1", "again", "sweep/0")
    assert content["groups"][0]["seeds"] == [1, 2]
    assert any("again is left out: it repeats seed 1" in note for note in content["notes"])


def test_the_run_records_its_command_data_epochs_and_multiply_adds(sweep: Path) -> None:
    recorded = metrics(sweep / "0")
    assert recorded["command"].startswith("python -m digitnet.train model=mlp data.train_size=1000")
    assert "seed=1" in recorded["command"]
    assert "hydra" not in recorded["command"]
    assert recorded["multiply_adds"] == 784 * 128 + 128 * 64 + 64 * 10
    assert (recorded["data"], recorded["epochs"]) == ("mnist", 1)
    assert recorded["commit"] is None or len(recorded["commit"]) >= 40


def test_markdown_and_csv_have_every_group_and_every_run(run: Run, sweep: Path, tmp_path: Path) -> None:
    done = run(report, "sweep", "--markdown", "out.md", "--csv", "out.csv")
    assert done.status == 0, done.err
    text = (tmp_path / "out.md").read_text()
    assert "| `optimizer.lr=0.003` | 3 |" in text
    assert "McNemar, ensembles of 3 networks each" in text
    rows = list(csv.DictReader((tmp_path / "out.csv").read_text().splitlines()))
    assert [float(row["test/acc"]) for row in rows] == [metrics(sweep / name)["test/acc"] for name in "012345"]
    assert "optimizer.lr=0.003" in done.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("nothing", "no finished run there"),
        ("empty", "no finished run there"),
        ("unfinished", "the run is not finished"),
        ("sweep other", "was trained on fashion_mnist"),
        ("sweep -o there.html", "--output=there.html: exists"),
        ("sweep --json /proc/x.json", "cannot write there"),
        ("sweep --json same --csv same", "given for two outputs"),
        ("sweep --baseline lr=7", "no such group"),
        ("sweep --baseline lr", "several groups match"),
        ("foreign", "made by another checkpoint than best.ckpt"),
        ("old", "another version of digitnet"),
        ("damaged", "not intact predictions"),
        ("broken", "metrics.json: damaged"),
        ("", "arguments are required"),
    ],
)
def test_invalid_input_is_reported_in_one_line(
    arguments: str, message: str, run: Run, sweep: Path, tmp_path: Path
) -> None:
    names = ("unfinished", "other", "foreign", "old", "damaged", "broken")
    folders = {name: Path(shutil.copytree(sweep / "0", tmp_path / name)) for name in names}
    (tmp_path / "empty").mkdir()
    (tmp_path / "there.html").write_text("mine")
    (folders["unfinished"] / "metrics.json").unlink()
    (folders["other"] / "metrics.json").write_text(json.dumps(metrics(sweep / "0") | {"data": "fashion_mnist"}))
    shutil.copy(sweep / "1" / "predictions.npz", folders["foreign"])
    content = arrays(sweep / "0" / "predictions.npz") | {"metadata": np.array('{"format": 99}')}
    np.savez(folders["old"] / "predictions.npz", **content)
    intact = (folders["damaged"] / "predictions.npz").read_bytes()
    (folders["damaged"] / "predictions.npz").write_bytes(intact[:-2000])
    (folders["broken"] / "metrics.json").write_text("{")
    before = sorted(tmp_path.rglob("*"))
    done = run(report, *arguments.split())
    assert done.status == 2, done.out
    assert message in done.err
    assert done.err.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before
    assert (tmp_path / "there.html").read_text() == "mine"


def test_names_from_files_are_text_in_the_page(run: Run, sweep: Path, tmp_path: Path) -> None:
    record = sweep / "0" / ".hydra" / "overrides.yaml"
    record.write_text("- model=<script>alert(1)</script>\n")
    assert run(report, "sweep/0", "-o", "out.html").status == 0
    page = (tmp_path / "out.html").read_text()
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert" in page


def test_the_axes_of_the_page_name_the_classes(run: Run, sweep: Path, tmp_path: Path) -> None:
    names = ["T-shirt/top", "Ankle boot", *(f"class {number}" for number in range(8))]
    for run_dir in sweep.glob("[0-5]"):
        (run_dir / "metrics.json").write_text(json.dumps(metrics(run_dir) | {"classes": names}))
    done = run(report, "sweep", "-o", "out.html")
    assert done.status == 0, done.err
    page = (tmp_path / "out.html").read_text()
    assert page.count(">T-shirt/top</text>") >= 4  # beside and above two confusion matrices


def test_a_report_of_predictions_on_file_needs_no_torch(sweep: Path, tmp_path: Path) -> None:
    show = "print('torch' in sys.modules, 'lightning' in sys.modules)"
    (tmp_path / "check.py").write_text(f"import sys\nfrom digitnet import report\nreport.main()\n{show}")
    done = spawn("check", "sweep", "-o", "out.html", folder=tmp_path)
    assert done.status == 0, done.err
    assert done.out.splitlines()[-1] == "False False"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("neither chromium nor google-chrome is installed")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.mark.parametrize("width", [375, 1280])
def test_the_page_works_offline_by_keyboard_and_fits_the_screen(
    width: int, browser: Any, run: Run, sweep: Path, tmp_path: Path
) -> None:
    assert run(report, "sweep", "-o", "out.html").status == 0
    page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme="dark")
    requests: list[str] = []
    errors: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto((tmp_path / "out.html").as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    names = page.locator("table.sortable tbody th")
    before = names.all_inner_texts()
    button = page.locator("table.sortable thead button", has_text="Accuracy")
    button.focus()
    page.keyboard.press("Enter")
    assert page.locator("th[aria-sort=descending]").count() == 1
    page.keyboard.press("Enter")
    assert names.all_inner_texts() == before[::-1]
    assert page.locator("svg").count() >= 9
    shown = page.locator(".big").first.inner_text()
    assert shown.startswith(f"{100 * np.mean([metrics(sweep / name)['test/acc'] for name in '012']):.2f}")
    assert page.locator("img").evaluate_all("images => images.every(image => image.naturalWidth === 28)")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 22, 26)"
    assert not errors
    assert [url for url in requests if not url.startswith(("file:", "data:"))] == []
    page.close()


@pytest.mark.slow
def test_twenty_runs_are_reported_in_ten_seconds(sweep: Path, tmp_path: Path) -> None:
    for number in range(20):
        run_dir = Path(shutil.copytree(sweep / str(number % 6), tmp_path / "many" / str(number)))
        (run_dir / "metrics.json").write_text(json.dumps(metrics(run_dir) | {"seed": number}))
    start = time.perf_counter()
    done = spawn("digitnet.report", "many", "-o", "out.html", folder=tmp_path)
    seconds = time.perf_counter() - start
    assert done.status == 0, done.err
    assert seconds < 10


def test_evaluate_names_the_settings_that_a_sweep_mixes(run: Run, sweep: Path) -> None:
    from digitnet import evaluate

    done = run(evaluate, "model=sweep")
    assert done.status == 0
    assert "differ by more than their seed (3 of optimizer.lr=0.003, 3 of optimizer.lr=0.001)" in done.err
    for name in "345":
        shutil.rmtree(sweep / name)
    assert run(evaluate, "model=sweep").err == ""


def test_an_ensemble_of_runs_with_damaged_figures_is_scored_and_one_with_damaged_settings_is_refused_at_once(
    run: Run, sweep: Path
) -> None:
    from digitnet import evaluate

    for name in ("predictions.npz", "metrics.csv", "metrics.json"):
        (sweep / "0" / name).write_text("{")
    done = run(evaluate, "model=sweep")
    assert done.status == 0, done.err
    assert "(3 of optimizer.lr=0.003, 3 of optimizer.lr=0.001)" in done.err
    assert "10,000 test images" in done.out
    (sweep / "0" / ".hydra" / "config.yaml").write_text("{")
    refused = run(evaluate, "model=sweep")
    assert (refused.status, refused.out, refused.err.count("\n")) == (2, "", 1)
    assert "sweep/0/.hydra/config.yaml: missing or damaged" in refused.err
