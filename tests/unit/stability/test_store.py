"""Shards on disk: whole or absent, of this run or ignored, read back column by column."""

import io
import zipfile

import numpy as np
import pytest

from bitcert.errors import InputError
from bitcert.stability import store as store_module
from bitcert.stability.store import ShardStore

IDENTITY = "ab" * 32


def arrays(start: int, stop: int) -> dict[str, np.ndarray]:
    rows = np.arange(start, stop, dtype=np.float32)
    return {"margin": rows, "cube": rows[:, None, None] + 100 * np.arange(6, dtype=np.float32).reshape(2, 3)}


@pytest.fixture
def store(tmp_path) -> ShardStore:
    made = ShardStore(tmp_path / "shards", IDENTITY, 10, 4)
    for start, stop in made.ranges:
        made.write(start, stop, arrays(start, stop))
    return made


def test_ranges_cover_the_sample(store):
    assert store.ranges == ((0, 4), (4, 8), (8, 10))


def test_what_is_written_is_read(store):
    shard = store.read(4, 8)
    assert shard["margin"].tolist() == [4, 5, 6, 7]
    assert shard["cube"].shape == (4, 2, 3)
    assert store.shape("cube") == (2, 3)
    assert store.shape("margin") == ()
    assert store.shape("absent") is None
    assert store.names() == ("cube", "margin")
    assert not list(store.folder.glob("*.partial"))


@pytest.mark.parametrize("column_bytes", [1, 1 << 26])
def test_columns_are_those_of_the_whole_array(store, monkeypatch, column_bytes):
    monkeypatch.setattr(store_module, "COLUMN_BYTES", column_bytes)
    whole = arrays(0, 10)
    for name in ("margin", "cube"):
        np.testing.assert_array_equal(store.array(name), whole[name])
        np.testing.assert_array_equal(np.stack(list(store.columns(name)), 1), whole[name].reshape(10, -1))


def test_a_quantity_without_columns_has_none(tmp_path):
    store = ShardStore(tmp_path, IDENTITY, 2, 2)
    store.write(0, 2, {"empty": np.empty((2, 0), np.float32)})
    assert list(store.columns("empty")) == []
    assert store.shape("empty") == (0,)


def test_truncated_shards_count_as_absent(store):
    path = store.path(0, 4)
    content = path.read_bytes()
    for length in (0, 1, 30, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:length])
        assert store.read(0, 4) is None
    path.write_bytes(content)
    assert store.finished(0, 4)


def test_a_changed_byte_is_noticed_or_harmless(store):
    path = store.path(0, 4)
    content, whole = path.read_bytes(), arrays(0, 4)
    missed = 0
    for position in range(0, len(content), 3):
        damaged = bytearray(content)
        damaged[position] ^= 0x41
        path.write_bytes(bytes(damaged))
        shard = store.read(0, 4)
        if shard is not None:
            # dates and attributes of the archive carry no numbers
            missed += 1
            assert all(np.array_equal(shard[name], whole[name]) for name in shard)
    assert missed < len(content) / 3


def test_shards_of_another_run_count_as_absent(store):
    other = ShardStore(store.folder, IDENTITY[:16] + "00" * 24, 10, 4)  # the same file name, another identity
    assert other.path(0, 4) == store.path(0, 4)
    assert other.read(0, 4) is None


def npy(header: str, data: bytes = b"") -> bytes:
    text = header.encode() + b" " * 20 + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + data


def foreign(path, members: dict[str, bytes], compression=zipfile.ZIP_STORED) -> None:
    buffer = io.BytesIO()
    np.save(buffer, np.array(IDENTITY))
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, content in {"identity.npy": buffer.getvalue(), **members}.items():
            file.writestr(name, content)


@pytest.mark.parametrize(
    "member",
    [
        npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000,), }"),
        npy("{'descr': '<f4', 'fortran_order': False, 'shape': (-4,), }"),
        npy("{'descr': '|O', 'fortran_order': False, 'shape': (4,), }", b"x" * 32),
        npy("{'descr': '<i4', 'fortran_order': False, 'shape': (4,), }", b"x" * 16),
        npy("{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }", b"x" * 12),
        npy("__import__('os')"),
        npy("{'descr': '<f4'"),
        b"not an array",
    ],
)
def test_foreign_members_count_as_absent(store, member):
    foreign(store.path(0, 4), {"margin.npy": member})
    assert store.read(0, 4) is None


def test_compressed_members_count_as_absent(store):
    buffer = io.BytesIO()
    np.save(buffer, np.zeros(4, np.float32))
    foreign(store.path(0, 4), {"margin.npy": buffer.getvalue()})
    assert store.read(0, 4) is not None
    foreign(store.path(0, 4), {"margin.npy": buffer.getvalue()}, zipfile.ZIP_DEFLATED)
    assert store.read(0, 4) is None


def test_a_folder_that_cannot_be_written_is_explained(tmp_path):
    (tmp_path / "file").write_text("here")
    store = ShardStore(tmp_path / "file", IDENTITY, 2, 2)
    with pytest.raises(InputError, match="choose another folder"):
        store.write(0, 2, {"margin": np.zeros(2, np.float32)})


def test_a_shard_that_vanishes_is_explained(store):
    columns = store.columns("margin")
    store.path(8, 10).unlink()
    with pytest.raises(InputError, match="run it again"):
        next(columns)


def test_a_shard_has_one_row_for_each_example(store):
    store.write(0, 4, {"margin": np.zeros(3, np.float32)})
    assert store.read(0, 4) is None
