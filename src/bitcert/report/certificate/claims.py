"""What a certificate says beyond the error of a compressed network, as a reader sees it: splits, losses, the original.

Every entry may come from a stranger's file: what is missing or of another kind becomes a dash. Does NOT check
anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from bitcert.certificates.certificate import Certificate
from bitcert.proof.claims import LOSS_UNITS
from bitcert.report.text import UNKNOWN, clean, decimal, delta_text, number, percent, percent_up, share, vacuous_word

MOST_LOSSES = 64


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _paid(certificate: Certificate, index: int) -> str:
    ledger = certificate.delta_ledger
    return delta_text(ledger[index][1]) if -len(ledger) <= index < len(ledger) else UNKNOWN


def counted_on(certificate: Certificate) -> str:
    """What the errors were counted on."""
    return "the training set" if certificate.prior is None else "the rest of the training set"


def errors_on(certificate: Certificate) -> str:
    """The same for the errors: where a surrogate abstains, it makes none."""
    answers = ", where the surrogate answers" if abstains(certificate) else ""
    return f"{counted_on(certificate)}{answers}"


def abstains(certificate: Certificate) -> bool:
    """Whether it is about an original network whose surrogate may abstain: its errors are those of its answers."""
    return certificate.original is not None and bool(certificate.decision_rule.get("abstains_within"))


def split_facts(certificate: Certificate) -> dict[str, str] | None:
    """The declared split in words; ``None`` without one."""
    if certificate.prior is None:
        return None
    seed = certificate.prior.get("seed")
    fraction = certificate.prior.get("fraction")
    odd = "" if seed == 0 else " (not 0: a seed chosen by its result would make this worthless)"
    return {
        "samples": number(certificate.prior.get("samples")),
        "rest": number(certificate.samples),
        "fraction": f"{fraction:.6g}" if isinstance(fraction, float) else UNKNOWN,
        "seed": f"{number(seed)}{odd}",
    }


def rest_facts(certificate: Certificate) -> dict[str, Any] | None:
    """What simply holding out the rest would have said of the network trained on the prior part."""
    return _held_out(certificate, certificate.rest)


def holdout_facts(certificate: Certificate) -> dict[str, Any] | None:
    """What holding out labelled examples would have said; ``None`` without any."""
    return _held_out(certificate, certificate.holdout)


def _held_out(certificate: Certificate, held: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Counts on examples that were kept apart, and whether their bound is the tighter number."""
    if held is None:
        return None
    bound = decimal(held.get("bound"))
    return {
        "name": clean(held.get("name", "held-out data")),
        "samples": number(held.get("samples")),
        "errors": number(held.get("errors")),
        "rate": share(held.get("errors"), held.get("samples")),
        "bound": percent_up(held.get("bound")) + vacuous_word(held.get("bound")),
        "tighter": bound is not None and bound < Decimal(repr(certificate.bound)),
    }


def original_facts(certificate: Certificate) -> dict[str, str] | None:
    """The two parts of the bound on the original network; ``None`` for a certificate of a compressed one."""
    if certificate.original is None:
        return None
    data = _mapping(certificate.original.get("unlabelled"))
    return {
        "name": clean(certificate.original.get("name", "the original network"), 60),
        "hash": clean(certificate.original.get("hash", UNKNOWN), 16),
        "bound": percent_up(certificate.bound),
        "compressed": percent_up(certificate.bounds.get("binomial")),
        "compressed_delta": _paid(certificate, 0),
        "disagreements": number(certificate.original.get("disagreements")),
        "samples": number(data.get("samples")),
        "data": clean(data.get("name", "unlabelled data"), 60),
        "rate": share(certificate.original.get("disagreements"), data.get("samples")),
        "disagreement": percent_up(certificate.original.get("disagreement_bound")),
        "disagreement_delta": _paid(certificate, 1),
        "silence": " or abstains" if abstains(certificate) else "",
        "answer": "answers and is wrong" if abstains(certificate) else "is wrong",
        "look": number(certificate.original.get("look")),
    }


def loss_rows(certificate: Certificate) -> list[dict[str, str]]:
    """Name, mean on the training data, bound and part of delta of each further loss."""
    rows = []
    losses = certificate.losses[:MOST_LOSSES]
    for index, entry in enumerate(losses):
        form = "exact binomial tail" if entry.get("values") == "0 or 1" else "KL–Chernoff"
        rows.append(
            {
                "name": clean(entry.get("name", UNKNOWN), 60),
                "meaning": _meaning(str(entry.get("name", ""))),
                "mean": percent(entry.get("mean")),
                "bound": percent_up(entry.get("bound")),
                "self_contained": percent_up(entry.get("self_contained")),
                "form": form,
                "delta": _paid(certificate, index - len(certificate.losses)),
            }
        )
    return rows


def _meaning(name: str) -> str:
    if name.startswith("top-"):
        return f"the right class is not among the first {clean(name[4:], 8)}"
    if name == "brier":
        return "half the squared distance between softmax and label"
    if name.startswith("margin:"):
        return f"the right class leads by no more than {clean(name[7:], 12)}"
    return f"the user's own, in units of 1/{LOSS_UNITS:,} rounded up"
