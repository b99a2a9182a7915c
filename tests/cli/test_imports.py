"""A network of the user's own: no file imports its module, and every command does at the user's word."""

import json
import shutil
import sys
from pathlib import Path

import pytest

from digitnet import demo, evaluate, export, predict, train
from digitnet.checkpoints.checkpoint_format import load_checkpoint
from tests.conftest import FAST, CompletedRun, Run
from tests.faults.test_checkpoints import to_checkpoint_bytes

pytestmark = pytest.mark.usefixtures("forgets_imports")

# The import of this module leaves a file.
MODULE = """
from digitnet import MLP

open("sentinel", "w").close()

class Own(MLP):
    pass
"""
CONFIG = """# @package _global_
defaults: [mlp]
model: {_target_: mynets.Own}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a module and a configuration, as a user would have."""
    (tmp_path / "mynets.py").write_text(MODULE)
    (tmp_path / "conf" / "model").mkdir(parents=True)
    (tmp_path / "conf" / "model" / "own.yaml").write_text(CONFIG)
    return tmp_path


def as_own(run_dir: Path) -> Path:
    """Change the checkpoints of a run into those of the class in the module, without importing it."""
    for path in (run_dir / "checkpoints").iterdir():
        path.write_bytes(to_checkpoint_bytes(load_checkpoint(path) | {"digitnet_model": "mynets.Own"}))
    return run_dir


COMMANDS = {
    "evaluate": (evaluate, ("model=out",), "imports=mynets"),
    "evaluate a sweep": (evaluate, ("model=.",), "imports=mynets"),
    "teacher": (
        train,
        (*FAST, "distillation=cnn", "distillation.teacher.model=out", "hydra.run.dir=new"),
        "imports=mynets",
    ),
    "predict": (predict, ("--model", "out", "--test-samples", "1"), "--import mynets"),
    "export": (export, ("--model", "out", "-o", "x.safetensors"), "--import mynets"),
    "demo": (demo, ("--model", "out", "--port", "0"), "--import mynets"),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_checkpoint_of_an_unknown_network_is_refused_in_one_line_and_imports_nothing(
    name: str, folder: Path, trained_run: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_own(trained_run)
    monkeypatch.syspath_prepend(folder)  # the module could be imported
    command, arguments, remedy = COMMANDS[name]
    files = set(folder.rglob("*"))
    done = run(command, *arguments)
    assert done.status == 2, done.err
    assert done.err.count("\n") == 1, done.err
    assert "best.ckpt: holds a mynets.Own, a class that no imported module defines" in done.err
    assert done.err.endswith(f"if you trust it, add {remedy}\n")
    assert set(folder.rglob("*")) == files
    assert "mynets" not in sys.modules


@pytest.mark.parametrize("name", ["evaluate", "predict", "export"])
def test_the_same_command_accepts_it_with_what_the_message_names(
    name: str, folder: Path, trained_run: Path, run: Run
) -> None:
    as_own(trained_run)
    command, arguments, remedy = COMMANDS[name]
    done = run(command, *arguments, *remedy.split())
    assert done.status == 0, done.err
    assert (folder / "sentinel").exists()


def train_own(run: Run, *arguments: str) -> CompletedRun:
    done = run(train, "--config-dir", "conf", "model=own", "debug=fast", "test=false", "hydra.run.dir=own", *arguments)
    assert done.status == 0, done.err
    return done


def test_resume_lists_all_that_has_to_be_typed_again_and_imports_nothing(folder: Path, run: Run) -> None:
    train_own(run, "imports=[mynets]", "trainer.max_epochs=1")
    (folder / "sentinel").unlink()
    needed = "--config-dir conf 'imports=[mynets]'"
    for typed, missing in {
        (): needed,
        ("imports=mynets",): "--config-dir conf",
        ("--config-dir", "conf"): "'imports=[mynets]'",
    }.items():
        sys.modules.pop("mynets", None)
        done = run(train, "resume=own", *typed)
        assert done.status == 2
        expected = f"resume=own: the run was started with {missing}; type that again if you trust it"
        assert done.err == f"digitnet: error: {expected}\n"
        assert not (folder / "sentinel").exists()
    done = run(train, "resume=own", "trainer.max_epochs=2", "--config-dir", "conf", "imports=[mynets]")
    assert done.status == 0, done.err
    assert "epoch 2/2" in done.out
    assert run(train, "resume=own", "--config-dir", "conf", "imports=mynets").status == 0


def test_resume_of_a_run_without_own_configuration_needs_nothing_more(trained_run: Path, run: Run) -> None:
    done = run(train, "resume=out")
    assert done.status == 0, done.err
    assert "out is finished" in done.out


@pytest.mark.parametrize("content", ["{}", "[]", "hydra: {runtime: {config_sources: [1]}}", "a: 1: 2"])
def test_a_damaged_record_of_the_config_folder_is_reported(content: str, trained_run: Path, run: Run) -> None:
    (trained_run / ".hydra" / "hydra.yaml").write_text(content)
    done = run(train, "resume=out")
    assert done.status == 2
    assert "hydra.yaml is" in done.err
    assert done.err.count("\n") == 1


def test_a_module_named_in_the_configuration_is_imported_before_its_signatures_are_read(folder: Path, run: Run) -> None:
    path = folder / "conf" / "model" / "own.yaml"
    path.write_text(f"{CONFIG}imports: mynets\n")
    done = run(train, "--config-dir", "conf", "model=own", "model.hiden=[3]")
    assert done.status == 2
    assert "model.hiden: no such key; did you mean model.hidden?" in done.err


def test_a_target_in_a_module_that_is_not_imported_is_answered_with_the_option(folder: Path, run: Run) -> None:
    done = run(train, "--config-dir", "conf", "model=own")
    assert done.status == 2
    assert "_target_=mynets.Own: cannot be imported (No module named 'mynets'); imports=MODULE" in done.err
    assert done.err.count("\n") == 1


def test_a_module_that_is_missing_is_answered_in_one_line_by_both_kinds_of_commands(
    trained_run: Path, run: Run
) -> None:
    for command, arguments, option in (
        (evaluate, ("model=out", "imports=[nowhere]"), "imports"),
        (predict, ("--model", "out", "--test-samples", "1", "--import", "nowhere"), "--import"),
    ):
        done = run(command, *arguments)
        assert done.status == 2
        assert done.err.startswith(f"digitnet: error: {option}=nowhere: cannot be imported from the current folder")
        assert done.err.count("\n") == 1


def test_a_lightning_module_that_is_no_digit_classifier_is_refused_before_training(folder: Path, run: Run) -> None:
    (folder / "mynets.py").write_text("import lightning as L\n\nclass Own(L.LightningModule): pass\n")
    done = run(train, "model={_target_: mynets.Own}", "imports=mynets", "hydra.run.dir=own")
    assert done.status == 2
    assert not (folder / "own").exists()
    assert done.err.count("\n") == 1


@pytest.mark.parametrize("name", ["mlp", "cnn"])
def test_a_folder_with_the_name_of_a_bundled_model_is_not_confused_with_it(
    name: str, trained_run: Path, run: Run
) -> None:
    shutil.move(trained_run, trained_run.with_name(name))
    for command, arguments in (
        (evaluate, (f"model={name}",)),
        (predict, ("--model", name, "--test-samples", "1")),
        (export, ("--model", name, "-o", "x.safetensors")),
    ):
        done = run(command, *arguments)
        assert done.status == 2
        assert f"type bundled:{name} for the model, or ./{name} for the path" in done.err
        assert done.err.count("\n") == 1


def test_both_spellings_of_an_ambiguous_name_score_what_they_name(trained_run: Path, run: Run) -> None:
    shutil.move(trained_run, trained_run.with_name("mlp"))
    scores = {}
    for reference in ("bundled:mlp", "./mlp"):
        done = run(evaluate, f"model={reference}", "json_path=-")
        assert done.status == 0, done.err
        scores[reference] = done.out
    assert json.loads(scores["bundled:mlp"])["checkpoints"] == ["bundled:mlp"]
    assert "mlp/checkpoints/best.ckpt" in scores["./mlp"]
    done = run(predict, "--test-samples", "1")  # the default is the bundled CNN in any folder
    assert done.status == 0, done.err


BROKEN_NETWORKS = """
from torch import nn

from digitnet import DigitClassifier


class NoNet(DigitClassifier):
    pass


class ThreeChannels(DigitClassifier):
    def __init__(self, **training):
        super().__init__(**training)
        self.net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.LazyLinear(10))


class NineClasses(DigitClassifier):
    def __init__(self, **training):
        super().__init__(**training)
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(784, 9))


class Module(nn.Module):
    pass
"""


@pytest.mark.parametrize(
    ("name", "message"),
    {
        "NoNet": "fails on a batch of images (AttributeError: 'NoNet' object has no attribute 'net')",
        "ThreeChannels": "to have 3 channels, but got 1 channels instead); its constructor must assign self.net",
        "NineClasses": "must return [2, 10]; its last layer must have self.num_classes outputs",
        "Module": "is a torch module, but a model must be a subclass of digitnet.DigitClassifier",
    }.items(),
)
def test_a_network_that_cannot_be_trained_is_refused_in_one_line(
    name: str, message: str, folder: Path, run: Run
) -> None:
    (folder / "mynets.py").write_text(BROKEN_NETWORKS)
    (folder / "conf" / "model" / "own.yaml").write_text(f"_target_: mynets.{name}\n")
    files = {path for path in folder.rglob("*") if "__pycache__" not in path.parts}
    done = run(train, "--config-dir", "conf", "model=own", "imports=mynets", "debug=fast")
    assert done.status == 2, done.err
    assert done.err.count("\n") == 1, done.err
    assert message in done.err
    assert {path for path in folder.rglob("*") if "__pycache__" not in path.parts} == files


def test_an_export_of_an_own_network_finds_the_record_of_its_data(folder: Path, trained_run: Path, run: Run) -> None:
    as_own(trained_run)
    assert run(export, "--model", "out", "-o", "x.safetensors", "--import", "mynets").status == 0
    card = json.loads((folder / "x.json").read_text())
    (folder / "x.json").write_text(json.dumps(card | {"dataset": card["dataset"] | {"name": "kmnist"}}))
    done = run(evaluate, "model=x.safetensors", "imports=mynets")
    assert done.status == 2
    assert "Kuzushiji-MNIST: its four files are not here" in done.err, done.err
