"""Transforms: how quantised coefficients become weights. One file each; see ``base`` for what they promise."""

from bitcert.decoder.transforms.base import Coefficients, Draws, Target, Transform
from bitcert.decoder.transforms.registry import EXACT, MEMBER, NUMBERS, TRANSFORMS

__all__ = ["EXACT", "MEMBER", "NUMBERS", "TRANSFORMS", "Coefficients", "Draws", "Target", "Transform"]
