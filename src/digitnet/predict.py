"""Reads the digits in pictures: `python -m digitnet.predict photo.png more/*.jpg folder/`."""

import csv
import json
import sys
from argparse import Namespace
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from digitnet import signals
from digitnet.cli import argparse_app
from digitnet.errors import UsageError, check_argument

# The parts that need torch are imported where they are used: `--help` does not wait for them.
if TYPE_CHECKING:
    from digitnet.inference.reader import Reading

    Outcome = Reading | UsageError

SUFFIXES = (".avif", ".bmp", ".gif", ".heic", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")  # in folders
ON_A_SHEET = 200  # pictures: 11,000 pixels high


def main() -> None:
    parser = argparse_app.Parser(
        prog="digitnet-predict", description="Reads the digits in pictures: photos, scans, drawings."
    )
    parser.add_argument("paths", nargs="*", type=Path, metavar="FILE_OR_FOLDER", help="pictures, folders of pictures")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--model", choices=("cnn", "mlp"), default="cnn", help="which that comes with the package")
    which.add_argument("--run", metavar="DIR_OR_CKPT", help="a model of your own")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="a list, an object a file")
    form.add_argument("--csv", action="store_true", help="a line a file")
    parser.add_argument("--sheet", type=Path, metavar="OUT.png", help="draws what was given, seen and thought")
    parser.add_argument("--test-digits", type=int, metavar="N", help="reads N random test images of MNIST instead")
    argparse_app.run(parser, task)


def task(options: Namespace) -> None:
    if options.sheet:
        from digitnet.checkpoints.checkpoint_format import require_writable

        good = options.sheet.suffix == ".png" and options.sheet.parent.is_dir()
        check_argument(good, "--sheet", options.sheet, "the name of a .png file in a folder that is there")
        check_argument(not options.sheet.exists(), "--sheet", options.sheet, "a new file: this one is there")
        require_writable(options.sheet.parent, "--sheet")
    if options.test_digits is not None:
        alone = not (options.paths or options.json or options.csv)
        check_argument(options.test_digits > 0 and alone, "--test-digits", options.test_digits, "1 or more, alone")
        read_test_digits(options)
    elif options.paths:
        read_pictures(options)
    else:
        raise UsageError("no picture given; name files or folders, or see --help")


def read_pictures(options: Namespace) -> None:
    """What cannot be read is told, and the others go on."""
    from digitnet.inference.reader import Reader

    files = [file for path in options.paths for file in files_in(path)]
    outcomes = followed(Reader(options.run or options.model).read_files(files), len(files))
    if len(files) == 1 and isinstance(outcomes[0], UsageError):
        raise outcomes[0]
    if options.json:
        print(json.dumps([as_object(file, outcome) for file, outcome in zip(files, outcomes, strict=True)], indent=1))
    elif options.csv:
        write_csv(files, outcomes)
    else:
        show(files, outcomes)
    failed = {file: outcome for file, outcome in zip(files, outcomes, strict=True) if isinstance(outcome, UsageError)}
    for error in failed.values():
        argparse_app.tell(str(error))
    if options.sheet:
        draw_sheet(options.sheet, files, outcomes)
    if len(failed) == len(files) or not failed.keys().isdisjoint(options.paths):
        sys.exit(2)


def files_in(path: Path) -> list[Path]:
    """The file itself, or the pictures in a folder and those below it. Raises UsageError if there are none."""
    if not path.is_dir():
        return [path]
    files = sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES)
    check_argument(bool(files), "folder", path, "one with pictures in it")
    return files


def followed(outcomes: "Iterator[Outcome]", count: int) -> "list[Outcome]":
    """All of them, with a bar on a terminal."""
    from rich.console import Console
    from rich.progress import track

    console, told = Console(stderr=True), []
    for outcome in track(outcomes, "", count, console=console, transient=True, disable=not console.is_terminal):
        signals.stop()
        told.append(outcome)
    return told


def as_object(file: Path, outcome: "Outcome") -> dict[str, Any]:
    """`digit` is null where none is sure; of several, it is the largest, and `digits` has them all."""
    if isinstance(outcome, UsageError):
        return {"file": str(file), "digit": None, "error": str(outcome)}
    digits = [
        {
            "digit": found.digit if found.sure else None,
            "probability": found.probability,
            "probabilities": found.probabilities,
            "box": found.box,
        }
        for found in outcome.digits
    ]
    nothing = {"digit": None, "probability": None, "probabilities": None}
    largest = digits[outcome.digits.index(outcome.largest)] if outcome.largest else nothing
    return {"file": str(file)} | {key: largest[key] for key in nothing} | {"answer": outcome.answer, "digits": digits}


def write_csv(files: "Sequence[Path]", outcomes: "Sequence[Outcome]") -> None:
    sys.stdout.reconfigure(errors="surrogateescape")  # type: ignore[union-attr]  # any name a file may have
    rows = csv.writer(sys.stdout)
    rows.writerow(["file", "answer", "digit", "probability", *(f"probability of {digit}" for digit in range(10))])
    for file, outcome in zip(files, outcomes, strict=True):
        row = as_object(file, outcome)
        rows.writerow(
            [
                file,
                row.get("answer", row.get("error")),
                row["digit"],
                row.get("probability"),
                *(row.get("probabilities") or ()),
            ]
        )


def show(files: "Sequence[Path]", outcomes: "Sequence[Outcome]") -> None:
    """A table."""
    from digitnet.inference.photos.image_io import printable

    rows = []
    for file, outcome in zip(files, outcomes, strict=True):
        if isinstance(outcome, UsageError):
            rows.append((printable(str(file)), "no picture", "", ""))
        elif outcome.largest is None:
            rows.append((printable(str(file)), outcome.answer, "", ""))
        else:
            (first, chance), (second, other) = outcome.largest.ranked[:2]
            answer = outcome.answer if outcome.answer != "not sure" else f"not sure ({first}?)"
            rows.append((printable(str(file)), answer, f"{chance:.1%}", f"{second} {other:.1%}"))
    print_table(("file", "digit", "probability", "runner-up"), rows)


def print_table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*head)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    console = Console()
    console.print(table, crop=False, overflow="fold") if console.is_terminal else Console(width=10_000).print(table)


def draw_sheet(path: Path, files: "Sequence[Path]", outcomes: "Sequence[Outcome]") -> None:
    """The first pictures, with what was seen of them."""
    from digitnet import plots
    from digitnet.inference.photos.image_io import load_image, printable

    read = [
        (file, outcome) for file, outcome in zip(files, outcomes, strict=True) if not isinstance(outcome, UsageError)
    ]
    cells = []
    for file, outcome in read[:ON_A_SHEET]:
        seen = (outcome.largest.image, outcome.largest.probabilities) if outcome.largest else (None, None)
        cells.append(plots.Cell(printable(file.name), outcome.answer, load_image(file), *seen))
    plots.draw_sheet(cells).savefig(path)
    print(f"drawn: {path}", file=sys.stderr)


def read_test_digits(options: Namespace) -> None:
    """Predicted and actual of digits drawn at random from the test images."""
    import torch

    from digitnet import plots
    from digitnet.data import mnist
    from digitnet.inference.reader import Reader

    images, labels = mnist.load("test")
    chosen = torch.randperm(len(images))[: options.test_digits]
    probabilities = Reader(options.run or options.model).probabilities(images[chosen])
    rows = []
    for number, label, chances in zip(chosen.tolist(), labels[chosen].tolist(), probabilities, strict=True):
        mark = "" if int(chances.argmax()) == label else "wrong"
        rows.append((str(number), str(int(chances.argmax())), str(label), f"{chances.max():.1%}", mark))
    print_table(("test image", "Predicted", "Actual", "confidence", ""), rows)
    if options.sheet:
        drawn = chosen[:ON_A_SHEET]
        plots.draw_predictions(images[drawn], labels[drawn], probabilities[:ON_A_SHEET]).savefig(options.sheet)


if __name__ == "__main__":
    main()
