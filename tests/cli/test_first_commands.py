"""What people type first: accepted, or answered in one line."""

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from digitnet import train
from digitnet.cli.command_line import validate_command_line
from digitnet.cli.signatures import accepted_parameters
from digitnet.cli.source_types import source_parameters
from digitnet.training.trust import is_trusted
from tests.conftest import FAST, Run

ROOT = Path(__file__).parents[2]
CSV = "lightning.pytorch.loggers.CSVLogger"
STOP = "{_target_: lightning.pytorch.callbacks.EarlyStopping, monitor: val/loss}"


def compose(*arguments: str) -> Any:
    """Return the config of a run without its folder, with all keys and types checked."""
    _, (config, *_) = validate_command_line(list(arguments), "train", lambda config: None)
    config.run_dir = "x"
    return OmegaConf.to_container(OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"]))


ACCEPTED = [
    "optimizer=adam", "schedule=constant", "logger=csv", "logger=many", "callbacks=early_stopping",
    "callbacks=[early_stopping,device_stats]", "callbacks=none", "trainer=cpu", "trainer=gpu", "trainer=ddp",
    "augmentation=light", "augmentation=strong", "augmentation=cutout", f"trainer.logger._target_={CSV}",
    f"trainer.logger={{_target_: {CSV}, save_dir: x}}", f"trainer.callbacks={{es: {STOP}}}",
    f"trainer.callbacks=[{STOP}]",
    "+trainer.precision=bf16-mixed", "+callbacks=early_stopping", "+experiment=fast",
    "trainer.gradient_clip_val=1", "experiment=fast",
]  # fmt: skip


@pytest.mark.parametrize("override", ACCEPTED)
def test_a_usual_override_is_accepted(override: str) -> None:
    compose(override)


ANSWERED = {
    "lr=1": "did you mean optimizer.lr?",
    "epochs=3": "did you mean trainer.max_epochs?",
    "batch_size=64": "did you mean data.batch_size?",
    "gpus=1": "did you mean trainer.devices?",
    "wd=1": "did you mean optimizer.weight_decay?",
    "dropout=0.5": "did you mean model.dropout?",
    "wandb=true": "did you mean logger=wandb?",
    "optimizer=lion": "the options are adam, adamw, sgd",
    "trainer=cuda": "did you mean gpu?",
    "logger=[csv,wandb]": "must be one option, not a list",
    "+callbacks.early_stopping.monitor=x": "did you mean trainer.callbacks.early_stopping.monitor?",
    "+nonsense=1": "nonsense: no such key",
    "data.augmentation=5": "must be null or a mapping such as {rotation: 10}",
    "optimizer.name=lion": "must be adam, adamw or sgd",
    "callbacks=early_stopping trainer.callbacks.early_stopping.monitor=val_loss": "did you mean val/loss?",
    "callbacks=early_stopping trainer.callbacks.early_stopping.monitor=val/acc": "mode=min: must be max",
    "callbacks=early_stopping trainer.callbacks.early_stopping.monitor=other": "train/loss, train/acc, val/loss",
    "logger=none callbacks=device_stats": "needs a logger",
    "mlp": "did you mean model=mlp?",
    "help": "a value is set by KEY=VALUE, such as model=mlp",
    "--hlep": "did you mean --help?",
    "--epochs 3": "values are set without dashes, such as trainer.max_epochs=3",
    "--batch-size=64": "values are set without dashes, such as data.batch_size=64",
    "--resume out": "values are set without dashes, such as resume=out",
    "--wandb": "values are set without dashes, such as logger=wandb",
    "--cfg": "expected one argument",
    "-m --cfg job": "--multirun and --cfg: only one of them is possible",
    "-m weight_averaging=null,ema": "weight_averaging=null: cannot be one of the values of -m",
    "-m hydra/sweeper=optuna seed=1,2": "digitnet-sweep searches with Optuna",
    "trainer.logger=csv": "did you mean logger=csv?",
    "trainer.callbacks=early_stopping": "did you mean callbacks=early_stopping?",
    "trainer.precision=fp16": "did you mean 16-mixed?",
    "debug=true": "debug=true: no such option",
    "resume=latest": "there is no run below",
    "resume=RUN/checkpoints/last.ckpt": "resume=RUN: there is no such folder",
    "trainer.max_epochs=ten": "must be null or a whole number",
    "optimizer.lr=-1": "must be above 0",
    "trainer.accelerator=cuda": "this machine has no GPU; use trainer.accelerator=cpu",
}


@pytest.mark.parametrize("typed", ANSWERED)
def test_a_usual_mistake_is_answered_in_one_line(typed: str, run: Run, tmp_path: Path) -> None:
    if torch.cuda.is_available() and "accelerator=cuda" in typed:
        pytest.skip("This machine has a GPU.")
    result = run(train, *typed.split(" "))
    assert (result.status, result.out, result.err.count("\n")) == (2, "", 1), result.err
    assert ANSWERED[typed] in result.err
    assert not re.search(r"Union|Optional|\| None|<class", result.err)
    assert list(tmp_path.iterdir()) == []


SGD = "optimizer.name=sgd optimizer.lr=0.1 optimizer.weight_decay=5e-4"


@pytest.mark.parametrize(
    ("short", "long"),
    [
        ("optimizer=sgd", SGD),
        ("experiment=baseline_cnn optimizer=sgd", f"experiment=baseline_cnn {SGD}"),
        ("optimizer=adamw", "optimizer.name=adamw"),
        ("schedule=cosine", "schedule.name=cosine"),
        ("trainer=gpu", "trainer.accelerator=gpu"),
        ("augmentation=none", "data.augmentation=null"),
        ("augmentation=off", "data.augmentation=off"),
        ("model=mlp augmentation=none", "model=mlp data.augmentation=false"),
        ("augmentation=default", "logger=tensorboard"),
        ("logger=null", "trainer.logger=false"),
        ("experiment=mlp_best weight_averaging=off", "experiment=mlp_best ~weight_averaging"),
        ("weight_averaging=off optimizer=null", "callbacks=none"),
        ("weight_averaging=null plots=off", "~weight_averaging plots=off"),
    ],
)
def test_a_choice_and_the_values_that_it_stands_for_are_the_same_config(short: str, long: str) -> None:
    assert compose(*short.split()) == compose(*long.split())


def test_a_choice_of_nothing_in_a_multirun_is_reported_in_one_line(run: Run) -> None:
    result = run(train, "-m", "weight_averaging=ema,null", *FAST)
    assert result.status == 2
    assert "weight_averaging=null: cannot be one of the values of -m" in result.err
    assert result.err.count("\n") == 1


def test_a_choice_and_its_values_train_the_same_weights(run: Run, tmp_path: Path) -> None:
    forms = {"a": "trainer=debug optimizer=sgd augmentation=none", "b": f"debug=fast {SGD} data.augmentation=off"}
    for name, form in forms.items():
        result = run(train, "model=mlp", *form.split(), "test=false", f"hydra.run.dir={name}")
        assert result.status == 0, result.err
    first, second = (torch.load(tmp_path / name / "checkpoints" / "last.ckpt")["state_dict"] for name in forms)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_logger_that_replaces_tensorboard_logs_the_run_and_the_run_resumes(run: Run, tmp_path: Path) -> None:
    result = run(train, *FAST, "callbacks=early_stopping", f"trainer.logger._target_={CSV}", "hydra.run.dir=out")
    assert result.status == 0, result.err
    assert "tensorboard" not in result.out
    (table,) = (tmp_path / "out" / "lightning_logs").rglob("metrics.csv")
    assert {"lr", "val/acc", "whole_run/test_acc"} <= set(table.read_text().splitlines()[0].split(","))
    assert "batch_size" in table.with_name("hparams.yaml").read_text()
    resumed = run(train, "resume=out", "trainer.max_epochs=3")
    assert resumed.status == 0, resumed.err


def test_a_recorded_logger_that_sends_to_a_server_has_to_be_typed_again() -> None:
    lines = ["logger=csv", "logger=wandb", "trainer.logger={_target_: lightning.pytorch.loggers.MLFlowLogger}"]
    assert [is_trusted(each) for each in OverridesParser.create().parse_overrides(lines)] == [True, False, False]


CONFIGS = [path.read_text() for path in (ROOT / "configs").rglob("*.yaml")]
TARGETS = sorted({name for text in CONFIGS for name in re.findall(r"_target_: (\w[\w.]+)", text)})


@pytest.mark.parametrize("target", TARGETS)
def test_the_source_code_shows_the_arguments_that_the_imported_class_has(target: str) -> None:
    read = source_parameters(target)
    assert read is not None
    assert read.keys() == accepted_parameters(OmegaConf.create({"_target_": target})).keys()


@pytest.mark.parametrize("arguments", [["epochs=3"], ["optimizer=lion"], ["--cfg", "job"], ["data.batch_size=x"]])
def test_names_and_types_are_checked_without_importing_torch(arguments: list[str]) -> None:
    code = (
        f"import sys; sys.argv[1:] = {arguments!r}\nimport digitnet.train\n"
        "try: digitnet.train.main()\nexcept SystemExit: pass\nassert not {'torch', 'lightning'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


PAGE = (ROOT / "docs" / "coming-from-lightning-hydra-template.md").read_text()
ROWS = re.findall(r"^\| `(.+?)` \| (`.+?`|–) \|", PAGE, re.MULTILINE)


@pytest.mark.parametrize(("theirs", "ours"), ROWS, ids=[row[0] for row in ROWS])
def test_an_override_of_lightning_hydra_template_is_accepted_or_answered(theirs: str, ours: str, run: Run) -> None:
    ours = ours.strip("`")
    if "RUN_DIR" not in ours and ours != "–":
        compose(*shlex.split(ours))
    if theirs.lstrip("+").lower() != ours.lower():
        result = run(train, *shlex.split(theirs))
        assert (result.status, result.err.count("\n")) == (2, 1), result.err


PRESET = """# @package _global_
defaults:
  - override /model: mlp
  - override /optimizer: sgd
  - override /schedule: constant
  - override /augmentation: light
optimizer: {lr: 0.05}
schedule: {warmup_fraction: 0.5}
data: {augmentation: {rotation: 3}}
"""


@pytest.fixture
def preset(tmp_path: Path) -> list[str]:
    """The arguments that select a preset of the user's own, which chooses options and sets values of them."""
    (tmp_path / "conf" / "experiment").mkdir(parents=True)
    (tmp_path / "conf" / "experiment" / "own.yaml").write_text(PRESET)
    return ["--config-dir", str(tmp_path / "conf"), "experiment=own"]


def test_the_values_of_a_preset_take_precedence_over_the_options_that_it_chooses(preset: list[str]) -> None:
    values = ["optimizer.lr=0.05", "schedule.warmup_fraction=0.5", "data.augmentation.rotation=3"]
    expected = compose("model=mlp", "optimizer=sgd", "schedule=constant", "augmentation=light", *values)
    assert compose(*preset) == expected


def test_an_option_that_is_typed_takes_precedence_over_the_values_of_a_preset(preset: list[str]) -> None:
    typed = compose(*preset, "optimizer=sgd", "schedule=constant", "augmentation=light")
    assert typed == compose("model=mlp", "optimizer=sgd", "schedule=constant", "augmentation=light")
    assert compose(*preset, "optimizer=sgd", "optimizer.lr=7")["optimizer"]["lr"] == 7


def test_the_jobs_of_a_sweep_over_typed_options_have_the_values_of_the_options(
    preset: list[str], run: Run, tmp_path: Path
) -> None:
    sweep = ["optimizer=adamw,sgd", "debug=fast", "trainer.max_epochs=1", "hydra.sweep.dir=out", "plots=false"]
    done = run(train, "-m", *preset, *sweep)
    assert done.status == 0, done.err
    rates = [OmegaConf.load(tmp_path / "out" / job / ".hydra" / "config.yaml").optimizer.lr for job in "01"]
    assert rates == [0.05, 0.1]
