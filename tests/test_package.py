"""What is installed: complete, light to import, and at work from any folder."""

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.conftest import FAST, spawn

ROOT = Path(__file__).parents[1]
SOURCES = ROOT / "src" / "digitnet"
KINDS = (".py", ".gz", ".safetensors", ".json")


def imported_by(code: str) -> set[str]:
    """The top-level modules that are loaded after the code has run in a fresh interpreter."""
    show = f"{code}\nimport sys; print(*{{name.partition('.')[0] for name in sys.modules}})"
    return set(subprocess.run([sys.executable, "-c", show], capture_output=True, text=True, check=True).stdout.split())


def test_importing_the_package_imports_neither_torch_nor_hydra() -> None:
    assert not imported_by("import digitnet") & {"torch", "lightning", "hydra", "omegaconf", "numpy"}


@pytest.mark.parametrize("command", ["train", "evaluate", "predict", "export", "demo"])
def test_help_needs_no_torch(command: str) -> None:
    quit_quietly = "try: door.main()\nexcept SystemExit: pass"
    code = f"import sys; sys.argv[1:] = ['--help']\nimport digitnet.{command} as door\n{quit_quietly}"
    assert not imported_by(code) & {"torch", "lightning", "torchvision", "matplotlib"}


def test_only_one_module_draws() -> None:
    drawing = [path.name for path in SOURCES.rglob("*.py") if "from matplotlib" in path.read_text()]
    assert drawing == ["plots.py"]


def test_the_names_of_the_package_are_there() -> None:
    import digitnet

    assert all(getattr(digitnet, name).__name__ == name for name in digitnet.__all__)
    with pytest.raises(AttributeError, match="ResNet"):
        _ = digitnet.ResNet


def test_every_package_of_the_tree_is_listed() -> None:
    import tomllib

    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    found = {".".join(("digitnet", *path.parent.relative_to(SOURCES).parts)) for path in SOURCES.rglob("__init__.py")}
    assert set(listed) == found | {"digitnet.configs"}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An sdist and the wheel built from it."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    return folder


def test_a_wheel_built_from_the_sdist_holds_all_sources_configs_and_data(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    inside = set(zipfile.ZipFile(wheel).namelist())
    expected = {f"digitnet/{path.relative_to(SOURCES)}" for path in SOURCES.rglob("*") if path.suffix in KINDS}
    expected |= {f"digitnet/{path.relative_to(ROOT)}" for path in (ROOT / "configs").rglob("*.yaml")}
    assert expected <= inside
    assert {"digitnet/py.typed", "digitnet/data/files/README.md"} <= inside
    assert len(expected) > 35


def test_an_installed_wheel_works_from_an_empty_folder(built: Path, tmp_path: Path) -> None:
    (wheel,) = built.glob("*.whl")
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


def test_the_sdist_holds_the_tests(built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"tests/test_package.py", "README.md", "LICENSE", "notebooks/quickstart.ipynb"} <= names


@pytest.mark.parametrize("command", ["train", "evaluate", "predict", "export", "demo"])
def test_the_console_commands_are_installed(command: str, tmp_path: Path) -> None:
    script = Path(sys.executable).parent / f"digitnet-{command}"
    done = subprocess.run([script, "--help"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "digitnet" in done.stdout
