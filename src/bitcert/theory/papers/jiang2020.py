"""Norm, margin and distance measures of Jiang et al. 2020 (Fantastic Generalization Measures), under their names.

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

Measures are compared across networks; no number of errors follows from any of them. Those of flatness are in
:mod:`bitcert.theory.papers.jiang2020_flatness`.
"""

from __future__ import annotations

import math

from bitcert.theory.formulas.products import FROBENIUS, SPECTRAL, Norm, log_power_sum, log_ratios
from bitcert.theory.inputs import BoundInputs
from bitcert.theory.logs import log
from bitcert.theory.registry import Bound, Function, bound
from bitcert.theory.value import BoundValue, Unit

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
        value -= 2 * math.log(inputs.gamma)
    if mean:
        value = math.log(inputs.depth) + value / inputs.depth
    ingredients = {norm.name: norm.values(inputs), **inputs.facts("gamma", "d")}
    return BoundValue(value, ingredients=ingredients, notes=_notes(norm))


def _ratios(inputs: BoundInputs, *, init: bool = False, main: bool = False) -> BoundValue:
    """``sum_i above_i^2 / ||A^i||_2^2``; the ``main`` part of a bound is ``prod_i ||A^i||_2^2 / gamma^2`` times it."""
    (name, above), below = FROBENIUS.read(inputs, init), SPECTRAL.values(inputs)
    value = log_power_sum(log_ratios(inputs, above, below), 2.0)
    if main:
        value = 2 * SPECTRAL.log_product(inputs) + value - 2 * math.log(inputs.gamma)
    facts = inputs.facts(*(("gamma", "d") if main else ("d",)))
    return BoundValue(value, ingredients={name: above, "spectral": below, **facts}, notes=(_SQUARED,))


def _path(inputs: BoundInputs) -> BoundValue:
    return BoundValue(inputs.log_path_norm(2.0), ingredients={"p": 2.0})


def _path_over_margin(inputs: BoundInputs) -> BoundValue:
    return BoundValue(
        inputs.log_path_norm(2.0) - 2 * math.log(inputs.gamma),
        ingredients={"p": 2.0, "gamma": inputs.gamma},
        notes=("Jiang et al. divide the sum, not its root, by gamma^2; the collection's convention is kept.",),
    )


def _row(name: str, title: str, sentence: str, formula: str, function: Function) -> Bound:
    """A measure under its name in the collection, which is in capitals there."""
    make = bound(
        f"jiang2020-{name}",
        f"Jiang et al. 2020, {name.replace('-', '_').upper()} of the collection of Dziugaite et al. 2020",
        title,
        sentence,
        "everything: a measure for comparing networks, not a bound",
        unit=Unit.PLAIN,
    )
    return make(function, formula)


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
        lambda inputs: BoundValue(math.log(inputs.require_parameters()), ingredients=inputs.facts("W")),
    ),
    _row(
        "inverse-margin",
        "inverse squared margin",
        "The smaller the margin on the training data, the larger.",
        "1 / gamma^2.",
        lambda inputs: BoundValue(-2 * math.log(inputs.gamma), ingredients=inputs.facts("gamma")),
    ),
    _row(
        "log-prod-of-fro",
        "product of squared Frobenius norms",
        "The size of all layers, squared and multiplied.",
        "prod_i ||A^i||_F^2.",
        lambda inputs: _product(inputs, FROBENIUS),
    ),
    _row(
        "log-prod-of-fro-over-margin",
        "product of squared Frobenius norms over gamma^2",
        "The size of all layers, squared and multiplied, in units of the squared margin.",
        "prod_i ||A^i||_F^2 / gamma^2.",
        lambda inputs: _product(inputs, FROBENIUS, margin=True),
    ),
    _row(
        "log-sum-of-fro",
        "geometric mean of squared Frobenius norms, times d",
        "The size of a typical layer, times the depth.",
        "d (prod_i ||A^i||_F^2)^(1/d).",
        lambda inputs: _product(inputs, FROBENIUS, mean=True),
    ),
    _row(
        "log-sum-of-fro-over-margin",
        "the same, the product over gamma^2",
        "The size of a typical layer in units of the margin, times the depth.",
        "d (prod_i ||A^i||_F^2 / gamma^2)^(1/d).",
        lambda inputs: _product(inputs, FROBENIUS, margin=True, mean=True),
    ),
    _row(
        "log-prod-of-spec",
        "product of squared spectral norms",
        "How far a change of the input could be blown up, squared.",
        "prod_i ||A^i||_2^2.",
        lambda inputs: _product(inputs, SPECTRAL),
    ),
    _row(
        "log-prod-of-spec-over-margin",
        "product of squared spectral norms over gamma^2",
        "How far a change of the input could be blown up, in units of the margin, squared.",
        "prod_i ||A^i||_2^2 / gamma^2.",
        lambda inputs: _product(inputs, SPECTRAL, margin=True),
    ),
    _row(
        "log-sum-of-spec",
        "geometric mean of squared spectral norms, times d",
        "How far a typical layer can stretch its input, times the depth.",
        "d (prod_i ||A^i||_2^2)^(1/d).",
        lambda inputs: _product(inputs, SPECTRAL, mean=True),
    ),
    _row(
        "log-sum-of-spec-over-margin",
        "the same, the product over gamma^2",
        "How far a typical layer can stretch its input in units of the margin, times the depth.",
        "d (prod_i ||A^i||_2^2 / gamma^2)^(1/d).",
        lambda inputs: _product(inputs, SPECTRAL, margin=True, mean=True),
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
