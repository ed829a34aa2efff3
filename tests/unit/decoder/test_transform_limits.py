"""Settings at the limits: what a transform takes at most, what it refuses, and what it says its expansion costs."""

from __future__ import annotations

import pytest

from bitcert.decoder.transforms import TRANSFORMS, filter_projection, hadamard, signs
from bitcert.decoder.transforms.base import MAX_EXPANSION, Target
from bitcert.decoder.transforms.filter_projection import FilterProjection
from bitcert.decoder.transforms.hadamard import Hadamard
from bitcert.decoder.transforms.heavy_tail import HeavyTail
from bitcert.decoder.transforms.mask import Mask
from bitcert.decoder.transforms.signs import AVERAGE, LEAST_SQUARES, Signs, edge_ratio, num_lookups, num_steps, solvable
from bitcert.decoder.transforms.sketch import Sketch
from bitcert.decoder.transforms.subspace import Block, Kind, blocks, operations, shapes
from bitcert.errors import DecodeError


def vector(size: int) -> Target:
    return Target("w", (size,), "weight")


def filters(*shape: int, positions: tuple[int, int]) -> Target:
    return Target("w", shape, "weight", positions)


def test_names_numbers_and_settings_of_all_transforms():
    told = {number: (each.name, each.num_settings, each.local) for number, each in TRANSFORMS.items()}
    assert told == {
        1: ("identity", 0, False),
        2: ("none", 0, False),
        5: ("signs", 2, False),
        6: ("hadamard", 2, False),
        7: ("filter projection", 2, True),
        8: ("factors", 1, False),
        9: ("separator", 0, False),
        10: ("separator projection", 1, False),
        11: ("sketch", 4, False),
        12: ("mask", 1, False),
        13: ("heavy tail", 1, False),
    }


@pytest.mark.parametrize(
    ("transform", "target", "settings", "beyond"),
    [
        (Signs(), vector(1), (1 << 20, AVERAGE), ((1 << 20) + 1, AVERAGE)),
        (Signs(), vector(9), (1, AVERAGE), (0, AVERAGE)),
        (Signs(), vector(9), (1, LEAST_SQUARES), (1, LEAST_SQUARES + 1)),
        (Signs(), vector(9), (3, LEAST_SQUARES), (4, LEAST_SQUARES)),
        (Hadamard(), vector(9), (1 << 26, AVERAGE), ((1 << 26) + 1, AVERAGE)),
        (Hadamard(), vector(9), (1, AVERAGE), (0, AVERAGE)),
        (Hadamard(), vector(9), (16, LEAST_SQUARES), (17, LEAST_SQUARES)),
        (Hadamard(), vector(9), (17, AVERAGE), (17, LEAST_SQUARES)),
        (Hadamard(), vector(9), (1, LEAST_SQUARES), (1, LEAST_SQUARES + 1)),
        (FilterProjection(), filters(2, 3, 3, 3, positions=(2, 2)), (16, 4), (13, 5)),
        (FilterProjection(), filters(2, 3, 3, 3, positions=(2, 2)), (1, 1), (0, 1)),
        (FilterProjection(), filters(2, 3, 3, 3, positions=(2, 2)), (1, 1), (1, 0)),
        (FilterProjection(), filters(2, 1, 1, 1, positions=(1, 1)), (1, 2), (3, 1)),
    ],
)
def test_settings_at_the_limit_are_taken_and_those_beyond_refused(transform, target, settings, beyond):
    assert transform.shapes(target, settings) == ((settings[0] * (settings[1] if transform.local else 1),),)
    with pytest.raises(DecodeError):
        transform.shapes(target, beyond)


@pytest.mark.parametrize("transform", [Signs(), Hadamard()])
def test_tensors_of_one_to_2_to_the_24_entries_are_projected(transform):
    for size in (1, 1 << 24):
        assert transform.shapes(vector(size), (1, AVERAGE)) == ((1,),)
    for size in (0, (1 << 24) + 1):
        with pytest.raises(DecodeError):
            transform.shapes(vector(size), (1, AVERAGE))
    assert hadamard.MAX_SIZE == signs.MAX_SIZE == 1 << 24


def test_filters_of_all_positions_together_are_limited():
    most = filters(8, 8, 1, 1, positions=(1 << 10, 1 << 9))
    assert FilterProjection().shapes(most, (1, 1)) == ((1,),)
    for target in (filters(8, 8, 1, 1, positions=((1 << 10) + 1, 1 << 9)), filters(0, 8, 1, 1, positions=(4, 4))):
        with pytest.raises(DecodeError, match="entries of filters"):
            FilterProjection().shapes(target, (1, 1))
    one = filters(1, 1, 1, 1, positions=(1, 1))
    assert FilterProjection().shapes(one, (1, 1)) == ((1,),)
    assert filter_projection.MAX_LOCAL_ENTRIES == 1 << 25


def test_a_subspace_of_filters_has_at_most_2_to_the_16_dimensions():
    large = filters(1 << 17, 1, 1, 1, positions=(1, 1))
    assert FilterProjection().shapes(large, (1, 1 << 16)) == ((1 << 16,),)
    with pytest.raises(DecodeError, match="1 to 65,536 dimensions"):
        FilterProjection().shapes(large, (1, (1 << 16) + 1))


def test_filters_are_those_of_a_map_and_a_kernel_of_two_axes():
    for target in (Target("w", (2, 2, 3, 3), "weight", (4,)), Target("w", (2, 18), "weight", (4, 4))):
        with pytest.raises(DecodeError, match="2-D convolution"):
            FilterProjection().shapes(target, (1, 1))


@pytest.mark.parametrize(
    ("transform", "target", "settings", "cost"),
    [
        (Signs(), vector(100), (17, AVERAGE), 4 * num_lookups(17, 100)),
        (Signs(), vector(100), (17, LEAST_SQUARES), 4 * (2 * num_steps(17, 100) + 1) * num_lookups(17, 100)),
        (Hadamard(), vector(100), (17, AVERAGE), 64 * (128 + 17)),
        (FilterProjection(), filters(2, 3, 3, 3, positions=(5, 7)), (6, 2), 35 * (8 * 6 * 6 * 2 + 32 * 64)),
        (HeavyTail(), Target("w", (6, 7), "weight"), (3,), 8 * 42),
        (Mask(), Target("w", (6, 7), "weight"), (1,), 8 * 42),
        (Sketch(), Target("w", (20, 30), "weight"), (9, 10, 3, 77), 600 * 9 << 14),
        (Sketch(), Target("w", (20, 30), "weight"), (20, 10, 3, 77), 600 * 3 << 14),
        (Sketch(), Target("w", (20, 30), "weight"), (9, 30, 4, 77), 600 * 4 << 14),
    ],
)
def test_what_an_expansion_costs(transform, target, settings, cost):
    assert transform.operations(target, settings) == cost


@pytest.mark.parametrize(
    ("transform", "taken", "refused", "settings"),
    [
        (HeavyTail(), MAX_EXPANSION // 8, MAX_EXPANSION // 8 + 1, (0,)),
        (Hadamard(), 1, 1 << 24, ((1 << 26), AVERAGE)),
    ],
)
def test_costs_beyond_the_limit_are_refused(transform, taken, refused, settings, monkeypatch):
    monkeypatch.setattr("bitcert.decoder.transforms.base.MAX_EXPANSION", transform.operations(vector(taken), settings))
    transform.shapes(vector(taken), settings)
    with pytest.raises(DecodeError, match="operations to decode"):
        transform.shapes(vector(refused), settings)


@pytest.mark.parametrize(
    ("shape", "taken", "refused"),
    [
        ((64, 64), (64, 64, 1, 0), (64, 65, 1, 0)),
        ((64, 1), (1, 1, 1, 0), (1, 0, 1, 0)),
        ((5, 7), (5, 7, 64, 0), (5, 7, 65, 0)),
        ((5, 7), (4, 7, 4, 0), (4, 7, 5, 0)),
        ((5, 7), (5, 6, 6, 0), (5, 6, 7, 0)),
        ((5, 7), (3, 6, 3, 0), (3, 6, 4, 0)),
        ((5, 7), (4, 6, 1, (1 << 16) - 1), (4, 6, 1, 1 << 16)),
        ((64, 64), (40, 64, 32, 0), (40, 64, 33, 0)),
        ((64, 64), (64, 40, 32, 0), (64, 40, 33, 0)),
        ((64, 64), (40, 40, 5, 0), (40, 40, 6, 0)),
    ],
)
def test_sketches_at_the_limit_are_taken_and_those_beyond_refused(shape, taken, refused):
    target = Target("w", shape, "weight")
    assert Sketch().shapes(target, taken) == (taken[:2],)
    with pytest.raises(DecodeError):
        Sketch().shapes(target, refused)


def test_least_squares_is_offered_up_to_a_ratio_of_95_in_100():
    assert edge_ratio(1369, 1600) == 0.95
    assert solvable(1369, 1600)
    assert not solvable(1370, 1600)


@pytest.mark.parametrize(
    ("block", "rows", "columns", "order"),
    [
        (Block(0, 10, 3, Kind.KRONECKER), (4, 3), (2, 2), 16),
        (Block(0, 16, 9, Kind.KRONECKER), (4, 4), (3, 3), 16),
        (Block(0, 17, 1, Kind.KRONECKER), (5, 4), (1, 1), 32),
        (Block(0, 0, 0, Kind.KRONECKER), (1, 0), (1, 0), 1),
    ],
)
def test_factors_of_a_kronecker_block_and_the_order_of_a_hadamard_block(block, rows, columns, order):
    assert (block.rows, block.columns, block.order) == (rows, columns, order)


@pytest.mark.parametrize(
    ("kind", "cost"),
    [
        (Kind.DENSE, 4 * 100 * 9),
        (Kind.KRONECKER, 10 * 3 * 3 + 10 * 10 * 3),
        (Kind.HADAMARD, 32 * 128 * 8),
        (Kind.SPARSE, 128 * 100),
    ],
)
def test_what_a_subspace_costs(kind, cost):
    assert operations((60, 40), (int(kind), 9, 0)) == cost


def test_dimensions_of_a_subspace_are_limited():
    assert shapes((5,), (3, 1, 0)) == ((1,), (1,))
    assert shapes((5,), (3, 5, 0)) == ((5,), (1,))
    most = (1 << 24, 1 << 24)
    assert shapes(most, (3, 1 << 24, 0)) == ((1 << 24,), (2,))
    with pytest.raises(DecodeError, match="1 to 16,777,216 dimensions"):
        shapes(most, (3, (1 << 24) + 1, 0))


def test_signs_of_a_dense_subspace_are_limited_together():
    sizes = (1 << 20, 1 << 20)
    assert shapes(sizes, (0, 1 << 12, 0)) == ((1 << 12,), (2,))
    assert shapes(sizes, (0, 1 << 13, 1)) == ((1 << 13,), (2,))
    for settings in ((0, (1 << 12) + 1, 0), (0, (1 << 13) + 2, 1)):
        with pytest.raises(DecodeError, match="signs of a dense subspace"):
            shapes(sizes, settings)


def test_dimensions_of_tensors_follow_the_roots_of_their_sizes():
    parts = blocks((100, 400, 25, 1), (2, 72, 1))
    assert [(part.index, part.size, part.dimension, part.kind) for part in parts] == [
        (0, 100, 20, Kind.HADAMARD),
        (1, 400, 40, Kind.HADAMARD),
        (2, 25, 10, Kind.HADAMARD),
        (3, 1, 1, Kind.HADAMARD),
    ]
    assert [part.dimension for part in blocks((2, 3), (3, 1, 1))] == [0, 1]
