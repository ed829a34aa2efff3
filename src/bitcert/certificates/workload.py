"""How much counting a certificate may ask for: known from its architecture before the first example is looked at.

A certificate names a network and how many examples it was counted on, so it decides how long a check takes: a file of
a few hundred bytes could ask for days. Operations are counted from shapes (:mod:`bitcert.network.plan`), announced, and
beyond :data:`MAX_OPERATIONS` nothing is counted unless the caller allows it. The built-in families need no such limit:
their sizes are those of the program. Not counted: Python code of the user's own, which says nothing of what it takes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bitcert.certificates.reading import CannotCheckError
from bitcert.network import Architecture, operations_in_words, operations_per_sample

__all__ = ["MAX_OPERATIONS", "WorkLimit", "counting_operations"]

MAX_OPERATIONS = 10**15
"""About a day on one modest core, at 10^10 operations a second."""


SECOND_WAY = 8
"""Counting in float64 takes so many times as long as in float32, for which there are faster kernels."""


def counting_operations(architecture: Architecture, num_samples: int) -> int:
    """Operations of counting so many examples once, in float32 and in float64 (:mod:`bitcert.counting`)."""
    return num_samples * operations_per_sample(architecture) * (1 + SECOND_WAY)


def _silent(sentence: str) -> None:
    del sentence


@dataclass(frozen=True)
class WorkLimit:
    """What counting may take, and who is told of it before it begins.

    Args:
        most: operations, or ``None`` for any number.
        announce: called with one sentence for every network that is counted.

    >>> WorkLimit().most
    1000000000000000
    """

    most: int | None = MAX_OPERATIONS
    announce: Callable[[str], None] = _silent

    def admit(self, predictor: object, num_samples: int) -> None:
        """Announce what running a network on so many examples takes.

        Raises:
            CannotCheckError: that is more than is allowed.
        """
        if not isinstance(predictor, Architecture):
            return
        operations = counting_operations(predictor, num_samples)
        plan = f"counting {num_samples:,} examples takes {operations_in_words(operations)}"
        self.announce(f"Plan: {plan}.")
        if self.most is not None and operations > self.most:
            digit = 10 ** (len(str(operations)) - 1)
            enough = -(-operations // digit) * digit
            raise CannotCheckError(
                f"{plan}, more than the {self.most:.2g} operations that are allowed for files from elsewhere; "
                f"allow them with --max-operations {enough:.0e} (in Python WorkLimit({enough}))"
            )
