"""The shipped models in PyTorch and, exported, in ONNX Runtime: bytes, and seconds for 1 and 10,000 images.

python benchmarks/export.py              writes benchmarks/results/export.json
"""

import contextlib
import io
import statistics
import subprocess
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import measure
import onnxruntime
import torch

from digitnet import export
from digitnet.checkpoints import pretrained
from digitnet.data import mnist
from digitnet.data.datamodule import EVAL_BATCH_SIZE

Read = Callable[[torch.Tensor], Any]

REST = 0.3  # seconds: when one runtime is done, its threads spin for a while, in the way of the other's
FILES = {"PyTorch": ("ckpt", "safetensors"), "ONNX Runtime": ("onnx",)}


def sizes(name: str, folder: Path) -> dict[str, int]:
    """Bytes by kind of file. The checkpoint is a run's, with the state of its optimiser."""
    run = [sys.executable, "-m", "digitnet.train", f"model={name}", "debug=fast", f"hydra.run.dir={folder / name}"]
    subprocess.run(run, check=True, capture_output=True)
    files = {"ckpt": folder / name / "checkpoints" / "best.ckpt"}
    for kind in export.FORMATS:
        files[kind] = folder / f"{name}.{kind}"
        with contextlib.redirect_stdout(io.StringIO()):
            export.task(Namespace(run=name, format=kind, output=files[kind]))
    return {f"{name}, {kind}": file.stat().st_size for kind, file in files.items()}


def readers(name: str, folder: Path) -> dict[str, Read]:
    """Pixels to probabilities, both on as many threads."""
    model, options = pretrained.load(name), onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(folder / f"{name}.onnx", options, providers=["CPUExecutionProvider"])
    return {
        "PyTorch": lambda images: model(images).softmax(dim=1),
        "ONNX Runtime": lambda images: session.run(None, {"pixels": images.numpy()}),
    }


def seconds(read: Read, images: torch.Tensor, calls: int) -> float:
    """Of one call, in batches as evaluate has them."""
    time.sleep(REST)
    with torch.inference_mode():
        start = time.perf_counter()
        for _ in range(calls):
            for part in images.split(EVAL_BATCH_SIZE):
                read(part)
        return (time.perf_counter() - start) / calls


def main() -> None:
    arguments = measure.arguments(__doc__, "export.json", repeats=15)
    arguments.add_argument("--threads", type=int, default=2)
    arguments.add_argument("--models", nargs="+", default=["cnn", "mlp"])
    chosen = arguments.parse_args()
    torch.set_num_threads(chosen.threads)
    images, _ = mnist.load("test")
    stored: dict[str, int] = {}
    cases: dict[str, Callable[[], float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in chosen.models:
            stored |= sizes(name, Path(folder))
            for runtime, read in readers(name, Path(folder)).items():
                cases[f"{name}, {runtime}, 1 image"] = partial(seconds, read, images[:1], 200)
                cases[f"{name}, {runtime}, 10,000 images"] = partial(seconds, read, images, 1)
    measure.interleave(cases, 1)  # the first ones are slow
    taken = measure.interleave(cases, chosen.repeats)
    middle = {case: statistics.median(values) for case, values in taken.items()}
    ratios = {case: measure.ratio(taken, case, case.replace("PyTorch", "ONNX Runtime")) for case in cases}
    rows = []
    for name, runtime in ((name, runtime) for name in chosen.models for runtime in FILES):
        one, many = f"{name}, {runtime}, 1 image", f"{name}, {runtime}, 10,000 images"
        files = ", ".join(f"{kind} {stored[f'{name}, {kind}'] / 1000:,.0f}" for kind in FILES[runtime])
        rows.append((f"`{name}`, {runtime}", files, 1000 * middle[one], middle[many], ratios[many]))
    measure.show("model | kB | 1 image, ms | 10,000 images, s | ÷ ONNX Runtime", rows)
    ratios = {case: ratio for case, ratio in ratios.items() if "PyTorch" in case}
    measure.write(chosen.output, {"median ratios": ratios, "bytes": stored, "median seconds": middle, "seconds": taken})


if __name__ == "__main__":
    main()
