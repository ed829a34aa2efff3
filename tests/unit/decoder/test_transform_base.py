"""What all transforms share: shapes, random numbers, limits of cost, and exact products at the edges of what fits."""

from __future__ import annotations

import numpy as np
import pytest

from bitcert.decoder.transforms.base import MAX_EXPANSION, Draws, Target, Transform, signs_of
from bitcert.decoder.transforms.exact import exact_product
from bitcert.decoder.transforms.plain import Identity, Nothing
from bitcert.errors import DecodeError


class Noted(Draws):
    """Draws that note how many words were asked for."""

    asked: list[int]

    def words(self, purpose, count):
        self.__dict__.setdefault("asked", []).append(count)
        return super().words(purpose, count)


@pytest.mark.parametrize(
    ("shape", "matrix"), [((), (1, 1)), ((7,), (7, 1)), ((1, 5), (1, 5)), ((3, 2, 4), (3, 8)), ((0, 4), (0, 0))]
)
def test_a_tensor_as_a_matrix_has_the_first_axis_as_rows(shape, matrix):
    assert Target("w", shape, "weight").matrix_shape == matrix


@pytest.mark.parametrize(("count", "quarters", "sixty_fourths"), [(1, 1, 1), (12, 3, 1), (64, 16, 1), (65, 17, 2)])
def test_random_numbers_take_no_more_words_than_they_fill(count, quarters, sixty_fourths):
    draws = Noted(0, "w")
    assert draws.normal("test", count).shape == draws.signs("test", count).shape == (count,)
    assert draws.asked == [quarters, sixty_fourths]


def test_signs_are_the_bits_from_the_lowest_and_a_set_bit_is_minus_one():
    signs = signs_of(np.array([0b1101, 1 << 63], dtype=np.uint64))
    assert np.flatnonzero(signs == -1).tolist() == [0, 2, 3, 127]
    assert set(signs.tolist()) == {1, -1}


def test_streams_are_named_by_the_place_of_the_tensor_and_the_purpose():
    assert Target("w", (3,), "weight", place=5).draws(9) == Draws(9, "tensor 5")
    assert Target("w", (3,), "weight").draws(9) == Draws(9, "tensor 0")
    words = [Draws(seed, tensor).words(purpose, 2) for seed, tensor, purpose in (
        (1, "a", "x"), (2, "a", "x"), (1, "b", "x"), (1, "a", "y")
    )]  # fmt: skip
    assert len({bytes(each) for each in words}) == 4


def test_a_transform_must_say_its_shapes_and_its_expansion():
    target = Target("w", (2, 2), "weight")
    with pytest.raises(NotImplementedError):
        Transform().shapes(target, ())
    with pytest.raises(NotImplementedError):
        Transform().expand(target, (), (), Draws(0, "w"))


def test_an_expansion_at_the_limit_is_made_and_one_beyond_it_is_not():
    class Costly(Transform):
        def operations(self, target, settings):
            return settings[0]

    target = Target("w", (2, 2), "weight")
    assert Identity().operations(target, ()) == Nothing().operations(target, ()) == 0
    Costly().check_cost(target, (MAX_EXPANSION,))
    with pytest.raises(DecodeError, match="operations to decode w"):
        Costly().check_cost(target, (MAX_EXPANSION + 1,))
    assert MAX_EXPANSION == 1 << 35


@pytest.mark.parametrize(
    ("terms", "left", "right"),
    [
        (1, 1, (1 << 53) - 1),
        (1, 0, 1 << 62),
        (5, 1 << 30, 1 << 20),
        (1, 1 << 13, 1 << 40),
        (1, (1 << 24) - 1, 1 << 39),
        (3, (1 << 24) - 1, 1 << 30),
    ],
)
def test_products_that_fit_are_exact(terms, left, right):
    row, column = np.full((1, terms), left), np.full((terms, 1), right)
    for sign in (1, -1):
        assert exact_product(sign * row, column).tolist() == [[sign * terms * left * right]]
        assert exact_product(row, sign * column).tolist() == [[sign * terms * left * right]]


@pytest.mark.parametrize(
    ("terms", "left", "right"),
    [(2, 1, 1 << 52), (2, 1 << 13, 1 << 40), (1, 1 << 24, 1 << 39), (1, 1 << 40, 1 << 25), (1 << 12, 1 << 13, 1 << 30)],
    ids=["high part of nothing", "parts of 2^53", "2^63", "left too large", "many terms"],
)
def test_products_that_may_not_fit_are_refused(terms, left, right):
    with pytest.raises(DecodeError, match="below 2"):
        exact_product(np.full((1, terms), left), np.full((terms, 1), right))
