"""What ``bitcert compress`` says of one message, as JSON values: bits by section, counts, deviations, theory.

No bound is among them: that is for a certificate, which counts again and verifies.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from bitcert.canonical import encode
from bitcert.certificates.certification import describe_helper, describe_sample, versions
from bitcert.codecs.base import Codec
from bitcert.codecs.registry import options_of
from bitcert.comparison.records import Measured
from bitcert.data import Sample
from bitcert.network import Network
from bitcert.run import Compressed
from bitcert.stability.measurement import network_hash
from bitcert.theory.prediction import Theory

FORMAT = "bitcert-compression-1"


def describe_compression(
    codec: Codec, network: Network, sample: Sample, compressed: Compressed, measured: Measured, theory: Theory
) -> dict[str, Any]:
    """Everything about a message and how it came about; what is not known, or not finite, is ``None``."""
    values = [network.parameters[spec.name] for spec in network.architecture.parameters]
    return {
        "format": FORMAT,
        "codec": {"name": codec.name, "label": codec.label, "options": options_of(codec)},
        "network": {
            "content_hash": network_hash(network),
            "parameters": sum(value.numel() for value in values),
            "nonzero": sum(int((value != 0).sum()) for value in values),
        },
        "sample": describe_sample(sample),
        "helper": describe_helper(compressed.helper),
        "message": {
            "bits": measured.message_bits,
            "sha256": measured.message_sha256,
            "numbers": measured.parameters,
            "sections": [[name, bits] for name, bits in compressed.ledger.sections],
        },
        "training": {"errors": measured.errors, "near_ties": measured.near_ties, "samples": measured.samples},
        "deviation": encode(measured.deviation),
        "theory": plain(theory.describe()),
        "versions": versions(),
    }


def plain(value: Any) -> Any:
    """JSON values with ``None`` for numbers that are not finite.

    >>> plain({"a": (1.0, float("inf"))})
    {'a': [1.0, None]}
    """
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [plain(item) for item in value]
    if hasattr(value, "item"):  # a number of numpy
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
