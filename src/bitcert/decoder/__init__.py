"""HELPER: all that the decoder knows. Families of classifiers, their fixed grids, and ``decode``: bytes -> classifier.

Verification imports this package and no compressor. A change of what any message decodes to is a breaking release.
"""

from bitcert.decoder.captured import as_network, example_for
from bitcert.decoder.decode import Decoded, decode_message
from bitcert.decoder.helper import Helper, Preprocessing
from bitcert.decoder.weights import HelperWeights

__all__ = ["Decoded", "Helper", "HelperWeights", "Preprocessing", "as_network", "decode_message", "example_for"]
