"""The guarantees on one axis with the bounds: held-out labels, and the Occam certificate of each message found.

- Hold-out: ``L(f) <= p_bar(E_n, n, delta)`` from ``E_n`` errors on ``n`` labels that were never used (Clopper &
  Pearson).
- Occam (docs/theory.md section 2; Arora 2018, Thm 2.1 with its constants): for a message ``c`` of ``|c|`` bits whose
  decoded network ``g_c`` makes ``E`` errors on the ``m`` training examples, ``L(g_c) <= p_bar(E, m, delta' 2^-|c|)``;
  the same by the KL-Chernoff and the Hoeffding inequality, ``binomial <= KL-Chernoff <= Hoeffding``. Hoeffding's is not
  cut at 1.

With ``n`` messages each gets ``delta' = delta / n``, so that all hold at once with probability ``1 - delta`` and the
best may be quoted, whatever helper each of them was made with; only messages that were named are counted. Those that
refer to public weights prove nothing here, as no program can tell when weights were made: a row is computed from the
others where there are any. No margin enters, so gamma plays no part here.

An Occam row speaks of the DECODED network, not of the one it was made from. What no program can check is taken on
trust and listed as such: examples drawn independently from one distribution, helper fixed before the sample was seen,
labels held out really unused. A held-out input that is also a training input, byte by byte, is noticed: then the
hold-out row is no guarantee. Training data that were changed a little before they were held out are not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

from bitcert.proof import CITATION_HOLDOUT, CITATION_OCCAM, complexity_nats, holdout_bound, occam_bound
from bitcert.theory.inputs import BoundInputs, MessageFacts
from bitcert.theory.registry import guarantee
from bitcert.theory.value import BoundValue, Condition, need, needs

INDEPENDENT = Condition(
    "examples drawn independently from one distribution", True, "taken on trust: no program can check it"
)
HELPER_FIXED = Condition(
    "architecture and helper fixed before the sample was seen", True, "taken on trust: no program can check it"
)


def helpers_fixed(messages: Sequence[MessageFacts]) -> Condition:
    """:data:`HELPER_FIXED` of messages; not known where they refer to public weights, which it then names.

    Weights can hold anything that was learnt from the sample, and no file shows when they were made.
    """
    found = [message.basis for message in messages if message.basis]
    if not found:
        return HELPER_FIXED
    detail = f"{'; '.join(found)}"[:250]
    return replace(HELPER_FIXED, holds=None, detail=f"{detail}: their bits are not counted, their age is not known")


def citable(inputs: BoundInputs) -> tuple[tuple[MessageFacts, ...], float, tuple[str, ...]]:
    """The messages that a row is computed from, delta of each, and notes on the choice.

    Messages that need no public weights where there are any, else all. Delta is shared by all that were named, so that
    the choice costs nothing.

    Raises:
        NotComputed: there is no message.
    """
    messages = inputs.messages
    if not messages:
        where = f" ({inputs.messages_note})" if inputs.messages_note else ""
        raise needs(f"needs --certificates: a message of bitcert certify{where}")
    bare = tuple(message for message in messages if not message.basis)
    count, notes = len(messages), []
    if count > 1:
        notes.append(
            f"delta is shared by the {count} messages named, so that the best of them may be quoted; others that were "
            "made of the same sample are not counted."
        )
    if bare and len(bare) < count:
        left = count - len(bare)
        notes.append(
            f"{left} of {count} messages {'refers' if left == 1 else 'refer'} to public weights of unknown age; the "
            "row is computed from the others."
        )
    return bare or messages, inputs.delta / count, tuple(notes)


def speaks_of(message: MessageFacts, m: int) -> str:
    """Whose error a message's bound limits."""
    others = f"another label than this one on {message.disagreements:,} of {m:,} training examples"
    return f"It speaks of the network decoded from {message.name}, which gives {others}."


_NEVER_USED = Condition(
    "held-out labels never used", True, "taken on trust from whoever passed --holdout; none is a training example"
)


Form = Callable[[MessageFacts, int, float], float]
"""Upper limit on the error of a decoded message: ``(message, m, delta) -> bound``."""


def log_up(value: float) -> float:
    """``ln(value)`` rounded so that ``exp`` of it is at least ``value``; ``-inf`` of 0.

    >>> math.exp(log_up(0.1)) >= 0.1
    True
    """
    if value <= 0:
        return -math.inf
    found = math.log(value)
    while math.exp(found) < value:
        found = math.nextafter(found, math.inf)
    return found


@guarantee(
    "holdout",
    CITATION_HOLDOUT,
    "held-out labels",
    "With probability 1 - delta this network is wrong on at most this share of new data; it costs labels.",
)
def holdout(inputs: BoundInputs) -> BoundValue:
    """``p_bar(E_n, n, delta)``."""
    facts = need(inputs.holdout)
    return BoundValue(
        log_up(holdout_bound(facts.errors, facts.samples, inputs.delta)),
        conditions=(_NEVER_USED, INDEPENDENT),
        ingredients={"errors": facts.errors, "samples": facts.samples, "delta": inputs.delta},
    )


def _best(inputs: BoundInputs, form: Form) -> BoundValue:
    """The smallest of the messages' bounds, each at its share of delta."""
    messages, share, notes = citable(inputs)
    found = [form(message, inputs.m, share) for message in messages]
    best = messages[found.index(min(found))]
    return BoundValue(
        log_up(min(found)),
        conditions=(helpers_fixed(messages), INDEPENDENT),
        ingredients={
            "message": best.name,
            "bits": best.bits,
            "errors": best.errors,
            **inputs.facts("m", "delta"),
            "delta_of_each": share,
            "all_bits": tuple(float(message.bits) for message in messages),
            "all_errors": tuple(float(message.errors) for message in messages),
            "all_bounds": tuple(found),
        },
        notes=(speaks_of(best, inputs.m), *notes),
    )


@guarantee(
    "occam-binomial",
    CITATION_OCCAM,
    "Occam certificate, exact binomial tail",
    "With probability 1 - delta the network compressed into the message is wrong on at most this share of new data.",
)
def occam_binomial(inputs: BoundInputs) -> BoundValue:
    """``p_bar(E, m, delta' 2^-|c|)``."""
    return _best(inputs, lambda message, m, delta: occam_bound(message.errors, m, message.bits, delta).binomial)


@guarantee(
    "occam-kl",
    CITATION_OCCAM,
    "Occam certificate, KL-Chernoff",
    "A little more than the exact certificate: by an inequality that also holds for losses other than errors.",
)
def occam_kl(inputs: BoundInputs) -> BoundValue:
    """The largest ``L`` with ``kl(E/m || L) <= (|c| ln 2 + ln(1/delta')) / m``."""
    return _best(inputs, lambda message, m, delta: occam_bound(message.errors, m, message.bits, delta).kl_chernoff)


def _hoeffding(message: MessageFacts, m: int, delta: float) -> float:
    root = math.sqrt(complexity_nats(message.bits, delta) / (2 * m)) * (1 + 2.0**-50)
    total = math.nextafter(message.errors / m + root, math.inf)
    return max(total, occam_bound(message.errors, m, message.bits, delta).hoeffding)


@guarantee(
    "occam-hoeffding",
    CITATION_OCCAM,
    "Occam certificate, Hoeffding (the papers' form)",
    "The certificate in the form the papers print: always the loosest of the three, and it may exceed 1.",
)
def occam_hoeffding(inputs: BoundInputs) -> BoundValue:
    """``E/m + sqrt((|c| ln 2 + ln(1/delta')) / (2m))``, not cut at 1."""
    return _best(inputs, _hoeffding)
