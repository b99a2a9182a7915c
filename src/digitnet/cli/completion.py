"""The scripts by which bash and zsh complete the commands."""

from collections.abc import Mapping
from types import ModuleType

import shtab

from digitnet.cli.hydra_internals import hydra_completion_script

SHELLS = ("bash", "zsh")

# Hydra has a script for bash only, which zsh can run.
_ZSH_PRELUDE = "autoload -Uz compinit bashcompinit && compinit -u && bashcompinit\n"


def completion_script(commands: Mapping[str, ModuleType], shell: str) -> str:
    """Return the script that completes all commands.

    Args:
        commands: The modules of the commands by the names of the commands. A module with a function `build_parser` is a
            command with options, any other is a Hydra command.
        shell: One of `SHELLS`.
    """
    scripts = [_ZSH_PRELUDE if shell == "zsh" else ""]
    for name, module in commands.items():
        if hasattr(module, "build_parser"):
            scripts.append(shtab.complete(module.build_parser(), shell))
        else:
            scripts.append(hydra_completion_script(name))
    return "\n".join(scripts) + "\n"
