"""The hash of the decoder's source code: of every module that decoding imports, and of what is in them."""

import shutil
from pathlib import Path

import grimp
import pytest

import bitcert
from bitcert.decoder import program

ROOT = Path(bitcert.__file__).parent


@pytest.fixture
def copied(tmp_path, monkeypatch):
    """A copy of the program's sources that the hash is taken of."""
    shutil.copytree(ROOT, tmp_path / "bitcert", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(program, "files", lambda package: tmp_path / package)
    return tmp_path / "bitcert"


def fresh():
    return program.decoder_hash.__wrapped__()


def test_whatever_decoding_imports_is_in_the_hash():
    graph = grimp.build_graph("bitcert")
    needed = graph.find_upstream_modules("bitcert.decoder.decode") | {"bitcert.decoder.decode"}
    needed |= graph.find_upstream_modules("bitcert.counting")
    hashed = {f"bitcert.{name.removesuffix('.py').replace('/', '.')}" for name in program.MODULES}
    packages = tuple(f"bitcert.{name}" for name in program.PACKAGES)
    known = {m for m in needed if m in hashed or m.startswith(packages)}
    # what only says which of these there are, and the readers of data files, decide no prediction
    others = {m for m in needed - known if not m.startswith("bitcert.data")} - {"bitcert"}
    assert others == set()
    tables = {f"bitcert.data.{name}" for name in ("cells", "schema", "schema_file", "table")}
    assert tables <= hashed, "what a cell's text becomes is a part of what a message means"


def test_a_changed_line_is_another_decoder_and_line_ends_are_none(copied):
    before = fresh()
    file = copied / "decoder" / "features" / "maps.py"
    file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))
    assert fresh() == before == program.decoder_hash()
    file.write_text(file.read_text() + "\n")
    assert fresh() != before


def test_a_file_more_or_less_is_another_decoder_and_elsewhere_it_is_none(copied):
    before = fresh()
    (copied / "report" / "text.py").write_text("")
    assert fresh() == before
    (copied / "decoder" / "transforms" / "another.py").write_text("")
    assert fresh() != before
