"""Bytes -> classifier: the decoder of every codec family.

A family module offers ``read(reader, helper) -> (classifier, description)``; its number opens the message.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bitcert.coding import Ledger, MessageReader
from bitcert.counting import Classifier
from bitcert.decoder import abstaining, network_head, trees, votes
from bitcert.decoder import head as bank_head
from bitcert.decoder import network as quantised
from bitcert.decoder import tensors as composed
from bitcert.decoder.helper import Helper
from bitcert.errors import DecodeError

Reader = Callable[[MessageReader, Helper], tuple[Classifier, str]]

FAMILIES: dict[int, Reader] = {
    quantised.FAMILY: quantised.read,
    composed.FAMILY: composed.read,
    bank_head.FAMILY: bank_head.read,
    network_head.FAMILY: network_head.read,
    trees.FAMILY: trees.read,
    trees.DECLARED_FAMILY: trees.read,
    votes.FAMILY: votes.read,
}


@dataclass(frozen=True, eq=False)
class Decoded:
    """A decoded message: the classifier it is, its bits by section, and what it is in words.

    As a surrogate of an original network it abstains where its two largest logits differ by less than
    ``abstains_within``.
    """

    classifier: Classifier
    ledger: Ledger
    description: str
    abstains_within: float = 0.0


def decode_message(message: bytes, helper: Helper) -> Decoded:
    """Decode ``message`` with the helper string.

    Raises:
        DecodeError: when these bytes are not a message this program writes for this helper.
    """
    reader = MessageReader(message)
    if reader.family != abstaining.FAMILY:
        return _decode(reader, helper)
    threshold, inner = abstaining.read(message)
    decoded = _decode(MessageReader(inner), helper)
    words = f"{decoded.description}; as a surrogate it abstains where its two largest logits are within {threshold:g}"
    sections = (("abstention", abstaining.PREFIX_BITS), *decoded.ledger.sections)
    return Decoded(decoded.classifier, Ledger(sections), words, threshold)


def _decode(reader: MessageReader, helper: Helper) -> Decoded:
    read = FAMILIES.get(reader.family)
    if read is None:
        known = ", ".join(map(str, FAMILIES))
        raise DecodeError(f"a codec family among {known}", f"family {reader.family}", "use a newer bitcert")
    classifier, description = read(reader, helper)
    return Decoded(classifier, reader.finish(), description)
