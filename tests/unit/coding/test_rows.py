"""The row code: any matrix comes back, unused rows are cheap, lengths and prices agree."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bitcert.coding import MAX_MAGNITUDE, MessageReader, MessageWriter, RowModel, row_code_bits, row_prices
from bitcert.errors import DecodeError


def model_of(sizes: tuple[int, ...], columns: int, always: int = 1) -> RowModel:
    groups = np.repeat(np.arange(len(sizes), dtype=np.intp), sizes)
    return RowModel(np.append(groups, np.full(always, -1, dtype=np.intp)), columns)


def sparse(model: RowModel, share: float, seed: int, size: int = 4) -> np.ndarray:
    rng = np.random.default_rng(seed)
    values = rng.integers(-size, size + 1, (len(model.groups), model.columns))
    return values * (rng.random(len(values)) < share)[:, None] * (rng.random(values.shape) < 0.6)


def written(matrix: np.ndarray, model: RowModel) -> tuple[bytes, int]:
    writer = MessageWriter(9)
    writer.rows("rows", matrix, model)
    data, ledger = writer.finish()
    assert ledger.total_bits == 8 * len(data)
    return data, dict(ledger.sections)["rows"]


def read(data: bytes, model: RowModel) -> np.ndarray:
    reader = MessageReader(data)
    matrix = reader.rows("rows", model)
    reader.finish()
    return matrix


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=4),
    columns=st.integers(1, 7),
    always=st.integers(0, 2),
    share=st.sampled_from([0.0, 0.05, 0.5, 1.0]),
    size=st.sampled_from([1, 4, 40, MAX_MAGNITUDE]),
    seed=st.integers(0, 99),
)
def test_any_matrix_comes_back(sizes: list[int], columns: int, always: int, share: float, size: int, seed: int) -> None:
    model = model_of(tuple(sizes), columns, always)
    matrix = sparse(model, share, seed, size)
    np.testing.assert_array_equal(read(written(matrix, model)[0], model), matrix)


@pytest.mark.parametrize("share", [0.0, 0.05, 0.3])
def test_the_ideal_length_is_near_the_written_one(share: float) -> None:
    model = model_of((400, 150, 20), 10)
    matrix = sparse(model, share, 1)
    _, bits = written(matrix, model)
    assert abs(bits - row_code_bits(matrix, model)) < 8 + 0.03 * bits


def test_a_dictionary_twice_as_large_costs_about_one_bit_for_each_used_row() -> None:
    small, large = model_of((500,), 10), model_of((1000,), 10)
    matrix = sparse(small, 0.08, 2)
    wide = np.concatenate([np.zeros((500, 10), dtype=np.int64), matrix])
    used = int((matrix[:-1] != 0).any(1).sum())
    more = written(wide, large)[1] - written(matrix, small)[1]
    assert 0.5 * used < more < 1.5 * used + 8


def test_groups_that_nobody_uses_cost_little() -> None:
    one, three = model_of((200,), 5), model_of((200, 400, 400), 5)
    matrix = sparse(one, 0.3, 3)
    wide = np.concatenate([matrix[:-1], np.zeros((800, 5), dtype=np.int64), matrix[-1:]])
    assert written(wide, three)[1] - written(matrix, one)[1] < 70


def test_prices_tell_what_a_change_costs() -> None:
    model = model_of((300, 300), 10)
    matrix = sparse(model, 0.1, 4)
    prices = row_prices(matrix, model)
    rows = np.flatnonzero((matrix != 0).any(1))[:1]
    without = matrix.copy()
    without[rows] = 0
    saved = prices.of(rows, matrix[rows], model) - prices.of(rows, without[rows], model)
    true = row_code_bits(matrix, model) - row_code_bits(without, model)
    assert abs(float(saved[0]) - true) < 3
    assert prices.of(np.array([600]), np.zeros((1, 10), dtype=np.int64), model) > 0, "a constant row has no empty price"


def test_every_cut_and_flipped_message_is_refused_or_another_matrix() -> None:
    model = model_of((30, 10), 4)
    matrix = sparse(model, 0.3, 5)
    data, _ = written(matrix, model)
    for length in range(len(data)):
        with pytest.raises(DecodeError):
            read(data[:length], model)
    for bit in range(8, 8 * len(data)):  # the header tells the family, not the matrix
        changed = bytearray(data)
        changed[bit >> 3] ^= 0x80 >> (bit & 7)
        try:
            other = read(bytes(changed), model)
        except DecodeError:
            continue
        assert not np.array_equal(other, matrix)
        assert written(other, model)[0] == bytes(changed)


def test_too_large_a_weight_is_refused() -> None:
    model = model_of((3,), 2, 0)
    with pytest.raises(ValueError, match="not coded"):
        written(np.full((3, 2), MAX_MAGNITUDE + 1), model)
