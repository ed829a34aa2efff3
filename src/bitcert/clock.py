"""Monotonic seconds for time budgets and reported durations; the only clock that the searches look at.

Users call ``clock.seconds()`` through the module, so that a test replaces it in one place, for instance by a clock that
moves a fixed step at every look: a time budget then is a number of looks, however busy the machine is.
"""

import time


def seconds() -> float:
    """Seconds since some fixed moment; never decreasing.

    >>> before = seconds()
    >>> seconds() >= before
    True
    """
    return time.monotonic()


def processor_seconds() -> float:
    """Seconds that this process has used of the processors, all threads together: of work done, not of time passed.

    >>> before = processor_seconds()
    >>> processor_seconds() >= before
    True
    """
    return time.process_time()
