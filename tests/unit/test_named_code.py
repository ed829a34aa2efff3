"""Modules of the working folder: for what the user named, after everything else, and no longer than needed."""

from __future__ import annotations

import importlib
import sys

import pytest
import torch

from bitcert.errors import InputError
from bitcert.losses import parse_loss
from bitcert.network import capture, load_model
from bitcert.network.named_code import import_named, working_folder_importable


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The working folder, which is not on the path, beside a folder of installed packages, which is."""
    folder, installed = tmp_path / "here", tmp_path / "installed"
    folder.mkdir()
    installed.mkdir()
    (installed / "library_for_tests.py").write_text(
        "try:\n    import optional_for_tests\nexcept ImportError:\n    optional_for_tests = None\n"
    )
    (folder / "optional_for_tests.py").write_text("")
    (folder / "neighbour_for_tests.py").write_text("")
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", [str(installed), *(part for part in sys.path if part not in ("", str(folder)))])
    before = set(sys.modules)
    yield folder
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def named(spec):
    with working_folder_importable(spec):
        return import_named(spec)


def write(folder, text, name="named_for_tests"):
    (folder / f"{name}.py").write_text(text)


def test_a_module_of_the_folder_finds_its_neighbours(here):
    write(here, "import neighbour_for_tests\nvalue = neighbour_for_tests.__name__\n")
    assert named("named_for_tests:value") == "neighbour_for_tests"


def test_a_package_finds_its_own_modules_and_its_neighbours(here):
    (here / "package_for_tests").mkdir()
    write(here / "package_for_tests", "", "__init__")
    write(here / "package_for_tests", "value = 2", "inner")
    write(here / "package_for_tests", "import neighbour_for_tests\nfrom package_for_tests.inner import value\n", "nets")
    assert named("package_for_tests.nets:value") == 2


def test_a_folder_without_init_is_a_package(here):
    (here / "plain_folder_for_tests").mkdir()
    write(here / "plain_folder_for_tests", "value = 3", "nets")
    assert named("plain_folder_for_tests.nets:value") == 3


def test_a_library_gets_nothing_from_the_folder(here):
    """An optional import of an installed module, run while the named module is imported."""
    write(here, "import library_for_tests\nvalue = library_for_tests.optional_for_tests\n")
    assert named("named_for_tests:value") is None
    assert "optional_for_tests" not in sys.modules


def test_an_installed_factory_gets_nothing_from_the_folder(here):
    with working_folder_importable("library_for_tests:optional_for_tests"):
        assert import_named("library_for_tests:optional_for_tests") is None


def test_nothing_installed_is_replaced(here):
    write(here, "raise SystemError('planted')", "library_for_tests")
    write(here, "raise SystemError('planted')", "colorsys")
    sys.modules.pop("colorsys", None)
    write(here, "import library_for_tests, colorsys\nvalue = colorsys.__file__\n")
    assert str(here) not in named("named_for_tests:value")


def test_the_folder_is_gone_afterwards_whatever_happens(here):
    finders = list(sys.meta_path)
    write(here, "raise ValueError('broken')", "broken_for_tests")
    with pytest.raises(ValueError, match="broken"):
        named("broken_for_tests:value")
    assert sys.meta_path == finders
    with pytest.raises(ImportError):
        importlib.import_module("neighbour_for_tests")


def test_a_module_imported_before_still_finds_its_neighbours_in_a_later_call(here):
    write(here, "def late():\n    import neighbour_for_tests\n    return neighbour_for_tests.__name__\n")
    named("named_for_tests:late")
    with working_folder_importable("named_for_tests:late"):
        assert import_named("named_for_tests:late")() == "neighbour_for_tests"


@pytest.mark.parametrize("where", ["", "def net():\n    "])
def test_code_that_ends_the_program_is_refused(here, where):
    write(here, f"import sys\n{where}sys.exit(0)\n")
    with pytest.raises(InputError, match=r"ends the program .*exit 0"):
        load_model("named_for_tests:net")


@pytest.mark.parametrize("refused", [load_model, lambda spec: parse_loss(spec, 2)])
def test_a_name_that_an_installed_module_has_is_explained(here, refused):
    write(here, "def net():\n    return None\n", "library_for_tests")
    with pytest.raises(InputError, match=r"rename library_for_tests\.py .* an installed module"):
        refused("library_for_tests:net")


def test_a_module_that_is_missing_is_explained(here):
    write(here, "import absent_for_tests\n")
    with pytest.raises(InputError, match=r"No module named 'absent_for_tests'; install it, or"):
        load_model("named_for_tests:net")


LATE = """
from torch import nn

class Late(nn.Linear):
    def __init__(self):
        super().__init__(2, 2)
    def forward(self, x):
        import neighbour_for_tests
        return super().forward(x)
"""


def test_a_neighbour_that_forward_imports_is_refused_with_advice(here):
    write(here, LATE)
    with pytest.raises(InputError, match=r"No module named 'neighbour_for_tests'; .* at the top of the factory's"):
        capture(load_model("named_for_tests:Late").model, torch.zeros(2, 2))
