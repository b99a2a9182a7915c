"""The notebooks run from top to bottom, and are committed with the outputs of such a run."""

import json
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode

from tools.run_notebooks import run_notebook

FOLDER = Path(__file__).parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
IDS = [path.name for path in NOTEBOOKS]
# A notebook as it is takes minutes; these replacements make it train on few images.
SMALLER = {
    "quickstart.ipynb": {"MNISTDataModule(batch_size=128,": "MNISTDataModule(batch_size=32, train_size=2560,"},
    "compare.ipynb": {"seed=1,2,3": "seed=1,2", "trainer.max_epochs=3": "trainer.max_epochs=1", "=60": "=10"},
}


def pictures(notebook: NotebookNode) -> list[int]:
    """Return the number of pictures that each cell shows."""
    return [sum("image/png" in output.get("data", {}) for output in cell.get("outputs", [])) for cell in notebook.cells]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=IDS)
def test_a_notebook_is_committed_with_the_outputs_of_one_run(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert sum(pictures(notebook)) >= 4
    assert all(output.output_type != "error" for cell in code for output in cell.outputs)
    assert path.stat().st_size < 600_000


@pytest.mark.parametrize("path", NOTEBOOKS, ids=IDS)
def test_the_outputs_of_a_notebook_do_not_name_this_machine(path: Path) -> None:
    outputs = [cell.get("outputs", []) for cell in json.loads(path.read_text())["cells"]]
    assert not [word for word in ("/root", "/home", "/tmp", "/work", "Warning") if word in json.dumps(outputs)]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=IDS)
def test_a_notebook_runs_and_shows_the_committed_pictures(path: Path, tmp_path: Path) -> None:
    text = path.read_text()
    for original, smaller in SMALLER[path.name].items():
        assert original in text
        text = text.replace(original, smaller)
    small = tmp_path / path.name
    small.write_text(text)
    assert pictures(run_notebook(small, tmp_path)) == pictures(nbformat.read(path, as_version=4))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=IDS)
def test_a_notebook_runs_as_it_is(path: Path, tmp_path: Path) -> None:
    run_notebook(path, tmp_path)
