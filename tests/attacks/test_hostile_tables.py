"""Tables and schemas from strangers: bombs, junk and a hundred thousand columns; one sentence, or the right numbers."""

from __future__ import annotations

import contextlib
import json
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bitcert.data import Role, load_sample, load_schema
from bitcert.data import csv_file as reader
from bitcert.data.cells import KEPT_TEXTS, bucket
from bitcert.errors import InputError


@contextlib.contextmanager
def taking(limit):
    """No more than ``limit`` bytes at once."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < limit
    finally:
        tracemalloc.stop()


def refuse(path, match, limit=1 << 26):
    with taking(limit), pytest.raises(InputError, match=match) as caught:
        load_sample(path, Role.TRAIN, label="y")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 700


def repeated(path, head, piece, count, tail=b""):
    with open(path, "wb") as file:
        file.write(head)
        for _ in range(count):
            file.write(piece)
        file.write(tail)
    return path


@pytest.mark.parametrize(("head", "tail"), [(b"a,y\n", b",1\n"), (b'a,y\n"', b'",1\n'), (b"", b",y\n1,0\n")])
def test_a_field_of_a_hundred_megabytes(tmp_path, head, tail):
    refuse(repeated(tmp_path / "t.csv", head, b"x" * (1 << 20), 100, tail), r"rows of at most|field limit", 1 << 28)


def test_a_quote_that_never_ends(tmp_path):
    refuse(repeated(tmp_path / "t.csv", b'a,y\n"', b"0,1\n", 1 << 20), "field limit")


def test_one_row_over_a_million_lines(tmp_path, monkeypatch):
    monkeypatch.setattr(reader, "MAX_ROW", 1 << 16)
    refuse(repeated(tmp_path / "t.csv", b"a,y\n", b'"\n",', 1 << 18), "rows of at most 65,536 characters")


def test_a_hundred_thousand_columns(tmp_path):
    width = 100_000
    names = ",".join(f"c{k}" for k in range(width))
    row = ",".join(str(k % 10) for k in range(width))
    (tmp_path / "t.csv").write_text(f"{names},y\n{row},0\n{row},1\n{row},1\n")
    sample = load_sample(tmp_path / "t.csv", Role.TRAIN, label="y")
    assert sample.input_shape == (width,)
    assert np.array_equal(sample.inputs[2], np.arange(width, dtype=np.float32) % 10)
    refuse(repeated(tmp_path / "t.csv", f"{names},y\n".encode(), b"1,1\n", 3), "100,001 fields in row 1")


def test_a_long_table_streams_in_the_memory_of_their_numbers(tmp_path):
    rows = 60_000
    path = repeated(tmp_path / "t.csv", b"a,b,c,y\n", b"1.5,text,,0\n-7,NA,other,1\n", rows // 2)
    with taking(64 * rows + (1 << 22)):
        sample = load_sample(path, Role.TRAIN, label="y")
    assert sample.inputs.shape == (rows, 3)
    assert sample.inputs[-1].tolist() == [-7, -1, bucket("other")]


def test_a_million_categories_are_256_numbers(tmp_path):
    rows = 3 * KEPT_TEXTS
    with open(tmp_path / "t.csv", "w") as file:
        file.write("id,y\n")
        file.writelines(f"user-{k},{k % 2}\n" for k in range(rows))
    bucket.cache_clear()
    sample = load_sample(tmp_path / "t.csv", Role.TRAIN, label="y")
    assert sorted(set(sample.inputs[:, 0].tolist())) == list(range(256))
    assert bucket.cache_info().currsize <= KEPT_TEXTS


def test_the_size_that_a_user_allows_counts(tmp_path, monkeypatch):
    path = repeated(tmp_path / "t.csv", b"a,y\n", b"1,0\n2,1\n", 5_000)
    monkeypatch.setenv("BITCERT_MAX_DATA_BYTES", "100000")
    refuse(path, "arrays of at most 100000 bytes")


@settings(max_examples=60)
@given(st.binary(max_size=200), st.sampled_from([b"", b"a,y\n", b'a,y\n"', b"PK\x03\x04", b"\x1f\x8b", b"PAR1"]))
def test_junk_is_a_sentence_or_a_table(tmp_path_factory, junk, head):
    path = tmp_path_factory.mktemp("junk") / "t.csv"
    path.write_bytes(head + junk)
    with contextlib.suppress(InputError):
        load_sample(path, Role.UNLABELLED, num_classes=2)


@settings(max_examples=60)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=3),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["columns", "label", "classes", "name", "use", "missing", "categories", "x"]),
                inner,
                max_size=4,
            )
        ),
        max_leaves=12,
    )
)
def test_any_json_is_a_schema_or_a_sentence(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("schema") / "s.json"
    path.write_text(json.dumps(content))
    with contextlib.suppress(InputError):
        schema = load_schema(path)
        assert load_schema(json.loads(schema.text)) == schema


def test_a_parquet_file_that_unfolds_too_far(tmp_path, monkeypatch):
    arrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    columns = {"a": arrow.array(np.zeros(1_000_000)), "y": arrow.array(np.arange(1_000_000) % 2)}
    parquet.write_table(arrow.table(columns), tmp_path / "t.parquet")
    monkeypatch.setenv("BITCERT_MAX_DATA_BYTES", "1000000")
    refuse(tmp_path / "t.parquet", "arrays of at most 1000000 bytes", 1 << 24)


def test_every_damaged_parquet_file_is_a_sentence(tmp_path):
    arrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(arrow.table({"a": ["x", "y", "x"], "y": [0, 1, 1]}), tmp_path / "t.parquet")
    good = (tmp_path / "t.parquet").read_bytes()
    rng = np.random.default_rng(0)
    for place in rng.integers(4, len(good) - 4, 150):
        damaged = bytearray(good)
        damaged[place] ^= 1 << int(rng.integers(8))
        (tmp_path / "t.parquet").write_bytes(damaged)
        with contextlib.suppress(InputError):
            load_sample(tmp_path / "t.parquet", Role.TRAIN, label="y")
