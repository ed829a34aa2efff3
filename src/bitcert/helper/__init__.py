"""HELPER: all that the decoder knows. Families of classifiers, their fixed grids, and ``decode``: bytes -> classifier.

Verification imports this package and no compressor. A change of what any message decodes to is a breaking release.
"""

from bitcert.helper.decode import Decoded, decode_message
from bitcert.helper.problem import Helper, Preprocessing
from bitcert.helper.weights import HelperWeights

__all__ = ["Decoded", "Helper", "HelperWeights", "Preprocessing", "decode_message"]
