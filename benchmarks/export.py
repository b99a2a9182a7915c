"""Measure the bundled models in PyTorch and in ONNX Runtime: file sizes, and seconds for 1 and for 10,000 images.

python benchmarks/export.py              writes benchmarks/results/export.json
"""

import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import harness
import onnxruntime
import torch

from digitnet.checkpoints import pretrained
from digitnet.data import mnist
from digitnet.data.datamodule import EVAL_BATCH_SIZE
from digitnet.environment import environment_info
from digitnet.export import FORMATS
from digitnet.inference.model_export import export_model

Predict = Callable[[torch.Tensor], Any]

IDLE_SECONDS = 0.3  # after a call, the threads of a runtime spin for a while and would slow down the other runtime
SINGLE_IMAGE_CALLS = 200
RUNTIMES = {"pytorch": "PyTorch", "onnx_runtime": "ONNX Runtime"}
SUFFIXES = {"pytorch": ("ckpt", "safetensors"), "onnx_runtime": ("onnx",)}
ONE, MANY = "1_image", "10000_images"


def measure_file_sizes(name: str, folder: Path) -> dict[str, int]:
    """Write every kind of file of a model and return the sizes in bytes.

    The checkpoint is that of a training run and includes the state of the optimizer.
    """
    run_dir = folder / name
    subprocess.run(harness.train_command(run_dir, f"model={name}", "debug=fast"), check=True, capture_output=True)
    files = {"ckpt": run_dir / "checkpoints" / "best.ckpt"}
    for suffix in FORMATS:
        files[suffix] = folder / f"{name}.{suffix}"
        export_model(pretrained.load(name), files[suffix], environment_info())
    return {f"{name}_{suffix}": file.stat().st_size for suffix, file in files.items()}


def make_predictors(name: str, folder: Path) -> dict[str, Predict]:
    """Return functions from pixels to probabilities, one per runtime, that use the same number of threads."""
    model, options = pretrained.load(name), onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(folder / f"{name}.onnx", options, providers=["CPUExecutionProvider"])
    return {
        "pytorch": lambda images: model(images).softmax(dim=1),
        "onnx_runtime": lambda images: session.run(None, {"pixels": images.numpy()}),
    }


def time_prediction(predict: Predict, images: torch.Tensor, calls: int) -> float:
    """Return the mean seconds of one pass over `images`, in the batches of `digitnet.evaluate`."""
    time.sleep(IDLE_SECONDS)
    with torch.inference_mode():
        start = time.perf_counter()
        for _ in range(calls):
            for batch in images.split(EVAL_BATCH_SIZE):
                predict(batch)
        return (time.perf_counter() - start) / calls


def measure(models: list[str], repeats: int) -> tuple[dict[str, int], harness.Seconds]:
    """Return the bytes of all files and the seconds of all cases."""
    images, _ = mnist.load_mnist("test")
    sizes: dict[str, int] = {}
    cases: dict[str, Callable[[], float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in models:
            sizes |= measure_file_sizes(name, Path(folder))
            for runtime, predict in make_predictors(name, Path(folder)).items():
                cases[f"{name}_{runtime}_{ONE}"] = partial(time_prediction, predict, images[:1], SINGLE_IMAGE_CALLS)
                cases[f"{name}_{runtime}_{MANY}"] = partial(time_prediction, predict, images, 1)
    harness.time_interleaved(cases, 1)  # the first round is slow
    return sizes, harness.time_interleaved(cases, repeats)


def main() -> None:
    parser = harness.benchmark_parser(__doc__, "export.json", repeats=15)
    parser.add_argument("--threads", type=int, default=2, help="threads of both runtimes (default: %(default)s)")
    parser.add_argument("--models", nargs="+", default=["cnn", "mlp"], help="bundled models (default: cnn mlp)")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    sizes, seconds = measure(arguments.models, arguments.repeats)
    medians = {case: statistics.median(values) for case, values in seconds.items()}
    ratios = {case: harness.median_ratio(seconds, case, case.replace("pytorch", "onnx_runtime")) for case in seconds}
    rows = []
    for name, runtime in ((name, runtime) for name in arguments.models for runtime in RUNTIMES):
        one, many = f"{name}_{runtime}_{ONE}", f"{name}_{runtime}_{MANY}"
        files = ", ".join(f"{suffix} {sizes[f'{name}_{suffix}'] / 1000:,.0f}" for suffix in SUFFIXES[runtime])
        rows.append((f"`{name}`, {RUNTIMES[runtime]}", files, 1000 * medians[one], medians[many], ratios[many]))
    harness.print_table("model | kB | 1 image, ms | 10,000 images, s | ÷ ONNX Runtime", rows)
    result = {
        "median_ratios": {case: ratio for case, ratio in ratios.items() if "pytorch" in case},
        "bytes": sizes,
        "median_seconds": medians,
        "seconds": seconds,
    }
    harness.write_result(arguments.output, result)


if __name__ == "__main__":
    main()
