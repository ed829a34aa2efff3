"""COMPRESS: sample (and network) -> message. Anything clever is allowed here; what counts is what gets written down."""

from bitcert.compress.bank_head import compress_bank_head
from bitcert.compress.head import compress_head
from bitcert.compress.quantise import compress_network
from bitcert.compress.run import Candidate, Checkpoint, Compressed, Run
from bitcert.compress.train_separable import compress_separable

__all__ = [
    "Candidate",
    "Checkpoint",
    "Compressed",
    "Run",
    "compress_bank_head",
    "compress_head",
    "compress_network",
    "compress_separable",
]
