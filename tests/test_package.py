"""The package: its exports, what importing it loads, and the contents of the wheel and the sdist."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest

from digitnet import evaluate, train
from tests.conftest import FAST, Run, spawn
from tests.docs.pages import command_lines
from tests.docs.test_commands import write_files

ROOT = Path(__file__).parents[1]
EXTENDING = ROOT / "docs" / "extending.md"
SOURCES = ROOT / "src" / "digitnet"
# The commands of that page that use a network of one's own, by what they do.
OWN_COMMANDS = {
    "resume" if " resume=" in line else line.split()[0].removeprefix("digitnet-"): line
    for line in command_lines(EXTENDING)
    if "my_networks" in line
}
SUFFIXES = (".py", ".gz", ".safetensors", ".json", ".html", ".css", ".js")


def imported_by(code: str) -> set[str]:
    """Return the top-level modules that are loaded after the code has run in a fresh interpreter."""
    show = f"{code}\nimport sys; print(*{{name.partition('.')[0] for name in sys.modules}})"
    return set(subprocess.run([sys.executable, "-c", show], capture_output=True, text=True, check=True).stdout.split())


def test_importing_the_package_imports_neither_torch_nor_hydra() -> None:
    assert not imported_by("import digitnet") & {"torch", "lightning", "hydra", "omegaconf", "numpy"}


@pytest.mark.parametrize("command", ["train", "evaluate", "predict", "export", "demo", "sweep", "report"])
def test_help_does_not_import_torch(command: str) -> None:
    exit_quietly = "try: entry.main()\nexcept SystemExit: pass"
    code = f"import sys; sys.argv[1:] = ['--help']\nimport digitnet.{command} as entry\n{exit_quietly}"
    assert not imported_by(code) & {"torch", "lightning", "torchvision", "matplotlib"}


@pytest.mark.parametrize("command", [train, evaluate], ids=["train", "evaluate"])
def test_help_is_what_hydra_prints(command: ModuleType, run: Run) -> None:
    by_hydra = run(command, "--help", "seed=2")  # with an override, Hydra composes the config first
    assert by_hydra.status == 0
    assert run(command, "--help").out == by_hydra.out


@pytest.mark.parametrize(
    "arguments", [("train", "resume=nowhere"), ("train", "model=mpl"), ("evaluate",)], ids=" ".join
)
def test_a_mistake_in_a_name_is_answered_without_torch(arguments: tuple[str, ...]) -> None:
    command, *words = arguments
    exit_quietly = "try: entry.main()\nexcept SystemExit: pass"
    code = f"import sys; sys.argv[1:] = {words}\nimport digitnet.{command} as entry\n{exit_quietly}"
    assert not imported_by(code) & {"torch", "lightning", "torchvision", "matplotlib"}


def test_only_one_module_imports_matplotlib() -> None:
    importing = [path.name for path in SOURCES.rglob("*.py") if "from matplotlib" in path.read_text()]
    assert importing == ["plots.py"]


def test_all_exported_names_can_be_imported_and_are_listed() -> None:
    import digitnet

    assert all(getattr(digitnet, name).__name__ == name for name in digitnet.__all__)
    assert set(digitnet.__all__) <= set(dir(digitnet))
    with pytest.raises(AttributeError, match="VisionTransformer"):
        _ = digitnet.VisionTransformer


def test_pyproject_lists_every_package_of_the_source_tree() -> None:
    import tomllib

    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    found = {".".join(("digitnet", *path.parent.relative_to(SOURCES).parts)) for path in SOURCES.rglob("__init__.py")}
    assert set(listed) == found | {"digitnet.configs"}


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an sdist and the wheel built from it."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    return folder


def test_the_wheel_contains_all_sources_configs_and_data(distributions: Path) -> None:
    (wheel,) = distributions.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    expected = {f"digitnet/{path.relative_to(SOURCES)}" for path in SOURCES.rglob("*") if path.suffix in SUFFIXES}
    expected |= {f"digitnet/{path.relative_to(ROOT)}" for path in (ROOT / "configs").rglob("*.yaml")}
    assert expected <= names
    assert {"digitnet/py.typed", "digitnet/data/files/README.md"} <= names
    assert len(expected) > 35


def test_an_installed_wheel_works_from_an_empty_folder(distributions: Path, tmp_path: Path) -> None:
    (wheel,) = distributions.glob("*.whl")
    site, empty = tmp_path / "site", tmp_path / "empty"
    empty.mkdir()
    zipfile.ZipFile(wheel).extractall(site)
    (site / "where.py").write_text(
        "import digitnet.configs, digitnet.data.mnist, digitnet.train\n"
        "digitnet.train.main()\n"
        "print(digitnet.data.mnist.__file__, digitnet.configs.__file__)\n"
    )
    done = spawn("where", *FAST, "hydra.run.dir=out", folder=empty, PYTHONPATH=str(site))
    assert done.status == 0, done.err
    assert done.out.count(str(site)) == 2
    assert [path.name for path in empty.iterdir()] == ["out"]


@dataclass
class OwnNetwork:
    """The network of docs/extending.md in an otherwise empty folder, for which an unpacked wheel is used."""

    folder: Path
    site: Path

    def start(self, line: str, *more: str) -> subprocess.Popen[str]:
        """Start a command of the page, with more arguments."""
        program, *arguments = shlex.split(line)
        command = [Path(sys.executable).parent / program, *arguments, *more]
        environment = os.environ | {"PYTHONPATH": str(self.site), "COLUMNS": "120"}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(command, cwd=self.folder, env=environment, text=True, **pipes)

    def run(self, line: str, *more: str) -> str:
        """Run a command of the page to its end, and return what it prints."""
        process = self.start(line, *more)
        out, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
        return out


@pytest.fixture(scope="module")
def own_network(distributions: Path, tmp_path_factory: pytest.TempPathFactory) -> OwnNetwork:
    """Write the files of the page, and train the network with the first command of the page."""
    own = OwnNetwork(tmp_path_factory.mktemp("own"), tmp_path_factory.mktemp("site"))
    (wheel,) = distributions.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(own.site)
    write_files(EXTENDING, own.folder)
    assert "Linear" in own.run(OWN_COMMANDS["train"], "debug=fast")
    return own


def test_an_own_network_is_trained_and_evaluated_with_an_installed_wheel_from_an_empty_folder(
    own_network: OwnNetwork,
) -> None:
    assert "Linear, 10,000 test images" in own_network.run(OWN_COMMANDS["evaluate"])


@pytest.mark.slow
def test_an_own_network_works_in_all_other_commands_of_an_installed_wheel(own_network: OwnNetwork) -> None:
    shutil.copy(ROOT / "docs/images/photo.jpg", own_network.folder)
    assert "photo.jpg" in own_network.run(OWN_COMMANDS["predict"])
    assert "test images correct" in own_network.run(OWN_COMMANDS["export"])
    assert "epoch 3/3" in own_network.run(OWN_COMMANDS["resume"], "trainer.max_epochs=3")
    loaded = own_network.run("python -c", "import digitnet, my_networks; print(digitnet.load('runs/linear'), digitnet)")
    assert "Linear(" in loaded
    assert str(own_network.site) in loaded
    with own_network.start(OWN_COMMANDS["demo"], "--port", "0") as demo:
        assert demo.stdout is not None
        assert "serves the page" in demo.stdout.readline()
        demo.terminate()
    assert demo.returncode == 143


def test_the_sdist_contains_the_tests(distributions: Path) -> None:
    (sdist,) = distributions.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"tests/test_package.py", "README.md", "LICENSE", "notebooks/quickstart.ipynb"} <= names


@pytest.mark.parametrize("command", ["train", "evaluate", "predict", "export", "demo", "sweep", "report"])
def test_the_help_of_an_installed_command_starts_with_three_examples_and_fits_a_small_terminal(
    command: str, tmp_path: Path
) -> None:
    script = Path(sys.executable).parent / f"digitnet-{command}"
    done = subprocess.run([script, "--help"], cwd=tmp_path, capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80
    examples = [number for number, line in enumerate(lines) if line.startswith(f"  digitnet-{command}")]
    assert len(examples) >= 3
    assert examples[2] < 8


def test_the_help_of_train_names_all_groups_and_only_options_that_exist() -> None:
    configs = Path(__file__).parents[1] / "configs"
    text = (configs / "hydra" / "help" / "train.yaml").read_text().partition("Choices")[2].partition("Values")[0]
    groups = {group: options.split(", ") for group, options in re.findall(r"(\w+): ((?:\w+, )*[\w.]+)", text)}
    assert groups.keys() == {path.parent.name for path in configs.glob("*/*.yaml")}
    named = [configs / group / f"{option}.yaml" for group, options in groups.items() for option in options]
    assert [path for path in named if path.stem != "..." and not path.is_file()] == []
