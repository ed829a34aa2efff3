"""Laws of merging: the order of the sample and its sharding change no number."""

import tempfile
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from bitcert.stability.reduction import reduce_values
from bitcert.stability.store import ShardStore

NUMBERS = st.floats(-1e6, 1e6, width=32) | st.just(float("nan")) | st.just(float("inf"))


@st.composite
def samples(draw) -> np.ndarray:
    """A quantity of 1..30 examples."""
    shape = (draw(st.integers(1, 30)), draw(st.integers(0, 3)))
    return draw(hnp.arrays(np.float32, shape, elements=NUMBERS))


@given(samples(), st.sampled_from([0.0, 0.1, 0.5]), st.randoms(use_true_random=False))
@settings(max_examples=100, deadline=None)
def test_no_reduced_number_depends_on_the_order_of_the_sample(array, zeta, random):
    order = list(range(len(array)))
    random.shuffle(order)
    for column in array.T:
        one, other = (reduce_values(values, "layer_cushion", zeta=zeta) for values in (column, column[order]))
        for name in ("count", "skipped", "mean", "std", "quantiles", "worst", "zeta_value", "histogram"):
            assert getattr(one, name) == getattr(other, name)
        # positions move with the examples they name
        assert {float(column[k]) for k in one.zeta_dropped} == {float(column[order[k]]) for k in other.zeta_dropped}


@given(samples(), st.integers(1, 30))
@settings(max_examples=30, deadline=None)
def test_columns_read_from_disk_do_not_depend_on_the_sharding(array, shard_size):
    with tempfile.TemporaryDirectory() as folder:
        store = ShardStore(Path(folder), "0" * 64, len(array), shard_size)
        for start, stop in store.ranges:
            store.write(start, stop, {"x": array[start:stop]})
        columns, whole = list(store.columns("x")), store.array("x")
    np.testing.assert_array_equal(whole, array)
    assert len(columns) == array.shape[1]
    for column, expected in zip(columns, array.T, strict=True):
        np.testing.assert_array_equal(column, expected)
