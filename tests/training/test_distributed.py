"""Training and evaluation in two real processes, which score each test image exactly once."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from digitnet import evaluate
from digitnet.checkpoints.checkpoint_format import load_checkpoint
from tests.conftest import FAST, Run, spawn
from tests.faults.child import TINY, ForkServer
from tests.training.launchers import free_port

ROOT = Path(__file__).parents[2]
TWO_PROCESSES = ("trainer.accelerator=cpu", "trainer.devices=2", "trainer.strategy=ddp")


def test_a_run_of_two_processes_has_the_test_metrics_that_one_process_computes(run: Run, tmp_path: Path) -> None:
    options = ("trainer.limit_test_batches=1.0", "plots=false", "hydra.run.dir=out")
    result = spawn("digitnet.train", *FAST, *TWO_PROCESSES, *options, folder=tmp_path)
    assert result.status == 0, result.err
    assert result.out.count("epoch 1/2") == 1, "Only the first process may print."
    two_processes = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert_equal_metrics(two_processes, json.loads(run(evaluate, "model=out", "json_path=-").out))


@pytest.mark.slow
def test_evaluate_in_two_processes_gives_the_metrics_of_one_process(
    trained_run: Path, run: Run, tmp_path: Path
) -> None:
    result = spawn("digitnet.evaluate", *TWO_PROCESSES, "model=out", "json_path=two.json", folder=tmp_path)
    assert result.status == 0, result.err
    two_processes = json.loads((tmp_path / "two.json").read_text())
    assert_equal_metrics(two_processes, json.loads(run(evaluate, "model=out", "json_path=-").out))


def assert_equal_metrics(two_processes: dict[str, float], one_process: dict[str, float]) -> None:
    names = ["test/acc", *(f"test/acc/{digit}" for digit in range(10))]
    assert [two_processes[name] for name in names] == [one_process[name] for name in names]
    assert two_processes["test/loss"] == pytest.approx(one_process["test/loss"], abs=1e-6)


def test_a_sweep_in_two_processes_is_rejected(fork_server: ForkServer, tmp_path: Path) -> None:
    result = fork_server.run("train", "-m", *FAST, *TWO_PROCESSES, "seed=1,2", folder=tmp_path)
    assert result.status == 2
    assert "one process" in result.err
    assert {path.name for path in tmp_path.iterdir()} == {".out", ".err"}, (
        "Only the files with the output of the command may exist."
    )


@pytest.mark.slow
@pytest.mark.parametrize("lost", [0, 1])
def test_a_killed_process_of_lightnings_launcher_ends_the_run_in_one_line(lost: int, tmp_path: Path) -> None:
    endless = (*TINY, *TWO_PROCESSES, "trainer.max_epochs=100000", "hydra.run.dir=out")
    process = start("digitnet.train", *endless, folder=tmp_path)
    wait_for(tmp_path / "out/checkpoints/last.ckpt", process)
    (child,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(process.pid if lost == 0 else int(child), signal.SIGKILL)
    _, error = process.communicate(timeout=60)  # the end of the output is the end of both processes
    assert process.returncode == (-signal.SIGKILL if lost == 0 else 1)
    *library_log, line = error.splitlines()
    assert line.startswith(f"digitnet: error: process {lost} of 2 was lost")
    assert "Traceback" not in error
    # When the first process is lost, the C++ log of torch states that its store is gone.
    assert lost == 0 or not library_log


@pytest.mark.slow
def test_a_signal_to_the_process_that_waits_for_lightnings_children_ends_all(tmp_path: Path) -> None:
    process = start("digitnet.train", *TINY, *TWO_PROCESSES, "hydra.run.dir=out", folder=tmp_path)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    while not children.read_text():
        time.sleep(0.05)
    time.sleep(0.5)  # the child imports torch for seconds, and the first process waits for it
    start_time = time.perf_counter()
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate(timeout=60)
    assert time.perf_counter() - start_time < 5
    assert process.returncode == 143
    assert error == "digitnet: stopped while it waited for the other processes to start\n"


@pytest.mark.slow  # test_launchers.py sets the variables of two machines by hand
def test_two_machines_of_torchrun_train_one_run(run: Run, tmp_path: Path) -> None:
    """The machines are two agents on this one, started by the example script."""
    variables = {"MACHINES": "2", "PROCESSES": "1", "FIRST": f"127.0.0.1:{free_port()}"}
    script = str(ROOT / "examples/torchrun.sh")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    arguments = (*FAST, "trainer.accelerator=cpu", "trainer.limit_test_batches=1.0")
    agents = [
        subprocess.Popen(
            ["bash", script, *arguments], cwd=tmp_path, env=os.environ | variables | {"PATH": path},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for _ in range(2)
    ]  # fmt: skip
    texts = [agent.communicate(timeout=240) for agent in agents]
    assert [agent.returncode for agent in agents] == [0, 0], texts
    assert sum(out.count("epoch 1/2") for out, _ in texts) == 1
    (out,) = tmp_path.glob("logs/mlp/*")
    two_processes = json.loads((out / "metrics.json").read_text())
    assert_equal_metrics(two_processes, json.loads(run(evaluate, f"model={out}", "json_path=-").out))


@pytest.mark.slow
def test_a_signal_to_the_agent_of_torchrun_saves_the_run(tmp_path: Path) -> None:
    options = (*TINY, *TWO_PROCESSES, "trainer.max_epochs=100000", "hydra.run.dir=out")
    agent = start("torch.distributed.run", "--nproc-per-node=2", "-m", "digitnet.train", *options, folder=tmp_path)
    wait_for(tmp_path / "out/checkpoints/last.ckpt", agent)
    agent.send_signal(signal.SIGTERM)
    _, error = agent.communicate(timeout=60)
    step = load_checkpoint(tmp_path / "out/checkpoints/last.ckpt")["global_step"]
    assert f"stopped at step {step}; resume=out continues the run" in error


def start(module: str, *arguments: str, folder: Path) -> subprocess.Popen[str]:
    """Start `python -m module` in a new process."""
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    return subprocess.Popen([sys.executable, "-m", module, *arguments], cwd=folder, text=True, **pipes)


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    """Wait until a file is there that a process writes."""
    while not path.exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
