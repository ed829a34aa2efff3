"""Every exception bitcert raises on purpose.

A message is one sentence of three parts: what was expected, what came, what to do. The command line prints
it and exits with ``exit_code``; anything else that escapes the library is a bug.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches


class BitcertError(Exception):
    """Base of all intended errors.

    Args:
        expected: what the library needed, e.g. ``"labels between 0 and 9"``.
        got: what it met instead, e.g. ``"label 12 at index 7"``.
        do: what the user can do about it, e.g. ``"pass --classes 13"``.
    """

    exit_code = 2

    def __init__(self, expected: str, got: str, do: str) -> None:
        self.expected, self.got, self.do = expected, got, do
        super().__init__(f"expected {expected}, got {got}; {do}")

    def __reduce__(self) -> tuple[type[BitcertError], tuple[str, str, str]]:
        # Between processes an exception is made again from its arguments, by default from its text.
        return type(self), (self.expected, self.got, self.do)


class InputError(BitcertError):
    """Something the user passed (a file, an option, a sample) cannot be used."""


class CaptureError(InputError):
    """A network contains parts whose use is not understood; every one of them is named."""


class ModelError(InputError):
    """The user's own network raised while it was run; the text of its error is told."""


class DecodeError(BitcertError):
    """A message, certificate or architecture file is not one this program could have written."""


class BudgetError(BitcertError):
    """A bound asked for more failure probability than the confidence budget still holds."""


class SampleReuseError(BitcertError):
    """One sample was given two roles that must be independent (samples are spent once)."""


def malformed(expected: str, got: str) -> DecodeError:
    """A :class:`DecodeError` for bytes or text that this program would not have written."""
    return DecodeError(expected, got, "ask for the file again")


def listed(names: Sequence[str], most: int = 3, separator: str = ", ") -> str:
    """The first of some names, and how many more there are.

    >>> listed(["a", "b", "c", "d"])
    'a, b, c and 1 more'
    """
    rest = len(names) - most
    return separator.join(names[:most]) + (f" and {rest:,} more" if rest > 0 else "")


def unknown_name(kind: str, got: str, known: Iterable[str]) -> InputError:
    """An :class:`InputError` for a name that does not exist, suggesting the nearest that does.

    >>> str(unknown_name("data set", "mnits", ["mnist", "digits"]))
    "expected a data set among digits, mnist, got 'mnits'; did you mean 'mnist'?"
    """
    known = sorted(known)
    near = get_close_matches(got, known, n=1)
    do = f"did you mean {near[0]!r}?" if near else "choose one of these"
    return InputError(f"a {kind} among {', '.join(known)}", repr(got[:100]), do)
