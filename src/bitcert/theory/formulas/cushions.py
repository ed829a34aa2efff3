"""The error budget of Matrix-Project from a network's noise stability (Arora 2018, Lemma 3).

Layer ``i`` is projected to accuracy ``eps_i = eps mu_i mu_(i->) / (6 c d)``. Then ``||f_A(x) - f_A~(x)|| <= eps
||f_A(x)||`` for all ``x`` of the sample, with probability ``1 - delta/2`` over the projections, if ``rho_delta >= 3
d``.
Lemma 3 counts ``72 c^2 d^2 log(mdh/delta) / eps^2 * sum_i 1 / (mu_i^2 mu_(i->)^2)`` numbers; that is
``sum_i log(1/eta) / eps_i^2`` with ``log(1/eta) = 2 log(mdh/delta)``, the ``eta`` used here. The constant 1 inside is
too small (:mod:`bitcert.theory.formulas.projection_tail`): the counts that hold are 6 to 9 times larger.

A measure, not a guarantee: the cushions are minima over the examples that were measured, the paper's proof is for fully
connected ReLU networks without biases, and where ``rho`` was not measured the condition is unknown.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from bitcert.errors import InputError
from bitcert.stability.profile import LayerRow, StabilityProfile
from bitcert.theory.formulas.projection_tail import num_projections
from bitcert.theory.value import Condition

_ROUNDED = 1.001


@dataclass(frozen=True)
class Cushions:
    """What Lemma 3 needs of a network and a sample.

    Args:
        layer: ``mu_i`` of every weight layer, above 0; at most 1 for a dense layer, but not for a convolution, whose
            filter acts at several places (:meth:`check_layer`).
        interlayer: ``mu_(i->)`` of every weight layer, in (0, 1]: the minimal ones, which are at most ``1/sqrt(h)``.
        contraction: ``c``, largest over layers and examples, of what lies between two layers (pooling included).
        smoothness: ``1/rho_delta``, or ``None`` if it was not measured.
        width: ``h``, largest number of units of a layer.
        num_samples: ``m``, examples that the cushions hold for.
        delta: failure probability.
        epsilon: relative error of the output, in (0, 1].
    """

    option_help: ClassVar[str] = "a profile.json that bitcert measure wrote"

    layer: tuple[float, ...]
    interlayer: tuple[float, ...]
    contraction: float
    smoothness: float | None
    width: int
    num_samples: int
    delta: float = 0.05
    epsilon: float = 0.5

    def __post_init__(self) -> None:
        if not self.layer or len(self.layer) != len(self.interlayer):
            got = f"{len(self.layer)} and {len(self.interlayer)}"
            raise InputError("a layer and an interlayer cushion for every layer", got, "measure the network again")
        for k, (own, beyond) in enumerate(zip(self.layer, self.interlayer, strict=True), start=1):
            _check(f"a layer cushion of layer {k}", own, math.inf)
            _check(f"a minimal interlayer cushion of layer {k}", beyond, 1.0)
        if not 0 < self.contraction < math.inf or self.width < 1 or self.num_samples < 1:
            got = f"contraction {self.contraction}, width {self.width}, {self.num_samples} examples"
            raise InputError("a positive contraction, width and number of examples", got, "measure the network again")
        if not 0 < self.delta < 1 or not 0 < self.epsilon <= 1:
            got = f"delta {self.delta}, epsilon {self.epsilon}"
            raise InputError("delta between 0 and 1 and epsilon in (0, 1]", got, "change them")

    @classmethod
    def from_profile(
        cls, profile: StabilityProfile, *, epsilon: float = 0.5, delta: float = 0.05, zeta: bool = False
    ) -> Cushions:
        """The cushions that :func:`bitcert.stability.measure` found.

        Args:
            profile: of the network that will be compressed.
            epsilon: relative error of the output.
            delta: failure probability.
            zeta: take the values that hold after the profile's fraction of outliers (the bound then adds zeta).

        Raises:
            InputError: a cushion that is 0, larger than any of such a layer can be, or was not measured.
        """

        def value(row: LayerRow, name: str) -> float:
            reduced = getattr(row, name)
            found = reduced.zeta if zeta else reduced.worst
            if found is None:
                do = "measure it, or leave out examples (zeta)"
                raise InputError(f"a measured {name.replace('_', ' ')} of layer {row.index}", "none", do)
            return float(found)

        rows, smoothness = profile.layers, profile.smoothness
        found = cls(
            layer=tuple(value(row, "layer_cushion") for row in rows),
            interlayer=tuple(value(row, "minimal_cushion") for row in rows),
            contraction=max((value(row, "contraction") for row in rows), default=0.0),
            smoothness=None if smoothness is None else (smoothness.zeta_value if zeta else smoothness.value),
            width=max((row.channels * row.positions for row in rows), default=0),
            num_samples=int(profile.sample["measured"]),
            delta=delta,
            epsilon=epsilon,
        )
        for row in rows:
            found.check_layer(row.index, row.shape)
        return found

    @classmethod
    def parse_option(cls, text: str) -> Cushions:
        """The cushions of a ``profile.json``.

        Raises:
            InputError: no such file, or a cushion that is 0 or was not measured.
            DecodeError: the file is no profile.
        """
        try:
            content = Path(text).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError, ValueError):
            raise InputError(cls.option_help, repr(text[:200]), "run bitcert measure first") from None
        return cls.from_profile(StabilityProfile.from_json(content))

    @property
    def depth(self) -> int:
        """``d``."""
        return len(self.layer)

    @property
    def log_inverse_eta(self) -> float:
        """``ln(1/eta) = 2 ln(m d h / delta)``: the failure probability of one bilinear form."""
        return 2 * math.log(self.num_samples * self.depth * self.width / self.delta)

    def check_layer(self, index: int, shape: tuple[int, ...]) -> None:
        """Refuse a cushion that no layer with a weight of this shape can have.

        An input place lies in at most as many windows as the filter has taps ``n``, so that ``||A phi|| <= sqrt(n)
        ||A||_F ||phi||``; a dense layer has one.

        Args:
            index: of the layer, from 1.
            shape: of its weight, ``[out, in, *kernel]``.

        Raises:
            InputError: the cushion is larger, or there is no such layer.
        """
        self._check_index(index)
        kind = "convolution" if shape[2:] else "dense"
        _check(f"a layer cushion of {kind} layer {index}", self.layer[index - 1], math.sqrt(math.prod(shape[2:])))

    def _check_index(self, index: int) -> None:
        if not 1 <= index <= self.depth:
            do = "measure every weight layer of this network"
            raise InputError(f"cushions of {self.depth} layers", f"a network with layer {index}", do)

    def layer_epsilon(self, index: int) -> float:
        """``eps_i = eps mu_i mu_(i->) / (6 c d)`` of layer ``index`` (from 1), at most 1.

        Raises:
            InputError: no such layer.
        """
        self._check_index(index)
        found = self.epsilon * self.layer[index - 1] * self.interlayer[index - 1] / (6 * self.contraction * self.depth)
        return min(found, 1.0)

    def num_projections(self, index: int) -> int:
        """``k_i`` with the constant that holds."""
        return num_projections(self.layer_epsilon(index), self.log_inverse_eta)

    @property
    def printed_total(self) -> float:
        """Lemma 3's total count: ``72 c^2 d^2 log(mdh/delta) / eps^2 * sum_i 1 / (mu_i^2 mu_(i->)^2)``.

        >>> Cushions((0.5,), (0.5,), 1.0, None, 10, 10, delta=0.1, epsilon=1.0).printed_total / math.log(1000)
        1152.0
        """
        inverse = sum(1 / (own * beyond) ** 2 for own, beyond in zip(self.layer, self.interlayer, strict=True))
        factor = (self.contraction * self.depth / self.epsilon) ** 2
        return 72 * factor * math.log(self.num_samples * self.depth * self.width / self.delta) * inverse

    @property
    def smooth(self) -> Condition:
        """``rho_delta >= 3 d``, on the examples measured."""
        needed = 1 / (3 * self.depth)
        if self.smoothness is None:
            return Condition("rho_delta >= 3 d", None, "the interlayer smoothness was not measured")
        detail = f"1/rho_delta = {self.smoothness:.3g}, needed at most 1/(3 d) = {needed:.3g}"
        return Condition("rho_delta >= 3 d", self.smoothness <= needed, detail)


def _check(what: str, value: float, most: float) -> None:
    """Refuse a cushion that no layer can have.

    Raises:
        InputError: saying what is wrong with it.
    """
    if value == 0:
        do = "leave out the examples for which it is 0: Cushions.from_profile(profile, zeta=True)"
        raise InputError(f"{what} above 0", "0", do)
    # a ratio of norms that is 1 may be rounded to a little more
    if not 0 < value <= _ROUNDED * most or math.isinf(value):
        limits = "above 0" if math.isinf(most) else f"in (0, {most:.3g}]"
        raise InputError(f"{what} {limits}", f"{value:.3g}", "measure the network again")
