"""Run the notebooks from top to bottom and save them with their outputs, which GitHub shows.

    python -m tools.run_notebooks notebooks/quickstart.ipynb notebooks/compare.ipynb

The run folders are written to a temporary folder. The outputs say nothing of this machine but its results.
"""

import argparse
import base64
import io
import tempfile
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from PIL import Image

ROOT = Path(__file__).parents[1]


def run_notebook(path: Path, folder: Path) -> nbformat.NotebookNode:
    """Return a notebook with its outputs.

    Args:
        path: The notebook.
        folder: An empty folder for the files that it writes; the notebook finds `../docs` beside it.

    Returns:
        The notebook after it has run, without the times of its cells.

    Raises:
        nbclient.exceptions.CellExecutionError: If a cell fails.
    """
    notebook = nbformat.read(path, as_version=4)
    (folder / "docs").symlink_to(ROOT / "docs")
    working_dir = folder / "notebooks"
    working_dir.mkdir()
    options = {"timeout": 1800, "record_timing": False, "resources": {"metadata": {"path": str(working_dir)}}}
    NotebookClient(notebook, **options).execute()
    notebook.metadata["language_info"] = {"name": "python"}
    shrink_pictures(notebook)
    return notebook


def shrink_pictures(notebook: nbformat.NotebookNode) -> None:
    """Reduce the pictures of a notebook to 128 colours, which takes a third of the bytes."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    for data in (output.data for output in outputs if "image/png" in output.get("data", {})):
        picture = Image.open(io.BytesIO(base64.b64decode(data["image/png"]))).convert("RGB")
        content = io.BytesIO()
        picture.quantize(128, dither=Image.Dither.NONE).save(content, "PNG", optimize=True)
        data["image/png"] = base64.b64encode(content.getvalue()).decode()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("notebooks", nargs="+", type=Path, metavar="NOTEBOOK")
    for path in parser.parse_args().notebooks:
        started = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            nbformat.write(run_notebook(path, Path(folder)), path)
        print(f"{path}: {time.perf_counter() - started:.0f} s, {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
