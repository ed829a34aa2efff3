"""Random bipartite graphs as 0/1 matrices: ``delta`` ones in every column, drawn from the helper's streams.

Column ``i`` of ``A [m, p]`` is the neighbourhood of coordinate ``i``: ``delta`` of the ``m`` rows, every set equally
likely (Dasarathy et al. 2013, the delta-random bipartite ensemble; Guha 2023, Def. E.1). Guha's appendix puts the
``delta`` ones in the *rows* of ``A``; then with ``delta m < p`` some coordinate has no edge and the sketch cannot see
it, so the ones are put in the columns here, as in the source. Dasarathy draws with replacement (at most ``delta``);
we draw without (exactly ``delta``). Not provided: any proof that one given draw expands.
"""

from __future__ import annotations

import math

import numpy as np

from bitcert.decoder.transforms.base import Draws, Integers
from bitcert.errors import InputError


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
