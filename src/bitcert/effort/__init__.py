"""Searching for the tightest certificate: contenders, what a message is worth, and successive halving between them."""

from bitcert.effort.contender import Board, Contender, Row
from bitcert.effort.halving import search
from bitcert.effort.judging import Judge, OriginalNetwork, Verdict
from bitcert.effort.levels import Effort

__all__ = ["Board", "Contender", "Effort", "Judge", "OriginalNetwork", "Row", "Verdict", "search"]
