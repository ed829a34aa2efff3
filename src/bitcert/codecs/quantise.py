"""Quantisation with entropy coding alone: uniform, searched and fine-tuned on the bound, or not at all.

``Quantise`` rounds every weight to a multiple of one step per tensor and lets the entropy coder find what that leaves;
``TunedQuantise`` is the search of :mod:`bitcert.codecs.tuned` (message family 3) as a codec; ``Exact`` writes
float32 bit patterns, the length that all others are compared with. Source: docs/theory.md 3.2, last item; none of the
papers analyses it, and ``theory`` gives the error of rounding that uniform noise would make (Bennett 1948). Not
guaranteed: what the rounded network computes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np

from bitcert.codecs.base import Codec, Layer, LayerCodec, Rest, Selection
from bitcert.codecs.best import Search
from bitcert.codecs.quantiser import Uniform
from bitcert.codecs.training import TrainedCodec
from bitcert.codecs.tuned import compress_values
from bitcert.data import Sample
from bitcert.decoder.tensors import TensorCode, exact_code
from bitcert.network import Network
from bitcert.run import Compressed
from bitcert.theory.value import Condition, LayerTheory, Theory

FLOAT_BITS = 32
HIGH_RESOLUTION = 1.0
"""Steps up to this fraction of the root mean square: the rounding error is then nearly uniform."""


@dataclass(frozen=True, kw_only=True)
class Quantise(LayerCodec):
    """Weights as multiples of a step that is a fraction of their root mean square.

    >>> Quantise(quantiser=Uniform(0.5)).label
    'quantise 0.5'
    """

    name: ClassVar[str] = "quantise"

    @property
    def label(self) -> str:
        """Name, fraction and, where it prunes, dead zone."""
        if not isinstance(self.quantiser, Uniform):
            return self.name
        zone = f" zone {self.quantiser.dead_zone:g}" if self.quantiser.dead_zone != 0.5 else ""
        return f"{self.name} {self.quantiser.fraction:g}{zone}"

    def code_layer(self, layer: Layer) -> TensorCode:
        """The rounded weights themselves."""
        return layer.code("identity", (), self.quantiser(layer.values))

    def theory(self, network: Network, sample: Sample | None = None) -> Theory:
        """Expected relative error ``||A^ - A||_F / ||A||_F`` of each layer if rounding were uniform noise."""
        del sample
        layers, fine = [], True
        for layer in network.weight_layers:
            weight = network.parameters[layer.weight].detach().double().cpu().numpy()
            alive = int(np.count_nonzero(weight))
            norm = float(np.linalg.norm(weight))
            coded = self.quantiser(weight)
            rms = norm / math.sqrt(alive) if alive else 0.0
            fine = fine and (not alive or coded.step <= HIGH_RESOLUTION * rms)
            error = coded.step * math.sqrt(alive / 12) / norm if norm else 0.0
            details = {"step": coded.step, "nonzero": float(alive), "worst": error * math.sqrt(3)}
            layers.append(LayerTheory(layer.weight, weight.size, float(alive), error, details))
        return Theory(
            source="Bennett 1948; not in the papers (docs/theory.md 3.2)",
            statement="rounding to multiples of s adds noise of variance s^2/12 to every weight that is not 0",
            parameters=sum(layer.parameters for layer in layers),
            error_means="none for the network; of a layer: expected relative Frobenius error, sqrt(n/12) s / ||A||_F",
            conditions=(
                Condition(
                    "steps below the root mean square of the weights", fine, "then the error is nearly uniform noise"
                ),
            ),
            layers=tuple(layers),
            notes=("rounding loses no parameter; what it saves are bits a parameter",),
        )

    @classmethod
    def strengths(cls) -> tuple[Codec, ...]:
        """Steps from 1/8 of the root mean square to 4 of them."""
        return tuple(cls(quantiser=Uniform(fraction)) for fraction in (0.125, 0.5, 1.0, 2.0, 4.0))


@dataclass(frozen=True, kw_only=True)
class Exact(LayerCodec):
    """Float32 bit patterns: nothing is lost, and every other message should be shorter."""

    name: ClassVar[str] = "exact"

    selection: Selection = field(default_factory=lambda: Selection(rest=Rest.EXACT))

    def code_layer(self, layer: Layer) -> TensorCode:
        """32 bits a weight."""
        return exact_code(layer.trained)

    def theory(self, network: Network, sample: Sample | None = None) -> Theory:
        """Every parameter, without error."""
        del sample
        sizes = {spec.name: spec.num_entries for spec in network.architecture.parameters}
        return Theory(
            source="docs/theory.md 3.3, naive",
            statement=f"{FLOAT_BITS} bits for each parameter",
            parameters=float(sum(sizes.values())),
            error=0.0,
            error_means="largest deviation of any output",
            probability=1.0,
            layers=tuple(LayerTheory(x.weight, sizes[x.weight], sizes[x.weight], 0.0) for x in network.weight_layers),
        )

    @classmethod
    def strengths(cls) -> tuple[Codec, ...]:
        """There is one only."""
        return (cls(),)


@dataclass(frozen=True, kw_only=True)
class TunedQuantise(TrainedCodec):
    """The smallest bound that searching steps, and training integers under a rate term, finds in the time given.

    Args:
        fine_tune: train the integers; without it only steps and dead zones are searched.
    """

    name: ClassVar[str] = "tuned"
    without_sample = ("a sample to search quantisation steps on", "pass the training sample")

    fine_tune: bool = True

    @property
    def label(self) -> str:
        """Whether it trains."""
        return self.name if self.fine_tune else f"{self.name} steps only"

    def train(self, network: Network, search: Search) -> Compressed:
        """The best message of family 3, which does not use weights of a helper."""
        helper = replace(search.helper, weights=None)
        return compress_values(network.parameters, search.sample, helper, search.run, fine_tune=self.fine_tune)

    def theory(self, network: Network, sample: Sample | None = None) -> Theory:
        """None: what training finds, no formula predicts."""
        del network, sample
        return Theory(
            source="not in the papers (docs/theory.md 3.2)",
            statement="steps and integers are searched on the bound itself",
            parameters=None,
            error_means="no prediction",
            notes=("straight-through rounding (Bengio et al. 2013) under a rate term",),
        )

    @classmethod
    def strengths(cls) -> tuple[Codec, ...]:
        """With and without fine-tuning."""
        return (cls(fine_tune=False), cls())
