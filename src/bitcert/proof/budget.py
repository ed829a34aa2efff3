"""What a confidence statement costs: failure probability as money, message bits as nats.

Computes the complexity ``|c| ln 2 + ln(1/delta)`` that every bound of this package charges (Arora et al. 2018,
Theorem 2.1, with its constants), and keeps the ledger of a failure probability that several bounds share (union
bound: the withdrawn parts may not add up to more than the whole).

Does NOT guarantee that the withdrawals were decided before the data was seen; that is for the caller to ensure.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from fractions import Fraction
from numbers import Integral, Real

from bitcert.errors import BudgetError, InputError

__all__ = ["ConfidenceBudget", "Withdrawal", "complexity_nats"]

# Every integer up to here is a float exactly, so counts enter the bounds without rounding.
LARGEST_COUNT = 2**53


def check_count(name: str, value: object, low: int, high: int = LARGEST_COUNT) -> int:
    """``value`` as an int in ``[low, high]``, or an :class:`InputError` that says what was wrong with it."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise InputError(f"{name} as an integer", repr(value)[:100], "pass a whole number")
    if not low <= int(value) <= high:
        raise InputError(f"{name} between {low} and {high}", str(value)[:100], "check how it was counted")
    return int(value)


def check_number(name: str, value: object, low: float, high: float) -> float:
    """``value`` as a finite float in ``[low, high]``, or an :class:`InputError`."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise InputError(f"{name} as a number", repr(value)[:100], "pass a float")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not (low <= number <= high and math.isfinite(number)):
        raise InputError(f"{name} as a finite number in [{low:g}, {high:g}]", f"{number!r}", "check its origin")
    return number


def check_delta(value: object, name: str = "delta") -> float:
    """``value`` as a failure probability strictly between 0 and 1, or an :class:`InputError`.

    Numbers below the smallest normal float (2.2e-308) have few digits there: their logarithms would not be those of
    the decimals that stand for them.
    """
    number = float(value) if isinstance(value, Real) and not isinstance(value, bool) else math.nan
    if not 0.0 < number < 1.0:
        raise InputError(f"{name} strictly between 0 and 1", str(value)[:100], "choose for instance 0.05")
    if number < sys.float_info.min:
        raise InputError(f"{name} of at least {sys.float_info.min:g}", f"{number:g}", "choose for instance 0.05")
    return number


def complexity_nats(message_bits: int, delta: float) -> float:
    """``|c| ln 2 + ln(1/delta)`` in nats, rounded up.

    The rounding also covers reading ``delta`` as the decimal it was written as (0.05 is not a float), so a bound
    charged with this complexity holds at the decimal delta, and parts that add up in decimals add up here.

    Args:
        message_bits: length of the self-delimiting message in bits, at least 0.
        delta: failure probability, in (0, 1).

    Raises:
        InputError: an argument is outside its range.

    >>> round(complexity_nats(0, 0.05), 6), round(complexity_nats(10, 0.05), 6)
    (2.995732, 9.927204)
    """
    bits = check_count("message_bits", message_bits, 0)
    nats = bits * math.log(2.0) + (2.0**-52 - math.log(check_delta(delta)))
    return nats * (1.0 + 2.0**-50)


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """One line of the ledger: which bound took how much failure probability."""

    name: str
    amount: float


def _decimal(value: float) -> Fraction:
    """The decimal a float stands for: 0.02 + 0.03 is 0.05 in this ledger, as it is for its reader."""
    return Fraction(repr(value))


class ConfidenceBudget:
    """A failure probability that several bounds share; overdraft is an error.

    By the union bound all statements paid from one budget hold together with probability at least ``1 - delta``.
    Amounts are added exactly, as the decimals they are written as.

    Raises:
        InputError: ``delta`` is not in (0, 1).

    >>> budget = ConfidenceBudget(0.05)
    >>> budget.withdraw("occam", 0.02), budget.withdraw_rest("disagreement")
    (0.02, 0.03)
    >>> budget.remaining, [entry.name for entry in budget.ledger]
    (0.0, ['occam', 'disagreement'])
    """

    def __init__(self, delta: float) -> None:
        self._delta = check_delta(delta)
        self._left = _decimal(self._delta)
        self._ledger: tuple[Withdrawal, ...] = ()

    @property
    def delta(self) -> float:
        """The whole budget."""
        return self._delta

    @property
    def remaining(self) -> float:
        """What is still unspent, rounded down."""
        rest = float(self._left)
        return rest if _decimal(rest) <= self._left else math.nextafter(rest, 0.0)

    @property
    def ledger(self) -> tuple[Withdrawal, ...]:
        """Every withdrawal so far, in order."""
        return self._ledger

    def withdraw(self, name: str, amount: float) -> float:
        """Take ``amount`` for the bound called ``name`` and return it.

        Raises:
            InputError: the amount is not in (0, 1), or the name is empty or already used.
            BudgetError: less than ``amount`` is left; nothing is withdrawn.
        """
        self._check_name(name)
        value = check_delta(amount, "amount")
        if _decimal(value) > self._left:
            raise BudgetError(f"at most {self.remaining!r} for {name!r}", repr(value), "split delta differently")
        return self._enter(name, value, _decimal(value))

    def withdraw_rest(self, name: str) -> float:
        """Take everything that is left for the bound called ``name`` and return it.

        Raises:
            InputError: the name is empty or already used.
            BudgetError: nothing is left.
        """
        self._check_name(name)
        if self.remaining <= 0.0:
            raise BudgetError(f"something left for {name!r}", "an empty budget", "split delta differently")
        return self._enter(name, self.remaining, self._left)

    def _check_name(self, name: str) -> None:
        if not isinstance(name, str) or not name:
            raise InputError("a name for the withdrawal", repr(name)[:100], "name the bound that pays")
        if any(entry.name == name for entry in self._ledger):
            raise InputError("a name not yet in the ledger", repr(name), "give every bound its own name")

    def _enter(self, name: str, value: float, exact: Fraction) -> float:
        self._left -= exact
        self._ledger = (*self._ledger, Withdrawal(name, value))
        return value
