"""The shape all codecs share: ``encode`` a network into a message, ``decode`` it, and the paper's ``theory``.

A codec is a frozen dataclass whose fields are its options. Most work layer by layer: they turn one trained tensor into
a :class:`~bitcert.decoder.tensors.TensorCode` (transform, settings, quantised coefficients) and inherit the rest. What
``encode`` returns is a message with its ledger; whether the decoded network is any good is counted by ``certify``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import ClassVar, Self

import numpy as np
import torch
from torch import nn

from bitcert.codecs.quantiser import FINE, Quantiser, Uniform, at_exponent
from bitcert.data import Sample
from bitcert.decoder import Decoded, Helper, as_network, decode_message
from bitcert.decoder.tensors import Base, ComposedMessage, TensorCode, base_values, exact_code, targets, write
from bitcert.decoder.transforms.base import Coefficients, Draws, Target, Values
from bitcert.errors import InputError, unknown_name
from bitcert.network import Network
from bitcert.run import Compressed, Run
from bitcert.theory.value import Theory

MAX_SEED = 1 << 60


@dataclass(frozen=True, eq=False)
class Layer:
    """One trained tensor, as a codec sees it.

    Attributes:
        target: name, shape, kind, positions of the output map.
        trained: the trained values, float32.
        values: the trained values minus ``base``, float64: what the transform must reproduce.
        base: which base the message names.
        draws: the random numbers that the decoder will have.
        index: number of the weight layer, 1 .. d, or 0 for biases, gains and buffers.
    """

    target: Target
    trained: torch.Tensor
    values: Values
    base: Base
    draws: Draws
    index: int

    def code(self, transform: str, settings: tuple[int, ...] = (), *coefficients: Coefficients) -> TensorCode:
        """A code of this tensor on its base."""
        return TensorCode(transform, settings, coefficients, self.base)


class Rest(StrEnum):
    """What becomes of the tensors a codec does not compress."""

    QUANTISED = "quantised"
    """Fine quantisation, about 7 bits a number."""
    EXACT = "exact"
    """32 bits a number."""
    HELPER = "helper"
    """As in the helper: the message says nothing of them."""


class Scope(StrEnum):
    """Among which weights the smallest are found."""

    LAYER = "layer"
    """Each tensor loses the same fraction."""
    GLOBAL = "global"
    """All together: layers of small weights lose more, possibly everything."""


@dataclass(frozen=True)
class Selection:
    """Which layers a codec compresses, on which base, and what becomes of the rest.

    Args:
        layers: names of weight tensors; empty for all weight layers.
        rest: see :class:`Rest`.
        base: what the difference is taken from (Arora 2018, improvement (i)); ``Base.FILE`` needs a helper with
            initial weights.
        seed: of the helper's random numbers; coded in the message.
    """

    layers: tuple[str, ...] = ()
    rest: Rest = Rest.QUANTISED
    base: Base = Base.NEUTRAL
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.seed < MAX_SEED:
            raise InputError("a seed of 0 or more, below 2^60", str(self.seed), "use a small one: it costs its bits")

    def includes(self, name: str) -> bool:
        """Whether the weight tensor of this name is compressed."""
        return not self.layers or name in self.layers

    def check(self, known: Iterable[str]) -> None:
        """Refuse a selected layer that is none of these weight tensors.

        Raises:
            InputError: naming it.
        """
        names = tuple(known)
        for name in self.layers:
            if name not in names:
                raise unknown_name("weight layer", name, names)


class Codec(ABC):
    """What every codec offers: a subclass is a frozen dataclass of options, and writes :meth:`compress` and theory."""

    name: ClassVar[str]
    without_sample: ClassVar[tuple[str, str] | None] = None
    """What is expected where no sample is given, and what to do; ``None`` where none is needed."""

    def encode(
        self,
        network: Network | nn.Module,
        sample: Sample | None = None,
        *,
        helper: Helper | None = None,
        run: Run | None = None,
    ) -> Compressed:
        """The message of a network.

        Args:
            network: captured, or a module, which is captured with the first examples of the sample.
            sample: the training sample; without a ``helper`` it tells the decoder's inputs.
            helper: fixed before the data were seen; made for the sample if ``None``.
            run: seed, time budget, checkpoint, progress of codecs that train; 300 seconds by default.

        Raises:
            InputError: no sample where one is needed, or options that do not fit this network.
        """
        if sample is None and self.without_sample is not None:
            expected, do = self.without_sample
            raise InputError(expected, "none", do)
        network = captured_network(network, sample, helper)
        return self.compress(network, sample, network_helper(network, sample, helper), run or Run())

    @abstractmethod
    def compress(self, network: Network, sample: Sample | None, helper: Helper, run: Run) -> Compressed:
        """The message of a captured network and its helper."""

    def decode(self, message: bytes, helper: Helper) -> Decoded:
        """The classifier of a message; the same for every codec.

        Raises:
            DecodeError: the bytes are no message for this helper.
        """
        return decode_message(message, helper)

    def theory(self, network: Network, sample: Sample | None = None) -> Theory:
        """The paper's own prediction for this network (a measure)."""
        raise NotImplementedError

    @classmethod
    def strengths(cls) -> tuple[Codec, ...]:
        """A few settings from weak to strong, for ``bitcert compare`` and ``--codec auto``; none by default."""
        return ()

    @property
    @abstractmethod
    def label(self) -> str:
        """Name and settings in a few characters, e.g. ``svd rank 10``."""


@dataclass(frozen=True, kw_only=True)
class LayerCodec(Codec):
    """Base of the codecs that work tensor by tensor; a subclass writes :meth:`code_layer` (and ``theory``).

    Args:
        selection: layers, rest, base, seed.
        quantiser: of the coefficients.
    """

    name: ClassVar[str] = ""

    selection: Selection = field(default_factory=Selection)
    quantiser: Quantiser = field(default_factory=Uniform)

    def code_layer(self, layer: Layer) -> TensorCode:
        """The code of one compressed weight tensor."""
        raise NotImplementedError

    @property
    def label(self) -> str:
        """The codec's name; subclasses add their setting."""
        return self.name

    def compress(self, network: Network, sample: Sample | None, helper: Helper, run: Run) -> Compressed:
        """Code the selected weight layers with :meth:`code_layer` and the rest as the selection says; no training.

        Raises:
            InputError: unknown layers, or options that do not fit a layer.
        """
        codec = self.resolved(network, sample, helper)
        layers = network_layers(network, helper, codec.selection)
        if codec.selection.base is Base.FILE and not any(layer.values.any() for layer in layers):
            do = "use weights that were public before the data were seen"
            raise InputError("helper weights that differ from the network's", "the network itself", do)
        codes = {layer.target.name: codec.code_tensor(layer) for layer in layers}
        return assemble(helper, codes, codec.selection.seed)

    def resolved(self, network: Network, sample: Sample | None, helper: Helper) -> Self:
        """The same codec with what it takes from the whole network, or from the sample, filled in.

        Raises:
            InputError: as :meth:`encode`.
        """
        del network, sample, helper
        return self

    def code_tensor(self, layer: Layer) -> TensorCode:
        """:meth:`code_layer` where the selection says so, else the rest's code."""
        if layer.index and self.selection.includes(layer.target.name):
            return self.code_layer(layer)
        return code_rest(layer, self.selection.rest)

    def compressed_targets(self, network: Network) -> tuple[tuple[int, Target], ...]:
        """Number and target of the weight layers that are compressed, in the order of the message."""
        order = {layer.weight: k for k, layer in enumerate(network.weight_layers, start=1)}
        known = [target for target in targets(network.architecture) if target.name in order]
        return tuple((order[target.name], target) for target in known if self.selection.includes(target.name))

    def compressed_layers(
        self, network: Network, helper: Helper | None = None, do: str = "ask for the theory of another base"
    ) -> tuple[Layer, ...]:
        """The weight layers that are compressed, in order; a base other than a file needs no helper.

        Raises:
            InputError: a selected layer that the network does not have, or a base from a file without a helper.
        """
        if helper is None:
            if self.selection.base is Base.FILE:
                raise InputError("a base without a file", "initial weights of a helper", do)
            helper = bare_helper(network)
        layers = network_layers(network, helper, self.selection)
        return tuple(layer for layer in layers if layer.index and self.selection.includes(layer.target.name))


def captured_network(network: Network | nn.Module, sample: Sample | None, helper: Helper | None) -> Network:
    """A network as it is; a module captured with the first examples of the sample.

    Raises:
        InputError: a module without a sample.
    """
    if isinstance(network, Network):
        return network
    if sample is None:
        raise InputError("a captured network, or a module and a sample", "a module alone", "pass the sample, too")
    return as_network(network, sample, None if helper is None else helper.preprocessing)


def bare_helper(network: Network, sample: Sample | None = None) -> Helper:
    """A helper that predicts as the network does; the usual preprocessing of the sample, if there is one."""
    architecture = network.architecture
    if sample is not None:
        return Helper.for_sample(sample, architecture)
    return Helper(architecture.input_shape, architecture.num_outputs, predictor=architecture)


def network_helper(network: Network, sample: Sample | None, helper: Helper | None) -> Helper:
    """The helper given, or the usual one of the sample, with the network's architecture in it.

    Raises:
        InputError: neither is given, or the helper holds another architecture.
    """
    architecture = network.architecture
    if helper is None:
        if sample is None:
            raise InputError("a sample or a helper", "neither", "pass one, so that the decoder knows the inputs")
        return bare_helper(network, sample)
    if helper.predictor is None:
        return replace(helper, predictor=architecture)
    if helper.predictor.content_hash != architecture.content_hash:
        raise InputError("the network's own architecture in the helper", "another one", "capture the network again")
    return helper


def check_finite(network: Network) -> None:
    """Refuse a network with values that are not finite.

    Raises:
        InputError: naming the first tensor.
    """
    for name, value in network.parameters.items():
        if not bool(torch.isfinite(value).all()):
            raise InputError(f"finite values in {name}", "NaN or infinite ones", "check the network")


def network_layers(network: Network, helper: Helper, selection: Selection) -> tuple[Layer, ...]:
    """Every tensor of the network in the order of the message, minus its base.

    Raises:
        InputError: a selected layer that the network does not have, or weights that are not finite.
    """
    architecture = network.architecture
    order = {layer.weight: k for k, layer in enumerate(architecture.weight_layers, start=1)}
    if selection.base is Base.FILE and helper.weights is None:
        do = "name public weights with --helper, or make the helper with HelperWeights"
        raise InputError("weights in the helper for base=file", "none", do)
    selection.check(order)
    check_finite(network)
    layers = []
    for target in targets(architecture):
        trained = network.parameters[target.name].detach()
        values = trained.double().cpu().numpy()
        draws = target.draws(selection.seed)
        base = selection.base if target.name in order or selection.base is Base.FILE else Base.NEUTRAL
        difference = values - base_values(base, target, draws, helper)
        layers.append(Layer(target, trained, difference, base, draws, order.get(target.name, 0)))
    return tuple(layers)


def code_rest(layer: Layer, rest: Rest) -> TensorCode:
    """The code of a tensor that the codec does not compress; buffers of integers are always coded without loss."""
    if layer.target.kind == "buffer" and not np.any(layer.values != np.rint(layer.values)):
        return layer.code("identity", (), at_exponent(layer.values, 0))
    if rest is Rest.HELPER:
        return layer.code("none")
    if rest is Rest.EXACT:
        return exact_code(layer.trained)
    return layer.code("identity", (), FINE(layer.values))


def assemble(helper: Helper, codes: Mapping[str, TensorCode], seed: int = 0) -> Compressed:
    """Write the message of these codes and its ledger."""
    message, ledger = write(helper, ComposedMessage(codes, seed))
    return Compressed(message, ledger, helper)
