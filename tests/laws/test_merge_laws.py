"""Laws of merging: shards are a partition, merging is associative and exact, order and sharding change no number."""

import tempfile
from itertools import pairwise
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from bitcert.stability.reduction import reduce_values
from bitcert.stability.store import Shard, ShardStore, merge

NUMBERS = st.floats(-1e6, 1e6, width=32) | st.just(float("nan")) | st.just(float("inf"))


@st.composite
def partitions(draw) -> tuple[np.ndarray, list[Shard]]:
    """An array of 1..30 examples and its shards at random cuts."""
    shape = (draw(st.integers(1, 30)), draw(st.integers(0, 3)))
    array = draw(hnp.arrays(np.float32, shape, elements=NUMBERS))
    cuts = sorted(draw(st.sets(st.integers(1, len(array)), max_size=6)) - {len(array)})
    bounds = [0, *cuts, len(array)]
    shards = [Shard(a, b, {"x": array[a:b]}) for a, b in pairwise(bounds)]
    return array, shards


def same(one: Shard, other: Shard) -> bool:
    return (
        (one.start, one.stop) == (other.start, other.stop)
        and set(one.arrays) == set(other.arrays)
        and all(np.array_equal(one.arrays[name], other.arrays[name], equal_nan=True) for name in one.arrays)
    )


@given(partitions(), st.randoms(use_true_random=False))
@settings(max_examples=100, deadline=None)
def test_merging_is_exact_in_any_order(case, random):
    array, shards = case
    random.shuffle(shards)
    merged = merge(shards)
    assert same(merged, Shard(0, len(array), {"x": array}))


@given(partitions(), st.data())
@settings(max_examples=100, deadline=None)
def test_merging_is_associative(case, data):
    _, shards = case
    a, b = sorted((data.draw(st.integers(1, len(shards))), data.draw(st.integers(1, len(shards)))))
    groups = [group for group in (shards[:a], shards[a:b], shards[b:]) if group]
    left = groups[0]
    for group in groups[1:]:
        left = [merge([merge(left), merge(group)])]
    right = groups[-1]
    for group in reversed(groups[:-1]):
        right = [merge([merge(group), merge(right)])]
    assert same(merge(left), merge(shards))
    assert same(merge(right), merge(shards))


@given(partitions(), st.sampled_from([0.0, 0.1, 0.5]), st.randoms(use_true_random=False))
@settings(max_examples=100, deadline=None)
def test_no_reduced_number_depends_on_the_order_of_the_sample(case, zeta, random):
    array, _ = case
    order = list(range(len(array)))
    random.shuffle(order)
    for column in array.T:
        one, other = (reduce_values(values, "layer_cushion", zeta=zeta) for values in (column, column[order]))
        for name in ("count", "skipped", "mean", "std", "quantiles", "worst", "zeta_value", "histogram"):
            assert getattr(one, name) == getattr(other, name)
        # positions move with the examples they name
        assert {float(column[k]) for k in one.zeta_dropped} == {float(column[order[k]]) for k in other.zeta_dropped}


@given(partitions(), st.integers(1, 30))
@settings(max_examples=30, deadline=None)
def test_columns_read_from_disk_do_not_depend_on_the_sharding(case, shard_size):
    array, _ = case
    with tempfile.TemporaryDirectory() as folder:
        store = ShardStore(Path(folder), "0" * 64, len(array), shard_size)
        for start, stop in store.ranges:
            store.write(Shard(start, stop, {"x": array[start:stop]}))
        columns = list(store.columns("x"))
    assert len(columns) == array.shape[1]
    for column, expected in zip(columns, array.T, strict=True):
        np.testing.assert_array_equal(column, expected)
