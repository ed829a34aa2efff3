"""The packages as a user reaches them, and what importing them loads."""

import fnmatch
import importlib
import pkgutil
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import house
import pytest

import bitcert
from bitcert.cli.app import VERBS, main

ROOT = Path(__file__).parents[2]
FOUND = pkgutil.walk_packages(bitcert.__path__, "bitcert.")
MODULES = sorted(module.name for module in FOUND if not module.name.endswith("__main__"))


@pytest.mark.parametrize("name", MODULES)
def test_no_name_hides_a_module(name):
    """``import bitcert.X.y as z`` reads attributes: a function of the same name would stand in the way."""
    module = importlib.import_module(name)
    found = bitcert
    for part in name.split(".")[1:]:
        found = getattr(found, part)
    assert found is module


def test_every_public_name_is_there():
    for name in bitcert.__all__:
        assert getattr(bitcert, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'raport'"):
        bitcert.raport  # noqa: B018


def fresh(program: str) -> str:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_nothing_heavy_is_loaded_before_it_is_asked_for():
    fresh(
        "import sys, bitcert\n"
        "assert not {'torch', 'numpy', 'scipy', 'matplotlib', 'rich', 'jinja2'} & set(sys.modules)\n"
        "bitcert.certify, bitcert.codecs.Quantise\n"
        "assert not {'matplotlib', 'rich', 'jinja2', 'bitcert.report'} & set(sys.modules)\n"
        "bitcert.report.plot_attenuation, bitcert.render_report\n"
        "assert 'matplotlib' in sys.modules\n"
    )


@pytest.mark.parametrize("option", ["--help", "-h", "--version"])
def test_help_and_version_load_no_verb(option):
    text = fresh(
        f"import sys; sys.argv = ['bitcert', {option!r}]\n"
        "from bitcert.cli import main\n"
        "try: main()\n"
        "except SystemExit as stop: assert not stop.code\n"
        "assert not {'torch', 'numpy', 'matplotlib', 'bitcert.cli.certify'} & set(sys.modules)\n"
    )
    assert text == f"bitcert {bitcert.__version__}\n" if option == "--version" else "certify" in text


def test_a_verb_may_stand_behind_dashes(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--", "check", "--help"])
    assert not stop.value.code
    assert "FILE.onnx" in capsys.readouterr().out


@pytest.mark.parametrize("name", VERBS)
def test_help_tells_of_a_verb_what_its_function_does(name):
    function, summary = VERBS[name]
    verb = getattr(importlib.import_module(f"bitcert.cli.{name}"), function)
    assert summary == verb.__doc__.partition("\n")[0]


@pytest.mark.parametrize("folder", [house.SOURCE, house.ROOT / "benchmarks"], ids=["src", "benchmarks"])
def test_no_import_leads_back(folder):
    """Imports inside functions count too: they hide a circle, they do not open it."""
    graph = house.import_graph(folder)
    assert len(graph) > 20
    assert house.circle(graph) == []
    one, another = [name for name in graph if graph[name]][:2]
    assert house.circle({**graph, one: {another}, another: {one}})


def test_what_the_dockerfile_names_is_there():
    text = (ROOT / "Dockerfile").read_text()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    left_out = (ROOT / ".dockerignore").read_text().split()
    needed = [
        *re.findall(r"/src/([\w.]+)", text),
        "README.md",
        "LICENSE",
        "hatch_build.py",
        "src",
        "examples",
        "records",
    ]
    for name in needed:
        assert (ROOT / name).exists()
        assert not any(fnmatch.fnmatch(name, pattern) for pattern in left_out)
    (extras,) = re.findall(r"/src\[([\w,]+)\]", text)
    assert set(extras.split(",")) <= project["project"]["optional-dependencies"].keys()
    (version,) = re.findall(r"^FROM python:(\d\.\d+)-slim$", text, re.MULTILINE)
    assert f"Programming Language :: Python :: {version}" in project["project"]["classifiers"]
    (entry,) = re.findall(r'^ENTRYPOINT \["(\w+)"\]$', text, re.MULTILINE)
    assert entry in project["project"]["scripts"]
