"""Which networks a checkpoint may name, and how a network of the user's own becomes one of them."""

import functools
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

import digitnet
from digitnet import CNN, MLP, DigitClassifier
from digitnet.checkpoints import checkpoint_format, pretrained
from digitnet.errors import UnknownModelError, UsageError
from digitnet.models import MODELS, registry
from digitnet.models.registry import find_model, import_modules, model_name

NETWORK = """
from typing import Any
from torch import Tensor, nn
from digitnet import DigitClassifier

class {name}(DigitClassifier):
    def __init__(self, scale: float = {scale}, **training: Any) -> None:
        super().__init__(**training)
        self.net, self.scale = nn.Sequential(nn.Flatten(), nn.Linear(784, 10)), scale

    def compute_logits(self, pixels: Tensor) -> Tensor:
        return self.scale * self.net(pixels)
"""


pytestmark = pytest.mark.usefixtures("forgets_imports")


def write_module(folder: Path, module: str, name: str = "Net", scale: float = 1.0) -> None:
    folder.mkdir(exist_ok=True)
    (folder / f"{module}.py").write_text(NETWORK.format(name=name, scale=scale))


def write_package(site: Path, entry_point: str) -> None:
    """Install a package with an entry point into a folder of packages, as pip does."""
    info = site / "myres-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: myres\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[digitnet.models]\nnet = {entry_point}\n")


def save(model: DigitClassifier, path: Path, name: str | None = None) -> Path:
    """Save a checkpoint, under another class name if one is given."""
    content: dict[str, Any] = {"state_dict": model.state_dict(), "hyper_parameters": dict(model.hparams)}
    model.on_save_checkpoint(content)
    torch.save(content if name is None else content | {"digitnet_model": name}, path)
    return path


def imported(folder: Path, module: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.chdir(folder)
    import_modules(module)
    return sys.modules[module]


def test_the_networks_of_digitnet_have_short_names_and_all_others_the_name_of_their_module() -> None:
    class Own(CNN):
        pass

    assert [model_name(model) for model in (CNN, MLP)] == ["CNN", "MLP"]
    assert find_model("CNN") is CNN
    name = f"{__name__}.{Own.__qualname__}"
    assert model_name(Own) == name
    assert find_model(name) is Own


def test_a_checkpoint_of_an_own_network_is_loaded_once_its_module_is_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_module(tmp_path, "mynets")
    model = imported(tmp_path, "mynets", monkeypatch).Net(scale=2.0).eval()
    path = save(model, tmp_path / "own.ckpt")
    pretrained.save_with_card(
        tmp_path / "own.safetensors", pretrained.serialize(model), pretrained.model_metadata(model)
    )
    images = torch.rand(3, 28, 28)
    for file in (path, tmp_path / "own.safetensors"):
        assert torch.equal(digitnet.load(file)(images), model(images))
        assert digitnet.load(file).scale == 2.0
    del MODELS["mynets.Net"]
    for file in (path, tmp_path / "own.safetensors"):
        with pytest.raises(UnknownModelError, match=r"holds a mynets\.Net, .* call `import mynets` first$"):
            digitnet.load(file)


def test_two_networks_of_the_same_name_in_two_modules_are_not_confused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_module(tmp_path, "first", scale=1.0)
    write_module(tmp_path, "second", scale=2.0)
    first = imported(tmp_path, "first", monkeypatch).Net()
    path = save(first, tmp_path / "first.ckpt")
    second = imported(tmp_path, "second", monkeypatch).Net
    assert type(digitnet.load(path)) is type(first)
    del MODELS["first.Net"]
    with pytest.raises(UnknownModelError, match="import first"):
        digitnet.load(path)
    # The name alone would have selected the other class, whose weights fit and whose logits differ.
    assert isinstance(digitnet.load(save(first, tmp_path / "unqualified.ckpt", "Net")), second)


def test_an_own_network_called_cnn_is_not_taken_for_that_of_digitnet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_module(tmp_path, "mynets", name="CNN")
    own = imported(tmp_path, "mynets", monkeypatch).CNN
    assert model_name(own) == "mynets.CNN"
    assert find_model("CNN") is CNN
    assert find_model("__main__.CNN") is own


def test_a_class_that_is_defined_again_as_in_a_notebook_replaces_its_predecessor() -> None:
    def define(width: int) -> type[DigitClassifier]:
        class Cell(DigitClassifier):
            def __init__(self, **training: Any) -> None:
                super().__init__(**training)
                self.net = nn.Sequential(nn.Flatten(), nn.Linear(784, width), nn.Linear(width, 10))

        return Cell

    define(3)
    second = define(4)
    assert find_model(model_name(second)) is second


@pytest.mark.parametrize("name", ["Net", "__main__.Net"])
def test_a_name_without_its_module_stands_for_the_only_class_of_that_name(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_module(tmp_path, "first", name="Only")
    only = imported(tmp_path, "first", monkeypatch).Only
    assert find_model(name.replace("Net", "Only")) is only
    write_module(tmp_path, "second", name="Only")
    imported(tmp_path, "second", monkeypatch)
    assert find_model(name.replace("Net", "Only")) is None


@pytest.mark.parametrize("name", [None, 1, ["CNN"], {}, "", ".", "first", "os.system", "digitnet.models.cnn.CNN"])
def test_a_name_that_no_network_has_is_unknown(name: object) -> None:
    assert find_model(name) is None
    assert "MODULE" in str(UnknownModelError("x.ckpt", "Net"))
    assert "\n" not in str(UnknownModelError("x.ckpt", name))


def test_an_installed_package_makes_its_networks_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_module(tmp_path / "site", "packaged")
    write_package(tmp_path / "site", "packaged:Net")
    monkeypatch.chdir(tmp_path)
    registry._import_entry_points.cache_clear()
    assert find_model("packaged.Net") is None  # it is not installed yet
    registry._import_entry_points.cache_clear()
    monkeypatch.syspath_prepend(tmp_path / "site")
    known = find_model("packaged.Net")
    assert known is sys.modules["packaged"].Net


def test_a_package_in_the_current_folder_is_not_imported_for_its_entry_points(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_module(tmp_path, "downloaded")
    write_package(tmp_path, "downloaded:Net")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    registry._import_entry_points.cache_clear()
    assert find_model("downloaded.Net") is None
    assert "downloaded" not in sys.modules


def test_an_installed_package_that_cannot_be_imported_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_package(tmp_path / "site", "missing_module:Net")
    monkeypatch.syspath_prepend(tmp_path / "site")
    registry._import_entry_points.cache_clear()
    with pytest.raises(UsageError, match="package myres declares the network missing_module:Net, which cannot"):
        digitnet.load("bundled:mlp")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("mynets.py", "imports=mynets.py: must be the name of a module, such as mynets"),
        (["../mynets"], r"imports=\.\./mynets: must be the name"),
        ([3], "imports=3: must be the name"),
        (3, "imports=3: must be the name"),
        ("missing", "imports=missing: cannot be imported .*No module named 'missing'"),
        ("broken", "imports=broken: cannot be imported .*ZeroDivisionError"),
        ("script", "imports=script: cannot be imported .*SystemExit"),
        ("syntax", "imports=syntax: cannot be imported .*SyntaxError"),
    ],
)
def test_a_module_that_cannot_be_imported_is_named(
    names: Any, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken.py").write_text("1 / 0")
    (tmp_path / "script.py").write_text("raise SystemExit(0)")
    (tmp_path / "syntax.py").write_text("def")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=message):
        import_modules(names)


def test_no_names_import_nothing_and_leave_the_search_path_as_it_is() -> None:
    before = [*sys.path]
    import_modules(None)
    import_modules([])
    assert sys.path == before


class Plain(DigitClassifier):
    """A network that can be loaded again."""

    def __init__(self, activation: Any = "relu", **training: Any) -> None:
        super().__init__(**training)
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))


class DropsArguments(DigitClassifier):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))


class ReadsWeights(DigitClassifier):
    def __init__(self, **training: Any) -> None:
        super().__init__(**training)
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
        self.norm = self.net[1].weight.norm().item()


class NineClasses(DigitClassifier):
    def __init__(self, **training: Any) -> None:
        super().__init__(**training)
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(784, 9))


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (functools.partial(Plain, activation=nn.functional.relu), "not plain data"),
        (DropsArguments, "unexpected keyword argument"),
        (ReadsWeights, "meta"),
        (NineClasses, r"returns a tensor \[2, 9\] for 2 images, but must return \[2, 10\]"),
    ],
    ids=["a function as an argument", "dropped arguments", "weights read in the constructor", "nine classes"],
)
def test_a_network_that_could_not_be_loaded_again_is_refused_before_it_trains(make: Any, reason: str) -> None:
    checkpoint_format.check_loadable(Plain())
    with pytest.raises(UsageError, match=reason) as error:
        checkpoint_format.check_loadable(make())
    assert "\n" not in str(error.value)
