"""Family 7: a message of another family, and how close its two largest logits may be for it to abstain.

A surrogate of an original network need not answer everywhere. It abstains where the gap between its two largest logits
is clearly below a threshold ``2^(e/4)``; the exponent ``e`` is chosen on the training sample and is in the message.
Abstaining counts as disagreement and never as error (:mod:`bitcert.certificates.original`). Only a certificate of an
original network uses the threshold: everywhere else the classifier answers every example.

The prefix is two bytes: version and family, then ``e + 240`` in ten bits. A whole message of another family follows, so
that no message is a prefix of another.
"""

from __future__ import annotations

from bitcert.coding.bitstream import BitReader, BitWriter
from bitcert.coding.message import FORMAT_VERSION
from bitcert.coding.steps import MAX_EXPONENT, step_size
from bitcert.errors import malformed

FAMILY = 7
PREFIX_BITS = 16
_WIDTH = 10


def write(message: bytes, exponent: int) -> bytes:
    """The message of a classifier that abstains where its two largest logits differ by less than ``2^(exponent/4)``.

    Raises:
        DecodeError: an exponent beyond :data:`~bitcert.coding.steps.MAX_EXPONENT`.
    """
    step_size(exponent)
    writer = BitWriter()
    writer.elias_gamma(FORMAT_VERSION)
    writer.elias_gamma(FAMILY)
    writer.binary(exponent + MAX_EXPONENT, _WIDTH)
    return writer.to_bytes() + message


def read(message: bytes) -> tuple[float, bytes]:
    """The threshold on the gap, and the message of the classifier; the family was read already.

    Raises:
        DecodeError: an exponent that is too large.
    """
    reader = BitReader(message)
    reader.elias_gamma()
    reader.elias_gamma()
    exponent = reader.binary(_WIDTH) - MAX_EXPONENT
    if exponent > MAX_EXPONENT:
        raise malformed(f"a threshold exponent within ±{MAX_EXPONENT}", str(exponent))
    return step_size(exponent), message[PREFIX_BITS // 8 :]
