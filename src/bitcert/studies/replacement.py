"""Appendix E of Shin 2021: the small entries of a network's last dense layer become noise, draw after draw.

All but that layer is known to the decoder, so its features are computed once and the layer is a network of its own.
Every draw is a message that is written, decoded and counted. An accuracy protocol, no certificate.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import nn

from bitcert.codecs.base import Rest, Selection
from bitcert.codecs.heavy_tail import Compare, HeavyTail, Variance
from bitcert.codecs.quantiser import FINE
from bitcert.counting import count_errors
from bitcert.data import Role, Sample, to_sample
from bitcert.decoder import Helper, Preprocessing
from bitcert.network import Network, capture

DRAWS = 10
RULES = {
    "w, as App. E prints": HeavyTail(compare=Compare.W),
    "|w - mean|": HeavyTail(),
    "|w - mean|, noise of the replaced entries": HeavyTail(variance=Variance.REPLACED),
}


@dataclass(frozen=True, eq=False)
class Head:
    """The last dense layer as a network of its own, on the features that enter it.

    Attributes:
        network: one dense layer.
        sample: features ``[n, width]`` and labels.
        helper: what a decoder knows: the shape of the layer.
    """

    network: Network
    sample: Sample
    helper: Helper

    @property
    def weight(self) -> torch.Tensor:
        """``[classes, width]``."""
        return self.network.parameters[self.network.weight_layers[-1].weight]


def head_of(module: nn.Module, preprocessing: Preprocessing, sample: Sample) -> Head:
    """Compute the features of a network's last layer once."""
    network = capture(module, preprocessing(sample.inputs[:2]))
    last, parts = network.weight_layers[-1], []
    with torch.no_grad():
        for inputs, _ in sample.batches(250):
            parts.append(network.architecture.activations(preprocessing(inputs), network.parameters)[last.source])
    features = torch.cat(parts)
    layer = nn.Linear(features.shape[1], sample.num_classes, bias=last.bias is not None)
    with torch.no_grad():
        layer.weight.copy_(network.parameters[last.weight])
        if last.bias is not None:
            layer.bias.copy_(network.parameters[last.bias])
    own = to_sample(
        (features.numpy(), sample.labels), Role.TRAIN, num_classes=sample.num_classes, name=f"features of {sample.name}"
    )
    alone = capture(layer.eval(), features[:2])
    return Head(alone, own, Helper.for_sample(own, alone.architecture, Preprocessing()))


@dataclass(frozen=True)
class Replacement:
    """Accuracies in percent before, and after each draw by rule; what the codec's theory fits."""

    before: float
    after: Mapping[str, tuple[float, ...]]
    kept: Mapping[str, int]
    exponent: float | None


def replaced(head: Head, draws: int) -> Replacement:
    """Appendix E: the layer's small entries become noise; every draw is a message that is decoded and counted."""
    codec = HeavyTail(selection=Selection(rest=Rest.EXACT), quantiser=FINE)
    exact = count_errors(lambda x: head.network(torch.tensor(x)), head.sample)
    after, kept, exponent = {}, {}, None
    for words, rule in RULES.items():
        own = replace(codec, compare=rule.compare, variance=rule.variance)
        rates = []
        for draw in range(draws):
            message = replace(own, draw=draw).encode(head.network, helper=head.helper).message
            rates.append(100 * (1 - count_errors(own.decode(message, head.helper).classifier, head.sample).rate))
        after[words] = tuple(rates)
        (theory,) = own.theory(head.network).layers
        kept[words], exponent = int(theory.parameters), theory.details.get("density exponent")
    return Replacement(100 * (1 - exact.rate), after, kept, exponent)
