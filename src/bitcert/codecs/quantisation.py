"""The shared state of a search over quantisations of one network: data, helper, run, and the best message so far.

Candidates are ranked on a subsample by :meth:`Problem.estimate` and booked on the whole sample, through the written and
decoded message, by :meth:`Problem.keep`. Nothing here is a guarantee; the certificate counts again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from bitcert.codecs.best import Search
from bitcert.coding import MAX_MAGNITUDE, step_size
from bitcert.coding.layouts import UnitsInUse, tensor_code_bits
from bitcert.counting import DecisionRule, count_errors
from bitcert.data import Sample
from bitcert.decoder import Helper
from bitcert.decoder.network import Integers, QuantisedNetwork, base_value, cheapest_exponents, dequantise, write
from bitcert.network import ParameterSpec, Predictor
from bitcert.proof import occam_bound
from bitcert.random import stream
from bitcert.run import Compressed, Run

SUBSAMPLE = 2000


@dataclass(frozen=True)
class Setting:
    """How one tensor is rounded: step exponent, and the fraction of a step below which it becomes zero."""

    exponent: int
    dead_zone: float = 0.5


@dataclass(frozen=True, eq=False)
class Quantisation:
    """Integers and step exponents of every tensor, by name."""

    integers: Mapping[str, Integers]
    exponents: Mapping[str, int]


class Problem(Search):
    """What a search over quantisations of one network shares: data, helper, run, best message so far."""

    def __init__(self, values: Mapping[str, torch.Tensor], sample: Sample, helper: Helper, run: Run) -> None:
        super().__init__(sample, helper, run)
        self.values = {name: tensor.detach().double().cpu().numpy() for name, tensor in values.items()}
        size = min(len(sample), SUBSAMPLE)
        chosen = np.sort(stream(run.seed, "quantise/subsample").permutation(len(sample))[:size])
        self.subsample = (
            sample
            if size == len(sample)
            else Sample(sample.inputs_at(chosen), sample.labels[chosen], sample.num_classes, sample.role, sample.name)
        )

    @property
    def searched(self) -> tuple[ParameterSpec, ...]:
        """Tensors whose steps are chosen; the others are exact integers."""
        return tuple(spec for spec in self.predictor.parameters if not self.is_exact(spec))

    def is_exact(self, spec: ParameterSpec) -> bool:
        """Whether a tensor is a buffer of integers (such as token positions), coded without loss."""
        values = self.values[spec.name]
        whole = bool(np.all(values == np.rint(values))) and np.abs(values).max(initial=0) <= MAX_MAGNITUDE
        return spec.kind == "buffer" and whole

    def quantise(self, settings: Mapping[str, Setting]) -> Quantisation:
        """Round every tensor as its setting says."""
        integers = {}
        for spec in self.predictor.parameters:
            values = self.values[spec.name] - base_value(spec.kind)
            setting = settings[spec.name]
            scaled = values / step_size(setting.exponent)
            rounded = np.clip(np.rint(scaled), -MAX_MAGNITUDE, MAX_MAGNITUDE).astype(np.int64)
            integers[spec.name] = np.where(np.abs(scaled) < setting.dead_zone, 0, rounded)
        exponents = {name: setting.exponent for name, setting in settings.items()}
        return Quantisation(integers, cheapest_exponents(self.predictor, integers, exponents))

    def estimate(self, quantisation: Quantisation) -> float:
        """Smoothed guess of the bound from the subsample and the ideal code length (for ranking only)."""
        bits = code_bits(self.predictor, quantisation)
        weights = dequantise(self.predictor, quantisation.integers, quantisation.exponents)
        classifier = QuantisedNetwork(self.helper, self.predictor, weights)
        rate = count_errors(classifier, self.subsample, DecisionRule(self.helper.batch_size)).rate
        return bound_estimate(rate, bits, len(self.sample), self.run.delta)

    def keep(self, name: str, quantisation: Quantisation) -> None:
        """Write the message and book it."""
        content = write(self.predictor, quantisation.integers, quantisation.exponents)
        self.book(name, Compressed(*content, self.helper))


def code_bits(predictor: Predictor, quantisation: Quantisation) -> float:
    """Ideal length of the tensors' sections in bits, without the exponents."""
    units, bits = UnitsInUse(), 0.0
    for spec in predictor.parameters:
        values = quantisation.integers[spec.name]
        bits += tensor_code_bits(values, units)[0]
        units.update(values)
    return bits


def bound_estimate(rate: float, bits: float, num_samples: int, delta: float) -> float:
    """The bound these would give; where it is vacuous, 1 plus how far from saying something."""
    bound = occam_bound(round(rate * num_samples), num_samples, math.ceil(bits), delta).binomial
    return bound if bound < 0.999 else 1.0 + rate + bits / num_samples
