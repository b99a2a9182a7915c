"""Every figure of the documentation is the one in benchmarks/results."""

from pathlib import Path

import pytest

from tests.docs import figures
from tests.docs.pages import IDS, PAGES, ROOT


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_every_figure_in_a_table_is_computed_from_the_results(page: Path) -> None:
    pairs = list(figures.compare_tables(page.read_text()))
    assert [cell for _, cell in pairs] == [expected for expected, _ in pairs]


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_every_figure_in_a_paragraph_with_a_source_is_computed_from_the_results(page: Path) -> None:
    for expected, paragraph in figures.compare_text(page.read_text()):
        assert expected in paragraph


@pytest.mark.parametrize(
    "name", ["README.md", "docs/results.md", "docs/speed.md", "docs/own-digits.md", "docs/export.md"]
)
def test_the_pages_with_measurements_are_compared(name: str) -> None:
    assert any(figures.compare_tables((ROOT / name).read_text()))


def test_every_result_in_accuracy_json_has_a_row_in_the_results() -> None:
    page = (ROOT / "docs/results.md").read_text()
    for sweep in figures.results()["accuracy"].value:
        assert f"\n| `{' '.join(sweep['overrides'])}` |" in page


def test_a_wrong_figure_is_found() -> None:
    table = "<!-- figures\n*|{startup[median_ratios][help]:.2f}\n-->\n\n| What | Value |\n|---|---|\n| help | 9.99 |\n"
    ((expected, cell),) = figures.compare_tables(table)
    assert expected != cell


def test_a_figure_without_a_source_is_refused() -> None:
    with pytest.raises(AssertionError, match="without a source"):
        list(figures.compare_tables("| What | Seconds |\n|---|---|\n| an epoch | 3 |\n"))
