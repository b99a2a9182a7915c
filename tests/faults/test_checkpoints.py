"""A checkpoint is data: whatever its bytes say, no command runs code from it, and a changed byte is noticed."""

import builtins
import functools
import importlib
import io
import os
import pickle
import random
import tarfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import digitnet
from digitnet.checkpoints import checkpoint_format, pretrained
from digitnet.errors import UsageError
from tests.faults.child import TINY, CompletedRun, FaultInjection, ForkServer
from tests.faults.conftest import RunStoppedAt, stop_after_step, trials

SENTINEL = "touch sentinel"


class Calls:
    """Unpickled in good faith, it calls a function."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


def to_checkpoint_bytes(content: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return checkpoint_format.append_checksum(buffer.getvalue())


def legacy_tar(content: Any) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name in ("sys_info", "pickle", "storages", "tensors"):
            member = tarfile.TarInfo(name)
            data = pickle.dumps(content)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def inflating(good: bytes) -> bytes:
    """A gigabyte of zeros, deflated to a few megabytes."""
    buffer = io.BytesIO(good[: -len(checkpoint_format.CHECKSUM_MARKER) - 64 - 2] + bytes(2))
    archive = zipfile.ZipFile(buffer, "a", zipfile.ZIP_DEFLATED, compresslevel=1)
    with archive, archive.open("archive/data/999", "w") as member:
        for _ in range(1024):
            member.write(bytes(2**20))
    return checkpoint_format.append_checksum(buffer.getvalue())


def claiming(good: dict[str, Any]) -> bytes:
    """One number, said to be a matrix of four terabytes."""
    huge = torch.zeros(1).expand(10**6, 10**6)
    return to_checkpoint_bytes(good | {"state_dict": good["state_dict"] | {"net.0.weight": huge}})


MALICIOUS_CHECKPOINTS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "os.system": lambda good: good | {"x": Calls(os.system, SENTINEL)},
    "eval": lambda good: good | {"x": Calls(builtins.eval, f"__import__('os').system('{SENTINEL}')")},
    "exec": lambda good: good | {"x": Calls(builtins.exec, f"import os; os.system('{SENTINEL}')")},
    "import_module": lambda good: good | {"x": Calls(importlib.import_module, "antigravity")},
    "torch.load": lambda good: good | {"x": Calls(torch.load, "inner.pt", None, None)},
    "partial": lambda good: good | {"x": Calls(functools.partial(os.system, SENTINEL))},
    "getattr": lambda good: good | {"x": Calls(getattr, Calls(importlib.import_module, "os"), "system")},
    "bytearray": lambda good: good | {"x": Calls(bytearray, 2**38)},
    "_instantiator": lambda good: good | {"hyper_parameters": {"_instantiator": "os.system", "command": SENTINEL}},
    "_class_path": lambda good: good | {"hyper_parameters": {"_class_path": "os.system", "init_args": SENTINEL}},
    "many neurons": lambda good: good | {"hyper_parameters": good["hyper_parameters"] | {"channels": [10**7, 10**7]}},
    "legacy tar": lambda good: legacy_tar(Calls(os.system, SENTINEL)),
    "zip bomb": lambda good: inflating(to_checkpoint_bytes(good)),
    "claimed memory": claiming,
}


@pytest.fixture(scope="module")
def good(shared_stopped_run: RunStoppedAt) -> Path:
    """A run stopped on its way, so that every command has something to do with it."""
    return shared_stopped_run(11)


def load(path: Path, fork_server: ForkServer) -> CompletedRun:
    os.chdir(path.parent)
    with pytest.raises(UsageError) as error:
        digitnet.load(path)
    return CompletedRun(2, "", f"{error.value}\n", 0)


def evaluate(path: Path, fork_server: ForkServer) -> CompletedRun:
    return fork_server.run("evaluate", f"model={path}", folder=path.parent)


def evaluate_sweep(path: Path, fork_server: ForkServer) -> CompletedRun:
    job = path.parent / "sweep" / "0" / "checkpoints"
    job.mkdir(parents=True)
    (job / "best.ckpt").write_bytes(path.read_bytes())
    return fork_server.run("evaluate", "model=sweep", folder=path.parent)


def resume(path: Path, fork_server: ForkServer) -> CompletedRun:
    """Of a run that is right in all but its last.ckpt."""
    last = path.parent / "run" / "checkpoints" / "last.ckpt"
    fork_server.run("train", *TINY, "hydra.run.dir=run", folder=path.parent, faults=[stop_after_step(1)])
    last.write_bytes(path.read_bytes())
    result = fork_server.run("train", "resume=run", folder=path.parent)
    assert "last.ckpt: " in result.err or "its checkpoint is of" in result.err
    return result


def teach(path: Path, fork_server: ForkServer) -> CompletedRun:
    options = ("distillation=cnn", f"distillation.teacher.model='{path}'", "hydra.run.dir=new")
    return fork_server.run("train", *TINY, *options, folder=path.parent)


ENTRIES = {"load": load, "evaluate": evaluate, "evaluate a sweep": evaluate_sweep, "resume": resume, "teacher": teach}
CASES = [(gadget, entry) for gadget in MALICIOUS_CHECKPOINTS for entry in ENTRIES]


@pytest.mark.parametrize(("gadget", "entry"), trials(CASES, fast=[case for case in CASES if case[1] == "load"]))
def test_no_command_runs_or_builds_what_a_file_asks_for(
    gadget: str, entry: str, good: Path, fork_server: ForkServer, tmp_path: Path
) -> None:
    made = MALICIOUS_CHECKPOINTS[gadget](checkpoint_format.load_checkpoint(good / "checkpoints" / "best.ckpt"))
    path = tmp_path / "evil.ckpt"
    path.write_bytes(made if isinstance(made, bytes) else to_checkpoint_bytes(made))
    result = ENTRIES[entry](path, fork_server)
    assert result.status == 2, result.err
    assert result.err.count("\n") == 1, result.err
    assert not (tmp_path / "sentinel").exists()


@pytest.mark.parametrize("gadget", ["os.system", "eval", "exec"])
def test_the_gadgets_work_on_those_who_trust(gadget: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.load(io.BytesIO(to_checkpoint_bytes(MALICIOUS_CHECKPOINTS[gadget]({}))), weights_only=False)
    assert (tmp_path / "sentinel").exists()


def truncate(content: bytes, draw: random.Random) -> bytes:
    return content[: draw.randrange(len(content))]


def flip(content: bytes, draw: random.Random) -> bytes:
    at = draw.randrange(len(content))
    return content[:at] + bytes([content[at] ^ 1 << draw.randrange(8)]) + content[at + 1 :]


def splice(content: bytes, draw: random.Random) -> bytes:
    first, second = sorted(draw.sample(range(len(content)), 2))
    return content[:first] + content[second:] if draw.random() < 0.5 else content[:second] + content[first:]


def zero(content: bytes, draw: random.Random) -> bytes:
    at, size = draw.randrange(len(content)), draw.randrange(1, 512)
    return content[:at] + bytes(len(content[at : at + size])) + content[at + size :]


def swap(content: bytes, draw: random.Random) -> bytes:
    first, second = sorted(draw.sample(range(0, len(content) - 64, 64), 2))
    block, other = content[first : first + 64], content[second : second + 64]
    return content[:first] + other + content[first + 64 : second] + block + content[second + 64 :]


FULL = {truncate: 100, flip: 100, splice: 50, zero: 25, swap: 25}
FEW = {truncate: 8, flip: 10, splice: 4, zero: 4, swap: 4}
MUTATIONS = [(kind, seed) for kind, count in FULL.items() for seed in range(count)]


@pytest.mark.parametrize(
    ("kind", "seed"), trials(MUTATIONS, fast=[case for case in MUTATIONS if case[1] < FEW[case[0]]])
)
def test_a_changed_file_is_refused(
    kind: Callable[[bytes, random.Random], bytes], seed: int, good: Path, tmp_path: Path
) -> None:
    path = good / "checkpoints" / "last.ckpt"
    content = path.read_bytes()
    changed = kind(content, random.Random(seed))
    if changed == content:
        pytest.skip("zeros over zeros")
    (tmp_path / "changed.ckpt").write_bytes(changed)
    with pytest.raises(UsageError):
        checkpoint_format.load_checkpoint(tmp_path / "changed.ckpt")


@pytest.mark.parametrize("at", range(-102, 0))
def test_no_byte_of_the_seal_and_its_record_may_change(at: int, good: Path, tmp_path: Path) -> None:
    content = bytearray((good / "checkpoints" / "last.ckpt").read_bytes())
    content[at] ^= 1
    (tmp_path / "changed.ckpt").write_bytes(content)
    with pytest.raises(UsageError):
        checkpoint_format.load_checkpoint(tmp_path / "changed.ckpt")


def bomb() -> bytes:
    return pickle.dumps(Calls(bytearray, 2**38), protocol=2)


def two_programs(good: bytes) -> bytes:
    """Torch runs the first of two, zipfile reads the last."""
    source, target = zipfile.ZipFile(io.BytesIO(good)), io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(target, "w") as archive:
        warnings.simplefilter("ignore")
        archive.writestr("archive/data.pkl", bomb())
        for member in source.infolist():
            archive.writestr(member.filename, source.read(member))
    return checkpoint_format.append_checksum(target.getvalue())


def loud_program(good: bytes) -> bytes:
    """Torch finds its member whatever the case."""
    source, target = zipfile.ZipFile(io.BytesIO(good)), io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for member in source.infolist():
            program = member.filename.endswith("data.pkl")
            name = "archive/DATA.PKL" if program else member.filename
            archive.writestr(name, bomb() if program else source.read(member))
    return checkpoint_format.append_checksum(target.getvalue())


DISGUISES: dict[str, Callable[[bytes], bytes]] = {
    "a pickle before the archive": lambda good: bomb() + good,
    "a byte after the archive": lambda good: good + b"x",
    "two programs": two_programs,
    "a program in capitals": loud_program,
}


@pytest.mark.parametrize("disguise", DISGUISES)
def test_what_zipfile_and_torch_would_read_differently_is_refused(disguise: str, good: Path, tmp_path: Path) -> None:
    content = DISGUISES[disguise]((good / "checkpoints" / "best.ckpt").read_bytes())
    (tmp_path / "evil.ckpt").write_bytes(content)
    with pytest.raises(UsageError):
        checkpoint_format.load_checkpoint(tmp_path / "evil.ckpt")


@pytest.mark.parametrize("weights", [{}, None, {"net.0.weight": "no tensor"}])
def test_a_sealed_file_that_holds_no_network_is_refused(weights: Any, good: Path, tmp_path: Path) -> None:
    content = checkpoint_format.load_checkpoint(good / "checkpoints" / "best.ckpt") | {"state_dict": weights}
    (tmp_path / "empty.ckpt").write_bytes(to_checkpoint_bytes(content))
    with pytest.raises(UsageError):
        digitnet.load(tmp_path / "empty.ckpt")


def test_without_the_seal_a_flipped_weight_is_loaded(good: Path, tmp_path: Path) -> None:
    """Torch reads it without a word."""
    path = good / "checkpoints" / "last.ckpt"
    content = bytearray(path.read_bytes())
    weight = torch.load(path, weights_only=True)["state_dict"]["net.0.weight"].numpy().tobytes()
    content[content.index(weight) + 3] ^= 1
    (tmp_path / "changed.ckpt").write_bytes(content)
    torch.load(tmp_path / "changed.ckpt", weights_only=True)
    with pytest.raises(UsageError, match="SHA-256"):
        checkpoint_format.load_checkpoint(tmp_path / "changed.ckpt")


def test_a_checkpoint_of_lightnings_own_is_taken_on_the_checksums_of_its_zip(good: Path, tmp_path: Path) -> None:
    plain = tmp_path / "plain.ckpt"
    torch.save(checkpoint_format.load_checkpoint(good / "checkpoints" / "best.ckpt"), plain)
    images = torch.rand(5, 28, 28)
    assert torch.equal(pretrained.load(plain)(images), pretrained.load(good)(images))
    content = bytearray(plain.read_bytes())
    content[len(content) // 2] ^= 1
    plain.write_bytes(content)
    with pytest.raises(UsageError):
        pretrained.load(plain)


def test_every_checkpoint_opens_with_plain_torch_and_no_list_of_exceptions(good: Path) -> None:
    for path in (good / "checkpoints").iterdir():
        assert torch.load(path, weights_only=True)["global_step"] > 0


def test_weights_that_are_no_numbers_are_refused(good: Path, tmp_path: Path) -> None:
    content = checkpoint_format.load_checkpoint(good / "checkpoints" / "best.ckpt")
    content["state_dict"]["net.0.weight"][0] = torch.nan
    (tmp_path / "nan.ckpt").write_bytes(to_checkpoint_bytes(content))
    with pytest.raises(UsageError, match="not finite"):
        digitnet.load(tmp_path / "nan.ckpt")


EVIL_CONFIGS = {
    "model._target_=os.system": "_target_=os.system",
    "trainer.logger={_target_: subprocess.check_output}": "_target_=subprocess.check_output",
    "trainer.callbacks=[{_target_: digitnet.checkpoints.pretrained.json.loads}]": "is no model",
    "distillation.teacher._target_=torch.load": "_target_=torch.load",
    "trainer.logger.hydra={_target_: digitnet.models.cnn.torch.hub.load}": "digitnet.models.cnn.torch.hub.load",
    "trainer.logger=${oc.create:{_target_: digitnet.models.cnn.torch.load}}": "digitnet.models.cnn.torch.load",
    "trainer.profiler={_target_: lightning.fabric.utilities.cloud_io._load}": "is no model",
}


@pytest.mark.parametrize("line", EVIL_CONFIGS)
def test_a_config_builds_parts_of_an_experiment_and_nothing_else(
    line: str, fork_server: ForkServer, tmp_path: Path
) -> None:
    extra = ("distillation=cnn",) if line.startswith("distillation") else ()
    result = fork_server.run("train", *TINY, *extra, line, folder=tmp_path)
    assert result.status == 2, result.err
    assert EVIL_CONFIGS[line] in result.err


HUB = (
    "trainer.logger={_target_:lightning.pytorch.loggers.TensorBoardLogger,save_dir:x,"
    "hydra:{_target_:digitnet.models.cnn.torch.hub.load,repo_or_dir:hub,source:local,model:a}}"
)


def test_a_strangers_run_cannot_reach_code_through_a_part_of_ours(fork_server: ForkServer, tmp_path: Path) -> None:
    (tmp_path / "hub").mkdir()
    (tmp_path / "hub" / "hubconf.py").write_text("open('sentinel', 'w')")
    (tmp_path / "run" / ".hydra").mkdir(parents=True)
    (tmp_path / "run" / ".hydra" / "overrides.yaml").write_text(f"- '{HUB}'")
    result = fork_server.run("train", "resume=run", folder=tmp_path)
    assert result.status == 2, result.err
    assert "torch.hub.load" in result.err
    assert not (tmp_path / "sentinel").exists()


@pytest.mark.parametrize("line", ["model._target_=evil.Net", "hydra.sweeper._target_=evil.Net", "~hydra", "[a"])
def test_a_strangers_run_cannot_name_code_to_import(line: str, fork_server: ForkServer, tmp_path: Path) -> None:
    (tmp_path / "evil.py").write_text("open('sentinel', 'w')")
    (tmp_path / "run" / ".hydra").mkdir(parents=True)
    (tmp_path / "run" / ".hydra" / "overrides.yaml").write_text(f"- {line}")
    on_path = FaultInjection("digitnet.cli.hydra_app:run_hydra_app", 0, Insert(str(tmp_path)))
    result = fork_server.run("train", "resume=run", folder=tmp_path, faults=[on_path])
    assert result.status == 2, result.err
    assert not (tmp_path / "sentinel").exists()


class Insert:
    def __init__(self, folder: str) -> None:
        self.folder = folder

    def __call__(self, *_: Any, **__: Any) -> None:
        import sys

        sys.path.insert(0, self.folder)
