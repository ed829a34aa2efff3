"""SEARCH: sample (and network) -> the message with the tightest certificate. Anything clever is allowed here.

Contenders make messages, a judge says what a message is worth, and successive halving divides the time between them;
what counts is what gets written down.
"""

from bitcert.run import Candidate, Checkpoint, Compressed, Run
from bitcert.search.contender import Board, Contender, Row
from bitcert.search.halving import search
from bitcert.search.head import compress_head
from bitcert.search.judging import Judge, OriginalNetwork
from bitcert.search.request import Effort

__all__ = [
    "Board",
    "Candidate",
    "Checkpoint",
    "Compressed",
    "Contender",
    "Effort",
    "Judge",
    "OriginalNetwork",
    "Row",
    "Run",
    "compress_head",
    "search",
]
