"""Where a certificate's bound stands: against guessing, against holding out labels, and what would lower it most.

Everything is computed from the certificate's own counts. What another run would say is an estimate and marked as one:
it supposes that a classifier errs on other examples as often as this one on those that were counted, and most err more.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from bitcert.certificates.certificate import Certificate
from bitcert.proof import disagreement_bound, holdout_bound, occam_bound
from bitcert.report.certificate.claims import abstains, errors_on
from bitcert.report.text import estimated, number, percent, percent_up
from bitcert.search.forecast import Facts, held_out, held_out_size, with_prior

WEAK = 0.5
"""Of the errors of guessing: a bound above that share of them is told what would lower it."""

UNEQUAL = 0.95
"""Of the errors of guessing: where the most frequent class makes fewer, the bound is compared with them."""


def guessing(certificate: Certificate) -> float | None:
    """The errors of naming a class at random; ``None`` where the classes are not known."""
    classes = certificate.data.get("num_classes")
    return 1 - 1 / classes if type(classes) is int and classes >= 2 else None


def weak_because(certificate: Certificate) -> str:
    """Why a bound says no more than guessing: of its ``"errors"``, its ``"bits"``; empty where it says more."""
    limit = guessing(certificate) or 1.0
    if not certificate.vacuous and certificate.bound < limit:
        return ""
    return "errors" if _bound(certificate, bits=0) >= limit else "bits"


def standing(certificate: Certificate, most_frequent: float | None = None) -> list[str]:
    """Sentences; none where the counts are impossible.

    Args:
        most_frequent: errors of always naming the training sample's most frequent class, in [0, 1]; if it is known.
    """
    limit, samples = guessing(certificate), certificate.samples
    if limit is None or samples < 2 or not 0 <= certificate.errors <= samples or not 0 < certificate.delta < 1:
        return []
    facts = _facts(certificate)
    beside = _held_out(certificate, facts) if facts.error_rate < limit else []
    told = f"Against guessing: one of {number(certificate.data['num_classes'])} classes at random errs on "
    told += percent(limit)
    if most_frequent is not None and most_frequent < UNEQUAL * limit:
        limit = most_frequent
        told += f", the most frequent class alone on {percent(limit)} of the training sample"
    if certificate.bound < limit:
        less = (limit - certificate.bound) / limit
        told += f"; the bound is {100 * less:.0f} % below that."
    else:
        told += "; the bound says no more."
    return [told, *beside, *(_help(certificate, facts) if certificate.bound > WEAK * limit else [])]


def _held_out(certificate: Certificate, facts: Facts) -> list[str]:
    """What the same labels held out, and the unlabelled examples labelled, would say of a classifier like this one."""
    held, like = percent_up(held_out(facts)[0]), f"{errors_on(certificate)} ({percent(facts.error_rate)})"
    lines = [
        f"Against holding out: with a tenth of the same labels ({number(held_out_size(facts))}) held out, a classifier "
        f"that errs on them as on {like} would be certified at {estimated(held, True)}; most err more on new data."
    ]
    count = _unlabelled(certificate)
    if count:
        bound = percent_up(holdout_bound(math.ceil(facts.error_rate * count), count, certificate.delta))
        lines.append(
            f"Labelling the {number(count)} unlabelled examples instead would certify {estimated(bound, True)}, if the "
            f"original network errs on them as often as the compressed one on {errors_on(certificate)}."
        )
    return lines


def _facts(certificate: Certificate) -> Facts:
    """With the error rate on the examples that are answered; of a surrogate at least as many as it agrees on."""
    rate, apart = certificate.errors / certificate.samples, _apart(certificate)
    if apart is not None and abstains(certificate):
        answered = 1 - apart / _unlabelled(certificate)
        rate = min(1.0, rate / answered) if answered else 1.0
    classes = int(certificate.data["num_classes"])
    return Facts(certificate.samples, classes, 0, rate, 0.0, delta=certificate.delta)


def _unlabelled(certificate: Certificate) -> int:
    """How many unlabelled examples a certificate of an original network has; 0 where there are none."""
    data = {} if certificate.original is None else certificate.original.get("unlabelled")
    count = data.get("samples") if isinstance(data, Mapping) else None
    return count if type(count) is int and count > 0 else 0


def _apart(certificate: Certificate) -> int | None:
    """On how many of these the two networks differ; ``None`` where there is no sensible number."""
    apart = None if certificate.original is None else certificate.original.get("disagreements")
    return apart if type(apart) is int and 0 <= apart <= _unlabelled(certificate) else None


def _help(certificate: Certificate, facts: Facts) -> list[str]:
    """What would lower the bound, the best first; empty where nothing of this would."""
    errors, bits, apart = certificate.errors, certificate.message_bits, _apart(certificate)
    of, more = ("", "examples") if apart is None else (" of the surrogate", "labelled examples")
    options = {
        f"half as many bits{of} (a longer --budget, a smaller architecture)": _bound(certificate, bits=bits // 2),
        f"half as many errors{of}": _bound(certificate, errors=errors // 2),
        f"twice as many {more}": _bound(certificate, times=2),
    }
    if certificate.prior is None:
        split = _plus(certificate, with_prior(facts)[0])
        options["half of the examples as a prior part (--prior-split 0.5)"] = split
    if apart is not None:
        options["half as many disagreements"] = _bound(certificate, apart=apart // 2)
        options["four times as many unlabelled examples"] = _bound(certificate, unlabelled=4)
    best = sorted((option for option in options.items() if option[1] < certificate.bound), key=lambda option: option[1])
    lines = "; ".join(f"{what}: {percent_up(value)}" for what, value in best)
    return [f"What would help most, estimated from these counts: {lines}."] if best else []


def _spent(certificate: Certificate, place: int) -> float:
    """What the ledger gives the message (0) or the disagreement (1) of delta; all of it where it says nothing."""
    ledger = certificate.delta_ledger
    amount = ledger[place][1] if place < len(ledger) else certificate.delta
    return amount if 0 < amount < 1 else certificate.delta


def _bound(
    certificate: Certificate,
    *,
    errors: int | None = None,
    bits: int | None = None,
    times: int = 1,
    apart: int | None = None,
    unlabelled: int = 1,
) -> float:
    """The bound on what is certified with other counts."""
    wrong = times * (certificate.errors if errors is None else errors)
    size = certificate.message_bits if bits is None else bits
    occam = occam_bound(wrong, times * certificate.samples, size, _spent(certificate, 0)).binomial
    return _plus(certificate, occam, apart, unlabelled)


def _plus(certificate: Certificate, occam: float, apart: int | None = None, times: int = 1) -> float:
    """A bound on the compressed network as one on what is certified: of an original with their disagreement."""
    counted = _apart(certificate)
    if counted is None:
        return occam
    differ = times * (counted if apart is None else apart)
    return disagreement_bound(occam, differ, times * _unlabelled(certificate), _spent(certificate, 1))
