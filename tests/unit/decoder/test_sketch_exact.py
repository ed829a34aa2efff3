"""Sketches as a format: frozen ensembles and hashes, every limit at its last value, and what the decoder attempts."""

import numpy as np
import pytest
import scipy.optimize

from bitcert.coding import MAX_MAGNITUDE
from bitcert.decoder.transforms import Coefficients, Draws, Target
from bitcert.decoder.transforms import sketch as module
from bitcert.decoder.transforms.sketch import (
    Ensembles,
    Sketch,
    attempts,
    bipartite_ensemble,
    candidates,
    matrix_hash,
    minimise,
    paper_degree,
    paper_size,
    recovers_uniquely,
)
from bitcert.errors import DecodeError, InputError


def whole(size: int) -> np.ndarray:
    """The ensemble of a side that is not sketched."""
    return np.eye(size, dtype=np.int64)


def test_ensembles_never_change():
    """Another stream, or rows and columns exchanged, would decode old messages to other networks."""
    ensembles = Ensembles.draw(Draws(0, "w"), (6, 7), (3, 4), 2)
    left = ["101010", "111111", "010101"]
    right = ["0111001", "1000110", "1001000", "0110111"]
    assert ["".join(map(str, row)) for row in ensembles.left] == left
    assert ["".join(map(str, row)) for row in ensembles.right] == right


def test_the_hash_is_the_first_two_bytes():
    """Of the SHA-256 of the entries as little-endian integers of eight bytes, row by row."""
    assert matrix_hash(np.arange(6).reshape(2, 3) - 2) == 41_314


def test_edges_of_a_coordinate_are_one_up_to_the_rows():
    for delta in (0, 4):
        with pytest.raises(InputError, match="1 to 3 edges"):
            bipartite_ensemble(Draws(0, "w"), "rows", 3, 5, delta)
    for delta in (1, 3):
        assert (bipartite_ensemble(Draws(0, "w"), "rows", 3, 5, delta).sum(0) == delta).all()


def test_the_papers_numbers_for_few_coordinates():
    assert [paper_degree(p) for p in (0, 1, 2, 7, 8, 20, 21)] == [2, 2, 2, 2, 3, 3, 4]
    assert paper_size(1, 1) == paper_size(1, 2) == 1
    assert paper_size(9, 1) == paper_size(9, 2) == 3, "sqrt(18) ln 2 = 2.94"
    assert paper_size(0, 64) == 1


def test_an_entry_all_of_whose_places_are_zero_is_a_candidate_of_the_last_attempt():
    ensembles, zero = Ensembles(whole(3), whole(3)), np.zeros((3, 3), dtype=np.int64)
    assert len(candidates(ensembles, zero, 1.0)) == 9
    assert len(candidates(ensembles, zero, 0.99)) == 0


def test_an_attempt_is_made_for_any_candidates_but_not_twice_for_the_same():
    """Of a whole matrix the candidates are first the entries that are not zero, and then all."""
    ensembles = Ensembles(whole(3), whole(3))
    for matrix, numbers in [
        (np.zeros((3, 3), dtype=np.int64), [0, 9]),
        (np.diag([5, 0, 0]), [1, 9]),
        (np.ones((3, 3), dtype=np.int64), [9]),
    ]:
        found = list(attempts(ensembles, matrix))
        assert [len(attempt.where) for attempt in found] == numbers
        assert all(np.array_equal(attempt.matrix, matrix) for attempt in found)


def test_no_candidates_give_no_matrix_with_another_sketch():
    ensembles, nowhere = Ensembles(whole(2), whole(2)), np.empty(0, dtype=np.intp)
    assert minimise(ensembles, np.array([[0, 0], [0, 3]]), nowhere).matrix is None
    assert np.array_equal(minimise(ensembles, np.zeros((2, 2), dtype=np.int64), nowhere).matrix, np.zeros((2, 2)))


def test_the_simplex_method_has_three_thousand_steps(monkeypatch):
    """Which sketches decode depends on it."""
    asked, solve = [], scipy.optimize.linprog

    def recording(*arguments: object, **settings: object) -> object:
        asked.append((settings["method"], settings["options"]))
        return solve(*arguments, **settings)

    monkeypatch.setattr(scipy.optimize, "linprog", recording)
    minimise(Ensembles(whole(2), whole(2)), np.diag([1, -1]), np.arange(4))
    assert asked == [("highs-ds", {"maxiter": 3_000, "presolve": False})]


def test_entries_are_found_up_to_the_largest_that_can_be_coded():
    ensembles = Ensembles(whole(2), whole(2))
    largest = np.array([[MAX_MAGNITUDE, 0], [0, -3]])
    assert np.array_equal(minimise(ensembles, largest, np.arange(4)).matrix, largest)
    for sign in (1, -1):
        assert minimise(ensembles, sign * np.diag([MAX_MAGNITUDE + 1, 0]), np.arange(4)).matrix is None


def test_a_sketch_is_used_up_to_the_largest_that_can_be_coded():
    """The sketch holds the sum of two entries, and the second one."""
    ensembles, generator = Ensembles(np.array([[1, 1], [0, 1]]), whole(1)), np.random.default_rng(0)
    assert recovers_uniquely(ensembles, np.array([[MAX_MAGNITUDE - 5], [5]]), generator) is True
    beyond = np.array([[MAX_MAGNITUDE - 5], [6]])
    assert np.array_equal(minimise(ensembles, ensembles.sketch(beyond), np.arange(2)).matrix, beyond)
    assert recovers_uniquely(ensembles, beyond, generator) is False


def test_a_matrix_that_is_not_found_is_not_unique():
    ensembles = Ensembles(np.array([[1, 1]]), whole(1))
    assert recovers_uniquely(ensembles, np.array([[3], [-3]]), np.random.default_rng(0)) is False


def test_another_matrix_of_the_same_hash_is_not_taken_for_the_matrix(monkeypatch):
    """What the decoder finds is compared itself, whatever the two other weightings give."""
    ensembles, matrix = Ensembles(whole(2), whole(2)), np.diag([4, -1])
    assert recovers_uniquely(ensembles, matrix, np.random.default_rng(0)) is True
    monkeypatch.setattr(module, "recover", lambda *_: module.Attempt(np.arange(4), matrix + 1))
    assert recovers_uniquely(ensembles, matrix, np.random.default_rng(0)) is False


def test_the_two_other_weightings_are_within_a_tenth_and_opposite(monkeypatch):
    used, solve = [], module.minimise

    def recording(ensembles, sketch, where, weights=None):
        used.append(weights)
        return solve(ensembles, sketch, where, weights)

    monkeypatch.setattr(module, "minimise", recording)
    matrix = np.arange(1, 37).reshape(6, 6)
    assert recovers_uniquely(Ensembles(whole(6), whole(6)), matrix, np.random.default_rng(0))
    first, more, less = used
    assert first is None
    assert ((more >= 1) & (more <= 1.1)).all()
    assert more.max() > 1.08
    np.testing.assert_allclose(more + less, 2.0, rtol=1e-12)


def test_a_sketch_without_columns_or_with_too_many_edges_is_refused():
    """Of two sketched sides the smaller one limits the edges; a side that is not sketched has none."""
    target = Target("w", (20, 30), "weight")
    assert Sketch.num_settings == 4
    with pytest.raises(DecodeError, match="a sketch of at most 20 x 30 for w"):
        Sketch().shapes(target, (9, 0, 3, 0))
    for sizes, most in [((9, 10), 9), ((10, 9), 9), ((20, 11), 11), ((20, 30), 64)]:
        assert Sketch().shapes(target, (*sizes, most, 0)) == (sizes,)
        with pytest.raises(DecodeError, match=f"1 to {most} edges"):
            Sketch().shapes(target, (*sizes, most + 1, 0))


def test_the_matrix_is_multiplied_by_the_step():
    matrix = np.diag([3, 0, -5])
    settings = (3, 3, 1, matrix_hash(matrix))
    values = Sketch().expand(Target("w", (3, 3), "weight"), settings, (Coefficients(matrix, -4),), Draws(0, "w"))
    assert values.tolist() == [[1.5, 0, 0], [0, 0, 0], [0, 0, -2.5]]
