"""Every part of benchmarks/gpu.py holds on a CUDA device: `pytest -m gpu -n 0`."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
ON_GPU = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(BENCHMARKS)
    import gpu

    return gpu


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_cuda_device_the_benchmark_ends_with_one_line_and_status_2() -> None:
    done = subprocess.run([sys.executable, BENCHMARKS / "gpu.py"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)


class TestOnGpu:
    pytestmark = ON_GPU

    def test_no_step_waits_for_the_device(self, gpu: Any, tmp_path: Path) -> None:
        assert gpu.no_synchronization(tmp_path)["images_per_second"] > 0

    def test_a_step_that_waits_for_the_device_is_found(self) -> None:
        torch.cuda.set_sync_debug_mode("error")
        try:
            with pytest.raises(RuntimeError, match="synchroniz"):
                torch.zeros(1, device="cuda").item()
        finally:
            torch.cuda.set_sync_debug_mode("default")

    def test_the_network_trains_in_every_precision(self, gpu: Any, tmp_path: Path) -> None:
        assert all(result["val_acc"] > 0.9 for result in gpu.precisions(tmp_path).values())

    def test_a_compiled_network_trains(self, gpu: Any, tmp_path: Path) -> None:
        assert gpu.compiled(tmp_path)["val_acc"] > 0.9

    def test_the_fast_recipe_trains_and_its_loop_is_timed(self, gpu: Any, tmp_path: Path) -> None:
        result = gpu.fast(tmp_path, 1)
        assert result["test_acc"][0] > 0.985
        assert 0 < result["train_seconds"][0] < result["first_run_process_seconds"]

    def test_two_runs_of_one_seed_are_equal_and_those_of_two_seeds_differ(self, gpu: Any, tmp_path: Path) -> None:
        assert gpu.determinism(tmp_path) == {"same_seed_is_equal": True, "other_seed_is_equal": False}

    def test_a_run_that_is_stopped_and_resumed_has_the_weights_of_a_whole_one(self, gpu: Any, tmp_path: Path) -> None:
        result = gpu.resume(tmp_path)
        assert result["status_of_stop"] == 143
        assert result["stopped_at_step"] % 430, "it was stopped between two epochs"
        assert result["equal"]

    def test_a_run_moves_between_cpu_and_gpu(self, gpu: Any, tmp_path: Path) -> None:
        assert all(accuracy > 0.9 for accuracy in gpu.moved_checkpoints(tmp_path).values())

    def test_two_gpus_train_one_network(self, gpu: Any, tmp_path: Path) -> None:
        result = gpu.ddp(tmp_path)
        assert result.get("val_acc", 1) > 0.9
