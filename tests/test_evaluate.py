"""The evaluation command: which models it accepts, what it prints and writes, and how it reports invalid input."""

import json
from pathlib import Path
from shutil import copytree

import pytest
import torch

from digitnet import evaluate
from tests.conftest import Run

PNG = b"\x89PNG"


def test_the_table_has_the_accuracy_of_every_digit(run: Run, trained_run: Path) -> None:
    result = run(evaluate, "model=out")
    assert result.status == 0, result.err
    assert "10,000 test images" in result.out
    assert "test/acc/9" in result.out
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
        ("", "run"),
    ],
)
def test_invalid_input_is_reported_in_one_line(override: str, message: str, run: Run, trained_run: Path) -> None:
    folder = trained_run.parent
    checkpoint = torch.load(trained_run / "checkpoints" / "best.ckpt", weights_only=True)
    (folder / "text.ckpt").write_text("hello")
    (folder / "empty.ckpt").write_bytes(b"")
    torch.save({"state_dict": {}}, folder / "foreign.ckpt")
    torch.save(checkpoint | {"digitnet_model": "Transformer"}, folder / "unknown_model.ckpt")
    torch.save(checkpoint | {"hyper_parameters": {"hidden": [3]}}, folder / "misfit.ckpt")
    (folder / "short.ckpt").write_bytes((trained_run / "checkpoints" / "best.ckpt").read_bytes()[:-500])
    result = run(evaluate, *override.split())
    assert result.status == 2
    assert result.err.count("\n") == 1, result.err
    assert message in result.err


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
