"""Losses that are certified beside the 0/1 error, by name; :mod:`bitcert.counting` counts them.

- ``top-K``: 1 unless the label is among the K largest logits; a logit that the label does not exceed by more than the
  decision rule's tolerance counts as larger, so ties and near-ties are errors. ``top-1`` is the 0/1 error.
- ``margin:GAMMA``: 1 unless the label's logit exceeds every other by more than GAMMA (docs/theory.md section 1,
``L_gamma``).
- ``brier``: half the squared distance between the softmax of the logits and the label's unit vector (Brier 1950,
  halved so that it lies in [0, 1]).
- ``package.module:function``: the user's own; it maps logits ``[batch, classes]`` (float64) and labels ``[batch]``
  (int64) to values ``[batch]`` in [0, 1].

Every loss is evaluated on the logits of both ways of counting (:mod:`bitcert.counting`), and the larger value counts.
Where logits are not finite it is 1. A loss with values between 0 and 1 is counted in whole units of ``2^-20``, each
example's rounded up after a tenth of the tolerance was added: the sum is an exact integer, whatever the order, and
another machine's rounding of the logits, which moves the mean far less, cannot lift the true value above it. NOT
guaranteed is anything for a user's function that depends on the rest of the batch, on time or on chance.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bitcert.counting import DecisionRule, Level, TwoWays, lead
from bitcert.errors import InputError, unknown_name
from bitcert.network.named_code import advice, import_named, working_folder_importable
from bitcert.proof.claims import LOSS_UNITS, bounded_loss_bound, zero_one_loss_bound

ZERO_ONE = "zero-one"
BRIER = "brier"
LOSS_KEYS = frozenset({"name", "values", "total", "mean", "bound", "self_contained"})
"""What a certificate says of a further loss."""

_TOP, _MARGIN = re.compile(r"top-([1-9]\d{0,6})"), re.compile(r"margin:(\d{1,6}(?:\.\d{1,6})?)")
_FACTORY = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")
_MAX_NAME = 200

Evaluate = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Float64 logits ``[batch, classes]``, labels and slacks ``[batch]`` -> values ``[batch]``; gaps within it are ties."""

SLACK_SHARE = 0.1
"""Part of the near-tie tolerance that is added to every value of a loss between 0 and 1."""


@dataclass(frozen=True)
class Loss:
    """A loss with values in [0, 1].

    Args:
        name: as a certificate states it.
        evaluate: the values of a batch.
        zero_one: whether they are 0 or 1 only; the bound is then the exact binomial tail.
        slope: by how much a value changes at most with the largest change of a logit; 0 where that is not known.
    """

    name: str
    evaluate: Evaluate
    zero_one: bool
    slope: float = 0.0

    @property
    def most_per_example(self) -> int:
        """What one example adds to the total at most."""
        return 1 if self.zero_one else LOSS_UNITS

    @property
    def values(self) -> str:
        """Its values in words, as a certificate states them."""
        return "0 or 1" if self.zero_one else "0 to 1"

    def mean(self, total: int, samples: int) -> float:
        """The total as a mean over the examples."""
        return total / max(1, samples * self.most_per_example)

    def total(self, ways: TwoWays, labels: Tensor, rule: DecisionRule, level: Level) -> int:
        """Sum over a batch: errors of a 0/1 loss, units of ``1 / LOSS_UNITS`` rounded up otherwise.

        Raises:
            InputError: values of the wrong shape or outside [0, 1].
        """
        finite = ways.finite
        unusable = int((~finite).sum()) * self.most_per_example
        if not finite.any():
            return unusable
        # the user's function may be vectorised over the batch: it never sees a logit that is not finite
        ways, labels = TwoWays(ways.single[finite], ways.double[finite]), labels[finite]
        values = self._worst(ways, labels, rule, level)
        if self.zero_one:
            return unusable + int(values.sum())
        slack = level.tolerances * SLACK_SHARE * rule.tolerance
        values = values + slack + level.roundings * self.slope * ways.difference
        return unusable + int(torch.ceil(values.clamp(max=1.0) * LOSS_UNITS).long().sum())

    def _worst(self, ways: TwoWays, labels: Tensor, rule: DecisionRule, level: Level) -> Tensor:
        """The larger value of the two ways; at ``LENIENT`` float32 counts only where it decides a 0/1 loss."""
        slack = ways.slack(rule, level)
        double = self._checked(self.evaluate(ways.double, labels, slack), len(labels))
        if level is Level.LENIENT and not self.zero_one:
            return double
        slack = torch.zeros_like(slack) if level is Level.LENIENT else slack
        return torch.maximum(double, self._checked(self.evaluate(ways.single, labels, slack), len(labels)))

    def bound(self, total: int, samples: int, message_bits: int, delta: float) -> float:
        """The upper limit on the expected loss, rounded up.

        Raises:
            InputError: impossible counts.
        """
        bound = zero_one_loss_bound if self.zero_one else bounded_loss_bound
        return bound(total, samples, message_bits, delta)

    def _checked(self, values: object, count: int) -> Tensor:
        try:
            found = torch.as_tensor(values).detach().cpu().double()
        except (TypeError, ValueError, RuntimeError):
            raise self._refused(f"a {type(values).__name__}") from None
        if found.shape != (count,):
            raise self._refused(f"shape {list(found.shape)} for {count} examples")
        outside = ~((found >= 0.0) & (found <= 1.0))
        if outside.any():
            raise self._refused(f"the value {float(found[outside][0]):g}")
        return found

    def _refused(self, got: str) -> InputError:
        return InputError(f"one value in [0, 1] for each example from the loss {self.name}", got, "rescale or clip it")


def _top(k: int) -> Evaluate:
    def evaluate(logits: Tensor, labels: Tensor, slack: Tensor) -> Tensor:
        own = logits.gather(1, labels[:, None])
        rivals = own - logits <= slack[:, None]
        return (rivals.sum(1) - 1 >= k).double()  # the label is its own rival

    return evaluate


def _margin(gamma: float) -> Evaluate:
    def evaluate(logits: Tensor, labels: Tensor, slack: Tensor) -> Tensor:
        return (lead(logits, labels) <= gamma + slack).double()

    return evaluate


def _brier(logits: Tensor, labels: Tensor, slack: Tensor) -> Tensor:
    """Its slope is at most 1: ``sum_i p_i |v_i - mean v|`` with ``v = p - e``, whose entries lie in [-1, 1]."""
    del slack
    gap = torch.softmax(logits, 1)
    gap[torch.arange(len(labels)), labels] -= 1.0
    return (0.5 * gap.square().sum(1)).clamp(0.0, 1.0)


def _users(name: str) -> Evaluate:
    """The user's own function, imported because the user named it.

    Raises:
        InputError: it cannot be imported or called.
    """
    try:
        with working_folder_importable(name):
            function = import_named(name)
    except Exception as error:  # the user's module may raise anything
        got = f"{type(error).__name__}: {error}"[:200]
        do = advice(error, "check module, name and its requirements", name)
        raise InputError(f"a loss function {name}", got, do) from error
    if not callable(function):
        raise InputError(f"a function {name}", type(function).__name__, "name a function")
    call: Callable[[Tensor, Tensor], Tensor] = function

    def evaluate(logits: Tensor, labels: Tensor, slack: Tensor) -> Tensor:
        del slack
        try:
            return call(logits.clone(), labels.clone())
        except Exception as error:
            got = f"{type(error).__name__}: {error}"[:200]
            raise InputError(f"values from the loss {name}", got, "check it on a small batch") from error

    return evaluate


def is_users(name: str) -> bool:
    """Whether the name is one of Python code outside the program."""
    return _FACTORY.fullmatch(name) is not None


def parse_loss(name: str, num_classes: int) -> Loss:
    """The loss of that name for a problem of ``num_classes`` classes; a user's own is imported.

    Raises:
        InputError: an unknown name, a K that is not below the number of classes, or a function that cannot be had.

    >>> parse_loss("top-3", 10).zero_one, parse_loss("brier", 10).zero_one
    (True, False)
    """
    if not isinstance(name, str) or len(name) > _MAX_NAME:
        raise InputError("the name of a loss", repr(name)[:100], "use e.g. top-3, brier or package.module:function")
    if name == BRIER:
        return Loss(name, _brier, zero_one=False, slope=1.0)
    if found := _TOP.fullmatch(name):
        k = int(found[1])
        if k >= num_classes:
            got = f"{name} with {num_classes} classes"
            raise InputError(
                "fewer places than classes in top-K", got, "every answer would be right; choose a smaller K"
            )
        return Loss(name, _top(k), zero_one=True)
    if found := _MARGIN.fullmatch(name):
        return Loss(name, _margin(float(found[1])), zero_one=True)
    if is_users(name):
        return Loss(name, _users(name), zero_one=False)
    raise unknown_name("loss", name, [ZERO_ONE, "top-3", "top-5", BRIER, "margin:1.0", "package.module:function"])


def parse_losses(names: Sequence[str], num_classes: int) -> tuple[Loss, ...]:
    """The losses beside the 0/1 error, which is always claimed: ``zero-one`` and ``top-1`` add nothing.

    Raises:
        InputError: as :func:`parse_loss`, and for a loss named twice.
    """
    further = [name for name in names if name not in (ZERO_ONE, "top-1")]
    twice = {name for name in further if further.count(name) > 1}
    if twice:
        raise InputError("each loss once", ", ".join(sorted(twice))[:200], "leave out the second")
    return tuple(parse_loss(name, num_classes) for name in further)
