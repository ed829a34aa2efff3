"""What a certificate claims, and how one failure probability is divided among the claims, fixed beforehand.

The 0/1 error of the compressed network is always claimed. Each further loss is a claim of its own, and so that all
hold together they get equal parts of ``delta`` (union bound). For the original network the part of the 0/1 error is
divided again: one fifth to the message, four fifths to the disagreement. The message pays ``|c| ln 2 + ln(1/delta_1)``
with thousands of bits in the first term, where a factor of five costs 1.6 nats of a thousand; the disagreement has no
message, and nearly all of its term is ``ln(1/delta_2)``. The division is part of the program and depends on no count.

Every certificate about an original network looks at its unlabelled sample, and the best of several looks is not what
one look promises. So the ``k``-th certificate issued on one unlabelled sample spends only the part :func:`look_share`
of ``delta_2``; the parts of all ``k`` add up to one, and with probability ``1 - delta_2`` all of them hold (union
bound; docs/theory.md section 5). The first look costs next to nothing.

Where several helpers were declared, the message does not say which one it is decoded with, so they share what the
message has of ``delta`` equally (union bound over declared architectures and weights).

For a loss with values in [0, 1] the bound is KL-Chernoff; for one with values 0 and 1 the exact binomial tail.

Does NOT check that the claims were chosen before the data were seen: a loss left out after a look at its bound is a
choice that nothing pays for. Nor that the network of a later look was not chosen by what an earlier one said: the
search of this program never sees the unlabelled examples, but its user does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

from bitcert.errors import InputError
from bitcert.proof.binomial import binomial_tail_inverse
from bitcert.proof.budget import Withdrawal, check_count, check_delta, complexity_nats
from bitcert.proof.chernoff import kl_chernoff
from bitcert.proof.holdout import CITATION_BINOMIAL_TAIL, CITATION_HOLDOUT, CITATION_OCCAM

__all__ = [
    "DISAGREEMENT",
    "LOSS_UNITS",
    "MESSAGE_SHARE",
    "PURPOSE",
    "bounded_loss_bound",
    "delta_plan",
    "look_share",
    "loss_purpose",
    "theorem_text",
    "zero_one_loss_bound",
]

PURPOSE = "occam bound of the compressed network"
"""The first entry of every delta ledger: what the 0/1 error of the compressed network is bounded at."""

DISAGREEMENT = "disagreement of the original and the compressed network"
MESSAGE_SHARE = Fraction(1, 5)
"""Part of the failure probability of a claim about the original network that goes to its message."""

FIRST_LOOK = Fraction(4, 5)
"""Part of ``delta_2`` that the first certificate on an unlabelled sample spends: ``ln(5/4)``, 0.22 nats, are lost."""

MOST_LOOKS = 10**6

LOSS_UNITS = 1 << 20
"""Losses are counted in whole units of ``1 / LOSS_UNITS``, each example's rounded up: their sum is exact."""

MOST_LOSSES = 64
MOST_HELPERS = 10**6

_TRANSFER = "L(original) <= L(compressed) + P[they disagree], the second by"
_CHERNOFF = "losses with values in [0, 1]: relative-entropy Chernoff bound of Langford 2005"
_SPLIT = "helper from the declared prior part, errors counted on the rest only"


def loss_purpose(name: str) -> str:
    """The entry of the delta ledger that a further loss pays."""
    return f"occam bound of the loss {name}"


def look_share(look: int) -> Fraction:
    """The part of ``delta_2`` that the ``look``-th certificate on one unlabelled sample spends.

    ``w_1 = 4/5`` and ``w_k = 1 / (5 k (k - 1))`` for ``k >= 2``; ``sum_k w_k = 1``, as ``sum_{k>=2} 1/(k (k-1)) = 1``.

    Args:
        look: number of the certificate, from 1.

    Raises:
        InputError: a number out of range.

    Source: union bound over a sequence of statements with weights that sum to one, docs/theory.md section 5 (looks).

    >>> [str(look_share(look)) for look in (1, 2, 3, 4)]
    ['4/5', '1/10', '1/30', '1/60']
    """
    number = check_count("look", look, 1, MOST_LOOKS)
    return FIRST_LOOK if number == 1 else (1 - FIRST_LOOK) / (number * (number - 1))


def disagreement_purpose(look: int) -> str:
    """The entry of the delta ledger that a look at an unlabelled sample pays."""
    return f"{DISAGREEMENT}, look {look}"


def delta_plan(
    delta: float, losses: Sequence[str] = (), look: int | None = None, helpers: int = 1
) -> tuple[Withdrawal, ...]:
    """How ``delta`` is divided; the amounts add up to at most ``delta`` as decimals.

    Args:
        delta: the whole failure probability, in (0, 1).
        losses: names of the losses claimed beside the 0/1 error, each once.
        look: if the 0/1 error of the original network is claimed, the number of this certificate among those issued
            on the unlabelled sample. What the look does not spend is left for later ones.
        helpers: how many helpers were declared that the same message might be decoded with. A certificate with one of
            them spends an equal part of what the message has, and the rest is left for the others.

    Raises:
        InputError: ``delta``, ``look`` or ``helpers`` out of range, a name given twice, or too many.

    >>> [(entry.name[:12], entry.amount) for entry in delta_plan(0.05, look=1)]
    [('occam bound ', 0.01), ('disagreement', 0.032)]
    >>> [entry.amount for entry in delta_plan(0.05, look=1, helpers=2)]
    [0.005, 0.032]
    >>> [entry.amount for entry in delta_plan(0.05, ["top-3", "brier"])]
    [0.016666666666666666, 0.016666666666666666, 0.016666666666666666]
    """
    if len(set(losses)) != len(losses) or len(losses) > MOST_LOSSES:
        got = ", ".join(losses)[:200]
        raise InputError(f"at most {MOST_LOSSES} different losses", got, "name each loss once")
    part = Fraction(repr(check_delta(delta))) / (1 + len(losses))
    first = part if look is None else part * MESSAGE_SHARE
    choices = check_count("helpers", helpers, 1, MOST_HELPERS)
    plan = [Withdrawal(PURPOSE, _round_down(first / choices))]
    if look is not None:
        plan.append(Withdrawal(disagreement_purpose(look), _round_down((part - first) * look_share(look))))
    return (*plan, *(Withdrawal(loss_purpose(name), _round_down(part / choices)) for name in losses))


def _round_down(amount: Fraction) -> float:
    value = float(amount)
    return value if Fraction(repr(value)) <= amount else math.nextafter(value, 0.0)


def zero_one_loss_bound(num_errors: int, num_samples: int, message_bits: int, delta: float) -> float:
    """Bound on a loss with values 0 and 1: the exact binomial tail at ``delta 2^-bits``, rounded up.

    Raises:
        InputError: an argument is outside its range.
    """
    return binomial_tail_inverse(num_errors, num_samples, -complexity_nats(message_bits, delta))


def bounded_loss_bound(total_units: int, num_samples: int, message_bits: int, delta: float) -> float:
    """KL-Chernoff bound on a loss in [0, 1] whose sum is ``total_units / LOSS_UNITS``, rounded up.

    Raises:
        InputError: an argument is outside its range.

    >>> round(bounded_loss_bound(600 * LOSS_UNITS, 60000, 800, 0.05), 5)
    0.03011
    """
    nats = complexity_nats(message_bits, delta)
    samples = check_count("num_samples", num_samples, 1)
    whole = samples * LOSS_UNITS
    total = check_count("total_units", total_units, 0, whole)
    mean = total / whole
    if Fraction(mean) < Fraction(total, whole):
        mean = math.nextafter(mean, 1.0)
    return kl_chernoff(mean, samples, nats)


def theorem_text(*, prior: bool, bounded: bool, original: bool) -> str:
    """The theorems a certificate rests on.

    Args:
        prior: whether the helper depends on a declared prior part.
        bounded: whether a loss with values between 0 and 1 is claimed.
        original: whether the claim is about the original network.
    """
    parts = [CITATION_OCCAM, CITATION_BINOMIAL_TAIL]
    parts += [_SPLIT] if prior else []
    parts += [_CHERNOFF] if bounded else []
    parts += [f"{_TRANSFER} {CITATION_HOLDOUT}"] if original else []
    return "; ".join(parts)
