"""Lets the commands start where matplotlib cannot: on a machine without a writable folder for its cache."""

import logging
import os
import tempfile
from pathlib import Path


def prepare_matplotlib() -> None:
    """Keep an import of matplotlib, which torchmetrics attempts, from failing and from printing warnings.

    matplotlib wants a folder for its cache in the home or the temporary folder. It prints two lines if it has to use
    the latter, and raises an error if it has neither. Then torchmetrics is made to believe that matplotlib is not
    installed, which it needs for its own plots only; a command that draws a plot still reports the error.
    """
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    try:
        tempfile.gettempdir()
    except FileNotFoundError:
        _hide_matplotlib_from_torchmetrics()
        tempfile.tempdir = str(Path.cwd())  # torchmetrics asks for the folder when it is imported, and does not use it
        # torch.compile, which is imported with Lightning, asks for its folder at once; an existing one is not changed.
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(Path.cwd()))


def _hide_matplotlib_from_torchmetrics() -> None:
    from lightning_utilities.core import imports

    class RequirementCache(imports.RequirementCache):
        def __bool__(self) -> bool:
            return self.requirement != "matplotlib" and super().__bool__()

    imports.RequirementCache = RequirementCache  # type: ignore[misc]
