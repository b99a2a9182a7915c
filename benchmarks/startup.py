"""Measure the start-up time, for `--help` and until the first training step, against importing torch and lightning.

python benchmarks/startup.py                 writes benchmarks/results/startup.json
"""

import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import harness

IMPORT_COMMAND = [sys.executable, "-c", "import torch, lightning"]
HELP_COMMAND = [sys.executable, "-m", "digitnet.train", "--help"]
LABELS = {
    "help": "--help",
    "first_step_cnn": "first step, model=cnn",
    "first_step_mlp": "first step, model=mlp",
}


def time_command(command: list[str]) -> float:
    """Return the seconds until a command has ended."""
    return harness.time_call(partial(subprocess.run, command, capture_output=True, check=True))


def time_first_step(model: str) -> float:
    """Return the seconds from the start of a training process until its first step is done."""
    callback = "trainer.callbacks=[{_target_: harness.StopAfterFirstStep}]"
    with tempfile.TemporaryDirectory() as folder:
        command = harness.train_command(Path(folder) / "run", f"model={model}", callback)
        start = time.time()
        # The process imports `harness` from its working directory.
        process = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parent)
    return float(process.stdout.split()[-1]) - start


def main() -> None:
    arguments = harness.benchmark_parser(__doc__, "startup.json", repeats=5).parse_args()
    cases = {
        "import_torch_and_lightning": partial(time_command, IMPORT_COMMAND),
        "help": partial(time_command, HELP_COMMAND),
        "first_step_cnn": partial(time_first_step, "cnn"),
        "first_step_mlp": partial(time_first_step, "mlp"),
    }
    seconds = harness.time_interleaved(cases, arguments.repeats)
    ratios = {name: harness.median_ratio(seconds, name, "import_torch_and_lightning") for name in LABELS}
    rows = [(LABELS[name], ratio) for name, ratio in ratios.items()]
    harness.print_table('what | time ÷ `python -c "import torch, lightning"`', rows)
    harness.write_result(arguments.output, {"median_ratios": ratios, "seconds": seconds})


if __name__ == "__main__":
    main()
