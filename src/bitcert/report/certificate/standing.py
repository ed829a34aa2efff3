"""Where a certificate's bound stands: against guessing, against holding out labels, and what would lower it most.

Everything is computed from the certificate's own counts. What another run would say is an estimate and marked as one:
it supposes that a classifier errs on other examples as often as this one on those that were counted, and most err more.
"""

from __future__ import annotations

import math

from bitcert.certificates.certificate import Certificate
from bitcert.proof import holdout_bound, occam_bound
from bitcert.report.certificate.claims import counted_on
from bitcert.report.text import estimated, number, percent, percent_up, share
from bitcert.search.forecast import Facts, held_out, held_out_size, with_prior

WEAK = 0.5
"""Of the errors of guessing: a bound above that share of them is told what would lower it."""


def guessing(certificate: Certificate) -> float | None:
    """The errors of naming a class at random; ``None`` where the classes are not known."""
    classes = certificate.data.get("num_classes")
    return 1 - 1 / classes if type(classes) is int and classes >= 2 else None


def weak_because(certificate: Certificate) -> str:
    """Why a bound says no more than guessing: of its ``"errors"``, its ``"bits"``; empty where it says more."""
    limit = guessing(certificate) or 1.0
    if not certificate.vacuous and certificate.bound < limit:
        return ""
    return "errors" if _occam(certificate, bits=0) >= limit else "bits"


def standing(certificate: Certificate) -> list[str]:
    """Sentences; none where the counts are impossible."""
    limit, samples = guessing(certificate), certificate.samples
    if limit is None or samples < 2 or not 0 <= certificate.errors <= samples or not 0 < certificate.delta < 1:
        return []
    facts = _facts(certificate)
    told = f"Against guessing: one of {number(certificate.data['num_classes'])} classes at random errs on "
    if certificate.bound < limit:
        less = (limit - certificate.bound) / limit
        told += f"{percent(limit)}; the bound is {100 * less:.0f} % below that."
    else:
        told += f"{percent(limit)}; the bound says no more."
    rate, size = share(certificate.errors, samples), held_out_size(facts)
    lines = [
        told,
        f"Against holding out: with a tenth of the same labels ({number(size)}) held out, a classifier that errs on "
        f"them as on {counted_on(certificate)} ({rate}) would be certified at "
        f"{estimated(percent_up(held_out(facts)[0]), True)}; most err more on new data.",
        *_labelled(certificate),
    ]
    return [*lines, *([_help(certificate, facts)] if certificate.bound > WEAK * limit else [])]


def _facts(certificate: Certificate) -> Facts:
    rate = certificate.errors / certificate.samples
    classes = int(certificate.data["num_classes"])
    return Facts(certificate.samples, classes, 0, rate, 0.0, delta=certificate.delta)


def _labelled(certificate: Certificate) -> list[str]:
    """What labelling the unlabelled examples would buy."""
    original = certificate.original
    count = None if original is None else original.get("samples")
    if type(count) is not int or count < 1:
        return []
    errors = math.ceil(certificate.errors / certificate.samples * count)
    bound = percent_up(holdout_bound(errors, count, certificate.delta))
    return [
        f"Labelling the {number(count)} unlabelled examples instead would certify {estimated(bound, True)}, if the "
        "original network errs on them as often as the compressed one on its training examples."
    ]


def _help(certificate: Certificate, facts: Facts) -> str:
    """What would lower the bound of the compressed network most, the best first."""
    errors, bits = certificate.errors, certificate.message_bits
    options = {
        "half as many bits (a longer --budget, a smaller architecture)": _occam(certificate, bits=bits // 2),
        "half as many errors": _occam(certificate, errors=errors // 2),
        "twice as many examples": _occam(certificate, times=2),
    }
    if certificate.prior is None:
        options["half of the examples as a prior part (--prior-split 0.5)"] = with_prior(facts)[0]
    best = sorted(options.items(), key=lambda option: option[1])
    lines = "; ".join(f"{what}: {percent_up(value)}" for what, value in best)
    return f"What would help most, estimated from these counts: {lines}."


def _occam(certificate: Certificate, *, errors: int | None = None, bits: int | None = None, times: int = 1) -> float:
    """The bound with other counts, at the same delta."""
    wrong = times * (certificate.errors if errors is None else errors)
    size = certificate.message_bits if bits is None else bits
    return occam_bound(wrong, times * certificate.samples, size, certificate.delta).binomial
