"""Train one epoch in the fork server, so that no trial has to repeat the imports and reads of the first run."""

import os
import sys
from contextlib import redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.faults.child import NO_ERROR_PLOTS, TINY, train

NO_ERROR_PLOTS.install()
with TemporaryDirectory() as folder, Path(os.devnull).open("w") as devnull, redirect_stdout(devnull):
    sys.argv[1:] = [*TINY, "trainer.max_epochs=1", f"hydra.run.dir={folder}/out"]
    train.main()
del os.environ["HYDRA_FULL_ERROR"]  # The command set it; each trial has to set it by itself.
