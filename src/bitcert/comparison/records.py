"""What a comparison of codecs says, as frozen records that are written to JSON and read back.

A row is one message: its length, what it gets wrong, the Occam bound (Arora et al. 2018, Thm 2.1, in the exact binomial
form of docs/theory.md section 2), how far its outputs are from the original's, and what the codec's paper predicts. All
messages are words of one prefix code, so all bounds of a comparison hold at once with probability 1 - delta. The bounds
are of the decoded networks; the original's own error is only bounded by what is held out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from bitcert.canonical import Source, StoredOfNetwork, encode, plain, require
from bitcert.certificates.certification import describe_helper, describe_sample, versions
from bitcert.codecs.base import Codec
from bitcert.codecs.registry import options_of
from bitcert.coding import MessageReader
from bitcert.data import Sample
from bitcert.decoder import Helper, decode_message
from bitcert.decoder.network import QuantisedNetwork, base_value
from bitcert.decoder.tensors import FAMILY, read_codes
from bitcert.network import Network
from bitcert.run import Compressed
from bitcert.stability.measurement import network_hash
from bitcert.theory.value import LayerTheory, Theory

COMPRESSION_FORMAT = "bitcert-compression-1"


class _Counted:
    """Errors among examples."""

    errors: int
    samples: int

    @property
    def rate(self) -> float:
        """Fraction of errors."""
        return self.errors / self.samples


@dataclass(frozen=True)
class HoldoutCount(_Counted):
    """Errors on held-out labels.

    Attributes:
        errors, samples: counts, near-ties being errors.
        bound: what holding these out says of that network at the comparison's delta, or ``None`` for a message: only
            one network could be tested on them at that delta.
    """

    errors: int
    samples: int
    bound: float | None = None


@dataclass(frozen=True)
class Original(_Counted):
    """The network before compression.

    Attributes:
        parameters, nonzero: entries of all its tensors, and those that are not 0.
        errors, near_ties, samples: on the training sample.
        holdout: on held-out labels, with the bound they give.
        seconds: of one pass over the training sample.
    """

    parameters: int
    nonzero: int
    errors: int
    near_ties: int
    samples: int
    holdout: HoldoutCount | None
    seconds: float


@dataclass(frozen=True)
class Spread:
    """A deviation over the training sample; ``None`` where a logit is not finite."""

    median: float | None
    upper: float | None
    """The 99 % quantile."""
    maximum: float | None


@dataclass(frozen=True)
class DeviationRow:
    """How far the outputs of a message are from the original's.

    Attributes:
        entrywise, l2, relative: largest entry, Euclidean norm, and that norm over the output's.
        disagreements: examples that get another label.
        margin_loss: the original's share of margins of at most twice the largest entrywise deviation: by the margin
            theorem (docs/theory.md section 2) the message makes at most this share of errors, ties aside.
        margin_loss_l2: the same from the l2 deviation, of at most ``sqrt(2)`` times its largest.
    """

    entrywise: Spread
    l2: Spread
    relative: Spread
    disagreements: int
    margin_loss: float | None
    margin_loss_l2: float | None


@dataclass(frozen=True)
class TheoryRow(Theory):
    """A paper's prediction, stored without its layers; ``problem`` says why there is none."""

    layers: tuple[LayerTheory, ...] = field(default=(), metadata={"stored": False})
    problem: str = ""


@dataclass(frozen=True)
class Measured(_Counted):
    """What a message is and does.

    Attributes:
        message_bits: its length, everything chosen after seeing the data included.
        message_sha256: of its bytes.
        parameters: non-zero numbers in it.
        errors, near_ties, samples: on the training sample.
        bound: on the error of the decoded network, all messages at once, at the comparison's delta.
        holdout: errors on held-out labels.
        deviation: of its outputs.
        count_seconds: for counting errors and deviations.
    """

    message_bits: int
    message_sha256: str
    parameters: int | None
    errors: int
    near_ties: int
    samples: int
    bound: float
    holdout: HoldoutCount | None
    deviation: DeviationRow
    count_seconds: float


@dataclass(frozen=True)
class ComparisonRow:
    """One codec at one strength.

    Attributes:
        codec, label: its name, and name with setting.
        options: what makes it again (``bitcert compress --codec ... --option ...``).
        trained: whether it trained on the sample.
        budget_seconds: its share of the time for training, 0 for the others.
        seconds: encoding took.
        measured: its message; ``None`` when there is none, and then ``refusal`` is the sentence that says why.
        theory: the paper's prediction.
    """

    codec: str
    label: str
    options: Mapping[str, str]
    trained: bool
    budget_seconds: float
    seconds: float
    measured: Measured | None
    refusal: str = ""
    theory: TheoryRow | None = None


@dataclass(frozen=True)
class Comparison(StoredOfNetwork):
    """All rows on one network, with everything they rest on.

    Attributes:
        network, sample, helper, settings: names, hashes, sizes and options.
        holdout: name and hash of the held-out data, or ``None``.
        delta: probability with which any of the bounds may fail.
        original: the network before compression.
        rows: in the order of the codecs, each from weak to strong.
        conclusions: sentences computed from the rows.
        versions: of the program and what it rests on.
    """

    SOURCE: ClassVar = Source("comparison.json", "bitcert compare", "bitcert-comparison-1")

    network: Mapping[str, Any]
    sample: Mapping[str, Any]
    helper: Mapping[str, str]
    holdout: Mapping[str, Any] | None
    delta: float
    settings: Mapping[str, Any]
    original: Original
    rows: tuple[ComparisonRow, ...]
    conclusions: tuple[str, ...]
    versions: Mapping[str, str]

    @property
    def messages(self) -> tuple[tuple[ComparisonRow, Measured], ...]:
        """The rows that have a message, with it."""
        return tuple((row, row.measured) for row in self.rows if row.measured is not None)

    @property
    def guessing(self) -> float:
        """Expected share of errors of naming a class at random: a bound above it says nothing of use."""
        return 1 - 1 / int(self.sample["num_classes"])

    @property
    def best(self) -> ComparisonRow | None:
        """The message with the smallest bound, the shortest of those; ``None`` without any."""
        rows = sorted(self.messages, key=lambda pair: (pair[1].bound, pair[1].message_bits))
        return rows[0][0] if rows else None

    def check(self) -> None:
        """Refuse numbers that no rates and logarithms can be taken of."""
        classes = self.sample.get("num_classes")
        fits = isinstance(classes, int) and classes >= 2 and 0 < self.delta < 1
        counts: list[Original | Measured | HoldoutCount | None] = [self.original, self.original.holdout]
        for _, measured in self.messages:
            fits = fits and measured.message_bits >= 1 and 0 <= measured.bound <= 1
            counts += [measured, measured.holdout]
        fits = fits and all(count is None or 0 <= count.errors <= count.samples > 0 for count in counts)
        require(fits, "impossible counts")


def sizes(network: Network) -> dict[str, int]:
    """Entries of all tensors (``parameters``), and those that are not 0 (``nonzero``)."""
    values = [network.parameters[spec.name] for spec in network.architecture.parameters]
    nonzero = sum(int((value != 0).sum()) for value in values)
    return {"parameters": sum(value.numel() for value in values), "nonzero": nonzero}


def describe_compression(
    codec: Codec, network: Network, sample: Sample, compressed: Compressed, measured: Measured, theory: Theory
) -> dict[str, Any]:
    """What ``bitcert compress`` says of one message, as JSON values; what is not known, or not finite, is ``None``.

    No bound is among them: that is for a certificate, which counts again and verifies.
    """
    return {
        "format": COMPRESSION_FORMAT,
        "codec": {"name": codec.name, "label": codec.label, "options": options_of(codec)},
        "network": {"content_hash": network_hash(network), **sizes(network)},
        "sample": describe_sample(sample),
        "helper": describe_helper(compressed.helper),
        "message": {
            "bits": measured.message_bits,
            "sha256": measured.message_sha256,
            "numbers": measured.parameters,
            "sections": [[name, bits] for name, bits in compressed.ledger.sections],
        },
        "training": {"errors": measured.errors, "near_ties": measured.near_ties, "samples": measured.samples},
        "tried": [[tried.name, tried.errors] for tried in compressed.candidates],
        "deviation": encode(measured.deviation),
        "theory": plain(theory.describe()),
        "versions": versions(),
    }


def numbers_in(message: bytes, helper: Helper) -> int | None:
    """Non-zero numbers that a message holds: integers and coefficients; ``None`` where the family is not known.

    Raises:
        DecodeError: the message cannot be decoded.
    """
    reader = MessageReader(message)
    if reader.family == FAMILY:
        codes = read_codes(reader, helper)
        arrays = [c.integers for code in codes.codes.values() for c in code.coefficients]
        if codes.subspace is not None:
            arrays += [c.integers for c in codes.subspace.coefficients]
        return sum(int(np.count_nonzero(array)) for array in arrays)
    classifier = decode_message(message, helper).classifier
    if not isinstance(classifier, QuantisedNetwork):
        return None
    kinds = {spec.name: spec.kind for spec in classifier.predictor.parameters}
    return sum(int((value != base_value(kinds[name])).sum()) for name, value in classifier.weights.items())
