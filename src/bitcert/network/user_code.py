"""The user's own network, run as it is: whatever its code raises becomes one sentence with the text of the error.

Not turned into that sentence: running out of memory, which is nobody's code, and an interruption.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from bitcert.errors import BitcertError, ModelError
from bitcert.network.memory import is_out_of_memory
from bitcert.network.named_code import advice

__all__ = ["one_line", "users_network"]


def one_line(error: BaseException) -> str:
    """First line of an exception's message, cut to 200 characters."""
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:200]


@contextmanager
def users_network(purpose: str, batch: int | None = None) -> Iterator[None]:
    """Run code of the user's network for ``purpose``, e.g. ``"predict"``, on a batch of this size.

    Raises:
        ModelError: it raises.
    """
    try:
        yield
    except BitcertError:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise
        where = "" if batch is None else f" on a batch of {batch}"
        got = f"{type(error).__name__}: {one_line(error)}{where}"
        do = advice(error, "correct its code, or check the shape and kind of the data")
        raise ModelError(f"a network whose own code can {purpose}", got, do) from error
