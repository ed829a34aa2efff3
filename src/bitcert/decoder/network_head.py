"""Codec family 5: a helper network, as it is or with an integer linear head on its features.

The helper holds an architecture and its weights, public or trained on a declared prior part. A message has one of three
forms, whose number opens it (Elias gamma):

1. *network*: the helper network itself; nothing follows (one byte in all). Its outputs must be the classes.
2. *head*: ``logits = features(x) @ W``, ``W [features, classes]`` integer, on one entry of the fixed list of features
   (:mod:`bitcert.decoder.features.network`). The network may have been made for other classes.
3. *correction*: ``logits = helper logits + 2^(e/4) * features(x) @ W``.

Forms 2 and 3 go on with the entry's index (Elias gamma of index + 1), a bit for square roots, for form 2 a bit for the
helper's logits as a further part, for form 3 the step exponent (signed); then ``W`` as one section of the row code
(:mod:`bitcert.coding.rows`) with the parts as groups. The weights of the helper network are believed
to be older than the sample: its hash is in the certificate. Source: docs/theory.md section 2, helper string.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import IntEnum
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from bitcert.coding import BitReader, Ledger, MessageReader, MessageWriter, RowModel, step_size
from bitcert.counting import Classifier, TensorClassifier, Values
from bitcert.decoder.features.network import FeatureSource, feature_sources, network_features, part_sizes
from bitcert.decoder.helper import Helper, read_classes, write_classes
from bitcert.decoder.network import network_inputs, run_network
from bitcert.errors import DecodeError, InputError
from bitcert.network.architecture import Architecture

FAMILY = 5
MAX_WEIGHTS = 1 << 22

Integers = NDArray[np.int64]


class Form(IntEnum):
    """What the message adds to the helper network; the number is coded."""

    NETWORK = 1
    HEAD = 2
    CORRECTION = 3


@dataclass(frozen=True, eq=False)
class NetworkHeadCode:
    """What a message of this family says.

    Attributes:
        form: see :class:`Form`.
        source: index in ``feature_sources``; 0 for form 1.
        root: whether features are square roots.
        with_logits: whether the helper's logits are features too (form 2).
        exponent: of the correction's step ``2^(e/4)`` (form 3).
        weights: ``[features, classes]`` of the constant and all parts; ``None`` for form 1.
    """

    form: Form
    source: int = 0
    root: bool = False
    with_logits: bool = False
    exponent: int = 0
    weights: Integers | None = None


def helper_network(helper: Helper) -> tuple[Architecture, dict[str, torch.Tensor]]:
    """The network in a helper string: its graph and its float32 weights.

    Raises:
        DecodeError: the helper has no captured network, or none with weights.
    """
    if not isinstance(helper.predictor, Architecture) or helper.weights is None:
        do = "pass the helper network's architecture and weights as well"
        raise DecodeError("a captured network with its weights in the helper", "a helper without one", do)
    values = helper.weights.values
    return helper.predictor, {spec.name: torch.from_numpy(values[spec.name]) for spec in helper.predictor.parameters}


def row_model(sizes: tuple[int, ...], classes: int) -> RowModel:
    """What both sides know of the weights: the parts are groups of rows, the constant's row is always there."""
    groups = np.repeat(np.arange(len(sizes), dtype=np.intp), sizes)
    return RowModel(np.append(groups, np.intp(-1)), classes)


@dataclass(frozen=True, eq=False)
class NetworkFeatures:
    """Raw inputs ``[batch, ...]`` -> features of one source, and the helper network's logits beside them."""

    helper: Helper
    architecture: Architecture
    parameters: Mapping[str, torch.Tensor]
    source: FeatureSource
    root: bool
    with_logits: bool

    @classmethod
    def of(cls, helper: Helper, source: FeatureSource, root: bool, with_logits: bool) -> NetworkFeatures:
        """The features of a helper's network.

        Raises:
            DecodeError: as :func:`helper_network`.
        """
        return cls(helper, *helper_network(helper), source, root, with_logits)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of features of each part, without the constant."""
        return part_sizes(self.architecture, self.source, self.with_logits)

    def __call__(
        self, inputs: Values | torch.Tensor, dtype: torch.dtype = torch.float32
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """``(features [batch, sum(sizes) + 1], logits [batch, outputs])``, computed in ``dtype``."""
        x = network_inputs(self.architecture, self.helper.preprocessing, inputs, dtype)
        parameters = {name: value.to(dtype) for name, value in self.parameters.items()}
        output = self.architecture.output
        with torch.no_grad():
            values = self.architecture.values_of(x, parameters, (*self.source.nodes, output))
            logits = values[output]
            return network_features(self.source, self.root, values, logits if self.with_logits else None), logits


@dataclass(frozen=True, eq=False)
class HelperNetwork(TensorClassifier):
    """Form 1: raw inputs ``[batch, ...]`` -> the helper network's logits ``[batch, classes]``."""

    helper: Helper
    code: NetworkHeadCode

    @cached_property
    def tensors(self) -> Mapping[str, torch.Tensor]:
        """The helper network's weights, with the names of its architecture."""
        return helper_network(self.helper)[1]

    def compute(
        self, inputs: Values | torch.Tensor, tensors: Mapping[str, torch.Tensor], dtype: torch.dtype
    ) -> torch.Tensor:
        """Logits of one batch, computed in ``dtype``."""
        architecture, _ = helper_network(self.helper)
        return run_network(architecture, tensors, self.helper.preprocessing, inputs, dtype)


@dataclass(frozen=True, eq=False)
class NetworkHead(TensorClassifier):
    """Forms 2 and 3: raw inputs ``[batch, ...]`` -> logits ``[batch, classes]``."""

    features: NetworkFeatures
    code: NetworkHeadCode

    @cached_property
    def tensors(self) -> Mapping[str, torch.Tensor]:
        """``head.weights [features, classes]``, and the helper network's weights as ``network.NAME``."""
        assert self.code.weights is not None
        network = {f"network.{name}": value for name, value in self.features.parameters.items()}
        return {"head.weights": torch.from_numpy(self.code.weights), **network}

    def compute(
        self, inputs: Values | torch.Tensor, tensors: Mapping[str, torch.Tensor], dtype: torch.dtype
    ) -> torch.Tensor:
        """Logits of one batch, computed in ``dtype``."""
        own = {name: tensors[f"network.{name}"] for name in self.features.parameters}
        features, logits = replace(self.features, parameters=own)(inputs, dtype)
        head = features @ tensors["head.weights"].to(dtype)
        if self.code.form is Form.CORRECTION:
            return logits + step_size(self.code.exponent) * head
        return head


def num_features(helper: Helper, code: NetworkHeadCode) -> int:
    """Rows of the head of this source, the constant included."""
    architecture, _ = helper_network(helper)
    return sum(part_sizes(architecture, feature_sources(architecture)[code.source], code.with_logits)) + 1


def fits_classes(helper: Helper) -> bool:
    """Whether the helper network has one output for each class: forms 1 and 3 need that."""
    return isinstance(helper.predictor, Architecture) and helper.predictor.num_outputs == helper.num_classes


def write(helper: Helper, code: NetworkHeadCode) -> tuple[bytes, Ledger]:
    """The message and its ledger.

    Raises:
        InputError: a form that the helper network's outputs do not allow.
        DecodeError: a helper without a network with weights.
        ValueError: weights of another shape than the source has.
    """
    architecture, _ = helper_network(helper)
    if code.form is not Form.HEAD and not fits_classes(helper):
        got = f"{architecture.num_outputs} outputs for {helper.num_classes} classes"
        raise InputError("a helper network with one output for each class", got, "train a head on it")
    writer = MessageWriter(FAMILY)
    write_classes(writer, helper)
    with writer.section("form") as bits:
        bits.elias_gamma(int(code.form))
    if code.form is Form.NETWORK:
        return writer.finish()
    assert code.weights is not None
    sizes = part_sizes(architecture, feature_sources(architecture)[code.source], code.with_logits)
    if code.weights.shape != (sum(sizes) + 1, helper.num_classes):
        raise ValueError(f"weights [{sum(sizes) + 1}, {helper.num_classes}] were expected, got {code.weights.shape}")
    with writer.section("features") as bits:
        bits.elias_gamma(code.source + 1)
        bits.binary(int(code.root), 1)
        if code.form is Form.HEAD:
            bits.binary(int(code.with_logits), 1)
        else:
            bits.signed(code.exponent)
    writer.rows("head weights", code.weights.astype(np.int64), row_model(sizes, helper.num_classes))
    return writer.finish()


def _read_form(bits: BitReader, helper: Helper) -> Form:
    number = bits.elias_gamma()
    if number not in tuple(Form):
        raise DecodeError("a form that this version knows", f"form {number}", "use a newer bitcert")
    form = Form(number)
    if form is not Form.HEAD and not fits_classes(helper):
        raise DecodeError("a helper network with one output for each class", "another number", "check the helper")
    return form


def _read_features(bits: BitReader, form: Form, num_sources: int) -> NetworkHeadCode:
    source = bits.elias_gamma() - 1
    if source >= num_sources:
        raise DecodeError(f"one of {num_sources} sources of features", f"number {source}", "check the helper network")
    root = bool(bits.binary(1))
    if form is Form.HEAD:
        return NetworkHeadCode(form, source, root, bool(bits.binary(1)))
    exponent = bits.signed()
    step_size(exponent)
    return NetworkHeadCode(form, source, root, False, exponent)


def read(reader: MessageReader, helper: Helper) -> tuple[Classifier, str]:
    """Decode the rest of a message of this family.

    Raises:
        DecodeError: when the helper holds no network with weights, or the bytes are no message for it.
    """
    architecture, _ = helper_network(helper)
    read_classes(reader, helper)
    with reader.section("form") as bits:
        form = _read_form(bits, helper)
    if form is Form.NETWORK:
        return HelperNetwork(helper, NetworkHeadCode(form)), "the helper network as it is"
    sources = feature_sources(architecture)
    with reader.section("features") as bits:
        code = _read_features(bits, form, len(sources))
    source = sources[code.source]
    sizes = part_sizes(architecture, source, code.with_logits)
    shape = (sum(sizes) + 1, helper.num_classes)
    if shape[0] * shape[1] > MAX_WEIGHTS:
        got = f"{shape[0]} features and {shape[1]} classes"
        raise DecodeError(f"at most {MAX_WEIGHTS} weights", got, "ask for the file again")
    integers = reader.rows("head weights", row_model(sizes, shape[1]))
    code = NetworkHeadCode(form, code.source, code.root, code.with_logits, code.exponent, integers)
    features = NetworkFeatures.of(helper, source, code.root, code.with_logits)
    used = int(np.count_nonzero(integers))
    what = "integer linear head on" if form is Form.HEAD else "helper network and an integer correction from"
    extra = (" and logits" if code.with_logits else "") + (", square roots" if code.root else "")
    description = (
        f"{what} {shape[0] - 1} features of the helper network ({source.label}{extra}): "
        f"{used} non-zero weights of {integers.size}"
    )
    return NetworkHead(features, code), description
