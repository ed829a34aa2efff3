"""Codec family 3: any captured or opaque network with its tensors as integer multiples of coded steps.

``weight = float32(base + integer * step)``, one step ``2^(e/4)`` per tensor; ``base`` is 1 for gains of norms (kind
``scale``) and 0 otherwise, so that an all-zero tensor is the one that does nothing. A tensor is coded in the order
exponent, layout, masks, integers. Masks say which output rows, input columns and filters hold anything at all, so a
pruned unit costs a fraction of a bit; whether a unit was silent in the tensor before is the context under which the
next tensor's columns (and the bias's entries) are coded. Context needs names and shapes only, no graph.

Arora et al. 2018 (section 2) ask only that the message determine the classifier. Not guaranteed: that the decoded
network computes anything sensible; logits that are not finite count as errors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from bitcert.coding import (
    ArithmeticDecoder,
    ArithmeticEncoder,
    Ledger,
    MessageReader,
    MessageWriter,
    blank,
    max_flags,
    step_size,
)
from bitcert.coding.layouts import PLAIN, UnitsInUse, code_layout, has_layout, tensor_code_bits
from bitcert.counting import Classifier, TensorClassifier, Values
from bitcert.decoder.helper import Helper, Preprocessing
from bitcert.errors import DecodeError
from bitcert.network import ParameterSpec, Predictor

FAMILY = 3
Integers = NDArray[np.int64]

_FIRST_EXPONENT = {"buffer": 0}
_USUAL_FIRST_EXPONENT = -12


@dataclass(frozen=True, eq=False)
class QuantisedNetwork(TensorClassifier):
    """The decoded classifier: inputs ``[batch, ...]`` as given -> logits ``[batch, classes]``."""

    helper: Helper
    predictor: Predictor
    weights: Mapping[str, torch.Tensor]

    @property
    def tensors(self) -> Mapping[str, torch.Tensor]:
        """The weights, with the names of the architecture."""
        return self.weights

    def compute(
        self, inputs: Values | torch.Tensor, tensors: Mapping[str, torch.Tensor], dtype: torch.dtype
    ) -> torch.Tensor:
        """Logits of a batch of raw inputs, computed in ``dtype``."""
        return run_network(self.predictor, tensors, self.helper.preprocessing, inputs, dtype)


def run_network(
    predictor: Predictor,
    weights: Mapping[str, torch.Tensor],
    preprocessing: Preprocessing,
    inputs: Values | torch.Tensor,
    dtype: torch.dtype,
) -> torch.Tensor:
    """Logits ``[batch, outputs]`` of a network on raw inputs, computed in ``dtype`` from its float32 weights."""
    values = {name: value.to(dtype) for name, value in weights.items()}
    return predictor.forward(network_inputs(predictor, preprocessing, inputs, dtype), values)


def network_inputs(
    predictor: Predictor,
    preprocessing: Preprocessing,
    inputs: Values | torch.Tensor,
    dtype: torch.dtype = torch.float32,
) -> torch.Tensor:
    """What the network sees: the preprocessed inputs, or int64 tokens for a network that asks for them."""
    if getattr(predictor, "input_dtype", "float32") == "int64":
        return inputs.long() if isinstance(inputs, torch.Tensor) else torch.from_numpy(inputs.astype(np.int64))
    return preprocessing(inputs, dtype)


def base_value(kind: str) -> float:
    """What an integer of zero stands for in a tensor of this kind."""
    return 1.0 if kind == "scale" else 0.0


def dequantise(
    predictor: Predictor, integers: Mapping[str, Integers], exponents: Mapping[str, int]
) -> dict[str, torch.Tensor]:
    """The float32 tensors that the decoder makes of integers and step exponents, by name."""
    weights = {}
    for spec in predictor.parameters:
        values = base_value(spec.kind) + integers[spec.name].astype(np.float64) * step_size(exponents[spec.name])
        weights[spec.name] = torch.from_numpy(np.asarray(values, dtype=np.float32).reshape(spec.shape))
    return weights


def cheapest_exponents(
    predictor: Predictor, integers: Mapping[str, Integers], exponents: Mapping[str, int]
) -> dict[str, int]:
    """The same exponents, except that an all-zero tensor repeats the one before it, which costs one bit."""
    previous, chosen = dict(_FIRST_EXPONENT), {}
    for spec in predictor.parameters:
        before = previous.get(spec.kind, _USUAL_FIRST_EXPONENT)
        chosen[spec.name] = previous[spec.kind] = exponents[spec.name] if integers[spec.name].any() else before
    return chosen


def write(predictor: Predictor, integers: Mapping[str, Integers], exponents: Mapping[str, int]) -> tuple[bytes, Ledger]:
    """The message of a quantised network and its ledger, one section per tensor.

    Args:
        predictor: names, shapes and kinds of the tensors, in the order they are coded.
        integers: by name, of the tensor's shape; at most ``MAX_MAGNITUDE`` in size.
        exponents: by name, of the step ``2^(e/4)``.
    """
    writer, units = MessageWriter(FAMILY), UnitsInUse()
    previous = dict(_FIRST_EXPONENT)
    for spec in predictor.parameters:
        values = integers[spec.name].reshape(spec.shape)
        _, layout = tensor_code_bits(values, units)
        with writer.section(spec.name) as bits:
            bits.signed(exponents[spec.name] - previous.get(spec.kind, _USUAL_FIRST_EXPONENT))
            if has_layout(spec.shape):
                bits.binary(layout, 2)
            encoder = ArithmeticEncoder()
            code_layout(encoder, values, layout, units)
            bits.extend(encoder.bits())
        previous[spec.kind] = exponents[spec.name]
        units.update(values)
    return writer.finish()


def _read_tensor(reader: MessageReader, spec: ParameterSpec, previous: int, units: UnitsInUse) -> tuple[Integers, int]:
    with reader.section(spec.name) as bits:
        exponent = previous + bits.signed()
        step_size(exponent)
        layout = bits.binary(2) if has_layout(spec.shape) else PLAIN
        # The masks ask at most one question per row, column and filter, each no more than the entries.
        decoder = ArithmeticDecoder(bits, max_flags(spec.num_entries) + 3 * spec.num_entries)
        values = code_layout(decoder, blank(*spec.shape), layout, units)
        decoder.finish()
    return values, exponent


def read(reader: MessageReader, helper: Helper) -> tuple[Classifier, str]:
    """Decode the rest of a message of this family.

    Raises:
        DecodeError: when the helper has no architecture, or the bytes are no message for it.
    """
    integers, exponents = read_integers(reader, helper.predictor)
    predictor = helper.predictor
    assert predictor is not None
    weights = dequantise(predictor, integers, exponents)
    num_weights = sum(spec.num_entries for spec in predictor.parameters)
    num_alive = sum(int(np.count_nonzero(values)) for values in integers.values())
    description = f"quantised network, {num_alive} of {num_weights} weights non-zero"
    return QuantisedNetwork(helper, predictor, weights), description


def read_integers(reader: MessageReader, predictor: Predictor | None) -> tuple[dict[str, Integers], dict[str, int]]:
    """Integers and step exponents by name.

    Raises:
        DecodeError: as :func:`read`.
    """
    if predictor is None:
        got, do = "a helper without one", "pass the architecture file (or the model's factory) as well"
        raise DecodeError("the architecture of the quantised network", got, do)
    units, previous = UnitsInUse(), dict(_FIRST_EXPONENT)
    integers, exponents = {}, {}
    for spec in predictor.parameters:
        before = previous.get(spec.kind, _USUAL_FIRST_EXPONENT)
        values, exponent = _read_tensor(reader, spec, before, units)
        integers[spec.name], exponents[spec.name] = values, exponent
        previous[spec.kind] = exponent
        units.update(values)
    return integers, exponents
