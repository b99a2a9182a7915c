"""The training command: what a run leaves, that it can be had again, and how it answers wrong input."""

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


def weights(checkpoint: Path) -> dict[str, torch.Tensor]:
    return dict(torch.load(checkpoint, weights_only=True)["state_dict"])


def same(first: Path, second: Path) -> bool:
    one, other = weights(first), weights(second)
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_a_run_leaves_its_folder_and_says_where(run: Run, tmp_path: Path) -> None:
    result = run(train, *FAST, "hydra.run.dir=out")
    assert result.status == 0, result.err
    out = tmp_path / "out"
    names = {"metrics.json", "metrics.csv", "checkpoints/best.ckpt", "checkpoints/last.ckpt", ".hydra/config.yaml"}
    assert names <= files(out)
    assert any("tfevents" in name for name in files(out))
    assert not [name for name in files(out) if ".tmp" in name or name.endswith(".log")]
    assert "tensorboard --logdir out\n" in result.out
    assert "epoch 1/2" in result.out
    assert "net.1" in result.out, "the layer table of the architecture"


def test_metrics_json_holds_the_outcome(run: Run, tmp_path: Path) -> None:
    run(train, *FAST, "hydra.run.dir=out", "seed=7")
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    rows = run_dir.read_metrics_csv(tmp_path / "out" / "metrics.csv")
    assert {"val/acc", "val/loss", "test/acc", "test/loss", "test/acc/9", "test/seconds"} <= metrics.keys()
    assert (metrics["model"], metrics["parameters"], metrics["seed"]) == ("MLP", 109_386, 7)
    assert metrics["val/acc"] == max(row["val/acc"] for row in rows)
    assert 0 < metrics["train/seconds"] < 60
    assert metrics["versions"]["torch"] == torch.__version__.partition("+")[0]
    assert [row["epoch"] for row in rows] == [0, 1]


def test_evaluate_gives_the_same_figures_to_the_last_digit(run: Run, tmp_path: Path) -> None:
    run(train, *SLIM, "debug=fast", "trainer.limit_test_batches=1.0", "hydra.run.dir=out")
    before = files(tmp_path)
    result = run(evaluate, "model=out", "json_path=-")
    assert result.status == 0, result.err
    trained, evaluated = json.loads((tmp_path / "out" / "metrics.json").read_text()), json.loads(result.out)
    figures = [name for name in trained if name.startswith("test/") and name != "test/seconds"]
    assert len(figures) == 12
    assert {name: trained[name] for name in figures} == {name: evaluated[name] for name in figures}
    assert files(tmp_path) == before, "evaluate leaves nothing behind"


def test_best_is_the_epoch_with_the_highest_validation_accuracy(run: Run, tmp_path: Path) -> None:
    """A rate that only rises, and far too high, makes the later epochs worse."""
    options = ("trainer.max_epochs=6", "optimizer.lr=1", "schedule.warmup_fraction=0.99")
    run(train, *FAST, *options, "hydra.run.dir=out")
    rows = run_dir.read_metrics_csv(tmp_path / "out" / "metrics.csv")
    best = max(rows, key=lambda row: row["val/acc"])
    saved = torch.load(tmp_path / "out" / "checkpoints" / "best.ckpt", weights_only=True)
    assert best["epoch"] < 5, "or this test shows nothing"
    assert saved["epoch"] == best["epoch"]
    last = torch.load(tmp_path / "out" / "checkpoints" / "last.ckpt", weights_only=True)
    assert last["epoch"] == 5


def test_of_equal_epochs_the_earlier_is_best(tmp_path: Path) -> None:
    epoch_log = EpochLog()
    epoch_log.history = [{"epoch": 0, "val/acc": 0.5}, {"epoch": 1, "val/acc": 0.9}, {"epoch": 2, "val/acc": 0.9}]
    assert epoch_log.best_epoch["epoch"] == 1


def test_an_epoch_that_was_not_validated_is_not_best(run: Run, tmp_path: Path) -> None:
    run(train, *FAST, "trainer.max_epochs=3", "trainer.check_val_every_n_epoch=2", "hydra.run.dir=out")
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["epoch"] == 2


def test_without_validation_the_last_epoch_is_best_and_there_are_no_val_keys(run: Run, tmp_path: Path) -> None:
    result = run(train, *FAST, "data.val_size=0", "hydra.run.dir=out")
    assert result.status == 0, result.err
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert "test/acc" in metrics
    assert not [name for name in metrics if name.startswith("val/")]
    checkpoints = tmp_path / "out" / "checkpoints"
    assert (checkpoints / "best.ckpt").read_bytes() == (checkpoints / "last.ckpt").read_bytes()


def test_the_test_set_can_be_left_alone(run: Run, tmp_path: Path) -> None:
    run(train, *FAST, "test=false", "hydra.run.dir=out")
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert not [name for name in metrics if name.startswith("test/")]


def test_a_sweep_leaves_the_test_set_alone_unless_asked(run: Run, tmp_path: Path) -> None:
    result = run(train, "-m", *FAST, "seed=1,2", "hydra.sweep.dir=sweep")
    assert result.status == 0, result.err
    outcomes = [json.loads((tmp_path / "sweep" / str(job) / "metrics.json").read_text()) for job in (0, 1)]
    assert [outcome["seed"] for outcome in outcomes] == [1, 2]
    assert not [name for outcome in outcomes for name in outcome if name.startswith("test/")]
    run(train, "-m", *FAST, "seed=1", "test=true", "hydra.sweep.dir=tested")
    assert "test/acc" in json.loads((tmp_path / "tested" / "0" / "metrics.json").read_text())


def test_a_sweep_is_told_the_validation_accuracy(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    returned: list[float | None] = []
    task = train.run_job
    monkeypatch.setattr(train, "run_job", lambda config: returned.append(task(config)) or returned[-1])
    run(train, "-m", *FAST, "optimizer.lr=1e-3,1e-2", "hydra.sweep.dir=sweep")
    stored = [json.loads((tmp_path / "sweep" / str(job) / "metrics.json").read_text())["val/acc"] for job in (0, 1)]
    assert returned == stored


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(run: Run, tmp_path: Path) -> None:
    options = (*SLIM, "debug=fast", "model.dropout=0.3", "test=false")
    for folder, seed in {"one": 1, "again": 1, "other": 2}.items():
        run(train, *options, f"seed={seed}", f"hydra.run.dir={folder}")
    last = {name: tmp_path / name / "checkpoints" / "last.ckpt" for name in ("one", "again", "other")}
    assert same(last["one"], last["again"])
    assert not same(last["one"], last["other"])


def test_a_run_cut_off_between_epochs_goes_on_as_if_it_had_not_been(run: Run, tmp_path: Path) -> None:
    plan = ("debug=fast", "trainer.max_epochs=4", "trainer.limit_train_batches=6", "test=false")
    options = (*SLIM, "model.dropout=0.3", *plan)
    run(train, *options, "hydra.run.dir=whole")
    stop = "trainer.callbacks=[{_target_: tests.test_train.Stop}]"
    with pytest.raises(RuntimeError, match="power cut"):
        run(train, *options, stop, "hydra.run.dir=cut")
    assert len(run_dir.read_metrics_csv(tmp_path / "cut" / "metrics.csv")) == 2
    halfway = weights(tmp_path / "cut" / "checkpoints" / "last.ckpt")
    result = run(train, "resume=cut", "trainer.callbacks=null")
    assert result.status == 0, result.err
    assert same(tmp_path / "whole" / "checkpoints" / "last.ckpt", tmp_path / "cut" / "checkpoints" / "last.ckpt")
    curve = EventAccumulator(str(tmp_path / "cut")).Reload()
    assert [point.step for point in curve.Scalars("lr")] == list(range(1, 25)), "each step once in one curve"
    end = weights(tmp_path / "cut" / "checkpoints" / "last.ckpt")
    assert not any(torch.equal(halfway[name], end[name]) for name in end), "or nothing was left to do"
    whole, cut = (run_dir.read_metrics_csv(tmp_path / name / "metrics.csv") for name in ("whole", "cut"))
    assert [row | {"seconds": 0} for row in whole] == [row | {"seconds": 0} for row in cut]


def test_resume_of_null_is_a_new_run(run: Run, tmp_path: Path) -> None:
    """As `--help` prints the default."""
    assert run(train, *FAST, "resume=null", "test=false", "hydra.run.dir=out").status == 0
    assert (tmp_path / "out" / "checkpoints" / "best.ckpt").exists()


def test_resume_before_the_first_checkpoint_starts_at_the_beginning(run: Run, tmp_path: Path) -> None:
    run(train, *FAST, "seed=5", "hydra.run.dir=out")
    for file in (tmp_path / "out" / "checkpoints").iterdir():
        file.unlink()
    assert run(train, "resume=out").status == 0
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["seed"] == 5


class Stop(__import__("lightning").Callback):
    """Fails in the third epoch, as a power cut would."""

    def on_train_epoch_start(self, trainer: object, pl_module: object) -> None:
        if trainer.current_epoch == 2:  # type: ignore[attr-defined]
            raise RuntimeError("power cut")


def test_a_run_is_never_written_over(trained_run: Path, run: Run) -> None:
    before = {name: (trained_run / name).read_bytes() for name in ("metrics.json", "checkpoints/last.ckpt")}
    result = run(train, *FAST, "hydra.run.dir=out")
    assert result.status == 2
    assert "resume=out" in result.err
    run(train, "-m", *FAST, "seed=1,2", "hydra.sweep.dir=sweep")
    assert run(train, "-m", *FAST, "seed=3,4", "hydra.sweep.dir=sweep").status == 2
    assert before == {name: (trained_run / name).read_bytes() for name in before}


def test_the_folder_that_was_checked_is_the_one_that_is_filled(run: Run, tmp_path: Path) -> None:
    """Though its name holds the time, in microseconds."""
    assert run(train, *FAST, "hydra.run.dir=out/${now:%f}").status == 0
    (only,) = (tmp_path / "out").iterdir()
    assert (only / "metrics.json").exists()


def test_to_look_at_a_config_makes_nothing(run: Run, tmp_path: Path) -> None:
    result = run(train, "--cfg", "job", "optimizer.lr=0.25")
    assert result.status == 0, result.err
    assert "lr: 0.25" in result.out
    assert files(tmp_path) == set()


@pytest.mark.parametrize("model", ["mlp", pytest.param("cnn", marks=pytest.mark.slow)])
def test_one_batch_is_learnt_by_heart(model: str, run: Run, tmp_path: Path) -> None:
    result = run(train, f"model={model}", "debug=overfit", "hydra.run.dir=out")
    assert result.status == 0, result.err
    last = run_dir.read_metrics_csv(tmp_path / "out" / "metrics.csv")[-1]
    assert last["train/acc"] == 1
    assert last["train/loss"] < 0.01


def test_profile_leaves_a_report(run: Run, tmp_path: Path) -> None:
    options = ("model=mlp", "debug=profile", "trainer.limit_train_batches=3", "trainer.limit_val_batches=1")
    assert run(train, *options, "trainer.log_every_n_steps=1", "test=false", "hydra.run.dir=out").status == 0
    assert "run_training_batch" in (tmp_path / "out" / "fit-profile.txt").read_text()


def test_a_cut_between_the_two_checkpoints_loses_nothing(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ("model=mlp", "debug=fast", "trainer.max_epochs=3", "test=false")
    run(train, *options, "hydra.run.dir=whole")
    write = run_checkpoint.atomic_write

    def cut(path: Path, content: bytes) -> None:
        if path.name == "last.ckpt" and torch.load(tmp_path / "cut/checkpoints/best.ckpt", weights_only=True)["epoch"]:
            raise RuntimeError("power cut")
        write(path, content)

    monkeypatch.setattr(run_checkpoint, "atomic_write", cut)
    with pytest.raises(RuntimeError, match="power cut"):
        run(train, *options, "hydra.run.dir=cut")
    monkeypatch.setattr(run_checkpoint, "atomic_write", write)
    assert run(train, "resume=cut").status == 0
    for name in ("best.ckpt", "last.ckpt"):
        assert same(tmp_path / "whole" / "checkpoints" / name, tmp_path / "cut" / "checkpoints" / name)


def test_arguments_of_the_trainer_need_no_plus(run: Run) -> None:
    options = ("trainer.precision=bf16-mixed", "trainer.gradient_clip_val=0.5", "trainer.accelerator=cpu")
    assert run(train, *FAST, *options, "hydra.run.dir=out").status == 0


def test_an_own_model_and_config_come_from_outside(run: Run, tmp_path: Path) -> None:
    (tmp_path / "mine" / "model").mkdir(parents=True)
    (tmp_path / "mine" / "model" / "linear.yaml").write_text(
        "# @package _global_\nmodel:\n  _target_: tests.models.test_classifier.Linear\ntrainer:\n  max_epochs: 2\n"
    )
    result = run(train, "--config-dir=mine", "model=linear", "debug=fast", "model.bias=false", "hydra.run.dir=out")
    assert result.status == 0, result.err
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["parameters"] == 7840


WRONG = {
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
    "optimizer.lr=abc": "optimizer.lr=abc: must be float",
    "optimizer.lr=null": "optimizer.lr=null: must be float",
    "optimizer.lr=0": "optimizer.lr=0: must be above 0",
    "optimizer.name=lion": "optimizer.name=lion",
    "schedule.warmup_fraction=2": "schedule.warmup_fraction=2",
    "data.batch_size=0": "data.batch_size=0: must be at least 1",
    "data.batch_size=1.5": "data.batch_size=1.5: must be int",
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


@pytest.mark.parametrize("override", WRONG)
def test_wrong_input_gets_one_line_and_leaves_nothing(override: str, run: Run, tmp_path: Path) -> None:
    if torch.cuda.is_available() and "gpu" in override:
        pytest.skip("this machine has a GPU")
    (tmp_path / "file").write_text("")
    result = run(train, override)
    assert result.status == 2
    assert result.out == ""
    assert result.err.count("\n") == 1, result.err
    assert result.err.startswith("digitnet: error: ")
    assert WRONG[override] in result.err
    assert "Traceback" not in result.err
    assert files(tmp_path) == {"file"}


def test_a_damaged_copy_of_the_data_is_refused_before_anything_is_made(run: Run, tmp_path: Path) -> None:
    import gzip

    from digitnet.data import mnist

    raw = tmp_path / "own" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for file in (Path(mnist.__file__).parent / "files").glob("*.gz"):
        (raw / file.stem).write_bytes(gzip.decompress(file.read_bytes()))
    before = files(tmp_path)
    content = bytearray((raw / "t10k-labels-idx1-ubyte").read_bytes())
    content[5000] ^= 1
    (raw / "t10k-labels-idx1-ubyte").write_bytes(content)
    result = run(train, f"data.root={tmp_path / 'own'}", *FAST)
    assert result.status == 2
    assert "t10k-labels-idx1-ubyte is damaged" in result.err
    assert files(tmp_path) == before


def test_a_damaged_checkpoint_is_not_resumed(trained_run: Path, run: Run) -> None:
    last = trained_run / "checkpoints" / "last.ckpt"
    last.write_bytes(last.read_bytes()[:5000])
    result = run(train, "resume=out", "trainer.max_epochs=3")
    assert result.status == 2
    assert "last.ckpt: not a whole checkpoint" in result.err


def test_a_glob_sweeps_over_configs(run: Run, tmp_path: Path) -> None:
    result = run(train, "-m", "experiment=glob(baseline_cnn_d*)", "debug=fast", "hydra.sweep.dir=sweep")
    assert result.status == 0, result.err
    assert len(list((tmp_path / "sweep").glob("*/metrics.json"))) == 2


def test_all_jobs_of_a_sweep_are_checked_before_the_first_starts(run: Run, tmp_path: Path) -> None:
    result = run(train, "-m", *FAST, "optimizer.lr=1e-3,abc")
    assert result.status == 2
    assert "optimizer.lr=abc" in result.err
    assert files(tmp_path) == set()


def test_the_traceback_is_there_for_who_asks(run: Run) -> None:
    result = run(train, "data.batch_size=0", HYDRA_FULL_ERROR="1")
    assert result.status == 2
    assert "Traceback" in result.err


def test_help_is_there_for_a_real_process(tmp_path: Path) -> None:
    result = spawn("digitnet.train", "--help", folder=tmp_path)
    assert result.status == 0
    assert "model: cnn, mlp" in result.out
    assert files(tmp_path) == set()


def test_a_failure_of_the_run_itself_is_status_1(fork_server: ForkServer, tmp_path: Path) -> None:
    stop = "trainer.callbacks=[{_target_: tests.test_train.Stop}]"
    result = fork_server.run("train", *FAST, "trainer.max_epochs=4", stop, folder=tmp_path)
    assert result.status == 1
    assert "power cut" in result.err


def test_without_the_check_wrong_input_would_make_a_folder(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("digitnet.cli.hydra_app.validate_command_line", lambda arguments, *others: (arguments, []))
    run(train, "data.batch_size=0", "hydra.run.dir=out")
    assert (tmp_path / "out").is_dir()
