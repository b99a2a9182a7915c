"""All thresholds of the detection of digits in pictures, with their units.

They were tuned together on synthetic photographs (`benchmarks/photographs.py --set tuning`). Lengths refer to the
picture as it is analysed, which is at most `image_io.MAX_SIDE` pixels on its longest side. Brightness and ink are
numbers from 0 to 1.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Thresholds:
    """Thresholds of `ink.py`, `segment.py` and `normalize.py`, in this order."""

    # Pictures that no camera took: drawings, screenshots, MNIST images
    flat_tolerance: float = 1.5 / 255
    """Largest difference in brightness from the paper, for a pixel of a flat background."""
    min_flat_fraction: float = 0.3
    """Fraction of the picture that must be flat background if no camera took it."""
    min_flat_rim_fraction: float = 0.5
    """Fraction of the outermost pixels that must be flat background if no camera took it."""
    rim_histogram_bins: int = 64
    """Bins of the histogram of the outermost pixels; the fullest one holds the brightness of the paper."""
    flat_rule_dilation: int = 3
    """Pixels over which a ruled line of a flat picture is widened, as it may have a step."""

    # A sheet of paper on a darker table
    thumbnail_side: int = 128
    """Pixels of the longest side of the reduced picture on which light, paper and ruled lines are estimated."""
    table_ratio: float = 0.5
    """Highest brightness of a table, relative to the paper. Shadows are as dark, but they reach the picture's rim."""
    min_written_fraction: float = 0.002
    """Smallest fraction of the sheet that is covered by ink."""
    max_written_fraction: float = 0.25
    """Largest fraction of the sheet that is covered by ink."""
    min_paper_fraction: float = 0.3
    """Smallest fraction of the picture that is covered by the sheet."""
    max_paper_rim_fraction: float = 0.3
    """Largest fraction of the outermost pixels that belong to the sheet."""
    min_paper_rectangularity: float = 0.85
    """Smallest fraction of its bounding box that is covered by the sheet."""
    paper_erosion: int = 3
    """Pixels of the thumbnail by which the sheet is reduced on each side, to exclude its edge."""

    # Background light
    closing_divisors: tuple[int, ...] = (16, 8, 3)
    """Divisors of the longest side that give the sizes of the closing; no pen stroke is wider than the last size."""
    surround_blur_divisor: int = 16
    """Divisor of the longest side that gives the deviation of the blur with which bright ink is recognised."""
    closing_blur: float = 1
    """Standard deviation, in pixels of the thumbnail, of the blur of the closed picture."""
    min_background: float = 1 / 255
    """Lowest brightness of the background, which is a divisor."""
    min_stroke_ink_fraction: float = 0.8
    """Fraction of the largest amount of stroke ink with which a smaller closing is preferred."""
    max_stroke_width: float = 0.6
    """Largest mean width of a stroke, relative to the size of the closing, for its ink to count."""
    min_stroke_length: float = 0.05
    """Smallest length of a stroke, relative to the longest side, for its ink to count."""

    # Ink and noise
    ink_blur_divisor: int = 350
    """Divisor of the longest side that gives the standard deviation of the blur of a photograph's ink."""
    ink_level: float = 0.5
    """Ink below which a pixel counts as paper in the estimate of medians."""
    faint_level: float = 0.03
    """Ink, or range of brightness, that is too faint to be analysed."""
    noise_factor: float = 7.5
    """Noise floor, in median absolute deviations of the paper's pixels; equals five standard deviations."""
    min_ink: float = 0.06
    """Lowest noise floor."""
    min_ink_pixels: int = 4
    """Number of pixels of ink below which no second threshold is computed."""
    min_ink_range: float = 0.01
    """Range of ink below which no second threshold is computed."""
    hysteresis_ratio: float = 0.6
    """Lower threshold of the hysteresis, relative to the upper one (Otsu's)."""

    # Ruled lines
    max_rule_width: float = 0.03
    """Largest width of a ruled line, relative to the longest side; wider ones are strokes in a tight frame."""
    min_rule_window: int = 3
    """Smallest window, in pixels, of the filter that separates lines from wider strokes."""
    max_rule_slope: float = float(np.tan(np.radians(15)))
    """Largest slope of a ruled line, rows per column."""
    rule_aspect: int = 4
    """Columns per row that are averaged in the thumbnail on which the slope is estimated."""
    rule_quantile: float = 0.25
    """Quantile of the ink along a line, in the thumbnail, that represents the line."""
    rule_divisor: int = 4
    """Divisor of a line's length: the sorted ink at this index represents the line."""
    rule_end_divisor: int = 12
    """Divisor of a line's length: the sorted ink at this index represents the line's faintest parts."""
    min_rule_end_ratio: float = 0.3
    """Smallest ratio of the ink in a line's faintest parts to the line's ink; a stroke that ends has less."""
    min_rule_length: float = 0.5
    """Smallest length inside the picture, relative to its width, of a ruled line."""

    # Resolution of the detection
    coarse_side: int = 240
    """Approximate pixels of the longest side at which digits are searched first."""
    min_clear_height: int = 60
    """Height in pixels, three times the 20 of MNIST, that makes the search at full resolution unnecessary."""
    pen_gap_divisor: int = 150
    """Divisor of the longest side that gives the radius, in pixels, of gaps that a skipping pen leaves."""

    # Filtering of components
    min_component_area: float = 0.02
    """Smallest area of a component, relative to the largest one."""
    min_enclosed_height: float = 0.35
    """Smallest height of a digit, relative to the ring or box that encloses it."""
    min_cropped_extent: float = 0.05
    """Smallest shorter side of a component that touches the rim, relative to the picture's longest side."""
    min_inside_height: float = 0.1
    """Height, relative to the picture's, of a component away from the rim that excludes those which touch the rim."""
    min_digit_fraction: float = 0.03
    """Smallest height of the tallest component, relative to the longest side of the picture."""
    min_underline_aspect: float = 4
    """Smallest ratio of width to height of an underline."""
    max_underline_rise: float = 0.1
    """Largest distance of an underline above the digit's lower end, relative to the digit's height."""
    min_underline_overlap: float = 0.4
    """Smallest horizontal overlap of an underline and its digit, relative to the narrower of the two."""

    # Grouping of components
    min_relative_height: float = 0.4
    """Smallest height of a digit, relative to the tallest one."""
    min_relative_area: float = 0.12
    """Smallest area of a digit, relative to the largest one."""
    min_side_by_side_overlap: float = 0.5
    """Vertical overlap, relative to the lower of two components, from which they stand side by side."""
    small_height_ratio: float = 0.6
    """Height, relative to a digit's, up to which a component counts as a small part of it."""
    min_slanted_overlap: float = 0.25
    """Horizontal overlap of two tall components side by side, relative to the narrower, that joins them."""
    max_side_gap: float = 0.04
    """Horizontal gap between a digit and a small part beside it, relative to the tallest component."""
    max_stacked_offset: float = 0.1
    """Horizontal gap between a digit and a large part above or below it, relative to the tallest component."""
    max_small_stacked_gap: float = 0.2
    """Vertical gap between a digit and a small part, relative to the height of the two together."""
    max_large_stacked_gap: float = 0.13
    """Vertical gap between a digit and a large part, relative to the height of the two together."""

    # Normalization
    flat_ink_quantile: float = 0.9
    """Quantile of a digit's ink that becomes full ink, in a picture with a flat background."""
    photo_ink_quantile: float = 0.5
    """Quantile of a digit's ink that becomes full ink, in a photograph."""
    min_digit_extent: int = 10
    """Pixels of the longer side below which a digit is scaled as if it had as many."""
    min_pen_width: float = 1.2
    """Mean stroke width, in pixels of the 28 × 28 image; no MNIST digit is written with a finer pen."""
    target_pen_width: float = 2.4
    """Mean stroke width, in pixels of the 28 × 28 image, of a digit whose pen was too fine."""


THRESHOLDS = Thresholds()
