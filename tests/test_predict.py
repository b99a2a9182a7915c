"""The command `digitnet-predict`: its arguments, files and folders, models, signals and exit status."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import digitnet
from digitnet import predict
from digitnet.checkpoints import pretrained
from digitnet.inference import output
from digitnet.inference.reader import DigitReader
from tests.conftest import Run
from tests.faults.test_checkpoints import MALICIOUS_CHECKPOINTS, to_checkpoint_bytes
from tests.inference.samples import digit_picture, is_one_line, label, save_digit
from tests.test_package import imported_by

GOLDEN = Path(__file__).parent / "golden" / "0.1.0-cnn.ckpt"


# In a process of its own


def test_files_with_any_name_are_read(tmp_path: Path) -> None:
    names = [b"a photo.png", b"two\nlines.png", "Ziffer fünf ✎.png".encode(), b"-dash.png", b"[bold]x.png"]
    names += [b"\xff\xfe.png"] if sys.platform == "linux" else []
    for index, name in enumerate(names):
        (tmp_path / os.fsdecode(name)).write_bytes(save_digit(tmp_path / "written", index).read_bytes())
    command = [sys.executable, "-m", "digitnet.predict", "--", *names]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False, timeout=120)
    assert (done.returncode, done.stderr) == (0, b"")
    rows = [line.split("│")[1:3] for line in done.stdout.decode().splitlines() if "│" in line]
    shown = ["a photo.png", r"two\nlines.png", "Ziffer fünf ✎.png", "-dash.png", "[bold]x.png", r"\udcff\udcfe.png"]
    assert [[cell.strip() for cell in row] for row in rows] == [
        [name, label(index)] for index, name in enumerate(shown[: len(names)])
    ]


def test_help_does_not_import_torch() -> None:
    exit_quietly = "try: entry.main()\nexcept SystemExit: pass"
    code = f"import sys; sys.argv[1:] = ['--help']\nimport digitnet.predict as entry\n{exit_quietly}"
    assert not imported_by(code) & {"torch", "lightning", "torchvision", "matplotlib", "scipy", "skimage"}


SIGNALS = [
    pytest.param(0, [signal.SIGINT], id="Ctrl-C while the processes start"),
    pytest.param(1.5, [signal.SIGINT], id="Ctrl-C while they read"),
    pytest.param(1.5, [signal.SIGINT] * 2, id="Ctrl-C twice", marks=pytest.mark.fault),
    pytest.param(0, [signal.SIGTERM], id="SIGTERM while the processes start", marks=pytest.mark.fault),
    pytest.param(1.5, [signal.SIGTERM], id="SIGTERM while they read", marks=pytest.mark.fault),
]


@pytest.fixture
def long_command(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A command that reads 3,000 files and has started its two worker processes."""
    random = np.random.default_rng(0)
    noisy = np.asarray(digit_picture(0).resize((480, 480)), float) * 0.8 + random.normal(30, 2, (480, 480))
    Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(tmp_path / "0.jpg")
    for number in range(1, 3000):
        (tmp_path / f"{number}.jpg").hardlink_to(tmp_path / "0.jpg")
    command = [sys.executable, "-m", "digitnet.predict", str(tmp_path)]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes, start_new_session=True) as process:
        try:
            deadline = time.monotonic() + 60
            while len(worker_pids(process.pid)) < 2 and time.monotonic() < deadline:
                time.sleep(0.01)
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.parametrize(("seconds", "signals"), SIGNALS)
def test_a_signal_ends_a_long_command_without_output(
    seconds: float, signals: list[signal.Signals], long_command: subprocess.Popen[str]
) -> None:
    time.sleep(seconds)
    assert long_command.poll() is None, "the command ended before the signal"
    for number in signals:
        if number == signal.SIGINT:
            os.killpg(long_command.pid, number)  # a terminal sends it to the whole process group
        else:
            long_command.send_signal(number)
        time.sleep(0.05)
    assert long_command.communicate(timeout=30) == ("", "")
    # The second one may arrive when Python has restored its own handlers; a shell reports the same status for both.
    assert long_command.returncode in (128 + signals[0], -signals[-1] if len(signals) > 1 else None)


def test_a_killed_worker_process_is_reported_instead_of_awaited(long_command: subprocess.Popen[str]) -> None:
    *_, worker = worker_pids(long_command.pid)
    while processor_seconds(worker) < 2:  # by then it reads files, however busy the machine is
        time.sleep(0.1)
    os.kill(int(worker), signal.SIGKILL)
    assert long_command.communicate(timeout=60) == (
        "",
        "digitnet: error: a process was killed, perhaps for memory; read fewer files at a time\n",
    )
    assert long_command.returncode == 1


def worker_pids(pid: int) -> list[str]:
    listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False)
    return listed.stdout.split()


def processor_seconds(pid: str) -> int:
    return int(subprocess.check_output(["ps", "-o", "cputimes=", "--pid", pid], text=True))


# Files and folders


def test_a_folder_is_read_recursively_and_other_files_are_ignored(run: Run, tmp_path: Path) -> None:
    for index, name in enumerate(["in/b.png", "in/a/z.PNG", "in/c/d/e.jpeg", "in/ä.png"]):
        save_digit(tmp_path / name, index)
    (tmp_path / "in" / "notes.txt").write_text("not a picture, and not an error")
    (tmp_path / "in" / "bad.png").write_text("not a picture")
    done = run(predict, "in", "--json")
    answers = {record["file"]: record.get("answer") for record in json.loads(done.out)}
    assert list(answers) == ["in/a/z.PNG", "in/b.png", "in/bad.png", "in/c/d/e.jpeg", "in/ä.png"]
    assert list(answers.values()) == [label(1), label(0), None, label(2), label(3)]
    assert is_one_line(done.err)
    assert "in/bad.png" in done.err
    assert done.status == 0


def test_named_files_that_are_not_pictures_are_reported_and_the_others_are_read(run: Run, tmp_path: Path) -> None:
    save_digit(tmp_path / "a.png", 0)
    save_digit(tmp_path / "c.png", 1)
    (tmp_path / "b.png").write_bytes(b"")
    done = run(predict, "a.png", "b.png", "missing.png", "c.png", "--json")
    assert done.status == 2
    records = json.loads(done.out)
    assert [record.get("answer") for record in records] == [label(0), None, None, label(1)]
    assert "b.png: is empty" in records[1]["error"]
    assert records[1]["digit"] is None
    first, second = done.err.splitlines(keepends=True)
    assert is_one_line(first)
    assert "b.png: is empty" in first
    assert is_one_line(second)
    assert "missing.png: cannot be read" in second


@pytest.mark.parametrize("form", [(), ("--json",), ("--csv",)], ids=["table", "json", "csv"])
def test_a_single_file_that_is_not_a_picture_is_one_line(form: tuple[str, ...], run: Run, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"not a picture")
    done = run(predict, "bad.png", *form)
    assert (done.status, done.out) == (2, "")
    assert is_one_line(done.err)
    assert "bad.png" in done.err


def test_a_folder_with_nothing_but_bad_files_is_an_error(run: Run, tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(b"not a picture")
    done = run(predict, ".")
    assert done.status == 2
    assert done.err.count("digitnet: error: ") == 2


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("empty",),
        ("x.png", "empty"),
        ("x.png", "--model", "mlp", "--run", "cnn"),
        ("x.png", "--model", "vit"),
        ("x.png", "--json", "--csv"),
        ("x.png", "--what"),
        ("x.png", "--model", "missing"),
        ("x.png", "--model", "missing.ckpt"),
        ("x.png", "--model", "x.png"),
        ("x.png", "--test-samples", "3"),
        ("--test-samples", "3", "--json"),
        ("--test-samples", "0"),
        ("--test-samples", "-1"),
        ("--test-samples", "many"),
        ("--test-samples", "3", "--data-root", "empty"),
        ("x.png", "--data-root", "empty"),
    ],
    ids=" ".join,
)
def test_wrong_arguments_are_reported_in_one_line(arguments: tuple[str, ...], run: Run, tmp_path: Path) -> None:
    save_digit(tmp_path / "x.png", 0)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_text("not a picture")
    done = run(predict, *arguments)
    assert (done.status, done.out) == (2, "")
    assert is_one_line(done.err)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (("--run", "cnn"), "--model"),
        (("--run=cnn",), "--model"),
        (("--sheet", "x.png"), "--contact-sheet"),
        (("--test-digits", "3"), "--test-samples"),
    ],
)
def test_an_option_of_version_0_1_0_is_answered_with_its_new_name(old: tuple[str, ...], new: str, run: Run) -> None:
    done = run(predict, "x.png", *old)
    assert (done.status, done.out) == (2, "")
    assert is_one_line(done.err)
    assert f"did you mean {new}?" in done.err


# Models


@pytest.mark.parametrize("model", ["mlp", str(GOLDEN), "run"])
def test_predictions_come_from_the_given_model(model: str, run: Run, tmp_path: Path) -> None:
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    shutil.copy(GOLDEN, tmp_path / "run" / "checkpoints" / "best.ckpt")
    save_digit(tmp_path / "x.png", 0)
    runs = [run(predict, "x.png", "--json", *options) for options in (("--model", model), ())]
    assert [(done.status, done.err) for done in runs] == [(0, "")] * 2
    (given,), (default,) = (json.loads(done.out) for done in runs)
    assert given["probabilities"] != default["probabilities"]
    reader = DigitReader(pretrained.load("mlp" if model == "mlp" else GOLDEN))
    assert given["probabilities"] == list(reader.read(tmp_path / "x.png").digits[0].probabilities)


@pytest.mark.parametrize("attack", ["os.system", "many neurons", "legacy tar"])
def test_a_checkpoint_that_would_execute_code_is_refused(attack: str, run: Run, tmp_path: Path) -> None:
    model = digitnet.CNN(channels=[4], hidden=0)
    good = {"digitnet_model": "CNN", "hyper_parameters": dict(model.hparams), "state_dict": model.state_dict()}
    made = MALICIOUS_CHECKPOINTS[attack](good)
    (tmp_path / "evil.ckpt").write_bytes(made if isinstance(made, bytes) else to_checkpoint_bytes(made))
    save_digit(tmp_path / "x.png", 0)
    done = run(predict, "x.png", "--model", "evil.ckpt")
    assert (done.status, done.out) == (2, "")
    assert is_one_line(done.err)
    assert {path.name for path in tmp_path.iterdir()} == {"evil.ckpt", "x.png"}


# Test samples and contact sheets


def test_random_test_samples_are_printed_with_their_labels(run: Run) -> None:
    done = run(predict, "--test-samples", "5")
    assert (done.status, done.err) == (0, "")
    assert "predicted" in done.out
    assert "actual" in done.out
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in done.out.splitlines() if "│" in line]
    assert len(rows) == 5
    for index, predicted, actual, _, mark in rows:
        assert actual == label(int(index))
        assert (mark == "wrong") == (predicted != actual)


def test_a_contact_sheet_of_test_samples_has_a_limited_height(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output, "MAX_SHEET_IMAGES", 16)
    heights = {}
    for count in ("8", "16", "30"):
        assert run(predict, "--test-samples", count, "--contact-sheet", f"{count}.png").status == 0
        with Image.open(tmp_path / f"{count}.png") as sheet:
            heights[count] = sheet.height
    assert heights["8"] < heights["16"] == heights["30"]


@pytest.mark.parametrize("name", ["sheet.jpg", "sheet", "missing/sheet.png"])
def test_an_invalid_path_of_a_contact_sheet_is_refused_before_reading(name: str, run: Run, tmp_path: Path) -> None:
    done = run(predict, str(save_digit(tmp_path / "x.png", 0)), "--contact-sheet", name)
    assert (done.status, done.out) == (2, "")
    assert is_one_line(done.err)
    assert not (tmp_path / name).exists()


def test_a_contact_sheet_does_not_overwrite_a_picture(run: Run, tmp_path: Path) -> None:
    """`--contact-sheet *.png` would name one."""
    photo = save_digit(tmp_path / "a.png", 0)
    content = photo.read_bytes()
    done = run(predict, "--contact-sheet", "a.png", str(save_digit(tmp_path / "b.png", 1)))
    assert (done.status, done.out) == (2, "")
    assert "--contact-sheet=a.png: must be a new file" in done.err
    assert photo.read_bytes() == content
