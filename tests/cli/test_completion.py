"""The script of `python -m digitnet --completion SHELL` completes every command in a real shell on a terminal."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from digitnet.__main__ import find_commands
from digitnet.cli.completion import SHELLS, completion_script

START = {"bash": "bash --norc -i", "zsh": "zsh -f -i"}
TYPED = {  # what is typed before the tabulator, and the completed word
    "digitnet-predict --contact": "--contact-sheet",
    "digitnet-export --form": "--format",
    "digitnet-train model=m": "model=mlp",
    "digitnet-evaluate plots": "plots_dir=",
}


@pytest.mark.parametrize("shell", SHELLS)
def test_a_shell_completes_options_keys_and_choices(shell: str, tmp_path: Path) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    pexpect = pytest.importorskip("pexpect")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    terminal = pexpect.spawn(
        START[shell], cwd=str(tmp_path), encoding="utf8", timeout=20, dimensions=(50, 200),
        env=os.environ | {"PATH": path, "TERM": "dumb", "HOME": str(tmp_path)},
    )  # fmt: skip
    terminal.sendline(f'eval "$(python -m digitnet --completion {shell})"; echo "loa""ded"')
    terminal.expect_exact("loaded")
    for typed, completed in TYPED.items():
        for _ in range(4):  # letters are lost while the shell does not read the keyboard yet
            time.sleep(0.5)
            terminal.send(typed + "\t")
            is_missing = terminal.expect_exact([completed, pexpect.TIMEOUT], timeout=5)
            terminal.sendcontrol("c")
            if not is_missing:
                break
        assert not is_missing, terminal.before
    terminal.close(force=True)


@pytest.mark.parametrize("shell", SHELLS)
def test_the_script_has_correct_syntax_and_completes_every_installed_command(shell: str) -> None:
    script = completion_script(find_commands(), shell)
    assert all(name in script for name in find_commands())
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=script, text=True, check=True)
