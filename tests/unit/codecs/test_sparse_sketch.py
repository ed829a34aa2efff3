"""The sketch as a codec: round trips where it recovers, a named fallback where it does not, honest counts."""

from __future__ import annotations

import functools
import json
import math

import numpy as np
import pytest
import torch
from torch import nn

from bitcert import Helper, Role, Sample, capture, certify
from bitcert.codecs.base import Codec, Rest, Selection
from bitcert.codecs.quantiser import Uniform
from bitcert.codecs.registry import CODECS
from bitcert.codecs.sparse_sketch import DistributedSparsity, SketchedLayer, SparseSketch
from bitcert.errors import DecodeError, InputError
from bitcert.network import Network

SMALL, LARGE, LAST = "1.weight", "3.weight", "5.weight"


@functools.cache
def sparse_network() -> Network:
    """A 24 x 36 layer with one non-zero a line, one that is too large, one that is dense."""
    rng = np.random.default_rng(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(36, 24), nn.ReLU(), nn.Linear(24, 150), nn.ReLU(), nn.Linear(150, 4))
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.normal_()
        net[1].weight.copy_(torch.from_numpy(np.eye(24, 36) * rng.choice([-2.0, 1.0, 3.0], (24, 1))))
        net[3].weight.mul_(torch.from_numpy((rng.random((150, 24)) < 0.01).astype(np.float32)))
    return capture(net, torch.rand(2, 1, 6, 6))


@functools.cache
def sample() -> Sample:
    rng = np.random.default_rng(0)
    return Sample(rng.random((30, 1, 6, 6), dtype=np.float32), rng.integers(0, 4, 30), 4, Role.TRAIN, "noise")


def codec(**options: object) -> SparseSketch:
    return SparseSketch(**{"keep": 1.0, **options})


@functools.cache
def explained() -> tuple[SketchedLayer, ...]:
    return codec().explain(sparse_network())


def test_layers_are_sketched_where_they_can_be_recovered_and_named_otherwise():
    small, large, last = explained()
    assert (small.used, small.reason) == (True, "recovered exactly")
    assert not large.used
    assert "too large to recover exactly" in large.reason
    assert not last.used
    assert "4 x 150 is too large" in last.reason


def test_a_sketch_no_smaller_than_its_matrix_is_not_used():
    torch.manual_seed(0)
    (record,) = codec().explain(capture(nn.Sequential(nn.Flatten(), nn.Linear(36, 4)), torch.rand(2, 1, 6, 6)))
    assert (record.used, record.sketch_shape) == (False, (4, 36))
    assert record.reason == "the sketch would not be smaller than the 4 x 36 matrix"


def test_the_sketch_is_lossless():
    """The same outputs as direct sparse coding of the same integers, bit for bit."""
    network, options = sparse_network(), {"selection": Selection(rest=Rest.EXACT)}
    sketched = codec(**options).encode(network, sample())
    direct = CODECS["prune"](keep=1.0, **options).encode(network, sample())
    outputs = [codec().decode(c.message, c.helper).classifier(sample().inputs) for c in (sketched, direct)]
    assert torch.equal(*outputs)
    assert sketched.message != direct.message
    certificate = certify(sketched, sample())
    assert "1 x sketch" in certificate.description


def test_direct_coding_is_shorter_and_the_counts_say_so():
    """The sketch determines X, so no code of it can beat the best code of X."""
    (small, *_) = explained()
    assert small.sketch_bits > small.direct_bits
    assert small.naive_bits == pytest.approx(math.prod(small.sketch_shape) * math.log2(small.alphabet))
    (refused, *_) = codec(only_if_shorter=True).explain(sparse_network())
    assert (refused.used, refused.reason) == (False, "the direct code is shorter")
    lengths = [len(codec(only_if_shorter=o).encode(sparse_network(), sample()).message) for o in (False, True)]
    assert lengths[1] < lengths[0]


def test_a_sketch_that_is_too_small_is_not_used():
    (small, *_) = codec(scale=0.3).explain(sparse_network())
    assert (small.used, small.reason) == (False, "l1 minimisation does not give the matrix back")
    compressed = codec(scale=0.3).encode(sparse_network(), sample())
    assert "sketch" not in certify(compressed, sample()).description


def test_distributed_sparsity():
    matrix = np.array([[1, 0, 2], [0, 0, 3]])
    assert DistributedSparsity.of(matrix) == DistributedSparsity(3, 2, 2, False)
    assert DistributedSparsity.of(np.eye(3, dtype=np.int64)) == DistributedSparsity(3, 1, 1, True)
    assert DistributedSparsity.of(np.zeros((2, 2), dtype=np.int64)).nnz == 0


def test_theory_counts_every_layer_and_names_what_was_not_used():
    theory = codec().theory(sparse_network())
    j, p = 1, 36
    assert theory.layers[0].parameters == pytest.approx(j * p * math.log(p) ** 2)
    assert theory.parameters == pytest.approx(sum(row.parameters for row in theory.layers))
    assert [row.details["used"] for row in theory.layers] == [1, 0, 0]
    assert any(note.startswith(f"{LARGE}: ") and "too large" in note for note in theory.notes)
    assert [c.holds for c in theory.conditions] == [False, False, False]
    json.dumps(theory.describe(), allow_nan=False)


def test_layers_too_large_to_try_are_sized_all_the_same(monkeypatch):
    monkeypatch.setattr("bitcert.codecs.sparse_sketch._COUNTED_SIZE", 200)
    records = codec(quantiser=Uniform(0.5)).explain(sparse_network())
    assert all(record.naive_bits > 0 for record in records)
    assert math.isinf(records[1].sketch_bits)
    json.dumps(codec().theory(sparse_network()).describe(), allow_nan=False)


def test_all_zero_layers_need_no_sketch():
    net = nn.Sequential(nn.Flatten(), nn.Linear(36, 4))
    nn.init.zeros_(net[1].weight)
    network = capture(net, torch.rand(2, 1, 6, 6))
    (record,) = codec(delta=7).explain(network)
    assert (record.used, record.reason) == (False, "all zero")


def test_an_ensemble_with_more_edges_than_rows_is_refused():
    with pytest.raises(InputError, match="edges"):
        codec(delta=30).encode(sparse_network(), sample())


@pytest.mark.parametrize("options", [{"keep": 0.0}, {"keep": 2.0}, {"scale": math.nan}, {"scale": 0.0}, {"delta": 0}])
def test_options_that_make_no_sense_are_one_sentence(options):
    with pytest.raises(InputError):
        codec(**options)


def test_it_is_registered():
    assert CODECS["sketch"] is SparseSketch
    assert all(isinstance(strength, Codec) for strength in SparseSketch.strengths())


def test_a_damaged_sketch_is_another_message_or_refused():
    """Whatever bit flips, decoding ends with a network or with a sentence."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(36, 20, bias=False))
    with torch.no_grad():
        net[1].weight.mul_(torch.eye(20, 36))
    network = capture(net, torch.rand(2, 1, 6, 6))
    compressed = codec().encode(network, sample(), helper=Helper((1, 6, 6), 20, predictor=network.architecture))
    assert codec().explain(network)[0].used
    refused = 0
    for position in np.random.default_rng(0).integers(0, 8 * len(compressed.message), 15):
        damaged = bytearray(compressed.message)
        damaged[position >> 3] ^= 1 << (position & 7)
        try:
            codec().decode(bytes(damaged), compressed.helper)
        except DecodeError:
            refused += 1
    assert refused >= 10
