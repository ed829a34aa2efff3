"""``.npz`` archives: round trips, layouts, and refusals before any memory is taken."""

from __future__ import annotations

import io
import os
import tracemalloc
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bitcert.data import Role, load_sample, shaped_like
from bitcert.data.files import check_size
from bitcert.data.npz import read_npz
from bitcert.errors import InputError

Y = np.array([0, 1, 2, 1])
X = np.random.default_rng(0).integers(0, 256, (4, 1, 3, 5), dtype=np.uint8)


def member(shape, dtype="|u1", data=b"", version=(1, 0), fortran=False):
    header = str({"descr": dtype, "fortran_order": fortran, "shape": shape}).encode()
    size = 2 if version == (1, 0) else 4
    header = header.ljust(128 - 8 - size - 1) + b"\n"
    return b"\x93NUMPY" + bytes(version) + len(header).to_bytes(size, "little") + header + data


def archive(path, **members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in members.items():
            file.writestr(f"{name}.npy", data)
    return path


GOOD_Y = member((4,), "<i8", Y.astype("<i8").tobytes())


def refuse(path, match):
    with pytest.raises(InputError, match=match) as caught:
        read_npz(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("inputs", [X, X.astype(np.float32), np.asfortranarray(X), X.astype(">f4"), X.astype(float)])
def test_round_trip(tmp_path, save, inputs):
    save(tmp_path / "a.npz", x=inputs, y=Y, extra=np.zeros(3))
    sample = load_sample(tmp_path / "a.npz", Role.TRAIN)
    assert np.array_equal(sample.inputs, inputs)
    assert np.array_equal(sample.labels, Y)
    assert sample.num_classes == 3
    assert sample.name == "a.npz"
    assert load_sample(tmp_path / "a.npz", Role.TRAIN, split="test", num_classes=5).num_classes == 5


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((4, 6), (4, 6)),
        ((4, 6, 7), (4, 1, 6, 7)),
        ((4, 3, 6, 7), (4, 3, 6, 7)),
        ((4, 6, 7, 3), (4, 3, 6, 7)),
        ((4, 6, 7, 1), (4, 1, 6, 7)),
        ((4, 3, 6, 3), (4, 3, 6, 3)),
        ((4, 6, 7, 2), (4, 6, 7, 2)),
    ],
)
def test_layout_of_images(tmp_path, shape, expected):
    inputs = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    np.savez(tmp_path / "a.npz", x=inputs, y=Y)
    read = load_sample(tmp_path / "a.npz", Role.TRAIN).inputs
    assert read.shape == expected
    turned = inputs if len(shape) < 4 or shape == expected else np.moveaxis(inputs, 3, 1)
    assert np.array_equal(read.reshape(-1), turned.reshape(-1))


def test_labels_may_lack_for_unlabelled_only(tmp_path):
    np.savez(tmp_path / "a.npz", x=X)
    assert not load_sample(tmp_path / "a.npz", Role.UNLABELLED, num_classes=3).has_labels
    refuse(tmp_path / "a.npz", "arrays 'x' and 'y'.*got x;")


def test_objects_are_refused_and_never_unpickled(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "evil"),)

    np.savez(tmp_path / "a.npz", x=np.array([Evil()] * 4, dtype=object), y=Y)
    refuse(tmp_path / "a.npz", "numbers in x.npy.*object")
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize(
    ("x", "match"),
    [
        (member((4, 15), data=b"x" * 59), "declares"),
        (member((4, 15), data=b"x" * 61), "declares"),
        (member((10**7, 10**7), data=b"x" * 60), "declares"),
        (member((10**30, 0), data=b""), "at most|plain numpy"),
        (member((-4, -15), data=b"x" * 60), "at least 0"),
        (member((4, 15), "|O", data=b"x" * 60), "numbers in x.npy"),
        (member((4, 15), "<U1", data=b"x" * 240), "numbers in x.npy"),
        (member((4, 15), "<c8", data=b"x" * 480), "numbers in x.npy"),
        (member((4, 15), [("a", "u1")], data=b"x" * 60), "numbers in x.npy"),
        (member((4, 15), version=(3, 0), data=b"x" * 60), "version"),
        (b"", "plain numpy array"),
        (b"\x93NUMPY\x07\x00" + b"x" * 60, "plain numpy array"),
        (b"\x93NUMPY\x01\x00\xff\xff{", "plain numpy array"),
        (b"\x93NUMPY\x01\x00\x10\x00" + b"[" * 16, "plain numpy array"),
        (b"not an array at all", "plain numpy array"),
    ],
)
def test_wrong_members(tmp_path, x, match):
    refuse(archive(tmp_path / "a.npz", x=x, y=GOOD_Y), match)


def test_version_2_headers_are_read(tmp_path):
    path = archive(tmp_path / "a.npz", x=member((4, 15), version=(2, 0), data=b"x" * 60), y=GOOD_Y)
    assert read_npz(path)[0].shape == (4, 15)


def declare_size(path, size):
    """Overwrite the uncompressed size of the first member in the central directory."""
    data = bytearray(path.read_bytes())
    start = data.index(b"PK\x01\x02")
    data[start + 24 : start + 28] = size.to_bytes(4, "little")
    path.write_bytes(bytes(data))


def test_lying_sizes_allocate_nothing(tmp_path):
    size = 2**32 - 2
    head = member((size - 128,), data=b"")
    assert len(head) == 128
    path = archive(tmp_path / "a.npz", x=head + b"x" * 60, y=GOOD_Y)
    declare_size(path, size)
    tracemalloc.start()
    try:
        refuse(path, "declared where the file holds at most")
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def test_bound_of_the_bomb(tmp_path, monkeypatch):
    np.savez_compressed(tmp_path / "a.npz", x=np.zeros((1000, 1000), np.uint8), y=np.arange(1000) % 2)
    assert len(load_sample(tmp_path / "a.npz", Role.TRAIN)) == 1000
    monkeypatch.setenv("BITCERT_MAX_DATA_BYTES", str(10**6))
    refuse(tmp_path / "a.npz", "at most 1000000 bytes")
    monkeypatch.setenv("BITCERT_MAX_DATA_BYTES", "1 GB")
    with pytest.raises(InputError, match=r"whole number of bytes in BITCERT_MAX_DATA_BYTES, got '1 GB'"):
        read_npz(tmp_path / "a.npz")


def zeros(path, shape):
    """An archive that unfolds to a thousand times its size."""
    np.savez_compressed(path, x=np.zeros(shape, np.uint8), y=np.zeros(shape[0], np.uint8))
    return path


def test_how_far_a_file_may_unfold_depends_on_its_size(tmp_path, monkeypatch):
    path = zeros(tmp_path / "a.npz", (64, 1 << 16))
    size = path.stat().st_size
    assert size < (4 << 20) / 500
    assert len(read_npz(path)[0]) == 64, "small enough whatever the ratio"
    monkeypatch.setattr("bitcert.data.files.FREE_BYTES", 1 << 20)
    tracemalloc.start()
    try:
        refuse(path, r"at most 1048576 bytes .* 4194432 bytes; if you trust .* set BITCERT_MAX_DATA_BYTES=4194432")
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
    monkeypatch.setenv("BITCERT_MAX_DATA_BYTES", "4194432")
    assert len(read_npz(path)[0]) == 64
    monkeypatch.delenv("BITCERT_MAX_DATA_BYTES")
    monkeypatch.setattr("bitcert.data.files.FREE_BYTES", 0)
    np.savez(tmp_path / "plain.npz", x=X, y=Y)
    assert len(read_npz(tmp_path / "plain.npz")[0]) == 4, "an honest file is read however large it is"


def test_the_usual_limits_are_half_a_gigabyte_and_64_times_the_file(tmp_path):
    with pytest.raises(InputError, match=r"at most 536870912 bytes"):
        check_size(tmp_path, (1 << 29) + 1, 1 << 40, 1000)
    check_size(tmp_path, 1 << 29, 1 << 40, 1000)
    check_size(tmp_path, 64 << 30, 1 << 40, 1 << 30)
    with pytest.raises(InputError, match=r"at most 68719476736 bytes"):
        check_size(tmp_path, (64 << 30) + 1, 1 << 40, 1 << 30)


def test_many_tiny_examples_count_for_more_than_their_bytes(tmp_path, monkeypatch):
    """Labels, hashes and copies of them: half a gigabyte of single bytes would take ten."""
    monkeypatch.setattr("bitcert.data.files.FREE_BYTES", 1 << 20)
    path = zeros(tmp_path / "a.npz", (1 << 18, 1))
    refuse(path, r"at most 1048576 bytes .* 16777216 bytes \(262144 examples\)")


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_unbounded_compression_is_refused(tmp_path, method):
    with zipfile.ZipFile(tmp_path / "a.npz", "w", method) as file:
        file.writestr("x.npy", member((4, 15), data=b"x" * 60))
        file.writestr("y.npy", GOOD_Y)
    refuse(tmp_path / "a.npz", "zip method")


def test_broken_archives(tmp_path):
    path = tmp_path / "a.npz"
    refuse(path, "No such file")
    path.write_bytes(b"PK nothing")
    refuse(path, "not a zip file")
    np.savez(path, a=X)
    refuse(path, "arrays 'x' and 'y'.*got a;")
    np.savez(path, x=X, y=Y)
    data = bytearray(path.read_bytes())
    data[data.index(X.tobytes())] ^= 1
    path.write_bytes(bytes(data))
    refuse(path, "CRC")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=150)
@given(data=st.data())
def test_mutated_archives_raise_input_errors_only(tmp_path, data):
    stream = io.BytesIO()
    save = np.savez_compressed if data.draw(st.booleans(), "compressed") else np.savez
    save(stream, x=X, y=Y)
    whole = bytearray(stream.getvalue())
    for _ in range(data.draw(st.integers(0, 4), "changes")):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans(), "cut"):
        del whole[data.draw(st.integers(0, len(whole)), "length") :]
    (tmp_path / "m.npz").write_bytes(bytes(whole))
    try:
        sample = load_sample(tmp_path / "m.npz", Role.TRAIN)
    except InputError:
        return
    assert len(sample) == 4


SHAPES = {
    (5, 4): [(1, 5, 4), (5, 4), (20,), (5, 1, 4)],
    (20,): [(20,), (4, 5), (2, 2, 5)],
    (3, 2, 2): [(3, 2, 2), (12,)],
}
MIXED = {(5, 4): [(4, 5), (2, 10), (5, 5), (1, 4, 5)], (20,): [(3, 7)], (3, 2, 2): [(2, 2, 3), (4, 3)]}


@pytest.mark.parametrize("stored", SHAPES)
def test_a_shape_folds_flat_inputs_and_adds_or_drops_axes_but_mixes_none(tmp_path, stored):
    x = np.arange(6 * np.prod(stored), dtype=np.float32).reshape(6, *stored)
    np.savez(tmp_path / "a.npz", x=x, y=np.arange(6) % 2)
    for shape in SHAPES[stored]:
        sample = load_sample(tmp_path / "a.npz", Role.TRAIN, shape=shape)
        np.testing.assert_array_equal(sample.inputs, x.reshape(6, *shape))
    usual = load_sample(tmp_path / "a.npz", Role.TRAIN)
    for shape in MIXED[stored]:
        with pytest.raises(InputError, match="inputs that can have shape"):
            load_sample(tmp_path / "a.npz", Role.TRAIN, shape=shape)
        assert shaped_like(usual, shape) is usual
    assert shaped_like(usual, SHAPES[stored][-1]).input_shape == SHAPES[stored][-1]
