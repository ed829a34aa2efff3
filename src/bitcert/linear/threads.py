"""Small linear algebra on one thread: where products take microseconds, threads that wait for each other cost more.

On a machine that is busy otherwise, a library's threads wait for the slowest of them at every small product. Nothing
global is left changed.
"""

from __future__ import annotations

import functools
from contextlib import AbstractContextManager

from threadpoolctl import ThreadpoolController


@functools.cache
def _controller() -> ThreadpoolController:
    import numpy.linalg  # noqa: F401 - the controller knows the libraries that are loaded when it is made

    return ThreadpoolController()


def one_blas_thread() -> AbstractContextManager[object]:
    """A context in which numpy's linear algebra uses one thread.

    >>> import numpy as np
    >>> with one_blas_thread():
    ...     (np.eye(2) @ np.eye(2)).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    limited: AbstractContextManager[object] = _controller().limit(limits=1, user_api="blas")
    return limited
