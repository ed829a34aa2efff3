"""Shards in tar and Parquet files: the same sample as one archive, and refusals by name."""

import io
import tarfile

import numpy as np
import pytest
from PIL import Image

from bitcert.data import Role, load_sample, to_sample
from bitcert.data.shard_files import read_lists
from bitcert.errors import InputError

RNG = np.random.default_rng(0)
X, Y = RNG.random((9, 4), dtype=np.float32), np.arange(9) % 3
PIXELS = RNG.integers(0, 256, (9, 6, 5, 3), dtype=np.uint8)


def npy(array):
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def png(pixels):
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def tar(path, *members, link=None):
    path.parent.mkdir(exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        if link is not None:
            info = tarfile.TarInfo(link)
            info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
            archive.addfile(info)
    return path.parent


def examples(end, encode, values, places):
    for k in places:
        yield f"part/{k:03}.{end}", encode(values[k])
        yield f"part/{k:03}.cls", str(Y[k]).encode()
        yield f"part/{k:03}.json", b"{}"


def test_tar_shards_are_the_sample_of_their_arrays_or_images(tmp_path):
    for end, encode, values, whole in (("npy", npy, X, X), ("png", png, PIXELS, np.moveaxis(PIXELS, 3, 1))):
        for number, places in enumerate((range(4), range(4, 9))):
            folder = tar(tmp_path / end / f"{number}.tar", *examples(end, encode, values, places))
        assert load_sample(folder, Role.TRAIN).content_hash == to_sample((whole, Y), Role.TRAIN).content_hash


def test_parquet_shards_are_the_sample_of_their_lists(tmp_path):
    arrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    for number, places in enumerate((slice(4), slice(4, 9))):
        rows = arrow.FixedSizeListArray.from_arrays(X[places].ravel(), 4) if number else X[places].tolist()
        column = rows if number else arrow.array(rows, arrow.list_(arrow.float32()))
        parquet.write_table(arrow.table({"x": column, "y": Y[places]}), tmp_path / f"{number}.parquet")
    assert load_sample(tmp_path, Role.TRAIN).content_hash == to_sample((X, Y), Role.TRAIN).content_hash
    for x, y in (
        ([[1.0], [1.0, 2.0]], [0, 1]),
        ([[1.0], [None]], [0, 1]),
        ([["a"], ["b"]], [0, 1]),
        ([[1], [2]], [0, None]),
    ):
        parquet.write_table(arrow.table({"x": x, "y": y}), tmp_path / "1.parquet")
        with pytest.raises(InputError, match=r"rows of numbers without gaps in .*1\.parquet"):
            load_sample(tmp_path, Role.TRAIN)


A, ONE = ("a.npy", npy(X[0])), ("a.cls", b"1")


@pytest.mark.parametrize(
    ("members", "link", "says"),
    [
        ((A, A, ONE), None, "another of its kind"),
        ((A, ONE, ("a.cls", b"2")), None, "another of its kind"),
        ((A, ONE), "b.npy", "a link, device or sparse file"),
        ((A, ONE, ("b.npy", npy(X[1, :2])), ("b.cls", b"0")), None, "inputs like the first"),
        ((A, ONE, ("b.npy", npy(X[1]))), None, "an input and a label for every example"),
        ((A, ("a.cls", b"cat")), None, "a class number"),
        ((("a.npy", npy(np.array([None]))), ONE), None, "a.tar"),
        ((("a.npy", npy(X[0])[:-1]), ONE), None, "arrays of numbers"),
        ((("a.png", b"\x89PNG"), ONE), None, "a.tar"),
        ((), None, "an input and a label"),
    ],
)
def test_a_tar_file_that_is_no_shard_is_refused_by_name(tmp_path, members, link, says):
    folder = tar(tmp_path / "shards" / "a.tar", *members, link=link)
    with pytest.raises(InputError, match=says) as refusal:
        load_sample(folder, Role.TRAIN)
    assert "a.tar" in str(refusal.value)


def test_a_sparse_member_of_a_tar_file_is_refused(tmp_path):
    path = tmp_path / "shards" / "a.tar"
    tar(path, A, ONE)
    with tarfile.open(path, "w") as archive:
        info = tarfile.TarInfo("a.npy")
        info.type = tarfile.GNUTYPE_SPARSE
        info.size = len(A[1])
        archive.addfile(info, io.BytesIO(A[1]))
    with pytest.raises(InputError, match="a link, device or sparse file"):
        load_sample(path.parent, Role.TRAIN)


def test_shards_beyond_the_bytes_allowed_are_refused_before_they_are_read(tmp_path, monkeypatch):
    """The array of a tar file; a Parquet column as the sum of its groups, each of which alone would do."""
    arrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    monkeypatch.setenv("BITCERT_MAX_DATA_BYTES", "2000")
    folder = tar(tmp_path / "shards" / "a.tar", ("a.npy", npy(np.zeros(300))), ONE)
    monkeypatch.setattr("bitcert.data.shard_files.read_declared", lambda stream, size: pytest.fail("read"))
    with pytest.raises(InputError, match="a declared size of 2400 bytes"):
        load_sample(folder, Role.TRAIN)
    table = arrow.table({"x": [[1.0] * 10] * 20, "y": [0, 1] * 10})
    parquet.write_table(table, folder / "a.parquet", row_group_size=5)
    with pytest.raises(InputError, match="a declared size of 3200 bytes"):
        read_lists(folder / "a.parquet")


def test_a_ray_dataset_is_read_by_its_rows():
    class Rows:
        def __len__(self):
            raise AttributeError

        def __iter__(self):
            raise TypeError("call iter_rows")

        def iter_rows(self):
            return ({"x": x, "y": y} for x, y in zip(X, Y, strict=True))

    assert to_sample(Rows(), Role.TRAIN).content_hash == to_sample((X, Y), Role.TRAIN).content_hash
