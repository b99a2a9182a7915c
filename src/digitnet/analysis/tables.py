"""The figures of a report as text: for the terminal, Markdown and CSV."""

import csv
import io
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from digitnet.analysis.report import Report
from digitnet.analysis.statistics import Interval
from digitnet.analysis.summary import Comparison, Figure

MISSING = "–"
"""What a table shows for a figure that is not known."""


def percent(value: float, digits: int = 2) -> str:
    """Return a fraction in per cent, without the sign."""
    return f"{100 * value:.{digits}f}"


def mean_and_sd(figure: Figure | None, scale: float = 1, digits: int = 3) -> str:
    """Return "mean ± standard deviation" of a figure, multiplied by a scale; the mean alone for one run."""
    if figure is None:
        return MISSING
    spread = "" if figure.sd is None else f" ± {scale * figure.sd:.{digits}f}"
    return f"{scale * figure.mean:.{digits}f}{spread}"


def interval_text(interval: Interval | None, sign: str = "") -> str:
    """Return the limits of an interval in per cent; with a sign, "+", for a difference."""
    if interval is None:
        return MISSING
    joint = " to " if sign else "–"
    return f"{100 * interval.low:{sign}.2f}{joint}{100 * interval.high:{sign}.2f}"


def p_text(p_value: float) -> str:
    """Return a p value with two significant digits."""
    return f"p = {p_value:.2g}" if p_value >= 1e-4 else "p < 0.0001"


def table_rows(report: Report) -> tuple[list[str], list[list[str]]]:
    """Return the heading and a row for each group, as text.

    Args:
        report: The report.
    """
    heading = ["Group", "n", "Accuracy %", "95 % (seeds)", "95 % (images)", "NLL", "ECE %", "Parameters"]
    heading += ["Mult-adds", "Epochs", "Seconds"]
    rows = []
    for summary in report.summaries:
        seconds, epochs = summary.group.values("train/seconds"), [run.epochs for run in summary.group.runs]
        rows.append(
            [
                summary.group.name,
                str(len(summary.group.runs)),
                mean_and_sd(summary.accuracy, 100, 2),
                interval_text(summary.accuracy.interval),
                interval_text(summary.image_interval),
                mean_and_sd(summary.nll, 1, 4),
                mean_and_sd(summary.figures.get("ece"), 100, 2),
                _counts(summary.distinct("parameters")),
                _counts(summary.distinct("multiply_adds")),
                str(epochs[0]) if len(set(epochs)) == 1 else f"{min(epochs)} to {max(epochs)}",
                f"{sum(seconds) / len(seconds):.0f}" if seconds else MISSING,
            ]
        )
    return heading, rows


def _counts(values: list[Any]) -> str:
    return ", ".join(f"{value:,}" for value in values) or MISSING


def comparison_sentence(comparison: Comparison) -> str:
    """Return what a comparison has found, in two or three sentences."""
    difference = 100 * comparison.difference
    how = (
        f"paired by {len(comparison.pairs)} {'seed' if len(comparison.pairs) == 1 else 'seeds'}"
        if comparison.pairs
        else "seeds not paired"
    )
    text = f"{comparison.other.name} against {comparison.baseline.name}: {difference:+.2f} points of accuracy ({how})."
    if comparison.seed_interval:
        text += f" Over seeds: {interval_text(comparison.seed_interval, sign='+')} (95 %)."
    else:
        text += " Fewer than three seeds: no interval over seeds."
    if comparison.image_interval and comparison.test:
        first, second, p_value = comparison.test
        size = comparison.ensemble_size
        what = "the two networks" if size == 1 else f"ensembles of {size} networks each"
        text += (
            f" Over images: {interval_text(comparison.image_interval, sign='+')} (95 %)."
            f" McNemar, {what}: {second} images are right only with {comparison.other.name}, {first} only with"
            f" {comparison.baseline.name}, {p_text(p_value)}."
        )
    return text


def print_report(report: Report) -> None:
    """Print the table and the comparisons."""
    console = Console()
    table = Table(box=SIMPLE_HEAD, title=report.title, title_justify="left", title_style="bold", padding=(0, 1))
    table.add_column("Group", overflow="fold", ratio=1)
    for name in ("n", "Accuracy %", "95 % over\nseeds", "95 % over\nimages", "NLL", "ECE %"):
        table.add_column(name, justify="right", no_wrap=True)
    for summary in report.summaries:
        cells = [str(len(summary.group.runs)), mean_and_sd(summary.accuracy, 100, 2)]
        cells += [interval_text(summary.accuracy.interval), interval_text(summary.image_interval)]
        ece = summary.figures.get("ece")
        cells += [f"{summary.nll.mean:.4f}", f"{100 * ece.mean:.2f}" if ece else MISSING]
        table.add_row(*map(Text, [summary.group.name, *cells]))  # rich would take brackets for markup
    console.print(table)
    for line in [*map(comparison_sentence, report.comparisons), *report.notes]:
        console.print(line, markup=False, highlight=False)


def to_markdown(report: Report) -> str:
    """Return the table and the comparisons as Markdown."""
    heading, rows = table_rows(report)
    lines = [f"**{report.title}**", "", f"| {' | '.join(heading)} |", f"|{'---|' * len(heading)}"]
    lines += [
        f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in [f'`{row[0]}`', *row[1:]])} |" for row in rows
    ]
    lines += ["", *(f"- {line}" for line in [*map(comparison_sentence, report.comparisons), *report.notes])]
    return "\n".join(lines).rstrip() + "\n"


def to_csv(report: Report) -> str:
    """Return a line for each run, with the name of its group and its figures at full precision."""
    names: tuple[str, ...] = (
        "model",
        "seed",
        "epoch",
        "val/acc",
        "val/loss",
        "test/acc",
        "test/loss",
        "train/seconds",
        "parameters",
    )
    names += ("multiply_adds", "data", "machine", "commit", "command")
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["group", "path", "epochs", *names, "split", "nll", "ece"])
    for summary in report.summaries:
        for index, run in enumerate(summary.group.runs):
            computed = [
                summary.figures[name].values[index] if name in summary.figures else "" for name in ("nll", "ece")
            ]
            values = [run.metrics.get(name, "") for name in names]
            writer.writerow([summary.group.name, run.path, run.epochs, *values, report.split, *computed])
    return file.getvalue()
