"""Measure and check training on a GPU: speed, accuracy, memory, determinism, resuming and checkpoints.

    python benchmarks/gpu.py                     writes benchmarks/results/gpu.json

Every part is measured on its own: a part that fails is recorded with its error, and the file is written anew after each
part. No part starts once the time budget is spent. Without a CUDA device, nothing is measured and the status is 2.
"""

import itertools
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import harness
import torch
import torch.nn.functional as F
from torch import Tensor

from digitnet.checkpoints.checkpoint_format import load_checkpoint
from digitnet.training.build import build_run

GPU = "++trainer.accelerator=gpu"
SHORT = ("model=cnn", "++data.train_size=12800", "++trainer.max_epochs=1", "test=false")
PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")
# An algorithm that torch does not call deterministic, such as a backward pass of max pooling, gives a warning and no
# error, so that the bits are compared in any case.
DETERMINISTIC = "++trainer.deterministic=warn"
LARGE_BATCH_EPOCHS = 6  # of 14 batches each
WARM_UP_STEPS = 20  # in which cuDNN chooses its algorithms
TIMEOUT = 300  # seconds, of one command


def train(run_dir: Path, *overrides: str) -> dict[str, Any]:
    """Run the real command, and return metrics.json with the seconds of the whole process."""
    start = time.perf_counter()
    command = harness.train_command(run_dir, *overrides)
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(overrides)}: status {done.returncode}: {done.stderr[-500:]}")
    seconds = time.perf_counter() - start
    result: dict[str, Any] = json.loads((run_dir / "metrics.json").read_text())
    return result | {"process_seconds": seconds}


def weights(run_dir: Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = load_checkpoint(run_dir / "checkpoints" / "last.ckpt")["state_dict"]
    return state


def equal(first: Path, second: Path) -> bool:
    one, two = weights(first), weights(second)
    return all(torch.equal(one[name], two[name]) for name in one)


def precisions(folder: Path) -> dict[str, Any]:
    """Train in each precision by the real command."""
    return {name: train_short(folder / name, f"++trainer.precision={name}") for name in PRECISIONS}


def compiled(folder: Path) -> dict[str, float]:
    """Train a compiled network by the real command. It is a part of its own, because the compiler may be missing."""
    return train_short(folder / "compiled", "compile=true")


def train_short(run_dir: Path, override: str) -> dict[str, float]:
    """Train for 100 steps and return the accuracy and the time."""
    result = train(run_dir, *SHORT, GPU, override)
    return {"val_acc": result["val/acc"], "train_seconds": result["train/seconds"]}


def determinism(folder: Path) -> dict[str, bool]:
    """Train twice with each of two seeds, with deterministic algorithms."""
    options = (*SHORT, GPU, DETERMINISTIC)
    for run, seed in {"a": 1, "b": 1, "c": 2, "d": 2}.items():
        train(folder / run, *options, f"seed={seed}")
    same = equal(folder / "a", folder / "b") and equal(folder / "c", folder / "d")
    return {"same_seed_is_equal": same, "other_seed_is_equal": equal(folder / "a", folder / "c")}


def moved_checkpoints(folder: Path) -> dict[str, float]:
    """Continue one run on the CPU, the GPU and the CPU again, an epoch each."""
    options = (*SHORT, "schedule.name=constant", "schedule.warmup_fraction=0")
    results = [train(folder / "run", *options, "++trainer.accelerator=cpu")]
    for epochs, accelerator in ((2, "gpu"), (3, "cpu")):
        overrides = (f"trainer.max_epochs={epochs}", f"trainer.accelerator={accelerator}", "test=false")
        command = [sys.executable, "-m", "digitnet.train", f"resume={folder / 'run'}", *overrides]
        subprocess.run(command, check=True, capture_output=True, timeout=TIMEOUT)
        results.append(json.loads((folder / "run" / "metrics.json").read_text()))
    return {
        f"val_acc_{index}_{name}": r["val/acc"]
        for index, (name, r) in enumerate(zip(("cpu", "gpu", "cpu"), results, strict=True))
    }


def resume(folder: Path) -> dict[str, Any]:
    """Interrupt a run by SIGTERM in the middle of an epoch, resume it, and compare its weights with a whole run."""
    options = ("model=cnn", "++trainer.max_epochs=2", "test=false", GPU, DETERMINISTIC)
    train(folder / "whole", *options)
    process = subprocess.Popen(harness.train_command(folder / "parts", *options), stdout=subprocess.DEVNULL)
    table = folder / "parts" / "metrics.csv"
    while process.poll() is None and not table.exists():
        time.sleep(0.005)
    time.sleep(0.2)  # into the second epoch
    process.terminate()
    status = process.wait(TIMEOUT)
    step = load_checkpoint(folder / "parts" / "checkpoints" / "last.ckpt")["global_step"]
    command = [sys.executable, "-m", "digitnet.train", f"resume={folder / 'parts'}"]
    subprocess.run(command, check=True, capture_output=True, timeout=TIMEOUT)
    return {"status_of_stop": status, "stopped_at_step": step, "equal": equal(folder / "whole", folder / "parts")}


def measure_loop(folder: Path, strict: bool = False, epochs: int = 1, size: int = 128) -> dict[str, float]:
    """Train in a hand-written loop on the GPU; with `strict`, an operation that waits for the device is an error.

    The start of an epoch and the warm-up are left out of the time and of the check.
    """
    run = build_run(harness.compose_train_config("model=cnn", f"data.batch_size={size}", GPU, run_dir=folder))
    run.data.trainer = run.trainer
    model, loader = run.model.to("cuda:0").train(), run.data.train_dataloader()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    batches = itertools.chain.from_iterable(itertools.repeat(loader, epochs))
    for pixels, labels in itertools.islice(batches, WARM_UP_STEPS):
        train_step(model, optimizer, pixels, labels)
    torch.cuda.synchronize()
    images, start = 0, time.perf_counter()
    torch.cuda.set_sync_debug_mode("error" if strict else "default")
    try:
        for pixels, labels in batches:
            train_step(model, optimizer, pixels, labels)
            images += len(labels)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    torch.cuda.synchronize()
    return {"images_per_second": images / (time.perf_counter() - start)}


def train_step(model: torch.nn.Module, optimizer: torch.optim.Optimizer, pixels: Tensor, labels: Tensor) -> None:
    """Take one step of a hand-written loop."""
    optimizer.zero_grad()
    F.cross_entropy(model(pixels), labels).backward()
    optimizer.step()


def no_synchronization(folder: Path) -> dict[str, float]:
    """Take batches, augment, and train under `set_sync_debug_mode("error")`."""
    return measure_loop(folder, strict=True)


def throughput(folder: Path) -> dict[str, Any]:
    """Compare images per second of the Trainer, a loop, and the card's limit.

    The limit is estimated by the same loop at a batch of 4,096 images, where few kernels are launched for an image.
    """
    torch.cuda.reset_peak_memory_stats()
    loop, limit = measure_loop(folder), measure_loop(folder, epochs=LARGE_BATCH_EPOCHS, size=4096)
    peak_mib = torch.cuda.max_memory_allocated() / 2**20  # of the loops; the Trainer runs in a process of its own
    result = train(folder / "trainer", "model=cnn", "++trainer.max_epochs=4", "++data.val_size=0", "test=false", GPU)
    rows = (folder / "trainer" / "metrics.csv").read_text().splitlines()
    column = rows[0].split(",").index("seconds")
    ends = [float(row.split(",")[column]) for row in rows[1:]]
    return {
        "trainer": 60_000 * (len(ends) - 1) / (ends[-1] - ends[0]), "loop": loop["images_per_second"],
        "large_batch_limit": limit["images_per_second"], "first_epoch_seconds": ends[0],
        "process_seconds": result["process_seconds"], "peak_mib_of_loops": peak_mib,
    }  # fmt: skip


def fast(folder: Path, seeds: int) -> dict[str, Any]:
    """Train `experiment=fast` with several seeds.

    The real command gives the time of a first run: start-up, and what torch and cuDNN load at the first use. The seeds
    are then trained in this process after a run that is not counted, so that their times are of training alone.
    """
    first = train(folder / "command", "experiment=fast", "seed=1", GPU)
    fit_and_test(folder / "warm_up", 0)
    runs = [fit_and_test(folder / str(seed), seed) for seed in range(1, seeds + 1)]
    return {
        "test_acc": [accuracy for accuracy, _ in runs],
        "train_seconds": [seconds for _, seconds in runs],
        "first_run_train_seconds": first["train/seconds"],
        "first_run_process_seconds": first["process_seconds"],
    }


def fit_and_test(run_dir: Path, seed: int) -> tuple[float, float]:
    """Train `experiment=fast` in this process; return the test accuracy of the last epoch and the training seconds."""
    options = ("experiment=fast", f"seed={seed}", GPU, "++trainer.enable_progress_bar=false")
    run = build_run(harness.compose_train_config(*options, run_dir=run_dir))
    run.trainer.fit(run.model, run.data)
    (metrics,) = run.trainer.test(run.model, run.data, verbose=False)
    return metrics["test/acc"], run.epoch_log.seconds


def ddp(folder: Path) -> dict[str, Any]:
    """Train on two GPUs, if there are two."""
    if torch.cuda.device_count() < 2:
        return {"skipped": "one GPU"}
    return {"val_acc": train(folder / "ddp", *SHORT, GPU, "trainer.devices=2", "++trainer.strategy=ddp")["val/acc"]}


def main() -> None:
    parser = harness.benchmark_parser(__doc__, "gpu.json", repeats=10)
    parser.add_argument("--budget", type=float, default=540, help="seconds after which no part starts (default: 540)")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        sys.stderr.write("gpu.py: no CUDA device was found; run it on a machine that has one\n")
        sys.exit(2)
    parts: dict[str, Callable[[Path], dict[str, Any]]] = {
        "no_synchronization": no_synchronization, "throughput": throughput, "precisions": precisions, "resume": resume,
        "determinism": determinism, "fast": lambda folder: fast(folder, arguments.repeats),
        "moved_checkpoints": moved_checkpoints, "ddp": ddp, "compiled": compiled,
    }  # fmt: skip
    start, results = time.perf_counter(), {"device": dict[str, Any](name=torch.cuda.get_device_name())}
    for name, part in parts.items():
        if time.perf_counter() - start > arguments.budget:
            results[name] = {"skipped": "the time budget was spent"}
            continue
        try:
            with tempfile.TemporaryDirectory() as folder:
                results[name] = part(Path(folder))
        except Exception as error:  # one part must not lose the others
            results[name] = {"error": f"{type(error).__name__}: {error}"[:1000]}
        harness.write_result(arguments.output, results)
    harness.write_result(arguments.output, results)
    harness.print_table("part | result", [(name, json.dumps(result)) for name, result in results.items()])


if __name__ == "__main__":
    main()
