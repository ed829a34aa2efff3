"""Hoeffding's form of the Occam bound, ``L <= L_hat + sqrt(complexity / (2 m))``.

The papers' form (Arora et al. 2018, Theorem 2.1, where the O-notation hides the constants), kept for comparison: it
is never smaller than the KL-Chernoff form, which is never smaller than the binomial one.

Does NOT guarantee anything for samples that are not i.i.d., nor for a message chosen with information that the
complexity does not count.
"""

from __future__ import annotations

import math

from bitcert.proof.budget import check_count, check_number

__all__ = ["hoeffding"]


def hoeffding(empirical_loss: float, num_samples: int, complexity_nats: float) -> float:
    """``min(1, L_hat + sqrt(complexity_nats / (2 num_samples)))``, rounded up; 1.0 is the word *vacuous*.

    Args:
        empirical_loss: mean loss on the sample, in [0, 1].
        num_samples: size of the sample, at least 1.
        complexity_nats: ``|c| ln 2 + ln(1/delta)`` in nats, at least 0.

    Raises:
        InputError: an argument is outside its range or not a number.

    Source: Hoeffding 1963, Theorem 2.

    >>> round(hoeffding(0.1, 1000, 3.0), 6)
    0.13873
    """
    loss = check_number("empirical_loss", empirical_loss, 0.0, 1.0)
    samples = check_count("num_samples", num_samples, 1)
    nats = check_number("complexity_nats", complexity_nats, 0.0, math.inf)
    if nats == 0.0:
        return loss
    root = math.sqrt(nats / (2.0 * samples)) * (1.0 + 2.0**-50)
    return min(1.0, math.nextafter(loss + root, math.inf))
