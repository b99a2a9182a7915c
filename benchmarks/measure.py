"""What the benchmarks share: cases taken in turn, so that a slow minute of the machine hits them all; ratios; JSON."""

import argparse
import contextlib
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L

from digitnet.training import recording

RESULTS = Path(__file__).parent / "results"

Seconds = dict[str, list[float]]


def arguments(doc: str | None, results: str, repeats: int) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(doc or "").partition("\n\n")[0])
    parser.add_argument("--repeats", type=int, default=repeats)
    parser.add_argument("--output", type=Path, default=RESULTS / results)
    return parser


def interleave(cases: dict[str, Callable[[], float]], repeats: int) -> Seconds:
    """Seconds of each case, by repeat. Each prints as it pleases; only the table is shown."""
    seconds: Seconds = {name: [] for name in cases}
    for _ in range(repeats):
        for name, case in cases.items():
            with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
                seconds[name].append(case())
    return seconds


def ratio(seconds: Seconds, name: str, to: str) -> float:
    """The median over the repeats, each against the same repeat of the other."""
    return statistics.median(a / b for a, b in zip(seconds[name], seconds[to], strict=True))


def show(head: str, rows: list[tuple[Any, ...]]) -> None:
    """A Markdown table."""
    columns = head.split(" | ")
    print(f"| {head} |\n|{'---|' * len(columns)}")
    for row in rows:
        print("| " + " | ".join(f"{cell:.2f}" if isinstance(cell, float) else str(cell) for cell in row) + " |")


def write(path: Path, outcome: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(outcome | recording.surroundings(), indent=1) + "\n")


def epoch_by_trainer(*overrides: str, epochs: int) -> float:
    """Seconds an epoch as `python -m digitnet.train` spends them, from the end of the first to the end of the last."""
    import hydra

    from digitnet.training import experiment

    with tempfile.TemporaryDirectory() as folder:
        fixed = [f"folder={folder}", f"trainer.max_epochs={epochs}", "++trainer.accelerator=cpu"]
        with hydra.initialize_config_module("digitnet.configs", version_base="1.3"):
            config = hydra.compose("train", [*fixed, "++trainer.enable_progress_bar=true", *overrides])
        data, model, trainer, recorder = experiment.build(config)
        trainer.fit(model, data)
    ends = [row["seconds"] for row in recorder.rows]
    return (ends[-1] - ends[0]) / (epochs - 1)


class StopAfterFirstStep(L.Callback):
    """Ends the process the moment that the first step is done: how long it took to get there."""

    def on_train_batch_end(self, *_: Any) -> None:
        print(time.time(), flush=True)
        os._exit(0)
