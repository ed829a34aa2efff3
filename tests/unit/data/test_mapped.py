"""Folders of shards and mapped arrays: the same sample as one archive, in whatever shards, and refusals by name."""

import numpy as np
import pytest

from bitcert.data import Role, load_sample
from bitcert.data import sample as sample_module
from bitcert.data.sample import release
from bitcert.errors import InputError

RNG = np.random.default_rng(0)
X, Y = RNG.random((23, 5, 4), dtype=np.float32), np.arange(23) % 3


def write_shards(folder, *cuts, x=X, y=Y):
    folder.mkdir(exist_ok=True)
    for number, (a, b) in enumerate(zip(np.split(x, cuts), np.split(y, cuts), strict=True)):
        np.savez(folder / f"{number:03}.npz", x=a, y=b)
    return folder


def write_arrays(folder, x=X, y=Y):
    folder.mkdir()
    np.save(folder / "x.npy", x)
    if y is not None:
        np.save(folder / "y.npy", y)
    return folder


def test_what_was_written_into_a_copy_on_write_map_stays(tmp_path):
    np.save(tmp_path / "x.npy", X)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="c")
    mapped[:] = 7
    release(mapped.view(np.ndarray))
    assert (mapped == 7).all()


@pytest.fixture
def whole(tmp_path):
    np.savez(tmp_path / "whole.npz", x=X, y=Y)
    return load_sample(tmp_path / "whole.npz", Role.TRAIN)


def test_shards_and_mapped_arrays_are_the_same_sample_as_one_archive(tmp_path, whole):
    folders = [write_shards(tmp_path / str(len(cuts)), *cuts) for cuts in ((), (5,), (1, 2, 20))]
    for folder in (*folders, write_arrays(tmp_path / "arrays")):
        sample = load_sample(folder, Role.TRAIN)
        assert sample.content_hash == whole.content_hash
        assert sample.examples_hash == whole.examples_hash
        assert sample.input_shape == (1, 5, 4)
        for _ in range(2):  # what was given back is read again
            parts = list(sample.batches(4, 2, 21))
            assert np.array_equal(np.concatenate([x for x, _ in parts]), whole.inputs[2:21])
            assert np.array_equal(np.concatenate([y for _, y in parts]), Y[2:21])


def test_examples_at_places_are_read_a_few_at_a_time(tmp_path, monkeypatch):
    mapped, given_back = load_sample(write_arrays(tmp_path / "arrays"), Role.TRAIN), []
    monkeypatch.setattr(sample_module, "release", lambda array: given_back.append(release(array)))
    monkeypatch.setattr(sample_module, "_AT_ONCE", 3)
    places = np.array([22, 0, -1, 7, 7])
    assert np.array_equal(mapped.inputs_at(places), X[places][:, None])
    assert len(given_back) == 2, "three examples at a time"
    mask = np.arange(23) % 2 == 0
    assert np.array_equal(mapped.take(mask).inputs, X[mask][:, None])
    with pytest.raises(InputError, match="indices into the 23"):
        mapped.take([23])


def test_examples_in_memory_are_looked_up_directly(whole, monkeypatch):
    monkeypatch.setattr(np, "arange", lambda *given: pytest.fail("a place for every example"))
    assert np.array_equal(whole.inputs_at(np.array([22, -1])), X[[22, -1]][:, None])


def test_bytes_are_hashed_as_the_numbers_they_are(tmp_path):
    pixels = RNG.integers(0, 256, (9, 2, 2), dtype=np.uint8)
    mapped = load_sample(write_arrays(tmp_path / "bytes", pixels, Y[:9]), Role.TRAIN)
    floats = load_sample(write_arrays(tmp_path / "floats", pixels.astype(np.float32), Y[:9]), Role.TRAIN)
    assert mapped.examples_hash == floats.examples_hash
    assert mapped.example_hashes.tolist() != floats.example_hashes.tolist()


def test_labels_may_be_missing_where_none_are_needed(tmp_path):
    folder = write_arrays(tmp_path / "arrays", y=None)
    assert not load_sample(folder, Role.UNLABELLED, num_classes=3).has_labels
    with pytest.raises(InputError, match="y\\.npy"):
        load_sample(folder, Role.TRAIN)


def test_nothing_is_given_back_of_arrays_in_memory():
    release(X[2:])


@pytest.mark.parametrize(
    ("x", "said"),
    [
        (X.astype(np.float64), "uint8 or float32"),
        (np.asfortranarray(X), "C order"),
        (np.array([{}]), "C order"),
        (np.float32(1), "C order"),
        (np.zeros((4, 8, 8, 3), np.uint8), "channels"),
        (np.zeros((0, 3), np.uint8), "header declares"),
    ],
)
def test_arrays_that_cannot_be_mapped_are_refused(tmp_path, x, said):
    folder = write_arrays(tmp_path / "arrays", x)
    with pytest.raises(InputError, match=said) as refused:
        load_sample(folder, Role.TRAIN)
    assert "x.npy" in str(refused.value)


@pytest.mark.parametrize("keep", [0, 5, 60, -1])
def test_a_truncated_array_is_refused(tmp_path, keep):
    folder = write_arrays(tmp_path / "arrays")
    content = (folder / "x.npy").read_bytes()
    (folder / "x.npy").write_bytes(content[:keep])
    with pytest.raises(InputError, match=r"x\.npy"):
        load_sample(folder, Role.TRAIN)


@pytest.mark.parametrize(
    ("x", "y", "said"),
    [
        (X[:3, :4], Y[:3], "like those of"),
        ((X[:3] * 9).astype(np.uint8), Y[:3], "like those of"),
        (X[:3], Y[:2], "3 labels"),
    ],
)
def test_a_shard_unlike_the_first_is_named(tmp_path, x, y, said):
    folder = write_shards(tmp_path / "shards", 5)
    np.savez(folder / "zzz.npz", x=x, y=y)
    with pytest.raises(InputError, match=said) as refused:
        load_sample(folder, Role.TRAIN)
    assert "zzz.npz" in str(refused.value)
