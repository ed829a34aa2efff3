"""The row code: any matrix comes back, unused rows are cheap, lengths and prices agree."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bitcert.coding import (
    MAX_MAGNITUDE,
    UNARY_MAGNITUDES,
    MessageReader,
    MessageWriter,
    RowModel,
    RowPrices,
    row_code_bits,
    row_prices,
)
from bitcert.errors import DecodeError
from tests.reference.coding_naive import adaptive, nonzero


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


def naive_code_bits(matrix: np.ndarray, model: RowModel) -> float:
    """Row by row and flag by flag, from the module's description."""
    rows = [row for row, group in zip(matrix, model.groups, strict=True) if group >= 0]
    groups = [group for group in model.groups if group >= 0]
    used = [bool(row.any()) for row in rows]
    p = (sum(used) + 1) / (len(rows) + 16)
    bits = math.log2(1 + len(rows) / 16) / 2
    for group in set(groups):
        inside = [flag for flag, own in zip(used, groups, strict=True) if own == group]
        bits += adaptive(inside, (16 * (1 - p), 16 * p))
    present = np.array([row != 0 for row, flag in zip(rows, used, strict=True) if flag]).reshape(-1, model.columns)
    last = [row[-1] for row in present if row[:-1].any()]
    always = matrix[model.groups < 0] != 0
    alive = matrix[matrix != 0]
    return bits + adaptive(present[:, :-1]) + adaptive(last) + adaptive(always) + nonzero(alive)


MODELS = (((9, 5, 3), 4, 1), ((20,), 1, 0), ((6, 6), 3, 2))


@pytest.mark.parametrize(("sizes", "columns", "always"), MODELS)
@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_the_ideal_length_is_the_sum_over_all_flags(sizes, columns, always, share) -> None:
    model = model_of(sizes, columns, always)
    matrix = sparse(model, share, 6, 20).clip(-UNARY_MAGNITUDES, UNARY_MAGNITUDES)
    assert row_code_bits(matrix, model) == pytest.approx(naive_code_bits(matrix, model), abs=1e-9)


@pytest.mark.parametrize(("sizes", "columns", "always"), MODELS)
@pytest.mark.parametrize("share", [0.0, 0.4])
def test_prices_are_the_chances_of_the_description(sizes, columns, always, share) -> None:
    model = model_of(sizes, columns, always)
    matrix = sparse(model, share, 7, 2)
    prices = row_prices(matrix, model)
    optional, used = model.groups >= 0, (matrix != 0).any(1)
    p = (used[optional].sum() + 1) / (optional.sum() + 16)
    for row, group in enumerate(model.groups):
        own = model.groups == group
        chance = (used[own].sum() + 16 * p) / (own.sum() + 16)
        wanted = (-math.log2(chance), -math.log2(1 - chance)) if group >= 0 else (0.0, 0.0)
        assert (prices.used[row], prices.unused[row]) == pytest.approx(wanted)
    inside, alive = matrix[optional & used], matrix[matrix != 0]
    dense = ((inside != 0).sum() + 2) / (inside.size + 5)
    assert len(prices.entries) == 2 * UNARY_MAGNITUDES + 1
    assert prices.entries[UNARY_MAGNITUDES] == pytest.approx(-math.log2(1 - dense))
    for entry in (-3, -2, -1, 1, 2, 3, UNARY_MAGNITUDES):
        sign = ((alive * entry > 0).sum() + 0.5) / (len(alive) + 1)
        bits = -math.log2(dense) - math.log2(sign)
        for level in range(1, abs(entry) + 1):
            reached, above = (np.abs(alive) >= level).sum(), (np.abs(alive) > level).sum()
            count = reached - above if level == abs(entry) else above
            bits -= math.log2((count + 0.5) / (reached + 1)) if level < UNARY_MAGNITUDES + 1 else 0
        assert prices.entries[entry + UNARY_MAGNITUDES] == pytest.approx(bits), entry


def test_a_last_group_without_used_rows_has_a_price() -> None:
    model = model_of((2, 3), 2, 0)
    prices = row_prices(np.array([[1, 0], [0, 2], [0, 0], [0, 0], [0, 0]]), model)
    p = (2 + 1) / (5 + 16)
    chances = [*[(2 + 16 * p) / (2 + 16)] * 2, *[16 * p / (3 + 16)] * 3]
    assert prices.used == pytest.approx([-math.log2(chance) for chance in chances])


def test_the_price_of_rows_adds_their_entries() -> None:
    model = model_of((3, 2), 2, 1)
    prices = RowPrices(np.arange(6.0), 10 + np.arange(6.0), np.array([0.5, 0.25, 0.125, 2.0, 4.0]))
    rows = np.array([1, 4, 5, 5])
    values = np.array([[-2, 1], [0, 0], [0, 0], [2, -1]])
    assert prices.of(rows, values, model).tolist() == [1 + 0.5 + 2.0, 14.0, 5 + 0.25, 5 + 4.0 + 0.25]


def test_the_bytes_are_frozen() -> None:
    model = model_of((4, 3, 2), 3, 2)
    matrix = np.zeros((11, 3), dtype=np.int64)
    matrix[1], matrix[2], matrix[5], matrix[7], matrix[9], matrix[10] = (
        (0, 0, 4),
        (1, -1, 0),
        (20, 0, 0),
        (0, 3, -2),
        (0, 5, 0),
        (-1, 0, 0),
    )
    assert written(matrix, model)[0].hex() == "89ef38e25409b5d857a37610"


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
