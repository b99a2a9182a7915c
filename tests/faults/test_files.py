"""What is on the disk is whole: the old file or the new one, whenever a writer dies and whatever the disk says."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from digitnet.checkpoints import checkpoint_format
from tests.faults.child import TINY, Action, Ended, Fail, Forks, Give, Rest, Sabotage, Send, Wait
from tests.faults.conftest import Stopped, contents, difference, leftovers, state, stop_at, trials, without_curves
from tests.faults.test_resume import resume


class DiesWriting:
    """In place of Path.open: of what is written to a staged file only a share gets there, then the process dies."""

    def __init__(self, share: float, nth: int) -> None:
        self.share, self.nth, self.calls = share, nth, 0

    def __call__(self, path: Path, mode: str = "r", *arguments: Any, **options: Any) -> Any:
        file = open(path, mode, *arguments, **options)  # noqa: PTH123, SIM115
        if path.suffix == ".part" and path.name.startswith((".last", ".best")):
            self.calls += 1
            if self.calls == self.nth:
                write = file.write

                def torn(content: bytes) -> None:
                    write(content[: int(self.share * len(content))])
                    file.flush()
                    Send(signal.SIGKILL)()

                return Torn(file, torn)
        return file


class Torn:
    def __init__(self, file: Any, write: Any) -> None:
        self.file, self.write = file, write

    def __enter__(self) -> "Torn":
        return self

    def __exit__(self, *_: Any) -> None:
        self.file.close()


def whole_files(run: Path) -> int:
    """How many checkpoints there are; each can be read to the last byte."""
    found = list((run / "checkpoints").glob("*.ckpt"))
    return len([checkpoint_format.load_checkpoint(path) for path in found])


SHARES = [(share / 25, nth) for nth in (1, 4) for share in range(25)]


@pytest.mark.parametrize(("share", "nth"), trials(SHARES, fast=[SHARES[i] for i in (0, 12, 24, 30, 49)]))
def test_killed_inside_the_write_of_a_checkpoint(
    share: float, nth: int, forks: Forks, whole: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the system's temporary folder on another disk: Lightning's own way of writing then destroys the old file."""
    shm = Path("/dev/shm")
    if shm.is_dir():
        monkeypatch.setenv("TMPDIR", str(shm))
    torn = Sabotage("pathlib:Path.open", 0, DiesWriting(share, nth), instead=True)
    assert forks.run("train", *TINY, "hydra.run.dir=out", folder=tmp_path, sabotages=[torn]).status == -9
    assert whole_files(tmp_path / "out") == (0 if nth == 1 else 2)
    assert len(leftovers(tmp_path)) == 1
    assert resume(forks, tmp_path).status == 0
    assert difference(without_curves(state(tmp_path / "out")), without_curves(whole)) == ""
    assert leftovers(tmp_path) == []


@dataclass
class WriteInPlace:
    """As most programs write a file; something happens when half of last.ckpt is there."""

    halfway: Action

    def __call__(self, path: Path, content: bytes) -> None:
        path.parent.mkdir(exist_ok=True)
        with path.open("wb") as file:
            file.write(content[: len(content) // 2])
            file.flush()
            if path.name == "last.ckpt":
                self.halfway()
            file.write(content[len(content) // 2 :])


def in_place(halfway: Action) -> Sabotage:
    return Sabotage("digitnet.checkpoints.atomic:atomic_write", 0, WriteInPlace(halfway), instead=True)


@pytest.mark.parametrize("halfway", [Send(signal.SIGKILL), Fail(errno.ENOSPC)], ids=["kill", "full disk"])
def test_without_staging_it_destroys_the_file(halfway: Action, stopped: Stopped, forks: Forks, tmp_path: Path) -> None:
    stopped(3)
    assert forks.run("train", "resume=out", folder=tmp_path, sabotages=[in_place(halfway)]).status != 0
    with pytest.raises(checkpoint_format.UsageError):
        checkpoint_format.load_checkpoint(tmp_path / "out" / "checkpoints" / "last.ckpt")


class FailsWriting:
    """In place of Path.open: a staged file that the disk does not take."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __call__(self, path: Path, mode: str = "r", *arguments: Any, **options: Any) -> Any:
        file = open(path, mode, *arguments, **options)  # noqa: PTH123, SIM115
        return Torn(file, Fail(self.number)) if path.name.startswith(".last") else file


class FailsOnLast:
    """In place of a method of Path that writes."""

    def __init__(self, number: int, name: str) -> None:
        self.number, self.original = number, getattr(Path, name)

    def __call__(self, path: Path, *arguments: Any, **options: Any) -> Any:
        if path.name.startswith(".last") or (path.name == "checkpoints"):
            Fail(self.number)()
        return self.original(path, *arguments, **options)


ERRORS = [errno.ENOSPC, errno.EIO, errno.EACCES, errno.EROFS, errno.EDQUOT]
CALLS = {
    "write": lambda number: Sabotage("pathlib:Path.open", 0, FailsWriting(number), instead=True),
    "fsync": lambda number: Sabotage("os:fsync", 3, Fail(number)),  # after those of metrics.csv and its folder
    "replace": lambda number: Sabotage("pathlib:Path.replace", 0, FailsOnLast(number, "replace"), instead=True),
    "mkdir": lambda number: Sabotage("pathlib:Path.mkdir", 0, FailsOnLast(number, "mkdir"), instead=True),
}
BROKEN = [(number, call) for number in ERRORS for call in CALLS]


@pytest.mark.parametrize(("number", "call"), trials(BROKEN, fast=[BROKEN[i] for i in (0, 1, 2, 3, 8, 13)]))
def test_a_disk_that_does_not_take_it(
    number: int, call: str, stopped: Stopped, forks: Forks, whole: dict[str, Any], tmp_path: Path
) -> None:
    stopped(9)
    before = {path: path.read_bytes() for path in (tmp_path / "out" / "checkpoints").iterdir()}
    failed = forks.run("train", "resume=out", folder=tmp_path, sabotages=[CALLS[call](number)])
    assert failed.status == 1
    assert failed.err.count("\n") == 1, failed.err
    assert "cannot be written" in failed.err
    after = {path: path.read_bytes() for path in (tmp_path / "out" / "checkpoints").iterdir()}
    assert after.keys() == before.keys(), "nothing half-written stays"
    last = tmp_path / "out" / "checkpoints" / "last.ckpt"
    assert after[last] == before[last]
    assert resume(forks, tmp_path).status == 0
    assert difference(without_curves(state(tmp_path / "out")), without_curves(whole)) == ""


@contextmanager
def training(forks: Forks, folder: Path, *sabotages: Sabotage) -> Iterator[Any]:
    """A process that trains in `out` all the while, and has written a checkpoint already."""
    words = (*TINY, "trainer.max_epochs=2000", "hydra.run.dir=out")
    process = forks.start("train", *words, folder=folder, sabotages=sabotages)
    try:
        while not (folder / "out" / "checkpoints" / "last.ckpt").exists():
            assert process.exitcode is None, (folder / ".err").read_text()
            time.sleep(0.02)
        yield process
        assert process.exitcode is None
    finally:
        process.kill()
        process.join()


def steps_seen(run: Path, reads: int) -> set[int]:
    return {checkpoint_format.load_checkpoint(run / "checkpoints" / "last.ckpt")["global_step"] for _ in range(reads)}


@pytest.mark.parametrize("reads", trials((100, 1000), fast=(100,)))
def test_a_reader_never_sees_a_torn_checkpoint(reads: int, forks: Forks, tmp_path: Path) -> None:
    with training(forks, tmp_path):
        steps = steps_seen(tmp_path / "out", reads)
    assert len(steps) > 3, "or nobody wrote meanwhile"


def test_without_staging_a_reader_sees_one(forks: Forks, tmp_path: Path) -> None:
    with training(forks, tmp_path, in_place(Rest(0.01))), pytest.raises(checkpoint_format.UsageError):
        steps_seen(tmp_path / "out", 1000)


def test_two_trainers_do_not_share_a_folder(forks: Forks, tmp_path: Path) -> None:
    (tmp_path / "second").mkdir()
    with training(forks, tmp_path):
        record = (tmp_path / "out" / ".hydra" / "overrides.yaml").read_bytes()
        second = forks.run("train", f"resume={tmp_path / 'out'}", folder=tmp_path / "second")
        assert second.status == 2
        assert "another process trains there" in second.err
        fresh = forks.run("train", *TINY, f"hydra.run.dir={tmp_path / 'out'}", folder=tmp_path / "second")
        assert fresh.status == 2
        assert (tmp_path / "out" / ".hydra" / "overrides.yaml").read_bytes() == record
    again = forks.run("train", "resume=out", folder=tmp_path, sabotages=[stop_at(1)])
    assert again.status == 143, "a killed trainer leaves no lock behind"


def test_without_the_lock_they_do(forks: Forks, tmp_path: Path) -> None:
    off = Sabotage("digitnet.training.run_dir:lock_run_dir", 0, Give(nullcontext()), instead=True)
    (tmp_path / "second").mkdir()
    with training(forks, tmp_path) as first:
        os.kill(first.pid, signal.SIGSTOP)  # or what one writes may be what the other clears away, and end it
        second = forks.run("train", "resume=../out", folder=tmp_path / "second", sabotages=[off, stop_at(1)])
    assert second.status == 143, "it trains there, too"


CHECKED = "digitnet.train:lock"  # by now the folder was found free; it is taken in there


@pytest.mark.parametrize("kind", trials(("run", "sweep"), fast=["run"]))
def test_of_two_that_start_at_once_one_is_refused(
    kind: str, forks: Forks, whole: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "met").mkdir()
    sweep = ("-m", "seed=1,2") if kind == "sweep" else ()
    pair = {}
    for name in ("1", "2"):  # values of an option that tells the two apart and changes nothing
        (tmp_path / name).mkdir()
        words = (*sweep, *TINY, f"trainer.min_epochs={name}", f"hydra.{kind}.dir=../out")
        meet = Sabotage(CHECKED, 1, Wait(tmp_path / "met"))
        pair[name] = forks.start("train", *words, folder=tmp_path / name, sabotages=[meet])
    for process in pair.values():
        process.join(120)
    winner, loser = sorted(pair, key=lambda name: pair[name].exitcode)
    assert (pair[winner].exitcode, pair[loser].exitcode) == (0, 2)
    refusal = (tmp_path / loser / ".err").read_text()
    assert refusal.count("\n") == 1
    assert "out: another process trains there" in refusal
    records = [path.read_text() for path in (tmp_path / "out").rglob("overrides.yaml")]
    assert len(records) == (2 if sweep else 1)
    assert all(f"trainer.min_epochs={winner}" in record for record in records)
    first = tmp_path / "out" / ("0" if sweep else "")
    assert difference(state(first)["checkpoints"], whole["checkpoints"]) == ""


def overtaken(forks: Forks, folder: Path, *guards_off: Sabotage) -> tuple[Ended, list[str]]:
    """Between the check and the start of a run another one begins and ends in its folder, of which the names of the
    changed files are given.
    """
    for name in ("met", "late"):
        (folder / name).mkdir()
    wait = Sabotage(CHECKED, 1, Wait(folder / "met"))
    words = (*TINY, "optimizer.lr=0.5", "hydra.run.dir=../out")
    late = forks.start("train", *words, folder=folder / "late", sabotages=[*guards_off, wait])
    while not list((folder / "met").iterdir()):
        assert late.exitcode is None, (folder / "late" / ".err").read_text()
        time.sleep(0.02)
    assert forks.run("train", *TINY, "hydra.run.dir=out", folder=folder).status == 0
    before = contents(folder / "out")
    (folder / "met" / "go").touch()
    late.join(120)
    changed = [path.name for path, content in before.items() if contents(folder / "out")[path] != content]
    return Ended(late.exitcode, "", (folder / "late" / ".err").read_text(), 0), changed


def test_a_run_that_was_overtaken_writes_over_nothing(forks: Forks, tmp_path: Path) -> None:
    late, changed = overtaken(forks, tmp_path)
    assert late.status == 2
    assert "out already holds a run" in late.err
    assert changed == []


def test_without_a_second_look_a_run_that_was_overtaken_writes_over_the_record(forks: Forks, tmp_path: Path) -> None:
    _, changed = overtaken(forks, tmp_path, Sabotage(CHECKED, 0, Give(nullcontext()), instead=True))
    assert {"config.yaml", "overrides.yaml"} <= set(changed)


@pytest.mark.fault
def test_of_two_real_commands_started_at_once_one_is_refused(whole: dict[str, Any], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "digitnet.train", *TINY, "hydra.run.dir=out"]
    pair = [subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL) for _ in range(2)]
    assert sorted(process.wait(120) for process in pair) == [0, 2]
    assert difference(state(tmp_path / "out")["checkpoints"], whole["checkpoints"]) == ""


def test_a_moved_run_goes_on_where_it_is(stopped: Stopped, forks: Forks, whole: dict[str, Any], tmp_path: Path) -> None:
    shutil.move(stopped(11), tmp_path / "elsewhere")
    assert forks.run("train", "resume=elsewhere", folder=tmp_path).status == 0
    assert difference(state(tmp_path / "elsewhere"), whole) == ""
    assert json.loads((tmp_path / "elsewhere" / "metrics.json").read_text())["steps"] == 24
