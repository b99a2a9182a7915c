"""The figures of the documentation, recomputed from benchmarks/results.

A table with figures has a comment before it: a line for each row (or one line for all rows), cells separated by `|`.
A cell is `*` if it holds no measurement, or a template for str.format over the files in benchmarks/results by stem:
`{startup[median_ratios][help]:.2f}`. `@` stands for the first code span in the row. A list of values is formatted as
mean ± standard deviation. A paragraph with figures is followed by `<!-- figures-in-text: TEMPLATE; TEMPLATE -->`.
"""

import json
import math
import re
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from scipy.stats import t

from tests.docs.pages import ROOT

RESULTS = ROOT / "benchmarks" / "results"
SOURCE = r"<!-- figures\n(?P<templates>(?:(?!-->).)*)\n-->\n\n?"
TABLE = re.compile(rf"(?s:{SOURCE})?(?P<table>(?:^\|.*\|\n)+)", re.MULTILINE)
UNMEASURED = ("Target", "Command", "Claim", "Status", "minutes")  # columns
PARAGRAPH = re.compile(r"(?P<text>(?:.+\n)+)\n?<!-- figures-in-text: (?P<templates>.*?) -->")


@dataclass(frozen=True)
class Result:
    """A value in a JSON file, for str.format."""

    value: Any

    def __getitem__(self, key: str) -> "Result":
        if isinstance(self.value, dict):
            return Result(self.value[key])
        sweeps = [entry["runs"] for entry in self.value if " ".join(entry.get("overrides", [])) == key]
        return Result(sweeps[0] if sweeps else [entry[key] for entry in self.value if key in entry])

    def __format__(self, spec: str) -> str:
        if self.value is None:
            return "–"
        if not isinstance(self.value, list):
            return format(self.value, spec)
        if not self.value:
            return "–"
        mean, unit = format(statistics.mean(self.value), spec), "%" * spec.endswith("%")
        if len(self.value) == 1:
            return mean
        return f"{mean.removesuffix('%')} ± {format(statistics.stdev(self.value), spec).removesuffix('%')}{unit}"

    @property
    def n(self) -> int:
        return len(self.value)

    @property
    def first(self) -> Any:
        return self.value[0]

    @property
    def median(self) -> float:
        return float(statistics.median(self.value))

    @property
    def magnitude(self) -> float:
        return abs(float(self.value))

    @property
    def milli(self) -> float:
        return 1000 * float(self.value)

    @property
    def kilo(self) -> float:
        return float(self.value) / 1000

    @property
    def mega(self) -> float:
        return float(self.value) / 1e6

    @property
    def tera(self) -> "Result":
        return Result(None if self.value is None else self.value / 1e12)

    @property
    def interval(self) -> "Interval":
        return Interval(self.value)

    @property
    def threads(self) -> str:
        """The numbers of threads in "x86_64, 2 threads"."""
        return ", ".join(sorted({re.findall(r"(\d+) threads", run["machine"])[0] for run in self.value}))

    @property
    def exponent(self) -> float:
        """The slope of the least-squares line through the logarithms of images and seconds."""
        sizes = {int(name.split("_")[1]): cost["seconds"] for name, cost in self.value.items() if "percent" in name}
        return statistics.linear_regression([math.log(x) for x in sizes], [math.log(y) for y in sizes.values()]).slope

    @property
    def efficiency(self) -> float:
        one, two = (self.value[name]["seconds"] for name in ("1_process_1_thread", "2_processes_1_thread_each"))
        return float(one / two / 2)


@dataclass(frozen=True)
class Interval:
    """The 95% t interval of a mean, at most 1."""

    values: list[float]

    def __format__(self, spec: str) -> str:
        if len(self.values) < 2:
            return "–"
        mean, n = statistics.mean(self.values), len(self.values)
        half = t.ppf(0.975, n - 1) * statistics.stdev(self.values) / n**0.5
        return f"{format(mean - half, spec).removesuffix('%')}–{format(min(mean + half, 1), spec)}"


def results() -> dict[str, Result]:
    """Return the content of every file of results by its stem; of a folder of files, a mapping of theirs."""
    found = {path.stem: Result(json.loads(path.read_text())) for path in RESULTS.glob("*.json")}
    for folder in (path for path in RESULTS.iterdir() if path.is_dir()):
        files = {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}
        found[folder.name] = Result(files)
        found[f"{folder.name}_tta"] = Result([content for name, content in files.items() if name.startswith("tta-")])
    return found


def cells(line: str) -> list[str]:
    """Return the cells of a line of a table."""
    return [cell.strip() for cell in line.strip().removeprefix("|").removesuffix("|").split("|")]


def compare_tables(text: str) -> Iterator[tuple[str, str]]:
    """Yield (the cell as it should be, the cell as it is) for all tables of a page.

    Raises:
        AssertionError: If a cell holds a measurement and has no template.
    """
    for found in TABLE.finditer(text):
        head, _, *rows = found["table"].splitlines()
        if found["templates"] is None:
            assert not re.search(r"seconds|accuracy %|measured", head, re.IGNORECASE), (
                f"figures without a source: {head}"
            )
            for row in rows:
                measured = [cell for cell, name in zip(cells(row), cells(head), strict=True) if name not in UNMEASURED]
                assert not any(re.fullmatch(r"[\d.,]+( ± [\d.]+)?%?", cell) for cell in measured), row
            continue
        templates = found["templates"].splitlines()
        templates = templates * len(rows) if len(templates) == 1 else templates
        for template, row in zip(templates, rows, strict=True):
            label = (re.findall(r"`([^`]+)`", cells(row)[0]) or [""])[0]
            for expected, cell, column in zip(cells(template), cells(row), cells(head), strict=True):
                if expected != "*":
                    yield expected.replace("@", label).format_map(results()), cell
                elif column != cells(head)[0]:
                    assert column in UNMEASURED or not re.search(r"\d", cell), f"{row}: {cell} has no source"


def compare_text(text: str) -> Iterator[tuple[str, str]]:
    """Yield (the figure as it should be, the paragraph that should hold it)."""
    for found in PARAGRAPH.finditer(text):
        for template in found["templates"].split("; "):
            yield template.format_map(results()), " ".join(found["text"].split())
