"""How logits become a decision: the rule, how strictly it is applied, and the count that comes of it.

:mod:`bitcert.counting` says why the rule is as it is, and applies it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


@dataclass(frozen=True)
class DecisionRule:
    """How logits become a decision: float32 in batches, gaps within ``tolerance`` count as errors.

    Args:
        batch_size: examples evaluated at a time.
        tolerance: a top-two gap of at most ``tolerance * max |logit|`` is a near-tie.
        rounding: so is one of at most ``rounding`` times the largest difference between the two ways of counting.
        abstains_within: a surrogate of an original network abstains where its top-two gap is clearly smaller.
    """

    batch_size: int = 1000
    tolerance: float = 1e-4
    dtype: str = "float32"
    rounding: float = 16.0
    abstains_within: float = 0.0

    def describe(self, double: bool) -> dict[str, object]:
        """What a certificate says of the rule; ``double`` is whether the second way is float64."""
        abstains = {"abstains_within": self.abstains_within} if self.abstains_within else {}
        return {
            **abstains,
            "dtype": self.dtype,
            "batch_size": self.batch_size,
            "tolerance": self.tolerance,
            "second_dtype": "float64" if double else self.dtype,
            "second_batches": "halves of the first",
            "rounding": self.rounding,
        }


class Level(Enum):
    """How strictly an example is judged.

    A certificate counts at ``CERTIFIED``. Another machine's logits differ by rounding, so a reviewer counts at the
    other two: ``LENIENT`` finds only errors beyond doubt (half the tolerance in float64, or decided otherwise in
    float32), ``STRICT`` whatever any machine may have counted (twice the tolerance, sixteen times the rounding).
    """

    LENIENT = "lenient"
    CERTIFIED = "certified"
    STRICT = "strict"

    @property
    def tolerances(self) -> float:
        """How many times the tolerance a gap must exceed in float64."""
        return {Level.LENIENT: 0.5, Level.CERTIFIED: 1.0, Level.STRICT: 2.0}[self]

    @property
    def roundings(self) -> float:
        """How much larger than here the rounding error of one example may be on the machine that is allowed for."""
        return {Level.LENIENT: 0.0, Level.CERTIFIED: 1.0, Level.STRICT: 16.0}[self]


@dataclass(frozen=True)
class ErrorCount:
    """Errors of a classifier on a sample (near-ties included), and how many near-ties there were.

    ``rounding`` of the near-ties have a clear gap in float64: they are counted because float32 might decide otherwise.
    """

    errors: int
    near_ties: int
    samples: int
    rounding: int = 0

    def __add__(self, other: ErrorCount) -> ErrorCount:
        return ErrorCount(
            self.errors + other.errors,
            self.near_ties + other.near_ties,
            self.samples + other.samples,
            self.rounding + other.rounding,
        )

    @property
    def rate(self) -> float:
        """Fraction of errors."""
        return self.errors / self.samples
