"""Every command of the documentation is accepted by the program that it calls, and can be pasted in bash and zsh."""

import argparse
import re
import runpy
import sys
import tomllib
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

import pytest

from digitnet import evaluate, sweep
from digitnet.cli import command_line
from tests.docs.pages import IDS, PAGES, ROOT, blocks, command_lines, words

COMMANDS = [
    pytest.param(page, line, id=f"{name}: {line}")
    for page, name in zip(PAGES, IDS, strict=True)
    for line in dict.fromkeys(command_lines(page))
]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


class Parsed(BaseException):
    """Raised in place of the command, once its options are parsed."""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder, from which Python also imports."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def write_files(page: Path, folder: Path) -> None:
    """Write the files that a page shows."""
    for block in [*blocks(page, "python"), *blocks(page, "yaml")]:
        if block.file:
            path = folder / block.file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.content)


def parse_with(program: Callable[[], Any], arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Call a program that parses its options with argparse, and stop it once it has."""
    parse = argparse.ArgumentParser.parse_args

    def parse_and_stop(parser: argparse.ArgumentParser, *args: Any, **kwargs: Any) -> NoReturn:
        parse(parser, *args, **kwargs)
        raise Parsed

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_and_stop)
    monkeypatch.setattr(sys, "argv", ["program", *arguments])
    with pytest.raises(Parsed):
        program()


def check_digitnet(name: str, arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Compose the configuration of a Hydra command, or parse the options of another one; --help asks for neither."""
    if arguments in (["--help"], ["--help-all"]):
        assert f"digitnet-{name}" in PROJECT["scripts"]
    elif name in ("train", "evaluate"):
        # There is no run to resume, so the overrides of train are not expanded.
        expand = evaluate.expand_overrides if name == "evaluate" else None
        is_bare = name == "evaluate" and not arguments  # a name in a sentence
        command_line.validate_command_line(["--cfg=job"] if is_bare else arguments, name, lambda config: None, expand)
    elif name == "sweep":
        sweep.validate(arguments)
    else:
        parse_with(import_module(f"digitnet.{name}").main, arguments, monkeypatch)


def check_script(script: str, arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Parse the options of a script of the repository."""
    folder = (ROOT / script).parent
    monkeypatch.syspath_prepend(folder.parent if folder.name == "tools" else folder)
    parse_with(lambda: runpy.run_path(str(ROOT / script), run_name="__main__"), arguments, monkeypatch)


def check_pytest(arguments: list[str]) -> None:
    markers = [marker.partition(":")[0] for marker in tool("pytest")["ini_options"]["markers"]]
    paths = [argument for argument in arguments if argument.startswith("tests/")]
    assert all((ROOT / path).exists() for path in paths)
    assert set(arguments) - set(paths) <= {"-m", "-n", "0", *markers}


def tool(name: str) -> Any:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"][name]


def check_pip(arguments: list[str]) -> None:
    for extras in re.findall(r"\[(.+)\]", " ".join(arguments)):
        assert set(extras.split(",")) <= PROJECT["optional-dependencies"].keys()
    for file in arguments[arguments.index("-r") + 1 :] if "-r" in arguments else []:
        assert (ROOT / file).is_file()


def check_make(arguments: list[str]) -> None:
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(arguments) <= set(targets)


def check(command: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Hold one command against the program that it calls. An unknown program is an error."""
    match command:
        case [script, *arguments] if script.startswith("digitnet-"):
            assert script in PROJECT["scripts"]
            check_digitnet(script.removeprefix("digitnet-"), arguments, monkeypatch)
        case ["python", "-m", module, *arguments] if module.startswith("digitnet."):
            check_digitnet(module.removeprefix("digitnet."), arguments, monkeypatch)
        case ["python", "-m", "digitnet", *arguments]:
            assert arguments in ([], ["--completion", "bash"], ["--completion", "zsh"])
        case ["python", "-m", "pytest", *arguments] | ["pytest", *arguments]:
            check_pytest(arguments)
        case ["python", "-m", module, *arguments] if module.startswith("tools."):
            check_script(f"{module.replace('.', '/')}.py", arguments, monkeypatch)
        case ["python" | "python3", "-m", "venv", _] | ["source", ".venv/bin/activate"] | ["uv", "venv"]:
            pass
        case ["python", "-c", code]:
            compile(code, "command", "exec")
        case ["python", script, *arguments] if not script.startswith(("-", "tools/")):
            check_script(script, arguments, monkeypatch)
        case ["uv", "pip", "install", *arguments] | ["pip" | "keras/bin/pip", "install", *arguments]:
            check_pip(arguments)
        case ["sbatch", script, *arguments] if script.startswith("examples/slurm/"):
            assert (ROOT / script).is_file()
            check_digitnet("train", arguments, monkeypatch)
        case ["srun", *options, "-m", "digitnet.train"] | ["torchrun", *options, "-m", "digitnet.train"]:
            assert all(option == "python" or option.startswith("--n") for option in options)
        case ["srun" | "torchrun", *_] if "digitnet.train" in command:
            end = command.index("digitnet.train") + 1
            check(command[:end], monkeypatch)
            arguments = [word for word in command[end:] if not word.startswith("resume=")]
            check_digitnet("train", arguments, monkeypatch)
        case ["make", *arguments]:
            check_make(arguments)
        case ["tensorboard", "--logdir", _] | ["optuna-dashboard", _] | ["pre-commit", "install"]:
            pass
        case _:
            raise AssertionError(f"no check for {command}")


@pytest.mark.parametrize(("page", "line"), COMMANDS)
def test_a_command_is_accepted_by_its_program(
    page: Path, line: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_files(page, folder)
    for command in words(line):
        check(command, monkeypatch)


@pytest.mark.parametrize(("page", "line"), COMMANDS)
def test_a_command_can_be_pasted_in_zsh(page: Path, line: str) -> None:
    """Unquoted brackets, braces and stars are patterns there, and a comment is no comment."""
    unquoted = re.sub(r"'[^']*'|\"[^\"]*\"", "", line)
    assert not re.search(r"[][{}()*?#~]", unquoted)


def test_every_page_with_commands_is_tested() -> None:
    tested = {parameters.values[0] for parameters in COMMANDS}
    assert {page for page in PAGES if blocks(page, "bash")} <= tested
    assert {page.name for page in PAGES if "```" in page.read_text()} >= {"README.md", "CONTRIBUTING.md", "export.md"}


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_every_fenced_block_has_a_language_that_is_tested(page: Path) -> None:
    languages = re.findall(r"^```+(\S*)\n.*?^```+$", page.read_text(), re.MULTILINE | re.DOTALL)
    assert set(languages) <= {"bash", "python", "yaml", "text", "{toctree}", "{eval-rst}"}


@pytest.mark.parametrize(
    "wrong", ["digitnet-train model.chanels=3", "digitnet-predict --sheets x", "digitnet-fly", "rm -r x", "make fly"]
)
def test_a_wrong_command_is_found(wrong: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (command,) = words(wrong)
    with pytest.raises((AssertionError, SystemExit, ValueError)):
        check(command, monkeypatch)
