"""Numbers and names as a reader sees them: bounds rounded up, unknown text made harmless, small sections grouped.

Does NOT check that what it formats is true or consistent.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import ROUND_CEILING, ROUND_HALF_EVEN, Decimal
from numbers import Real
from typing import Any

from bitcert.certificates.certificate import Certificate
from bitcert.certificates.conditions import HELPER_ONLY, NOT_MET

UNKNOWN = "–"
MAX_TEXT = 1000
MAX_CONDITIONS = 100
_HUNDREDTH = Decimal("0.01")
_LARGEST_SAID = Decimal("0.9999")  # of bounds: beyond it 100 % is printed
_LARGEST = Decimal(10) ** 20  # more than any count a certificate can hold; keeps all formatting exact

FORMS = {
    "binomial": "exact binomial tail",
    "kl_chernoff": "KL–Chernoff",
    "hoeffding": "Hoeffding",
}

Sections = Sequence[tuple[str, int]]


def clean(text: object, limit: int = MAX_TEXT) -> str:
    r"""``text`` on one line, without control or direction-changing characters, at most ``limit`` characters.

    >>> clean("a\x1b[31m\nb")
    'a�[31m b'
    """
    flat = " ".join(str(text)[: 4 * limit].split())
    safe = "".join(character if character.isprintable() else "�" for character in flat)
    return safe if len(safe) <= limit else safe[: limit - 1] + "…"


def decimal(value: object) -> Decimal | None:
    """A finite number exactly; ``None`` for anything else, and for what no certificate can hold."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return None
    exact = Decimal(repr(value))
    return exact if exact.is_finite() and abs(exact) < _LARGEST else None


def _percent(value: object, rounding: str) -> str:
    rate = decimal(value)
    return UNKNOWN if rate is None else f"{(100 * rate).quantize(_HUNDREDTH, rounding=rounding)} %"


def percent_up(value: object) -> str:
    """A bound in percent, two decimals, rounded up so that what is printed is still a bound.

    >>> percent_up(0.24101), percent_up(1.0), percent_up(None)
    ('24.11 %', '100.00 %', '–')
    """
    return _percent(value, ROUND_CEILING)


def percent(value: object) -> str:
    """A measured rate in percent, two decimals, rounded to nearest."""
    return _percent(value, ROUND_HALF_EVEN)


def share(part: object, whole: object) -> str:
    """``part / whole`` in percent, or a dash where there is no such share.

    >>> share(600, 60000), share(1, 0)
    ('1.00 %', '–')
    """
    top, bottom = decimal(part), decimal(whole)
    if top is None or bottom is None or bottom < 1:
        return UNKNOWN
    return f"{(100 * top / bottom).quantize(_HUNDREDTH)} %"


def number(value: object) -> str:
    """An integer with thousands separators, any other number with six digits.

    >>> number(10_000_000), number(0.25), number("x")
    ('10,000,000', '0.25', '–')
    """
    if decimal(value) is None:
        return UNKNOWN
    return f"{value:,}" if isinstance(value, int) else f"{value:.6g}"


def delta_text(value: object) -> str:
    """A failure probability as the decimal it was written as."""
    return UNKNOWN if decimal(value) is None else f"{value:.12g}"


def group_sections(sections: Sections, most: int) -> list[tuple[str, int]]:
    """The largest sections in the order of the file; if some are left out, what they add up to is the last entry.

    Args:
        sections: names and bits.
        most: how many entries may be shown, the grouped rest included; at least 2.

    >>> group_sections([("a", 5), ("b", 1), ("c", 9), ("d", 2)], 3)
    [('a', 5), ('c', 9), ('2 smaller sections', 3)]
    """
    if len(sections) <= most:
        return list(sections)
    by_size = sorted(range(len(sections)), key=lambda i: (-sections[i][1], i))
    kept, rest = sorted(by_size[: most - 1]), by_size[most - 1 :]
    others = (f"{number(len(rest))} smaller sections", sum(sections[i][1] for i in rest))
    return [*(sections[i] for i in kept), others]


def bound_rows(bounds: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Label and value of the bound in each of its forms, the tightest first, then whatever else there is."""
    known = [(label, bounds[key]) for key, label in FORMS.items() if key in bounds]
    others: Iterable[str] = sorted(key for key in bounds if key not in FORMS)
    rows = known + [(key.replace("_", " "), bounds[key]) for key in others]
    return [(label, percent_up(value) + vacuous_word(value)) for label, value in rows]


def estimated(text: str, is_estimate: bool) -> str:
    """A number that a certificate will count anew, marked as the estimate it is.

    >>> estimated("4.35 %", True), estimated("4.35 %", False)
    ('about 4.35 % (estimate)', '4.35 %')
    """
    return f"about {text} (estimate)" if is_estimate else text


def vacuous_word(value: object) -> str:
    """A word for a bound that says nothing to the two decimals that are printed."""
    bound = decimal(value)
    return " (vacuous)" if bound is not None and bound > _LARGEST_SAID else ""


def helper_size(certificate: Certificate) -> str:
    """Length of the helper's description in words."""
    bits = certificate.helper_bits
    return "code of unknown length" if bits is None else f"{number(bits)} bits"


def self_contained(certificate: Certificate) -> str:
    """The bound that does not trust the helper, in percent."""
    return percent_up(certificate.self_contained) + vacuous_word(certificate.self_contained)


def condition_rows(certificate: Certificate) -> list[tuple[str, str]]:
    """What the bound rests on: for each condition its kind (``holds``, ``helper``, ``broken``) and its text."""
    rows = []
    for condition in certificate.conditions[:MAX_CONDITIONS]:
        text = clean(condition)
        if text.startswith(NOT_MET):
            rows.append(("broken", text))
        elif text.startswith(HELPER_ONLY):
            rows.append(("helper", text.removeprefix(HELPER_ONLY)))
        else:
            rows.append(("holds", text))
    return rows


def beside_guessing(certificate: Certificate) -> str:
    """What guessing says, where the bound says no more than that; empty where it says more, and where it is vacuous."""
    classes = certificate.data.get("num_classes")
    if certificate.vacuous or type(classes) is not int or classes < 2 or certificate.bound < 1 - 1 / classes:
        return ""
    errs = percent(1 - 1 / classes)
    return f"It says no more than guessing: one of {number(classes)} classes at random errs on {errs}."


def foundation(certificate: Certificate) -> str:
    """The sentence about weights in the helper, empty without them: a certificate is worth what it rests on."""
    if "weights" not in certificate.helper:
        return ""
    digest = clean(certificate.helper["weights"], 16)
    if certificate.prior is not None:
        return (
            f"The message is relative to a helper network (hash {digest}), whose bits are not counted: "
            "it holds only if that network was made without a look at the rest of these data."
        )
    return (
        f"The message is relative to public weights (hash {digest}), whose bits are not counted: "
        "it holds only if they were fixed before these data were seen."
    )
