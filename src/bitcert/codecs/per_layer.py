"""Composition: a codec of its own for each layer, in one message.

Transform, quantiser and entropy coder of a tensor are independent of every other tensor's, so a message may hold a
truncated first layer, a pruned second one and an exact last one. A layer no rule names is left as the selection's
``rest`` says. Base and seed are the selection's, not those of the parts. Source: docs/theory.md 3.2. Not guaranteed:
that layers which are good alone are good together; errors of layers add up (Arora et al. 2018, proof of Theorem 4.1).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

from bitcert.codecs.base import Layer, LayerCodec, Selection, code_rest
from bitcert.codecs.quantise import Quantise
from bitcert.data import Sample
from bitcert.decoder import Helper
from bitcert.decoder.tensors import TensorCode
from bitcert.errors import InputError
from bitcert.network import Network
from bitcert.theory.value import LayerTheory, Theory

EVERY = "*"


@dataclass(frozen=True)
class Rule:
    """Which codec a layer gets.

    Args:
        layer: name of a weight, or ``*`` for all that no other rule names.
        codec: one that works layer by layer.
    """

    layer: str
    codec: LayerCodec

    def __post_init__(self) -> None:
        # A codec with its own ``compress`` or ``resolved`` needs more than one layer at a time.
        kind = type(self.codec)
        alone = isinstance(self.codec, LayerCodec) and kind.compress is LayerCodec.compress
        if not alone or kind.resolved is not LayerCodec.resolved:
            got = getattr(self.codec, "name", type(self.codec).__name__)
            raise InputError("a codec that works layer by layer", repr(got), "use it for the whole network")
        if self.codec.selection != type(self.codec)().selection:
            got = f"some of its own for {self.layer}"
            raise InputError("layers, rest, base and seed of per-layer only", got, "give them to per-layer itself")


@dataclass(frozen=True, kw_only=True)
class PerLayer(LayerCodec):
    """Each layer by the codec that a rule gives it.

    >>> from bitcert.codecs.quantise import Exact
    >>> PerLayer(rules=(Rule("*", Quantise()), Rule("head.weight", Exact()))).label
    'per-layer (*: quantise 0.25; head.weight: exact)'

    Args:
        rules: at most one for each layer; the last word is with the rule that names a layer.
    """

    name: ClassVar[str] = "per-layer"

    rules: tuple[Rule, ...] = (Rule(EVERY, Quantise()),)

    def __post_init__(self) -> None:
        names = [rule.layer for rule in self.rules]
        if not names or len(set(names)) != len(names):
            raise InputError("one rule for each layer", ", ".join(names) or "none", "check the rules")

    @property
    def label(self) -> str:
        """The rules in short."""
        return f"{self.name} ({'; '.join(f'{rule.layer}: {rule.codec.label}' for rule in self.rules)})"

    def _codec(self, layer: str) -> LayerCodec | None:
        codecs = {rule.layer: rule.codec for rule in self.rules}
        return codecs.get(layer, codecs.get(EVERY))

    def check(self, network: Network) -> None:
        """Refuse rules for layers that the network does not have.

        Raises:
            InputError: naming the layers there are.
        """
        named = Selection(tuple(rule.layer for rule in self.rules if rule.layer != EVERY))
        named.check(layer.weight for layer in network.weight_layers)

    def resolved(self, network: Network, sample: Sample | None, helper: Helper) -> Self:
        """Itself, if every rule's layer is one of the network's."""
        self.check(network)
        return self

    def code_layer(self, layer: Layer) -> TensorCode:
        """The code of the layer's rule; the rest's code where there is none."""
        codec = self._codec(layer.target.name)
        return code_rest(layer, self.selection.rest) if codec is None else codec.code_layer(layer)

    def theory(self, network: Network, sample: Sample | None = None) -> Theory:
        """The parts' predictions for their layers, side by side."""
        self.check(network)
        layers: list[LayerTheory] = []
        sources: list[str] = []
        for layer in network.weight_layers:
            codec = self._codec(layer.weight)
            if codec is None:
                continue
            part = codec.theory(network, sample)
            layers += [row for row in part.layers if row.layer == layer.weight]
            sources.append(f"{layer.weight}: {part.source}")
        return Theory(
            source="; ".join(sources) or "none",
            statement="each layer as its own codec's paper says",
            parameters=sum(row.parameters for row in layers),
            error_means="of each layer, in the units of its own codec; the papers compose no two of these codecs",
            layers=tuple(layers),
        )
