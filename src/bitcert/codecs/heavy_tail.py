"""Heavy-tail replacement: keep the large weights, replace the small ones by Gaussian noise of the helper.

Alg. 1 of Shin 2021: entries whose score is at most ``tau`` become ``mean + std * G_ij``; the others are kept,
quantised, as a sparse array. The score is ``w`` itself (Appendix E as printed: every negative weight is then replaced,
however large), ``|w|`` (what a law of ``w >= w_m > 0`` means for signed weights, erratum 13) or ``|w - mean|``
(docs/theory.md 3.2). The threshold is given, or a quantile of the scores, or a number of standard deviations (Appendix
E: 1), or comes from the relation of Prop. 1.1, which is a heuristic (erratum 12). Several draws of ``G`` may be tried;
the choice is coded.
Not guaranteed: any error of the decoded network; certify counts it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from bitcert.codecs.base import Codec, Layer, LayerCodec
from bitcert.codecs.best import Search
from bitcert.codecs.quantiser import at_exponent, finer_exponent
from bitcert.coding import MAX_MAGNITUDE
from bitcert.data import Sample
from bitcert.decoder import Helper
from bitcert.decoder.tensors import TensorCode
from bitcert.decoder.transforms.base import Coefficients, Values
from bitcert.decoder.transforms.heavy_tail import MAX_DRAW
from bitcert.errors import InputError, unknown_name
from bitcert.network import Network
from bitcert.run import Compressed, Run
from bitcert.theory.formulas.heavy_tail_theory import Reading, Sparsity, layer_sparsity, replacement_error
from bitcert.theory.value import Condition, LayerTheory, Theory

MOMENT_STEPS = 256
"""Steps in a standard deviation: two numbers a layer can afford to be fine."""


class Compare(StrEnum):
    """What is compared with the threshold."""

    W = "w"
    """The signed weight (Appendix E as printed)."""
    MAGNITUDE = "magnitude"
    """``|w|``."""
    DEVIATION = "deviation"
    """``|w - mean|``."""


class Variance(StrEnum):
    """Mean and variance of the noise."""

    LAYER = "layer"
    """Those of the whole layer (Appendix E)."""
    REPLACED = "replaced"
    """Those of the replaced entries only: never larger under ``|w - mean|``, and closer to what is replaced."""


@dataclass(frozen=True, eq=False)
class Split:
    """What becomes of one layer.

    Attributes:
        tau: threshold; the largest score that is replaced where a quantile or a relation set it.
        replaced: mask of the layer's shape.
        mean, std: of the noise.
    """

    tau: float
    replaced: NDArray[np.bool_]
    mean: float
    std: float

    @property
    def num_kept(self) -> int:
        """Entries that are kept."""
        return int(np.count_nonzero(~self.replaced))


@dataclass(frozen=True, kw_only=True)
class HeavyTail(LayerCodec):
    """Gaussian noise in place of small weights; at most one of ``tau``, ``quantile``, ``epsilon`` is given.

    Args:
        deviations: the threshold in standard deviations of the layer, if none of the other three is given.
        tau: the threshold itself.
        quantile: fraction of the entries that are replaced, those of the smallest scores (ties together).
        epsilon: error that Prop. 1.1 should promise: the largest ``tau`` with ``tau^2 + t`` small enough.
        eta: probability of failure, for ``epsilon`` and in ``theory``.
        reading: which constant of Prop. 1.1.
        compare: what is compared with the threshold.
        variance: of the noise.
        draw: number of the helper's draw.
        draws: how many draws are tried, from ``draw`` on; more than one needs a sample, and the best is kept.

    >>> HeavyTail().label
    'heavy-tail 1 std'
    """

    name: ClassVar[str] = "heavy-tail"

    deviations: float = 1.0
    tau: float | None = None
    quantile: float | None = None
    epsilon: float | None = None
    eta: float = 0.05
    reading: Reading = Reading.PROPOSITION
    compare: Compare = Compare.DEVIATION
    variance: Variance = Variance.LAYER
    draw: int = 0
    draws: int = 1

    def __post_init__(self) -> None:
        for option, kind in (("compare", Compare), ("variance", Variance), ("reading", Reading)):
            if getattr(self, option) not in tuple(kind):
                raise unknown_name(option, str(getattr(self, option)), [choice.value for choice in kind])
            object.__setattr__(self, option, kind(getattr(self, option)))
        given = [name for name in ("tau", "quantile", "epsilon") if getattr(self, name) is not None]
        if len(given) > 1:
            raise InputError("one threshold", " and ".join(given), "give one of tau, quantile, epsilon")
        for name, value in (("deviations", self.deviations), ("tau", self.tau)):
            if value is not None and not 0 <= value < math.inf:
                raise InputError(f"{name} of 0 or more", str(value), "use e.g. 1 standard deviation")
        if self.quantile is not None and not 0 <= self.quantile <= 1:
            raise InputError("a quantile between 0 and 1", str(self.quantile), "use e.g. 0.7")
        if self.epsilon is not None and not 0 < self.epsilon < math.inf:
            raise InputError("a positive epsilon", str(self.epsilon), "use e.g. 1")
        if not 0 < self.eta < 1:
            raise InputError("eta between 0 and 1", str(self.eta), "use e.g. 0.05")
        if self.draws < 1 or not 0 <= self.draw <= MAX_DRAW - self.draws:
            got = f"draw {self.draw}, {self.draws} draws"
            raise InputError(f"draws between 0 and {MAX_DRAW}, and 1 or more of them", got, "use e.g. 0 and 10")

    @property
    def label(self) -> str:
        """Name, threshold, and what differs from the defaults."""
        thresholds = {"tau": "tau {:g}", "quantile": "{:.0%}", "epsilon": "eps {:g}"}
        given = [
            text.format(getattr(self, name)) for name, text in thresholds.items() if getattr(self, name) is not None
        ]
        parts = [self.name, *(given or [f"{self.deviations:g} std"])]
        parts += [f"by {self.compare}"] if self.compare is not Compare.DEVIATION else []
        parts += ["own variance"] if self.variance is Variance.REPLACED else []
        parts += [f"draw {self.draw}"] if self.draw else []
        return " ".join(parts + ([f"best of {self.draws}"] if self.draws > 1 else []))

    @classmethod
    def strengths(cls) -> tuple[Codec, ...]:
        """From a tenth of the weights replaced to all of them; the third is Appendix E's."""
        fractions = tuple(cls(quantile=q, variance=Variance.REPLACED) for q in (0.1, 0.5))
        return (*fractions, cls(), cls(deviations=2.0), cls(quantile=1.0))

    def split(self, values: Values, name: str = "the layer") -> Split:
        """Which entries are replaced, and by what.

        Args:
            values: of the layer, any shape.
            name: of the layer, for errors.

        Raises:
            InputError: an ``epsilon`` below what the noise alone makes.
        """
        if not values.size:
            return Split(0.0, np.zeros(values.shape, dtype=bool), 0.0, 0.0)
        mean, std = float(values.mean()), float(values.std())
        scores = self._scores(values, mean)
        if self.quantile is not None:
            # equal scores are replaced together: the zeros of a pruned layer are one value, not an order
            count = round(self.quantile * values.size)
            tau = float(np.sort(scores, axis=None)[count - 1]) if count else -math.inf
            replaced = scores <= tau
        else:
            if self.epsilon is not None:
                tau = self._largest_tau(values, scores, std, name)
            else:
                tau = self.deviations * std if self.tau is None else self.tau
            replaced = scores <= tau
        if self.variance is Variance.REPLACED and replaced.any():
            mean, std = float(values[replaced].mean()), float(values[replaced].std())
        return Split(tau, replaced, mean, std)

    def _scores(self, values: Values, mean: float) -> Values:
        if self.compare is Compare.W:
            return values
        return np.abs(values if self.compare is Compare.MAGNITUDE else values - mean)

    def _largest_tau(self, values: Values, scores: Values, std: float, name: str) -> float:
        """The largest ``tau`` whose square and the noise's variance add up to what ``epsilon`` allows."""
        assert self.epsilon is not None
        allowed = self.reading.squares(self.epsilon, self.eta)
        if self.variance is Variance.LAYER:
            if allowed >= std * std:
                return math.sqrt(allowed - std * std)
            least = self.reading.epsilon(std * std, self.eta)
            raise InputError(f"epsilon of at least {least:.3g} for {name}", f"{self.epsilon:g}", "use a larger one")
        order = np.argsort(scores, axis=None, kind="stable")
        ranked, taus = values.ravel()[order], np.maximum(scores.ravel()[order], 0.0)
        count = np.arange(1, len(ranked) + 1)
        shifted = ranked - ranked.mean()
        variances = np.cumsum(shifted**2) / count - (np.cumsum(shifted) / count) ** 2
        fits = np.flatnonzero(taus**2 + np.maximum(variances, 0.0) <= allowed)
        # equal scores are replaced together
        fits = fits[(fits == len(taus) - 1) | (taus[np.minimum(fits + 1, len(taus) - 1)] > taus[fits])]
        return float(taus[fits[-1]]) if fits.size else -math.inf

    def code_layer(self, layer: Layer) -> TensorCode:
        """Moments and kept entries of one weight tensor.

        A kept entry that the quantiser rounds to 0 becomes one step of its sign, so it is within half a step where
        it is at least that large.
        """
        split = self.split(layer.values, layer.target.name)
        kept = np.zeros(layer.values.shape, dtype=np.int64)
        alive = layer.values[~split.replaced]
        coded = self.quantiser(alive)
        kept[~split.replaced] = np.where(coded.integers == 0, np.where(alive < 0, -1, 1), coded.integers)
        moments = _quantise_moments(split.mean, split.std)
        return layer.code("heavy tail", (self.draw,), moments, Coefficients(kept, coded.exponent))

    def compress(self, network: Network, sample: Sample | None, helper: Helper, run: Run) -> Compressed:
        """The message; of several draws, the one with the smallest bound on ``sample``.

        Raises:
            InputError: several draws without a sample, and as :meth:`LayerCodec.compress`.
        """
        if self.draws == 1:
            return super().compress(network, sample, helper, run)
        if sample is None:
            raise InputError("a sample to choose among draws", "none", "pass one, or draws=1")
        # where every bound is 1, fewer errors are still better
        singles = [replace(self, draw=self.draw + k, draws=1) for k in range(self.draws)]
        return Search(sample, helper, run, errors_first=True).try_each(singles, network, "trying draws")

    def theory(self, network: Network, sample: Sample | None = None) -> Theory:
        """Thm 2's parameter count, Prop. 1.1's error and Prop. 1.2's sparsity, on the weights themselves."""
        del sample
        chosen = self.selection
        chosen.check(layer.weight for layer in network.weight_layers)
        rows, sparsities, others = [], [], 0
        for layer in network.weight_layers:
            weight = network.parameters[layer.weight].detach().double().cpu().numpy()
            if not chosen.includes(layer.weight):
                others += weight.size
                continue
            sparsity = layer_sparsity(weight, (split := self.split(weight, layer.weight)).tau, self.eta)
            sparsities.append(sparsity)
            rows.append(_layer_theory(layer.weight, weight, split, sparsity, self))
        dense = all(layer.op == "linear" for layer in network.weight_layers if chosen.includes(layer.weight))
        return Theory(
            source="Shin 2021, Theorem 2, Propositions 1.1 and 1.2",
            statement=f"L_0(g) <= L_gamma(f) + O~(sqrt(sum_i k_i / m)), k_i kept entries; {_READINGS[self.reading]}",
            parameters=float(sum(row.parameters for row in rows) + others),
            error_means=f"of a layer: eps in |u^T(W - W(t))v| <= eps |u||v|, {self.reading} reading (heuristic)",
            probability=1 - self.eta,
            conditions=_conditions(sparsities, dense),
            layers=tuple(rows),
            notes=(
                "erratum 12: the proof of Prop. 1.1 drops cross terms, and its constant is printed two ways, neither "
                "of which is that of eq. (37); the detail 'proved error' is a bound that holds, for fixed u and v",
                "erratum 13: |w| is fitted; p and k are of the entries at or above w_m",
                *(("weight layers that are not compressed count in full",) if others else ()),
                "logarithms and the noise stability constants of Theorem 2 are dropped",
            ),
        )


_READINGS = {
    Reading.PROPOSITION: "tau^2 + t = eps^2 / log(3/eta)",
    Reading.APPENDIX: "tau^2 + t = 2 eps^2 / log(3/eta)",
    Reading.TAIL: "tau^2 + t = eps^2 / (2 log(3/eta))",
}


def _quantise_moments(mean: float, std: float) -> Coefficients:
    finest = max(abs(mean), std) / MAX_MAGNITUDE * 1.2
    step = max(std / MOMENT_STEPS, finest)
    numbers = np.array([mean, std])
    return at_exponent(numbers, finer_exponent(step)) if step else at_exponent(numbers, -12)


def _layer_theory(name: str, weight: Values, split: Split, sparsity: Sparsity, codec: HeavyTail) -> LayerTheory:
    difference = np.where(split.replaced, weight - split.mean, 0.0).reshape(len(weight), -1)
    squares = max(split.tau, 0.0) ** 2 + split.std**2
    errors = {f"{reading} error": reading.epsilon(squares, codec.eta) for reading in Reading}
    fit = sparsity.fit
    details = {
        "tau": split.tau,
        "mean": split.mean,
        "std": split.std,
        "kept": float(split.num_kept),
        "above tau": float(sparsity.num_above),
        "density exponent": math.nan if fit is None else fit.density_exponent,
        "w_m": math.nan if fit is None else fit.xmin,
        "tail entries": float(sparsity.num_tail),
        "p": sparsity.p,
        "k": sparsity.k,
        **errors,
        "proved error": replacement_error(difference, split.std if split.replaced.any() else 0.0, codec.eta),
    }
    known = {key: value for key, value in details.items() if math.isfinite(value)}
    return LayerTheory(name, weight.size, float(split.num_kept), errors[f"{codec.reading} error"], known)


def _conditions(sparsities: list[Sparsity], dense: bool) -> tuple[Condition, ...]:
    reasons = "; ".join(dict.fromkeys(s.reason for s in sparsities if s.reason)) or "in every layer"
    tested = [s.power_law_holds for s in sparsities]
    worse = sum(holds is False for holds in tested)
    within = [s.num_above < s.k for s in sparsities if not s.reason]
    return (
        Condition("fully connected layers", dense, "Theorem 2 speaks of matrices; kernels are read as matrices"),
        Condition("weights of one sign, w >= w_m > 0", False, "weights are signed; |w| is fitted"),
        Condition(
            "power law",
            False if worse else None,
            f"in {worse} of {len(tested)} layers there is no fit, or the lognormal or the exponential fits better",
        ),
        Condition("tau above w_m", not any(s.reason for s in sparsities), reasons),
        Condition(
            "fewer entries above tau than k",
            all(within) if within else None,
            f"Proposition 1.2 against the count, where it speaks: {len(within)} of {len(tested)} layers",
        ),
        Condition("sum of squares for square of the sum in Prop. 1.1", False, "erratum 12: the step is invalid"),
    )
