"""How commands based on argparse end, and with which exit status."""

import signal
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import pytest

from digitnet.cli import argparse_app


def test_a_closed_output_pipe_ends_the_command_without_an_error_message() -> None:
    command_function = "lambda options: print('line\\n' * 100_000)"
    program = (
        f"from digitnet.cli import argparse_app; argparse_app.run_command(argparse_app.CliParser(), {command_function})"
    )
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stderr
        assert process.stdout.readline() == "line\n"
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 141


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_a_help_that_nobody_reads_ends_without_an_error_message(option: str) -> None:
    program = f"import sys; from digitnet.train import main; sys.argv[1:] = ['{option}']; sys.stdin.read(); main()"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", program], text=True, **pipes) as process:
        assert process.stdin
        assert process.stdout
        assert process.stderr
        process.stdout.close()
        process.stdin.close()  # now the program prints
        assert process.stderr.read() == ""
    assert process.returncode == 141


def test_a_full_disk_under_the_output_is_one_line_and_status_1() -> None:
    program = "import sys; from digitnet.train import main; sys.argv[1:] = ['--cfg', 'job']; main()"
    command = [sys.executable, "-c", program]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    assert "No space left on device" in done.stderr


def test_a_signal_whose_exception_is_caught_elsewhere_still_ends_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    events = []

    def command(options: Namespace) -> None:
        try:  # Some packages catch every exception while they are imported.
            signal.raise_signal(signal.SIGINT)
        except:  # noqa: E722
            events.append("continued")

    monkeypatch.setattr(sys, "argv", ["command"])
    with pytest.raises(SystemExit) as exit_info:
        argparse_app.run_command(argparse_app.CliParser(), command)
    assert (events, exit_info.value.code) == (["continued"], 130)
