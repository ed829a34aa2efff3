"""Norm, margin, distance and flatness measures of Jiang et al. 2020 (Fantastic Generalization Measures).

Names and formulas are those of the public collection of Dziugaite et al. 2020, which implements Jiang et al. again;
``w`` are the weights of the ``d`` layers without biases, a convolution as the matrix ``[out, in * kernel]``. Measures
called ``log-...`` are the natural logarithm of the row's value: ``log-prod-of-fro`` has the value ``prod_i
||A^i||_F^2``, and ``log-sum-of-fro``, which is ``ln d + (1/d) sum_i ln ||A^i||_F^2``, has ``d (prod_i
||A^i||_F^2)^(1/d)``. ``-over-margin`` divides the product by ``gamma^2``. Both papers take gamma at the 10 % quantile
of the training margins; here it is the table's.

Where the collection departs from Jiang et al. by mistake, Jiang et al. are followed: spectral norms are squared, as
Frobenius norms are (the collection leaves them unsquared, so its products are the roots of these, and its
``fro-over-spec`` is not the sum of stable ranks). Its conventions are kept: ``path-norm`` is the root of the sum, and
``path-norm-over-margin`` divides that root by ``gamma^2``.

**Flatness.** ``sigma`` is the standard deviation of Gaussian noise on all weights that costs a stated part of the
training accuracy (:class:`bitcert.theory.inputs.Flatness`), ``sigma'`` that of noise ``N(0, sigma'^2 w^2 + eps^2)``,
``omega`` the number of all parameters:

- ``pacbayes-flatness = 1 / sigma^2``, ``pacbayes-mag-flatness = 1 / sigma'^2``;
- ``pacbayes-orig = ||w||^2 / (4 sigma^2) + ln(m / sigma) + 10``, ``pacbayes-init`` with ``||w - w_init||^2``;
- ``pacbayes-mag-orig = 1/4 sum_i ln((eps^2 + (sigma'^2 + 1) W / omega) / (eps^2 + sigma'^2 (w_i - w_init_i)^2)) + ln(m
  / sigma') + 10`` with ``W = ||w||^2``, ``pacbayes-mag-init`` with ``W = ||w - w_init||^2``.

The collection draws its noise with standard deviation ``sigma^2``, by mistake; here it is ``sigma``, so its sigma is
the root of this one. Its convention of the distance ``w - w_init`` under ``pacbayes-mag-orig`` is kept.

The inequality behind them bounds the error of the network *with noise*, for a sigma fixed beforehand; sigma is fitted
to the data and estimated from a few draws, so none of these is a guarantee. All but the two flatnesses are capacities,
in examples: the gap is of order ``sqrt(value / m)``. Every other measure here is compared across networks, and no
number of errors follows from it.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from bitcert.theory.formulas.products import FROBENIUS, SPECTRAL, Norm, log_path_norm, log_power_sum, log_ratios
from bitcert.theory.inputs import BoundInputs
from bitcert.theory.logs import log, log_sum
from bitcert.theory.papers.counting import require_parameters
from bitcert.theory.registry import Bound, Function, bound
from bitcert.theory.value import BoundValue, Ingredient, Unit, need, outside

_SQUARED = "Spectral norms are squared, as in Jiang et al.; the public collection leaves them unsquared."


def _notes(norm: Norm) -> tuple[str, ...]:
    return (_SQUARED,) if norm is SPECTRAL else ()


def _size(inputs: BoundInputs, norm: Norm, *, init: bool = False, root: bool = False) -> BoundValue:
    """``sum_i norm(A^i)^2``, or its root."""
    name, norms = norm.read(inputs, init)
    value = log_power_sum([log(own) for own in norms], 2.0)
    return BoundValue(value / 2 if root else value, ingredients={name: norms, "d": inputs.depth}, notes=_notes(norm))


def _product(inputs: BoundInputs, norm: Norm, *, margin: bool = False, mean: bool = False) -> BoundValue:
    """``P = prod_i norm(A^i)^2``, over ``gamma^2`` with a ``margin``; as a ``mean`` ``d P^(1/d)``."""
    value = 2 * norm.log_product(inputs)
    if margin:
        value -= 2 * math.log(inputs.margin)
    if mean:
        value = math.log(inputs.depth) + value / inputs.depth
    facts = inputs.facts(*(("gamma", "d") if margin else ("d",)))
    return BoundValue(value, ingredients={norm.name: norm.values(inputs), **facts}, notes=_notes(norm))


def _ratios(inputs: BoundInputs, *, init: bool = False, main: bool = False) -> BoundValue:
    """``sum_i above_i^2 / ||A^i||_2^2``; the ``main`` part of a bound is ``prod_i ||A^i||_2^2 / gamma^2`` times it."""
    (name, above), below = FROBENIUS.read(inputs, init), SPECTRAL.values(inputs)
    value = log_power_sum(log_ratios(inputs, above, below), 2.0)
    if main:
        value = 2 * SPECTRAL.log_product(inputs) + value - 2 * math.log(inputs.margin)
    facts = inputs.facts(*(("gamma", "d") if main else ("d",)))
    return BoundValue(value, ingredients={name: above, "spectral": below, **facts}, notes=(_SQUARED,))


def _path(inputs: BoundInputs) -> BoundValue:
    return BoundValue(log_path_norm(inputs, 2.0), ingredients={"p": 2.0})


def _path_over_margin(inputs: BoundInputs) -> BoundValue:
    return BoundValue(
        log_path_norm(inputs, 2.0) - 2 * math.log(inputs.margin),
        ingredients={"p": 2.0, "gamma": inputs.margin},
        notes=("Jiang et al. divide the sum, not its root, by gamma^2; the collection's convention is kept.",),
    )


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


def _flatness_notes(inputs: BoundInputs) -> tuple[str, ...]:
    found = need(inputs.flatness)
    asked = f"sigma is where {found.draws} draws of noise cost {100 * found.drop:g} % of the accuracy"
    return (f"{asked} on {found.examples} examples of the sample.",)


def _positive(inputs: BoundInputs, value: float, ingredients: dict[str, Ingredient]) -> BoundValue:
    """A capacity that is a sum of logarithms, so it may come out at 0 or below, which says nothing."""
    if value <= 0:
        raise outside(f"does not apply: the sum of its logarithms is {value:.4g}, and a capacity must be positive")
    return BoundValue(math.log(value), ingredients=ingredients, notes=_flatness_notes(inputs))


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
    return BoundValue(log_sum((first, math.log(rest))), ingredients=ingredients, notes=_flatness_notes(inputs))


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
    return BoundValue(
        -2 * math.log(sigma), ingredients=_facts(inputs, sigma=sigma, **floor), notes=_flatness_notes(inputs)
    )


def _row(name: str, title: str, sentence: str, formula: str, function: Function, unit: Unit = Unit.PLAIN) -> Bound:
    """A measure that only compares networks, or a capacity, under its name, which is in capitals in the collection."""
    source = f"Jiang et al. 2020, {name.replace('-', '_').upper()}"
    if not name.startswith("pacbayes"):
        source += " of the collection of Dziugaite et al. 2020"
    dropped = "everything: a measure for comparing networks, not a bound"
    if unit is Unit.SAMPLES:
        dropped = "the price of fitting sigma to the data; it speaks of the network with noise on its weights"
    return bound(f"jiang2020-{name}", source, title, sentence, dropped, unit=unit)(function, formula)


def _products(norm: Norm, name: str, called: str, symbol: str, *sentences: str) -> tuple[Bound, ...]:
    """Product and geometric mean of squared norms, each also over the margin; a sentence for each of the four."""
    product, mean = f"product of squared {called} norms", f"geometric mean of squared {called} norms, times d"
    over = "the same, the product over gamma^2"
    # name, title and formula; whether over the margin, and whether a mean
    rows = (
        (f"log-prod-of-{name}", product, f"prod_i {symbol}.", False, False),
        (f"log-prod-of-{name}-over-margin", f"{product} over gamma^2", f"prod_i {symbol} / gamma^2.", True, False),
        (f"log-sum-of-{name}", mean, f"d (prod_i {symbol})^(1/d).", False, True),
        (f"log-sum-of-{name}-over-margin", over, f"d (prod_i {symbol} / gamma^2)^(1/d).", True, True),
    )
    return tuple(
        _row(full, title, sentence, formula, functools.partial(_product, norm=norm, margin=margin, mean=mean))
        for (full, title, formula, margin, mean), sentence in zip(rows, sentences, strict=True)
    )


ROWS = (
    _row(
        "l2",
        "l2 norm of the weights",
        "How large all weights are together.",
        "||w||_2.",
        lambda inputs: _size(inputs, FROBENIUS, root=True),
    ),
    _row(
        "l2-dist",
        "l2 distance from initialisation",
        "How far training has moved all weights together.",
        "||w - w_init||_2.",
        lambda inputs: _size(inputs, FROBENIUS, init=True, root=True),
    ),
    _row(
        "params",
        "number of parameters",
        "How many numbers the network has.",
        "W, biases included.",
        lambda inputs: BoundValue(math.log(require_parameters(inputs)), ingredients=inputs.facts("W")),
    ),
    _row(
        "inverse-margin",
        "inverse squared margin",
        "The smaller the margin on the training data, the larger.",
        "1 / gamma^2.",
        lambda inputs: BoundValue(-2 * math.log(inputs.margin), ingredients=inputs.facts("gamma")),
    ),
    *_products(
        FROBENIUS,
        "fro",
        "Frobenius",
        "||A^i||_F^2",
        "The size of all layers, squared and multiplied.",
        "The size of all layers, squared and multiplied, in units of the squared margin.",
        "The size of a typical layer, times the depth.",
        "The size of a typical layer in units of the margin, times the depth.",
    ),
    *_products(
        SPECTRAL,
        "spec",
        "spectral",
        "||A^i||_2^2",
        "How far a change of the input could be blown up, squared.",
        "How far a change of the input could be blown up, in units of the margin, squared.",
        "How far a typical layer can stretch its input, times the depth.",
        "How far a typical layer can stretch its input in units of the margin, times the depth.",
    ),
    _row(
        "log-spec-orig-main",
        "spectral product times stable ranks over gamma^2",
        "The main part of the bounds with spectral norms.",
        "prod_i ||A^i||_2^2 sum_i ||A^i||_F^2 / ||A^i||_2^2 / gamma^2.",
        lambda inputs: _ratios(inputs, main=True),
    ),
    _row(
        "log-spec-init-main",
        "the same, from initialisation",
        "The main part of the bounds with spectral norms, where only what training has moved counts.",
        "prod_i ||A^i||_2^2 sum_i ||A^i - A^i_init||_F^2 / ||A^i||_2^2 / gamma^2.",
        lambda inputs: _ratios(inputs, init=True, main=True),
    ),
    _row(
        "fro-over-spec",
        "sum of stable ranks",
        "How many directions the layers really use, added up.",
        "sum_i ||A^i||_F^2 / ||A^i||_2^2.",
        _ratios,
    ),
    _row(
        "param-norm",
        "sum of squared Frobenius norms",
        "How large all weights are together, squared.",
        "sum_i ||A^i||_F^2.",
        lambda inputs: _size(inputs, FROBENIUS),
    ),
    _row(
        "fro-dist",
        "squared Frobenius distance from initialisation",
        "How far training has moved all weights together, squared.",
        "sum_i ||A^i - A^i_init||_F^2.",
        lambda inputs: _size(inputs, FROBENIUS, init=True),
    ),
    _row(
        "dist-spec-init",
        "squared spectral distance from initialisation",
        "How far training has moved the strongest direction of every layer.",
        "sum_i ||A^i - A^i_init||_2^2.",
        lambda inputs: _size(inputs, SPECTRAL, init=True),
    ),
    _row(
        "path-norm",
        "l2 path norm",
        "All ways through the network, each with the square of its weights, added up; then the root.",
        "sqrt(sum over paths of prod w^2), biases as weights from an input of 1.",
        _path,
    ),
    _row(
        "path-norm-over-margin",
        "l2 path norm over gamma^2",
        "All ways through the network, each squared and added up, then the root, in units of the squared margin.",
        "path-norm / gamma^2.",
        _path_over_margin,
    ),
)
"""The measures in the order of the collection."""

FLATNESS_ROWS = (
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
        Unit.SAMPLES,
    ),
    _row(
        "pacbayes-init",
        "flatness and distance from initialisation",
        "Examples needed if only the way from the initial weights must be known, up to the noise tolerated.",
        "||w - w_init||^2 / (4 sigma^2) + ln(m / sigma) + 10.",
        lambda inputs: _plain(inputs, init=True),
        Unit.SAMPLES,
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
        Unit.SAMPLES,
    ),
    _row(
        "pacbayes-mag-init",
        "magnitude-aware flatness and distance from initialisation",
        "Examples needed if only the way from the initial weights must be known, to a part of each weight.",
        "The formula at the top with W = ||w - w_init||^2.",
        lambda inputs: _magnitude(inputs, init=True),
        Unit.SAMPLES,
    ),
)
