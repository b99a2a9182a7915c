"""Damaged data files and wrong arguments end a command with one line, with status 2, and before any file is written."""

import gzip
import random
from pathlib import Path
from typing import Any

import hydra
import pytest

from digitnet import train
from digitnet.cli.override_validation import _all_keys
from digitnet.data import mnist
from digitnet.errors import UsageError
from tests.conftest import Run, spawn
from tests.faults.conftest import trials
from tests.faults.test_checkpoints import flip, truncate

FILES = [*mnist.IMAGES.values(), *mnist.LABELS.values()]
DAMAGES = [(name, compressed, kind, seed) for name in FILES for compressed in (True, False)
           for kind, count in ((truncate, 10), (flip, 25)) for seed in range(count)]  # fmt: skip


@pytest.fixture(scope="module")
def raw() -> dict[str, bytes]:
    """Return the uncompressed content of each MNIST file."""
    folder = Path(mnist.__file__).parent / "files"
    return {name: gzip.decompress((folder / f"{name}.gz").read_bytes()) for name in FILES}


@pytest.mark.parametrize(
    ("name", "compressed", "kind", "seed"), trials(DAMAGES, fast=[d for d in DAMAGES if d[3] == 0])
)
def test_a_damaged_mnist_file_is_never_read_as_other_images(
    name: str, compressed: bool, kind: Any, seed: int, raw: dict[str, bytes], tmp_path: Path
) -> None:
    """A file may be read only if the damage changes no image, for example the date in the header of a .gz."""
    folder = tmp_path / "MNIST" / "raw"
    folder.mkdir(parents=True)
    intact = gzip.compress(raw[name], compresslevel=1) if compressed else raw[name]
    (folder / (f"{name}.gz" if compressed else name)).write_bytes(kind(intact, random.Random(f"{name} {seed}")))
    try:
        content = mnist.read_idx(name, tmp_path)
    except UsageError:
        return
    assert compressed
    assert content.numpy().tobytes() == raw[name]


# Wrong overrides in addition to those in tests/test_train.py, each with a text that the error message must contain.
INVALID_OVERRIDES = {
    "lr=1": "optimizer.lr",
    "optimizer.lr=-1": "optimizer.lr=-1",
    "optimizer.lr=nan": "optimizer.lr=nan",
    "optimizer.lr=1e400": "optimizer.lr=inf",
    "optimizer.momentum=1": "optimizer.momentum=1",
    "optimizer.weight_decay=-1": "optimizer.weight_decay=-1",
    "schedule.name=step": "schedule.name=step",
    "data.batch_size=-1": "data.batch_size=-1",
    "data.batch_size=1e9": "data.batch_size",
    "data.val_size=-1": "data.val_size=-1",
    "data.train_size=0": "data.train_size=0",
    "data.train_size=60000": "data.train_size=60000",
    "data.split_seed=-1": "data.split_seed=-1",
    "data.augmentation.scale=2": "data.augmentation.scale=2",
    "seed=99999999999999999999": "seed=99999999999999999999",
    "seed=one": "seed=one",
    "model.label_smoothing=2": "model.label_smoothing=2",
    "model.kernel_size=0": "model.kernel_size=0",
    "model.kernel_size=[3,3]": "model.kernel_size",
    "model.norm=layer": "model.norm=layer",
    "model.padding=1": "model.padding=1",
    "model.hidden=-1": "model.hidden=-1",
    "model.channels=[]": "model.channels",
    "model.channels=[8,8,8,8,8,8]": "model.",
    "weight_averaging=ema weight_averaging.decay=2": "decay",
    "distillation=cnn distillation.temperature=0": "distillation.temperature=0",
    "distillation=cnn distillation.teacher.model=nowhere": "nowhere: no checkpoint there",
    "trainer.max_steps=x": "trainer.max_steps=x",
    "trainer.limit_train_batches=0": "trainer.limit_train_batches=0: must be above 0",
    "trainer.devices=99 trainer.accelerator=cuda": "trainer",
    "trainer.strategy=warp": "trainer",
    "trainer.accelerator=abacus": "trainer",
    "model=foo model=cnn": "model",
    "data=imagenet": "mnist",
    "~model": "model",
    "=x": "'': no such key",
    "model.hidden=${no.such}": "no.such",
    "model.hidden='": "model.hidden",
    "compile=maybe": "compile=maybe",
    "hydra.run.dir=" + "x" * 300: "cannot write there",
}


@pytest.mark.parametrize("overrides", trials(INVALID_OVERRIDES, fast=[*INVALID_OVERRIDES][::4]))
def test_an_invalid_override_is_reported_in_one_line_before_any_file_is_written(
    overrides: str, run: Run, tmp_path: Path
) -> None:
    result = run(train, *overrides.split(" "))
    assert result.status == 2, result.err
    assert result.out == ""
    assert result.err.count("\n") == 1, result.err
    assert INVALID_OVERRIDES[overrides] in result.err
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def keys() -> list[str]:
    """Return every key of the training configuration."""
    with hydra.initialize_config_module("digitnet.configs", version_base="1.3"):
        config = hydra.compose("train", ["run_dir=x", "weight_averaging=ema", "distillation=cnn"])
    return _all_keys(config)


@pytest.mark.fault
def test_the_train_command_rejects_a_typo_in_any_key_and_suggests_the_correct_key(
    keys: list[str], run: Run, tmp_path: Path
) -> None:
    rng, suggested = random.Random(1), 0
    for key in keys:
        at = rng.randrange(len(key))
        typo = rng.choice([key[:at] + key[at + 1 :], key[:at] + "x" + key[at:], key[:at] + "x" + key[at + 1 :]])
        if typo in keys or not typo.strip("."):
            continue
        result = run(train, "weight_averaging=ema", "distillation=cnn", f"{typo}=1")
        assert result.status == 2, typo
        assert 1 <= result.err.count("\n") <= 3
        assert typo in result.err
        suggested += key in result.err.replace(typo, "", 1)
    assert suggested / len(keys) >= 0.95
    assert list(tmp_path.iterdir()) == []


TYPOS = ["optimizer.lrr=1", "data.batch_sze=64", "model.channel=[8]", "trainer.max_epoch=1"]


@pytest.mark.parametrize("typo", trials(TYPOS, fast=TYPOS[:1]))
def test_a_typo_is_reported_in_one_line_by_a_real_process_too(typo: str, tmp_path: Path) -> None:
    result = spawn("digitnet.train", typo, folder=tmp_path)
    assert result.status == 2
    assert result.err.count("\n") == 1
    assert "did you mean" in result.err
