"""Plots: what they show; the values are those of the arguments."""

from itertools import pairwise

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg

from digitnet.plots import ContactSheetItem, plot_confusion, plot_contact_sheet, plot_curves, plot_predictions


def test_the_bar_of_a_prediction_is_green_if_it_is_correct_and_red_if_not() -> None:
    probabilities = torch.eye(10)[[3, 5]]
    figure = plot_predictions(torch.zeros(2, 28, 28), torch.tensor([3, 4]), probabilities, columns=2)
    (axis,) = figure.axes
    titles = [text.get_text() for text in axis.texts if len(text.get_text()) > 2]
    assert titles == ["predicted 3", "100.0%, actual 3", "predicted 5", "100.0%, actual 4"]
    green, red = axis.patches[3].get_facecolor(), axis.patches[10 + 5].get_facecolor()
    assert green[1] > green[0]
    assert red[0] > red[1]


def test_the_titles_of_neighbours_do_not_overlap_however_long_the_names_of_the_classes_are() -> None:
    names = ["T-shirt/top", "Ankle boot", "a class of one's own with a long name"]
    figure = plot_predictions(
        torch.zeros(3, 28, 28), torch.tensor([0, 1, 2]), torch.eye(3), columns=3, class_names=names
    )
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts if text.get_text().startswith("predicted")]
    assert len(boxes) == 3
    assert all(left.x1 < right.x0 for left, right in pairwise(boxes))
    assert boxes[0].x0 >= 0
    assert boxes[-1].x1 <= figure.bbox.width


def test_a_contact_sheet_shows_the_name_and_the_summary_of_each_picture() -> None:
    picture, image = np.ones((40, 60, 3), np.float32), np.zeros((28, 28), np.uint8)
    items = [
        ContactSheetItem("one $x^.png", "7", picture, image, [0.1] * 10),
        ContactSheetItem("blank.png", "no digit", picture, None, None),
    ]
    titles = [axis.get_title() for axis in plot_contact_sheet(items).axes if axis.get_title()]
    assert titles == ["one $x^.png", "7", "blank.png", "no digit"]


def test_curves_count_epochs_from_one_and_leave_out_missing_metrics() -> None:
    history = [{"epoch": 0.0, "train/loss": 2.0, "train/acc": 0.5}, {"epoch": 1.0, "train/loss": 1.0, "val/acc": 0.75}]
    loss, accuracy = plot_curves(history).axes
    assert [line.get_xydata().tolist() for line in loss.lines] == [[[1, 2], [2, 1]]]
    assert [line.get_xydata().tolist() for line in accuracy.lines] == [[[1, 0.5]], [[2, 0.75]]]


def test_a_confusion_matrix_shades_errors_only_and_shows_every_count_above_zero() -> None:
    counts = torch.diag(torch.full((10,), 9.0))
    counts[3, 5] = 1
    (axis,) = plot_confusion(counts).axes
    shades = np.asarray(axis.images[0].get_array())
    assert shades[3, 5] == np.float32(0.1)
    assert shades.sum() == shades[3, 5]
    assert [text.get_text() for text in axis.texts] == ["9"] * 4 + ["1"] + ["9"] * 6
