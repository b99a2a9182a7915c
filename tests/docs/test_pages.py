"""The pages hold together: Python blocks run, links resolve, named code exists, and the README is short."""

import ast
import re
import warnings
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Run
from tests.docs.pages import IDS, PAGES, ROOT, blocks, prose
from tests.docs.test_commands import folder as folder  # a fixture
from tests.docs.test_commands import write_files

WITH_PYTHON = [page for page in PAGES if blocks(page, "python")]
LINK = re.compile(r"(?<!`)\]\(([^)\s]+)\)|<img [^>]*src=\"([^\"]+)\"")


def test_the_readme_has_at_most_900_words() -> None:
    assert len((ROOT / "README.md").read_text().split()) <= 900


@pytest.mark.parametrize("page", WITH_PYTHON, ids=[str(page.relative_to(ROOT)) for page in WITH_PYTHON])
def test_the_python_of_a_page_runs_and_prints_what_it_states(
    page: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The blocks of a page share their names. `# prints: TEXT` is a line of the output."""
    (folder / "docs").symlink_to(ROOT / "docs")
    write_files(page, folder)
    names: dict[str, Any] = {"__name__": page.stem}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning's advice on small examples
        for block in blocks(page, "python"):
            exec(compile(block.content, str(page), "exec"), names)
    printed = capsys.readouterr().out.splitlines()
    for block in blocks(page, "python"):
        assert set(re.findall(r"# prints: (.+)", block.content)) <= set(printed)


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_the_links_of_a_page_resolve(page: Path) -> None:
    for link in filter(None, (target for pair in LINK.findall(prose(page)) for target in pair)):
        if link.startswith(("https://", "http://", "#")):
            continue
        target, _, anchor = link.partition("#")
        assert (page.parent / target).exists(), link
        if anchor:
            headings = re.findall(r"^#+ (.+)$", (page.parent / target).read_text(), re.MULTILINE)
            assert anchor in [re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings]


def test_every_page_of_the_documentation_is_linked_from_its_index_and_from_the_readme() -> None:
    for page in (ROOT / "docs").glob("*.md"):
        if page.name != "index.md":
            assert f"]({page.name})" in (ROOT / "docs/index.md").read_text()
            assert f"](docs/{page.name})" in (ROOT / "README.md").read_text()


def test_the_code_that_the_architecture_page_names_exists() -> None:
    page = (ROOT / "docs/architecture.md").read_text()
    places = re.findall(r"`([\w/]+\.py)`: (`[\w.]+`(?:, `[\w.]+`)*)", page)
    assert len(places) > 25
    missing = [
        f"{file}: {name}"
        for file, names in places
        for name in names.replace("`", "").split(", ")
        if name not in defined_in(ROOT / "src/digitnet" / file)
    ]
    assert not missing


def defined_in(path: Path) -> set[str]:
    """The functions and classes of a module, and the methods of its classes as CLASS.METHOD."""
    if not path.is_file():
        return set()
    kinds = ast.FunctionDef | ast.ClassDef
    top = [node for node in ast.parse(path.read_text()).body if isinstance(node, kinds)]
    methods = {
        f"{node.name}.{child.name}"
        for node in top
        if isinstance(node, ast.ClassDef)
        for child in node.body
        if isinstance(child, ast.FunctionDef)
    }
    return {node.name for node in top} | methods


def test_the_layout_in_the_readme_is_that_of_the_package() -> None:
    layout = next(block.content for block in blocks(ROOT / "README.md", "text") if "src/digitnet/" in block.content)
    packages = {path.parent.name for path in (ROOT / "src/digitnet").glob("*/__init__.py")}
    assert packages == set(re.findall(r"^  (\w+)/", layout, re.MULTILINE))


def test_every_network_and_preset_has_a_row_on_the_cost_page() -> None:
    rows = set(re.findall(r"^\| `([^`]+)` \|", (ROOT / "docs/cost.md").read_text(), re.MULTILINE))
    presets = {
        f"{group}={path.stem}" for group in ("model", "experiment") for path in ROOT.glob(f"configs/{group}/*.yaml")
    }
    assert presets == rows


def test_every_picture_is_used_and_every_used_picture_is_there() -> None:
    used = {name for page in PAGES for name in re.findall(r"images/([\w-]+\.(?:png|svg|jpg))", page.read_text())}
    assert used == {path.name for path in (ROOT / "docs/images").iterdir()}


@pytest.mark.usefixtures("forgets_imports")
def test_the_network_the_callback_and_the_logger_of_the_extending_page_train(folder: Path, run: Run) -> None:
    from digitnet import evaluate, train

    write_files(ROOT / "docs/extending.md", folder)
    callback = "trainer.callbacks=[{_target_: my_callbacks.PrintAccuracy}]"
    logger = ("~trainer.logger", "+trainer.logger={_target_: my_loggers.PrintMetrics}")
    imports = "imports=[my_networks,my_callbacks,my_loggers]"
    arguments = ("--config-dir", "conf", "model=linear", "model.bias=false", callback, *logger, imports)
    done = run(train, *arguments, "debug=fast", "trainer.log_every_n_steps=1", "hydra.run.dir=out")
    assert done.status == 0, done.err
    assert "validation accuracy" in done.out
    assert re.search(r"^step \d+: .*train/loss=", done.out, re.MULTILINE), done.out
    scored = run(evaluate, "model=out", "imports=my_networks")
    assert scored.status == 0, scored.err
    assert "Linear, 10,000 test images" in scored.out


def test_ci_runs_the_commands_of_the_gate() -> None:
    makefile = (ROOT / "Makefile").read_text()
    (targets,) = re.findall(r"^check: (.*?) +##", makefile, re.MULTILINE)
    steps = [re.search(rf"^{target}:.*\n\t(.*)", makefile, re.MULTILINE) for target in targets.split()]
    commands = [step[1] for step in steps if step]
    assert len(commands) == len(targets.split()) > 5
    assert [line for line in (ROOT / ".ci/run").read_text().splitlines() if line in commands] == commands
