"""The command that reads pictures: what it answers, in which form, and what it does with what is no picture."""

import contextlib
import csv
import io
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
import torch
from PIL import Image, ImageDraw

import digitnet
from digitnet import predict
from digitnet.checkpoints import pretrained
from digitnet.data import mnist
from digitnet.errors import UsageError
from digitnet.inference import reader as reading
from digitnet.inference.reader import Reader
from tests.conftest import Run
from tests.faults.test_checkpoints import GADGETS, torch_saved
from tests.test_package import imported_by

GOLDEN = Path(__file__).parent / "golden" / "0.1.0-cnn.ckpt"
IMAGES, LABELS = mnist.load("test")

linux = pytest.mark.skipif(sys.platform != "linux", reason="names are any bytes only there")


@pytest.fixture(scope="session")
def reader() -> Reader:
    return Reader("cnn")


def picture(number: int) -> Image.Image:
    """A test image, large, dark on white."""
    return Image.fromarray(255 - IMAGES[number].numpy()).resize((140, 140), Image.Resampling.BICUBIC)


def write(path: Path, number: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture(number).save(path, "PNG")
    return path


def label(number: int) -> str:
    return str(LABELS[number].item())


def scribble(seed: int) -> Image.Image:
    """A pen that went to and fro a dozen times."""
    points = np.random.default_rng(seed).uniform(40, 260, (12, 2)).tolist()
    image = Image.new("L", (300, 300), 255)
    ImageDraw.Draw(image).line([tuple(point) for point in points], fill=0, width=6, joint="curve")
    return image


def is_one_line(text: str) -> bool:
    return text.startswith("digitnet: error: ") and text.count("\n") == 1 and text.endswith("\n")


# As a user types it


def test_pictures_of_any_name_are_read_from_any_folder(tmp_path: Path) -> None:
    names = [b"a photo.png", b"two\nlines.png", "Ziffer fünf ✎.png".encode(), b"-dash.png", b"[bold]x.png"]
    names += [b"\xff\xfe.png"] if sys.platform == "linux" else []
    for number, name in enumerate(names):
        (tmp_path / os.fsdecode(name)).write_bytes(write(tmp_path / "written", number).read_bytes())
    command = [sys.executable, "-m", "digitnet.predict", "--", *names]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False, timeout=120)
    assert (done.returncode, done.stderr) == (0, b"")
    rows = [line.split("│")[1:3] for line in done.stdout.decode().splitlines() if "│" in line]
    shown = ["a photo.png", r"two\nlines.png", "Ziffer fünf ✎.png", "-dash.png", "[bold]x.png", r"\udcff\udcfe.png"]
    assert [[cell.strip() for cell in row] for row in rows] == [
        [name, label(number)] for number, name in enumerate(shown[: len(names)])
    ]


def test_help_needs_no_torch() -> None:
    quit_quietly = "try: door.main()\nexcept SystemExit: pass"
    code = f"import sys; sys.argv[1:] = ['--help']\nimport digitnet.predict as door\n{quit_quietly}"
    assert not imported_by(code) & {"torch", "lightning", "torchvision", "matplotlib", "scipy", "skimage"}


STOPS = [
    pytest.param(0, [signal.SIGINT], id="Ctrl-C while the processes start"),
    pytest.param(1.5, [signal.SIGINT], id="Ctrl-C while they read"),
    pytest.param(1.5, [signal.SIGINT] * 2, id="Ctrl-C twice", marks=pytest.mark.fault),
    pytest.param(0, [signal.SIGTERM], id="terminated while the processes start", marks=pytest.mark.fault),
    pytest.param(1.5, [signal.SIGTERM], id="terminated while they read", marks=pytest.mark.fault),
]


@pytest.fixture
def reading_many(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A command that reads 3,000 files, its two processes started."""
    random = np.random.default_rng(0)
    noisy = np.asarray(picture(0).resize((480, 480)), float) * 0.8 + random.normal(30, 2, (480, 480))
    Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(tmp_path / "0.jpg")
    for number in range(1, 3000):
        (tmp_path / f"{number}.jpg").hardlink_to(tmp_path / "0.jpg")
    command = [sys.executable, "-m", "digitnet.predict", str(tmp_path)]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes, start_new_session=True) as process:
        try:
            until = time.monotonic() + 60
            while len(workers_of(process.pid)) < 2 and time.monotonic() < until:
                time.sleep(0.01)
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.parametrize(("after", "numbers"), STOPS)
def test_a_signal_ends_a_long_read_quietly(
    after: float, numbers: list[signal.Signals], reading_many: subprocess.Popen[str]
) -> None:
    time.sleep(after)
    assert reading_many.poll() is None, "too quick to be interrupted"
    for number in numbers:
        if number == signal.SIGINT:
            os.killpg(reading_many.pid, number)  # as a terminal does: to all of them
        else:
            reading_many.send_signal(number)
        time.sleep(0.05)
    assert reading_many.communicate(timeout=30) == ("", "")
    # The second one may come when Python has put its handlers away; a shell gives both the same status.
    assert reading_many.returncode in (128 + numbers[0], -numbers[-1] if len(numbers) > 1 else None)


def test_a_process_that_is_killed_is_not_waited_for(reading_many: subprocess.Popen[str]) -> None:
    *_, worker = workers_of(reading_many.pid)
    while processor_seconds(worker) < 2:  # by then it reads, however busy the machine is
        time.sleep(0.1)
    os.kill(int(worker), signal.SIGKILL)
    assert reading_many.communicate(timeout=60) == (
        "",
        "digitnet: error: a process was killed, perhaps for memory; read fewer files at a time\n",
    )
    assert reading_many.returncode == 1


def workers_of(pid: int) -> list[str]:
    listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False)
    return listed.stdout.split()


def processor_seconds(pid: str) -> int:
    return int(subprocess.check_output(["ps", "-o", "cputimes=", "--pid", pid], text=True))


# Forms of the answer


def test_the_table_tells_digit_probability_and_runner_up(run: Run, tmp_path: Path) -> None:
    done = run(predict, str(write(tmp_path / "x.png", 0)))
    assert (done.status, done.err) == (0, "")
    (cells,) = [line.split("│") for line in done.out.splitlines() if "x.png" in line]
    assert cells[2].strip() == label(0)
    assert 90 < float(cells[3].strip().rstrip("%")) <= 100
    assert cells[4].split()[0] in set("0123456789") - {label(0)}


def test_json_is_a_list_with_an_object_for_each_file(run: Run, tmp_path: Path) -> None:
    two = np.hstack([np.asarray(picture(number)) for number in (3, 4)])
    Image.fromarray(two).save(tmp_path / "two.png")
    Image.new("L", (90, 60), 255).save(tmp_path / "blank.png")
    write(tmp_path / "one.png", 0)
    done = run(predict, "--json", "two.png", "one.png", "blank.png")
    assert (done.status, done.err) == (0, "")
    several, one, nothing = json.loads(done.out)
    for each, file in ((several, "two.png"), (one, "one.png"), (nothing, "blank.png")):
        assert each.keys() == {"file", "digit", "probability", "probabilities", "answer", "digits"}
        assert each["file"] == file
    assert (one["digit"], one["answer"], len(one["digits"])) == (LABELS[0].item(), label(0), 1)
    assert one["probability"] == max(one["probabilities"]) > 0.9
    assert len(one["probabilities"]) == 10
    assert sum(one["probabilities"]) == pytest.approx(1, abs=1e-5)
    assert one["probabilities"][one["digit"]] == one["probability"]
    assert several["answer"] == label(3) + label(4)
    assert [each["digit"] for each in several["digits"]] == [LABELS[3].item(), LABELS[4].item()]
    left, right = (each["box"] for each in several["digits"])
    assert 0 <= left[0] < left[2] <= 140 <= right[0] < right[2] <= 280
    assert nothing["answer"] == "no digit"
    assert (nothing["digit"], nothing["probability"], nothing["probabilities"]) == (None, None, None)
    assert nothing["digits"] == []


@pytest.mark.parametrize("larger", [0, 1], ids=["the left one", "the right one"])
def test_the_largest_of_several_digits_is_that_of_the_file(larger: int, run: Run, tmp_path: Path) -> None:
    sides = [100, 100]
    sides[larger] = 140
    both = Image.new("L", (280, 140), 255)
    for place, number in enumerate((3, 4)):
        both.paste(picture(number).resize((sides[place], sides[place])), (140 * place, 0))
    both.save(tmp_path / "two.png")
    (told,) = json.loads(run(predict, "--json", "two.png").out)
    assert told["answer"] == label(3) + label(4)
    assert told["digit"] == LABELS[3 + larger].item()
    assert told["probabilities"] == told["digits"][larger]["probabilities"]


def test_csv_has_a_line_for_each_file(run: Run, tmp_path: Path) -> None:
    names = ["a, b.png", 'the "best".png', "two\nlines.png"]
    for number, name in enumerate(names):
        write(tmp_path / name, number)
    (tmp_path / "bad.png").write_bytes(b"no picture")
    done = run(predict, "--csv", *names, "bad.png")
    rows = list(csv.DictReader(io.StringIO(done.out)))
    assert [row["file"] for row in rows] == [*names, "bad.png"]
    for number, row in enumerate(rows[:3]):
        assert row["answer"] == row["digit"] == label(number)
        chances = [float(row[f"probability of {digit}"]) for digit in range(10)]
        assert sum(chances) == pytest.approx(1, abs=1e-5)
        assert float(row["probability"]) == max(chances) == chances[int(row["digit"])]
    assert rows[3]["answer"].startswith("bad.png: is damaged")
    assert rows[3]["digit"] == rows[3]["probability"] == ""


def test_a_sheet_is_drawn(run: Run, tmp_path: Path) -> None:
    for number in range(4):
        write(tmp_path / "in" / f"{number} $x^.png", number)
    (tmp_path / "in" / "4.png").write_bytes(b"no picture")
    Image.new("L", (90, 60), 255).save(tmp_path / "in" / "5.png")
    done = run(predict, "in", "--sheet", "sheet.png")
    assert done.status == 0
    assert "drawn: sheet.png" in done.err
    with Image.open(tmp_path / "sheet.png") as sheet:
        width, height = sheet.size
        assert 600 < width < 3000
        assert 150 < height < 1500
        assert len(np.unique(np.asarray(sheet.convert("L")))) > 20


@pytest.mark.parametrize("name", ["sheet.jpg", "sheet", "missing/sheet.png"])
def test_a_sheet_that_cannot_be_drawn_is_refused_at_once(name: str, run: Run, tmp_path: Path) -> None:
    done = run(predict, str(write(tmp_path / "x.png", 0)), "--sheet", name)
    assert (done.status, done.out) == (2, "")
    assert is_one_line(done.err)
    assert not (tmp_path / name).exists()


def test_a_sheet_is_not_drawn_over_a_picture(run: Run, tmp_path: Path) -> None:
    """As `--sheet *.png` would have it."""
    photo = write(tmp_path / "a.png", 0)
    content = photo.read_bytes()
    done = run(predict, "--sheet", "a.png", str(write(tmp_path / "b.png", 1)))
    assert (done.status, done.out) == (2, "")
    assert "--sheet=a.png: must be a new file" in done.err
    assert photo.read_bytes() == content


# Files and folders


def test_a_folder_is_read_with_all_below_it_and_without_what_is_no_picture(run: Run, tmp_path: Path) -> None:
    for number, name in enumerate(["in/b.png", "in/a/z.PNG", "in/c/d/e.jpeg", "in/ä.png"]):
        write(tmp_path / name, number)
    (tmp_path / "in" / "notes.txt").write_text("no picture, and no matter")
    (tmp_path / "in" / "bad.png").write_text("no picture")
    done = run(predict, "in", "--json")
    answers = {each["file"]: each.get("answer") for each in json.loads(done.out)}
    assert list(answers) == ["in/a/z.PNG", "in/b.png", "in/bad.png", "in/c/d/e.jpeg", "in/ä.png"]
    assert list(answers.values()) == [label(1), label(0), None, label(2), label(3)]
    assert is_one_line(done.err)
    assert "in/bad.png" in done.err
    assert done.status == 0


def test_a_named_file_that_is_no_picture_is_told_and_the_others_are_read(run: Run, tmp_path: Path) -> None:
    write(tmp_path / "a.png", 0)
    write(tmp_path / "c.png", 1)
    (tmp_path / "b.png").write_bytes(b"")
    done = run(predict, "a.png", "b.png", "missing.png", "c.png", "--json")
    assert done.status == 2
    outcomes = json.loads(done.out)
    assert [each.get("answer") for each in outcomes] == [label(0), None, None, label(1)]
    assert "b.png: is empty" in outcomes[1]["error"]
    assert outcomes[1]["digit"] is None
    first, second = done.err.splitlines(keepends=True)
    assert is_one_line(first)
    assert "b.png: is empty" in first
    assert is_one_line(second)
    assert "missing.png: cannot be read" in second


@pytest.mark.parametrize("form", [(), ("--json",), ("--csv",)], ids=["table", "json", "csv"])
def test_a_single_file_that_is_no_picture_gets_one_line(form: tuple[str, ...], run: Run, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"no picture")
    done = run(predict, "bad.png", *form)
    assert (done.status, done.out) == (2, "")
    assert is_one_line(done.err)
    assert "bad.png" in done.err


def test_a_folder_of_nothing_but_bad_files_is_an_error(run: Run, tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(b"no picture")
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
        ("x.png", "--run", "missing"),
        ("x.png", "--run", "missing.ckpt"),
        ("x.png", "--run", "x.png"),
        ("x.png", "--test-digits", "3"),
        ("--test-digits", "3", "--json"),
        ("--test-digits", "0"),
        ("--test-digits", "-1"),
        ("--test-digits", "many"),
    ],
    ids=" ".join,
)
def test_wrong_arguments_get_one_line(arguments: tuple[str, ...], run: Run, tmp_path: Path) -> None:
    write(tmp_path / "x.png", 0)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_text("no picture")
    done = run(predict, *arguments)
    assert (done.status, done.out) == (2, "")
    assert is_one_line(done.err)


# Models


@pytest.mark.parametrize("option", [("--model", "mlp"), ("--run", "mlp"), ("--run", str(GOLDEN)), ("--run", "run")])
def test_another_model_can_be_asked(option: tuple[str, str], run: Run, tmp_path: Path) -> None:
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    shutil.copy(GOLDEN, tmp_path / "run" / "checkpoints" / "best.ckpt")
    write(tmp_path / "x.png", 0)
    outcomes = [run(predict, "x.png", "--json", *others) for others in (option, ())]
    assert [(done.status, done.err) for done in outcomes] == [(0, "")] * 2
    (other,), (usual,) = (json.loads(done.out) for done in outcomes)
    assert other["probabilities"] != usual["probabilities"]
    model = pretrained.load("mlp" if option[1] == "mlp" else GOLDEN)
    assert other["probabilities"] == list(Reader(model).read(tmp_path / "x.png").digits[0].probabilities)


@pytest.mark.parametrize("gadget", ["os.system", "many neurons", "legacy tar"])
def test_a_checkpoint_that_asks_for_code_is_refused(gadget: str, run: Run, tmp_path: Path) -> None:
    model = digitnet.CNN(channels=[4], hidden=0)
    good = {"digitnet_model": "CNN", "hyper_parameters": dict(model.hparams), "state_dict": model.state_dict()}
    made = GADGETS[gadget](good)
    (tmp_path / "evil.ckpt").write_bytes(made if isinstance(made, bytes) else torch_saved(made))
    write(tmp_path / "x.png", 0)
    done = run(predict, "x.png", "--run", "evil.ckpt")
    assert (done.status, done.out) == (2, "")
    assert is_one_line(done.err)
    assert {path.name for path in tmp_path.iterdir()} == {"evil.ckpt", "x.png"}


def test_random_test_digits_are_shown_with_what_they_are(run: Run) -> None:
    done = run(predict, "--test-digits", "5")
    assert (done.status, done.err) == (0, "")
    assert "Predicted" in done.out
    assert "Actual" in done.out
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in done.out.splitlines() if "│" in line]
    assert len(rows) == 5
    for number, predicted, actual, _, mark in rows:
        assert actual == label(int(number))
        assert (mark == "wrong") == (predicted != actual)


def test_a_sheet_of_test_digits_ends_where_it_would_be_too_long(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predict, "ON_A_SHEET", 16)
    heights = {}
    for count in ("8", "16", "30"):
        assert run(predict, "--test-digits", count, "--sheet", f"{count}.png").status == 0
        with Image.open(tmp_path / f"{count}.png") as sheet:
            heights[count] = sheet.height
    assert heights["8"] < heights["16"] == heights["30"]


# What is no digit


@pytest.mark.parametrize("tone", [255, 128, 0])
def test_a_blank_picture_has_no_digit(tone: int, run: Run, tmp_path: Path) -> None:
    Image.new("L", (200, 100), tone).save(tmp_path / "blank.png")
    done = run(predict, "blank.png")
    assert (done.status, done.err) == (0, "")
    assert "no digit" in done.out


def test_most_scribbles_are_answered_with_not_sure(reader: Reader) -> None:
    answers = [reader.read(scribble(seed)).answer for seed in range(20)]
    assert sum(answer in ("not sure", "no digit") for answer in answers) >= 12


def test_noise_is_answered_with_no_digit(reader: Reader) -> None:
    for seed in range(20):
        noise = np.random.default_rng(seed).integers(0, 256, (200, 200), dtype=np.uint8)
        assert reader.read(noise).answer in ("not sure", "no digit")


def test_what_is_not_sure_is_shown_with_its_best_guess(run: Run, tmp_path: Path, reader: Reader) -> None:
    scribble(next(seed for seed in range(99) if reader.read(scribble(seed)).answer == "not sure")).save(
        tmp_path / "x.png"
    )
    done = run(predict, "x.png")
    guess = reader.read(tmp_path / "x.png").largest
    assert done.status == 0
    assert guess is not None
    assert f"not sure ({guess.digit}?)" in done.out
    (told,) = json.loads(run(predict, "x.png", "--json").out)
    assert (told["digit"], told["answer"]) == (None, "not sure")
    assert len(told["probabilities"]) == 10


@pytest.mark.parametrize("name", ["cnn", "mlp"])
def test_a_shipped_network_is_as_sure_of_new_digits_as_it_may_be(name: str) -> None:
    one, (images, labels) = Reader(name), mnist.load("test")
    logits = one.logits(images)
    chances, chosen = one.calibrated(logits).max(dim=1)
    sure = (chances >= reading.SURE) & (logits.logsumexp(dim=1) >= one.familiar)
    assert 0.002 < (~sure).float().mean() <= 0.02
    assert (chosen == labels)[sure].float().mean() > 0.995  # of what is said to be sure
    assert abs(chances.mean() - (chosen == labels).float().mean()) < 0.002  # calibrated


def test_a_network_is_too_sure_of_the_images_that_it_was_trained_on() -> None:
    one = Reader("mlp")
    assert one.calibrate()["temperature"] < one.temperature


def test_a_network_of_ones_own_is_calibrated_when_it_is_read_with() -> None:
    model = digitnet.load("mlp")
    model.calibration = None
    one = Reader(model)
    assert {"temperature": one.temperature, "energy": one.familiar} == one.calibrate()


# In Python


def test_a_picture_is_read_in_one_line_of_python(tmp_path: Path) -> None:
    path = write(tmp_path / "photo.png", 0)
    given: list[Any] = [path, str(path), picture(0), np.asarray(picture(0)), np.asarray(picture(0)) / 255, IMAGES[0]]
    for source in (*given[:-1], IMAGES[0].numpy()):
        result = digitnet.read(source, model="cnn")
        assert (result.text, result.answer) == (label(0), label(0))
        assert result.digits[0].image.shape == (28, 28)
    with pytest.raises(UsageError, match="not a picture; give a path"):
        digitnet.read(given[-1])
    assert digitnet.read(path, model=pretrained.load("mlp")).text == label(0)


def test_a_network_that_is_being_trained_is_read_with_as_it_would_be_after(tmp_path: Path) -> None:
    model = digitnet.CNN(channels=[4, 8], dropout=0.5).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    once, again = (digitnet.read(picture(0), model=model).digits[0].probabilities for _ in range(2))
    assert once == again, "dropout is off"
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(module.training for module in model.modules())


def test_a_second_picture_needs_no_second_model(monkeypatch: pytest.MonkeyPatch) -> None:
    reading.reader_of.cache_clear()
    loaded = []
    load = pretrained.load
    monkeypatch.setattr(pretrained, "load", lambda source: (loaded.append(source), load(source))[1])
    assert [digitnet.read(picture(number), model="mlp").text for number in range(3)] == [label(n) for n in range(3)]
    assert loaded == ["mlp"]


# Many


def test_many_files_get_the_answers_that_each_gets_alone(
    reader: Reader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [write(tmp_path / f"{number}.png", number) for number in range(80)]
    paths[13].write_bytes(b"no picture")
    alone = []
    for path in paths:
        try:
            alone.append(reader.read(path))
        except UsageError as error:
            alone.append(error)
    used = []
    spawned = digitnet.inference.photos.parallel.multiprocessing.get_context
    monkeypatch.setattr(
        digitnet.inference.photos.parallel.multiprocessing,
        "get_context",
        lambda method: (used.append(method), spawned(method))[1],
    )
    together = list(reader.read_files(paths))
    assert used == ["spawn"] or len(os.sched_getaffinity(0)) == 1
    assert len(together) == 80
    for number, (one, other) in enumerate(zip(alone, together, strict=True)):
        if number == 13:
            assert isinstance(other, UsageError)
            assert str(other) == str(one)
            continue
        assert isinstance(one, reading.Reading)
        assert isinstance(other, reading.Reading)
        assert one.text == other.text == label(number)
        assert np.array_equal(one.digits[0].image, other.digits[0].image)
        assert one.digits[0].probabilities == pytest.approx(other.digits[0].probabilities, abs=1e-5)
