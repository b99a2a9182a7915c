"""The training command: the files of a run, reproducibility, resuming, sweeps, and the report of invalid input."""

import json
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from digitnet import evaluate, train
from digitnet.training import run_dir
from digitnet.training.callbacks import EpochLog, run_checkpoint
from tests.conftest import FAST, SLIM, Run, spawn
from tests.faults.child import ForkServer


def load_weights(checkpoint: Path) -> dict[str, torch.Tensor]:
    return dict(torch.load(checkpoint, weights_only=True)["state_dict"])


def same_weights(first: Path, second: Path) -> bool:
    one, other = load_weights(first), load_weights(second)
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def relative_paths(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_a_run_writes_its_files_and_prints_the_folder(run: Run, tmp_path: Path) -> None:
    result = run(train, *FAST, "hydra.run.dir=out")
    assert result.status == 0, result.err
    out = tmp_path / "out"
    names = {"metrics.json", "metrics.csv", "checkpoints/best.ckpt", "checkpoints/last.ckpt", ".hydra/config.yaml"}
    assert names <= relative_paths(out)
    assert any("tfevents" in name for name in relative_paths(out))
    assert not [name for name in relative_paths(out) if ".tmp" in name or name.endswith(".log")]
    assert "tensorboard --logdir out\n" in result.out
    assert "epoch 1/2" in result.out
    assert "net.1" in result.out, "The command must print the table of layers."


def test_metrics_json_holds_the_final_metrics_and_the_environment(run: Run, tmp_path: Path) -> None:
    run(train, *FAST, "hydra.run.dir=out", "seed=7")
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    rows = run_dir.read_metrics_csv(tmp_path / "out" / "metrics.csv")
    assert {"val/acc", "val/loss", "test/acc", "test/loss", "test/acc/9", "test/seconds"} <= metrics.keys()
    assert (metrics["model"], metrics["parameters"], metrics["seed"]) == ("MLP", 109_386, 7)
    assert metrics["val/acc"] == max(row["val/acc"] for row in rows)
    assert 0 < metrics["train/seconds"] < 60
    assert metrics["versions"]["torch"] == torch.__version__.partition("+")[0]
    assert [row["epoch"] for row in rows] == [0, 1]


def test_evaluate_reproduces_the_test_metrics_of_the_run_exactly(run: Run, tmp_path: Path) -> None:
    run(train, *SLIM, "debug=fast", "trainer.limit_test_batches=1.0", "hydra.run.dir=out")
    before = relative_paths(tmp_path)
    result = run(evaluate, "model=out", "json_path=-")
    assert result.status == 0, result.err
    trained, evaluated = json.loads((tmp_path / "out" / "metrics.json").read_text()), json.loads(result.out)
    names = [name for name in trained if name.startswith("test/") and name != "test/seconds"]
    assert len(names) == 12
    assert {name: trained[name] for name in names} == {name: evaluated[name] for name in names}
    assert relative_paths(tmp_path) == before, "Evaluate must write no files."


def test_best_is_the_epoch_with_the_highest_validation_accuracy(run: Run, tmp_path: Path) -> None:
    """A learning rate that is much too high and only rises makes the later epochs worse."""
    options = ("trainer.max_epochs=6", "optimizer.lr=1", "schedule.warmup_fraction=0.99")
    run(train, *FAST, *options, "hydra.run.dir=out")
    rows = run_dir.read_metrics_csv(tmp_path / "out" / "metrics.csv")
    best = max(rows, key=lambda row: row["val/acc"])
    saved = torch.load(tmp_path / "out" / "checkpoints" / "best.ckpt", weights_only=True)
    assert best["epoch"] < 5, "The last epoch is the best, so that this test proves nothing."
    assert saved["epoch"] == best["epoch"]
    last = torch.load(tmp_path / "out" / "checkpoints" / "last.ckpt", weights_only=True)
    assert last["epoch"] == 5


def test_the_earlier_of_two_equally_accurate_epochs_is_best(tmp_path: Path) -> None:
    epoch_log = EpochLog()
    epoch_log.history = [{"epoch": 0, "val/acc": 0.5}, {"epoch": 1, "val/acc": 0.9}, {"epoch": 2, "val/acc": 0.9}]
    assert epoch_log.best_epoch["epoch"] == 1


def test_only_a_validated_epoch_can_be_best(run: Run, tmp_path: Path) -> None:
    run(train, *FAST, "trainer.max_epochs=3", "trainer.check_val_every_n_epoch=2", "hydra.run.dir=out")
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["epoch"] == 2


def test_without_validation_images_the_last_epoch_is_best_and_no_val_metrics_are_written(
    run: Run, tmp_path: Path
) -> None:
    result = run(train, *FAST, "data.val_size=0", "hydra.run.dir=out")
    assert result.status == 0, result.err
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert "test/acc" in metrics
    assert not [name for name in metrics if name.startswith("val/")]
    checkpoints = tmp_path / "out" / "checkpoints"
    assert (checkpoints / "best.ckpt").read_bytes() == (checkpoints / "last.ckpt").read_bytes()


def test_with_test_false_the_test_images_are_not_scored(run: Run, tmp_path: Path) -> None:
    run(train, *FAST, "test=false", "hydra.run.dir=out")
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert not [name for name in metrics if name.startswith("test/")]


def test_a_sweep_scores_the_test_images_only_with_test_true(run: Run, tmp_path: Path) -> None:
    result = run(train, "-m", *FAST, "seed=1,2", "hydra.sweep.dir=sweep")
    assert result.status == 0, result.err
    metrics = [json.loads((tmp_path / "sweep" / str(job) / "metrics.json").read_text()) for job in (0, 1)]
    assert [job["seed"] for job in metrics] == [1, 2]
    assert not [name for job in metrics for name in job if name.startswith("test/")]
    run(train, "-m", *FAST, "seed=1", "test=true", "hydra.sweep.dir=tested")
    assert "test/acc" in json.loads((tmp_path / "tested" / "0" / "metrics.json").read_text())


def test_a_job_of_a_sweep_returns_its_validation_accuracy(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    returned: list[float | None] = []
    run_job = train.run_job
    monkeypatch.setattr(train, "run_job", lambda config: returned.append(run_job(config)) or returned[-1])
    run(train, "-m", *FAST, "optimizer.lr=1e-3,1e-2", "hydra.sweep.dir=sweep")
    stored = [json.loads((tmp_path / "sweep" / str(job) / "metrics.json").read_text())["val/acc"] for job in (0, 1)]
    assert returned == stored


def test_equal_seeds_give_equal_weights_and_different_seeds_different_ones(run: Run, tmp_path: Path) -> None:
    options = (*SLIM, "debug=fast", "model.dropout=0.3", "test=false")
    for folder, seed in {"first": 1, "repeated": 1, "other": 2}.items():
        run(train, *options, f"seed={seed}", f"hydra.run.dir={folder}")
    last = {name: tmp_path / name / "checkpoints" / "last.ckpt" for name in ("first", "repeated", "other")}
    assert same_weights(last["first"], last["repeated"])
    assert not same_weights(last["first"], last["other"])


def test_a_run_interrupted_between_epochs_resumes_to_the_same_weights_and_metrics(run: Run, tmp_path: Path) -> None:
    schedule = ("debug=fast", "trainer.max_epochs=4", "trainer.limit_train_batches=6", "test=false")
    options = (*SLIM, "model.dropout=0.3", *schedule)
    run(train, *options, "hydra.run.dir=reference")
    power_cut = "trainer.callbacks=[{_target_: tests.test_train.PowerCut}]"
    with pytest.raises(RuntimeError, match="power cut"):
        run(train, *options, power_cut, "hydra.run.dir=interrupted")
    assert len(run_dir.read_metrics_csv(tmp_path / "interrupted" / "metrics.csv")) == 2
    halfway = load_weights(tmp_path / "interrupted" / "checkpoints" / "last.ckpt")
    result = run(train, "resume=interrupted", "trainer.callbacks=null")
    assert result.status == 0, result.err
    assert same_weights(
        tmp_path / "reference" / "checkpoints" / "last.ckpt", tmp_path / "interrupted" / "checkpoints" / "last.ckpt"
    )
    curve = EventAccumulator(str(tmp_path / "interrupted")).Reload()
    assert [point.step for point in curve.Scalars("train/lr")] == list(range(1, 25)), (
        "The curve must have one point per step."
    )
    end = load_weights(tmp_path / "interrupted" / "checkpoints" / "last.ckpt")
    assert not any(torch.equal(halfway[name], end[name]) for name in end), (
        "The resumed run has not changed the weights, so that this test proves nothing."
    )
    reference, interrupted = (
        run_dir.read_metrics_csv(tmp_path / name / "metrics.csv") for name in ("reference", "interrupted")
    )
    assert [row | {"seconds": 0} for row in reference] == [row | {"seconds": 0} for row in interrupted]


def test_resume_null_starts_a_new_run(run: Run, tmp_path: Path) -> None:
    """`--help` shows null as the default."""
    assert run(train, *FAST, "resume=null", "test=false", "hydra.run.dir=out").status == 0
    assert (tmp_path / "out" / "checkpoints" / "best.ckpt").exists()


def test_a_run_without_a_checkpoint_resumes_from_the_beginning(run: Run, tmp_path: Path) -> None:
    run(train, *FAST, "seed=5", "hydra.run.dir=out")
    for file in (tmp_path / "out" / "checkpoints").iterdir():
        file.unlink()
    assert run(train, "resume=out").status == 0
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["seed"] == 5


class PowerCut(__import__("lightning").Callback):
    """Raise an exception at the start of the third epoch, which ends the run without any clean-up."""

    def on_train_epoch_start(self, trainer: object, pl_module: object) -> None:
        if trainer.current_epoch == 2:  # type: ignore[attr-defined]
            raise RuntimeError("power cut")


def test_a_new_run_or_sweep_in_a_used_folder_is_rejected_and_overwrites_nothing(trained_run: Path, run: Run) -> None:
    before = {name: (trained_run / name).read_bytes() for name in ("metrics.json", "checkpoints/last.ckpt")}
    result = run(train, *FAST, "hydra.run.dir=out")
    assert result.status == 2
    assert "resume=out" in result.err
    run(train, "-m", *FAST, "seed=1,2", "hydra.sweep.dir=sweep")
    assert run(train, "-m", *FAST, "seed=3,4", "hydra.sweep.dir=sweep").status == 2
    assert before == {name: (trained_run / name).read_bytes() for name in before}


def test_a_run_writes_to_the_folder_that_was_checked_even_if_its_name_depends_on_the_time(
    run: Run, tmp_path: Path
) -> None:
    assert run(train, *FAST, "hydra.run.dir=out/${now:%f}").status == 0
    (run_folder,) = (tmp_path / "out").iterdir()
    assert (run_folder / "metrics.json").exists()


def test_printing_the_config_writes_no_files(run: Run, tmp_path: Path) -> None:
    result = run(train, "--cfg", "job", "optimizer.lr=0.25")
    assert result.status == 0, result.err
    assert "lr: 0.25" in result.out
    assert relative_paths(tmp_path) == set()


@pytest.mark.parametrize("model", ["mlp", pytest.param("cnn", marks=pytest.mark.slow)])
def test_debug_overfit_reaches_full_accuracy_on_one_batch(model: str, run: Run, tmp_path: Path) -> None:
    result = run(train, f"model={model}", "debug=overfit", "hydra.run.dir=out")
    assert result.status == 0, result.err
    last = run_dir.read_metrics_csv(tmp_path / "out" / "metrics.csv")[-1]
    assert last["train/acc"] == 1
    assert last["train/loss"] < 0.01


def test_debug_profile_writes_a_report(run: Run, tmp_path: Path) -> None:
    options = ("model=mlp", "debug=profile", "trainer.limit_train_batches=3", "trainer.limit_val_batches=1")
    assert run(train, *options, "trainer.log_every_n_steps=1", "test=false", "hydra.run.dir=out").status == 0
    assert "run_training_batch" in (tmp_path / "out" / "fit-profile.txt").read_text()


def test_a_run_interrupted_between_the_writes_of_best_and_last_resumes_to_the_same_weights(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ("model=mlp", "debug=fast", "trainer.max_epochs=3", "test=false")
    run(train, *options, "hydra.run.dir=reference")
    atomic_write = run_checkpoint.atomic_write

    def interrupt(path: Path, content: bytes) -> None:
        if (
            path.name == "last.ckpt"
            and torch.load(tmp_path / "interrupted/checkpoints/best.ckpt", weights_only=True)["epoch"]
        ):
            raise RuntimeError("power cut")
        atomic_write(path, content)

    monkeypatch.setattr(run_checkpoint, "atomic_write", interrupt)
    with pytest.raises(RuntimeError, match="power cut"):
        run(train, *options, "hydra.run.dir=interrupted")
    monkeypatch.setattr(run_checkpoint, "atomic_write", atomic_write)
    assert run(train, "resume=interrupted").status == 0
    for name in ("best.ckpt", "last.ckpt"):
        assert same_weights(
            tmp_path / "reference" / "checkpoints" / name, tmp_path / "interrupted" / "checkpoints" / name
        )


def test_arguments_of_the_trainer_can_be_set_without_a_plus_sign(run: Run) -> None:
    options = ("trainer.precision=bf16-mixed", "trainer.gradient_clip_val=0.5", "trainer.accelerator=cpu")
    assert run(train, *FAST, *options, "hydra.run.dir=out").status == 0


def test_a_custom_model_can_be_trained_with_a_config_in_another_folder(run: Run, tmp_path: Path) -> None:
    (tmp_path / "custom" / "model").mkdir(parents=True)
    (tmp_path / "custom" / "model" / "linear.yaml").write_text(
        "# @package _global_\nmodel:\n  _target_: tests.models.test_classifier.Linear\ntrainer:\n  max_epochs: 2\n"
    )
    result = run(train, "--config-dir=custom", "model=linear", "debug=fast", "model.bias=false", "hydra.run.dir=out")
    assert result.status == 0, result.err
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["parameters"] == 7840


# Invalid overrides, each with a text that the error message must contain.
INVALID_OVERRIDES = {
    "model=foo": "model=foo",
    "modle=cnn": "did you mean model",
    "experiment=baseline_cn": "did you mean baseline_cnn",
    "optimzer.lr=1": "did you mean optimizer.lr",
    "model.widht=3": "model.widht: no such key",
    "+model.extra=1": "model.extra: no such key",
    "trainer.max_epoch=3": "did you mean trainer.max_epochs",
    "trainer.max_epochs=ten": "trainer.max_epochs=ten: must be ",
    "trainer.precision=17": "trainer.precision=17",
    "trainer.accelerator=gpu": "this machine has no GPU; use trainer.accelerator=cpu",
    "trainer.devices=0": "trainer",
    "optimizer.lr=abc": "optimizer.lr=abc: must be a number",
    "optimizer.lr=null": "optimizer.lr=null: must be a number",
    "optimizer.lr=0": "optimizer.lr=0: must be above 0",
    "optimizer.name=lion": "optimizer.name=lion",
    "schedule.warmup_fraction=2": "schedule.warmup_fraction=2",
    "data.batch_size=0": "data.batch_size=0: must be at least 1",
    "data.batch_size=1.5": "data.batch_size=1.5: must be a whole number",
    "data.val_size=60000": "data.val_size=60000",
    "data.root=/no/such/place": "train-images-idx3-ubyte",
    "data.augmentation.rotation=-3": "augmentation.rotation=-3",
    "model.dropout=1.5": "model.dropout=1.5: must be at least 0 and below 1",
    "model.channels=[16,0]": "model.channels",
    "model._target_=no.such.Net": "no.such.Net",
    "seed=-1": "seed=-1",
    "a=[1": "'[1'",
    "test=flase": "test=flase: must be true, false or null",
    "trainer.max_epochs=0": "must be at least 1",
    "resume=nothing": "resume=nothing",
    "hydra.run.dir=file/out": "cannot write there",
    "hydra.run.dir=/proc/out": "/proc",
    "hydra.runn.dir=x": "hydra.runn",
}


@pytest.mark.parametrize("override", INVALID_OVERRIDES)
def test_an_invalid_override_is_reported_in_one_line_and_no_file_is_written(
    override: str, run: Run, tmp_path: Path
) -> None:
    if torch.cuda.is_available() and "gpu" in override:
        pytest.skip("This machine has a GPU.")
    (tmp_path / "file").write_text("")
    result = run(train, override)
    assert result.status == 2
    assert result.out == ""
    assert result.err.count("\n") == 1, result.err
    assert result.err.startswith("digitnet: error: ")
    assert INVALID_OVERRIDES[override] in result.err
    assert "Traceback" not in result.err
    assert relative_paths(tmp_path) == {"file"}


def test_a_damaged_copy_of_the_data_is_rejected_before_any_file_is_written(run: Run, tmp_path: Path) -> None:
    import gzip

    from digitnet.data import mnist

    raw = tmp_path / "data" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for file in (Path(mnist.__file__).parent / "files").glob("*.gz"):
        (raw / file.stem).write_bytes(gzip.decompress(file.read_bytes()))
    before = relative_paths(tmp_path)
    content = bytearray((raw / "t10k-labels-idx1-ubyte").read_bytes())
    content[5000] ^= 1
    (raw / "t10k-labels-idx1-ubyte").write_bytes(content)
    result = run(train, f"data.root={tmp_path / 'data'}", *FAST)
    assert result.status == 2
    assert "t10k-labels-idx1-ubyte is damaged" in result.err
    assert relative_paths(tmp_path) == before


def test_a_truncated_checkpoint_is_not_resumed(trained_run: Path, run: Run) -> None:
    last = trained_run / "checkpoints" / "last.ckpt"
    last.write_bytes(last.read_bytes()[:5000])
    result = run(train, "resume=out", "trainer.max_epochs=3")
    assert result.status == 2
    assert "last.ckpt: not an intact checkpoint" in result.err


def test_a_glob_pattern_sweeps_over_experiments(run: Run, tmp_path: Path) -> None:
    result = run(train, "-m", "experiment=glob(baseline_cnn_d*)", "debug=fast", "hydra.sweep.dir=sweep")
    assert result.status == 0, result.err
    assert len(list((tmp_path / "sweep").glob("*/metrics.json"))) == 2


def test_all_jobs_of_a_sweep_are_validated_before_the_first_one_starts(run: Run, tmp_path: Path) -> None:
    result = run(train, "-m", *FAST, "optimizer.lr=1e-3,abc")
    assert result.status == 2
    assert "optimizer.lr=abc" in result.err
    assert relative_paths(tmp_path) == set()


def test_hydra_full_error_shows_the_traceback(run: Run) -> None:
    result = run(train, "data.batch_size=0", HYDRA_FULL_ERROR="1")
    assert result.status == 2
    assert "Traceback" in result.err


def test_help_lists_the_options_in_a_real_process_and_writes_no_files(tmp_path: Path) -> None:
    result = spawn("digitnet.train", "--help", folder=tmp_path)
    assert result.status == 0
    assert "model: cnn, mlp" in result.out
    assert relative_paths(tmp_path) == set()


def test_an_exception_during_training_ends_with_status_1(fork_server: ForkServer, tmp_path: Path) -> None:
    power_cut = "trainer.callbacks=[{_target_: tests.test_train.PowerCut}]"
    result = fork_server.run("train", *FAST, "trainer.max_epochs=4", power_cut, folder=tmp_path)
    assert result.status == 1
    assert "power cut" in result.err


def test_without_validation_of_the_command_line_an_invalid_override_creates_a_folder(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("digitnet.cli.hydra_app.validate_command_line", lambda arguments, *others: (arguments, []))
    run(train, "data.batch_size=0", "hydra.run.dir=out")
    assert (tmp_path / "out").is_dir()
