"""Measure and check training on a GPU: speed, accuracy, memory, determinism, resuming and checkpoints.

    python benchmarks/gpu.py                     writes benchmarks/results/gpu.json

Every part is measured on its own: a part that fails is recorded with its error, and the file is written anew after each
part. No part starts once the time budget is spent. Without a CUDA device, nothing is measured and the status is 2.
"""

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

from digitnet.checkpoints.checkpoint_format import load_checkpoint
from digitnet.training.build import build_run

GPU = "++trainer.accelerator=gpu"
SHORT = ("model=cnn", "++data.train_size=12800", "++trainer.max_epochs=1", "test=false")
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
    """Train in each precision, and compiled, by the real command."""
    cases = {
        "fp32": (),
        "bf16_mixed": ("++trainer.precision=bf16-mixed",),
        "fp16_mixed": ("++trainer.precision=16-mixed",),
    }
    cases["compiled"] = ("compile=true",)
    results = {name: train(folder / name, *SHORT, GPU, *extra) for name, extra in cases.items()}
    return {name: {"val_acc": r["val/acc"], "train_seconds": r["train/seconds"]} for name, r in results.items()}


def determinism(folder: Path) -> dict[str, bool]:
    """Train twice with each of two seeds, with deterministic algorithms."""
    options = (*SHORT, GPU, "++trainer.deterministic=true")
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
    options = ("model=cnn", "++trainer.max_epochs=2", "test=false", GPU, "++trainer.deterministic=true")
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


def measure_loop(folder: Path, strict: bool = False, steps: int = 300, size: int = 128) -> dict[str, float]:
    """Train in a hand-written loop on the GPU; with `strict`, an operation that waits for the device is an error."""
    run = build_run(harness.compose_train_config("model=cnn", f"data.batch_size={size}", GPU, run_dir=folder))
    run.data.trainer = run.trainer
    model, loader = run.model.to("cuda:0").train(), run.data.train_dataloader()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    batches, images, start = iter(loader), 0, 0.0
    for step, (pixels, labels) in zip(range(min(steps, len(loader) - 1)), batches, strict=False):
        if step == 20:  # warm: cuDNN has chosen its algorithms
            torch.cuda.synchronize()
            images, start = 0, time.perf_counter()
            torch.cuda.set_sync_debug_mode("error" if strict else "default")
        optimizer.zero_grad()
        F.cross_entropy(model(pixels), labels).backward()
        optimizer.step()
        images += len(labels)
    torch.cuda.set_sync_debug_mode("default")
    torch.cuda.synchronize()
    return {"images_per_second": images / (time.perf_counter() - start)}


def no_synchronization(folder: Path) -> dict[str, float]:
    """Take batches, augment, and train under `set_sync_debug_mode("error")`."""
    return measure_loop(folder, strict=True)


def throughput(folder: Path) -> dict[str, Any]:
    """Compare images per second of the Trainer, a loop, and the card's limit.

    The limit is estimated by the same loop at a batch of 4,096 images, where few kernels are launched for an image.
    """
    torch.cuda.reset_peak_memory_stats()
    loop, limit = measure_loop(folder), measure_loop(folder, size=4096)
    result = train(folder / "trainer", "model=cnn", "++trainer.max_epochs=4", "++data.val_size=0", "test=false", GPU)
    rows = (folder / "trainer" / "metrics.csv").read_text().splitlines()
    column = rows[0].split(",").index("seconds")
    ends = [float(row.split(",")[column]) for row in rows[1:]]
    return {
        "trainer": 60_000 * (len(ends) - 1) / (ends[-1] - ends[0]), "loop": loop["images_per_second"],
        "large_batch_limit": limit["images_per_second"], "first_epoch_seconds": ends[0],
        "process_seconds": result["process_seconds"], "peak_mib": torch.cuda.max_memory_allocated() / 2**20,
    }  # fmt: skip


def fast(folder: Path, seeds: int) -> dict[str, Any]:
    """Train `experiment=fast` with several seeds; what the process takes beside training is start-up."""
    runs = [train(folder / str(seed), "experiment=fast", f"seed={seed}", GPU) for seed in range(1, seeds + 1)]
    return {
        "test_acc": [run["test/acc"] for run in runs],
        "train_seconds": [run["train/seconds"] for run in runs],
        "start_up_and_test_seconds": [run["process_seconds"] - run["train/seconds"] for run in runs],
    }


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
        "moved_checkpoints": moved_checkpoints, "ddp": ddp,
    }  # fmt: skip
    start, results = time.perf_counter(), dict[str, Any]()
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
