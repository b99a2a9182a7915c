"""No command executes code from a checkpoint, whatever its content, and every changed byte is detected."""

import builtins
import contextlib
import functools
import importlib
import io
import json
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

CREATE_SENTINEL = "touch sentinel"  # shell command of the malicious checkpoints


class CallOnUnpickling:
    """An object that calls a function when it is unpickled without restrictions."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


def to_checkpoint_bytes(content: Any) -> bytes:
    """Save content with torch and append a valid checksum."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return checkpoint_format.append_checksum(buffer.getvalue())


def to_legacy_tar(content: Any) -> bytes:
    """Save content in the oldest file format of torch, a tar archive, without a checksum."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name in ("sys_info", "pickle", "storages", "tensors"):
            member = tarfile.TarInfo(name)
            data = pickle.dumps(content)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def add_zip_bomb(checkpoint: bytes) -> bytes:
    """Add a member of one gigabyte of zeros to a checkpoint, which compresses to a few megabytes."""
    buffer = io.BytesIO(checkpoint[: -len(checkpoint_format.CHECKSUM_MARKER) - 64 - 2] + bytes(2))
    archive = zipfile.ZipFile(buffer, "a", zipfile.ZIP_DEFLATED, compresslevel=1)
    with archive, archive.open("archive/data/999", "w") as member:
        for _ in range(1024):
            member.write(bytes(2**20))
    return checkpoint_format.append_checksum(buffer.getvalue())


def add_huge_tensor(checkpoint: dict[str, Any]) -> bytes:
    """Replace a weight by a single number that is declared as a matrix of four terabytes."""
    huge = torch.zeros(1).expand(10**6, 10**6)
    return to_checkpoint_bytes(checkpoint | {"state_dict": checkpoint["state_dict"] | {"net.0.weight": huge}})


# Modifications of a valid checkpoint that try to execute code or to allocate too much memory.
MALICIOUS_CHECKPOINTS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "os.system": lambda content: content | {"x": CallOnUnpickling(os.system, CREATE_SENTINEL)},
    "eval": lambda content: (
        content | {"x": CallOnUnpickling(builtins.eval, f"__import__('os').system('{CREATE_SENTINEL}')")}
    ),
    "exec": lambda content: (
        content | {"x": CallOnUnpickling(builtins.exec, f"import os; os.system('{CREATE_SENTINEL}')")}
    ),
    "import_module": lambda content: content | {"x": CallOnUnpickling(importlib.import_module, "antigravity")},
    "torch.load": lambda content: content | {"x": CallOnUnpickling(torch.load, "inner.pt", None, None)},
    "partial": lambda content: content | {"x": CallOnUnpickling(functools.partial(os.system, CREATE_SENTINEL))},
    "getattr": lambda content: (
        content | {"x": CallOnUnpickling(getattr, CallOnUnpickling(importlib.import_module, "os"), "system")}
    ),
    "bytearray": lambda content: content | {"x": CallOnUnpickling(bytearray, 2**38)},
    "_instantiator": lambda content: (
        content | {"hyper_parameters": {"_instantiator": "os.system", "command": CREATE_SENTINEL}}
    ),
    "_class_path": lambda content: (
        content | {"hyper_parameters": {"_class_path": "os.system", "init_args": CREATE_SENTINEL}}
    ),
    "many neurons": lambda content: (
        content | {"hyper_parameters": content["hyper_parameters"] | {"channels": [10**7, 10**7]}}
    ),
    "legacy tar": lambda content: to_legacy_tar(CallOnUnpickling(os.system, CREATE_SENTINEL)),
    "zip bomb": lambda content: add_zip_bomb(to_checkpoint_bytes(content)),
    "huge tensor": add_huge_tensor,
}


@pytest.fixture(scope="module")
def good_run(shared_stopped_run: RunStoppedAt) -> Path:
    """Return the folder of a run with valid checkpoints, stopped so that resuming it has something to train."""
    return shared_stopped_run(11)


def load_in_python(path: Path, fork_server: ForkServer) -> CompletedRun:
    with contextlib.chdir(path.parent), pytest.raises(UsageError) as error:
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
    """Resume a run of which only last.ckpt has been replaced."""
    last = path.parent / "run" / "checkpoints" / "last.ckpt"
    fork_server.run("train", *TINY, "hydra.run.dir=run", folder=path.parent, faults=[stop_after_step(1)])
    last.write_bytes(path.read_bytes())
    result = fork_server.run("train", "resume=run", folder=path.parent)
    assert "last.ckpt: " in result.err or "its checkpoint is of" in result.err
    return result


def use_as_teacher(path: Path, fork_server: ForkServer) -> CompletedRun:
    options = ("distillation=cnn", f"distillation.teacher.model='{path}'", "hydra.run.dir=new")
    return fork_server.run("train", *TINY, *options, folder=path.parent)


ENTRY_POINTS = {
    "load": load_in_python,
    "evaluate": evaluate,
    "evaluate a sweep": evaluate_sweep,
    "resume": resume,
    "teacher": use_as_teacher,
}
CASES = [(attack, entry_point) for attack in MALICIOUS_CHECKPOINTS for entry_point in ENTRY_POINTS]


@pytest.mark.parametrize(("attack", "entry_point"), trials(CASES, fast=[case for case in CASES if case[1] == "load"]))
def test_every_command_rejects_a_malicious_checkpoint_and_executes_none_of_it(
    attack: str, entry_point: str, good_run: Path, fork_server: ForkServer, tmp_path: Path
) -> None:
    content = MALICIOUS_CHECKPOINTS[attack](checkpoint_format.load_checkpoint(good_run / "checkpoints" / "best.ckpt"))
    path = tmp_path / "malicious.ckpt"
    path.write_bytes(content if isinstance(content, bytes) else to_checkpoint_bytes(content))
    result = ENTRY_POINTS[entry_point](path, fork_server)
    assert result.status == 2, result.err
    assert result.err.count("\n") == 1, result.err
    assert not (tmp_path / "sentinel").exists()


@pytest.mark.parametrize("attack", ["os.system", "eval", "exec"])
def test_the_malicious_checkpoints_execute_code_when_loaded_without_weights_only(
    attack: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.load(io.BytesIO(to_checkpoint_bytes(MALICIOUS_CHECKPOINTS[attack]({}))), weights_only=False)
    assert (tmp_path / "sentinel").exists()


# The names of these functions seed the random generator in test_pictures.py: a new name would change the damage.


def truncate(content: bytes, rng: random.Random) -> bytes:
    """Cut off the end of the content."""
    return content[: rng.randrange(len(content))]


def flip(content: bytes, rng: random.Random) -> bytes:
    """Flip one bit."""
    at = rng.randrange(len(content))
    return content[:at] + bytes([content[at] ^ 1 << rng.randrange(8)]) + content[at + 1 :]


def splice(content: bytes, rng: random.Random) -> bytes:
    """Remove or repeat a section."""
    first, second = sorted(rng.sample(range(len(content)), 2))
    return content[:first] + content[second:] if rng.random() < 0.5 else content[:second] + content[first:]


def zero(content: bytes, rng: random.Random) -> bytes:
    """Overwrite a section of less than 512 bytes by zeros."""
    at, size = rng.randrange(len(content)), rng.randrange(1, 512)
    return content[:at] + bytes(len(content[at : at + size])) + content[at + size :]


def swap(content: bytes, rng: random.Random) -> bytes:
    """Exchange two blocks of 64 bytes."""
    first, second = sorted(rng.sample(range(0, len(content) - 64, 64), 2))
    block, other = content[first : first + 64], content[second : second + 64]
    return content[:first] + other + content[first + 64 : second] + block + content[second + 64 :]


TRIALS = {truncate: 100, flip: 100, splice: 50, zero: 25, swap: 25}
FAST_TRIALS = {truncate: 8, flip: 10, splice: 4, zero: 4, swap: 4}
MUTATIONS = [(kind, seed) for kind, count in TRIALS.items() for seed in range(count)]


@pytest.mark.parametrize(
    ("kind", "seed"), trials(MUTATIONS, fast=[case for case in MUTATIONS if case[1] < FAST_TRIALS[case[0]]])
)
def test_a_damaged_checkpoint_is_rejected(
    kind: Callable[[bytes, random.Random], bytes], seed: int, good_run: Path, tmp_path: Path
) -> None:
    path = good_run / "checkpoints" / "last.ckpt"
    content = path.read_bytes()
    damaged = kind(content, random.Random(seed))
    if damaged == content:
        pytest.skip("The zeros have replaced zeros.")
    (tmp_path / "damaged.ckpt").write_bytes(damaged)
    with pytest.raises(UsageError):
        checkpoint_format.load_checkpoint(tmp_path / "damaged.ckpt")


@pytest.mark.parametrize("at", range(-102, 0))
def test_a_changed_byte_of_the_checksum_or_of_the_zip_end_record_is_rejected(
    at: int, good_run: Path, tmp_path: Path
) -> None:
    content = bytearray((good_run / "checkpoints" / "last.ckpt").read_bytes())
    content[at] ^= 1
    (tmp_path / "damaged.ckpt").write_bytes(content)
    with pytest.raises(UsageError):
        checkpoint_format.load_checkpoint(tmp_path / "damaged.ckpt")


def memory_bomb() -> bytes:
    """Return a pickle that allocates 256 GiB."""
    return pickle.dumps(CallOnUnpickling(bytearray, 2**38), protocol=2)


def add_duplicate_pickle(checkpoint: bytes) -> bytes:
    """Add a second data.pkl: torch reads the first of the two, and zipfile the last."""
    source, target = zipfile.ZipFile(io.BytesIO(checkpoint)), io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(target, "w") as archive:
        warnings.simplefilter("ignore")
        archive.writestr("archive/data.pkl", memory_bomb())
        for member in source.infolist():
            archive.writestr(member.filename, source.read(member))
    return checkpoint_format.append_checksum(target.getvalue())


def rename_pickle_to_capitals(checkpoint: bytes) -> bytes:
    """Name the pickle DATA.PKL: torch ignores the case of names, and zipfile does not."""
    source, target = zipfile.ZipFile(io.BytesIO(checkpoint)), io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for member in source.infolist():
            is_pickle = member.filename.endswith("data.pkl")
            name = "archive/DATA.PKL" if is_pickle else member.filename
            archive.writestr(name, memory_bomb() if is_pickle else source.read(member))
    return checkpoint_format.append_checksum(target.getvalue())


# Archives that zipfile, which validates a checkpoint, and torch, which loads it, read differently.
AMBIGUOUS_ARCHIVES: dict[str, Callable[[bytes], bytes]] = {
    "a pickle before the archive": lambda checkpoint: memory_bomb() + checkpoint,
    "a byte after the archive": lambda checkpoint: checkpoint + b"x",
    "two pickles": add_duplicate_pickle,
    "a pickle with a name in capitals": rename_pickle_to_capitals,
}


@pytest.mark.parametrize("archive", AMBIGUOUS_ARCHIVES)
def test_an_archive_that_zipfile_and_torch_read_differently_is_rejected(
    archive: str, good_run: Path, tmp_path: Path
) -> None:
    content = AMBIGUOUS_ARCHIVES[archive]((good_run / "checkpoints" / "best.ckpt").read_bytes())
    (tmp_path / "malicious.ckpt").write_bytes(content)
    with pytest.raises(UsageError):
        checkpoint_format.load_checkpoint(tmp_path / "malicious.ckpt")


@pytest.mark.parametrize("weights", [{}, None, {"net.0.weight": "not a tensor"}])
def test_a_checkpoint_with_a_valid_checksum_but_without_weights_is_rejected(
    weights: Any, good_run: Path, tmp_path: Path
) -> None:
    content = checkpoint_format.load_checkpoint(good_run / "checkpoints" / "best.ckpt") | {"state_dict": weights}
    (tmp_path / "empty.ckpt").write_bytes(to_checkpoint_bytes(content))
    with pytest.raises(UsageError):
        digitnet.load(tmp_path / "empty.ckpt")


def test_a_flipped_bit_of_a_weight_is_rejected_although_torch_loads_it(good_run: Path, tmp_path: Path) -> None:
    path = good_run / "checkpoints" / "last.ckpt"
    content = bytearray(path.read_bytes())
    weight = torch.load(path, weights_only=True)["state_dict"]["net.0.weight"].numpy().tobytes()
    content[content.index(weight) + 3] ^= 1
    (tmp_path / "damaged.ckpt").write_bytes(content)
    torch.load(tmp_path / "damaged.ckpt", weights_only=True)
    with pytest.raises(UsageError, match="SHA-256"):
        checkpoint_format.load_checkpoint(tmp_path / "damaged.ckpt")


def test_a_checkpoint_without_a_sha256_is_protected_by_the_checksums_of_its_zip(good_run: Path, tmp_path: Path) -> None:
    plain = tmp_path / "plain.ckpt"
    torch.save(checkpoint_format.load_checkpoint(good_run / "checkpoints" / "best.ckpt"), plain)
    images = torch.rand(5, 28, 28)
    assert torch.equal(pretrained.load(plain)(images), pretrained.load(good_run)(images))
    content = bytearray(plain.read_bytes())
    content[len(content) // 2] ^= 1
    plain.write_bytes(content)
    with pytest.raises(UsageError):
        pretrained.load(plain)


def test_torch_loads_every_checkpoint_with_weights_only_and_no_allowed_globals(good_run: Path) -> None:
    for path in (good_run / "checkpoints").iterdir():
        assert torch.load(path, weights_only=True)["global_step"] > 0


def test_a_checkpoint_with_a_nan_weight_is_rejected(good_run: Path, tmp_path: Path) -> None:
    content = checkpoint_format.load_checkpoint(good_run / "checkpoints" / "best.ckpt")
    content["state_dict"]["net.0.weight"][0] = torch.nan
    (tmp_path / "nan.ckpt").write_bytes(to_checkpoint_bytes(content))
    with pytest.raises(UsageError, match="not finite"):
        digitnet.load(tmp_path / "nan.ckpt")


# Overrides that name other code than the components of an experiment, and what the error message must contain.
MALICIOUS_OVERRIDES = {
    "model._target_=os.system": "_target_=os.system",
    "trainer.logger={_target_: subprocess.check_output}": "_target_=subprocess.check_output",
    "trainer.callbacks=[{_target_: digitnet.checkpoints.pretrained.json.loads}]": "is not a model",
    "distillation.teacher._target_=torch.load": "_target_=torch.load",
    "trainer.logger.hydra={_target_: digitnet.models.cnn.torch.hub.load}": "digitnet.models.cnn.torch.hub.load",
    "trainer.logger=${oc.create:{_target_: digitnet.models.cnn.torch.load}}": "digitnet.models.cnn.torch.load",
    "trainer.profiler={_target_: lightning.fabric.utilities.cloud_io._load}": "is not a model",
}


@pytest.mark.parametrize("override", MALICIOUS_OVERRIDES)
def test_an_override_cannot_instantiate_anything_but_components_of_an_experiment(
    override: str, fork_server: ForkServer, tmp_path: Path
) -> None:
    extra = ("distillation=cnn",) if override.startswith("distillation") else ()
    result = fork_server.run("train", *TINY, *extra, override, folder=tmp_path)
    assert result.status == 2, result.err
    assert MALICIOUS_OVERRIDES[override] in result.err


TORCH_HUB_OVERRIDE = (
    "trainer.logger={_target_:lightning.pytorch.loggers.TensorBoardLogger,save_dir:x,"
    "hydra:{_target_:digitnet.models.cnn.torch.hub.load,repo_or_dir:hub,source:local,model:a}}"
)


def test_resuming_an_untrusted_run_cannot_load_code_through_a_nested_target(
    fork_server: ForkServer, tmp_path: Path
) -> None:
    (tmp_path / "hub").mkdir()
    (tmp_path / "hub" / "hubconf.py").write_text("open('sentinel', 'w')")
    write_record(tmp_path / "run", TORCH_HUB_OVERRIDE)
    result = fork_server.run("train", "resume=run", folder=tmp_path)
    assert result.status == 2, result.err
    assert "torch.hub.load" in result.err
    assert not (tmp_path / "sentinel").exists()


def write_record(run_dir: Path, *overrides: str) -> None:
    """Write what Hydra records of a run, as a stranger could."""
    (run_dir / ".hydra").mkdir(parents=True)
    (run_dir / ".hydra" / "overrides.yaml").write_text(json.dumps(overrides))
    (run_dir / ".hydra" / "config.yaml").write_text("{}")


# The import or the call of anything in the module `malicious` would leave a file.
MALICIOUS_RECORDS = {
    "a class": ("model._target_=malicious.Net",),
    "a class in a mapping": ("trainer.logger={_target_: malicious.Net}",),
    "a class in a list": ("trainer.callbacks=[{_target_: malicious.Net}]",),
    "a mapping for a config group": ("model={_target_: malicious.Net}",),
    "a class that a later override hides": ("trainer.logger={_target_: malicious.Net}", "~trainer.logger"),
    "a class that a later override replaces": (
        "trainer.logger={_target_: malicious.Net}",
        "trainer.logger._target_=lightning.pytorch.loggers.CSVLogger",
    ),
    "a class chosen by the run folder": (
        "trainer.logger.zz={x: digitnet.models.CNN, xrun: malicious.Net}",
        "model._target_='${oc.select:\"trainer.logger.zz.x${run_dir}\"}'",
    ),
    "a class chosen by the environment": (
        "trainer.logger.zz={k: digitnet.models.CNN, k1: malicious.call}",
        'model._target_=\'${oc.select:"trainer.logger.zz.k${oc.env:PL_GLOBAL_SEED,""}"}\'',
    ),
    "a class in an escaped interpolation": ("trainer.logger.zz='\\${oc.create:{_target_: malicious.call, a: 1}}'",),
    "a class behind an interpolation": ("model._target_=${x}", "+x=malicious.Net"),
    "a config file by its path": ("experiment=[../../../../../../../../../../proc/self/cwd/run/config]",),
    "a setting of Hydra": ("hydra.sweeper._target_=malicious.Net",),
    "a deletion of Hydra's settings": ("~hydra",),
    "a package of Hydra": ("model@hydra.launcher=cnn",),
    "another run folder": ("run_dir=elsewhere",),
    "an import": ("imports=malicious",),
    "a list of imports": ("++imports=[malicious]",),
    "an import by its position": ("+imports.0=malicious",),
    "an import in a package": ("imports@_global_=malicious",),
    "an import that a later override hides": ("imports=malicious", "~imports"),
    "a sweep": ("seed=1,2",),
    "a syntax error": ("[a",),
}


@pytest.mark.parametrize("record", MALICIOUS_RECORDS.values(), ids=MALICIOUS_RECORDS)
def test_resuming_an_untrusted_run_imports_no_code_that_it_names(
    record: tuple[str, ...], fork_server: ForkServer, tmp_path: Path
) -> None:
    (tmp_path / "malicious.py").write_text("open('sentinel', 'w')")
    write_record(tmp_path / "run", *record)
    add_to_sys_path = FaultInjection("digitnet.cli.hydra_app:run_hydra_app", 0, InsertInSysPath(str(tmp_path)))
    result = fork_server.run("train", "resume=run", folder=tmp_path, faults=[add_to_sys_path])
    assert result.status == 2, result.err
    assert "type that again if you trust it" in result.err or record == ("[a",), result.err
    assert not (tmp_path / "sentinel").exists()
    assert {path.name for path in (tmp_path / "run").iterdir()} == {".hydra"}, "nothing was written"


def test_resuming_an_untrusted_run_reads_no_config_file_of_the_folder_that_it_names(
    fork_server: ForkServer, tmp_path: Path
) -> None:
    (tmp_path / "malicious.py").write_text("open('sentinel', 'w')")
    (tmp_path / "conf" / "model").mkdir(parents=True)
    config = "# @package _global_\nimports: malicious\nmodel: {_target_: malicious.Net}\n"
    (tmp_path / "conf" / "model" / "own.yaml").write_text(config)
    write_record(tmp_path / "run", "model=own")
    source = {"path": str(tmp_path / "conf"), "schema": "file", "provider": "command-line"}
    record = {"hydra": {"runtime": {"config_sources": [source]}, "searchpath": [f"file://{tmp_path}/conf"]}}
    (tmp_path / "run" / ".hydra" / "hydra.yaml").write_text(json.dumps(record))
    result = fork_server.run("train", "resume=run", folder=tmp_path)
    assert result.status == 2, result.err
    assert "was started with --config-dir conf; type that again if you trust it" in result.err
    assert not (tmp_path / "sentinel").exists()
    fork_server.run("train", "resume=run", "--config-dir", "conf", folder=tmp_path)
    assert (tmp_path / "sentinel").exists(), "without the check, the module would have been imported"


class InsertInSysPath:
    """Add a folder to the module search path."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def __call__(self, *_: Any, **__: Any) -> None:
        import sys

        sys.path.insert(0, self.folder)
