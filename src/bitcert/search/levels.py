"""How long a search may take: three efforts, in seconds of training and counting on two cores.

Loading data, capturing a network and the check of the finished files come on top. Not guaranteed: the same message
from machines of different speed, because the search follows the clock; every message it writes is certified alike.
"""

from __future__ import annotations

from enum import StrEnum


class Effort(StrEnum):
    """The time a search may use."""

    quick = "quick"
    standard = "standard"
    thorough = "thorough"

    @property
    def seconds(self) -> float:
        """The budget.

        >>> [effort.seconds for effort in Effort]
        [120.0, 900.0, 3600.0]
        """
        return {"quick": 120.0, "standard": 900.0, "thorough": 3600.0}[self.value]
