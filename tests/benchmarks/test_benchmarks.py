"""Each benchmark runs on a few images and writes the keys of its result file; the values are not tested."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
BENCHMARKS = ROOT / "benchmarks"
TABLE_MARKS = (
    "| ratio |",
    "÷",
    "power",
    "| % |",
    "| median |",
    "efficiency",
    "seconds an epoch",
    "% of the steps",
)  # one of them is in every table of a benchmark


def run_benchmark(name: str, output: Path, *arguments: object) -> dict[str, Any]:
    """Run a benchmark once and return the result that it wrote."""
    command = [sys.executable, BENCHMARKS / name, *map(str, arguments), "--repeats", "1", "--output", output]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    assert any(mark in process.stdout for mark in TABLE_MARKS)
    result: dict[str, Any] = json.loads(output.read_text())
    assert result["versions"]["torch"]
    return result


def key_paths(content: Any, parent: str = "") -> set[str]:
    """Return the paths of all keys of nested dictionaries."""
    if not isinstance(content, dict):
        return set()
    paths = {f"{parent}/{key}": value for key, value in content.items()}
    return set(paths) | {path for key, value in paths.items() for path in key_paths(value, key)}


def assert_same_keys_as_committed(result: dict[str, Any], file: str) -> None:
    committed = json.loads((BENCHMARKS / "results" / file).read_text())
    assert key_paths(result) == key_paths(committed)


@pytest.mark.parametrize("path", sorted((BENCHMARKS / "results").rglob("*.json")), ids=lambda path: path.stem)
def test_no_key_of_a_committed_result_contains_a_space(path: Path) -> None:
    content = json.loads(path.read_text())
    parts = content if isinstance(content, list) else [content]
    runs = [run for part in parts for run in part.get("runs", [])]
    keys = [key for part in (*parts, *runs) for key in key_paths(part)]
    assert not [key for key in keys if " " in key.partition("/acc/")[0]]  # then comes the name of a class


@pytest.mark.slow
def test_the_trainer_is_compared_with_a_hand_written_loop_and_a_dataloader(tmp_path: Path) -> None:
    result = run_benchmark("trainer_overhead.py", tmp_path / "out.json", "--train-size", 1000)
    assert_same_keys_as_committed(result, "trainer_overhead.json")
    ratios = result["median_ratios"]
    assert len(ratios) == 5
    assert all(ratio > 0 for ratio in ratios.values())


@pytest.mark.slow
def test_bfloat16_is_compared_with_float32(tmp_path: Path) -> None:
    result = run_benchmark("precision.py", tmp_path / "out.json", "--train-size", 500)
    assert_same_keys_as_committed(result, "precision.json")
    assert all(ratio > 0 for ratio in result["bf16_mixed_vs_float32"].values())


@pytest.mark.slow
def test_start_up_and_evaluation_are_measured(tmp_path: Path) -> None:
    startup = run_benchmark("startup.py", tmp_path / "startup.json")
    assert_same_keys_as_committed(startup, "startup.json")
    assert len(startup["median_ratios"]) == 3
    evaluation = run_benchmark("evaluation.py", tmp_path / "evaluation.json")
    assert_same_keys_as_committed(evaluation, "evaluation.json")
    assert len(evaluation["median_ratios"]) == 3


@pytest.mark.slow
def test_every_safety_check_takes_a_measurable_fraction_of_an_epoch(tmp_path: Path) -> None:
    result = run_benchmark("guard_overhead.py", tmp_path / "out.json", "--train-size", 1000)
    assert_same_keys_as_committed(result, "guard_overhead.json")
    assert all(fraction > 0 for fraction in result["fraction_of_epoch"].values())


@pytest.mark.slow
def test_the_cost_of_tensorboard_is_measured_for_both_networks(tmp_path: Path) -> None:
    result = run_benchmark("tensorboard_cost.py", tmp_path / "out.json", "--train-size", 1000)
    for model in ("cnn", "mlp"):
        assert all(fraction > 0 for fraction in result[model]["fraction_of_epoch"].values())


def test_the_time_to_read_photographs_is_measured(tmp_path: Path) -> None:
    result = run_benchmark("image_throughput.py", tmp_path / "out.json", "--files", 5)
    assert_same_keys_as_committed(result, "image_throughput.json")
    assert sum(isinstance(value, float) and value > 0 for value in result.values()) == 3


def test_photographs_and_pictures_without_a_digit_are_scored() -> None:
    command = [sys.executable, BENCHMARKS / "photographs.py", "--count", "10"]
    process = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "| 50 photographs, tuning | cnn | mlp |" in process.stdout
    words = set(process.stdout.replace("|", " ").split())
    assert {"letters", "look-alikes", "blank", "scribbles", "textures"} <= words


@pytest.mark.slow  # 24 processes
def test_time_and_memory_are_measured_for_each_batch_size_and_data_size(tmp_path: Path) -> None:
    result = run_benchmark("scaling.py", tmp_path / "out.json", "--train-size", 2048)
    assert_same_keys_as_committed(result, "scaling.json")
    costs = result["costs"]
    assert all(cost["seconds"] > 0 and cost["mib"] > 100 for model in costs.values() for cost in model.values())


@pytest.mark.slow
def test_a_run_is_measured_with_each_launcher(tmp_path: Path) -> None:
    result = run_benchmark("launchers.py", tmp_path / "out.json", "--train-size", 2048)
    for costs in result["costs"].values():
        assert {"1_process", "2_processes_lightning", "2_processes_torchrun"} <= costs.keys()
        assert all(0 < cost["epoch_seconds"] < cost["command_seconds"] for cost in costs.values())


@pytest.mark.slow
def test_the_cost_of_every_preset_and_published_system_is_measured(tmp_path: Path) -> None:
    result = run_benchmark("network_cost.py", tmp_path / "out.json", "--train-size", 512)
    assert_same_keys_as_committed(result, "network_cost.json")
    measured = [cost for name, cost in result["digitnet"].items() if name != "teachers"]
    assert all(cost["minutes"] > 0 and cost["training_multiply_adds"] > 0 for cost in measured)


@pytest.mark.slow
def test_the_parts_of_a_training_step_are_measured(tmp_path: Path) -> None:
    profile = run_benchmark("step_profile.py", tmp_path / "profile.json", "--train-size", 2560)
    assert_same_keys_as_committed(profile, "step_profile.json")
    for fractions in profile["fraction_of_time"].values():
        assert sum(fractions.values()) == pytest.approx(1, abs=0.02)
    savings = run_benchmark("step_savings.py", tmp_path / "savings.json", "--train-size", 2560)
    assert_same_keys_as_committed(savings, "step_savings.json")


@pytest.mark.slow
def test_keras_is_timed_in_a_process_of_another_interpreter(tmp_path: Path) -> None:
    """The tests do not require Keras: a script that only prints a number replaces its interpreter."""
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho 21.4\n")
    python.chmod(0o755)
    result = run_benchmark("against_keras.py", tmp_path / "out.json", "--keras", python, "--train-size", 1000)
    assert_same_keys_as_committed(result, "keras.json")
    assert set(result["seconds"]["keras_cnn_epoch_beside_fast_run"]) == {21.4}
    assert len(result["fast_run_test_acc"]) == 1


@pytest.mark.slow
def test_the_trials_per_hour_are_measured_for_one_and_two_workers(tmp_path: Path) -> None:
    sizes = ("--trials", 2, "--epochs", 1, "--train-size", 1000)
    result = run_benchmark("sweep.py", tmp_path / "out.json", *sizes)
    assert set(result["trials_per_hour"]) == {"plain_runs", "one_worker", "two_workers"}
    assert all(count > 0 for count in result["trials_per_hour"].values())
