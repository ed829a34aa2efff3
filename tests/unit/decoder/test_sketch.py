"""Sketches of sparse matrices: ensembles, recovery at the paper's sizes, named failure beyond, hostile settings."""

from __future__ import annotations

import hashlib
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bitcert.coding import MAX_MAGNITUDE
from bitcert.decoder.transforms import NUMBERS, TRANSFORMS, Coefficients, Draws, Target
from bitcert.decoder.transforms import sketch as module
from bitcert.decoder.transforms.sketch import (
    Ensembles,
    Sketch,
    bipartite_ensemble,
    candidates,
    matrix_hash,
    minimise,
    paper_degree,
    paper_size,
    recover,
    recovers_uniquely,
)
from bitcert.errors import DecodeError, InputError


def distributed_sparse(size: int, per_line: int, seed: int, largest: int = 20) -> np.ndarray:
    """A matrix with a whole diagonal and at most ``per_line`` non-zeros in every row and column."""
    rng = np.random.default_rng(seed)
    matrix = np.diag(rng.integers(1, largest + 1, size) * rng.choice([-1, 1], size))
    for _ in range(per_line - 1):
        matrix[np.arange(size), rng.permutation(size)] = rng.integers(-largest, largest + 1, size)
    return matrix


def paper_ensembles(size: int, per_line: int, seed: int = 0) -> Ensembles:
    m = min(paper_size(per_line, size), size)
    return Ensembles.draw(Draws(seed, "w"), (size, size), (m, m), paper_degree(size))


@settings(max_examples=40, deadline=None)
@given(rows=st.integers(1, 12), columns=st.integers(1, 12), delta=st.integers(1, 12), seed=st.integers(0, 3))
def test_ensembles_have_delta_ones_a_column(rows, columns, delta, seed):
    if rows == columns:
        assert np.array_equal(bipartite_ensemble(Draws(seed, "w"), "rows", rows, columns, delta), np.eye(rows))
    elif delta > rows:
        with pytest.raises(InputError, match="edges"):
            bipartite_ensemble(Draws(seed, "w"), "rows", rows, columns, delta)
    else:
        matrix = bipartite_ensemble(Draws(seed, "w"), "rows", rows, columns, delta)
        assert set(np.unique(matrix)) <= {0, 1}
        assert (matrix.sum(0) == delta).all()


def chi_square(counts: np.ndarray) -> float:
    expected = counts.sum() / counts.size
    return float((np.square(counts - expected) / expected).sum())


def test_every_edge_is_equally_likely():
    """Monte Carlo over streams: chi-square of the rows of 4,000 columns; a draw that sorts only once in two fails."""
    matrix = bipartite_ensemble(Draws(0, "w"), "rows", 10, 4000, 3)
    counts = matrix.sum(1)
    limit = 30.0  # 9 degrees of freedom, one in 2,000
    assert chi_square(counts) < limit
    broken = matrix.copy()
    broken[:, ::10] = np.arange(10)[:, None] < 3  # a tenth of the coordinates takes the first rows
    assert chi_square(broken.sum(1)) > limit
    pairs = matrix @ matrix.T
    above = pairs[np.triu_indices(10, 1)]
    assert chi_square(above) < 85.0  # 44 degrees of freedom


def test_ones_in_the_rows_leave_coordinates_without_an_edge():
    """Definition E.1 as Guha applies it: ``delta m < p`` edges cannot reach all coordinates; in the columns they do."""
    by_rows = bipartite_ensemble(Draws(0, "w"), "rows", 64, 20, 3).T  # 20 rows of 3 ones each
    assert (by_rows.sum(0) == 0).any()
    assert (bipartite_ensemble(Draws(0, "w"), "rows", 20, 64, 3).sum(0) > 0).all()


def test_rows_and_columns_have_streams_of_their_own():
    ensembles = Ensembles.draw(Draws(0, "w"), (9, 9), (5, 5), 2)
    assert not np.array_equal(ensembles.left, ensembles.right)
    assert not np.array_equal(ensembles.left, Ensembles.draw(Draws(1, "w"), (9, 9), (5, 5), 2).left)
    assert not np.array_equal(ensembles.left, Ensembles.draw(Draws(0, "v"), (9, 9), (5, 5), 2).left)


@pytest.mark.parametrize(("size", "per_line"), [(24, 1), (32, 1), (32, 2), (40, 2)])
def test_recovery_is_exact_at_the_papers_sizes(size, per_line):
    """``m = ceil(sqrt(j p) ln p)``, ``delta = ceil(ln p)``: Theorem 5.1 with the constants 1, over several draws."""
    exact = 0
    for seed in range(4):
        matrix, ensembles = distributed_sparse(size, per_line, seed), paper_ensembles(size, per_line, seed)
        assert ensembles.left.shape[0] < size
        found = recover(ensembles, ensembles.sketch(matrix), matrix_hash(matrix))
        exact += found is not None and np.array_equal(found.matrix, matrix)
    assert exact >= 3


@pytest.mark.parametrize("per_line", [2, 3])
def test_recovery_is_exact_at_64(per_line):
    matrix, ensembles = distributed_sparse(64, per_line, 3), paper_ensembles(64, per_line, 3)
    assert ensembles.left.shape[0] in (48, 58)
    found = recover(ensembles, ensembles.sketch(matrix), matrix_hash(matrix))
    assert found is not None
    assert np.array_equal(found.matrix, matrix)


def test_a_planted_bug_in_the_program_would_be_seen(monkeypatch):
    """Without the negative parts of X nothing signed is recovered."""
    matrix, ensembles = distributed_sparse(24, 1, 0), paper_ensembles(24, 1)
    import scipy.sparse

    monkeypatch.setattr(
        scipy.sparse, "hstack", lambda blocks: scipy.sparse.csc_array(np.hstack([blocks[0].toarray()] * 2))
    )
    assert recover(ensembles, ensembles.sketch(matrix), matrix_hash(matrix)) is None


def test_what_is_returned_has_the_sketch_and_is_no_longer_in_l1():
    matrix = np.random.default_rng(0).integers(-2, 3, (12, 12))
    ensembles = Ensembles.draw(Draws(0, "w"), (12, 12), (7, 7), 3)
    sketch = ensembles.sketch(matrix)
    attempt = minimise(ensembles, sketch, candidates(ensembles, sketch, 1.0))
    if attempt.matrix is not None:
        assert np.array_equal(ensembles.sketch(attempt.matrix), sketch)
        assert np.abs(attempt.matrix).sum() <= np.abs(matrix).sum()


def test_dense_matrices_fail_by_name_and_not_by_a_wrong_matrix():
    matrix = np.random.default_rng(0).integers(-9, 10, (16, 16))
    ensembles = Ensembles.draw(Draws(0, "w"), (16, 16), (8, 8), 3)
    assert recover(ensembles, ensembles.sketch(matrix), matrix_hash(matrix)) is None
    assert not recovers_uniquely(ensembles, matrix, np.random.default_rng(0))
    target, sketch = Target("w", (16, 16), "weight"), ensembles.sketch(matrix)
    with pytest.raises(DecodeError, match="w can be recovered"):
        Sketch().expand(target, (8, 8, 3, matrix_hash(matrix)), (Coefficients(sketch, 0),), Draws(0, "w"))


def test_twins_among_the_coordinates_are_not_unique():
    """Two equal columns of A: a non-zero can move between them, so the encoder refuses the sketch."""
    ensembles = Ensembles(np.array([[1, 1, 0], [0, 0, 1]]), np.eye(3, dtype=np.int64))
    matrix = np.array([[5, 0, 0], [0, 0, 0], [0, 0, 7]])
    assert not recovers_uniquely(ensembles, matrix, np.random.default_rng(0))
    assert recovers_uniquely(
        Ensembles(np.eye(3, dtype=np.int64)[[0, 1, 2]], ensembles.right), matrix, np.random.default_rng(0)
    )


def test_another_hash_is_refused():
    matrix, ensembles = distributed_sparse(16, 1, 0), paper_ensembles(16, 1)
    assert recover(ensembles, ensembles.sketch(matrix), matrix_hash(matrix) ^ 1) is None
    assert recover(ensembles, ensembles.sketch(matrix) + 1, matrix_hash(matrix)) is None


def test_the_zero_matrix_and_sketches_too_large_to_code():
    ensembles = paper_ensembles(24, 1)
    zero = np.zeros((24, 24), dtype=np.int64)
    assert recovers_uniquely(ensembles, zero, np.random.default_rng(0))
    assert not recovers_uniquely(ensembles, zero + MAX_MAGNITUDE, np.random.default_rng(0))


def test_the_simplex_method_is_stopped(monkeypatch):
    monkeypatch.setattr(module, "MAX_ITERATIONS", 2)
    matrix, ensembles = distributed_sparse(24, 1, 0), paper_ensembles(24, 1)
    tries = list(module.attempts(ensembles, ensembles.sketch(matrix)))
    assert [attempt.out_of_steps for attempt in tries] == [True]


def test_it_is_transform_eleven():
    assert NUMBERS["sketch"] == 11
    assert isinstance(TRANSFORMS[11], Sketch)


GOOD = (9, 10, 3, 77)


@pytest.mark.parametrize(
    ("shape", "settings_", "what"),
    [
        ((65, 3), (2, 2, 1, 0), "at most 64 x 64"),
        ((3, 5, 5, 5), (2, 2, 1, 0), "at most 64 x 64"),
        ((0, 4), (1, 1, 1, 0), "at most 64 x 64"),
        ((20, 30), (0, 10, 3, 0), "at most 20 x 30"),
        ((20, 30), (9, 31, 3, 0), "at most 20 x 30"),
        ((20, 30), (1 << 60, 2, 1, 0), "at most 20 x 30"),
        ((20, 30), (9, 10, 0, 0), "edges"),
        ((20, 30), (9, 10, 10, 0), "edges"),
        ((20, 30), (20, 30, 1 << 50, 0), "edges"),
        ((20, 30), (9, 10, 3, 1 << 16), "hash"),
    ],
)
def test_hostile_settings_are_refused(shape, settings_, what):
    with pytest.raises(DecodeError, match=what):
        Sketch().shapes(Target("w", shape, "weight"), settings_)


def test_good_settings_name_the_sketchs_shape():
    assert Sketch().shapes(Target("w", (20, 30), "weight"), GOOD) == ((9, 10),)
    assert Sketch().shapes(Target("w", (20, 30), "weight"), (20, 10, 10, 0)) == ((20, 10),)
    assert Sketch().shapes(Target("w", (5, 3, 2, 2), "weight"), (5, 4, 2, 0)) == ((5, 4),)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), rows=st.integers(1, 8), columns=st.integers(1, 8), delta=st.integers(1, 3))
def test_any_sketch_expands_to_a_matrix_with_it_or_is_refused(seed, rows, columns, delta):
    target = Target("w", (8, 9), "weight")
    sketch = np.random.default_rng(seed).integers(-3, 4, (rows, columns)) * (seed % 2)
    zero_hash = matrix_hash(np.zeros((8, 9), dtype=np.int64))
    try:
        Sketch().shapes(target, (rows, columns, delta, zero_hash))
        values = Sketch().expand(target, (rows, columns, delta, zero_hash), (Coefficients(sketch, 0),), Draws(0, "w"))
    except DecodeError:
        return
    ensembles = Ensembles.draw(Draws(0, "w"), (8, 9), (rows, columns), delta)
    assert np.array_equal(ensembles.sketch(values.astype(np.int64)), sketch)


SCRIPT = """
from tests.unit.decoder.test_sketch import decoded_digest
print(decoded_digest())
"""


def decoded_digest() -> str:
    matrix, ensembles = distributed_sparse(24, 1, 1), paper_ensembles(24, 1)
    m = ensembles.left.shape[0]
    settings_ = (m, m, paper_degree(24), matrix_hash(matrix))
    target, coefficients = Target("w", (24, 24), "weight"), Coefficients(ensembles.sketch(matrix), -7)
    values = Sketch().expand(target, settings_, (coefficients,), Draws(0, "w"))
    assert np.array_equal(values, matrix * coefficients.step)
    return hashlib.sha256(values.tobytes()).hexdigest()


def test_a_fresh_process_with_other_threads_decodes_the_same():
    environment = {"OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2", "PATH": "/usr/bin:/bin"}
    result = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, env=environment, check=True)
    assert result.stdout.strip() == decoded_digest()
