"""Jobs in a real SLURM on this machine: the scripts in examples/slurm, scancel, and the time limit."""

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning as L
import pytest

from digitnet.checkpoints.checkpoint_format import load_checkpoint
from tests.faults.child import TINY
from tests.faults.conftest import first_difference, run_state, without_curves

pytestmark = pytest.mark.slurm

ROOT = Path(__file__).parents[2]
OPTIONS = (*TINY, "data.batch_size=32", "trainer.accelerator=cpu", "plots=false")  # 16 steps in each of 3 epochs
SLOW_START = "trainer.callbacks=[{_target_: tests.slurm.test_jobs.SlowStart}]"
TWO_NODES = ("--nodes=2", "--ntasks-per-node=1")
SRUN = ("srun", *TWO_NODES, "--kill-on-bad-exit=1", sys.executable, "-m")


class SlowStart(L.Callback):
    """Make each step of a job take two seconds, until the job is requeued."""

    def on_train_batch_end(self, *_: Any) -> None:
        if "SLURM_RESTART_COUNT" not in os.environ:
            time.sleep(2)


@pytest.fixture(scope="module", autouse=True)
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Start a cluster of two nodes, to which the commands of SLURM speak."""
    if not (os.geteuid() == 0 and all(map(shutil.which, ("slurmctld", "slurmd", "munged", "srun")))):
        pytest.skip("needs root, slurm-wlm and munge")
    state = tmp_path_factory.mktemp("slurm")
    script = ["bash", str(Path(__file__).with_name("cluster.sh"))]
    subprocess.run([*script, "up", str(state)], check=True)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"SLURM_CONF": f"{state}/slurm.conf", "OMP_NUM_THREADS": "1", "PYTHONPATH": ROOT}.items():
            patch.setenv(name, str(value))
        yield
    subprocess.run([*script, "down", str(state)], check=True)


def command(*words: str, folder: Path) -> str:
    return subprocess.run(words, cwd=folder, capture_output=True, text=True, check=True).stdout


def submit(script: str, *arguments: str, folder: Path, options: tuple[str, ...] = ()) -> str:
    """Submit a script of examples/slurm with other resources, and return the number of the job."""
    python = f"--export=ALL,PYTHON={sys.executable}"
    path = str(ROOT / "examples" / "slurm" / script)
    return command("sbatch", "--parsable", python, *options, path, *arguments, folder=folder).strip()


def wait_until(condition: Any, what: str, limit: float = 300) -> None:
    start = time.monotonic()
    while not condition():
        assert time.monotonic() - start < limit, what
        time.sleep(0.5)


def state_of(job: str, folder: Path) -> str:
    """Return the states of a job and its tasks, or an empty text once it is gone."""
    return subprocess.run(
        ["squeue", "-h", "-j", job, "-o", "%T"], cwd=folder, capture_output=True, text=True, check=False
    ).stdout.strip()


def log(folder: Path) -> str:
    return "".join(path.read_text() for path in folder.glob("*.log"))


def test_a_job_that_reaches_its_time_limit_is_queued_again_and_ends_with_the_same_bits(tmp_path: Path) -> None:
    limit = ("--time=2", "--signal=TERM@60")
    job = submit("run.sbatch", *OPTIONS, SLOW_START, folder=tmp_path, options=(*TWO_NODES, *limit))
    wait_until(lambda: "continues the run" in log(tmp_path), "no stop before the time limit")
    wait_until(lambda: state_of(job, tmp_path) == "PENDING", log(tmp_path))
    # SLURM would wait for two minutes.
    command("scontrol", "update", f"JobId={job}", "StartTime=now", "TimeLimit=10", folder=tmp_path)
    run = tmp_path / "logs" / f"slurm-{job}"
    wait_until((run / "metrics.json").exists, "the requeued job has not ended")
    wait_until(lambda: not state_of(job, tmp_path), "the job is not gone")
    two = ("trainer.devices=1", "trainer.num_nodes=2", "hydra.run.dir=reference")
    command(*SRUN, "digitnet.train", *OPTIONS, *two, folder=tmp_path)
    reference = without_curves(run_state(tmp_path / "reference"))
    assert first_difference(without_curves(run_state(run)), reference) == ""


def test_a_canceled_job_saves_its_run_and_is_not_queued_again(tmp_path: Path) -> None:
    options = (*OPTIONS, "trainer.max_epochs=100000")
    job = submit("run.sbatch", *options, folder=tmp_path, options=TWO_NODES)
    run = tmp_path / "logs" / f"slurm-{job}"
    wait_until((run / "checkpoints" / "last.ckpt").exists, log(tmp_path))
    command("scancel", job, folder=tmp_path)
    wait_until(lambda: not state_of(job, tmp_path), "the job is not gone")
    assert "continues the run" in log(tmp_path)
    step = load_checkpoint(run / "checkpoints" / "last.ckpt")["global_step"]
    assert f"stopped at step {step}" in log(tmp_path)


def test_a_job_array_trains_a_run_for_each_seed(tmp_path: Path) -> None:
    job = submit("seeds.sbatch", *OPTIONS, folder=tmp_path, options=("--array=1-2", "--cpus-per-task=1"))
    runs = [tmp_path / "logs" / f"seeds-{job}" / seed for seed in ("1", "2")]
    wait_until(lambda: all((run / "metrics.json").exists() for run in runs), log(tmp_path))
    assert [json.loads((run / "metrics.json").read_text())["seed"] for run in runs] == [1, 2]


def test_a_job_array_of_workers_shares_one_study(tmp_path: Path) -> None:
    search = ("study=study", "trials=4", "pruner=none", *OPTIONS, "optimizer.lr=tag(log,interval(1e-4,1e-1))")
    job = submit("sweep.sbatch", *search, folder=tmp_path, options=("--array=1-2", "--cpus-per-task=1"))
    wait_until(lambda: not state_of(job, tmp_path), "the workers have not ended")
    assert len(list(tmp_path.glob("study/*/metrics.json"))) == 4, log(tmp_path)
    logs = [path.read_text() for path in tmp_path.glob("*.log")]
    assert len(logs) == 2
    assert all(text.startswith("trial ") for text in logs), "Both workers must have had a trial."
    assert (tmp_path / "study" / "experiment" / "best.yaml").is_file()


def test_wrong_input_is_one_line_and_status_2(tmp_path: Path) -> None:
    result = subprocess.run(
        [*SRUN, "digitnet.train", *OPTIONS, "trainer.max_epoch=3"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 2
    assert result.stderr.count("digitnet: error:") == 1
    assert "did you mean trainer.max_epochs?" in result.stderr
    assert not list(tmp_path.iterdir())


def test_a_batch_script_without_srun_is_reported(tmp_path: Path) -> None:
    wrapped = shlex.join([sys.executable, "-m", "digitnet.train", *OPTIONS, "trainer.devices=2"])
    job = command(
        "sbatch", "--parsable", "--ntasks-per-node=2", "--output=job.log", f"--wrap={wrapped}", folder=tmp_path
    ).strip()
    wait_until(lambda: not state_of(job, tmp_path), "the job hangs")
    assert "the SLURM job has 2 tasks, but one process was started; put srun before the command" in log(tmp_path)
