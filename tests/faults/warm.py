"""Preloaded by the fork server: what the first run of a process imports and reads, no trial has to again."""

import os
import sys
from contextlib import redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.faults.child import NO_FIGURES, TINY, train

NO_FIGURES.arm()
with TemporaryDirectory() as folder, Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):
    sys.argv[1:] = [*TINY, "trainer.max_epochs=1", f"hydra.run.dir={folder}/out"]
    train.main()
del os.environ["HYDRA_FULL_ERROR"]  # the command has set it; a trial shall do so itself
