"""The HTML page of a report: one file that needs nothing else."""

import base64
import io
from collections.abc import Callable, Sequence
from html import escape
from importlib import resources
from importlib.metadata import version

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from digitnet.analysis.html import charts
from digitnet.analysis.html.charts import color_of
from digitnet.analysis.report import Report
from digitnet.analysis.runs import FinishedRun, mean_probabilities
from digitnet.analysis.statistics import image_losses
from digitnet.analysis.summary import (
    SPLIT_NAMES,
    Comparison,
    Disagreement,
    GroupSummary,
    correct_fractions,
    misclassified_images,
)
from digitnet.analysis.tables import (
    MISSING,
    comparison_sentence,
    interval_text,
    mean_and_sd,
    p_text,
    percent,
    table_rows,
)

_DETAILED = 6  # groups that are drawn: more colours cannot be told apart
_MISTAKES = 18  # images of each group
_DISAGREEMENTS = 24  # images of each side of a comparison


def to_html(report: Report) -> str:
    """Render a report as a page.

    Args:
        report: The report.

    Returns:
        The text of an HTML file, which refers to no other file.
    """
    drawn = _choose_drawn(report.summaries)
    classes = report.summaries[0].group.runs[0].classes
    sections = [
        _overview(report, drawn),
        _section("Accuracy of each run", "accuracy", _accuracy(drawn, report)),
        _section("All groups", "groups", _table(report)),
        _section("Training", "training", _curves(drawn)),
        _section("By class", "classes", _classes(drawn, classes)),
        _section("Calibration", "calibration", _small_multiples(drawn, _reliability)),
        _section(
            "Confusion", "confusion", _small_multiples(drawn, lambda each, color: _confusion(each, classes, color))
        ),
        _section(
            "Worst mistakes", "mistakes", _small_multiples(drawn, lambda each, _: _mistakes(each, classes), wide=True)
        ),
        _section("Right in one only", "disagreements", _disagreements(report, drawn, classes)),
        _section("Runs", "runs", "".join(_run_table(summary) for summary in report.summaries)),
        _section("How to read this", "reading", _reading(report)),
    ]
    page = _asset("report.html")
    for name, content in {
        "css": _asset("report.css"),
        "js": _asset("report.js"),
        "title": escape(report.title),
        "version": escape(version("digitnet")),
        "main": "\n".join(filter(None, sections)),
    }.items():
        page = page.replace(f"<!--{name}-->", content)
    return page


def _asset(name: str) -> str:
    """Return the text of a file beside this module."""
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def _choose_drawn(summaries: Sequence[GroupSummary]) -> list[GroupSummary]:
    """Return the groups that are drawn: the baseline, then the most accurate others."""
    first, *others = summaries
    best = sorted(others, key=lambda each: -each.accuracy.mean)[: _DETAILED - 1]
    return [first, *(each for each in others if each in best)]


def _section(title: str, anchor: str, content: str) -> str:
    """Return a section with a heading, or nothing without content."""
    return f'<section id="{anchor}"><h2>{title}</h2>{content}</section>' if content else ""


def _figure(chart: str, caption: str) -> str:
    """Return a chart with a caption, or nothing without a chart."""
    return f"<figure>{chart}<figcaption>{caption}</figcaption></figure>" if chart else ""


def _overview(report: Report, drawn: list[GroupSummary]) -> str:
    """Return a card for each group that is drawn, the findings, and the notes."""
    cards = "".join(_card(summary, color_of(index), index == 0) for index, summary in enumerate(drawn))
    omitted = len(report.summaries) - len(drawn)
    notes = list(report.notes)
    if omitted:
        notes.append(
            f"The baseline and the {len(drawn) - 1} most accurate of the other groups are drawn; the table has all."
        )
    names = {summary.group.name for summary in drawn}
    findings = [comparison_sentence(each) for each in report.comparisons if each.other.name in names]
    return (
        f'<div class="cards">{cards}</div>'
        + (f'<ul class="findings">{"".join(f"<li>{escape(line)}</li>" for line in findings)}</ul>' if findings else "")
        + (f'<ul class="notes">{"".join(f"<li>{escape(note)}</li>" for note in notes)}</ul>' if notes else "")
    )


def _card(summary: GroupSummary, color: str, baseline: bool) -> str:
    """Return the card of a group: its accuracy, and what the seeds and the images leave open."""
    seeds = interval_text(summary.accuracy.interval)
    rows = {
        "over seeds": f"{seeds} %" if summary.accuracy.interval else "n &lt; 3: no interval",
        "over images": f"{interval_text(summary.image_interval)} %" if summary.image_interval else MISSING,
        "NLL": mean_and_sd(summary.nll, 1, 4),
        "ECE": f"{mean_and_sd(summary.figures.get('ece'), 100, 2)} %" if "ece" in summary.figures else MISSING,
    }
    details = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in rows.items())
    spread = "" if summary.accuracy.sd is None else f" <small>± {percent(summary.accuracy.sd)}</small>"
    n = len(summary.group.runs)
    label = "baseline, " if baseline else ""
    return (
        f'<article class="card {color}"><h3>{escape(summary.group.name)}</h3>'
        f'<p class="big">{percent(summary.accuracy.mean)}{spread} <small>%</small></p>'
        f'<p class="sub">{label}{n} {"seed" if n == 1 else "seeds"}: {", ".join(map(str, summary.group.seeds))}</p>'
        f"<dl>{details}</dl></article>"
    )


def _accuracy(drawn: list[GroupSummary], report: Report) -> str:
    """Return the charts of the accuracies and of the differences from the baseline."""
    colors = {summary.group.name: color_of(index) for index, summary in enumerate(drawn)}
    comparisons = [each for each in report.comparisons if each.other.name in colors]
    shown = "Dot: one run. Bar: mean. Line: 95 % interval of the mean over seeds (t). Pale: 95 % interval over images (Wilson)."
    content = _figure(charts.draw_accuracies(drawn), shown)
    if comparisons:
        chart = charts.draw_differences(comparisons, [colors[each.other.name] for each in comparisons])
        caption = f"Against {escape(comparisons[0].baseline.name)}. Line: over seeds. Pale: over images (bootstrap)."
        content += _figure(chart, caption)
    return f'<div class="charts two">{content}</div>'


def _table(report: Report) -> str:
    """Return the table of all groups, whose columns can be sorted."""
    heading, rows = table_rows(report)
    head = "".join(f'<th scope="col"><button type="button">{escape(name)}</button></th>' for name in heading)
    drawn = {summary.group.name: color_of(index) for index, summary in enumerate(_choose_drawn(report.summaries))}
    body = "".join(
        f'<tr><th scope="row"><i class="swatch {drawn.get(name, "none")}"></i>{escape(name)}</th>'
        f"{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>"
        for name, *cells in rows
    )
    return _scrolling(f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody>", "All groups", "sortable")


def _scrolling(rows: str, label: str, style: str = "") -> str:
    """Return a table that scrolls by itself where the page is narrow."""
    return f'<div class="scroll" tabindex="0" role="region" aria-label="{label}"><table class="{style}">{rows}</table></div>'


def _curves(drawn: list[GroupSummary]) -> str:
    """Return the curves by epoch."""
    groups = [summary.group for summary in drawn]
    titles = {
        "val/acc": "Validation error, %",
        "val/loss": "Validation loss",
        "train/loss": "Training loss",
    }
    figures = "".join(_figure(charts.draw_curves(groups, name, title), title) for name, title in titles.items())
    return f'{_legend(drawn)}<div class="charts titled">{figures}</div>' if figures else ""


def _legend(drawn: list[GroupSummary]) -> str:
    """Return the colours of the groups."""
    names = (
        f'<span class="{color_of(i)}"><i class="swatch"></i>{escape(each.group.name)}</span>'
        for i, each in enumerate(drawn)
    )
    return f'<p class="legend">{"".join(names)}</p>'


def _classes(drawn: list[GroupSummary], classes: Sequence[str]) -> str:
    """Return the error of each class as a chart."""
    figure = _figure(charts.draw_by_class(drawn, classes), "Misclassified images of each class, %, mean over the runs")
    return f'{_legend(drawn)}<div class="charts wide">{figure}</div>' if figure else ""


def _small_multiples(drawn: list[GroupSummary], draw: Callable[[GroupSummary, str], str], wide: bool = False) -> str:
    """Return one block for each group under the name of the group."""
    blocks = []
    for index, summary in enumerate(drawn):
        if content := draw(summary, color_of(index)):
            name = escape(summary.group.name)
            blocks.append(
                f'<div class="multiple"><h3 class="{color_of(index)}"><i class="swatch"></i>{name}</h3>{content}</div>'
            )
    return f'<div class="charts{" rows" if wide else ""}">{"".join(blocks)}</div>' if blocks else ""


def _reliability(summary: GroupSummary, color: str) -> str:
    ece = f"ECE {mean_and_sd(summary.figures.get('ece'), 100, 2)} %"
    return _figure(
        charts.draw_reliability(summary, color), f"Accuracy, %, by confidence. {ece}. Area: number of predictions."
    )


def _confusion(summary: GroupSummary, classes: Sequence[str], color: str) -> str:
    return _figure(
        charts.draw_confusion(summary, classes, color), "Images in the mean of the networks; errors are shaded."
    )


def _mistakes(summary: GroupSummary, classes: Sequence[str]) -> str:
    """Return the misclassified images with the highest loss of the group's ensemble."""
    predictions = summary.group.predictions(summary.split)
    if not predictions:
        return ""
    images, labels = misclassified_images(predictions), predictions[0].labels
    probabilities = mean_probabilities(predictions)
    losses, right = image_losses(probabilities, labels), correct_fractions(predictions)
    worst = sorted(images, key=lambda position: -losses[position])[:_MISTAKES]
    n = len(predictions)
    tiles = []
    for position in worst:
        wrong = round(n * (1 - right[position]))
        guesses = probabilities[position].copy()
        guesses[labels[position]] = -1
        hint = f"{SPLIT_NAMES[summary.split]} image {position}: {wrong} of {n} networks are wrong"
        tiles.append(
            _tile(
                images[position],
                f"{classes[labels[position]]} → {classes[int(guesses.argmax())]}",
                f"{percent(float(guesses.max()), 0)} %" + (f", {wrong}/{n}" if n > 1 else ""),
                hint,
            )
        )
    return f'<div class="tiles">{"".join(tiles)}</div>' if tiles else "<p>No image is misclassified.</p>"


def _tile(image: NDArray[np.uint8], caption: str, second: str, hint: str) -> str:
    """Return an image with a caption."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    source = f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
    alt = escape(f"{hint}; {caption}")
    return (
        f'<figure class="tile" title="{escape(hint)}"><img src="{source}" alt="{alt}" width="56" height="56">'
        f"<figcaption><b>{escape(caption)}</b><br>{escape(second)}</figcaption></figure>"
    )


def _disagreements(report: Report, drawn: list[GroupSummary], classes: Sequence[str]) -> str:
    """Return the images that only one of two groups classifies correctly, for each comparison that is drawn."""
    colors = {summary.group.name: color_of(index) for index, summary in enumerate(drawn)}
    chosen = [each for each in report.comparisons if each.other.name in colors and each.test]
    return "".join(_disagreement(each, report.split, colors, classes) for each in chosen)


def _disagreement(comparison: Comparison, split: str, colors: dict[str, str], classes: Sequence[str]) -> str:
    test, size = comparison.test, comparison.ensemble_size
    assert test is not None
    what = "the two networks" if size == 1 else f"ensembles of {size} networks each, mean probabilities"
    by_seed = "".join(
        f"<tr><th scope=row>{seed}</th><td>{each.only_first}</td><td>{each.only_second}</td><td>{p_text(each.p_value)}</td></tr>"
        for seed, each in comparison.tests_by_seed.items()
    )
    first, second = escape(comparison.baseline.name), escape(comparison.other.name)
    heading = f"<thead><tr><th>Seed</th><th>only {first}</th><th>only {second}</th><th>McNemar</th></tr></thead>"
    pairs = f"<details><summary>The same test seed by seed</summary>{_scrolling(heading + f'<tbody>{by_seed}</tbody>', 'By seed')}</details>"
    return (
        f"<h3>{second} against {first}</h3><p>Exact McNemar test, {what}: {p_text(test.p_value)}.</p>"
        + _side(comparison.only_other, test.only_second, comparison.other.name, split, colors, classes)
        + _side(comparison.only_baseline, test.only_first, comparison.baseline.name, split, colors, classes)
        + (pairs if len(comparison.tests_by_seed) > 1 else "")
    )


def _side(
    images: list[Disagreement], count: int, name: str, split: str, colors: dict[str, str], classes: Sequence[str]
) -> str:
    tiles = "".join(
        _tile(
            each.image,
            classes[each.label],
            f"not {classes[each.predicted]}",
            f"{SPLIT_NAMES[split]} image {each.position}: only {name} sees the {classes[each.label]}",
        )
        for each in images[:_DISAGREEMENTS]
    )
    more = f"; the first {_DISAGREEMENTS} are shown" if len(images) > _DISAGREEMENTS else ""
    noun = "image is" if count == 1 else "images are"
    swatch = f'<i class="swatch {colors[name]}"></i>'
    return f'<p class="side">{swatch}{count} {noun} right only with <b>{escape(name)}</b>{more}.</p><div class="tiles">{tiles}</div>'


def _run_table(summary: GroupSummary) -> str:
    """Return the runs of a group with everything that is needed to repeat them, folded."""
    heading = "".join(
        f'<th scope="col">{name}</th>'
        for name in (
            "Seed",
            "Validation %",
            "Test %",
            "Checkpoint",
            "Seconds",
            "Machine",
            "Versions",
            "Commit",
            "Folder",
        )
    )
    rows = "".join(_run_row(run) for run in summary.group.runs)
    commands = [str(command) for command in summary.distinct("command")]
    shown = "".join(
        f'<div class="command"><code>{escape(command)}</code><button type="button" class="copy">Copy</button></div>'
        for command in commands
    )
    n = len(summary.group.runs)
    return (
        f"<details><summary>{escape(summary.group.name)} <small>{n} {'run' if n == 1 else 'runs'}</small></summary>"
        f"{_scrolling(f'<thead><tr>{heading}</tr></thead><tbody>{rows}</tbody>', 'Runs')}{shown}</details>"
    )


def _run_row(run: FinishedRun) -> str:
    metrics = run.metrics
    accuracies = [f"{percent(metrics[name])}" if name in metrics else MISSING for name in ("val/acc", "test/acc")]
    versions = metrics.get("versions") or {}
    shown = ", ".join(
        f"{name} {versions[name]}" for name in ("digitnet", "torch", "lightning", "python") if name in versions
    )
    seconds = f"{metrics['train/seconds']:.0f}" if "train/seconds" in metrics else MISSING
    commit = str(metrics.get("commit") or MISSING)
    short = commit if len(commit) < 12 else commit[:10] + ("-dirty" if commit.endswith("-dirty") else "")
    cells = [
        *accuracies,
        run.chosen_by,
        seconds,
        str(metrics.get("machine", MISSING)),
        shown or MISSING,
        short,
        run.path,
    ]
    return f'<tr><th scope="row">{run.seed}</th>{"".join(f"<td>{escape(cell)}</td>" for cell in cells)}</tr>'


def _reading(report: Report) -> str:
    """Return what the figures mean and where they come from."""
    chosen = {run.chosen_by.partition("(")[2].rstrip(")") for each in report.summaries for run in each.group.runs}
    items = [
        f"Accuracies and losses are those of each run's metrics.json, on its {SPLIT_NAMES[report.split]} images.",
        f"The epoch that is scored is chosen by: {escape('; '.join(sorted(chosen)))}. The test images choose nothing.",
        "<b>Over seeds</b>: 95 % t interval of the mean. It holds for new seeds on the same images, and needs three runs.",
        "<b>Over images</b>: 95 % interval for other images of the same kind and the same networks. "
        "For an accuracy it is Wilson's, for a difference a bootstrap over images. The two kinds are not added up.",
        "<b>McNemar</b>: exact binomial test on the images that only one of two classifiers gets right. "
        "p values of several comparisons are not corrected for their number.",
        "<b>NLL</b>: mean negative log-likelihood, the loss. <b>ECE</b>: expected calibration error, 15 equal bins.",
        "<b>Multiply-adds</b>: of convolutions and matrix products, for one image. <b>Seconds</b>: training, mean of the runs.",
    ]
    return f"<ul>{''.join(f'<li>{item}</li>' for item in items)}</ul>"
