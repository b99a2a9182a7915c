"""Axes and marks of a small chart as inline SVG; its colours are those of the page, in light and dark."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

WIDTH = 360
"""Width of a chart in its own units, which are about pixels on a phone and on a desktop."""

Point = tuple[float, float]


@dataclass
class Chart:
    """A chart with linear or logarithmic axes, to which marks are added."""

    title: str
    """What the chart shows, for readers who do not see it."""
    x_range: tuple[float, float]
    """Least and greatest value of the horizontal axis."""
    y_range: tuple[float, float]
    """Least and greatest value of the vertical axis."""
    height: int = 240
    """Height in the units of `WIDTH`."""
    left: int = 44
    """Space for the labels of the vertical axis."""
    bottom: int = 36
    """Space for the labels of the horizontal axis."""
    top: int = 10
    """Space above."""
    log: bool = False
    """Whether the vertical axis is logarithmic."""
    marks: list[str] = field(default_factory=list)
    """Elements of SVG."""

    def x(self, value: float) -> float:
        """Return the horizontal position of a value."""
        low, high = self.x_range
        return self.left + (WIDTH - 12 - self.left) * (value - low) / ((high - low) or 1)

    def y(self, value: float) -> float:
        """Return the vertical position of a value."""
        low, high = self.y_range
        if self.log:
            low, high, value = math.log(low), math.log(high), math.log(max(value, low))
        inner = self.height - self.top - self.bottom
        return self.top + inner * (1 - (value - low) / ((high - low) or 1))

    def add(self, mark: str) -> None:
        """Add an element."""
        self.marks.append(mark)

    def x_axis(self, ticks: Sequence[tuple[float, str]], label: str, grid: bool = False, slanted: bool = False) -> None:
        """Draw labels below the chart, slanted if they are long, and a grid line for each if wanted."""
        base = self.height - self.bottom
        for value, text in ticks:
            x = self.x(value)
            if grid:
                self.add(f'<path class="grid" d="M{x:.1f} {self.top}V{base}"/>')
            place = f'transform="translate({x + 4:.1f} {base + 13}) rotate(-40)" text-anchor="end"'
            place = place if slanted else f'x="{x:.1f}" y="{base + 15}" text-anchor="middle"'
            self.add(f"<text {place}>{escape(text)}</text>")
        middle = (self.left + WIDTH - 12) / 2
        self.add(
            f'<text class="label" x="{middle:.1f}" y="{self.height - 4}" text-anchor="middle">{escape(label)}</text>'
        )

    def y_axis(self, ticks: Sequence[tuple[float, str]]) -> None:
        """Draw labels to the left of the chart, and a grid line for each."""
        for value, text in ticks:
            y = self.y(value)
            self.add(f'<path class="grid" d="M{self.left} {y:.1f}H{WIDTH - 12}"/>')
            self.add(f'<text x="{self.left - 6}" y="{y + 4:.1f}" text-anchor="end">{escape(text)}</text>')

    def line(self, points: Sequence[Point], color: str, style: str = "line") -> None:
        """Draw a line through points."""
        path = "L".join(f"{self.x(x):.1f} {self.y(y):.1f}" for x, y in points)
        self.add(f'<path class="{style} {color}" d="M{path}"/>')

    def band(self, lower: Sequence[Point], upper: Sequence[Point], color: str) -> None:
        """Fill the space between two lines."""
        path = "L".join(f"{self.x(x):.1f} {self.y(y):.1f}" for x, y in [*lower, *reversed(upper)])
        self.add(f'<path class="band {color}" d="M{path}Z"/>')

    def dot(self, x: float, y: float, color: str, hint: str, radius: float = 3.5) -> None:
        """Draw a dot, whose hint appears below the pointer."""
        self.add(
            f'<circle class="dot {color}" cx="{self.x(x):.1f}" cy="{self.y(y):.1f}" r="{radius:.1f}">'
            f"<title>{escape(hint)}</title></circle>"
        )

    def render(self) -> str:
        """Return the chart as an element of HTML."""
        title = escape(self.title)
        return f'<svg viewBox="0 0 {WIDTH} {self.height}" role="img" aria-label="{title}">{"".join(self.marks)}</svg>'


def linear_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Return round values between two limits, about `count` of them."""
    if not high > low:
        return [low]
    step = 10 ** math.floor(math.log10((high - low) / count))
    step = next(step * factor for factor in (1, 2, 5, 10) if (high - low) / (step * factor) <= count)
    return [round(step * number, 10) for number in range(math.ceil(low / step), math.floor(high / step + 1e-9) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Return 1, 2 and 5 times the powers of ten between two limits; the powers alone over more than three decades."""
    factors = (1, 2, 5) if math.log10(high / low) <= 3 else (1,)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [factor * 10.0**power for power in powers for factor in factors]
    return [tick for tick in ticks if low * 0.999 <= tick <= high * 1.001]
