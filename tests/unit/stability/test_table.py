"""The table of layers: Arora's effective parameters from worst values, contraction and spread of the right layers."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from bitcert import capture
from bitcert.stability.layers import Structure
from bitcert.stability.profile import Reduced
from bitcert.stability.reduction import reduce_values
from bitcert.stability.table import (
    contractions_after,
    effective_parameters,
    layer_rows,
    measure_weights,
)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(2, 3, 5, stride=2, padding=1, bias=False),
        nn.ReLU(),
        nn.Conv2d(3, 4, 3, padding=1),
        nn.ReLU(),
        nn.Tanh(),
        nn.Flatten(),
        nn.Linear(36, 6),
        nn.Linear(6, 3),
    )
    return capture(net, torch.zeros(2, 2, 7, 7))


@pytest.fixture(scope="module")
def structure(network):
    return Structure.of(network.architecture)


def column(*values):
    return np.array(values, float)


def distributions(structure):
    """Two examples; what is worse for the bound stands first."""

    def many(name, places, low, high):
        return tuple(reduce_values(column(low + k, high + k), name, place, zeta=0.5) for k, place in enumerate(places))

    layers = [f"layer {i}" for i in (1, 2, 3, 4)]
    return {
        "layer_cushion": many("layer_cushion", layers, 0.1, 0.2),
        "minimal_interlayer_cushion": many("minimal_interlayer_cushion", layers, 0.3, 0.4),
        "minimal_interlayer_cushion_unclipped": many("minimal_interlayer_cushion_unclipped", layers, 0.5, 0.6),
        "contraction": many("contraction", layers, 3.0, 2.0),
        "jacobian_spread": many("jacobian_spread", [f"{i}→{j}" for i, j in structure.pairs], 7.0, 5.0),
    }


@pytest.fixture(scope="module")
def rows(network, structure):
    weights = measure_weights(network.architecture, structure, network.parameters, spectra=False)
    return layer_rows(network.architecture, structure, weights, distributions(structure))


def test_what_the_rows_say_of_the_layers(rows):
    first, second, third, _ = rows
    assert (first.shape, first.channels, first.positions) == ((3, 2, 5, 5), 3, 9)
    assert (first.kernel_size, first.stride, first.parameters) == (5, 2, 150)
    assert second.parameters == 4 * 3 * 9 + 4
    assert (third.positions, third.kernel_size, third.parameters) == (1, 1, 36 * 6 + 6)


def test_norms(rows, network):
    for row, name in zip(rows, ("0.weight", "2.weight", "6.weight", "7.weight"), strict=True):
        matrix = network.parameters[name].double().flatten(1)
        singular = torch.linalg.svdvals(matrix)
        assert row.frobenius == pytest.approx(float(matrix.norm()), rel=1e-9)
        assert row.spectral_reshaped == pytest.approx(float(singular[0]), rel=1e-9)
        assert row.stable_rank == pytest.approx(float((singular**2).sum() / singular[0] ** 2), rel=1e-9)
        if row.op == "linear":
            assert row.spectral_operator == pytest.approx(row.spectral_reshaped, rel=1e-9)


def test_singular_values_of_every_layer(network, structure):
    weights = measure_weights(network.architecture, structure, network.parameters, spectra=True)
    for layer, row in zip(structure.layers, weights, strict=True):
        expected = torch.linalg.svdvals(network.parameters[layer.weight].double().flatten(1))
        assert row.spectrum.index == layer.index
        np.testing.assert_allclose(row.spectrum.singular_values, expected, rtol=1e-6, atol=1e-9)


def test_tails_of_a_layer_large_enough_for_a_fit():
    torch.manual_seed(0)
    network = capture(nn.Sequential(nn.Linear(80, 60), nn.Linear(60, 3)), torch.zeros(2, 80))
    structure = Structure.of(network.architecture)
    large, small = measure_weights(network.architecture, structure, network.parameters, spectra=True)
    assert large.weight_tail.density_exponent > 1
    assert 0 < large.weight_tail.ks_distance < 1
    assert large.eigen_tail.num_tail <= 60
    assert large.eigen_tail.xmin <= large.spectrum.singular_values[0] ** 2
    assert set(large.weight_tail.compared) <= {"lognormal", "exponential"}
    assert all(len(pair) == 2 and 0 <= pair[1] <= 1 for pair in large.weight_tail.compared.values())
    assert small.eigen_tail is None  # three eigenvalues have no tail


def test_contraction_before_and_after_a_layer(rows):
    # layers 1 to 4 have the worst contractions 3, 4, 5, 6 before them
    assert [row.contraction.worst for row in rows] == [3.0, 4.0, 5.0, 6.0]
    assert [row.contraction.zeta for row in rows] == [2.0, 3.0, 4.0, 5.0]
    assert [row.contraction_after.worst for row in rows] == [4.0, 5.0, 6.0, 1.0]
    assert [row.contraction_after.zeta for row in rows] == [3.0, 4.0, 5.0, 1.0]


def test_beta_is_the_largest_over_the_pairs_of_a_layer(structure, rows):
    # pairs are ordered by the later layer: 1→2, 1→3, 2→3, 1→4, 2→4, 3→4 with spreads 7, 8, 9, 10, 11, 12
    assert structure.pairs == ((1, 2), (1, 3), (2, 3), (1, 4), (2, 4), (3, 4))
    assert [row.beta.worst for row in rows] == [10.0, 11.0, 12.0, 1.0]
    assert [row.beta.zeta for row in rows] == [8.0, 9.0, 10.0, 1.0]


def test_effective_parameters_are_arora_table_1(rows):
    first, second, _, last = rows
    # c^2 beta^2 ceil(5/2)^2 / (mu^2 mu_to^2), with the minima of the cushions
    assert first.effective_parameters.worst == pytest.approx(3**2 * 10**2 * 3**2 / (0.1**2 * 0.3**2))
    assert first.effective_parameters.zeta == pytest.approx(2**2 * 8**2 * 3**2 / (0.2**2 * 0.4**2))
    assert first.compression_percent.worst == pytest.approx(100 * first.effective_parameters.worst / 150)
    assert second.effective_parameters.worst == pytest.approx(4**2 * 11**2 * 3**2 / (1.1**2 * 1.3**2))
    assert last.effective_parameters.worst == pytest.approx(6**2 / (3.1**2 * 3.3**2))


def test_erratum_19_the_other_contraction_is_given_beside_it(rows):
    first, _, _, last = rows
    after = first.effective_parameters_after
    assert after.worst == pytest.approx(4**2 * 10**2 * 3**2 / (0.1**2 * 0.3**2))
    assert after.zeta == pytest.approx(3**2 * 8**2 * 3**2 / (0.2**2 * 0.4**2))
    assert last.effective_parameters_after.worst == pytest.approx(1 / (3.1**2 * 3.3**2))


@pytest.mark.parametrize("place", range(4))
def test_effective_parameters_need_every_part(place):
    parts = [0.5, 0.5, 1.0, 1.0]
    parts[place] = None
    assert effective_parameters(*parts, 1) is None


def test_effective_parameters_are_infinite_without_a_cushion():
    assert effective_parameters(0.0, 0.5, 1.0, 1.0, 1) == math.inf
    assert effective_parameters(0.5, 0.5, 1.0, math.inf, 1) == math.inf


def test_quantities_that_were_not_measured_leave_gaps(network, structure):
    weights = measure_weights(network.architecture, structure, network.parameters, spectra=False)
    rows = layer_rows(network.architecture, structure, weights, {})
    for row in rows:
        assert row.layer_cushion == row.minimal_cushion == row.contraction == Reduced(None, None)
        assert row.effective_parameters == row.compression_percent == Reduced(None, None)
        assert row.frobenius > 0


def test_contractions_after_stop_at_the_next_layer_and_branch():
    class Branching(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, x):
            x = self.a(x)
            return self.c(torch.relu(x) + torch.tanh(self.b(torch.sigmoid(x))))

    network = capture(Branching(), torch.zeros(2, 4))
    found = Structure.of(network.architecture)
    assert found.feeds == ((0,), (1,), (1, 2))
    contraction = [reduce_values(column(worst), "contraction", f"layer {i}") for i, worst in ((1, 1), (2, 3), (3, 2))]
    # layer a feeds b and c, layer b feeds c only
    assert [c.worst for c in contractions_after(found, contraction)] == [3.0, 2.0, 1.0]


def test_distances_from_initial_weights(network, structure):
    initial = {name: value + 0.5 for name, value in network.parameters.items()}
    architecture, parameters = network.architecture, network.parameters
    first, *_ = measure_weights(architecture, structure, parameters, spectra=False, initial=initial)
    size = 3 * 50
    assert first.distance_frobenius == pytest.approx(0.5 * size**0.5, rel=1e-6)
    assert first.distance_21 == pytest.approx(3 * 0.5 * 50**0.5, rel=1e-6)  # one term for each of 3 filters
