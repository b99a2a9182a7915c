"""The charts of a report, one function each."""

import math
from collections.abc import Sequence

import numpy as np

from digitnet.analysis.html.svg import WIDTH, Chart, Point, linear_ticks, log_ticks
from digitnet.analysis.runs import Group
from digitnet.analysis.statistics import Interval, reliability_bins
from digitnet.analysis.summary import Comparison, GroupSummary
from digitnet.analysis.tables import interval_text, percent

_ROW = 46  # height of the row of a group


def color_of(index: int) -> str:
    """Return the class of the colour of the group at an index."""
    return f"g{index % 8}"


def draw_accuracies(summaries: Sequence[GroupSummary]) -> str:
    """Draw a dot for each run, the mean of each group, and its two intervals."""
    values = [value for each in summaries for value in each.accuracy.values]
    limits = [each.accuracy.interval for each in summaries] + [each.image_interval for each in summaries]
    values += [value for interval in limits if interval for value in interval]
    low, high = _padded(min(values), max(values))
    chart = Chart(
        "Accuracy of each run", (low, min(high, 1.0)), (0, 1), height=_ROW * len(summaries) + 42, left=14, top=4
    )
    ticks = linear_ticks(100 * low, 100 * min(high, 1.0), 5)
    chart.x_axis([(tick / 100, f"{tick:g}") for tick in ticks], "accuracy, %", grid=True)
    for row, summary in enumerate(summaries):
        top, color = 4 + _ROW * row, color_of(row)
        chart.add(f'<text class="name" x="14" y="{top + 13}">{_short(summary.group.name)}</text>')
        middle = top + 30
        if summary.image_interval:
            _bar(chart, summary.image_interval, middle, color, "range", 14, "over images")
        if summary.accuracy.interval:
            _bar(chart, summary.accuracy.interval, middle, color, "whisker", 2, "over seeds")
        for run, value in zip(summary.group.runs, summary.accuracy.values, strict=True):
            chart.add(
                f'<circle class="dot {color}" cx="{chart.x(value):.1f}" cy="{middle}" r="4">'
                f"<title>seed {run.seed}: {percent(value)} %</title></circle>"
            )
        x = chart.x(summary.accuracy.mean)
        chart.add(f'<path class="mean" d="M{x:.1f} {middle - 10}v20"/>')
    return chart.render()


def draw_differences(comparisons: Sequence[Comparison], colors: Sequence[str]) -> str:
    """Draw the difference of each group from the baseline, with its two intervals."""
    limits = [limit for each in comparisons for limit in (each.seed_interval, each.image_interval) if limit]
    values = [0.0, *(each.difference for each in comparisons), *(value for limit in limits for value in limit)]
    low, high = _padded(min(values), max(values))
    chart = Chart("Difference of accuracy from the baseline", (low, high), (0, 1), _ROW * len(comparisons) + 42, 14)
    chart.top = 4
    ticks = linear_ticks(100 * low, 100 * high, 5)
    chart.x_axis([(tick / 100, f"{tick:+g}" if tick else "0") for tick in ticks], "points of accuracy", grid=True)
    zero = chart.x(0)
    chart.add(f'<path class="zero" d="M{zero:.1f} 4V{chart.height - chart.bottom}"/>')
    for row, (comparison, color) in enumerate(zip(comparisons, colors, strict=True)):
        top = 4 + _ROW * row
        middle = top + 30
        chart.add(f'<text class="name" x="14" y="{top + 13}">{_short(comparison.other.name)}</text>')
        if comparison.image_interval:
            _bar(chart, comparison.image_interval, middle, color, "range", 14, "over images", "+")
        if comparison.seed_interval:
            _bar(chart, comparison.seed_interval, middle, color, "whisker", 2, "over seeds", "+")
        x = chart.x(comparison.difference)
        chart.add(
            f'<circle class="dot {color}" cx="{x:.1f}" cy="{middle}" r="5">'
            f"<title>{100 * comparison.difference:+.2f} points</title></circle>"
        )
    return chart.render()


def _bar(
    chart: Chart, interval: Interval, middle: float, color: str, style: str, height: int, what: str, sign: str = ""
) -> None:
    """Draw an interval as a horizontal bar."""
    left, right = chart.x(interval.low), chart.x(min(interval.high, chart.x_range[1]))
    hint = f"95 % {what}: {interval_text(interval, sign=sign)}"
    chart.add(
        f'<rect class="{style} {color}" x="{left:.1f}" y="{middle - height / 2}" width="{max(right - left, 1):.1f}" '
        f'height="{height}" rx="{height / 4:g}"><title>{hint}</title></rect>'
    )


def draw_curves(groups: Sequence[Group], name: str, title: str) -> str:
    """Draw a metric by epoch: the mean over the seeds, and a band from the lowest to the highest.

    Args:
        groups: The groups, in the order of their colours.
        name: Column of metrics.csv; an accuracy is drawn as the error in per cent.
        title: Label of the chart.

    Returns:
        The chart, or an empty text if no run has the metric.
    """
    curves = {index: _curve(group, name) for index, group in enumerate(groups)}
    curves = {index: curve for index, curve in curves.items() if curve}
    values = [value for curve in curves.values() for _, each in curve for value in each if value > 0]
    if not values:
        return ""
    low, high = min(values) / 1.15, max(values) * 1.15
    last = max(epoch for curve in curves.values() for epoch, _ in curve)
    chart = Chart(title, (1, max(last, 2)), (low, high), log=True)
    chart.y_axis([(tick, f"{tick:g}") for tick in log_ticks(low, high)])
    ticks = sorted({max(1, round(tick)) for tick in linear_ticks(1, max(last, 2), 6)} | {1})
    chart.x_axis([(tick, str(tick)) for tick in ticks], "epoch")
    for index, curve in curves.items():
        color = color_of(index)
        if any(len(each) > 1 for _, each in curve):
            chart.band([(x, min(each)) for x, each in curve], [(x, max(each)) for x, each in curve], color)
        chart.line([(x, float(np.mean(each))) for x, each in curve], color)
        x, each = curve[-1]
        chart.dot(x, float(np.mean(each)), color, f"{groups[index].name}: {np.mean(each):.4g} after {x} epochs")
    return chart.render()


def _curve(group: Group, name: str) -> list[tuple[int, list[float]]]:
    """Return the values of all runs of a group by epoch, from 1."""
    scale = (lambda value: 100 * (1 - value)) if name.endswith("acc") else float
    by_epoch: dict[int, list[float]] = {}
    for run in group.runs:
        for row in run.history:
            if name in row and math.isfinite(row[name]):
                by_epoch.setdefault(int(row["epoch"]) + 1, []).append(scale(row[name]))
    return sorted(by_epoch.items())


def draw_by_class(summaries: Sequence[GroupSummary], classes: Sequence[str]) -> str:
    """Draw the error of each class, a dot for each group."""
    known = [(row, each) for row, each in enumerate(summaries) if each.by_class]
    errors = [100 * (1 - value) for _, each in known for value in each.by_class if not math.isnan(value)]
    if not errors:
        return ""
    names, long = _class_labels(classes)
    chart = Chart("Error by class", (-0.6, len(classes) - 0.4), (0, max(max(errors) * 1.08, 0.1)))
    if long:
        chart.height, chart.bottom = 280, 76
    chart.y_axis([(tick, f"{tick:g}") for tick in linear_ticks(*chart.y_range, 5)])
    chart.x_axis(list(enumerate(names)), "actual class", slanted=long)
    spread = 0.5 / max(len(known), 1)
    for place, (row, summary) in enumerate(known):
        shift = spread * (place - (len(known) - 1) / 2)
        for index, value in enumerate(summary.by_class):
            if not math.isnan(value):
                error, color = 100 * (1 - value), color_of(row)
                chart.line([(index + shift, 0), (index + shift, error)], color, "stem")
                chart.dot(index + shift, error, color, f"{summary.group.name}, {classes[index]}: {error:.2f} % wrong")
    return chart.render()


def draw_reliability(summary: GroupSummary, color: str) -> str:
    """Draw the accuracy of the predictions by their confidence, all networks of a group pooled."""
    predictions = summary.group.predictions(summary.split)
    if not predictions:
        return ""
    probabilities = np.concatenate([each.probabilities for each in predictions])
    bins = reliability_bins(probabilities, np.concatenate([each.labels for each in predictions]))
    chart = Chart("Reliability diagram", (0, 1), (0, 1), height=300)
    ticks = [(tick, f"{100 * tick:.0f}") for tick in (0, 0.25, 0.5, 0.75, 1)]
    chart.y_axis(ticks)
    chart.x_axis(ticks, "confidence, %")
    chart.line([(0, 0), (1, 1)], "", "diagonal")
    points: list[Point] = [(each.confidence, each.accuracy) for each in bins]
    chart.line(points, color, "line thin")
    total = sum(each.size for each in bins)
    for each in bins:
        hint = (
            f"{each.size / len(predictions):,.0f} predictions with a mean confidence of {percent(each.confidence)} %: "
            f"{percent(each.accuracy)} % are correct"
        )
        radius = 3 + 9 * math.sqrt(each.size / total)
        chart.dot(each.confidence, each.accuracy, color, hint, radius)
    return chart.render()


def draw_confusion(summary: GroupSummary, classes: Sequence[str], color: str) -> str:
    """Draw the mean number of images of each class that a network takes for each other class."""
    predictions = summary.group.predictions(summary.split)
    n = len(classes)
    if not predictions or n > 26:
        return ""
    matrices = [np.bincount(each.labels * n + each.predicted, minlength=n * n) for each in predictions]
    counts = np.mean(matrices, axis=0).reshape(n, n)
    errors = counts * (1 - np.eye(n))
    highest = errors.max() or 1
    names, long = _class_labels(classes)
    left, top = (94, 88) if long else (36, 26)
    cell = (WIDTH - left - 6) / n
    size = min(12.0, cell * 0.42)
    chart = Chart("Confusion matrix", (0, 1), (0, 1), height=round(top + cell * n + 6))
    chart.add(f'<text class="label" x="{(left + WIDTH) / 2}" y="10" text-anchor="middle">predicted</text>')
    chart.add(f'<text class="label" transform="translate(9 {top + cell * n / 2}) rotate(-90)">actual</text>')
    for row, name in enumerate(classes):
        label, middle = _short(names[row]), cell * (row + 0.5)
        above = f'x="{left + middle:.1f}" y="{top - 5}" text-anchor="middle"'
        above = f'transform="translate({left + middle + 4:.1f} {top - 6}) rotate(-90)"' if long else above
        chart.add(f"<text {above}>{label}</text>")
        chart.add(f'<text x="{left - 6}" y="{top + middle + 4:.1f}" text-anchor="end">{label}</text>')
        for column, other in enumerate(classes):
            count, x, y = counts[row, column], left + cell * column, top + cell * row
            opacity = 0 if row == column else 0.9 * math.sqrt(errors[row, column] / highest)
            hint = f"{name} taken for {other}: {count:,.1f} images in the mean of {len(predictions)} networks"
            style = "diagonal-cell" if row == column else f"cell {color}"
            chart.add(
                f'<rect class="{style}" x="{x + 0.75:.1f}" y="{y + 0.75:.1f}" width="{cell - 1.5:.1f}" '
                f'height="{cell - 1.5:.1f}" rx="3" style="--shade:{opacity:.2f}">'
                f"<title>{_short(hint, 99)}</title></rect>"
            )
            if count:
                text = f"{count:.0f}" if count >= 9.95 or count == round(count) else f"{count:.1f}"
                font = min(size, 1.45 * cell / len(text))
                strong = " strong" if opacity > 0.55 else ""
                chart.add(
                    f'<text class="count{strong}" x="{x + cell / 2:.1f}" y="{y + cell / 2 + font * 0.35:.1f}" '
                    f'style="font-size:{font:.1f}px" text-anchor="middle">{text}</text>'
                )
    return chart.render()


def _class_labels(classes: Sequence[str]) -> tuple[list[str], bool]:
    """Return the names of the classes, cut to the space at the axes, and whether they are too long side by side."""
    return [name if len(name) <= 12 else f"{name[:11]}…" for name in classes], max(map(len, classes)) > 3


def _padded(low: float, high: float) -> tuple[float, float]:
    """Return limits with some space around them."""
    space = 0.06 * ((high - low) or 0.01)
    return low - space, high + space


def _short(text: str, length: int = 52) -> str:
    """Return text for SVG, escaped and cut."""
    from html import escape

    return escape(text if len(text) <= length else f"{text[: length - 1]}…")
