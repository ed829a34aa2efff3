"""Layouts: every tensor comes back in each of them, the bytes are frozen, the chosen one is the shortest."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bitcert.coding import ArithmeticDecoder, ArithmeticEncoder, BitReader, BitWriter, blank
from bitcert.coding.layouts import (
    COLUMNS,
    FILTERS,
    PLAIN,
    ROWS,
    UnitsInUse,
    code_layout,
    has_layout,
    tensor_code_bits,
)
from tests.reference.coding_naive import adaptive, integers

LAYOUTS = (PLAIN, ROWS, COLUMNS, FILTERS)


def pruned(shape: tuple[int, ...], rows: float, columns: float, inner: float, seed: int = 0) -> np.ndarray:
    """An integer tensor that keeps about these parts of its rows, columns and filters."""
    rng = np.random.default_rng(seed)
    values = rng.integers(-3, 4, shape)
    if len(shape) < 2:
        return values * (rng.random(shape) < inner)
    keep = (rng.random(shape[:1]) < rows)[:, None] & (rng.random(shape[1:2]) < columns)
    keep = keep & (rng.random(shape[:2]) < inner)
    return values * keep.reshape(shape[:2] + (1,) * (len(shape) - 2))


def units_after(*tensors: np.ndarray) -> UnitsInUse:
    units = UnitsInUse()
    for tensor in tensors:
        units.update(tensor)
    return units


def section(values: np.ndarray, layout: int, units: UnitsInUse) -> tuple[bytes, int]:
    encoder, writer = ArithmeticEncoder(), BitWriter()
    assert np.array_equal(code_layout(encoder, values, layout, units), values)
    writer.extend(encoder.bits())
    return writer.to_bytes(), len(writer)


def read(data: bytes, shape: tuple[int, ...], layout: int, units: UnitsInUse) -> np.ndarray:
    decoder = ArithmeticDecoder(BitReader(data))
    values = code_layout(decoder, blank(*shape), layout, units)
    decoder.finish()
    return values


SHAPES = ((7,), (1, 1), (6, 5), (4, 6, 3), (4, 6, 2, 3), (3, 2, 1, 1), (0,), (0, 4), (3, 0, 2))


@settings(max_examples=60)
@given(
    shape=st.sampled_from(SHAPES),
    layout=st.sampled_from(LAYOUTS),
    parts=st.tuples(*[st.sampled_from([0.0, 0.5, 1.0])] * 3),
    before=st.sampled_from([(), (6, 2), (3, 4), (2, 3, 2)]),
    seed=st.integers(0, 50),
)
def test_every_tensor_comes_back(shape, layout, parts, before, seed) -> None:
    units = units_after(pruned(before, 0.5, 1.0, 1.0, seed)) if before else UnitsInUse()
    values = pruned(shape, *parts, seed)
    assert has_layout(shape) == (len(shape) > 1 and values.size > 0)
    layout = layout if has_layout(shape) else PLAIN
    found = read(section(values, layout, units)[0], shape, layout, units)
    assert found.shape == shape
    np.testing.assert_array_equal(found, values)


BEFORE = np.array([[1, 0], [0, 0], [0, -2], [0, 0], [0, 0], [3, 3]])
SPARSE = np.zeros((5, 6, 2), dtype=np.int64)
SPARSE[1, 0], SPARSE[1, 5], SPARSE[4, 0] = (2, -1), (0, 1), (-3, 0)
FROZEN = {PLAIN: "29224fec9c80", ROWS: "68e0ea9c32", COLUMNS: "6898e8ead8", FILTERS: "6899b32bc3"}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_bytes_are_frozen(layout: int) -> None:
    assert section(SPARSE, layout, units_after(BEFORE))[0].hex() == FROZEN[layout]


def test_a_vector_is_coded_in_the_contexts_of_the_units_before() -> None:
    bias = np.array([4, 0, -2, 0, 0, 1])
    assert section(bias, PLAIN, units_after(BEFORE))[0].hex() == "a41840"
    assert section(bias, PLAIN, UnitsInUse())[0].hex() == "928134"


# Units in use


def test_contexts_are_the_units_of_the_latest_weights_and_biases() -> None:
    units = UnitsInUse()
    assert units.contexts(4).tolist() == [0, 0, 0, 0]
    units.update(BEFORE)
    assert units.contexts(6).tolist() == [1, 0, 1, 0, 0, 1]
    assert units.contexts(12).tolist() == [1, 1, 0, 0, 1, 1, 0, 0, 0, 0, 1, 1], "a flattened map repeats its channel"
    assert units.contexts(7).tolist() == [0] * 7
    assert units.contexts(3).tolist() == [0] * 3
    units.update(np.array([0, 0, 0, 0, 7, 0]))
    assert units.contexts(6).tolist() == [1, 0, 1, 0, 1, 1], "a unit with a bias is in use"
    units.update(np.ones(5, dtype=np.int64))
    assert units.contexts(6).tolist() == [1, 0, 1, 0, 1, 1], "a vector of another length says nothing"
    units.update(np.zeros((0, 6), dtype=np.int64))
    units.update(np.array(3))
    assert units.contexts(6).tolist() == [1, 0, 1, 0, 1, 1]
    units.update(np.array([[0, 0], [0, 5]]))
    assert units.contexts(2).tolist() == [0, 1]
    units.update(np.array([[1, 1]]))
    assert units.contexts(2).tolist() == [0, 0], "one unit is no context"


# Lengths


def naive_bits(values: np.ndarray, layout: int, contexts: np.ndarray) -> float:
    rows, columns = [], []
    for row in values:
        rows.append(bool(np.any(row)))
    for k in range(values.shape[1]):
        columns.append(bool(np.any(values[:, k])))
    used_rows = [k for k, used in enumerate(rows) if used or layout < ROWS]
    used_columns = [k for k, used in enumerate(columns) if used or layout < COLUMNS]
    filters = [(i, j) for i in used_rows for j in used_columns]
    bits = 0.0
    if layout >= ROWS:
        bits += adaptive(rows)
    if layout >= COLUMNS:
        bits += sum(adaptive([used for used, c in zip(columns, contexts, strict=True) if c == now]) for now in (0, 1))
    if layout == FILTERS:
        alive = [bool(np.any(values[place])) for place in filters]
        bits += adaptive(alive)
        filters = [place for place, one in zip(filters, alive, strict=True) if one]
    inside = np.array([values[place] for place in filters], dtype=np.int64)
    return bits + integers(inside)


@pytest.mark.parametrize(
    ("values", "best"),
    [
        (pruned((30, 20), 1.0, 1.0, 1.0), PLAIN),
        (pruned((30, 20), 0.3, 1.0, 1.0), ROWS),
        (pruned((30, 20), 0.5, 0.3, 1.0), COLUMNS),
        (pruned((12, 10, 9), 1.0, 1.0, 0.3), FILTERS),
        (pruned((12, 10, 3, 3), 0.4, 0.5, 0.4), FILTERS),
        (pruned((1, 20), 1.0, 1.0, 1.0), PLAIN),
        (SPARSE, COLUMNS),
        (pruned((10, 8, 2), 1.0, 1.0, 0.5), FILTERS),
    ],
)
@pytest.mark.parametrize("before", [(), (10, 3)])
def test_the_shortest_layout_is_chosen_by_its_ideal_length(values: np.ndarray, best: int, before) -> None:
    units = units_after(pruned(before, 0.5, 1.0, 1.0, 5)) if before else UnitsInUse()
    bits, layout = tensor_code_bits(values, units)
    blocked = values.reshape(values.shape[0], values.shape[1], -1)
    contexts = units.contexts(values.shape[1])
    lengths = [naive_bits(blocked, choice, contexts) for choice in LAYOUTS[: 3 if values.ndim < 3 else 4]]
    assert (layout, bits) == (int(np.argmin(lengths)), pytest.approx(min(lengths), abs=1e-9))
    assert layout == best
    assert abs(section(values, layout, units)[1] - bits) < 3 + 0.02 * bits


@pytest.mark.parametrize("vector", [[0, 0, 3, 0, -1, 1], [0] * 6, []])
def test_the_length_of_a_vector_counts_its_contexts_apart(vector: list[int]) -> None:
    values, units = np.array(vector, dtype=np.int64), units_after(BEFORE)
    apart = [values[units.contexts(len(values)) == c] for c in (0, 1)]
    wanted = sum(integers(part) for part in apart if part.size)
    assert tensor_code_bits(values, units) == (pytest.approx(wanted, abs=1e-12), PLAIN)
    assert tensor_code_bits(values, UnitsInUse())[0] == pytest.approx(integers(values))
