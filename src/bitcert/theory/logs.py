"""Products and sums of positive numbers by their natural logarithms."""

from __future__ import annotations

import math
from collections.abc import Iterable


def log(value: float) -> float:
    """``ln(value)`` for ``value >= 0``, ``-inf`` at 0.

    >>> log(0.0), log(1.0)
    (-inf, 0.0)
    """
    return math.log(value) if value > 0 else -math.inf


def log_sum(logs: Iterable[float]) -> float:
    """``ln sum_i exp(logs_i)``; ``-inf`` of nothing.

    >>> round(log_sum([1000.0, 1000.0]) - 1000.0, 12) == round(math.log(2), 12)
    True
    """
    values = list(logs)
    top = max(values, default=-math.inf)
    if math.isinf(top):
        return top
    return top + math.log(math.fsum(math.exp(v - top) for v in values))


def log_product(values: Iterable[float]) -> float:
    """``ln prod_i values_i`` for non-negative values, ``-inf`` if one is 0.

    >>> round(math.exp(log_product([2.0, 3.0])), 12)
    6.0
    """
    logs = [log(v) for v in values]
    return -math.inf if -math.inf in logs else math.fsum(logs)
