"""Samples: what is refused, what the hashes depend on, and which pairs are no independent draws."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitcert.data import Role, Sample, check_apart, count_shared_examples
from bitcert.data import sample as sample_module
from bitcert.data.apart import of_one_type
from bitcert.errors import InputError, SampleReuseError


def make(n=6, role=Role.TRAIN, seed=0, name="toy", dtype=np.uint8):
    inputs = np.random.default_rng(seed).integers(0, 256, (n, 1, 4, 4)).astype(dtype)
    return Sample(inputs, np.arange(n) % 3, 3, role, name)


def refuse(match, inputs, labels, num_classes=2, role=Role.TRAIN):
    with pytest.raises(InputError, match=match) as caught:
        Sample(inputs, labels, num_classes, role, "bad set")
    text = str(caught.value)
    assert "\n" not in text
    assert "'bad set'" in text


X = np.zeros((3, 2), np.float32)
Y = np.array([0, 1, 0])


def test_fields_and_properties():
    sample = make(6)
    assert len(sample) == 6
    assert sample.input_shape == (1, 4, 4)
    assert sample.labels.dtype == np.int64
    assert sample.has_labels
    assert sample.role is Role.TRAIN
    assert repr(sample) == "Sample('toy', train, 6 of 1x4x4 uint8, 3 classes)"


def test_role_is_a_string_and_unknown_roles_suggest():
    assert Role("prior") is Role.PRIOR
    assert Role.HOLDOUT == "holdout"
    with pytest.raises(InputError, match="did you mean 'train'"):
        Role("trian")


@pytest.mark.parametrize(
    ("match", "inputs", "labels"),
    [
        ("empty set", np.zeros((0, 2), np.float32), np.zeros(0, int)),
        ("empty set", [], []),
        ("empty set", np.zeros((3, 0), np.float32), Y),
        ("shape \\[n, ...\\]", np.zeros(3, np.float32), Y),
        ("shape \\[2\\] for 3 inputs", X, Y[:2]),
        ("shape \\[3, 1\\] for 3 inputs", X, Y[:, None]),
        ("for 3 inputs", X, None),
        ("label 2 at index 1", X, np.array([0, 2, 1])),
        ("label -1 at index 2", X, np.array([0, 1, -1])),
        ("integer labels.*float64", X, np.array([0.0, 1.0, 0.0])),
        ("integer labels.*bool", X, np.array([True, False, True])),
        ("integer labels.*<U1", X, np.array(["a", "b", "a"])),
        ("fit 64 bits", X, np.array([0, 1, 2**64 - 1], np.uint64)),
        ("at least two classes.*label 1 on all 3", X, np.array([1, 1, 1])),
        ("finite.*nan in example 1", np.array([[0, 1], [np.nan, 1], [0, 0]], np.float32), Y),
        ("finite.*-inf in example 2", np.array([[0, 1], [0, 1], [0, -np.inf]], np.float32), Y),
        ("finite.*inf in example 0", np.array([[1e300, 1], [0, 1], [0, 0]]), Y),
        ("integers or float32.*bool", np.zeros((3, 2), bool), Y),
        ("integers or float32.*complex", np.zeros((3, 2), np.complex64), Y),
        ("at most 16,777,216.*16,777,217", np.full((3, 2), 2**24 + 1), Y),
        ("at most 16,777,216.*9,223,372", np.full((3, 2), np.iinfo(np.int64).min), Y),
        ("one array", [[1, 2], [3]], Y),
    ],
)
def test_refusals(match, inputs, labels):
    refuse(match, inputs, labels)


@pytest.mark.parametrize("classes", [0, 1, -3, 2.0, True, None])
def test_refuses_number_of_classes(classes):
    refuse("at least 2 classes", X, Y, num_classes=classes)


def test_nan_is_found_beyond_the_first_chunk(monkeypatch):
    monkeypatch.setattr(sample_module, "CHUNK_BYTES", 64)
    inputs = np.zeros((100, 5), np.float32)
    inputs[77, 3] = np.nan
    refuse("nan in example 77", inputs, np.arange(100) % 2)


def test_float64_is_rounded_to_float32_and_foreign_byte_order_is_read():
    values = np.random.default_rng(0).normal(size=(3, 2))
    sample = Sample(values, Y, 2, Role.TRAIN, "wide")
    assert sample.inputs.dtype == np.float32
    swapped = Sample(values.astype(">f4"), Y.astype(">i2"), 2, Role.TRAIN, "swapped")
    assert swapped.inputs.dtype == np.float32
    assert swapped.content_hash == sample.content_hash


def test_number_of_classes_is_inferred_from_the_labels():
    assert Sample.from_arrays(X, np.array([0, 4, 1], np.uint8), Role.TRAIN, "t").num_classes == 5
    assert Sample.from_arrays(X, Y, Role.TRAIN, "t", 7).num_classes == 7
    with pytest.raises(InputError, match="pass num_classes"):
        Sample.from_arrays(X, None, Role.UNLABELLED, "t")
    with pytest.raises(InputError, match="at least two classes"):
        Sample.from_arrays(X, np.zeros(3, int), Role.TRAIN, "t")
    with pytest.raises(InputError, match="at most 1048576 classes"):
        Sample.from_arrays(X, np.array([0, 1, 10**9]), Role.TRAIN, "t")
    with pytest.raises(InputError, match="integer labels"):
        Sample.from_arrays(X, np.array([0.5, 1, 0]), Role.TRAIN, "t")
    with pytest.raises(InputError, match="empty set"):
        Sample.from_arrays([], [], Role.TRAIN, "t")


@pytest.mark.parametrize("labels", [None, np.zeros(0), Y])
def test_unlabelled_may_lack_labels(labels):
    sample = Sample(X, labels, 2, Role.UNLABELLED, "u")
    assert sample.has_labels == (labels is Y)
    assert [len(x) for x, _ in sample.batches(2)] == [2, 1]
    if labels is not Y:
        with pytest.raises(InputError, match="one label for every input"):
            sample.with_role(Role.TRAIN)


def test_arrays_are_read_only_and_callers_keep_theirs():
    inputs = X.copy()
    sample = Sample(inputs, Y, 2, Role.TRAIN, "t")
    with pytest.raises(ValueError, match="read-only"):
        sample.inputs[0] = 1
    assert inputs.flags.writeable


def test_batches_are_views_in_order():
    sample = make(7)
    batches = list(sample.batches(3))
    assert [len(y) for _, y in batches] == [3, 3, 1]
    assert np.array_equal(np.concatenate([x for x, _ in batches]), sample.inputs)
    assert np.array_equal(np.concatenate([y for _, y in batches]), sample.labels)
    assert all(np.shares_memory(x, sample.inputs) for x, _ in batches)
    with pytest.raises(InputError, match="batch size"):
        next(sample.batches(0))


def test_take_selects_and_refuses():
    sample = make(9)
    part = sample.take(slice(2, 5))
    assert np.array_equal(part.inputs, sample.inputs[2:5])
    assert np.shares_memory(part.inputs, sample.inputs)
    assert (part.num_classes, part.role, part.name) == (3, Role.TRAIN, "toy[part]")
    chosen = sample.take([8, 0], "chosen")
    assert np.array_equal(chosen.labels, sample.labels[[8, 0]])
    assert chosen.name == "chosen"
    assert len(sample.take(sample.labels > 0)) == 6
    for bad, match in (
        (slice(0, 0), "empty set"),
        ([], "empty set"),
        ([9], "indices into the 9"),
        ([0, 3], "two classes"),
    ):
        with pytest.raises(InputError, match=match):
            sample.take(bad)


def test_content_hash_is_the_documented_bytes():
    inputs = np.array([[1.5, -2.0], [0.25, 3.0]], np.float32)
    sample = Sample(inputs, np.array([1, 0]), 2, Role.TRAIN, "t")
    written = b"bitcert sample 1\ninputs float32 2 2\n" + inputs.astype("<f4").tobytes()
    written += b"labels int64 2\n" + np.array([1, 0], "<i8").tobytes()
    assert sample.content_hash == hashlib.sha256(written).hexdigest()


def test_hash_ignores_role_name_classes_layout_and_chunks(monkeypatch):
    sample = make(8)
    other = Sample(np.asfortranarray(sample.inputs), sample.labels.astype(np.uint8), 9, Role.PRIOR, "other")
    assert other.content_hash == sample.content_hash
    assert np.array_equal(other.example_hashes, sample.example_hashes)
    monkeypatch.setattr(sample_module, "CHUNK_BYTES", 20)
    assert make(8).content_hash == sample.content_hash
    assert sample.with_role(Role.HOLDOUT).content_hash == sample.content_hash


def test_role_change_that_keeps_hashes_really_keeps_the_data():
    sample = make(8)
    before = sample.content_hash
    assert sample.take(slice(0, 8)).with_role(Role.PRIOR).content_hash == before
    assert sample.take(slice(0, 7)).with_role(Role.PRIOR).content_hash != before


@given(st.integers(0, 5 * 16 - 1), st.integers(1, 255))
def test_hash_changes_with_any_pixel(position, change):
    sample = make(5)
    inputs = sample.inputs.copy()
    inputs.reshape(-1)[position] ^= np.uint8(change)
    changed = Sample(inputs, sample.labels, 3, Role.TRAIN, "toy")
    assert changed.content_hash != sample.content_hash
    assert changed.examples_hash != sample.examples_hash
    assert np.flatnonzero(changed.example_hashes != sample.example_hashes).tolist() == [position // 16]


@given(st.integers(0, 4), st.integers(1, 2))
def test_hash_changes_with_any_label(position, change):
    sample = make(5)
    labels = sample.labels.copy()
    labels[position] = (labels[position] + change) % 3
    changed = Sample(sample.inputs, labels, 3, Role.TRAIN, "toy")
    assert changed.content_hash != sample.content_hash
    assert changed.examples_hash == sample.examples_hash


def test_the_hash_of_the_examples_is_of_a_set_of_numbers():
    sample = make(12)
    again = sample.take([3, 1, 2, 0, *range(4, 12), 5, 5])
    floats = replace(sample, inputs=sample.inputs.astype(np.float32))
    assert {each.examples_hash for each in (sample, again, floats)} == {sample.examples_hash}
    assert sample.take(slice(0, 11)).examples_hash != sample.examples_hash
    zeros = np.zeros((2, 3), np.float32)
    zeros[1] = 1
    signed = np.where(zeros == 0, np.float32(-0.0), zeros)
    one, other = (Sample(x, np.array([0, 1]), 2, Role.TRAIN, "zeros") for x in (zeros, signed))
    assert one.examples_hash == other.examples_hash
    with pytest.raises(SampleReuseError, match="2 of the 2"):
        check_apart(one, other)


def test_hash_changes_with_shape_dtype_and_order():
    sample = make(6)
    hashes = {
        sample.content_hash,
        Sample(sample.inputs.reshape(6, 16), sample.labels, 3, Role.TRAIN, "t").content_hash,
        Sample(sample.inputs.astype(np.float32), sample.labels, 3, Role.TRAIN, "t").content_hash,
        sample.take([1, 0, 2, 3, 4, 5]).content_hash,
        sample.take(slice(0, 5)).content_hash,
    }
    assert len(hashes) == 5


def test_shared_examples_match_a_naive_count():
    a, b = make(30, seed=1), make(20, seed=2)
    mixed = Sample(np.concatenate([b.inputs, a.inputs[[3, 3, 7]]]), np.arange(23) % 3, 3, Role.HOLDOUT, "mixed")
    for left, right in ((a, mixed), (mixed, a), (a, b)):
        rows = {row.tobytes() for row in right.inputs}
        assert count_shared_examples(left, right) == sum(row.tobytes() in rows for row in left.inputs)
    assert count_shared_examples(mixed, a) == 3


@pytest.mark.parametrize("first", list(Role))
@pytest.mark.parametrize("second", list(Role))
def test_one_sample_twice_is_refused_whatever_the_roles(first, second):
    a, b = make(6, first, name="one"), make(6, second, name="two")
    with pytest.raises(SampleReuseError, match="6 of the 6 examples of 'one' inside 'two'"):
        check_apart(make(9, first, seed=5), a, b)


def test_training_inputs_without_labels_are_recognised():
    train = make(6)
    stripped = Sample(train.inputs, None, 3, Role.UNLABELLED, "stripped")
    with pytest.raises(SampleReuseError, match="train, unlabelled"):
        check_apart(train, stripped)


def test_a_subset_in_another_role_is_refused_in_either_order():
    train = make(400)
    prior = train.take(slice(0, 200)).with_role(Role.PRIOR)
    for pair in ((train, prior), (prior, train)):
        with pytest.raises(SampleReuseError, match="200 of the 200 examples of 'toy\\[part\\]' inside 'toy'"):
            check_apart(*pair)
    check_apart(train.take(slice(200, 400)), prior)


def test_one_shared_example_is_refused_whatever_the_sizes():
    train, other = make(400, seed=1), make(49, seed=2)
    check_apart(train, other.with_role(Role.HOLDOUT))
    inputs = np.concatenate([other.inputs, train.inputs[:1]])
    with pytest.raises(SampleReuseError, match="1 of the 50 examples"):
        check_apart(train, Sample(inputs, np.arange(50) % 3, 3, Role.HOLDOUT, "almost"))


def test_as_many_shared_examples_as_the_sample_itself_repeats_are_no_copies():
    """Independent draws of a table with few distinct rows share rows; copies beside them are more than that."""
    rng = np.random.default_rng(0)
    for seed in range(20):
        rows = np.random.default_rng(seed).normal(size=(300, 4)).astype(np.float32)
        drawn = rng.choice(300, 400, p=np.arange(300, 0, -1) / sum(range(301)))
        fresh = rng.normal(size=(800, 4)).astype(np.float32)
        mixed = np.where((rng.random(800) < 0.4)[:, None], rows[rng.choice(drawn, 800)], fresh)
        train = Sample(mixed[:600], np.arange(600) % 2, 2, Role.TRAIN, "table")
        held = Sample(mixed[600:], np.arange(200) % 2, 2, Role.HOLDOUT, "held")
        assert count_shared_examples(held, train) > 20
        check_apart(train, held, repeats=True)
        with pytest.raises(SampleReuseError, match="no example"):
            check_apart(train, held)
        copied = np.concatenate([mixed[600:], mixed[:300]])
        with pytest.raises(SampleReuseError, match="as by chance"):
            check_apart(train, Sample(copied, np.arange(500) % 2, 2, Role.HOLDOUT, "copied"), repeats=True)


def sharing(rows: int, repeated: int, size: int, shared: int) -> tuple[Sample, Sample]:
    """A table of which so many rows occur twice, and another sample with so many rows of it."""
    column = np.arange(rows)
    column[:repeated] //= 2
    own = np.concatenate([np.arange(rows - shared, rows), -1 - np.arange(size - shared)])
    made = [np.stack([each, each], 1).astype(np.float32) for each in (column, own)]
    return (
        Sample(made[0], np.arange(rows) % 2, 2, Role.TRAIN, "table"),
        Sample(made[1], np.arange(size) % 2, 2, Role.UNLABELLED, "new"),
    )


def test_how_many_shared_examples_are_likely():
    """Half of 200 rows, and four deviations of ``sqrt(100 (1 + 200 / 400))``: 148.99."""
    check_apart(*sharing(400, 200, 200, 148), repeats=True)
    with pytest.raises(SampleReuseError, match=r"^expected at most about 100 examples, as by chance, in two samples"):
        check_apart(*sharing(400, 200, 200, 149), repeats=True)
    with pytest.raises(SampleReuseError, match=r"^expected at most about 1 examples, as by chance, in two samples"):
        check_apart(*sharing(16, 2, 8, 6), repeats=True)
    with pytest.raises(SampleReuseError, match=r"^expected no example in two samples \(train, unlabelled\)"):
        check_apart(*sharing(16, 2, 8, 6))


def test_a_sample_of_another_shape_does_not_hide_the_others():
    odd = Sample(np.zeros((2, 5), np.float32), np.arange(2), 2, Role.HOLDOUT, "another shape")
    with pytest.raises(SampleReuseError):
        check_apart(odd, *sharing(16, 0, 8, 6))


def test_samples_of_one_type_are_compared_as_they_are():
    """Bytes are not copied as floats of four times the size."""
    one, other = make(6), make(5, Role.HOLDOUT)
    assert all(a is b for a, b in zip(of_one_type(one, other), (one, other), strict=True))


def test_a_hold_out_that_is_half_training_examples_is_refused():
    train, other = make(1000, seed=1), make(25, seed=2)
    inputs = np.concatenate([other.inputs, train.inputs[:25]])
    with pytest.raises(SampleReuseError, match="25 of the 50 examples"):
        check_apart(train, Sample(inputs, np.arange(50) % 3, 3, Role.HOLDOUT, "half"))


def test_equal_numbers_of_another_type_are_equal_examples():
    pixels = np.random.default_rng(0).integers(0, 256, (20, 6)).astype(np.uint8)
    train = Sample(pixels, np.arange(20) % 2, 2, Role.TRAIN, "bytes")
    held = Sample(pixels[7:9].astype(np.float32), np.arange(2), 2, Role.HOLDOUT, "floats")
    with pytest.raises(SampleReuseError, match="2 of the 2"):
        check_apart(train, held)
    check_apart(train, Sample(np.zeros((2, 5), np.float32), np.arange(2), 2, Role.HOLDOUT, "another shape"))


@pytest.mark.parametrize("kind", [np.int8, np.int16, np.uint16, np.int32, np.int64, np.uint64])
def test_integers_are_tokens_whatever_their_type(kind):
    tokens = np.array([[0, 100], [3, 9], [120, 1]])
    sample = Sample(tokens.astype(kind), Y, 2, Role.TRAIN, "tokens")
    assert sample.inputs.dtype == np.int32
    assert np.array_equal(sample.inputs, tokens)
    assert sample.content_hash == Sample(tokens, Y, 2, Role.TRAIN, "tokens").content_hash
    assert sample.content_hash != Sample(tokens.astype(np.float32), Y, 2, Role.TRAIN, "numbers").content_hash
    assert sample.examples_hash == sample.as_floats().examples_hash


def test_halves_become_floats():
    halves = np.array([[0.5, 1.0], [2.0, 3.0], [0.1, 9.0]], np.float16)
    assert np.array_equal(Sample(halves, Y, 2, Role.TRAIN, "halves").inputs, halves.astype(np.float32))
