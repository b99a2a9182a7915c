"""The notebook runs from top to bottom and is committed without outputs."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

QUICKSTART = Path(__file__).parents[1] / "notebooks" / "quickstart.ipynb"


def test_the_committed_notebook_has_no_outputs() -> None:
    for cell in nbformat.read(QUICKSTART, as_version=4).cells:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("size", [2000, pytest.param(55_000, marks=pytest.mark.slow)])
def test_the_quickstart_notebook_runs_and_shows_three_plots(size: int, tmp_path: Path) -> None:
    notebook = nbformat.reads(QUICKSTART.read_text().replace("Module(", f"Module(train_size={size}, "), as_version=4)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    plots = [
        output for cell in notebook.cells for output in cell.get("outputs", []) if "image/png" in output.get("data", {})
    ]
    assert len(plots) == 3
