"""Codec family 4: each tensor by its own transform, quantiser and entropy coder, on a base that the decoder knows.

    weight = float32(base + expand(settings, integers * 2^(e/4), helper numbers))

For each tensor of the architecture, in order: the number of its transform, and unless that is ``exact`` (32 bits a
number) its base, the transform's settings, and for each coefficient array its step exponent (relative to the one before
in the same place) and the integers, with whichever coder of :mod:`bitcert.coding.coders` is shortest. Tensors whose
transform is ``subspace`` are one vector together, made by a section of its own behind them. The seed of the helper's
random numbers opens the message: one bit for seed 0, and what choosing another costs.

Bases: *neutral* (1 for gains of norms, else 0), *random* (He-normal numbers of the seed: the untrained network), *file*
(weights that were fixed and hashed before the data were seen). Source: docs/theory.md 3.2; Arora et al. 2018 (section
2) ask only that the message determine the classifier. Not guaranteed: that the decoded network computes anything
sensible.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import torch

from bitcert.coding import BitReader, BitWriter, Ledger, MessageReader, MessageWriter, step_size
from bitcert.coding.coders import read_array, write_array
from bitcert.counting import Classifier
from bitcert.decoder.helper import Helper
from bitcert.decoder.network import QuantisedNetwork, base_value
from bitcert.decoder.transforms import subspace
from bitcert.decoder.transforms.base import (
    MAX_EXPANSION,
    Coefficients,
    Draws,
    Integers,
    Settings,
    Shape,
    Target,
    Values,
)
from bitcert.decoder.transforms.normal import UNIT
from bitcert.decoder.transforms.registry import EXACT, MEMBER, NUMBERS, SPECIAL, TRANSFORMS
from bitcert.errors import DecodeError, InputError, malformed
from bitcert.network import Architecture
from bitcert.network.localise import localised

FAMILY = 4
COEFFICIENTS_PER_PARAMETER = 8
SPARE_COEFFICIENTS = 1 << 20
"""A message may hold this many coefficients, and eight for each parameter of the network."""
_FIRST_EXPONENT = -12
_FLOAT_BITS = 32


class Base(IntEnum):
    """What a tensor is where its coefficients are zero; the number is coded."""

    NEUTRAL = 1
    RANDOM = 2
    FILE = 3


@dataclass(frozen=True, eq=False)
class TensorCode:
    """What a message says of one tensor.

    Attributes:
        transform: a name of ``registry.NUMBERS``.
        settings: of the transform, non-negative.
        coefficients: of the shapes that the transform asks for; for ``exact`` one array of float32 bit patterns.
        base: see :class:`Base`.
    """

    transform: str
    settings: Settings = ()
    coefficients: tuple[Coefficients, ...] = ()
    base: Base = Base.NEUTRAL


@dataclass(frozen=True, eq=False)
class SubspaceCode:
    """The vector that all ``subspace`` tensors share: settings and coefficients of :mod:`.transforms.subspace`."""

    settings: Settings
    coefficients: tuple[Coefficients, ...]


@dataclass(frozen=True, eq=False)
class ComposedMessage:
    """Everything a message of this family says, before weights are made of it."""

    codes: Mapping[str, TensorCode]
    seed: int = 0
    subspace: SubspaceCode | None = None


def targets(architecture: Architecture) -> tuple[Target, ...]:
    """The tensors of a network in the order of the message, with the map sizes of its convolutions."""
    positions: dict[str, Shape] = {}
    for node in architecture.nodes:
        if node.op == "conv2d":
            positions.setdefault(node.inputs[1], architecture.propagation.values[node.name].shape[2:])
    return tuple(
        Target(spec.name, spec.shape, spec.kind, tuple(positions.get(spec.name, ())), place)
        for place, spec in enumerate(architecture.parameters)
    )


def base_values(base: Base, target: Target, draws: Draws, helper: Helper) -> Values:
    """The base of a tensor, float64.

    Raises:
        DecodeError: the file base without a file in the helper, or with another shape.
    """
    if base is Base.FILE:
        if helper.weights is None or tuple(helper.weights.values[target.name].shape) != target.shape:
            raise malformed("initial weights in the helper", "a helper without them")
        return helper.weights.values[target.name].astype(np.float64)
    if base is Base.RANDOM and target.kind == "weight" and target.size:
        fan_in = max(target.matrix_shape[1], 1)
        normal = draws.normal("base", target.size).reshape(target.shape).astype(np.float64)
        return np.asarray(normal * (UNIT * math.sqrt(2.0 / fan_in)), dtype=np.float64)
    return np.full(target.shape, base_value(target.kind))


def exact_code(values: torch.Tensor) -> TensorCode:
    """A tensor coded as its float32 bit patterns."""
    patterns = values.detach().cpu().float().contiguous().numpy().view(np.uint32).astype(np.int64)
    return TensorCode(EXACT, (), (Coefficients(patterns.reshape(tuple(values.shape)), 0),))


class _Allowance:
    """What a stranger's message may still ask for: operations and coefficients, all tensors together."""

    def __init__(self, architecture: Architecture) -> None:
        self.operations = MAX_EXPANSION
        self.coefficients = COEFFICIENTS_PER_PARAMETER * architecture.num_parameters + SPARE_COEFFICIENTS

    def spend(self, name: str, operations: int, shapes: tuple[Shape, ...]) -> None:
        """Take away what a tensor needs.

        Raises:
            DecodeError: that is more than is left.
        """
        self.operations -= operations
        self.coefficients -= sum(math.prod(shape) for shape in shapes)
        if self.operations < 0:
            raise malformed(f"at most {MAX_EXPANSION:,} operations to decode", f"more with {name}")
        if self.coefficients < 0:
            raise malformed("eight coefficients a parameter at most", f"more with {name}")


class _Exponents:
    """Step exponents relative to the one before in the same place."""

    def __init__(self) -> None:
        self._previous: dict[tuple[str, int], int] = {}

    def before(self, transform: str, place: int) -> int:
        return self._previous.get((transform, place), _FIRST_EXPONENT)

    def note(self, transform: str, place: int, exponent: int) -> None:
        self._previous[transform, place] = exponent


def write(helper: Helper, message: ComposedMessage) -> tuple[bytes, Ledger]:
    """The file and its ledger, one section per tensor.

    Raises:
        InputError: a tensor without a code, settings or shapes its transform does not take, or too long a message.
    """
    architecture = _architecture(helper)
    writer, exponents, allowance = MessageWriter(FAMILY), _Exponents(), _Allowance(architecture)
    with writer.section("seed") as bits:
        bits.elias_gamma(message.seed + 1)
    for target in targets(architecture):
        code = message.codes.get(target.name)
        if code is None:
            raise InputError(
                "a code for every tensor", f"none for {target.name}", "code it, or take it from the helper"
            )
        with writer.section(target.name) as bits:
            _write_tensor(bits, target, code, exponents, allowance)
    if message.subspace is not None:
        total = _subspace_sizes(architecture, message.codes)
        with writer.section("subspace") as bits:
            wanted = subspace.shapes(tuple(total.values()), message.subspace.settings)
            cost = subspace.operations(tuple(total.values()), message.subspace.settings)
            _spend(allowance, MEMBER, cost, wanted)
            _write_settings(bits, message.subspace.settings)
            _write_coefficients(bits, MEMBER, wanted, message.subspace.coefficients, exponents)
    try:
        return writer.finish()
    except ValueError as error:
        raise InputError(
            "a message within the limit", str(error), "use a coarser quantiser or fewer exact layers"
        ) from error


def _spend(allowance: _Allowance, name: str, operations: int, shapes: tuple[Shape, ...]) -> None:
    """The same limits for the writer, who can do something about them."""
    try:
        allowance.spend(name, operations, shapes)
    except DecodeError as error:
        do = "use smaller settings, or select fewer layers"
        raise InputError("a message that decodes within the limits", str(error).split(";")[0], do) from None


def _write_tensor(
    bits: BitWriter, target: Target, code: TensorCode, exponents: _Exponents, allowance: _Allowance
) -> None:
    number = NUMBERS[code.transform]
    bits.elias_gamma(number)
    if code.transform == EXACT:
        patterns = code.coefficients[0].integers.ravel().astype(">u4")
        bits.extend(np.unpackbits(patterns.view(np.uint8)))
        return
    bits.elias_gamma(int(code.base))
    if code.transform == MEMBER:
        return
    transform = TRANSFORMS[number]
    assert len(code.settings) == transform.num_settings
    _write_settings(bits, code.settings)
    shapes = transform.shapes(target, code.settings)
    _spend(allowance, target.name, transform.operations(target, code.settings), shapes)
    _write_coefficients(bits, code.transform, shapes, code.coefficients, exponents)


def _write_settings(bits: BitWriter, settings: Settings) -> None:
    for setting in settings:
        bits.elias_delta(setting + 1)


def _write_coefficients(
    bits: BitWriter,
    transform: str,
    shapes: tuple[Shape, ...],
    coefficients: tuple[Coefficients, ...],
    exponents: _Exponents,
) -> None:
    if tuple(c.integers.shape for c in coefficients) != shapes:
        got = ", ".join(str(list(c.integers.shape)) for c in coefficients)
        raise InputError(
            f"coefficients of shapes {[list(s) for s in shapes]} for {transform}", got, "report this as a bug"
        )
    for place, array in enumerate(coefficients):
        before = exponents.before(transform, place)
        exponent = array.exponent if array.integers.any() else before
        bits.signed(exponent - before)
        exponents.note(transform, place, exponent)
        write_array(bits, array.integers)


def _architecture(helper: Helper) -> Architecture:
    if not isinstance(helper.predictor, Architecture):
        do = "pass the architecture file (or capture the network) as well"
        raise DecodeError("the architecture of a captured network in the helper", "a helper without one", do)
    return helper.predictor


def _subspace_sizes(architecture: Architecture, codes: Mapping[str, TensorCode]) -> dict[str, int]:
    return {t.name: t.size for t in targets(architecture) if codes[t.name].transform == MEMBER}


def read(reader: MessageReader, helper: Helper) -> tuple[Classifier, str]:
    """Decode the rest of a message of this family.

    Raises:
        DecodeError: when the helper has no architecture, or the bytes are no message for it.
    """
    architecture = _architecture(helper)
    message = read_codes(reader, helper)
    local = tuple(name for name, code in message.codes.items() if _is_local(code))
    # first, because its limits refuse too many filters before any is made
    predictor = localised(architecture, local) if local else architecture
    weights = expand(message, helper)
    names = Counter(code.transform for code in message.codes.values())
    parts = ", ".join(f"{count} x {name}" for name, count in sorted(names.items()))
    return QuantisedNetwork(helper, predictor, weights), f"composed network, tensors: {parts}"


def _is_local(code: TensorCode) -> bool:
    transform = TRANSFORMS.get(NUMBERS[code.transform])
    return transform is not None and transform.local


def _is_zero(code: TensorCode) -> bool:
    """Whether zeros come of it without any work; a sketch must still be checked, a local layer repeated."""
    return code.transform != "sketch" and not _is_local(code) and not any(c.integers.any() for c in code.coefficients)


def read_codes(reader: MessageReader, helper: Helper) -> ComposedMessage:
    """What the message says of every tensor, without making weights of it.

    Raises:
        DecodeError: as :func:`read`.
    """
    architecture, exponents = _architecture(helper), _Exponents()
    with reader.section("seed") as bits:
        seed = bits.elias_gamma() - 1
    codes, allowance = {}, _Allowance(architecture)
    for target in targets(architecture):
        with reader.section(target.name) as bits:
            codes[target.name] = _read_tensor(bits, target, helper, exponents, allowance)
    sizes = _subspace_sizes(architecture, codes)
    if not sizes:
        return ComposedMessage(codes, seed)
    with reader.section("subspace") as bits:
        settings = _read_settings(bits, subspace.NUM_SETTINGS)
        shapes = subspace.shapes(tuple(sizes.values()), settings)
        allowance.spend(MEMBER, subspace.operations(tuple(sizes.values()), settings), shapes)
        coefficients = _read_coefficients(bits, MEMBER, shapes, exponents)
    return ComposedMessage(codes, seed, SubspaceCode(settings, coefficients))


def _read_tensor(
    bits: BitReader, target: Target, helper: Helper, exponents: _Exponents, allowance: _Allowance
) -> TensorCode:
    number = bits.elias_gamma()
    name = SPECIAL.get(number) or (TRANSFORMS[number].name if number in TRANSFORMS else "")
    if not name:
        raise malformed("a transform that this version knows", f"number {number}")
    if name == EXACT:
        if _FLOAT_BITS * target.size > bits.num_bits - bits.position:
            raise malformed("a message written by bitcert", "one that ends too early")
        content = np.frombuffer(bits.octets(_FLOAT_BITS // 8 * target.size), dtype=">u4")
        patterns = content.astype(np.int64)
        return TensorCode(EXACT, (), (Coefficients(patterns.reshape(target.shape), 0),))
    choice = bits.elias_gamma()
    if choice not in tuple(Base) or (choice == Base.FILE and helper.weights is None):
        raise malformed("a base that the helper has", f"number {choice}")
    if name == MEMBER:
        return TensorCode(MEMBER, base=Base(choice))
    transform = TRANSFORMS[number]
    settings = _read_settings(bits, transform.num_settings)
    shapes = transform.shapes(target, settings)
    allowance.spend(target.name, transform.operations(target, settings), shapes)
    return TensorCode(name, settings, _read_coefficients(bits, name, shapes, exponents), Base(choice))


def _read_settings(bits: BitReader, count: int) -> Settings:
    return tuple(bits.elias_delta() - 1 for _ in range(count))


def _read_coefficients(
    bits: BitReader, transform: str, shapes: tuple[Shape, ...], exponents: _Exponents
) -> tuple[Coefficients, ...]:
    arrays = []
    for place, shape in enumerate(shapes):
        before = exponents.before(transform, place)
        exponent = before + bits.signed()
        step_size(exponent)
        integers = read_array(bits, shape)
        if not integers.any() and exponent != before:
            raise malformed("the step of the array before for one of zeros", "another step")
        exponents.note(transform, place, exponent)
        arrays.append(Coefficients(integers, exponent))
    return tuple(arrays)


def expand(message: ComposedMessage, helper: Helper) -> dict[str, torch.Tensor]:
    """The float32 tensors of a message by name; a locally connected layer's is ``[positions, *shape]``.

    Raises:
        DecodeError: when a transform cannot make its tensor.
    """
    architecture = _architecture(helper)
    parts: dict[str, Values] = {}
    if message.subspace is not None:
        sizes = _subspace_sizes(architecture, message.codes)
        code = message.subspace
        vector = subspace.expand(
            tuple(sizes.values()), code.settings, code.coefficients, Draws(message.seed, "subspace")
        )
        ends = np.cumsum(list(sizes.values()))
        parts = dict(zip(sizes, np.split(vector, ends[:-1]), strict=True))
    return {target.name: _expand_tensor(target, message, parts, helper) for target in targets(architecture)}


def _expand_tensor(
    target: Target, message: ComposedMessage, parts: Mapping[str, Values], helper: Helper
) -> torch.Tensor:
    code = message.codes[target.name]
    if code.transform == EXACT:
        patterns: Integers = code.coefficients[0].integers
        return torch.from_numpy(patterns.astype(np.uint32).view(np.float32).reshape(target.shape).copy())
    draws = target.draws(message.seed)
    base = base_values(code.base, target, draws, helper)
    if code.transform == MEMBER:
        values = parts[target.name].reshape(target.shape)
    elif _is_zero(code):
        values = np.zeros(target.shape)
    else:
        values = TRANSFORMS[NUMBERS[code.transform]].expand(target, code.settings, code.coefficients, draws)
    with np.errstate(over="ignore"):  # an infinite weight makes infinite logits, and those count as errors
        return torch.from_numpy(np.asarray(base + values, dtype=np.float32))
