"""Heavy-tailed weights (Shin 2021): Theorem 2, Proposition 1.2 and the stable rank of section 5.3.

    Theorem 2    sum_i k_i                                       k_i entries kept, the others become Gaussian noise
    Prop. 1.2    P(X >= k) <= (n p / k)^k ((1 - p) / (1 - k/n))^(n - k),       p = (w_m / tau)^(alpha - 1)
    section 5.3  sum_i ||A^i||_F^2 / ||A^i||_2^2,                              sqrt(stable rank) <= 1 / mu_i

The threshold ``tau_i`` is one standard deviation of the layer, as in Appendix E, and an entry is kept where
``|w - mean| > tau`` (docs/theory.md section 3.2); the paper compares ``w`` itself, so that every negative weight is
replaced: that count is ``log_printed``. The replaced entries become the mean and Gaussian noise of variance ``t_i =
tau_i^2``, as in Appendix E; where nothing is replaced there is no noise. *At gamma*, ``tau_i`` is a threshold with at
most the error that Lemma 2.2 allows the layer, ``epsilon_i ||A^i||_F`` with ``epsilon_i = epsilon mu_i mu_{i->} / (6 c
d)``, ``epsilon = gamma / (sqrt 2 max ||f||)`` and ``eta_i = delta / (2 d^2 m h)``.

The error that holds is derived in :mod:`bitcert.theory.formulas.heavy_tail_theory`; that of Proposition 1.1 as printed
has an invalid proof (erratum 12). ``log_printed`` of the row at gamma counts what its threshold keeps.

Errata (docs/theory.md section 4): 12, 13 (``|w|`` is fitted), 14 (``rho_delta`` is the largest number), 20 (``alpha``
is the exponent of the density ``w^-alpha``, as the package powerlaw returns it and Table 1 shows it; the paper's
formulas have ``w^-(alpha + 1)``). Found here as well: the remark in Appendix C that ReLU networks need no ``rho_delta``
because ``M^{i,j} = J^{i,j}`` is true at ``x^i`` only, not at the perturbed point where the lemma uses it; and ``||W||_F
>= 1`` is not needed, since the lemma's error is relative to ``||W||_F``.

Every row is a measure. That weights are independent draws of a power law is not so for a trained layer (Remark 3).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from bitcert.errors import listed
from bitcert.theory.formulas.heavy_tail_theory import SIGNIFICANT, Replaced, log_printed_tau, scaled, sparsity_bound
from bitcert.theory.formulas.noise_stability import Variant, log_layer_epsilons, stability_of
from bitcert.theory.inputs import BoundInputs, LayerInputs
from bitcert.theory.logs import log, log_sum
from bitcert.theory.registry import bound
from bitcert.theory.value import Absent, BoundValue, Condition, NotComputed, Unit, in_every_layer, outside

_ROUNDING = 1e-9
_INDEPENDENT = Condition("weights are independent", None, "cannot be shown of one trained layer (Remark 3)")
_DROPPED = "all logarithms and the constant of O(.), and the bits that say where the kept entries are"


def _eta(inputs: BoundInputs) -> float:
    """``eta_i = delta / (2 d^2 m h)``, Lemma 2.2: ``m d`` pairs with at most ``h`` rows, in ``d`` layers."""
    return inputs.delta / (2 * inputs.depth**2 * inputs.m * inputs.width)


def _log_allowed(inputs: BoundInputs) -> list[float]:
    """``ln epsilon_i`` of every layer.

    Raises:
        NotComputed: without a profile, or where a cushion is 0 or was not measured.
    """
    return log_layer_epsilons(inputs, stability_of(inputs, Variant.WORST))[1]


def _conditions(inputs: BoundInputs, layers: Sequence[Replaced]) -> tuple[Condition, ...]:
    smooth = inputs.smoothness
    if isinstance(smooth, Absent):
        smooth = Condition("interlayer smoothness rho_delta >= 3 d", None, smooth.why)
    return (
        inputs.fully_connected,
        *inputs.hypotheses("chain of layers", "bias-free", "activations 1-Lipschitz"),
        smooth,
        _error_condition(inputs, layers),
        _power_law(inputs),
        _INDEPENDENT,
    )


def _error_condition(inputs: BoundInputs, layers: Sequence[Replaced]) -> Condition:
    """Whether the error that does hold is at most what Lemma 2.2 asks (erratum 12)."""
    name = "replacement changes no layer by more than Lemma 2.2 allows (erratum 12: what does hold of Prop. 1.1)"
    try:
        limits = _log_allowed(inputs)
    except NotComputed as problem:
        return Condition(name, None, problem.absent.why)
    excess = [own.log_error(_eta(inputs)) - limit for own, limit in zip(layers, limits, strict=True)]
    return Condition(name, max(excess) <= _ROUNDING, f"largest ratio e^{max(excess):.4g}")


def _power_law(inputs: BoundInputs) -> Condition:
    """Whether a rival fits better; a fit can never show that the law holds."""
    name = "weights follow a power law"
    against, silent = [], 0
    for layer in inputs.layers:
        if isinstance(layer.tail, Absent):
            silent += 1
        elif any(ratio < 0 and p <= SIGNIFICANT for ratio, p in layer.tail.compared.values()):
            against.append(layer.name)
    if against:
        return Condition(name, False, f"a lognormal or an exponential tail fits better in {listed(against)}")
    return Condition(name, None, f"{silent} layers without a fit" if silent else "no rival fits better")


def _theorem(inputs: BoundInputs, layers: Sequence[Replaced], printed: int) -> BoundValue:
    """The row of these layers; ``printed`` entries are kept as the paper prints it."""
    eta = _eta(inputs)
    return BoundValue(
        log=log(sum(own.kept for own in layers)),
        conditions=_conditions(inputs, layers),
        ingredients={
            **inputs.facts("m", "d", "delta"),
            "eta": eta,
            "k": tuple(own.kept for own in layers),
            "k_signed": tuple(own.kept_signed for own in layers),
            "entries": tuple(own.layer.num_weights for own in layers),
            "log_tau": tuple(log(own.tau) + own.log_unit for own in layers),
            "log_noise": tuple(log(own.noise) + own.log_unit for own in layers),
            "log_std": tuple(log(own.std) + own.log_unit for own in layers),
            "log_error": tuple(own.log_error(eta) for own in layers),
            "log_printed_error": tuple(own.log_printed_error(eta) for own in layers),
        },
        layers=inputs.parts(log(own.kept) for own in layers),
        log_printed=log(printed),
        notes=(
            "errors are relative to ||A||_F and for fixed vectors; biases are not counted",
            "printed: only weights w > tau are kept, so every negative one is replaced",
            "rho_delta was measured with the noise of Matrix-Project, not with that of this replacement",
        ),
    )


_WORDS = (
    "Weights that stand out; the others are replaced by random noise that anyone can draw again, so only these would "
    "have to be learned."
)


@bound("shin2021-thm2", "Shin 2021, Theorem 2", "large weights kept, at one standard deviation", _WORDS, _DROPPED)
def weights_kept(inputs: BoundInputs) -> BoundValue:
    """``sum_i k_i`` with ``tau_i`` one standard deviation of each layer; convolutions by their kernels."""
    found = [Replaced.of(layer) for layer in inputs.layers]
    return _theorem(inputs, found, sum(own.kept_signed for own in found))


@bound(
    "shin2021-thm2-at-gamma",
    "Shin 2021, Theorem 2 with Proposition 1.1",
    "large weights kept, at the threshold that gamma allows",
    _WORDS + " Here the noise is as small as the theorem's own proof demands.",
    _DROPPED,
)
def weights_kept_at_gamma(inputs: BoundInputs) -> BoundValue:
    """``sum_i k_i`` with ``||D_i||_2 + tau_i sqrt(2 ln(2/eta_i)) <= epsilon_i ||A^i||_F``: what holds of Prop. 1.1.

    Printed: entries ``w > tau_i`` with ``tau_i^2 + t_i = epsilon_i^2 ||A^i||_F^2 / ln(3/eta_i)``; ``t_i = tau_i^2``.
    """
    eta, limits = _eta(inputs), _log_allowed(inputs)
    found = [Replaced.within(layer, limit, eta) for layer, limit in zip(inputs.layers, limits, strict=True)]
    printed = (_printed_count(layer, limit, eta) for layer, limit in zip(inputs.layers, limits, strict=True))
    return _theorem(inputs, found, sum(printed))


def _printed_count(layer: LayerInputs, log_allowed: float, eta: float) -> int:
    return int(np.count_nonzero(layer.matrix() > math.exp(log_printed_tau(layer, log_allowed, eta))))


@bound(
    "shin2021-prop1.2",
    "Shin 2021, Proposition 1.2",
    "large weights that a fitted power law predicts",
    "Large weights that a power law fitted to each layer would rarely exceed, instead of counting them.",
    _DROPPED,
)
def predicted_weights(inputs: BoundInputs) -> BoundValue:
    """``sum_i k_i``: Prop. 1.2 exceeds ``k_i`` with probability ``delta / d`` at most, at ``tau_i`` = one std.

    ``alpha`` is the exponent of the density ``w^-alpha``, as the package powerlaw returns it.
    Below the fitted ``w_m`` the law says nothing: entries are counted there, and the layer is named.
    """
    predictions = [_predict(layer, inputs.delta / inputs.depth) for layer in inputs.layers]
    silent = [own.layer.name for own in predictions if own.p is None]
    beyond = [own.layer.name for own in predictions if own.p is not None and own.above >= own.k]
    spoken = len(predictions) - len(silent)
    return BoundValue(
        log=log(sum(own.k for own in predictions)),
        conditions=(
            _power_law(inputs),
            _INDEPENDENT,
            Condition(
                "the law speaks of tau in every layer: tau > w_m",
                not silent,
                f"not in {listed(silent)}: counted there" if silent else "in every layer",
            ),
            Condition(
                "fewer entries above tau than predicted",
                not beyond if spoken else None,
                f"more in {listed(beyond)}" if beyond else f"in {spoken} layers",
            ),
        ),
        ingredients={
            "eta": inputs.delta / inputs.depth,
            "density_exponent": tuple(own.alpha for own in predictions),
            "w_m": tuple(own.start for own in predictions),
            "tau": tuple(own.tau for own in predictions),
            "n": tuple(own.tail for own in predictions),
            "p": tuple(own.p for own in predictions),
            "k": tuple(own.k for own in predictions),
            "above_tau": tuple(own.above for own in predictions),
        },
        layers=inputs.parts(log(own.k) for own in predictions),
        probability=1 - inputs.delta,
    )


@dataclass(frozen=True, eq=False)
class _Prediction:
    """Prop. 1.2 of one layer; ``p`` is ``None`` where the law says nothing. ``alpha`` is the density's exponent."""

    layer: LayerInputs
    alpha: float | None
    start: float | None
    tau: float
    tail: int
    p: float | None
    k: int
    above: int


def _predict(layer: LayerInputs, eta: float) -> _Prediction:
    unit, top = scaled(layer)
    size, tau = np.abs(unit), float(unit.std())
    above = int(np.count_nonzero(size > tau))
    silent = _Prediction(layer, None, None, tau * top, 0, None, above, above)
    if isinstance(layer.tail, Absent):
        return silent
    alpha, start = layer.tail.density_exponent, layer.tail.xmin / top
    silent = replace(silent, alpha=alpha, start=layer.tail.xmin)
    if not tau > start > 0:
        return silent
    tail, p = int(np.count_nonzero(size >= start)), (start / tau) ** (alpha - 1)
    return replace(silent, tail=tail, p=p, k=sparsity_bound(tail, p, eta))


@bound(
    "shin2021-sec5.3",
    "Shin 2021, section 5.3",
    "stable ranks beside power-law exponents",
    ("How many directions the layers really use, added up; heavier tails of the weights are said to go with fewer."),
    "everything: a relation between layers, not a bound",
    unit=Unit.PLAIN,
)
def stable_ranks(inputs: BoundInputs) -> BoundValue:
    """``sum_i ||A^i||_F^2 / ||A^i||_2^2`` of the reshaped matrices: at most ``sum_i 1 / mu_i^2`` for dense layers.

    ``alpha`` is the exponent of the density ``w^-alpha``, as the package powerlaw returns it.
    """
    ranks = []
    for layer in inputs.layers:
        if layer.norms.spectral == 0:
            raise outside(f"does not apply: every weight of {layer.name} is 0, so it has no stable rank")
        ranks.append(2 * (log(layer.norms.frobenius) - math.log(layer.norms.spectral)))
    alphas = [None if isinstance(layer.tail, Absent) else layer.tail.density_exponent for layer in inputs.layers]
    pairs = [(alpha, math.exp(rank)) for alpha, rank in zip(alphas, ranks, strict=True) if alpha is not None]
    slope, correlation = _line(pairs)
    if correlation is None:
        together = Condition("smaller exponents go with smaller stable ranks", None, f"{len(pairs)} layers with a fit")
    else:
        detail = f"correlation {correlation:.3g} over {len(pairs)} layers, slope {slope:.3g}"
        together = Condition("smaller exponents go with smaller stable ranks", correlation > 0, detail)
    return BoundValue(
        log=log_sum(ranks),
        conditions=(_cushion_limit(inputs), together),
        ingredients={
            "stable_rank": tuple(math.exp(rank) for rank in ranks),
            "density_exponent": tuple(alphas),
            "slope": slope,
            "correlation": correlation,
            "inverse_cushion": tuple(_inverse_cushion(layer) for layer in inputs.layers),
        },
    )


def _inverse_cushion(layer: LayerInputs) -> float | None:
    value = None if isinstance(layer.stability, Absent) else layer.stability.cushion.worst
    return 1 / value if value else None


def _cushion_limit(inputs: BoundInputs) -> Condition:
    """Equation 17: ``||A||_F / ||A||_2 <= 1 / mu_i``, with the norm of the map for a convolution; it always holds."""
    name = "sqrt(stable rank) <= 1 / mu_i"
    found = [(layer, _inverse_cushion(layer)) for layer in inputs.layers]
    known = [(layer, inverse) for layer, inverse in found if inverse is not None]
    if not known:
        return Condition(name, None, "no profile, or no cushion above 0")
    broken = [
        layer.name
        for layer, inverse in known
        if log(layer.norms.frobenius) - log(layer.norms.operator) > log(inverse) + 1e-3
    ]
    return in_every_layer(name, broken, f"in {len(known)} layers")


def _line(pairs: Sequence[tuple[float, float]]) -> tuple[float | None, float | None]:
    """Slope and correlation of stable rank against exponent; ``None`` for fewer than 3 layers or equal values."""
    if len(pairs) < 3:
        return None, None
    raw = np.asarray(pairs, dtype=np.float64).T
    x, y = raw - raw.mean(1, keepdims=True)
    sizes = float(np.sqrt((x**2).sum())), float(np.sqrt((y**2).sum()))
    if sizes[0] <= 1e-9 * np.abs(raw[0]).max() or sizes[1] <= 1e-9 * np.abs(raw[1]).max():
        return None, None
    product = float(x @ y)
    return product / sizes[0] ** 2, product / (sizes[0] * sizes[1])
