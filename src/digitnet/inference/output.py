"""Write predictions as a table, as JSON, as CSV or as a contact sheet."""

import csv
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from rich.text import Text
from torch import Tensor

from digitnet.checkpoints.atomic import atomic_write
from digitnet.data.catalog import DIGITS
from digitnet.errors import UsageError
from digitnet.inference.files import Outcome
from digitnet.inference.photos.image_io import load_image, printable
from digitnet.inference.reader import DigitPrediction, ReadResult

MAX_SHEET_IMAGES = 200  # as many are 11,000 pixels high


def to_record(file: Path, outcome: Outcome) -> dict[str, Any]:
    """Return the JSON object for one file.

    Args:
        file: The file.
        outcome: The outcome of reading it.

    Returns:
        `file`; `digit`, `probability` and `probabilities` of the largest digit (`digit` is None if its prediction is
        not confident, and the name of the class if the classes are not digits); `answer`, the summary; `digits`, the
        same entries for every digit, each with its `box`. For a file that is not a picture: `file`, `digit` (None) and
        `error`.
    """
    if isinstance(outcome, UsageError):
        return {"file": str(file), "digit": None, "error": str(outcome)}
    digits = [
        {
            "digit": _answer(digit) if digit.is_confident else None,
            "probability": digit.confidence,
            "probabilities": digit.probabilities,
            "box": digit.box,
        }
        for digit in outcome.digits
    ]
    empty = {"digit": None, "probability": None, "probabilities": None}
    largest = digits[outcome.digits.index(outcome.largest_digit)] if outcome.largest_digit else empty
    return {"file": str(file)} | {key: largest[key] for key in empty} | {"answer": outcome.summary, "digits": digits}


def _answer(digit: DigitPrediction) -> int | str:
    """Return the predicted digit as a number, or the name of the predicted class."""
    return digit.label if digit.class_names == DIGITS else digit.name


def print_json(files: Sequence[Path], outcomes: Sequence[Outcome]) -> None:
    """Print a JSON list with one object for each file (see `to_record`)."""
    print(json.dumps([to_record(file, outcome) for file, outcome in zip(files, outcomes, strict=True)], indent=1))


def print_csv(files: Sequence[Path], outcomes: Sequence[Outcome], class_names: Sequence[str] = DIGITS) -> None:
    """Print a CSV table with one line for each file, about its largest digit."""
    sys.stdout.reconfigure(errors="surrogateescape")  # type: ignore[union-attr]  # file names may be any bytes
    writer = csv.writer(sys.stdout)
    writer.writerow(["file", "answer", "digit", "probability", *(f"probability of {name}" for name in class_names)])
    for file, outcome in zip(files, outcomes, strict=True):
        record = to_record(file, outcome)
        answer, probabilities = record.get("answer", record.get("error")), record.get("probabilities") or ()
        writer.writerow([file, answer, record["digit"], record.get("probability"), *probabilities])


def print_results(files: Sequence[Path], outcomes: Sequence[Outcome]) -> None:
    """Print a table with one row for each file: its digits, and the two most probable classes of the largest."""
    rows = []
    for file, outcome in zip(files, outcomes, strict=True):
        name = printable(str(file))
        if isinstance(outcome, UsageError):
            rows.append((name, "no picture", "", ""))
        elif outcome.largest_digit is None:
            rows.append((name, outcome.summary, "", ""))
        else:
            (label, confidence), (second, second_probability) = outcome.largest_digit.top_classes[:2]
            classes = outcome.class_names
            answer = outcome.summary if outcome.summary != "not sure" else f"not sure ({classes[label]}?)"
            rows.append((name, answer, f"{confidence:.1%}", f"{classes[second]} {second_probability:.1%}"))
    _print_table(("file", "digit", "probability", "runner-up"), rows)


def print_test_samples(
    indices: Tensor, labels: Tensor, probabilities: Tensor, class_names: Sequence[str] = DIGITS
) -> None:
    """Print a table of predictions for labelled images.

    Args:
        indices: Positions `[N]` of the images in the test set.
        labels: Actual classes `[N]`.
        probabilities: Predicted probabilities `[N, C]`.
        class_names: Names of the classes.
    """
    confidences, predictions = torch.max(probabilities, dim=1)
    rows = []
    for index, predicted, actual, confidence in zip(indices, predictions, labels, confidences, strict=True):
        mark = "" if predicted == actual else "wrong"
        names = class_names[int(predicted)], class_names[int(actual)]
        rows.append((str(int(index)), *names, f"{confidence:.1%}", mark))
    _print_table(("test image", "predicted", "actual", "probability", ""), rows)


def _print_table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    """Print a table that is folded to the width of a terminal, and in full width elsewhere."""
    table = Table(*header)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    console = Console()
    console.print(table, crop=False, overflow="fold") if console.is_terminal else Console(width=10_000).print(table)


def save_contact_sheet(path: Path, files: Sequence[Path], outcomes: Sequence[Outcome]) -> None:
    """Save a contact sheet of the first pictures: each with the network's input and the probabilities.

    Args:
        path: The .png file to write.
        files: The files; those that are not pictures are left out.
        outcomes: The outcome for each file.
    """
    from digitnet import plots  # matplotlib takes long to import

    results = [pair for pair in zip(files, outcomes, strict=True) if not isinstance(pair[1], UsageError)]
    items = []
    for file, result in results[:MAX_SHEET_IMAGES]:
        assert isinstance(result, ReadResult)
        largest = result.largest_digit
        image, probabilities = (largest.image, largest.probabilities) if largest else (None, None)
        items.append(
            plots.ContactSheetItem(printable(file.name), result.summary, load_image(file), image, probabilities)
        )
    names = next((result.class_names for _, result in results if isinstance(result, ReadResult)), DIGITS)
    atomic_write(path, plots.to_png(plots.render(plots.plot_contact_sheet(items, class_names=names))))
    print(f"saved: {path}", file=sys.stderr)


def save_test_samples(
    path: Path, images: Tensor, labels: Tensor, probabilities: Tensor, class_names: Sequence[str] = DIGITS
) -> None:
    """Save a plot of the predictions for the first labelled images.

    Args:
        path: The .png file to write.
        images: Images `[N, 28, 28]`.
        labels: Actual classes `[N]`.
        probabilities: Predicted probabilities `[N, C]`.
        class_names: Names of the classes.
    """
    from digitnet import plots  # matplotlib takes long to import

    shown = slice(MAX_SHEET_IMAGES)
    figure = plots.plot_predictions(images[shown], labels[shown], probabilities[shown], class_names=class_names)
    atomic_write(path, plots.to_png(plots.render(figure)))
