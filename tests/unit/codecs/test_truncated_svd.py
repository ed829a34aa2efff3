"""Truncated SVD: Lemma 1 to the last digit, the shorter of two forms, round trip, bad input."""

from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from bitcert import Helper, capture, decode_message
from bitcert.codecs.base import Selection
from bitcert.codecs.per_layer import PerLayer, Rule
from bitcert.codecs.quantiser import Uniform
from bitcert.codecs.truncated_svd import TruncatedSVD, truncate
from bitcert.coding import MessageReader
from bitcert.decoder.tensors import Base, read_codes
from bitcert.errors import InputError
from bitcert.network import Network


def low_rank(rows: int, columns: int, rank: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(rows, rank)) @ rng.normal(size=(rank, columns))


@pytest.fixture(scope="module")
def network() -> Network:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 36, 24), nn.ReLU(), nn.Linear(24, 4))
    with torch.no_grad():
        net[3].weight.copy_(torch.from_numpy(low_rank(24, 216, 3)))
    return capture(net, torch.rand(2, 1, 8, 8))


@pytest.fixture(scope="module")
def helper(network) -> Helper:
    return Helper((1, 8, 8), 4, predictor=network.architecture)


def codes(codec, network, helper):
    reader = MessageReader(codec.encode(network, helper=helper).message)
    return read_codes(reader, helper).codes


def weights(codec, network, helper) -> dict[str, np.ndarray]:
    decoded = decode_message(codec.encode(network, helper=helper).message, helper)
    return {name: value.double().numpy() for name, value in decoded.classifier.weights.items()}


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 12), st.integers(1, 15), st.sampled_from([0.001, 0.1, 0.5, 0.9, 1.0]))
def test_lemma_1_holds_exactly(seed, rows, columns, delta):
    rng = np.random.default_rng(seed)
    scales = np.exp(rng.normal(size=(1, columns)) * 2)
    matrix = rng.normal(size=(rows, columns)) * scales
    cut = truncate(matrix, "threshold", delta)
    spectral = np.linalg.norm(matrix, 2)
    error = np.linalg.norm(cut.left @ cut.right - matrix, 2)
    assert error <= delta * spectral * (1 + 1e-12) + 1e-12 * spectral
    assert cut.relative_error == pytest.approx(error / spectral, abs=1e-12)
    assert cut.stable_rank == pytest.approx(np.linalg.norm(matrix) ** 2 / spectral**2, rel=1e-10)
    assert 1 <= cut.rank <= cut.stable_rank / delta**2 * (1 + 1e-12)
    assert np.linalg.matrix_rank(cut.left @ cut.right) <= cut.rank


def test_the_steps_printed_in_the_two_proofs_are_false():
    """Arora: ||A||_F >= r delta ||A||_2; Zhang: ||A||_F^2 >= delta^2 ||A||_2 r. The lemma itself holds."""
    identity, small = np.eye(9), 0.1 * np.eye(9)
    assert truncate(identity, "threshold", 1.0).rank == 9 > np.linalg.norm(identity)
    assert truncate(small, "threshold", 1.0).rank * 0.1 > np.linalg.norm(small) ** 2


def test_options_cut_where_they_say():
    matrix = np.diag([4.0, 2.0, 1.0, 0.5])
    assert [truncate(matrix, "threshold", d).rank for d in (0.1, 0.25, 0.26, 0.6, 1.0)] == [4, 3, 2, 1, 1]
    total = 16 + 4 + 1 + 0.25
    assert [truncate(matrix, "energy", e).rank for e in (0.5, 16 / total + 0.01, 20.5 / total, 1.0)] == [1, 2, 3, 4]
    assert [truncate(matrix, "rank", r).rank for r in (0, 2, 4, 99)] == [0, 2, 4, 4]


def test_a_rank_beyond_the_matrix_adds_no_columns_of_rounding_errors():
    assert truncate(low_rank(30, 40, 5), "rank", 30).rank == 5


def test_a_layer_stays_factored_where_that_is_shorter(network, helper):
    found = codes(TruncatedSVD(threshold=0.01), network, helper)
    assert (found["3.weight"].transform, found["3.weight"].settings) == ("factors", (3,))
    assert found["0.weight"].transform == "identity"  # a random kernel [6, 9] has full rank
    rows = {row.layer: row for row in TruncatedSVD(threshold=0.01).theory(network).layers}
    assert {name: rows[name].details["factored"] for name in ("0.weight", "3.weight")} == {
        "0.weight": 0.0,
        "3.weight": 1.0,
    }
    assert rows["3.weight"].parameters == (24 + 216) * 3


def test_both_forms_decode_to_the_truncated_matrix(network, helper):
    codec = TruncatedSVD(energy=0.8, quantiser=Uniform(2.0**-12))
    made = weights(codec, network, helper)
    forms = {code.transform for code in codes(codec, network, helper).values()}
    assert forms == {"factors", "identity"}
    for name in ("0.weight", "3.weight", "5.weight"):
        cut = truncate(network.parameters[name].double().numpy(), "energy", 0.8)
        np.testing.assert_allclose(made[name].reshape(len(cut.left), -1), cut.left @ cut.right, atol=2e-3)


def test_the_choice_between_forms_is_by_bits(network, helper):
    """Neither form forced on all layers is shorter than the codec's choice."""
    written = dict(TruncatedSVD(energy=0.7).encode(network, helper=helper).ledger.sections)
    for row in TruncatedSVD(energy=0.7).theory(network).layers:
        assert written[row.layer] <= 1.05 * min(row.details["factored_bits"], row.details["dense_bits"]) + 40


def test_round_trip_and_ledger(network, helper):
    for codec in TruncatedSVD.strengths():
        compressed = codec.encode(network, helper=helper)
        decoded = codec.decode(compressed.message, helper)
        assert compressed.ledger.total_bits == 8 * len(compressed.message)
        assert decoded.ledger == compressed.ledger
        assert codec.encode(network, helper=helper).message == compressed.message
        assert decoded.classifier(np.zeros((2, 1, 8, 8), np.float32)).shape == (2, 4)


def test_strengths_go_from_long_to_short(network, helper):
    sizes = [len(codec.encode(network, helper=helper).message) for codec in TruncatedSVD.strengths()]
    assert all(later <= 1.02 * sooner for sooner, later in itertools.pairwise(sizes))
    assert sizes[-1] < sizes[0] / 2
    assert len({codec.label for codec in TruncatedSVD.strengths()}) == len(sizes)


def test_a_layer_too_small_for_the_rank_is_named(network, helper):
    with pytest.raises(InputError, match=r"a rank of at most \d+ for .*weight"):
        TruncatedSVD(rank=10**6).encode(network, helper=helper)


def test_zero_layers_cost_almost_nothing(network, helper):
    zero = Network(
        network.architecture, {k: torch.zeros_like(v) for k, v in network.parameters.items()}, network.report
    )
    for codec in TruncatedSVD.strengths():
        assert not any(made.any() for made in weights(codec, zero, helper).values())
        assert codec.theory(zero).parameters == 0


def test_theory_has_json_values_and_the_lemma(network):
    for codec in (*TruncatedSVD.strengths(), TruncatedSVD(rank=10**6)):
        theory = codec.theory(network)
        json.dumps(theory.describe(), allow_nan=False)
        for row in theory.layers:
            assert row.details["rank"] <= row.details["rank_bound"] * (1 + 1e-9)
            assert row.error <= row.details["delta"] * (1 + 1e-9)
        assert theory.parameters == sum(row.parameters for row in theory.layers)
    assert TruncatedSVD(rank=10**6).theory(network).error == 0.0


def test_differences_from_a_random_base_are_truncated(network, helper):
    codec = TruncatedSVD(threshold=0.001, selection=Selection(base=Base.RANDOM), quantiser=Uniform(2.0**-10))
    made = weights(codec, network, helper)
    np.testing.assert_allclose(made["3.weight"], network.parameters["3.weight"].numpy(), atol=0.02)
    with pytest.raises(InputError, match="a base without a file"):
        TruncatedSVD(selection=Selection(base=Base.FILE)).theory(network)


def test_layers_may_have_thresholds_of_their_own(network, helper):
    codec = PerLayer(rules=(Rule("*", TruncatedSVD(rank=1)), Rule("3.weight", TruncatedSVD(rank=2))))
    ranks = [code.settings for code in codes(codec, network, helper).values() if code.transform == "factors"]
    assert ranks == [(1,), (2,), (1,)]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"rank": 1, "energy": 0.5}, "one of rank, threshold and energy, got rank and energy"),
        ({"rank": -1}, "a whole number of at least 1"),
        ({"rank": math.nan}, "a whole number of at least 1"),
        ({"rank": math.inf}, "a whole number of at least 1"),
        ({"rank": True}, "a whole number of at least 1"),
        ({"threshold": 0.0}, "threshold above 0 and at most 1"),
        ({"threshold": 1.5}, "threshold above 0 and at most 1"),
        ({"threshold": math.nan}, "threshold above 0 and at most 1"),
        ({"energy": 0.0}, "energy above 0 and at most 1"),
    ],
)
def test_options_out_of_range_are_refused_in_one_sentence(options, words):
    with pytest.raises(InputError, match=words):
        TruncatedSVD(**options)


def test_weights_that_are_not_finite_are_refused(network, helper):
    bad = {**network.parameters, "3.weight": torch.full((24, 216), math.nan)}
    with pytest.raises(InputError, match=r"finite values in 3\.weight"):
        TruncatedSVD().encode(Network(network.architecture, bad, network.report), helper=helper)
    with pytest.raises(InputError, match="finite weights"):
        truncate(np.array([[math.inf]]), "rank", 1)


def test_matrices_of_any_scale_are_cut():
    for scale in (1e-200, 1e200):
        cut = truncate(np.diag([2.0, 1.0]) * scale, "threshold", 0.6)
        assert (cut.rank, cut.relative_error) == (1, pytest.approx(0.5))
