"""The subspace section and the mask transform: exact against dense matrices, hostile settings, P's statistics."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bitcert.codecs.random_subspace import SubspaceMap
from bitcert.coding import step_size
from bitcert.decoder.transforms import Coefficients, Draws, Target, subspace
from bitcert.decoder.transforms.mask import Distribution, Mask, random_integers
from bitcert.decoder.transforms.normal import UNIT
from bitcert.decoder.transforms.subspace import (
    MAX_SIGNS,
    Allocation,
    Block,
    Kind,
    blocks,
    expand,
    expand_block,
    shapes,
)
from bitcert.errors import DecodeError, InputError
from tests.reference.subspace_naive import naive_mask_signs, naive_projection

DRAWS = Draws(3, "subspace")


def naive_expand(sizes, chosen, coefficients, draws):
    parts, row, column = [], 0, 0
    coordinates = coefficients[0].integers
    for block in blocks(sizes, chosen):
        part = coordinates[column : column + block.dimension]
        matrix = naive_projection(block, draws) if block.dimension else np.zeros((block.size, 0), dtype=np.int64)
        parts.append(matrix @ part)
        column += block.dimension
    vector = np.concatenate(parts)
    scales = np.concatenate(
        [np.full(n, step_size(int(e))) for n, e in zip(sizes, coefficients[1].integers, strict=True)]
    )
    assert row == 0
    return vector * (scales * coefficients[0].step)


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 70), min_size=1, max_size=4).map(tuple),
    kind=st.sampled_from(Kind),
    allocation=st.sampled_from(Allocation),
    share=st.floats(0.01, 1.0),
    seed=st.integers(0, 1000),
)
def test_expand_equals_the_dense_matrix(sizes, kind, allocation, share, seed) -> None:
    dimension = max(1, int(share * sum(sizes)))
    chosen = (int(kind), dimension, int(allocation))
    rng = np.random.default_rng(seed)
    wanted = shapes(sizes, chosen)
    coordinates = Coefficients(rng.integers(-(2**24) + 1, 2**24, wanted[0]), 3)
    scales = Coefficients(rng.integers(-20, 20, wanted[1]), -12)
    draws = Draws(seed, "subspace")
    values = expand(sizes, chosen, (coordinates, scales), draws)
    assert values.dtype == np.float64
    assert values.tobytes() == naive_expand(sizes, chosen, (coordinates, scales), draws).tobytes()


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("allocation", Allocation)
def test_the_twin_for_training_is_equal_and_has_the_transposed_gradient(kind, allocation) -> None:
    sizes, chosen = (300, 20, 7), (int(kind), 40, int(allocation))
    twin = SubspaceMap(sizes, chosen, DRAWS)
    assert (twin.dimension,) == shapes(sizes, chosen)[0]
    integers = np.random.default_rng(0).integers(-9, 10, twin.dimension)
    scales = Coefficients(np.zeros(3, dtype=np.int64), 0)
    exact = expand(sizes, chosen, (Coefficients(integers, 0), scales), DRAWS)
    w = torch.tensor(integers, dtype=torch.float32, requires_grad=True)
    vector = twin(w)
    assert np.array_equal(vector.detach().numpy().astype(np.float64), exact)
    weights = torch.from_numpy(np.random.default_rng(1).integers(-5, 6, sum(sizes)).astype(np.float32))
    gradient = torch.autograd.grad((vector * weights).sum(), w)[0].numpy()
    transposed, row = [], 0
    for block in blocks(sizes, chosen):
        part = weights.numpy()[row : row + block.size]
        transposed.append(naive_projection(block, DRAWS).T @ part if block.dimension else np.zeros(0))
        row += block.size
    assert np.array_equal(gradient, np.concatenate(transposed))


@pytest.mark.parametrize("kind", Kind)
def test_columns_are_nearly_orthogonal_and_signs_fair(kind) -> None:
    matrix = naive_projection(Block(0, 400, 30, kind), DRAWS)
    gram = matrix.T @ matrix
    diagonal = np.diag(gram)
    per_column = 400 / 30 if kind is Kind.SPARSE else 400
    assert np.all(np.abs(diagonal - per_column) <= 1)
    # 435 products of 400 fair signs: 5 deviations. Columns that share a Kronecker factor: of 20 times 20 signs.
    # Two of the first 400 rows of Hadamard columns of order 512 miss being orthogonal by at most 112.
    limit = {Kind.KRONECKER: 20 * 5 * np.sqrt(20), Kind.HADAMARD: 112}.get(kind, 5 * np.sqrt(400))
    assert np.abs(gram - np.diag(diagonal)).max() <= limit
    assert abs(matrix.sum()) <= 5 * np.sqrt(np.abs(matrix).sum() * (30 if kind is Kind.KRONECKER else 1))


def test_zero_coordinates_are_the_base() -> None:
    block = Block(0, 50, 5, Kind.DENSE)
    assert not expand_block(block, np.zeros(5, dtype=np.int64), DRAWS).any()


@given(
    sizes=st.lists(st.integers(1, 10**6), min_size=1, max_size=8).map(tuple),
    share=st.floats(0.0, 1.0),
)
@settings(deadline=None)
def test_allocation_gives_no_tensor_more_coordinates_than_entries(sizes, share) -> None:
    dimension = max(1, int(share * sum(sizes)))
    parts = blocks(sizes, (3, dimension, 1))
    assert all(0 <= part.dimension <= part.size for part in parts)
    assert sum(part.dimension for part in parts) <= dimension
    if dimension <= min(sizes):
        assert sum(part.dimension for part in parts) == dimension


@pytest.mark.parametrize(
    ("sizes", "chosen"),
    [
        ((10,), (9, 3, 0)),
        ((10,), (0, 3, 2)),
        ((10,), (0, 0, 0)),
        ((10,), (0, 11, 0)),
        ((10,), (3, 2**60, 0)),
        ((), (0, 1, 0)),
        ((2**27,), (0, MAX_SIGNS >> 26, 0)),
        ((2**32,), (2, 5, 0)),
        ((2**34,), (1, 2**24, 1)),
        ((2**40,), (3, 7, 0)),
        ((2**31,) * 8, (2, 10**6, 1)),
    ],
)
def test_hostile_settings_are_refused_before_anything_is_allocated(sizes, chosen) -> None:
    with pytest.raises(DecodeError):
        shapes(sizes, chosen)


def test_hostile_scales_are_refused() -> None:
    coordinates = Coefficients(np.ones(2, dtype=np.int64), 0)
    with pytest.raises(DecodeError, match="scale exponents"):
        expand((5,), (3, 2, 0), (coordinates, Coefficients(np.array([2**20]), 0)), DRAWS)


@pytest.mark.parametrize("largest", [-240, 240])
def test_scales_up_to_the_limit_are_steps(largest) -> None:
    coordinates = Coefficients(np.ones(2, dtype=np.int64), 0)
    values = expand((5, 5), (3, 2, 0), (coordinates, Coefficients(np.array([0, largest]), 0)), DRAWS)
    np.testing.assert_array_equal(np.abs(values), np.repeat([1.0, 2.0 ** (largest / 4)], 5))
    with pytest.raises(DecodeError, match="within ±240, got 241"):
        expand((5, 5), (3, 2, 0), (coordinates, Coefficients(np.array([0, largest + largest // 240]), 0)), DRAWS)


@pytest.mark.parametrize(("most", "rows"), [(100, [1, 1, 1, 1, 1]), (300, [2, 2, 1]), (640, [5])])
def test_dense_rows_come_in_chunks_of_as_many_as_the_memory_allows(most, rows, monkeypatch) -> None:
    monkeypatch.setattr(subspace, "_BLOCK_SIGNS", most)
    block = Block(0, 5, 70, Kind.DENSE)
    chunks = list(subspace.dense_rows(block, DRAWS))
    assert [chunk.shape for chunk in chunks] == [(count, 70) for count in rows]
    assert np.array_equal(np.concatenate(chunks), naive_projection(block, DRAWS))


def test_a_single_tensor_has_all_the_coordinates() -> None:
    assert [part.dimension for part in blocks((1 << 24,), (3, 1 << 24, 1))] == [1 << 24]


def test_a_subspace_that_takes_too_long_is_named() -> None:
    with pytest.raises(DecodeError, match="operations to decode the subspace, got"):
        shapes((2**40,), (3, 7, 0))


def test_a_dense_subspace_too_large_to_train_is_refused() -> None:
    with pytest.raises(InputError, match="another kind"):
        SubspaceMap((2**20,), (0, 1000, 0), DRAWS)


def test_mask_is_the_masked_random_tensor() -> None:
    target = Target("w", (3, 5, 7), "weight")
    mask = np.random.default_rng(0).integers(-1, 2, target.shape)
    for distribution in Distribution:
        random = random_integers(target, distribution, DRAWS)
        values = Mask().expand(target, (int(distribution),), (Coefficients(mask, -8),), DRAWS)
        unit = 1.0 if distribution is Distribution.SIGNS else UNIT
        assert np.array_equal(values, mask * random * unit * 0.25)
    signs = random_integers(target, Distribution.SIGNS, DRAWS)
    assert np.array_equal(signs, naive_mask_signs(target, DRAWS))


def test_mask_refuses_other_distributions() -> None:
    target = Target("w", (3,), "weight")
    assert Mask().shapes(target, (1,)) == ((3,),)
    with pytest.raises(DecodeError, match="distribution 2"):
        Mask().shapes(target, (2,))
