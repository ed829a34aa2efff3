"""Preprocessing and the helper string: values, refusals, a hash that notices every field."""

from __future__ import annotations

import hashlib
import json
import math

import numpy as np
import pytest
import torch
from torch import nn

from bitcert.coding import MessageReader, MessageWriter
from bitcert.coding.message import FORMAT_VERSION
from bitcert.data import Column, Role, Sample, Schema, Table
from bitcert.decoder import Helper, HelperWeights, Preprocessing
from bitcert.decoder.helper import count_unusual_scalars, examples_at_a_time, is_unusual, read_classes, write_classes
from bitcert.decoder.program import decoder_hash
from bitcert.errors import DecodeError, InputError
from bitcert.network import Architecture, OpaqueModel, capture
from bitcert.network.nodes import Node, ParameterSpec


def test_values() -> None:
    pixels = np.array([[[[0, 255]], [[51, 102]]]], dtype=np.uint8)
    x = Preprocessing(255.0, (0.5, 0.0), (0.25, 2.0))(pixels)
    assert x.dtype == torch.float32
    np.testing.assert_allclose(x, [[[[-2, 2]], [[0.1, 0.2]]]], rtol=1e-6)
    assert Preprocessing()(pixels).tolist() == pixels.tolist()


def test_channels_of_vectors_are_their_entries() -> None:
    x = Preprocessing(mean=(1.0, 2.0), std=(1.0, 4.0))(np.array([[3.0, 4.0]]))
    assert x.tolist() == [[2.0, 0.5]]


@pytest.mark.parametrize("scale", [0.0, -1.0, math.nan, math.inf])
def test_impossible_scales_are_refused(scale: float) -> None:
    with pytest.raises(InputError, match="scale"):
        Preprocessing(scale=scale)


def test_whole_numbers_make_the_preprocessing_that_a_certificate_says() -> None:
    """A reader of ``"scale": 255`` gets 255.0; the helper's hash must be the same."""
    whole = Preprocessing(255, [0, np.float32(1)], (1, 2))
    assert whole == Preprocessing(255.0, (0.0, 1.0), (1.0, 2.0))
    numbers = (whole.scale, *whole.mean, *whole.std)
    assert [type(each) for each in numbers] == [float] * 5
    assert Helper((2, 3), 2, whole).content_hash == Helper((2, 3), 2, Preprocessing(255.0, (0, 1), (1, 2))).content_hash


@pytest.mark.parametrize(
    ("mean", "std"), [((0.0,), (0.0,)), ((0.0,), (-1.0,)), ((math.nan,), (1.0,)), ((0.0,), (math.inf,))]
)
def test_impossible_statistics_are_refused(mean: tuple[float, ...], std: tuple[float, ...]) -> None:
    with pytest.raises(InputError, match="std"):
        Preprocessing(1.0, mean, std)


def test_as_many_means_as_stds() -> None:
    with pytest.raises(InputError, match="2 means and 1 stds"):
        Preprocessing(1.0, (0.0, 0.0), (1.0,))


@pytest.mark.parametrize("shape", [(2, 1, 4, 4), (2, 4, 4), (2,)])
def test_statistics_for_another_number_of_channels_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="3 channels"):
        Preprocessing(1.0, (0.0,) * 3, (1.0,) * 3)(np.zeros(shape))


def sample(dtype: type, name: str, side: int = 8) -> Sample:
    labels = np.array([0, 1, 0])
    return Sample(np.zeros((3, 1, side, side), dtype=dtype), labels, 2, Role.TRAIN, name)


@pytest.mark.parametrize(
    ("dtype", "name", "side", "scale"),
    [
        (np.uint8, "digits", 8, 16.0),
        (np.uint8, "mnist", 8, 255.0),
        (np.uint8, "digits", 9, 255.0),
        (np.float32, "digits", 8, 1.0),
    ],
)
def test_usual_preprocessing(dtype: type, name: str, side: int, scale: float) -> None:
    assert Preprocessing.usual(sample(dtype, name, side)) == Preprocessing(scale=scale)


def test_the_hash_notices_every_field() -> None:
    one = Helper((1, 8, 8), 3)
    others = [
        Helper((1, 8, 9), 3),
        Helper((1, 8, 8), 4),
        Helper((1, 8, 8), 3, classes_inferred=True),
        Helper((1, 8, 8), 3, Preprocessing(scale=2.0)),
        Helper((1, 8, 8), 3, Preprocessing(mean=(0.5,), std=(1.0,))),
        Helper((1, 8, 8), 3, Preprocessing(mean=(0.5,), std=(2.0,))),
    ]
    assert len({helper.content_hash for helper in (one, *others)}) == len(others) + 1
    assert Helper((1, 8, 8), 3).content_hash == one.content_hash


USUAL = [0.0, 0.01, 0.1, 0.125, 0.2, 0.25, 0.5, 1.0, 2.0, 3.0, 6.0, 20.0, *(float(f"1e-{k}") for k in range(3, 13))]
NETWORK = capture(nn.Linear(2, 3), torch.zeros(2, 2)).architecture
WEIGHTS = HelperWeights({"weight": np.ones((3, 2), np.float32), "bias": np.zeros(3, np.float32)})
SPECS = (ParameterSpec("weight", (3, 2), "weight"),)
OPAQUE = OpaqueModel(nn.Linear(2, 3, bias=False), "mine:make", SPECS, 3, (2,), sources={"mine": b"source"})


def scaled(*values: float) -> Architecture:
    """A graph that multiplies by these numbers, one after the other."""
    nodes, last = [], "input"
    for k, value in enumerate(values):
        nodes.append(Node(f"n{k}", "mul_scalar", (last,), {"value": value}))
        last = f"n{k}"
    return Architecture((3,), 3, tuple(nodes), ())


def test_customary_numbers() -> None:
    assert not any(is_unusual(sign * value) for value in USUAL for sign in (1, -1))
    assert all(map(is_unusual, [0.3, 4.0, 1e-2 + 1e-9, 1e-13, 0.02, 10.0, 100.0]))
    assert count_unusual_scalars(scaled(0.3, 0.5, 4.0, -0.3)) == 3


def test_numbers_that_nothing_codes_are_limited() -> None:
    statistics = Preprocessing(1.0, (0.0,) * 127, (1.0,) * 127)
    assert Helper((3,), 3, statistics, scaled(0.3, 4.0)).num_constants == 256
    with pytest.raises(InputError, match="at most 256 unusual constants"):
        Helper((3,), 3, statistics, scaled(0.3, 4.0, 5.0))
    assert Helper((3,), 3, statistics).num_constants == 254


def test_precision_is_that_of_the_network() -> None:
    x = Preprocessing(3.0, (0.1,), (0.7,))(np.array([[1.0]]), torch.float64)
    assert x.dtype == torch.float64
    assert x.item() == (1.0 / 3.0 - 0.1) / 0.7
    assert Preprocessing(3.0)(np.array([0.1]), torch.float64).item() == float(np.float32(0.1)) / 3.0


def test_vectors_of_the_wrong_length_are_refused() -> None:
    with pytest.raises(InputError, match=r"inputs of 1 channels, got inputs of shape \[2\]"):
        Preprocessing(1.0, (0.0,), (1.0,))(np.zeros((3, 2)))
    with pytest.raises(InputError, match="inputs of 1 channels"):
        Preprocessing(1.0, (0.0,), (1.0,))(np.zeros(1))


@pytest.mark.parametrize(("name", "scale"), [("digits (rest)", 16.0), ("digits2 (rest)", 255.0)])
def test_a_part_of_the_digits_has_their_grey_levels(name: str, scale: float) -> None:
    assert Preprocessing.usual(sample(np.uint8, name)).scale == scale


def test_whose_number_of_classes_was_fixed_beforehand() -> None:
    fixed = [
        (Helper((2,), 3), False),
        (Helper((2,), 3, predictor=NETWORK), True),
        (Helper((2,), 3, predictor=NETWORK, weights=WEIGHTS), True),
        (Helper((2,), 4, predictor=NETWORK, weights=WEIGHTS), False),
        (Helper((2,), 4, predictor=NETWORK), True),
        (Helper((2,), 3, predictor=OPAQUE), True),
        (Helper((2,), 4, predictor=OPAQUE, weights=WEIGHTS), True),
        (Helper((2,), 3, weights=WEIGHTS), False),
    ]
    assert [helper.fixes_classes for helper, _ in fixed] == [fixes for _, fixes in fixed]
    assert Helper((2,), 4, predictor=NETWORK, weights=WEIGHTS, classes_inferred=True).classes_inferred
    with pytest.raises(InputError, match="width was fixed beforehand"):
        Helper((2,), 3, predictor=NETWORK, classes_inferred=True)


@pytest.mark.parametrize(
    ("shape", "classes", "examples"),
    [
        ((10,), 2, 1000),
        ((1 << 18,), 2, 256),
        ((1 << 26,), 2, 1),
        ((1 << 27,), 2, 1),
        ((2,), 1 << 20, 8),
        ((3, 64, 64), 2, 256),
        ((3, 32, 33), 2, 992),
        ((512, 64, 64), 2, 32),
        ((1 << 10, 1 << 10), 2, 64),
        ((2, 1 << 20), 2, 32),
    ],
)
def test_a_built_in_family_is_evaluated_on_as_many_examples_as_fit(shape: tuple, classes: int, examples: int) -> None:
    """Of values 2^26 at once, of images 64 maps, of classes 8 values each."""
    assert examples_at_a_time(None, shape, classes) == Helper(shape, classes).batch_size == examples


def test_a_network_is_evaluated_on_as_many_examples_as_its_values_allow() -> None:
    wide = capture(nn.Linear(2, 1 << 18, bias=False), torch.zeros(2, 2)).architecture
    assert examples_at_a_time(wide, (2,), 2) == min(256, (1 << 30) // wide.propagation.peak)
    filters = nn.Sequential(nn.Conv2d(1, 1, 7), nn.Flatten(), nn.Linear(62500, 2))
    costly = capture(filters, torch.zeros(2, 1, 256, 256)).architecture
    assert costly.propagation.peak == 65536 + 50 * 62500, "all patches of a map of 250 x 250, beside input and output"
    assert examples_at_a_time(costly, (1, 256, 256), 2) == 336, "of 2^30 entries at once"
    image = capture(nn.Sequential(nn.Flatten(), nn.Linear(4096, 2)), torch.zeros(2, 1, 64, 64)).architecture
    assert examples_at_a_time(image, (1, 64, 64), 2) == 1000, "it makes no 64 maps"
    assert examples_at_a_time(OPAQUE, (1, 64, 64), 2) == 1000


def test_what_a_certificate_says() -> None:
    said = Helper((2,), 3, Preprocessing(2.0, (0.5, 1.0), (1.0, 4.0)), NETWORK, weights=WEIGHTS).describe()
    common = {
        "decoder": decoder_hash(),
        "message_format": FORMAT_VERSION,
        "input_shape": [2],
        "num_classes": 3,
        "classes_inferred": False,
        "scale": 2.0,
        "mean": [0.5, 1.0],
        "std": [1.0, 4.0],
        "architecture": NETWORK.content_hash,
        "factory": None,
    }
    assert said == {**common, "weights": WEIGHTS.content_hash}
    plain = {"scale": 1.0, "mean": [], "std": []}
    opaque = Helper((2,), 3, predictor=OPAQUE)
    own = {"architecture": OPAQUE.content_hash, "factory": "mine:make", "sources": OPAQUE.describe_sources()}
    assert opaque.describe("other") == {**common, **plain, **own, "decoder": "other"}
    text = json.dumps({**common, **plain, **own}, sort_keys=True)
    assert opaque.content_hash == hashlib.sha256(text.encode()).hexdigest()
    assert Helper((2,), 3, classes_inferred=True).describe() == {
        **common,
        **plain,
        "architecture": None,
        "classes_inferred": True,
    }
    schema = Schema((Column("a", missing=True),), "y")
    of_table = Helper((2,), 3, Preprocessing(2.0, (0.5, 1.0), (1.0, 4.0)), NETWORK, table=Table(schema, ("a", "y")))
    assert of_table.describe() == {**common, "table": schema.hash}


def test_the_helper_of_a_sample() -> None:
    stated = sample(np.uint8, "digits")
    inferred = Sample.from_arrays(stated.inputs, stated.labels, Role.TRAIN, "digits")
    own = Preprocessing(7.0)
    assert Helper.for_sample(stated).describe() == Helper((1, 8, 8), 2, Preprocessing(16.0)).describe()
    assert Helper.for_sample(inferred).classes_inferred
    assert Helper.for_sample(inferred, preprocessing=own).preprocessing == own
    network = capture(nn.Sequential(nn.Flatten(), nn.Linear(64, 2)), torch.zeros(2, 1, 8, 8)).architecture
    made = Helper.for_sample(inferred, network, own, WEIGHTS)
    assert (made.predictor, made.weights, made.classes_inferred) == (network, WEIGHTS, False)


def test_only_a_number_of_classes_that_the_labels_told_is_coded() -> None:
    told, stated = Helper((2,), 5, classes_inferred=True), Helper((2,), 5)
    data, ledgers = {}, {}
    for helper in (told, stated):
        writer = MessageWriter(9)
        write_classes(writer, helper)
        data[helper], ledger = writer.finish()
        ledgers[helper] = dict(ledger.sections)
    assert ledgers[told]["number of classes"] == 5, "Elias gamma of 4"
    assert "number of classes" not in ledgers[stated]
    reader = MessageReader(data[told])
    read_classes(reader, told)
    assert dict(reader.finish().sections) == ledgers[told]
    read_classes(MessageReader(data[stated]), stated)
    with pytest.raises(DecodeError, match="for 6 classes, got 5"):
        read_classes(MessageReader(data[told]), Helper((2,), 6, classes_inferred=True))
