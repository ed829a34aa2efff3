"""What the two codecs of linear separators share: which networks they are for, margins, and the choice of ``gamma``.

A separator is a network of one linear layer ``[2, n]``, with a bias or without. With rows ``w_0, w_1`` its class is
decided by ``c . x + (b_1 - b_0)/2``, ``c = (w_1 - w_0)/2``; the mean of the rows changes both logits alike and is not
coded. The papers assume ``||c|| = 1``, ``||x|| <= 1`` and no bias. Here the normalised margin of an example is

    y (c . x + (b_1 - b_0)/2) / (||c|| ||x||),  y = -1 for class 0 and +1 for class 1,

so that ``|c_hat . x - c . x| < gamma ||c|| ||x||`` keeps every decision whose margin is at least ``gamma``; the bias
is coded like any other tensor that a codec leaves alone. Sources: Arora et al. 2018, section 2.1; Zhang 2020, section
3. Not promised: that the training margins are those of new examples; ``gamma`` only sets the encoder's precision.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray

from bitcert.codecs.base import Layer, LayerCodec
from bitcert.codecs.quantiser import at_exponent, finer_exponent
from bitcert.coding import MAX_MAGNITUDE, step_size
from bitcert.data import Sample
from bitcert.decoder import Helper
from bitcert.decoder.network import network_inputs
from bitcert.decoder.tensors import TensorCode
from bitcert.decoder.transforms.base import Coefficients, Values
from bitcert.errors import InputError
from bitcert.network import Network
from bitcert.theory.value import Condition

UNIT_INPUTS = Condition("unit inputs, no bias", None, "margins are divided by ||c|| ||x||; a bias is coded as it is")
_BATCH = 1000


@dataclass(frozen=True, kw_only=True)
class SeparatorCodec(LayerCodec):
    """Base of Vector-compress and Vector-project.

    Args:
        gamma: normalised margin in (0, 1], or ``None`` for the one at ``quantile``.
        quantile: of the normalised training margins; 0.1 lets a tenth of the examples fall below ``gamma``.
        printed_rounding: round as the papers prescribe, which is finer than the noise of the method needs; else with
            the ``quantiser``.

    Raises:
        InputError: values out of range.
    """

    gamma: float | None = None
    quantile: float = 0.1
    printed_rounding: bool = True

    def __post_init__(self) -> None:
        if self.gamma is not None and not 0 < self.gamma <= 1:
            raise InputError("a normalised margin gamma above 0 and at most 1", repr(self.gamma), "use e.g. 0.05")
        if not 0 <= self.quantile <= 1:
            raise InputError("a quantile between 0 and 1", repr(self.quantile), "use e.g. 0.1")

    @property
    def margin_label(self) -> str:
        """How ``gamma`` was chosen, for labels."""
        return f"quantile {self.quantile:g}" if self.gamma is None else f"gamma {self.gamma:.3g}"

    def rounded(self, values: Values, step: float) -> Coefficients:
        """Multiples of the largest coded step that is at most ``step``, or what the quantiser makes.

        Raises:
            InputError: more than ``MAX_MAGNITUDE`` steps: ``gamma`` is too small.
        """
        if not self.printed_rounding:
            return self.quantiser(values)
        exponent = finer_exponent(step)
        largest = float(np.abs(values).max(initial=0.0)) / step_size(exponent)
        if largest > MAX_MAGNITUDE:
            expected = f"coefficients of at most {MAX_MAGNITUDE} rounding steps"
            raise InputError(expected, f"{largest:.3g}", "use a larger gamma or quantile")
        return at_exponent(values, exponent)

    def code_vector(self, layer: Layer, vector: Values, gamma: float) -> TensorCode:
        """The code of ``vector [n]`` for an error of ``gamma > 0`` on unit inputs."""
        raise NotImplementedError

    def code_layer(self, layer: Layer) -> TensorCode:
        """The code of a weight ``[2, n]``; an all-zero one is coded as nothing.

        Raises:
            InputError: another shape, or no ``gamma``.
        """
        if len(layer.target.shape) != 2 or layer.target.shape[0] != 2:
            raise _unsuitable(f"{layer.target.name} of shape {list(layer.target.shape)}")
        if self.gamma is None:
            raise InputError("a margin gamma, or a training sample to take it from", "neither", "pass one")
        vector, norm = half_difference(layer.values), float(np.linalg.norm(half_difference(_double(layer.trained))))
        if not vector.any():
            return layer.code("none")
        # Of a difference from a base, the error may be as large as the trained separator's own margin allows.
        return self.code_vector(layer, vector, self.gamma * (norm or float(np.linalg.norm(vector))))

    def resolved(self, network: Network, sample: Sample | None, helper: Helper) -> Self:
        """With ``gamma``, which comes from the sample unless it was given.

        Raises:
            InputError: the network is not one linear layer with two outputs, or its margin at the quantile is not
                positive, or neither ``gamma`` nor a sample is there.
        """
        if not separator_vector(network).any():
            return replace(self, gamma=self.gamma or 1.0)  # nothing is coded, whatever the margin
        if self.gamma is not None:
            return self
        if sample is None:
            raise InputError("a margin gamma, or a training sample to take it from", "neither", "pass one")
        return replace(self, gamma=margin_at(normalised_margins(network, sample, helper), self.quantile))


def half_difference(weight: Values) -> Values:
    """``(w_1 - w_0) / 2`` of ``[2, n]``."""
    vector: Values = (weight[1] - weight[0]) / 2
    return vector


def separator_vector(network: Network) -> Values:
    """``c [n]`` of a network that is a linear separator.

    Raises:
        InputError: it is another network; one sentence.
    """
    architecture = network.architecture
    layers = architecture.weight_layers
    others = [node.op for node in architecture.nodes if node.op != "reshape"]
    if len(layers) != 1 or others != ["linear"]:
        raise _unsuitable("a network of " + (", ".join(others[:6]) or "no layers") + (", ..." if others[6:] else ""))
    weight = _double(network.parameters[layers[0].weight])
    if weight.shape[0] != 2:
        raise _unsuitable(f"a linear layer with {weight.shape[0]} outputs")
    return half_difference(weight)


def normalised_margins(network: Network, sample: Sample, helper: Helper) -> NDArray[np.float64]:
    """Normalised margins of a labelled sample, ``[m]`` float64; 0 for ``0/0``.

    Raises:
        InputError: not a separator, or no labels.
    """
    norm = float(np.linalg.norm(separator_vector(network)))
    if not sample.has_labels:
        raise InputError(f"labels of {sample.name!r}", "none", "pass a training sample, or gamma")
    margins = []
    for inputs, labels in sample.batches(_BATCH):
        x = network_inputs(network.architecture, helper.preprocessing, inputs)
        logits = network(x).double().numpy()
        sizes = norm * x.double().flatten(1).norm(dim=1).numpy()
        signed = np.where(labels == 1, 1.0, -1.0) * (logits[:, 1] - logits[:, 0]) / 2
        with np.errstate(divide="ignore", invalid="ignore"):
            margins.append(np.nan_to_num(signed / sizes, nan=0.0))
    return np.concatenate(margins)


def margin_at(margins: NDArray[np.float64], quantile: float) -> float:
    """The margin that a fraction ``1 - quantile`` of the examples reaches, at most 1.

    Raises:
        InputError: it is not positive: more than that fraction is misclassified.

    >>> margin_at(np.array([0.1, 0.2, 0.3, 0.4]), 0.25)
    0.2
    """
    value = float(np.sort(margins)[min(math.floor(quantile * len(margins)), len(margins) - 1)])
    if not value > 0:
        wrong = float(np.mean(margins <= 0))
        got = f"{value:.3g}; {100 * wrong:.1f} % of the examples have a margin of 0 or less"
        raise InputError(f"a positive margin at quantile {quantile:g}", got, "use a larger quantile, or give gamma")
    return min(value, 1.0)


def _double(weight: torch.Tensor) -> Values:
    values: Values = weight.detach().double().cpu().numpy()
    return values


def _unsuitable(got: str) -> InputError:
    return InputError("a linear separator: one linear layer with two outputs", got, "use another codec, e.g. quantise")
