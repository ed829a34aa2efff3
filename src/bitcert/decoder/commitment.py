"""The commitment: one hash of all that a decoder may know, published before the data are opened.

A run may try messages about a given network, about public weights and about nothing but the problem. A message says
whether it is decoded with an architecture and with weights, but not with which: where several were declared, the
certificates share ``delta`` (:attr:`Commitment.choices`). With one of each, a message of a built-in family may be read
with a number of classes in front or without; format 1 leaves half of the code space unused, which pays for both
(docs/format.md). The commitment is the hash of that whole: problem,
preprocessing, decoder, the architectures and weights that were declared, and the declared prior split. (Weights trained
on the prior part come later and are not in it.) No label is needed to compute it. A certificate carries the hash and
the list, so that ``verify --commitment`` can hold both against what was published.

A hash that was published in time turns the assumption that the helper was fixed before the data into evidence. It does
NOT show when it was published, nor that nobody had seen the data by then.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bitcert.decoder.description import SplitClaim
from bitcert.decoder.helper import Helper

COMMITMENT_KEYS = frozenset({"hash", "num_classes", "architectures", "weights"})
_PROBLEM = ("message_format", "input_shape", "scale", "mean", "std", "decoder")


@dataclass(frozen=True)
class Commitment:
    """What was declared.

    Attributes:
        problem: those entries of a helper's description that all helpers of the run share.
        num_classes: as stated beforehand; ``None`` if it is read off the labels, and then coded in the message, or
            the width of a declared network.
        architectures: content hashes of all architectures (or opaque networks), sorted.
        weights: content hashes of all public weights, sorted; none with a split, whose weights are trained later.
        split: the declared prior split, or ``None``.
    """

    problem: Mapping[str, Any]
    num_classes: int | None
    architectures: tuple[str, ...]
    weights: tuple[str, ...]
    split: SplitClaim | None = None

    @classmethod
    def of(cls, helpers: Iterable[Helper], split: SplitClaim | None = None) -> Commitment:
        """The commitment to a family of helpers of one problem, the first of which is the problem alone."""
        helpers = tuple(helpers)
        described = [helper.describe() for helper in helpers]
        classes = None if helpers[0].classes_inferred else helpers[0].num_classes
        architectures = {str(each["architecture"]) for each in described if each["architecture"] is not None}
        weights = {str(each["weights"]) for each in described if "weights" in each} if split is None else set()
        return cls(problem_of(described[0]), classes, tuple(sorted(architectures)), tuple(sorted(weights)), split)

    @property
    def hash(self) -> str:
        """SHA-256 (hex) of all of it."""
        split = None if self.split is None else [self.split.fraction, self.split.seed]
        parts = [dict(self.problem), self.num_classes, list(self.architectures), list(self.weights), split]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    @property
    def choices(self) -> int:
        """How many helpers the same message might be decoded with: all pairs of an architecture and weights."""
        return num_choices(self.architectures, self.weights)

    def describe(self) -> dict[str, object]:
        """What a certificate says of it, as JSON values."""
        return {
            "hash": self.hash,
            "num_classes": self.num_classes,
            "architectures": list(self.architectures),
            "weights": list(self.weights),
        }

    def covers(self, described: Mapping[str, Any]) -> bool:
        """Whether a helper of this description was declared."""
        architecture, weights = described.get("architecture"), described.get("weights")
        if self.num_classes is None:
            classes = described.get("classes_inferred") is True or architecture is not None
        else:
            classes = described.get("num_classes") == self.num_classes and described.get("classes_inferred") is False
        known = architecture is None or architecture in self.architectures
        trained = weights is None or self.split is not None or weights in self.weights
        return problem_of(described) == dict(self.problem) and classes and known and trained


def num_choices(architectures: Sequence[object], weights: Sequence[object]) -> int:
    """How many pairs of an architecture and weights were declared; one where there is none of a kind."""
    return max(len(architectures), 1) * max(len(weights), 1)


def problem_of(described: Mapping[str, Any]) -> dict[str, Any]:
    """What all helpers of one problem share, from the description of one."""
    table = {"table": described["table"]} if "table" in described else {}
    return {**{key: described.get(key) for key in _PROBLEM}, **table}
