"""Lists the commands, and prints the shell completion of all of them: `python -m digitnet`."""

import argparse
from importlib import import_module
from importlib.metadata import distribution
from types import ModuleType

from digitnet.cli import argparse_app
from digitnet.cli.completion import SHELLS, completion_script


def main() -> None:
    """Run the command line of `python -m digitnet`."""
    commands = find_commands()
    parser = argparse_app.CliParser(
        prog="python -m digitnet",
        description="The commands of digitnet. Each of them explains itself with --help.",
    )
    parser.examples = {name: _summary(module) for name, module in commands.items()}
    parser.add_argument("--completion", choices=SHELLS, help="print a script that completes the commands in a shell")

    def command(options: argparse.Namespace) -> None:
        print(completion_script(commands, options.completion) if options.completion else parser.format_help(), end="")

    argparse_app.run_command(parser, command)


def find_commands() -> dict[str, ModuleType]:
    """Return the modules of the installed commands, by the name of the command."""
    scripts = distribution("digitnet").entry_points.select(group="console_scripts")
    return {script.name: import_module(script.module) for script in scripts}


def _summary(module: ModuleType) -> str:
    """Return the first sentence of the docstring of a command's module."""
    return (module.__doc__ or "").partition("\n")[0].partition(":")[0].removesuffix(".")


if __name__ == "__main__":
    main()
