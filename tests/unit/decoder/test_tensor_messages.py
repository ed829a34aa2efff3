"""Parts of messages of family 4: targets, bases, exponents, and what a message may ask for in all."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import nn

from bitcert import Helper, capture, decode_message
from bitcert.coding import MessageReader, MessageWriter
from bitcert.decoder import HelperWeights
from bitcert.decoder import tensors as composed
from bitcert.decoder.tensors import (
    Base,
    ComposedMessage,
    SubspaceCode,
    TensorCode,
    base_values,
    exact_code,
    expand,
    read_codes,
    targets,
    write,
)
from bitcert.decoder.transforms import NUMBERS, TRANSFORMS, Coefficients, Draws, Target, subspace
from bitcert.decoder.transforms.normal import UNIT
from bitcert.errors import DecodeError, InputError
from bitcert.network import Architecture
from bitcert.network.nodes import Node, ParameterSpec

LAYERS = (nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 2, 2), nn.Flatten(), nn.Linear(8, 4))
NETWORK = capture(nn.Sequential(*LAYERS).eval(), torch.rand(2, 1, 5, 5))
ARCHITECTURE = NETWORK.architecture
HELPER = Helper((1, 5, 5), 4, predictor=ARCHITECTURE)
PUBLIC = Helper((1, 5, 5), 4, predictor=ARCHITECTURE, weights=HelperWeights.of(ARCHITECTURE, NETWORK.parameters))
TARGETS = targets(ARCHITECTURE)


def integers(target: Target, exponent: int = -12, value: int = 1) -> Coefficients:
    return Coefficients(np.full(target.shape, value, dtype=np.int64), exponent)


def identities(exponents: dict[str, int] | None = None) -> dict[str, TensorCode]:
    """Ones in every tensor."""
    chosen = exponents or {}
    return {t.name: TensorCode("identity", (), (integers(t, chosen.get(t.name, -12)),)) for t in TARGETS}


def test_targets_are_the_parameters_in_order_with_the_maps_of_their_convolutions() -> None:
    maps = {target.name: target.positions for target in TARGETS}
    assert [target.name for target in TARGETS] == [spec.name for spec in ARCHITECTURE.parameters]
    assert [target.place for target in TARGETS] == list(range(len(TARGETS)))
    assert [(t.shape, t.kind) for t in TARGETS] == [(s.shape, s.kind) for s in ARCHITECTURE.parameters]
    assert {name: size for name, size in maps.items() if size} == {"0.weight": (3, 3), "3.weight": (2, 2)}


def test_a_shared_filter_has_the_map_of_its_first_convolution() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.filter, self.head = nn.Conv2d(1, 1, 2, bias=False), nn.Linear(4, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.filter(self.filter(x)).flatten(1))

    found = targets(capture(Twice(), torch.rand(2, 1, 4, 4)).architecture)
    assert {target.name: target.positions for target in found if target.positions} == {"filter.weight": (3, 3)}


def test_the_neutral_base_is_one_for_gains_and_zero_for_the_rest() -> None:
    for kind, value in (("weight", 0.0), ("bias", 0.0), ("scale", 1.0), ("table", 0.0)):
        found = base_values(Base.NEUTRAL, Target("w", (2, 3), kind), Draws(0, "w"), HELPER)
        assert (found.dtype, found.tolist()) == (np.float64, [[value] * 3] * 2)


def test_the_random_base_is_he_normal_for_weights_and_neutral_for_the_rest() -> None:
    draws = Draws(3, "w")
    found = base_values(Base.RANDOM, Target("w", (2, 3, 2), "weight"), draws, HELPER)
    normal = draws.normal("base", 12).reshape(2, 3, 2)
    np.testing.assert_array_equal(found, normal * (UNIT * math.sqrt(2.0 / 6)))
    single = base_values(Base.RANDOM, Target("w", (5, 1), "weight"), draws, HELPER)
    np.testing.assert_array_equal(single.ravel(), draws.normal("base", 5) * (UNIT * math.sqrt(2.0)))
    assert base_values(Base.RANDOM, Target("w", (2,), "bias"), draws, HELPER).tolist() == [0, 0]
    assert base_values(Base.RANDOM, Target("w", (2,), "scale"), draws, HELPER).tolist() == [1, 1]
    assert base_values(Base.RANDOM, Target("w", (2, 0), "weight"), draws, HELPER).shape == (2, 0)
    assert base_values(Base.RANDOM, Target("w", (0, 2), "weight"), draws, HELPER).shape == (0, 2)


def test_the_base_of_the_file_is_the_helpers_weights_of_the_same_shape() -> None:
    target = TARGETS[0]
    found = base_values(Base.FILE, target, Draws(0, "w"), PUBLIC)
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, PUBLIC.weights.values[target.name])
    for helper, other in ((HELPER, target), (PUBLIC, Target(target.name, (1, *target.shape), "weight"))):
        with pytest.raises(DecodeError, match="initial weights in the helper"):
            base_values(Base.FILE, other, Draws(0, "w"), helper)


def test_exact_codes_are_bit_patterns_of_any_shape() -> None:
    values = torch.tensor([[1.0, -0.0], [math.inf, 1e-45]], dtype=torch.float64).t()
    code = exact_code(values.requires_grad_())
    assert code.transform == "exact"
    assert code.coefficients[0].integers.tolist() == [[0x3F800000, 0x7F800000], [0x80000000, 1]]
    assert code.coefficients[0].exponent == 0
    assert exact_code(torch.tensor(2.0)).coefficients[0].integers.shape == ()


def bits_of(codes: dict[str, TensorCode]) -> dict[str, int]:
    return dict(write(HELPER, ComposedMessage(codes))[1].sections)


def test_an_exponent_is_coded_relative_to_the_one_before_of_the_same_transform_and_place() -> None:
    plain = bits_of(identities())
    same = bits_of(identities({target.name: -9 for target in TARGETS}))
    first, *others = [target.name for target in TARGETS]
    assert same[first] == plain[first] + 4, "three steps from -12: a signed number of five bits in place of one"
    assert [same[name] for name in others] == [plain[name] for name in others]
    message, _ = write(HELPER, ComposedMessage(identities({first: -9})))
    found = read_codes(MessageReader(message), HELPER).codes
    assert [found[target.name].coefficients[0].exponent for target in TARGETS] == [-9] + [-12] * len(others)


def test_another_transform_or_place_has_exponents_of_its_own() -> None:
    codes = identities()
    mean, kept = Coefficients(np.array([1, 2]), -20), integers(TARGETS[-2], -3)
    codes[TARGETS[-2].name] = TensorCode("heavy tail", (0,), (mean, kept))
    codes[TARGETS[-1].name] = TensorCode("heavy tail", (0,), (mean, integers(TARGETS[-1], -3)))
    message, _ = write(HELPER, ComposedMessage(codes))
    found = read_codes(MessageReader(message), HELPER).codes
    for target in TARGETS[-2:]:
        assert [array.exponent for array in found[target.name].coefficients] == [-20, -3]
    changed = dict(codes)
    changed[TARGETS[-1].name] = TensorCode(
        "heavy tail", (0,), (Coefficients(mean.integers, -3), integers(TARGETS[-1], -20))
    )
    assert bits_of(changed)[TARGETS[-1].name] > bits_of(codes)[TARGETS[-1].name]


def test_zeros_with_a_step_of_their_own_are_refused() -> None:
    target = TARGETS[0]
    zeros = {t.name: TensorCode("identity", (), (integers(t, value=0),)) for t in TARGETS}
    message, _ = write(HELPER, ComposedMessage(zeros))
    writer = MessageWriter(composed.FAMILY)
    reader = MessageReader(message)
    with reader.section("seed") as bits:
        assert bits.elias_gamma() == 1
    with writer.section("forged") as bits:
        bits.elias_gamma(1)
        bits.elias_gamma(NUMBERS["identity"])
        bits.elias_gamma(int(Base.NEUTRAL))
        bits.signed(1)
        composed.write_array(bits, np.zeros(target.shape, dtype=np.int64))
        bits.binary(0, 30)
    with pytest.raises(DecodeError, match="the step of the array before for one of zeros"):
        decode_message(writer.finish()[0], HELPER)


def members(chosen: Sequence[Target] = (TARGETS[0], TARGETS[-1])) -> tuple[dict[str, TensorCode], SubspaceCode]:
    """These tensors in one subspace of five dimensions."""
    codes = identities()
    for target in chosen:
        codes[target.name] = TensorCode("subspace", base=Base.RANDOM)
    settings = (int(subspace.Kind.SPARSE), 5, 0)
    scales = Coefficients(np.array([(-1) ** k * (k + 1) for k in range(len(chosen))]), -12)
    return codes, SubspaceCode(settings, (Coefficients(np.arange(1, 6), -8), scales))


@pytest.mark.parametrize("places", [(0,), (0, 3, 1), (0, len(TARGETS) - 1), tuple(range(len(TARGETS)))])
def test_members_are_parts_of_one_vector_on_their_bases(places: tuple[int, ...]) -> None:
    chosen = [TARGETS[place] for place in sorted(places)]
    codes, code = members(chosen)
    message, ledger = write(HELPER, ComposedMessage(codes, 4, code))
    assert [name for name, _ in ledger.sections][-2:] == ["subspace", "padding"]
    found = read_codes(MessageReader(message), HELPER)
    assert (found.seed, found.subspace.settings) == (4, code.settings)
    weights = expand(found, HELPER)
    sizes = [target.size for target in chosen]
    vector = subspace.expand(tuple(sizes), code.settings, code.coefficients, Draws(4, "subspace"))
    for number, target in enumerate(chosen):
        part = vector[sum(sizes[:number]) :][: target.size]
        base = base_values(Base.RANDOM, target, target.draws(4), HELPER)
        expected = (base + part.reshape(target.shape)).astype(np.float32)
        np.testing.assert_array_equal(weights[target.name].numpy(), expected)


def test_without_members_there_is_no_subspace() -> None:
    message, ledger = write(HELPER, ComposedMessage(identities()))
    assert "subspace" not in dict(ledger.sections)
    assert read_codes(MessageReader(message), HELPER).subspace is None


@pytest.mark.parametrize("what", ["operations", "coefficients"])
def test_a_message_may_use_all_that_is_allowed_and_not_one_more(what, monkeypatch) -> None:
    assert (composed.COEFFICIENTS_PER_PARAMETER, composed.SPARE_COEFFICIENTS) == (8, 1 << 20)
    codes, code = members()
    message = ComposedMessage(codes, 0, code)
    size = TARGETS[0].size + TARGETS[-1].size
    spent = {
        "operations": ("MAX_EXPANSION", 128 * size),
        "coefficients": (
            "SPARE_COEFFICIENTS",
            sum(t.size for t in TARGETS[1:-1]) + 5 + 2 - 8 * ARCHITECTURE.num_parameters,
        ),
    }
    name, limit = spent[what]
    monkeypatch.setattr(composed, name, limit)
    content, _ = write(HELPER, message)
    decode_message(content, HELPER)
    monkeypatch.setattr(composed, name, limit - 1)
    with pytest.raises(InputError, match="decodes within the limits"):
        write(HELPER, message)
    with pytest.raises(DecodeError, match="more with subspace"):
        decode_message(content, HELPER)


def test_coefficients_of_another_shape_are_no_message() -> None:
    codes = identities()
    codes[TARGETS[0].name] = TensorCode("identity", (), (Coefficients(np.zeros((2, 2), dtype=np.int64), 0),))
    shapes = re.escape(f"coefficients of shapes {[list(TARGETS[0].shape)]} for identity, got [2, 2]")
    with pytest.raises(InputError, match=shapes):
        write(HELPER, ComposedMessage(codes))


def test_too_long_a_message_is_not_written(monkeypatch) -> None:
    def too_long(self):
        raise ValueError("so many bits")

    monkeypatch.setattr(MessageWriter, "finish", too_long)
    with pytest.raises(InputError, match="a message within the limit, got so many bits"):
        write(HELPER, ComposedMessage(identities()))


def test_an_exact_tensor_takes_32_bits_a_number_and_not_one_less() -> None:
    codes = {target.name: exact_code(NETWORK.parameters[target.name]) for target in TARGETS}
    message, ledger = write(HELPER, ComposedMessage(codes))
    sections = dict(ledger.sections)
    assert [sections[target.name] for target in TARGETS] == [3 + 32 * target.size for target in TARGETS]
    read = read_codes(MessageReader(message), HELPER)
    assert {code.coefficients[0].exponent for code in read.codes.values()} == {0}
    found = expand(read, HELPER)
    for target in TARGETS:
        np.testing.assert_array_equal(found[target.name].numpy(), NETWORK.parameters[target.name].numpy())
    with pytest.raises(DecodeError):
        decode_message(message[:-5], HELPER)


def test_an_exact_tensor_may_be_the_end_of_the_file_or_empty() -> None:
    specs = (ParameterSpec("a", (3, 2), "weight"), ParameterSpec("b", (0, 2), "weight"), ParameterSpec("c", (), "bias"))
    helper = Helper((3,), 3, predictor=Architecture((3,), 3, (Node("r", "relu", ("input",), {}),), specs))
    values = {spec.name: torch.arange(math.prod(spec.shape)).reshape(spec.shape) + 0.5 for spec in specs}
    codes = {name: exact_code(value) for name, value in values.items()}
    message, ledger = write(helper, ComposedMessage(codes))
    assert dict(ledger.sections)["padding"] == 0, "so nothing follows the last number"
    decoded = decode_message(message, helper).classifier.weights
    assert all(torch.equal(decoded[name], value) for name, value in values.items())


@pytest.mark.parametrize(("number", "base"), [(1, Base.NEUTRAL), (2, Base.RANDOM), (3, Base.FILE)])
def test_bases_have_the_numbers_of_the_page_on_the_format(number: int, base: Base) -> None:
    writer = MessageWriter(composed.FAMILY)
    with writer.section("seed") as bits:
        bits.elias_gamma(1)
    for target in TARGETS:
        with writer.section(target.name) as bits:
            bits.elias_gamma(2)
            bits.elias_gamma(number)
    message = ComposedMessage({target.name: TensorCode("none", base=base) for target in TARGETS})
    assert write(PUBLIC, message)[0] == writer.finish()[0]
    found = read_codes(MessageReader(writer.finish()[0]), PUBLIC)
    assert {code.base for code in found.codes.values()} == {base}


def test_zeros_come_without_any_work(monkeypatch) -> None:
    """The costly transforms of a message of a few bytes are not computed."""
    codes, zeros = identities(), Coefficients(np.zeros(40, dtype=np.int64), -12)
    codes[TARGETS[0].name] = TensorCode("signs", (40, 0), (zeros,))
    content, _ = write(HELPER, ComposedMessage(codes))
    monkeypatch.setattr(type(TRANSFORMS[NUMBERS["signs"]]), "expand", None)
    assert not decode_message(content, HELPER).classifier.weights[TARGETS[0].name].any()


def test_moments_without_a_kept_entry_are_no_zeros() -> None:
    codes, target = identities(), TARGETS[-1]
    kept = Coefficients(np.zeros(target.shape, dtype=np.int64), -12)
    codes[target.name] = TensorCode("heavy tail", (0,), (Coefficients(np.array([4, 0]), 8), kept))
    weights = decode_message(write(HELPER, ComposedMessage(codes))[0], HELPER).classifier.weights
    assert weights[target.name].tolist() == np.full(target.shape, 16.0).tolist()


def test_what_a_decoded_network_says_of_itself() -> None:
    codes, code = members()
    codes[TARGETS[1].name] = exact_code(NETWORK.parameters[TARGETS[1].name])
    decoded = decode_message(write(HELPER, ComposedMessage(codes, 0, code))[0], HELPER)
    others = len(TARGETS) - 3
    assert decoded.description == f"composed network, tensors: 1 x exact, {others} x identity, 2 x subspace"


def test_a_local_layer_of_zeros_has_a_filter_of_zeros_for_each_position() -> None:
    codes = identities()
    target = TARGETS[0]
    codes[target.name] = TensorCode("filter projection", (2, 2), (Coefficients(np.zeros(4, dtype=np.int64), -12),))
    decoded = decode_message(write(HELPER, ComposedMessage(codes))[0], HELPER)
    weights = decoded.classifier.weights[target.name]
    assert weights.shape == (9, *target.shape)
    assert not weights.any()
    codes[target.name] = TensorCode("identity", (), (integers(target, value=0),))
    shared = decode_message(write(HELPER, ComposedMessage(codes))[0], HELPER)
    inputs = np.random.default_rng(0).random((3, 1, 5, 5), dtype=np.float32)
    assert torch.equal(decoded.classifier(inputs), shared.classifier(inputs))


def test_a_sketch_of_zeros_is_still_checked() -> None:
    codes = identities()
    target = next(t for t in TARGETS if t.shape == (4, 8))
    zeros = (Coefficients(np.zeros((3, 5), dtype=np.int64), -12),)
    codes[target.name] = TensorCode("sketch", (3, 5, 2, 12345), zeros)
    with pytest.raises(DecodeError, match="can be recovered"):
        decode_message(write(HELPER, ComposedMessage(codes))[0], HELPER)


@pytest.mark.filterwarnings("error")
def test_a_weight_too_large_for_float32_is_infinite_without_a_warning() -> None:
    codes = identities()
    target = next(t for t in TARGETS if t.shape == (4, 8))
    factors = [Coefficients(np.full(shape, 1 << 20, dtype=np.int64), 240) for shape in ((4, 1), (1, 8))]
    codes[target.name] = TensorCode("factors", (1,), tuple(factors))
    weights = expand(ComposedMessage(codes), HELPER)
    assert torch.isposinf(weights[target.name]).all()
