"""The certificate: one JSON file that says what is proved, of what, from which counts.

The file is canonical (one way to write each certificate) and ends with a checksum of the rest, so that a changed byte
is noticed; the checksum is against accidents, not against forgers. Against those there is
:mod:`bitcert.certificates.verification`, which recounts everything from message and data and believes nothing in the
file.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from decimal import ROUND_DOWN, ROUND_UP, Context, Decimal
from typing import Any

from bitcert.canonical import parse
from bitcert.errors import DecodeError

FORMAT = "bitcert-certificate-3"
MAX_CERTIFICATE_BYTES = 1 << 20
MESSAGE_FILE = "message.bin"
CERTIFICATE_FILE = "certificate.json"
EXPECTED = "a certificate.json written by bitcert"

DATA_KEYS = frozenset({"name", "hash", "num_classes", "input_shape", "benchmark"})
TABLE_KEYS = frozenset({"label", "classes", "schema"})
"""What ``table`` says beside these, of a sample that was read from one."""

HOLDOUT_KEYS = frozenset({"name", "hash", "samples", "errors", "bound"})
REST_KEYS = frozenset({"samples", "errors", "bound", "in_helper"})
MESSAGE_KEYS = frozenset({"file", "sha256"})
VERSIONED = ("bitcert", "torch", "numpy", "scipy", "constriction")
"""Distributions whose versions a certificate names, besides Python."""

_MAX_DEPTH = 8
_STRING = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"?', re.DOTALL)
_DOWN, _UP = Context(prec=9, rounding=ROUND_DOWN), Context(prec=9, rounding=ROUND_UP)


@dataclass(frozen=True)
class Certificate:
    """What is proved, and the numbers it rests on.

    Attributes:
        bound: upper limit on the error probability of the certified classifier on new data, in [0, 1], if the helper
            was fixed before the data were seen.
        self_contained: the same limit without that assumption: the helper's description is charged like the message.
        delta: probability, over the draw of the sample, that the bound fails.
        errors: errors on the training sample, near-ties included; of a surrogate that abstains, where it answers.
        near_ties: examples whose two largest logits are closer than the decision rule's tolerance.
        rounding: near-ties that are none in float64: float32 might decide them otherwise on another machine.
        samples: size m of the training sample, with a prior split of the rest only.
        message_bits: length of the message file in bits.
        certifies: ``"compressed"`` or ``"original"``: whose error the bound limits.
        theorem: the theorem used, with its citation.
        bounds: of the compressed network, at its part of delta, in three forms, ``binomial <= kl_chernoff <=
            hoeffding``. They limit its error; of a surrogate that abstains, only how often it answers and is wrong.
        sections: bits of the message by section; they sum to ``message_bits``.
        helper_sections: bits of the helper's description by section; empty where its code could not be read, and
            ``self_contained`` is then 1.
        delta_ledger: what ``delta`` was spent on.
        decision_rule: precision and batches of both ways of counting, tolerance.
        data: name, hash, number of classes, shape of the training sample; which built-in benchmark it is, if one; of a
            table its label, the names of its classes and the hash of its schema.
        helper: everything the decoder knows beforehand, with its hash.
        commitment: hash of all that was declared before the data, which the helper is chosen from by the message
            alone, and the hashes of the declared architectures and weights.
        conditions: what no file can show and the bound needs, in words.
        message: file name and SHA-256 of the message.
        description: what the certified classifier is, in words.
        holdout: counts and bound of held-out labels, for comparison only, or ``None``.
        versions: of the program and of the libraries that made the file.
        prior: the declared split: fraction, seed, size and hash of the prior part, hash of the rest; or ``None``.
        rest: errors on the rest of the network trained on the prior part, and what holding out would have said;
            ``None`` without a split.
        losses: further losses that are bounded, each at its part of delta.
        original: the original network, the unlabelled sample and the disagreements, or ``None``.
    """

    bound: float
    self_contained: float
    delta: float
    errors: int
    near_ties: int
    rounding: int
    samples: int
    message_bits: int
    certifies: str
    theorem: str
    bounds: Mapping[str, float]
    sections: tuple[tuple[str, int], ...]
    helper_sections: tuple[tuple[str, int], ...]
    delta_ledger: tuple[tuple[str, float], ...]
    decision_rule: Mapping[str, Any]
    data: Mapping[str, Any]
    helper: Mapping[str, Any]
    commitment: Mapping[str, Any]
    conditions: tuple[str, ...]
    message: Mapping[str, str]
    description: str
    holdout: Mapping[str, Any] | None
    versions: Mapping[str, str]
    prior: Mapping[str, Any] | None = None
    rest: Mapping[str, Any] | None = None
    losses: tuple[Mapping[str, Any], ...] = ()
    original: Mapping[str, Any] | None = None
    format: str = field(default=FORMAT, init=False, repr=False)

    @property
    def vacuous(self) -> bool:
        """Whether the bound says nothing: no better than guessing that every answer is wrong."""
        return self.bound >= 1.0

    @property
    def sentence(self) -> str:
        """The certificate in one plain sentence."""
        confidence = f"{_percent_down(self.delta)} %"
        what = "this classifier" if self.certifies == "compressed" else "the original network"
        percent = _percent_up(self.bound)
        if self.vacuous or float(percent) >= 100:
            return f"With {confidence} confidence nothing is certified of {what}: the bound is vacuous (100 %)."
        return f"With {confidence} confidence {what} is wrong on at most {percent} % of new data like these."

    @property
    def helper_bits(self) -> int | None:
        """Length of the helper's description in bits; ``None`` where it could not be read."""
        return sum(bits for _, bits in self.helper_sections) if self.helper_sections else None

    def to_json(self) -> str:
        """The canonical file text, with its checksum."""
        content = {name: getattr(self, name) for name in _KEYS}
        content["checksum"] = _checksum(content)
        return _canonical(content)

    @classmethod
    def from_json(cls, text: str) -> Certificate:
        """Read a certificate file.

        Raises:
            DecodeError: unless the text is exactly what :meth:`to_json` writes for some certificate.
        """
        content = parse_strict(text)
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise _bad(f"no format {FORMAT!r}")
        checksum = content.pop("checksum", None)
        if checksum != _checksum(content):
            raise _bad("a checksum that does not match the content")
        if set(content) != _KEYS:
            raise _bad("missing or unknown keys")
        _check_types(content)
        del content["format"]
        for name in ("sections", "helper_sections", "delta_ledger"):
            content[name] = tuple((str(key), value) for key, value in content[name])
        for name in ("losses", "conditions"):
            content[name] = tuple(content[name])
        certificate = cls(**content)
        if certificate.to_json() != text:
            raise _bad("a text that is not in canonical form")
        return certificate


_KEYS = frozenset(each.name for each in fields(Certificate))
"""The keys of a file, its checksum aside."""


def _percent_down(delta: float) -> str:
    """``1 - delta`` in percent, rounded down: the sentence must not promise more confidence than there is."""
    confidence = _DOWN.multiply(_DOWN.subtract(Decimal(1), Decimal(repr(delta))), Decimal(100))
    return f"{confidence.quantize(Decimal('0.0001'), ROUND_DOWN).normalize():f}"


def _percent_up(bound: float) -> str:
    """``bound`` in percent, rounded up to a tenth."""
    return f"{_UP.multiply(Decimal(repr(bound)), Decimal(100)).quantize(Decimal('0.1'), ROUND_UP)}"


def _bad(got: str, expected: str = EXPECTED) -> DecodeError:
    return DecodeError(expected, got, "ask for the file again")


def _canonical(content: Mapping[str, Any]) -> str:
    return json.dumps(content, indent=1, ensure_ascii=True, allow_nan=False, sort_keys=True) + "\n"


def _checksum(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(_canonical(content).encode()).hexdigest()


def parse_strict(text: str, expected: str = EXPECTED) -> Any:
    """JSON with bounds: size, depth, integer length, no duplicate keys, no NaN; ``expected`` says what it should be.

    Raises:
        DecodeError: for anything else.
    """
    if len(text) > MAX_CERTIFICATE_BYTES:
        raise _bad(f"{len(text)} characters", expected)
    depth = 0
    for character in _STRING.sub("", text):
        depth += (character in "[{") - (character in "]}")
        if depth > _MAX_DEPTH:
            raise _bad(f"more than {_MAX_DEPTH} levels of nesting", expected)
    return parse(text, expected)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_probability(value: object) -> bool:
    return isinstance(value, float) and 0.0 <= value <= 1.0


def _is_pairs(value: object, check: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(pair, list) and len(pair) == 2 and isinstance(pair[0], str) and check(pair[1]) for pair in value
    )


def _check_types(content: Mapping[str, Any]) -> None:
    checks: dict[str, Any] = {
        **dict.fromkeys(("bound", "self_contained", "delta"), _is_probability),
        **dict.fromkeys(("errors", "near_ties", "rounding", "samples", "message_bits"), _is_count),
        **dict.fromkeys(("theorem", "description"), lambda v: isinstance(v, str)),
        **dict.fromkeys(("decision_rule", "data", "helper", "commitment"), lambda v: isinstance(v, dict)),
        "certifies": lambda v: v in ("compressed", "original"),
        "bounds": lambda v: isinstance(v, dict) and all(map(_is_probability, v.values())),
        **dict.fromkeys(("sections", "helper_sections"), lambda v: _is_pairs(v, _is_count)),
        "conditions": lambda v: isinstance(v, list) and all(isinstance(item, str) for item in v),
        "delta_ledger": lambda v: _is_pairs(v, _is_probability),
        "message": lambda v: isinstance(v, dict) and all(isinstance(item, str) for item in v.values()),
        "versions": lambda v: isinstance(v, dict) and all(isinstance(item, str) for item in v.values()),
        **dict.fromkeys(("holdout", "prior", "rest", "original"), lambda v: v is None or isinstance(v, dict)),
        "losses": lambda v: isinstance(v, list) and all(isinstance(item, dict) for item in v),
    }
    wrong = [name for name, check in checks.items() if name in content and not check(content[name])]
    if wrong:
        raise _bad(f"unusable values of {', '.join(sorted(wrong))}")
