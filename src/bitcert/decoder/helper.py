"""What the decoder knows before any training label is seen: the helper string of a certificate.

Arora et al. 2018 (Def. 2) call it the helper string ``s``; docs/theory.md section 2. Everything in a :class:`Helper`
must be fixed before the training sample is drawn; whatever was chosen afterwards belongs in the message and is counted
there. No program can check that an architecture was not chosen by looking at the data: the certificate says so, and
states beside its bound the one that charges for the helper's own description (:mod:`bitcert.decoder.description`).
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray

from bitcert.coding import MessageReader, MessageWriter
from bitcert.coding.message import FORMAT_VERSION
from bitcert.data import Sample, Table
from bitcert.decoder.program import decoder_hash
from bitcert.decoder.weights import HelperWeights
from bitcert.errors import DecodeError, InputError
from bitcert.network import OpaqueModel
from bitcert.network.architecture import Architecture

Values = NDArray[np.generic]

MAX_BATCH_SIZE = 1000
MAX_BATCH_ELEMENTS = 1 << 26
MAX_BATCH_PEAK = 1 << 30
FAMILY_MAPS = 64
"""Maps of an image's size that the built-in families make of it at least; up to 32 x 32 pixels they allow 1000."""

MAX_CONSTANTS = 256
"""A helper with more uncoded numbers is refused: what many numbers say belongs in parameters, where it costs bits."""

_USUAL_SCALARS = frozenset(
    (0.0, 0.01, 0.1, 0.125, 0.2, 0.25, 0.5, 1.0, 2.0, 3.0, 6.0, 20.0, *(10.0**-k for k in range(3, 13)))
)


def is_unusual(value: float) -> bool:
    """Whether a number is other than the customary ones (slopes, epsilons, 0, 1, ...).

    >>> is_unusual(-0.5), is_unusual(0.1307)
    (False, True)
    """
    return abs(value) not in _USUAL_SCALARS


def count_unusual_scalars(architecture: Architecture) -> int:
    """Scalar attributes of the graph other than the customary ones."""
    values = [value for node in architecture.nodes for value in node.attributes.values() if isinstance(value, float)]
    return sum(map(is_unusual, values))


def as_floats(inputs: Values | torch.Tensor) -> torch.Tensor:
    """Raw inputs as a float32 tensor, which stays where it is."""
    found = inputs if isinstance(inputs, torch.Tensor) else torch.from_numpy(inputs.astype(np.float32))
    return found.to(torch.float32)


def _floats(values: Iterable[float]) -> tuple[float, ...]:
    return tuple(map(float, values))


@dataclass(frozen=True)
class Preprocessing:
    """``(x / scale - mean) / std`` with one mean and std per channel.

    Args:
        scale: what one unit of input is divided by, e.g. 255 for 8-bit pixels.
        mean: per channel, or empty for none.
        std: per channel, or empty for none; the same length as ``mean``.
    """

    scale: float = 1.0
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        numbers = (self.scale, *self.mean, *self.std)
        if not all(np.isfinite(numbers)) or self.scale <= 0 or any(s <= 0 for s in self.std):
            raise InputError("a positive finite scale and std", str(numbers), "check --scale, --mean and --std")
        if len(self.mean) != len(self.std):
            got = f"{len(self.mean)} means and {len(self.std)} stds"
            raise InputError("as many channel means as stds", got, "give both for each channel")
        # 255 and 255.0 are one preprocessing, and a certificate reads floats
        for name, value in (("scale", float(self.scale)), ("mean", _floats(self.mean)), ("std", _floats(self.std))):
            object.__setattr__(self, name, value)

    def __call__(self, inputs: Values | torch.Tensor, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        """Inputs ``[batch, channels, ...]`` as the tensor the network sees, in the precision it computes in."""
        x = as_floats(inputs).to(dtype) / self.scale
        if self.mean:
            if x.ndim < 2 or x.shape[1] != len(self.mean):
                got = f"inputs of shape {list(x.shape[1:])}"
                raise InputError(f"inputs of {len(self.mean)} channels", got, "give one --mean and --std per channel")
            shape = (1, -1) + (1,) * (x.ndim - 2)
            mean, std = (torch.tensor(v, dtype=dtype, device=x.device).reshape(shape) for v in (self.mean, self.std))
            x = (x - mean) / std
        return x

    @classmethod
    def usual(cls, sample: Sample) -> Preprocessing:
        """Pixels of 8 bits become 0..1 (``digits`` has 17 grey levels); floats stay as they are."""
        if sample.inputs.dtype != np.uint8:
            return cls()
        # also a part of them, as a prior split names it: "digits (rest)"
        built_in_digits = (sample.name.partition(" (")[0], sample.input_shape) == ("digits", (1, 8, 8))
        return cls(scale=16.0 if built_in_digits else 255.0)


@dataclass(frozen=True, eq=False)
class Helper:
    """The helper string: the problem, the preprocessing and, for a user's network, its architecture.

    Args:
        input_shape: of one example, e.g. ``(1, 28, 28)``.
        num_classes: number of labels.
        preprocessing: fixed before the data were seen.
        predictor: the architecture without weights, or ``None`` for a built-in family, which is part of the program.
            With ``weights`` it may be a network for other classes, of which messages use the features.
        classes_inferred: whether ``num_classes`` was read off the training labels; messages then begin with it.
        weights: public weights that messages may refer to, fixed before the data were seen; for every tensor of
            ``predictor``.
        table: how inputs are read from a table, or ``None``: declared before the data were seen.
    """

    input_shape: tuple[int, ...]
    num_classes: int
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    predictor: Architecture | OpaqueModel | None = None
    classes_inferred: bool = False
    weights: HelperWeights | None = None
    table: Table | None = None

    def __post_init__(self) -> None:
        if self.num_constants > MAX_CONSTANTS:
            got = f"{self.num_constants}"
            do = "make them parameters of the network, so that they are coded"
            raise InputError(f"at most {MAX_CONSTANTS} unusual constants in architecture and preprocessing", got, do)
        if self.classes_inferred and self.fixes_classes:
            expected, got = "a network whose width was fixed beforehand", "a number of classes read off the labels"
            raise InputError(expected, got, "state the number of classes")

    @property
    def fixes_classes(self) -> bool:
        """Whether a network of the helper has one output for each class: its width was fixed beforehand.

        A helper network that was made for other classes has another width, and says nothing of their number.
        """
        if isinstance(self.predictor, Architecture) and self.weights is not None:
            return self.predictor.num_outputs == self.num_classes
        return self.predictor is not None

    @property
    def batch_size(self) -> int:
        """Examples evaluated at a time: a fixed function of the helper, so that nobody chooses it by its result.

        As :func:`examples_at_a_time`.
        """
        return examples_at_a_time(self.predictor, self.input_shape, self.num_classes)

    @property
    def num_constants(self) -> int:
        """Numbers that are assumed, not coded: unusual scalars of the architecture, and the preprocessing's."""
        architecture = self.predictor if isinstance(self.predictor, Architecture) else None
        scalars = 0 if architecture is None else count_unusual_scalars(architecture)
        return scalars + len(self.preprocessing.mean) + len(self.preprocessing.std)

    @property
    def content_hash(self) -> str:
        """SHA-256 of the description, hexadecimal."""
        return description_hash(self.describe())

    def describe(self, decoder: str | None = None) -> dict[str, object]:
        """What a certificate says of the helper, as JSON values; ``decoder`` is the hash of another one's sources."""
        architecture = self.predictor.content_hash if self.predictor is not None else None
        optional: dict[str, object] = {} if self.weights is None else {"weights": self.weights.content_hash}
        if isinstance(self.predictor, OpaqueModel):
            optional["sources"] = self.predictor.describe_sources()
        if self.table is not None:
            optional["table"] = self.table.schema.hash
        return {
            **optional,
            "decoder": decoder or decoder_hash(),
            "message_format": FORMAT_VERSION,
            "input_shape": list(self.input_shape),
            "num_classes": self.num_classes,
            "classes_inferred": self.classes_inferred,
            "scale": self.preprocessing.scale,
            "mean": list(self.preprocessing.mean),
            "std": list(self.preprocessing.std),
            "architecture": architecture,
            "factory": self.predictor.factory if isinstance(self.predictor, OpaqueModel) else None,
        }

    @classmethod
    def for_sample(
        cls,
        sample: Sample,
        predictor: Architecture | OpaqueModel | None = None,
        preprocessing: Preprocessing | None = None,
        weights: HelperWeights | None = None,
    ) -> Helper:
        """The helper for a sample's problem, with the usual preprocessing unless one is given."""
        preprocessing = preprocessing or Preprocessing.usual(sample)
        problem = tuple(sample.input_shape), sample.num_classes
        helper = cls(*problem, preprocessing, predictor, weights=weights, table=sample.table)
        # A network's width was fixed before the data were seen, so it needs no bits.
        return (
            replace(helper, classes_inferred=True) if sample.classes_inferred and not helper.fixes_classes else helper
        )


def description_hash(described: Mapping[str, object]) -> str:
    """SHA-256 (hex) of a helper's description."""
    return hashlib.sha256(json.dumps(dict(described), sort_keys=True).encode()).hexdigest()


def examples_at_a_time(predictor: object, input_shape: tuple[int, ...], num_classes: int) -> int:
    """Examples that a network is evaluated on at a time, a function of its structure alone.

    At most 1000; few enough that no value exceeds :data:`MAX_BATCH_ELEMENTS` entries, and that all that is in memory at
    once, what the operations take beside their results included, stays within :data:`MAX_BATCH_PEAK`. Without a network
    it is a built-in family that is evaluated, which makes :data:`FAMILY_MAPS` maps of an image.
    """
    largest, peak = max(math.prod(input_shape), 8 * num_classes), 1
    if predictor is None and len(input_shape) == 3:
        largest = max(largest, FAMILY_MAPS * math.prod(input_shape[1:]))
    if isinstance(predictor, Architecture):
        largest, peak = max(largest, *predictor.propagation.elements.values()), predictor.propagation.peak
    return max(1, min(MAX_BATCH_SIZE, MAX_BATCH_ELEMENTS // largest, MAX_BATCH_PEAK // peak))


def write_classes(writer: MessageWriter, helper: Helper) -> None:
    """Code the number of classes if it was read off the training labels: what the data decided costs bits.

    There are at least 2; what is coded is the number less 1.
    """
    if helper.classes_inferred:
        with writer.section("number of classes") as bits:
            bits.elias_gamma(helper.num_classes - 1)


def read_classes(reader: MessageReader, helper: Helper) -> None:
    """Read what :func:`write_classes` wrote.

    Raises:
        DecodeError: when the message is for another number of classes.
    """
    if helper.classes_inferred:
        with reader.section("number of classes") as bits:
            coded = bits.elias_gamma() + 1
        if coded != helper.num_classes:
            raise DecodeError(f"a message for {helper.num_classes} classes", str(coded), "ask for the file again")
