"""IDX files: round trips, and every way in which a file can be wrong."""

from __future__ import annotations

import gzip
import struct
import tracemalloc

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bitcert.data import Role, load_sample
from bitcert.data.idx import read_idx
from bitcert.errors import InputError

IMAGES = np.random.default_rng(0).integers(0, 256, (5, 4, 3), dtype=np.uint8)
LABELS = np.array([0, 1, 2, 1, 0], np.uint8)


def idx_bytes(array):
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def write_pair(folder, prefix="train", zipped=False, separator="-", images=IMAGES, labels=LABELS):
    folder.mkdir(parents=True, exist_ok=True)
    for kind, axes, array in (("images", 3, images), ("labels", 1, labels)):
        data = idx_bytes(array)
        name = f"{prefix}-{kind}{separator}idx{axes}-ubyte" + (".gz" if zipped else "")
        (folder / name).write_bytes(gzip.compress(data) if zipped else data)
    return folder


def refuse(path, match):
    with pytest.raises(InputError, match=match) as caught:
        read_idx(path)
    assert path.name in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("separator", ["-", "."])
@pytest.mark.parametrize(("split", "prefix"), [("train", "train"), ("test", "t10k")])
def test_pair_round_trip_by_folder_and_by_file(tmp_path, zipped, separator, split, prefix):
    write_pair(tmp_path, prefix, zipped, separator)
    by_folder = load_sample(tmp_path, Role.TRAIN, split=split)
    images = next(path for path in tmp_path.iterdir() if "images" in path.name)
    by_file = load_sample(str(images), Role.TRAIN)
    for sample in (by_folder, by_file):
        assert np.array_equal(sample.inputs, IMAGES[:, None])
        assert np.array_equal(sample.labels, LABELS)
        assert sample.num_classes == 3


def test_gzip_is_told_by_content(tmp_path):
    (tmp_path / "plain.gz").write_bytes(idx_bytes(LABELS))
    (tmp_path / "zipped").write_bytes(gzip.compress(idx_bytes(LABELS)))
    assert np.array_equal(read_idx(tmp_path / "plain.gz"), LABELS)
    assert np.array_equal(read_idx(tmp_path / "zipped"), LABELS)


def header(kind=8, shape=(5, 4, 3)):
    return struct.pack(f">BBBB{len(shape)}I", 0, 0, kind, len(shape), *shape)


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b"", "IDX header"),
        (b"\0\0\x08", "IDX header"),
        (b"ab" + idx_bytes(IMAGES)[2:], "IDX header"),
        (header(kind=13) + IMAGES.tobytes(), "type 13 with 3 axes"),
        (header(shape=()), "type 8 with 0 axes"),
        (header(shape=(1, 1, 1, 1, 1)) + b"x", "type 8 with 5 axes"),
        (header()[:9], "truncated"),
        (idx_bytes(IMAGES) + b"x", "more bytes|leftover"),
    ],
)
def test_refusals(tmp_path, data, match, zipped):
    path = tmp_path / "file-idx"
    path.write_bytes(gzip.compress(data) if zipped else data)
    refuse(path, match)


def test_truncated_data(tmp_path):
    path = tmp_path / "raw-idx"
    path.write_bytes(idx_bytes(IMAGES)[:-1])
    refuse(path, "59 \\(truncated\\)")
    path.write_bytes(idx_bytes(IMAGES)[:30])
    refuse(path, "60 declared where the file holds at most 30")
    path.write_bytes(gzip.compress(idx_bytes(IMAGES)[:-1]))
    refuse(path, "59 \\(truncated\\)")
    path.write_bytes(gzip.compress(idx_bytes(IMAGES))[:-9])
    refuse(path, "readable file")
    path.write_bytes(gzip.compress(idx_bytes(IMAGES)) + b"trailing garbage")
    refuse(path, "readable file")


def test_how_far_a_gzipped_file_may_unfold_depends_on_its_size(tmp_path, monkeypatch):
    path = tmp_path / "zeros-idx"
    path.write_bytes(gzip.compress(header(shape=(64, 256, 256)) + bytes(1 << 22)))
    assert read_idx(path).shape == (64, 256, 256)
    monkeypatch.setattr("bitcert.data.files.FREE_BYTES", 1 << 20)
    refuse(path, "at most 1048576 bytes .* 4194304 bytes; if you trust the file")


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize(
    ("shape", "match"),
    [((2**32 - 1,) * 4, "declared"), ((2**31, 4), "declared"), ((2**32 - 1, 2**32 - 1), "at most")],
)
def test_huge_declared_sizes_allocate_nothing(tmp_path, shape, match, zipped):
    path = tmp_path / "huge-idx"
    data = header(shape=shape) + b"x" * 100
    path.write_bytes(gzip.compress(data) if zipped else data)
    tracemalloc.start()
    try:
        refuse(path, match)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def test_missing_file_folder_as_file_and_pairing(tmp_path):
    refuse(tmp_path / "none-idx", "No such file")
    refuse(tmp_path, "Is a directory")
    write_pair(tmp_path)
    (tmp_path / "train-labels-idx1-ubyte").unlink()
    with pytest.raises(InputError, match="labels file train-labels-idx1-ubyte"):
        load_sample(tmp_path, Role.TRAIN)
    with pytest.raises(InputError, match="only train"):
        load_sample(write_pair(tmp_path / "whole"), Role.TRAIN, split="test")
    (tmp_path / "odd.bin").write_bytes(idx_bytes(IMAGES))
    with pytest.raises(InputError, match="'images' in its name"):
        load_sample(tmp_path / "odd.bin", Role.TRAIN)


@pytest.mark.parametrize(
    ("images", "labels", "match"),
    [
        (IMAGES, LABELS[:4], "5 images.*4 labels"),
        (IMAGES, IMAGES, "labels \\(1 axis\\).*3 axes"),
        (LABELS, LABELS, "images \\(3 or 4 axes\\)"),
    ],
)
def test_pairs_that_do_not_fit(tmp_path, images, labels, match):
    with pytest.raises(InputError, match=match):
        load_sample(write_pair(tmp_path, images=images, labels=labels), Role.TRAIN)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=150)
@given(data=st.data())
def test_mutated_files_raise_input_errors_only(tmp_path, data):
    whole = idx_bytes(IMAGES)
    if data.draw(st.booleans(), "zipped"):
        whole = gzip.compress(whole, mtime=0)
    cut = bytearray(whole[: data.draw(st.integers(0, len(whole)), "length")])
    for _ in range(data.draw(st.integers(0, 3), "changes")):
        if cut:
            cut[data.draw(st.integers(0, len(cut) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "mutated-idx"
    path.write_bytes(bytes(cut))
    try:
        array = read_idx(path)
    except InputError:
        return
    assert array.dtype == np.uint8
    assert array.size <= 60
