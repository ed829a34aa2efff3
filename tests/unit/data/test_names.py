"""Built-in names: where they are looked for, what is said when they are missing, and their download."""

from __future__ import annotations

import os
from types import SimpleNamespace
from urllib.error import URLError

import numpy as np
import pytest
import sklearn.datasets

from bitcert.data import NAMES, Role, Sample, check_apart, download_openml, is_original, load_sample, names
from bitcert.errors import InputError
from tests.tools.counted import at_most

REAL = os.environ.get("BITCERT_DATA")
SMALL = {"mnist": ("mnist_784", (1, 28, 28), 30, 10), "cifar10": ("CIFAR_10", (3, 32, 32), 20, 10)}


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A machine without any data set."""
    monkeypatch.delenv("BITCERT_DATA", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(names, "SYSTEM_FOLDER", tmp_path / "system")
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path


def write_idx(folder, seed, n=6):
    folder.mkdir(parents=True)
    images = np.random.default_rng(seed).integers(0, 256, (n, 28, 28), dtype=np.uint8)
    head = bytes([0, 0, 8, 3, 0, 0, 0, n, 0, 0, 0, 28, 0, 0, 0, 28])
    (folder / "train-images-idx3-ubyte").write_bytes(head + images.tobytes())
    labels = bytes(i % 10 for i in range(n))
    (folder / "train-labels-idx1-ubyte").write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, n]) + labels)
    return images


def test_digits_are_embedded_and_original(elsewhere):
    sample = load_sample("digits", Role.TRAIN)
    assert sample.inputs.shape == (1797, 1, 8, 8)
    assert sample.inputs.dtype == np.uint8
    assert sample.inputs.max() == 16
    assert np.bincount(sample.labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert is_original(sample, "digits", "train") is True
    assert is_original(sample.take(slice(0, 1796)), "digits", "train") is False
    assert is_original(sample, "digits", "test") is None
    assert is_original(sample, "cifar10", "train") is False
    with pytest.raises(InputError, match="ships one set"):
        load_sample("digits", Role.HOLDOUT, split="test")


@pytest.mark.parametrize("name", NAMES)
def test_names_are_recognised_in_any_spelling(name):
    for spelling in (name, name.upper(), name.replace("-", "_"), name.replace("-", "")):
        assert names.canonical_name(spelling) == name


def test_the_roots_are_searched_in_their_order(elsewhere, monkeypatch):
    roots = [
        elsewhere / "system/mnist",
        elsewhere / "home/data/MNIST/raw",
        elsewhere / "cache/bitcert/mnist",
        elsewhere / "work/data/MNIST/raw",
        elsewhere / "own/mnist",
    ]
    monkeypatch.setenv("BITCERT_DATA", str(elsewhere / "own"))
    for seed, root in enumerate(roots):
        images = write_idx(root, seed)
        sample = load_sample("mnist", Role.TRAIN)
        assert np.array_equal(sample.inputs[:, 0], images)
        assert sample.num_classes == 10
        assert sample.name == "mnist"


def test_names_have_their_own_folders(elsewhere):
    write_idx(elsewhere / "system/mnist", 1)
    fashion = write_idx(elsewhere / "system/fashion-mnist", 2)
    assert np.array_equal(load_sample("fashion-mnist", Role.TRAIN).inputs[:, 0], fashion)


def test_a_path_is_spelled_as_a_path(elsewhere):
    write_idx(elsewhere / "system/mnist", 1)
    images = write_idx(elsewhere / "work/mnist", 2)
    assert np.array_equal(load_sample("./mnist", Role.TRAIN).inputs[:, 0], images)
    assert not np.array_equal(load_sample("mnist", Role.TRAIN).inputs[:, 0], images)


def test_incomplete_files_are_not_passed_over(elsewhere):
    write_idx(elsewhere / "system/mnist", 1)
    write_idx(elsewhere / "work/data/mnist", 2)
    (elsewhere / "work/data/mnist/train-labels-idx1-ubyte").unlink()
    with pytest.raises(InputError, match="labels file"):
        load_sample("mnist", Role.TRAIN)


@pytest.mark.parametrize("name", sorted(names.FOLDERS))
def test_not_found_says_where_and_offers_the_download(elsewhere, name):
    with pytest.raises(InputError) as caught:
        load_sample(name, Role.TRAIN)
    text = str(caught.value)
    for part in (
        name,
        "--download",
        "BITCERT_DATA is not set",
        str(elsewhere / "system"),
        "home/data",
        "cache/bitcert",
    ):
        assert part in text
    assert "\n" not in text


@pytest.mark.parametrize(
    ("source", "match"),
    [
        ("mnits", "did you mean 'mnist'"),
        ("imagenet", "data set among"),
        ("no/such/file.npz", "nothing there"),
        ("file.npz", "nothing there"),
        ("", "an empty text"),
        ("a\0b", "data set among"),
        ("no/such\0", "nothing there"),
        ("x" * 5000, "readable file"),
    ],
)
def test_unknown_sources(elsewhere, source, match):
    with pytest.raises(InputError, match=match) as caught:
        load_sample(source, Role.TRAIN)
    assert len(str(caught.value)) < 600


def test_unknown_splits_files_and_folders(elsewhere):
    with pytest.raises(InputError, match="split among test, train"):
        load_sample("digits", Role.TRAIN, split="trian")
    (elsewhere / "a.txt").write_text("1,2,3")
    with pytest.raises(InputError, match=r"a.txt.*starts with b'1,2,'"):
        load_sample(elsewhere / "a.txt", Role.TRAIN)
    (elsewhere / "empty").mkdir()
    with pytest.raises(InputError, match="none of them"):
        load_sample(elsewhere / "empty", Role.TRAIN)


def test_a_folder_that_may_not_be_read_is_an_error(elsewhere, monkeypatch):
    def denied(folder, split):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(names, "find_idx_pair", denied)
    with pytest.raises(InputError, match=r"data/mnist.*Permission denied"):
        load_sample("mnist", Role.TRAIN)


@pytest.fixture
def openml(elsewhere, monkeypatch):
    """OpenML replaced by small random tables; returns what was asked and what will be answered."""
    from bitcert.data import download

    monkeypatch.setattr(download, "SOURCES", SMALL)
    state = SimpleNamespace(calls=[], answer=None, hashes={})
    rng = np.random.default_rng(0)

    def table(name):
        _, shape, train, test = SMALL[name]
        data = rng.integers(0, 256, (train + test, int(np.prod(shape)))).astype(float)
        state.data, state.target = data, np.array([str(i % 10) for i in range(train + test)], dtype=object)
        state.answer = SimpleNamespace(data=data, target=state.target)
        for split, part in (("train", slice(0, train)), ("test", slice(train, None))):
            images = data[part].reshape(-1, *shape).astype(np.uint8)
            sample = Sample(images, np.arange(train + test)[part] % 10, 10, Role.TRAIN, name)
            monkeypatch.setitem(names.CONTENT_HASHES, (name, split), sample.content_hash)

    def fetch_openml(source, **options):
        state.calls.append((source, options))
        if isinstance(state.answer, Exception):
            raise state.answer
        return state.answer

    state.table = table
    monkeypatch.setattr(sklearn.datasets, "fetch_openml", fetch_openml)
    return state


@pytest.mark.parametrize("name", sorted(SMALL))
def test_download_is_checked_kept_and_used_again(openml, elsewhere, name):
    openml.table(name)
    source, shape, num_train, num_test = SMALL[name]
    steps = []
    train = load_sample(name, Role.TRAIN, download=True, progress=lambda what, part: steps.append((what, part)))
    assert np.array_equal(train.inputs.reshape(num_train, -1), openml.data[:num_train])
    assert train.input_shape == shape
    test = load_sample(name, Role.HOLDOUT, split="test")
    assert np.array_equal(test.inputs.reshape(num_test, -1), openml.data[num_train:])
    assert len(load_sample(name, Role.TRAIN, download=True)) == num_train
    assert [call[0] for call in openml.calls] == [source]
    assert openml.calls[0][1]["version"] == 1
    assert [part for _, part in steps] == sorted(part for _, part in steps)
    assert (steps[0][1], steps[-1][1]) == (0.0, 1.0)
    kept = sorted(path.name for path in (elsewhere / "cache/bitcert").iterdir())
    assert kept == [f"{name}-test.npz", f"{name}-train.npz"]


def test_nothing_is_downloaded_unasked(openml):
    openml.table("mnist")
    with pytest.raises(InputError, match="--download"):
        load_sample("mnist", Role.TRAIN)
    assert openml.calls == []


@pytest.mark.parametrize(
    "error",
    [URLError("no route"), TimeoutError("late"), ValueError("no such dataset"), ConnectionResetError("reset")],
)
def test_failed_downloads_say_what_to_do(openml, elsewhere, error):
    openml.answer = error
    with pytest.raises(InputError, match=r"mnist from OpenML.*BITCERT_DATA"):
        load_sample("mnist", Role.TRAIN, download=True)
    assert not list((elsewhere / "cache").rglob("*.npz"))


def test_downloads_with_other_content_are_refused(openml, elsewhere):
    openml.table("mnist")
    for change, match in (
        (lambda data: data[::-1], "content hash"),
        (lambda data: data[:-1], "40 images.*shape \\[39, 784\\]"),
        (lambda data: data + 0.5, "whole numbers"),
        (lambda data: data + 200, "whole numbers"),
    ):
        openml.answer = SimpleNamespace(data=change(openml.data), target=openml.target)
        with pytest.raises(InputError, match=match):
            download_openml("mnist")
        assert not list((elsewhere / "cache").rglob("*.npz"))


def test_damaged_cache_is_refused(openml, elsewhere):
    openml.table("mnist")
    download_openml("mnist")
    path = elsewhere / "cache/bitcert/mnist-train.npz"
    np.savez(path, x=np.zeros((2, 1, 28, 28), np.uint8), y=np.array([0, 1]))
    with pytest.raises(InputError, match=f"delete {path}"):
        load_sample("mnist", Role.TRAIN)
    path.write_bytes(b"PK")
    with pytest.raises(InputError, match="readable file"):
        load_sample("mnist", Role.TRAIN)


def test_full_disk_leaves_nothing_half_written(openml, elsewhere, monkeypatch):
    openml.table("mnist")

    def no_space(file, **arrays):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", no_space)
    with pytest.raises(InputError, match="No space left"):
        download_openml("mnist")
    assert list((elsewhere / "cache/bitcert").iterdir()) == []


@pytest.mark.skipif(not REAL, reason="BITCERT_DATA is not set, so the real MNIST files are not at hand")
@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_real_files_are_original_independent_and_read_without_loops(name):
    # A loop over 60,000 examples anywhere would show.
    with at_most(2_000):
        train = load_sample(name, Role.TRAIN)
        assert is_original(train, name, "train") is True
    test = load_sample(name, Role.HOLDOUT, split="test")
    assert is_original(test, name, "test") is True
    assert (len(train), len(test), train.input_shape) == (60_000, 10_000, (1, 28, 28))
    check_apart(train, test)
