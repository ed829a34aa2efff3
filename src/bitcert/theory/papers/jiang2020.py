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

from bitcert.theory.formulas.products import (
    Norm,
    distances,
    frobenius,
    log_of_product,
    log_power_sum,
    log_ratios,
    spectral,
    values,
)
from bitcert.theory.inputs import BoundInputs
from bitcert.theory.logs import log
from bitcert.theory.registry import bound
from bitcert.theory.value import BoundValue, Ingredient, Kind, Unit, need, outside

_JIANG = "Jiang et al. 2020"
_DROPPED = "everything: a measure for comparing networks, not a bound"
_SQUARED = "Spectral norms are squared, as in Jiang et al.; the public collection leaves them unsquared."


def _log_squares(logs: tuple[float, ...]) -> float:
    """``ln sum_i exp(2 logs_i)``."""
    return log_power_sum(logs, 2.0)


def _logs(norms: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(log(norm) for norm in norms)


def _log_product(inputs: BoundInputs, norm: Norm, margin: bool) -> float:
    return 2 * log_of_product(inputs, norm) - (2 * math.log(inputs.gamma) if margin else 0.0)


def _product(inputs: BoundInputs, norm: Norm, name: str, *notes: str, margin: bool = False) -> BoundValue:
    """``prod_i norm(A^i)^2``, over ``gamma^2`` if asked."""
    ingredients: dict[str, Ingredient] = {name: values(inputs, norm), "gamma": inputs.gamma, "d": inputs.depth}
    return BoundValue(_log_product(inputs, norm, margin), ingredients=ingredients, notes=notes)


def _mean(inputs: BoundInputs, norm: Norm, name: str, *notes: str, margin: bool = False) -> BoundValue:
    """``d (prod_i norm(A^i)^2)^(1/d)``, the product over ``gamma^2`` if asked."""
    value = math.log(inputs.depth) + _log_product(inputs, norm, margin) / inputs.depth
    ingredients: dict[str, Ingredient] = {name: values(inputs, norm), "gamma": inputs.gamma, "d": inputs.depth}
    return BoundValue(value, ingredients=ingredients, notes=notes)


def _sum(norms: tuple[float, ...], name: str, inputs: BoundInputs, *notes: str) -> BoundValue:
    """``sum_i norms_i^2``."""
    return BoundValue(_log_squares(_logs(norms)), ingredients={name: norms, "d": inputs.depth}, notes=notes)


def _main(inputs: BoundInputs, above: tuple[float, ...], name: str) -> BoundValue:
    """``prod_i ||A^i||_2^2 sum_i above_i^2 / ||A^i||_2^2 / gamma^2``."""
    below = values(inputs, spectral)
    ratios = _log_squares(log_ratios(inputs, above, below))
    return BoundValue(
        2 * log_of_product(inputs, spectral) + ratios - 2 * math.log(inputs.gamma),
        ingredients={name: above, "spectral": below, "gamma": inputs.gamma, "d": inputs.depth},
        notes=(_SQUARED,),
    )


def _path(inputs: BoundInputs) -> float:
    logs = need(inputs.path_norms_with_biases)
    if 2.0 not in logs:
        raise outside("does not apply: no path norm with p = 2 was computed")
    return logs[2.0]


@bound(
    "jiang2020-l2",
    f"{_JIANG}, L2 of the collection of Dziugaite et al. 2020",
    "l2 norm of the weights",
    kind=Kind.MEASURE,
    unit=Unit.PLAIN,
    sentence="How large all weights are together.",
    dropped=_DROPPED,
)
def l2(inputs: BoundInputs) -> BoundValue:
    """``||w||_2``."""
    norms = values(inputs, frobenius)
    return BoundValue(_log_squares(_logs(norms)) / 2, ingredients={"frobenius": norms, "d": inputs.depth})


@bound(
    "jiang2020-l2-dist",
    f"{_JIANG}, L2_DIST of the collection of Dziugaite et al. 2020",
    "l2 distance from initialisation",
    kind=Kind.MEASURE,
    unit=Unit.PLAIN,
    sentence="How far training has moved all weights together.",
    dropped=_DROPPED,
)
def l2_dist(inputs: BoundInputs) -> BoundValue:
    """``||w - w_init||_2``."""
    norms = distances(inputs, frobenius)
    return BoundValue(_log_squares(_logs(norms)) / 2, ingredients={"distance_frobenius": norms, "d": inputs.depth})


@bound(
    "jiang2020-params",
    f"{_JIANG}, PARAMS of the collection of Dziugaite et al. 2020",
    "number of parameters",
    kind=Kind.MEASURE,
    unit=Unit.PLAIN,
    sentence="How many numbers the network has.",
    dropped=_DROPPED,
)
def params(inputs: BoundInputs) -> BoundValue:
    """``W``, biases included."""
    if inputs.num_parameters < 1:
        raise outside("does not apply: the network has no parameters")
    return BoundValue(math.log(inputs.num_parameters), ingredients={"W": inputs.num_parameters})


@bound(
    "jiang2020-inverse-margin",
    f"{_JIANG}, INVERSE_MARGIN of the collection of Dziugaite et al. 2020",
    "inverse squared margin",
    kind=Kind.MEASURE,
    unit=Unit.PLAIN,
    sentence="The smaller the margin on the training data, the larger.",
    dropped=_DROPPED,
)
def inverse_margin(inputs: BoundInputs) -> BoundValue:
    """``1 / gamma^2``."""
    return BoundValue(-2 * math.log(inputs.gamma), ingredients={"gamma": inputs.gamma})


@bound(
    "jiang2020-log-prod-of-fro",
    f"{_JIANG}, LOG_PROD_OF_FRO of the collection of Dziugaite et al. 2020",
    "product of squared Frobenius norms",
    kind=Kind.MEASURE,
    unit=Unit.PLAIN,
    sentence="The size of all layers, squared and multiplied.",
    dropped=_DROPPED,
)
def log_prod_of_fro(inputs: BoundInputs) -> BoundValue:
    """``prod_i ||A^i||_F^2``."""
    return _product(inputs, frobenius, "frobenius")


@bound(
    "jiang2020-log-prod-of-fro-over-margin",
    f"{_JIANG}, LOG_PROD_OF_FRO_OVER_MARGIN of the collection of Dziugaite et al. 2020",
    "product of squared Frobenius norms over gamma^2",
    kind=Kind.MEASURE,
    unit=Unit.PLAIN,
    sentence="The size of all layers, squared and multiplied, in units of the squared margin.",
    dropped=_DROPPED,
)
def log_prod_of_fro_over_margin(inputs: BoundInputs) -> BoundValue:
    """``prod_i ||A^i||_F^2 / gamma^2``."""
    return _product(inputs, frobenius, "frobenius", margin=True)


@bound(
    "jiang2020-log-sum-of-fro",
    f"{_JIANG}, LOG_SUM_OF_FRO of the collection of Dziugaite et al. 2020",
    "geometric mean of squared Frobenius norms, times d",
    kind=Kind.MEASURE,
    unit=Unit.PLAIN,
    sentence="The size of a typical layer, times the depth.",
    dropped=_DROPPED,
)
def log_sum_of_fro(inputs: BoundInputs) -> BoundValue:
    """``d (prod_i ||A^i||_F^2)^(1/d)``."""
    return _mean(inputs, frobenius, "frobenius")


@bound(
    "jiang2020-log-sum-of-fro-over-margin",
    f"{_JIANG}, LOG_SUM_OF_FRO_OVER_MARGIN of the collection of Dziugaite et al. 2020",
    "the same, the product over gamma^2",
    kind=Kind.MEASURE,
    unit=Unit.PLAIN,
    sentence="The size of a typical layer in units of the margin, times the depth.",
    dropped=_DROPPED,
)
def log_sum_of_fro_over_margin(inputs: BoundInputs) -> BoundValue:
    """``d (prod_i ||A^i||_F^2 / gamma^2)^(1/d)``."""
    return _mean(inputs, frobenius, "frobenius", margin=True)


@bound(
    "jiang2020-log-prod-of-spec",
    f"{_JIANG}, LOG_PROD_OF_SPEC of the collection of Dziugaite et al. 2020",
    "product of squared spectral norms",
    kind=Kind.MEASURE,
    unit=Unit.PLAIN,
    sentence="How far a change of the input could be blown up, squared.",
    dropped=_DROPPED,
)
def log_prod_of_spec(inputs: BoundInputs) -> BoundValue:
    """``prod_i ||A^i||_2^2``."""
    return _product(inputs, spectral, "spectral", _SQUARED)


@bound(
    "jiang2020-log-prod-of-spec-over-margin",
    f"{_JIANG}, LOG_PROD_OF_SPEC_OVER_MARGIN of the collection of Dziugaite et al. 2020",
    "product of squared spectral norms over gamma^2",
    kind=Kind.MEASURE,
    unit=Unit.PLAIN,
    sentence="How far a change of the input could be blown up, in units of the margin, squared.",
    dropped=_DROPPED,
)
def log_prod_of_spec_over_margin(inputs: BoundInputs) -> BoundValue:
    """``prod_i ||A^i||_2^2 / gamma^2``."""
    return _product(inputs, spectral, "spectral", _SQUARED, margin=True)


@bound(
    "jiang2020-log-sum-of-spec",
    f"{_JIANG}, LOG_SUM_OF_SPEC of the collection of Dziugaite et al. 2020",
    "geometric mean of squared spectral norms, times d",
    kind=Kind.MEASURE,
    unit=Unit.PLAIN,
    sentence="How far a typical layer can stretch its input, times the depth.",
    dropped=_DROPPED,
)
def log_sum_of_spec(inputs: BoundInputs) -> BoundValue:
    """``d (prod_i ||A^i||_2^2)^(1/d)``."""
    return _mean(inputs, spectral, "spectral", _SQUARED)


@bound(
    "jiang2020-log-sum-of-spec-over-margin",
    f"{_JIANG}, LOG_SUM_OF_SPEC_OVER_MARGIN of the collection of Dziugaite et al. 2020",
    "the same, the product over gamma^2",
    kind=Kind.MEASURE,
    unit=Unit.PLAIN,
    sentence="How far a typical layer can stretch its input in units of the margin, times the depth.",
    dropped=_DROPPED,
)
def log_sum_of_spec_over_margin(inputs: BoundInputs) -> BoundValue:
    """``d (prod_i ||A^i||_2^2 / gamma^2)^(1/d)``."""
    return _mean(inputs, spectral, "spectral", _SQUARED, margin=True)


@bound(
    "jiang2020-log-spec-orig-main",
    f"{_JIANG}, LOG_SPEC_ORIG_MAIN of the collection of Dziugaite et al. 2020",
    "spectral product times stable ranks over gamma^2",
    kind=Kind.MEASURE,
    unit=Unit.PLAIN,
    sentence="The main part of the bounds with spectral norms.",
    dropped=_DROPPED,
)
def log_spec_orig_main(inputs: BoundInputs) -> BoundValue:
    """``prod_i ||A^i||_2^2 sum_i ||A^i||_F^2 / ||A^i||_2^2 / gamma^2``."""
    return _main(inputs, values(inputs, frobenius), "frobenius")


@bound(
    "jiang2020-log-spec-init-main",
    f"{_JIANG}, LOG_SPEC_INIT_MAIN of the collection of Dziugaite et al. 2020",
    "the same, from initialisation",
    kind=Kind.MEASURE,
    unit=Unit.PLAIN,
    sentence="The main part of the bounds with spectral norms, where only what training has moved counts.",
    dropped=_DROPPED,
)
def log_spec_init_main(inputs: BoundInputs) -> BoundValue:
    """``prod_i ||A^i||_2^2 sum_i ||A^i - A^i_init||_F^2 / ||A^i||_2^2 / gamma^2``."""
    return _main(inputs, distances(inputs, frobenius), "distance_frobenius")


@bound(
    "jiang2020-fro-over-spec",
    f"{_JIANG}, FRO_OVER_SPEC of the collection of Dziugaite et al. 2020",
    "sum of stable ranks",
    kind=Kind.MEASURE,
    unit=Unit.PLAIN,
    sentence="How many directions the layers really use, added up.",
    dropped=_DROPPED,
)
def fro_over_spec(inputs: BoundInputs) -> BoundValue:
    """``sum_i ||A^i||_F^2 / ||A^i||_2^2``."""
    above, below = values(inputs, frobenius), values(inputs, spectral)
    return BoundValue(
        _log_squares(log_ratios(inputs, above, below)),
        ingredients={"frobenius": above, "spectral": below, "d": inputs.depth},
        notes=(_SQUARED,),
    )


@bound(
    "jiang2020-param-norm",
    f"{_JIANG}, PARAM_NORM of the collection of Dziugaite et al. 2020",
    "sum of squared Frobenius norms",
    kind=Kind.MEASURE,
    unit=Unit.PLAIN,
    sentence="How large all weights are together, squared.",
    dropped=_DROPPED,
)
def param_norm(inputs: BoundInputs) -> BoundValue:
    """``sum_i ||A^i||_F^2``."""
    return _sum(values(inputs, frobenius), "frobenius", inputs)


@bound(
    "jiang2020-fro-dist",
    f"{_JIANG}, FRO_DIST of the collection of Dziugaite et al. 2020",
    "squared Frobenius distance from initialisation",
    kind=Kind.MEASURE,
    unit=Unit.PLAIN,
    sentence="How far training has moved all weights together, squared.",
    dropped=_DROPPED,
)
def fro_dist(inputs: BoundInputs) -> BoundValue:
    """``sum_i ||A^i - A^i_init||_F^2``."""
    return _sum(distances(inputs, frobenius), "distance_frobenius", inputs)


@bound(
    "jiang2020-dist-spec-init",
    f"{_JIANG}, DIST_SPEC_INIT of the collection of Dziugaite et al. 2020",
    "squared spectral distance from initialisation",
    kind=Kind.MEASURE,
    unit=Unit.PLAIN,
    sentence="How far training has moved the strongest direction of every layer.",
    dropped=_DROPPED,
)
def dist_spec_init(inputs: BoundInputs) -> BoundValue:
    """``sum_i ||A^i - A^i_init||_2^2``."""
    return _sum(distances(inputs, spectral), "distance_spectral", inputs, _SQUARED)


@bound(
    "jiang2020-path-norm",
    f"{_JIANG}, PATH_NORM of the collection of Dziugaite et al. 2020",
    "l2 path norm",
    kind=Kind.MEASURE,
    unit=Unit.PLAIN,
    sentence="All ways through the network, each with the square of its weights, added up; then the root.",
    dropped=_DROPPED,
)
def path_norm(inputs: BoundInputs) -> BoundValue:
    """``sqrt(sum over paths of prod w^2)``, biases as weights from an input of 1."""
    return BoundValue(_path(inputs), ingredients={"p": 2.0})


@bound(
    "jiang2020-path-norm-over-margin",
    f"{_JIANG}, PATH_NORM_OVER_MARGIN of the collection of Dziugaite et al. 2020",
    "l2 path norm over gamma^2",
    kind=Kind.MEASURE,
    unit=Unit.PLAIN,
    sentence="All ways through the network, each squared and added up, then the root, in units of the squared margin.",
    dropped=_DROPPED,
)
def path_norm_over_margin(inputs: BoundInputs) -> BoundValue:
    """``path-norm / gamma^2``."""
    return BoundValue(
        _path(inputs) - 2 * math.log(inputs.gamma),
        ingredients={"p": 2.0, "gamma": inputs.gamma},
        notes=("Jiang et al. divide the sum, not its root, by gamma^2; the collection's convention is kept.",),
    )
