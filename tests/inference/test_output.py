"""The forms in which `digitnet-predict` prints its predictions."""

import csv
import errno
import io
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from digitnet import predict
from digitnet.errors import RunError
from digitnet.inference import output
from digitnet.inference.reader import DigitReader
from tests.conftest import Run
from tests.inference.samples import LABELS, digit_picture, label, save_digit, scribble


def test_the_table_has_the_digit_its_probability_and_the_runner_up(run: Run, tmp_path: Path) -> None:
    done = run(predict, str(save_digit(tmp_path / "x.png", 0)))
    assert (done.status, done.err) == (0, "")
    (cells,) = [line.split("│") for line in done.out.splitlines() if "x.png" in line]
    assert cells[2].strip() == label(0)
    assert 90 < float(cells[3].strip().rstrip("%")) <= 100
    assert cells[4].split()[0] in set("0123456789") - {label(0)}


@pytest.mark.parametrize("tone", [255, 128, 0])
def test_a_blank_picture_has_no_digit(tone: int, run: Run, tmp_path: Path) -> None:
    Image.new("L", (200, 100), tone).save(tmp_path / "blank.png")
    done = run(predict, "blank.png")
    assert (done.status, done.err) == (0, "")
    assert "no digit" in done.out


def test_the_table_shows_the_best_guess_if_no_prediction_is_confident(run: Run, tmp_path: Path) -> None:
    reader = DigitReader("cnn")
    seed = next(seed for seed in range(99) if reader.read(scribble(seed)).summary == "not sure")
    scribble(seed).save(tmp_path / "x.png")
    done = run(predict, "x.png")
    guess = reader.read(tmp_path / "x.png").largest_digit
    assert done.status == 0
    assert guess is not None
    assert f"not sure ({guess.label}?)" in done.out
    (record,) = json.loads(run(predict, "x.png", "--json").out)
    assert (record["digit"], record["answer"]) == (None, "not sure")
    assert len(record["probabilities"]) == 10


def test_json_is_a_list_with_an_object_for_each_file(run: Run, tmp_path: Path) -> None:
    two = np.hstack([np.asarray(digit_picture(index)) for index in (3, 4)])
    Image.fromarray(two).save(tmp_path / "two.png")
    Image.new("L", (90, 60), 255).save(tmp_path / "blank.png")
    save_digit(tmp_path / "one.png", 0)
    done = run(predict, "--json", "two.png", "one.png", "blank.png")
    assert (done.status, done.err) == (0, "")
    several, one, blank = json.loads(done.out)
    for record, file in ((several, "two.png"), (one, "one.png"), (blank, "blank.png")):
        assert record.keys() == {"file", "digit", "probability", "probabilities", "answer", "digits"}
        assert record["file"] == file
    assert (one["digit"], one["answer"], len(one["digits"])) == (LABELS[0].item(), label(0), 1)
    assert one["probability"] == max(one["probabilities"]) > 0.9
    assert len(one["probabilities"]) == 10
    assert sum(one["probabilities"]) == pytest.approx(1, abs=1e-5)
    assert one["probabilities"][one["digit"]] == one["probability"]
    assert several["answer"] == label(3) + label(4)
    assert [digit["digit"] for digit in several["digits"]] == [LABELS[3].item(), LABELS[4].item()]
    left, right = (digit["box"] for digit in several["digits"])
    assert 0 <= left[0] < left[2] <= 140 <= right[0] < right[2] <= 280
    assert blank["answer"] == "no digit"
    assert (blank["digit"], blank["probability"], blank["probabilities"]) == (None, None, None)
    assert blank["digits"] == []


@pytest.mark.parametrize("larger", [0, 1], ids=["the left one", "the right one"])
def test_the_largest_of_several_digits_is_the_digit_of_the_file(larger: int, run: Run, tmp_path: Path) -> None:
    sides = [100, 100]
    sides[larger] = 140
    both = Image.new("L", (280, 140), 255)
    for position, index in enumerate((3, 4)):
        both.paste(digit_picture(index).resize((sides[position], sides[position])), (140 * position, 0))
    both.save(tmp_path / "two.png")
    (record,) = json.loads(run(predict, "--json", "two.png").out)
    assert record["answer"] == label(3) + label(4)
    assert record["digit"] == LABELS[3 + larger].item()
    assert record["probabilities"] == record["digits"][larger]["probabilities"]


def test_csv_has_a_line_for_each_file(run: Run, tmp_path: Path) -> None:
    names = ["a, b.png", 'the "best".png', "two\nlines.png"]
    for index, name in enumerate(names):
        save_digit(tmp_path / name, index)
    (tmp_path / "bad.png").write_bytes(b"not a picture")
    done = run(predict, "--csv", *names, "bad.png")
    rows = list(csv.DictReader(io.StringIO(done.out)))
    assert [row["file"] for row in rows] == [*names, "bad.png"]
    for index, row in enumerate(rows[:3]):
        assert row["answer"] == row["digit"] == label(index)
        probabilities = [float(row[f"probability of {digit}"]) for digit in range(10)]
        assert sum(probabilities) == pytest.approx(1, abs=1e-5)
        assert float(row["probability"]) == max(probabilities) == probabilities[int(row["digit"])]
    assert rows[3]["answer"].startswith("bad.png: is damaged")
    assert rows[3]["digit"] == rows[3]["probability"] == ""


def test_a_contact_sheet_is_saved_without_the_files_that_are_not_pictures(run: Run, tmp_path: Path) -> None:
    for index in range(4):
        save_digit(tmp_path / "in" / f"{index} $x^.png", index)
    (tmp_path / "in" / "4.png").write_bytes(b"not a picture")
    Image.new("L", (90, 60), 255).save(tmp_path / "in" / "5.png")
    done = run(predict, "in", "--contact-sheet", "sheet.png")
    assert done.status == 0
    assert "saved: sheet.png" in done.err
    with Image.open(tmp_path / "sheet.png") as sheet:
        width, height = sheet.size
        assert 600 < width < 3000
        assert 150 < height < 1500
        assert len(np.unique(np.asarray(sheet.convert("L")))) > 20


def save_sheet_of_file(path: Path) -> None:
    file = save_digit(path.with_name("x.png"), 0)
    output.save_contact_sheet(path, [file], [DigitReader("mlp").read(file)])


def save_sheet_of_test_images(path: Path) -> None:
    output.save_test_samples(path, torch.zeros(2, 28, 28), torch.tensor([0, 1]), torch.eye(10)[:2])


@pytest.mark.parametrize("save", [save_sheet_of_file, save_sheet_of_test_images])
def test_a_contact_sheet_that_does_not_fit_on_the_disk_leaves_the_old_file(
    save: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sheet.png").write_bytes(b"old")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunError, match=r"sheet\.png: cannot be written \(No space left on device\)"):
        save(tmp_path / "sheet.png")
    assert (tmp_path / "sheet.png").read_bytes() == b"old"
    assert not list(tmp_path.glob(".*"))
