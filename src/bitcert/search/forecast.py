"""What could be certified of a given network, before anything is tried: what each option needs, takes and may give.

The forecasts are rules of thumb from the size of the sample, the network's errors on it and its number of weights. They
are meant to tell 5 % from 50 %, and say nothing that a certificate could rest on. Those of a prior part and of holding
out suppose that a network errs on new examples as often as this one on its training sample; most err more.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from bitcert.proof import disagreement_bound, holdout_bound, occam_bound
from bitcert.proof.budget import check_delta
from bitcert.search.contenders import Option

BITS_A_WEIGHT, ERRORS_MORE = 0.4, 1.5
"""What a small network's weights come to after training under a price, and how its errors grow."""
BITS_AN_EXAMPLE = 0.5
"""Where that is more bits than so, the network is not a small one: what is left of it depends on the data too much."""
PRIOR_BITS = 100
"""A head on the features of a network that was trained on the prior part."""
SPLITS = (0.5, 0.6, 0.7, 0.8, 0.9)
"""Fractions that ``--prior-split auto`` chooses among."""
_ERRORS_OF_1000, _LEARNING = 0.15, 0.4
"""How often a network trained on 1,000 examples errs, and with which power of their number errors fall, roughly."""
UNLABELLED = (1_000, 10_000)
_DISAGREES = 0.02


@dataclass(frozen=True)
class Facts:
    """What is known before anything is tried.

    Args:
        samples: size of the training sample.
        num_classes: of the problem.
        weights: numbers that the network has.
        error_rate: of the network on (a part of) the training sample.
        seconds_of_a_count: of its errors on the whole sample.
        captured: whether its layers can be seen.
        delta: with which certificates may fail.
    """

    samples: int
    num_classes: int
    weights: int
    error_rate: float
    seconds_of_a_count: float
    captured: bool = True
    delta: float = 0.05

    def __post_init__(self) -> None:
        check_delta(self.delta, "delta")


@dataclass(frozen=True)
class Forecast:
    """One row of the plan: ``bound`` is ``None`` where no rule of thumb is worth a number."""

    option: str
    needs: str
    minutes: float
    bound: float | None
    words: str


def best_split(num_samples: int, delta: float = 0.05) -> float:
    """The fraction for a prior part with the best forecast of the bound, from the number of examples alone.

    Trained on ``n`` examples a network is taken to err on a fraction ``0.15 (n / 1000)^-0.4``, counted on the rest. A
    fixed function of the size of the sample needs no bits: nothing was looked at.

    >>> [best_split(size) for size in (1_000, 60_000, 1_000_000)]
    [0.5, 0.6, 0.8]
    """
    bounds = {}
    for fraction in SPLITS:
        trained = max(1, int(fraction * num_samples))
        rest = max(1, num_samples - trained)
        errors = min(rest, math.ceil(rest * _ERRORS_OF_1000 * (trained / 1000) ** -_LEARNING))
        bounds[fraction] = occam_bound(errors, rest, PRIOR_BITS, delta).binomial
    return min(SPLITS, key=lambda fraction: bounds[fraction])


def forecasts(facts: Facts) -> tuple[Forecast, ...]:
    """All options, in the order in which a user may think of them.

    >>> rows = forecasts(Facts(samples=60_000, num_classes=10, weights=6_000, error_rate=0.01, seconds_of_a_count=15))
    >>> [round(row.bound, 3) for row in rows if row.bound is not None]
    [0.063, 0.018, 0.012]
    """
    counting = facts.seconds_of_a_count / 60
    trained = Forecast(Option.ARCHITECTURE, "nothing more", 15 + 4 * counting, None, "try it: a few bits a dimension")
    return (
        Forecast(Option.WEIGHTS, "nothing more", 10 + 4 * counting, *_weights(facts)),
        *([trained] if facts.captured else []),
        Forecast(Option.BUILT_IN, "nothing more", 4, None, "try it: it needs no network"),
        Forecast("the original network, by disagreement", "unlabelled examples", 4 + counting, None, _original(facts)),
        Forecast("with a prior part", "half of the sample", 20, *with_prior(facts)),
        Forecast("held out, for comparison", "a tenth of the sample, never trained on", 0, *held_out(facts)),
    )


def _weights(facts: Facts) -> tuple[float | None, str]:
    errors = min(facts.samples, math.ceil(ERRORS_MORE * facts.error_rate * facts.samples))
    bits = math.ceil(BITS_A_WEIGHT * facts.weights)
    if bits > BITS_AN_EXAMPLE * facts.samples:
        return (
            None,
            f"many weights ({facts.weights:,}) for {facts.samples:,} examples: try how few are enough",
        )
    bound = occam_bound(errors, facts.samples, bits, facts.delta).binomial
    if bound >= 1 - 1 / facts.num_classes:
        return None, "no more than guessing, with so many errors"
    return bound, f"if {bits:,} bits are enough"


def _original(facts: Facts) -> str:
    costs = []
    for size in UNLABELLED:
        agreed = disagreement_bound(0.0, math.ceil(_DISAGREES * size), size, facts.delta)
        costs.append(f"{100 * (agreed - _DISAGREES):.1f} points with {size:,}")
    return f"a certificate above, plus how often the two differ, plus {', '.join(costs)}"


def with_prior(facts: Facts) -> tuple[float, str]:
    """The bound with half of the sample as a prior part, and a word of it."""
    rest = max(1, facts.samples // 2)
    errors = math.ceil(facts.error_rate * rest)
    return occam_bound(errors, rest, PRIOR_BITS, facts.delta).binomial, "if it errs like this one"


def held_out_size(facts: Facts) -> int:
    """A tenth of the sample."""
    return max(1, facts.samples // 10)


def held_out(facts: Facts) -> tuple[float, str]:
    """The bound of a hold-out of that size, and a word of it."""
    held = held_out_size(facts)
    return holdout_bound(math.ceil(facts.error_rate * held), held, facts.delta), "at best"
