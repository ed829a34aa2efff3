"""Sparse matrix sketch (number 11): the message holds ``Y = A X B^T``, the decoder finds the sparse integer ``X``.

``A [p, rows]`` and ``B [q, columns]`` are 0/1 matrices; all numbers are integers. ``X`` is what linear programming
(HiGHS, dual simplex) makes of

    min ||X||_1   subject to   A X B^T = Y,   X_ij = 0 outside the candidates,

rounded to integers. Candidates are the entries few of whose ``delta^2`` places in ``Y`` are zero (a non-zero entry of
``X`` shows in all of its places unless it is cancelled there); the last attempt takes every entry, which is the problem
of Guha 2023, eq. (1), after Dasarathy et al. 2013.

A linear program is solved in floating point, so nothing is believed: the rounded ``X`` must satisfy ``A X B^T = Y`` in
integers and have the 16-bit hash that the message states, else decoding fails with a sentence. Were there several
minimisers, two machines might meet different ones; both would need the same hash to decode different networks, and an
encoder of this program refuses sketches whose minimiser changes when the weights of the norm do
(:func:`recovers_uniquely`). Limited to 64 x 64, which bounds the time.

Column ``i`` of ``A [m, p]`` is the neighbourhood of coordinate ``i``: ``delta`` of the ``m`` rows, every set equally
likely (Dasarathy et al. 2013, the delta-random bipartite ensemble; Guha 2023, Def. E.1). Guha's appendix puts the
``delta`` ones in the *rows* of ``A``; then with ``delta m < p`` some coordinate has no edge and the sketch cannot see
it, so the ones are put in the columns here, as in the source. Dasarathy draws with replacement (at most ``delta``);
we draw without (exactly ``delta``). Not provided: recovery of every sparse matrix, or a proof that one given draw
expands.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from bitcert.coding import MAX_MAGNITUDE
from bitcert.decoder.transforms.base import Arrays, Draws, Integers, Settings, Shape, Target, Transform, Values
from bitcert.decoder.transforms.exact import exact_product
from bitcert.errors import InputError, malformed

MAX_SIDE = 64
HASH_BITS = 16
MAX_EDGES = 1 << 17
"""Most non-zeros of a linear program: 64 x 64 with five edges a side, or smaller matrices with more."""
MAX_ITERATIONS = 3_000
"""Of the simplex method; a limit on iterations, unlike one on seconds, is the same on every machine."""
ZEROS_ALLOWED = (0.2, 1.0)
"""Attempts: an entry is a candidate when at most this fraction of its places in the sketch is zero."""


def bipartite_ensemble(draws: Draws, purpose: str, num_rows: int, num_columns: int, delta: int) -> Integers:
    """A 0/1 matrix ``[num_rows, num_columns]`` with ``delta`` ones in every column.

    ``num_rows == num_columns`` gives the identity: that side is not sketched.

    Raises:
        InputError: fewer than one edge a column, or more edges than rows.

    >>> bipartite_ensemble(Draws(0, "w"), "rows", 5, 8, 2).sum(0)
    array([2, 2, 2, 2, 2, 2, 2, 2])
    """
    if num_rows == num_columns:
        return np.eye(num_columns, dtype=np.int64)
    if not 1 <= delta <= num_rows:
        do = "use fewer edges or a larger sketch"
        raise InputError(f"1 to {num_rows} edges for each of {num_columns} coordinates", f"{delta}", do)
    words = draws.words(f"bipartite {purpose}", num_rows * num_columns).reshape(num_columns, num_rows)
    chosen = np.argsort(words, axis=1, kind="stable")[:, :delta]
    matrix = np.zeros((num_rows, num_columns), dtype=np.int64)
    np.put_along_axis(matrix, chosen.T, 1, axis=0)
    return matrix


def paper_degree(num_coordinates: int) -> int:
    """``delta = ceil(ln p)``: Guha Theorem 5.1 has ``O(log p)``; constant 1, natural logarithm, at least 2.

    >>> paper_degree(64)
    5
    """
    return max(2, math.ceil(math.log(max(num_coordinates, 2))))


def paper_size(sparsity: int, num_coordinates: int) -> int:
    """``m = ceil(sqrt(j p) ln p)``: Guha Theorem 5.1 with the constant 1 and the natural logarithm.

    >>> paper_size(1, 64), paper_size(3, 64), paper_size(4, 64)
    (34, 58, 67)
    """
    p = max(num_coordinates, 2)
    return max(1, math.ceil(math.sqrt(sparsity * p) * math.log(p)))


@dataclass(frozen=True, eq=False)
class Ensembles:
    """The two sketching matrices: ``left [p, rows]``, ``right [q, columns]``."""

    left: Integers
    right: Integers

    @classmethod
    def draw(cls, draws: Draws, shape: tuple[int, int], sizes: tuple[int, int], delta: int) -> Ensembles:
        """The matrices of the helper for ``X`` of this shape and ``Y`` of these sizes.

        Raises:
            InputError: more edges than rows of a matrix, or none.
        """
        left = bipartite_ensemble(draws, "rows", sizes[0], shape[0], delta)
        return cls(left, bipartite_ensemble(draws, "columns", sizes[1], shape[1], delta))

    def sketch(self, matrix: Integers) -> Integers:
        """``A X B^T``, exact."""
        return exact_product(exact_product(self.left, matrix), self.right.T)


def matrix_hash(matrix: Integers) -> int:
    """The first 16 bits of the SHA-256 of a matrix."""
    content = np.ascontiguousarray(matrix, dtype="<i8").tobytes()
    return int.from_bytes(hashlib.sha256(content).digest()[: HASH_BITS // 8], "big")


def candidates(ensembles: Ensembles, sketch: Integers, zeros_allowed: float) -> NDArray[np.intp]:
    """Flat indices of the entries of ``X`` of whose places in the sketch at most this fraction is zero."""
    places = np.outer(ensembles.left.sum(0), ensembles.right.sum(0))
    zeros = ensembles.left.T @ (sketch == 0).astype(np.int64) @ ensembles.right
    return np.flatnonzero(zeros <= zeros_allowed * places)


@dataclass(frozen=True, eq=False)
class Attempt:
    """What one linear program gave.

    Attributes:
        where: flat indices of the candidates.
        matrix: ``X``, which has exactly the sketch, or ``None``.
        out_of_steps: whether the simplex method was stopped.
    """

    where: NDArray[np.intp]
    matrix: Integers | None
    out_of_steps: bool = False


def minimise(ensembles: Ensembles, sketch: Integers, where: NDArray[np.intp], weights: Values | None = None) -> Attempt:
    """The rounded minimiser of ``sum_c weights_c |X_c|`` over ``X`` with this sketch, zero outside ``where``.

    Args:
        weights: ``[len(where)]``, positive; ones if ``None``.
    """
    from scipy.optimize import linprog
    from scipy.sparse import csc_array, hstack

    shape = ensembles.left.shape[1], ensembles.right.shape[1]
    rows, columns = np.unravel_index(where, shape)
    left, right = ensembles.left.astype(np.int8)[:, rows], ensembles.right.astype(np.int8)[:, columns]
    seen = (left[:, None, :] * right[None, :, :]).reshape(sketch.size, len(where))
    used = seen.any(1)
    if sketch.ravel()[~used].any():
        return Attempt(where, None)
    matrix = np.zeros(shape, dtype=np.int64)
    if not len(where):
        return Attempt(where, matrix)
    system = csc_array(seen[used], dtype=np.float64)
    costs = np.ones(len(where)) if weights is None else weights
    solution = linprog(
        np.concatenate([costs, costs]),
        A_eq=hstack([system, -system]),
        b_eq=sketch.ravel()[used].astype(np.float64),
        method="highs-ds",
        # presolve takes several times as long as the simplex method itself here
        options={"maxiter": MAX_ITERATIONS, "presolve": False},
    )
    if solution.status != 0 or np.abs(solution.x).max() > MAX_MAGNITUDE:
        return Attempt(where, None, solution.status == 1)
    values = solution.x[: len(where)] - solution.x[len(where) :]
    matrix[rows, columns] = np.rint(values).astype(np.int64)
    return Attempt(where, matrix if np.array_equal(ensembles.sketch(matrix), sketch) else None)


def attempts(ensembles: Ensembles, sketch: Integers) -> Iterator[Attempt]:
    """The decoder's attempts in order; after one that ran out of steps there is no other."""
    tried = -1
    for zeros_allowed in ZEROS_ALLOWED:
        where = candidates(ensembles, sketch, zeros_allowed)
        if len(where) != tried:
            attempt = minimise(ensembles, sketch, where)
            yield attempt
            if attempt.out_of_steps:
                return
        tried = len(where)


def recover(ensembles: Ensembles, sketch: Integers, expected_hash: int) -> Attempt | None:
    """The attempt that finds an integer matrix with this sketch and this hash, or ``None``."""
    for attempt in attempts(ensembles, sketch):
        if attempt.matrix is not None and matrix_hash(attempt.matrix) == expected_hash:
            return attempt
    return None


def recovers_uniquely(ensembles: Ensembles, matrix: Integers, generator: np.random.Generator) -> bool:
    """Whether the decoder finds this matrix, and would with two other weightings of the norm (within 10 %) as well.

    If the minimiser were not unique, the set of minimisers would have a second vertex, and random weights ``1 + t``
    and ``1 - t`` prefer different ones with probability 1. For the encoder; a check in floating point, no proof.
    """
    sketch = ensembles.sketch(matrix)
    if np.abs(sketch).max(initial=0) > MAX_MAGNITUDE:
        return False
    found = recover(ensembles, sketch, matrix_hash(matrix))
    if found is None or found.matrix is None or not np.array_equal(found.matrix, matrix):
        return False
    tilt = generator.uniform(0.0, 0.1, len(found.where))
    others = (minimise(ensembles, sketch, found.where, weights).matrix for weights in (1 + tilt, 1 - tilt))
    return all(other is not None and np.array_equal(other, matrix) for other in others)


class Sketch(Transform):
    """Settings: rows and columns of the sketch, edges of each coordinate, 16 bits of the matrix's hash."""

    name: ClassVar[str] = "sketch"
    num_settings: ClassVar[int] = 4

    def shapes(self, target: Target, settings: Settings) -> tuple[Shape, ...]:
        """One array ``[p, q]``, the sketch.

        Raises:
            DecodeError: a tensor beyond 64 x 64, a sketch larger than the matrix, an ensemble without enough edges.
        """
        rows, columns = target.matrix_shape
        num_rows, num_columns, delta, expected_hash = settings
        if not target.size or max(rows, columns) > MAX_SIDE:
            raise malformed(f"a sketch of a matrix of at most {MAX_SIDE} x {MAX_SIDE}", f"one of {rows} x {columns}")
        if not (1 <= num_rows <= rows and 1 <= num_columns <= columns):
            expected = f"a sketch of at most {rows} x {columns} for {target.name}"
            raise malformed(expected, f"one of {num_rows} x {num_columns}")
        sketched = [size for size, whole in ((num_rows, rows), (num_columns, columns)) if size < whole]
        if delta < 1 or delta > min(sketched, default=MAX_SIDE):
            raise malformed(f"1 to {min(sketched, default=MAX_SIDE)} edges for every coordinate", f"{delta}")
        edges = self.edges(target, settings)
        if edges > MAX_EDGES:
            raise malformed(f"a sketch of at most {MAX_EDGES:,} edges", f"{edges:,} for {target.name}")
        if expected_hash >= 1 << HASH_BITS:
            raise malformed(f"a hash of {HASH_BITS} bits", "a longer one")
        return ((num_rows, num_columns),)

    @staticmethod
    def edges(target: Target, settings: Settings) -> int:
        """Non-zeros of the linear program with every entry a candidate: what its time depends on."""
        (rows, columns), (num_rows, num_columns, delta, _) = target.matrix_shape, settings
        return target.size * (delta if num_rows < rows else 1) * (delta if num_columns < columns else 1)

    def operations(self, target: Target, settings: Settings) -> int:
        """Elementary operations of :meth:`expand`, about: recovery of a 64 x 64 matrix takes seconds."""
        return self.edges(target, settings) << 14

    def expand(self, target: Target, settings: Settings, coefficients: Arrays, draws: Draws) -> Values:
        """The matrix that the sketch determines, times the step.

        Raises:
            DecodeError: no sparse matrix with this sketch and this hash is found.
        """
        ensembles = Ensembles.draw(draws, target.matrix_shape, (settings[0], settings[1]), settings[2])
        found = recover(ensembles, coefficients[0].integers, settings[3])
        if found is None or found.matrix is None:
            raise malformed(
                f"a sketch from which {target.name} can be recovered", "one that has no such integer solution"
            )
        return found.matrix.reshape(target.shape).astype(np.float64) * coefficients[0].step
