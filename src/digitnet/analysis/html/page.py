"""The HTML page of a report: one file that needs nothing else."""

from collections.abc import Callable, Sequence
from html import escape
from importlib import resources
from importlib.metadata import version

from digitnet.analysis.html import charts
from digitnet.analysis.html.charts import color_of
from digitnet.analysis.html.tiles import draw_disagreements, draw_mistakes, scrolling_table
from digitnet.analysis.report import Report
from digitnet.analysis.runs import FinishedRun
from digitnet.analysis.summary import SPLIT_NAMES, GroupSummary
from digitnet.analysis.tables import MISSING, comparison_sentence, interval_text, mean_and_sd, percent, table_rows

_DETAILED = 6  # groups that are drawn: more colours cannot be told apart


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
            "Worst mistakes",
            "mistakes",
            _small_multiples(drawn, lambda each, _: draw_mistakes(each, classes), wide=True),
        ),
        _section("Right in one only", "disagreements", draw_disagreements(report, drawn, classes)),
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
    cards = "".join(
        _card(summary, color_of(index), baseline=bool(report.comparisons) and index == 0)
        for index, summary in enumerate(drawn)
    )
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
    shown = (
        "Dot: one run. Bar: mean. Line: 95 % t interval of the mean over seeds. Pale: 95 % Wilson interval over images."
    )
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
    return scrolling_table(f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody>", "All groups", "sortable")


def _curves(drawn: list[GroupSummary]) -> str:
    """Return the curves by epoch."""
    groups = [summary.group for summary in drawn]
    titles = {
        "val/acc": "Validation error, %",
        "val/loss": "Validation loss",
        "train/loss": "Training loss",
    }
    figures = "".join(_figure(charts.draw_curves(groups, name, title), title) for name, title in titles.items())
    several = any(len(group.runs) > 1 for group in groups)
    band = '<p class="sub">Line: mean over the seeds. Band: from the lowest to the highest.</p>' if several else ""
    return f'{_legend(drawn)}{band}<div class="charts titled">{figures}</div>' if figures else ""


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
        f"{scrolling_table(f'<thead><tr>{heading}</tr></thead><tbody>{rows}</tbody>', 'Runs')}{shown}</details>"
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
        "<b>Over seeds</b>: 95 % t interval of the mean. It holds for new seeds on the same images, and "
        "needs three runs.",
        "<b>Over images</b>: 95 % interval for other images of the same kind and the same networks. "
        "For an accuracy it is Wilson's, for a difference a bootstrap over images. The two kinds are not added up.",
        "<b>McNemar</b>: exact binomial test on the images that only one of two classifiers gets right. "
        "p values of several comparisons are not corrected for their number.",
        "<b>NLL</b>: mean negative log-likelihood, the loss. <b>ECE</b>: expected calibration error, 15 equal bins.",
        "<b>Multiply-adds</b>: of convolutions and matrix products, for one image. "
        "<b>Seconds</b>: training, mean of the runs.",
    ]
    return f"<ul>{''.join(f'<li>{item}</li>' for item in items)}</ul>"
