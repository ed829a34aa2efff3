"""PAC-Bayes flatness of Jiang et al. 2020, plain and magnitude-aware, under the names of the public collection.

``sigma`` is the standard deviation of Gaussian noise on all weights that costs a stated part of the training accuracy
(:class:`bitcert.theory.inputs.Flatness`), ``sigma'`` that of noise ``N(0, sigma'^2 w^2 + eps^2)``; ``w`` are the
weights of the layers without biases, ``omega`` the number of all parameters:

- ``pacbayes-flatness = 1 / sigma^2``, ``pacbayes-mag-flatness = 1 / sigma'^2``;
- ``pacbayes-orig = ||w||^2 / (4 sigma^2) + ln(m / sigma) + 10``, ``pacbayes-init`` with ``||w - w_init||^2``;
- ``pacbayes-mag-orig = 1/4 sum_i ln((eps^2 + (sigma'^2 + 1) W / omega) / (eps^2 + sigma'^2 (w_i - w_init_i)^2)) + ln(m
  / sigma') + 10`` with ``W = ||w||^2``, ``pacbayes-mag-init`` with ``W = ||w - w_init||^2``.

The collection draws its noise with standard deviation ``sigma^2``, by mistake; here it is ``sigma``, so its sigma is
the root of this one. Its convention of the distance ``w - w_init`` under ``pacbayes-mag-orig`` is kept.

The inequality behind them bounds the error of the network *with noise*, for a sigma fixed beforehand; sigma is fitted
to the data and estimated from a few draws, so none of these is a guarantee. Capacities (all but the two flatnesses)
are in examples: the gap is of order ``sqrt(value / m)``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from bitcert.theory.formulas.products import FROBENIUS
from bitcert.theory.inputs import BoundInputs
from bitcert.theory.logs import log, log_sum
from bitcert.theory.registry import Bound, Function, bound
from bitcert.theory.value import BoundValue, Ingredient, Unit, need, outside

_DROPPED = "the price of fitting sigma to the data; it speaks of the network with noise on its weights"
_ALL_DROPPED = "everything: a measure for comparing networks, not a bound"
_ADDED = 10.0
"""Stands for the constants of the proof in both papers."""


def _sigma(inputs: BoundInputs, magnitude: bool) -> float:
    """Standard deviation of the noise.

    Raises:
        NotComputed: it was not measured, or is 0.
    """
    found = need(inputs.flatness)
    value = found.magnitude_sigma if magnitude else found.sigma
    if not 0 < value < math.inf:
        raise outside(f"does not apply: no noise level above 0 costs {100 * found.drop:g} % of the training accuracy")
    return value


def _facts(inputs: BoundInputs, **more: Ingredient) -> dict[str, Ingredient]:
    found = need(inputs.flatness)
    facts: dict[str, Ingredient] = {"accuracy_drop": found.drop, "draws": found.draws, "examples": found.examples}
    return {**more, **facts, "m": inputs.m}


def _notes(inputs: BoundInputs) -> tuple[str, ...]:
    found = need(inputs.flatness)
    asked = f"sigma is where {found.draws} draws of noise cost {100 * found.drop:g} % of the accuracy"
    return (f"{asked} on {found.examples} examples of the sample.",)


def _positive(inputs: BoundInputs, value: float, ingredients: dict[str, Ingredient]) -> BoundValue:
    """A capacity that is a sum of logarithms, so it may come out at 0 or below, which says nothing."""
    if value <= 0:
        raise outside(f"does not apply: the sum of its logarithms is {value:.4g}, and a capacity must be positive")
    return BoundValue(math.log(value), ingredients=ingredients, notes=_notes(inputs))


def _plain(inputs: BoundInputs, *, init: bool) -> BoundValue:
    """``sum_i norms_i^2 / (4 sigma^2) + ln(m / sigma) + 10``, in logarithms because the norms may be large."""
    name, norms = FROBENIUS.read(inputs, init)
    sigma = _sigma(inputs, magnitude=False)
    rest = math.log(inputs.m / sigma) + _ADDED
    ingredients = {**_facts(inputs, sigma=sigma), name: norms}
    square = log_sum(2 * log(norm) for norm in norms)
    first = square - math.log(4) - 2 * math.log(sigma)
    if rest <= 0:
        return _positive(inputs, math.exp(min(first, 700.0)) + rest, ingredients)
    return BoundValue(log_sum((first, math.log(rest))), ingredients=ingredients, notes=_notes(inputs))


def _differences(inputs: BoundInputs) -> Iterator[NDArray[np.float64]]:
    """``w - w_init`` of every layer, flat, in float64."""
    start = need(inputs.initial)
    for layer in inputs.layers:
        before = start[layer.name].detach().cpu().double().numpy().ravel()
        yield layer.matrix().ravel() - before


def _magnitude(inputs: BoundInputs, *, init: bool) -> BoundValue:
    name, norms = FROBENIUS.read(inputs, init)
    sigma, epsilon = _sigma(inputs, magnitude=True), need(inputs.flatness).epsilon
    omega = inputs.num_parameters
    if omega < 1 or epsilon <= 0:
        raise outside("does not apply: it needs parameters and a noise floor eps above 0")
    spread = log_sum(2 * log(norm) for norm in norms) - math.log(omega) + math.log(sigma**2 + 1)
    above = log_sum((2 * math.log(epsilon), spread))
    total = math.fsum(
        float((above - np.log(epsilon**2 + (sigma * difference) ** 2)).sum()) for difference in _differences(inputs)
    )
    value = total / 4 + math.log(inputs.m / sigma) + _ADDED
    return _positive(inputs, value, {**_facts(inputs, sigma=sigma, epsilon=epsilon, omega=omega), name: norms})


def _inverse_square(inputs: BoundInputs, *, magnitude: bool) -> BoundValue:
    """``1 / sigma^2``."""
    sigma = _sigma(inputs, magnitude)
    floor = {"epsilon": need(inputs.flatness).epsilon} if magnitude else {}
    return BoundValue(-2 * math.log(sigma), ingredients=_facts(inputs, sigma=sigma, **floor), notes=_notes(inputs))


def _row(name: str, title: str, sentence: str, formula: str, function: Function) -> Bound:
    """A capacity, or a flatness, which only compares networks."""
    full, source = f"jiang2020-{name}", f"Jiang et al. 2020, {name.replace('-', '_').upper()}"
    if name.endswith("flatness"):
        return bound(full, source, title, sentence, _ALL_DROPPED, unit=Unit.PLAIN)(function, formula)
    return bound(full, source, title, sentence, _DROPPED)(function, formula)


ROWS = (
    _row(
        "pacbayes-flatness",
        "flatness",
        "Small if the network still works after noise is added to all its weights.",
        "1 / sigma^2.",
        lambda inputs: _inverse_square(inputs, magnitude=False),
    ),
    _row(
        "pacbayes-orig",
        "flatness and size of the weights",
        "Examples needed if the weights must be known only as exactly as the noise that the network tolerates.",
        "||w||^2 / (4 sigma^2) + ln(m / sigma) + 10.",
        lambda inputs: _plain(inputs, init=False),
    ),
    _row(
        "pacbayes-init",
        "flatness and distance from initialisation",
        "Examples needed if only the way from the initial weights must be known, up to the noise tolerated.",
        "||w - w_init||^2 / (4 sigma^2) + ln(m / sigma) + 10.",
        lambda inputs: _plain(inputs, init=True),
    ),
    _row(
        "pacbayes-mag-flatness",
        "magnitude-aware flatness",
        "Small if the network still works after every weight is changed by a part of its own size.",
        "1 / sigma'^2.",
        lambda inputs: _inverse_square(inputs, magnitude=True),
    ),
    _row(
        "pacbayes-mag-orig",
        "magnitude-aware flatness and size of the weights",
        "Examples needed if every weight must be known only to a part of its own size.",
        "The formula at the top with W = ||w||^2; needs the initial weights all the same.",
        lambda inputs: _magnitude(inputs, init=False),
    ),
    _row(
        "pacbayes-mag-init",
        "magnitude-aware flatness and distance from initialisation",
        "Examples needed if only the way from the initial weights must be known, to a part of each weight.",
        "The formula at the top with W = ||w - w_init||^2.",
        lambda inputs: _magnitude(inputs, init=True),
    ),
)
"""The measures in the order of the collection."""
