"""The commands that take options: what ends them, and what their status says."""

import signal
import subprocess
import sys
from argparse import Namespace

import pytest

from digitnet.cli import argparse_app


def test_a_reader_who_has_enough_ends_a_command_quietly() -> None:
    task = "lambda options: print('line\\n' * 100_000)"
    program = f"from digitnet.cli import argparse_app; argparse_app.run_command(argparse_app.CliParser(), {task})"
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stderr
        assert process.stdout.readline() == "line\n"
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 141


def test_a_signal_that_an_import_has_swallowed_ends_the_command_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    done = []

    def task(options: Namespace) -> None:
        try:  # as some packages do while they are imported
            signal.raise_signal(signal.SIGINT)
        except:  # noqa: E722
            done.append("went on")

    monkeypatch.setattr(sys, "argv", ["command"])
    with pytest.raises(SystemExit) as stopped:
        argparse_app.run_command(argparse_app.CliParser(), task)
    assert (done, stopped.value.code) == (["went on"], 130)
