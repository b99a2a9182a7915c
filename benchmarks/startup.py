"""How long one waits: for --help, and for the first training step, against importing torch and lightning.

python benchmarks/startup.py                 writes benchmarks/results/startup.json
"""

import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import measure

IMPORT = [sys.executable, "-c", "import torch, lightning"]
HELP = [sys.executable, "-m", "digitnet.train", "--help"]


def wait(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, capture_output=True, check=True)
    return time.perf_counter() - start


def first_step(model: str) -> float:
    """From the start of the process until the first step is done."""
    with tempfile.TemporaryDirectory() as folder:
        stop = "trainer.callbacks=[{_target_: measure.StopAfterFirstStep}]"
        command = [sys.executable, "-m", "digitnet.train", f"model={model}", stop, f"hydra.run.dir={folder}/run"]
        start = time.time()
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parent)
    return float(done.stdout.split()[-1]) - start


def main() -> None:
    chosen = measure.arguments(__doc__, "startup.json", repeats=5).parse_args()
    cases = {
        "import": partial(wait, IMPORT),
        "--help": partial(wait, HELP),
        "first step, model=cnn": partial(first_step, "cnn"),
        "first step, model=mlp": partial(first_step, "mlp"),
    }
    seconds = measure.interleave(cases, chosen.repeats)
    rows = [(name, measure.ratio(seconds, name, "import")) for name in cases if name != "import"]
    measure.show('what | time ÷ `python -c "import torch, lightning"`', rows)
    measure.write(chosen.output, {"median ratios": dict(rows), "seconds": seconds})


if __name__ == "__main__":
    main()
