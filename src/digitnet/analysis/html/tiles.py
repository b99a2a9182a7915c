"""The images of a report: the worst mistakes of a group, and what only one of two groups classifies correctly."""

import base64
import io
from collections.abc import Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from digitnet.analysis.html.charts import color_of
from digitnet.analysis.report import Report
from digitnet.analysis.runs import mean_probabilities
from digitnet.analysis.statistics import image_losses
from digitnet.analysis.summary import (
    SPLIT_NAMES,
    Comparison,
    Disagreement,
    GroupSummary,
    correct_fractions,
    misclassified_images,
)
from digitnet.analysis.tables import p_text, percent

_MISTAKES = 18  # images of each group
_DISAGREEMENTS = 24  # images of each side of a comparison


def draw_mistakes(summary: GroupSummary, classes: Sequence[str]) -> str:
    """Return the misclassified images with the highest loss of the group's ensemble.

    Args:
        summary: The figures of the group.
        classes: Names of the classes.
    """
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


def draw_disagreements(report: Report, drawn: list[GroupSummary], classes: Sequence[str]) -> str:
    """Return the images that only one of two groups classifies correctly, for each comparison that is drawn.

    Args:
        report: The report.
        drawn: The groups that are drawn, in the order of their colours.
        classes: Names of the classes.
    """
    colors = {summary.group.name: color_of(index) for index, summary in enumerate(drawn)}
    chosen = [each for each in report.comparisons if each.other.name in colors and each.test]
    return "".join(_disagreement(each, report.split, colors, classes) for each in chosen)


def _disagreement(comparison: Comparison, split: str, colors: dict[str, str], classes: Sequence[str]) -> str:
    test, size = comparison.test, comparison.ensemble_size
    assert test is not None
    what = "the two networks" if size == 1 else f"ensembles of {size} networks each, mean probabilities"
    by_seed = "".join(
        f"<tr><th scope=row>{seed}</th><td>{each.only_first}</td><td>{each.only_second}</td>"
        f"<td>{p_text(each.p_value)}</td></tr>"
        for seed, each in comparison.tests_by_seed.items()
    )
    first, second = escape(comparison.baseline.name), escape(comparison.other.name)
    heading = f"<thead><tr><th>Seed</th><th>only {first}</th><th>only {second}</th><th>McNemar</th></tr></thead>"
    table = scrolling_table(f"{heading}<tbody>{by_seed}</tbody>", "By seed")
    pairs = f"<details><summary>The same test seed by seed</summary>{table}</details>"
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
    sentence = f"{count} {noun} right only with <b>{escape(name)}</b>{more}."
    return f'<p class="side">{swatch}{sentence}</p><div class="tiles">{tiles}</div>'


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


def scrolling_table(rows: str, label: str, style: str = "") -> str:
    """Return a table that scrolls by itself where the page is narrow.

    Args:
        rows: The content of the table, as HTML.
        label: What the table shows, for a screen reader.
        style: Classes of the table.
    """
    region = f'class="scroll" tabindex="0" role="region" aria-label="{label}"'
    return f'<div {region}><table class="{style}">{rows}</table></div>'
