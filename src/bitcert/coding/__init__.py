"""CODE: integers <-> bits. Length is measured as the length of a bit stream that was written, never estimated.

Everything is decoded with integer counts, so any machine reads the same integers. numpy and constriction only, no
torch: a message can be read without the network it describes.
"""

from bitcert.coding.arithmetic import ArithmeticDecoder, ArithmeticEncoder, adaptive_code_bits
from bitcert.coding.bitstream import BitReader, BitWriter
from bitcert.coding.message import MAX_MESSAGE_BYTES, Ledger, MessageReader, MessageWriter
from bitcert.coding.rows import RowModel, RowPrices, row_code_bits, row_prices
from bitcert.coding.steps import step_size
from bitcert.coding.tensors import (
    MAX_MAGNITUDE,
    UNARY_MAGNITUDES,
    blank,
    code_integers,
    integer_code_bits,
    marginal_bits,
    max_flags,
)

__all__ = [
    "MAX_MAGNITUDE",
    "MAX_MESSAGE_BYTES",
    "UNARY_MAGNITUDES",
    "ArithmeticDecoder",
    "ArithmeticEncoder",
    "BitReader",
    "BitWriter",
    "Ledger",
    "MessageReader",
    "MessageWriter",
    "RowModel",
    "RowPrices",
    "adaptive_code_bits",
    "blank",
    "code_integers",
    "integer_code_bits",
    "marginal_bits",
    "max_flags",
    "row_code_bits",
    "row_prices",
    "step_size",
]
