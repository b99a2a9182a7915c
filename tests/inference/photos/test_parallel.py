"""Tests of `detect_files`: many files are shared by several processes, in order and in bounded memory."""

import multiprocessing
import os
import signal
import subprocess
import sys
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from digitnet.errors import RunError, UsageError
from digitnet.inference.photos import parallel
from digitnet.inference.photos.parallel import FILES_PER_WORKER, MIN_PARALLEL_FILES, Detection, detect_files

CORES = 2


@pytest.fixture(autouse=True)
def _two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(CORES)), raising=False)


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    """Return pictures of a bar at different places, and a file in their middle that is not a picture."""
    paths = [tmp_path / f"{number}.png" for number in range(MIN_PARALLEL_FILES)]
    for number, path in enumerate(paths):
        image = Image.new("L", (200, 100), 255)
        ImageDraw.Draw(image).rectangle((20 + 2 * number, 20, 26 + 2 * number, 80), fill=0)
        image.save(path)
    paths[30].write_bytes(b"not a picture")
    return paths


def left_edge(detection: Detection) -> int | str:
    """Return the left edge of the only digit, or the kind of the error."""
    if isinstance(detection, UsageError):
        return "error"
    (digit,) = detection
    return digit.box[0]


def test_results_and_errors_are_yielded_in_the_order_of_the_paths(paths: list[Path]) -> None:
    expected = [20 + 2 * number if number != 30 else "error" for number in range(len(paths))]
    assert list(map(left_edge, detect_files(paths))) == expected
    assert list(map(left_edge, detect_files(paths[28:33]))) == expected[28:33], "without other processes"
    assert multiprocessing.active_children() == []


def test_only_a_bounded_number_of_files_is_submitted_in_advance(
    paths: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    submitted: list[Path] = []
    submit = parallel._submit

    def counting_submit(executor: ProcessPoolExecutor, path: Path) -> "Future[Detection]":
        submitted.append(path)
        return submit(executor, path)

    monkeypatch.setattr(parallel, "_submit", counting_submit)
    detections = detect_files(paths * 100)
    for count in range(1, 80):
        next(detections)
        assert len(submitted) <= CORES * FILES_PER_WORKER + count
    detections.close()  # type: ignore[attr-defined]


def test_no_process_remains_after_the_iteration_is_abandoned(paths: list[Path]) -> None:
    detections = detect_files(paths * 100)
    next(detections)
    assert len(multiprocessing.active_children()) == CORES
    detections.close()  # type: ignore[attr-defined]
    assert multiprocessing.active_children() == []


def test_a_killed_process_raises_a_run_error(paths: list[Path]) -> None:
    detections = detect_files(paths * 100)
    assert np.isfinite(left_edge(next(detections)))
    worker = multiprocessing.active_children()[0].pid
    assert worker is not None
    os.kill(worker, signal.SIGKILL)
    with pytest.raises(RunError, match="a process was killed, perhaps for memory"):
        list(detections)
    assert multiprocessing.active_children() == []


def test_the_signal_mask_is_restored(paths: list[Path]) -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    detections = detect_files(paths)
    next(detections)
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == before
    detections.close()  # type: ignore[attr-defined]


def test_a_program_without_a_main_guard_is_not_run_again_by_the_processes(paths: list[Path], tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import os, sys\n"
        "from pathlib import Path\n"
        "from digitnet.inference.photos import parallel\n"
        "os.sched_getaffinity = lambda _: {0, 1}\n"
        "print('started')\n"
        "print(len(list(parallel.detect_files([Path(path) for path in sys.argv[1:]]))))\n"
    )
    done = subprocess.run([sys.executable, program, *paths], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == (f"started\n{len(paths)}\n", "")
