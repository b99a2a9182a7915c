"""Prints an evaluation: one screen for the figures, and a table for the corruptions."""

from typing import Any

from rich.box import SIMPLE_HEAD
from rich.columns import Columns
from rich.console import Console
from rich.table import Table
from rich.text import Text

from digitnet.training.assessment import Assessment, ClassScore, Mistake, Scaling
from digitnet.training.robustness import IDENTITY, Robustness

_CLASSES_SHOWN = 12
_MISTAKES_SHOWN = 5
# Two of these tables stand side by side in 80 columns.
_NARROW: dict[str, Any] = {"box": SIMPLE_HEAD, "pad_edge": False, "show_edge": False, "collapse_padding": True}


def print_assessment(title: str, assessment: Assessment) -> None:
    """Print what an accuracy is worth.

    Args:
        title: Heading: the model and the number of test images.
        assessment: The figures.
    """
    console = Console()
    console.print(Text(title))
    figures = [_table_of_scores(assessment)]
    if assessment.conformal:
        figures.append(_table_of_sets(assessment))
    left = Table.grid()
    for table in figures:
        left.add_row(table)
    console.print(Columns([left, _table_of_classes(assessment.classes)]))  # one below the other where it is narrow
    for line in _notes(assessment):
        console.print(Text(line))
    if assessment.mistakes:
        console.print("worst mistakes (actual→predicted):")
        console.print(
            Columns([_describe_mistake(each) for each in assessment.mistakes[:_MISTAKES_SHOWN]], padding=(0, 2))
        )


def _table_of_scores(assessment: Assessment) -> Table:
    low, high = assessment.interval
    scaling = assessment.scaling
    table = Table("metric", "value", f"T = {scaling.temperature:.2f}" if scaling else "", **_NARROW)
    table.add_row("accuracy", f"{assessment.accuracy:.2%}", "")
    table.add_row("  95% interval", f"{100 * low:.2f}–{100 * high:.2f}%", "")
    if assessment.undisputed_accuracy is not None:
        table.add_row(f"  w/o {assessment.disputed} disputed", f"{assessment.undisputed_accuracy:.2%}", "")
    table.add_row("NLL (loss)", f"{assessment.scores.nll:.4f}", f"{scaling.scores.nll:.4f}" if scaling else "")
    table.add_row("Brier score", f"{assessment.scores.brier:.4f}", f"{scaling.scores.brier:.4f}" if scaling else "")
    table.add_row("ECE", f"{assessment.scores.ece:.2%}", f"{scaling.scores.ece:.2%}" if scaling else "")
    return table


def _table_of_sets(assessment: Assessment) -> Table:
    table = Table("conformal set", "coverage", "mean size", **_NARROW)
    for level, result in (assessment.conformal or {}).items():
        table.add_row(f"{level:.0%}", f"{result.coverage:.2%}", f"{result.mean_size:.3f}")
    return table


def _table_of_classes(classes: list[ClassScore]) -> Table:
    """Return the scores by class; of many classes, those with the lowest F1."""
    few = len(classes) <= _CLASSES_SHOWN
    shown = classes if few else sorted(classes, key=lambda each: each.f1)[:_CLASSES_SHOWN]
    table = Table(
        "class, %" if few else f"worst {len(shown)} of {len(classes)}", "precision", "recall", "F1", **_NARROW
    )
    for each in shown:
        values = (each.precision, each.recall, each.f1)
        table.add_row(Text(each.name), *(f"{100 * value:.2f}" if each.images else "–" for value in values))
    return table


def _notes(assessment: Assessment) -> list[str]:
    notes = []
    scaling: Scaling | None = assessment.scaling
    if scaling:
        notes.append(f"T: temperature from {scaling.source}")
    if assessment.unavailable:
        what = "conformal sets" if scaling else "temperature and conformal sets"
        notes.append(f"no {what}: {assessment.unavailable}")
    return notes


def _describe_mistake(mistake: Mistake) -> Text:
    return Text(f"#{mistake.position} {mistake.actual}→{mistake.predicted} {mistake.confidence:.0%}", no_wrap=True)


def print_robustness(robustness: Robustness) -> None:
    """Print the accuracy under each corruption.

    Args:
        robustness: The scores.
    """
    clean = 1 - robustness.scores[IDENTITY].accuracy
    table = Table(f"{robustness.kind} corruption", "accuracy", "errors ÷ identity", "ECE", box=SIMPLE_HEAD)
    for name, each in robustness.scores.items():
        ratio = f"{(1 - each.accuracy) / clean:.1f}" if clean else "–"
        table.add_row(name, f"{each.accuracy:.2%}", ratio, f"{each.ece:.2%}")
    table.add_section()
    table.add_row("mean of the corruptions", f"{robustness.mean_accuracy:.2%}", "", "")
    Console().print(table)
