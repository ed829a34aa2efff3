"""Norms, cushions and spreads of Jacobians against explicit ones; the estimator against the exact mode."""

import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from bitcert.stability import estimates
from bitcert.stability.adjacent import adjacent_pairs
from bitcert.stability.estimates import plan_jacobians, prepare_jacobians
from bitcert.stability.jacobians import JacobianPlan, SweepPlan, interlayer, jacobian_norms
from bitcert.stability.layers import Structure
from bitcert.stability.linearisation import Linearisation
from bitcert.stability.settings import MeasureSettings
from tests.reference import measure_naive as naive
from tests.unit.stability import nets


def exact_plan(net):
    structure = Structure.of(net.architecture)
    return JacobianPlan.exact(net.architecture, structure, next(iter(net.parameters.values())))


def explicit(net, structure, i, j, row):
    low, high = structure.layers[i - 1], structure.layers[j - 1]
    x = net.x[row : row + 1]
    jacobian = naive.jacobian(net.architecture, net.parameters, x, low.node, high.node)
    value = net.architecture.activations(x, net.parameters)[low.node][0]
    return jacobian.reshape(-1, value.numel()), value


def naive_spread(jacobian, value, layer):
    """Definition 9 by a loop over the positions."""
    columns = jacobian.square().sum(0).reshape(value.shape)
    per_channel = columns.movedim(layer.channel_axis, 0) if layer.op == "linear" else columns
    per_channel = per_channel.reshape(layer.channels, -1)
    largest = max(float(per_channel[:, p].sum()) ** 0.5 for p in range(layer.positions))
    return layer.positions**0.5 * largest / float(jacobian.norm())


@pytest.mark.parametrize("name", nets.NAMES)
def test_exact_mode_equals_explicit_jacobians(name):
    net = nets.build(name)
    structure = Structure.of(net.architecture)
    context = net.context()
    settings = MeasureSettings(exact=True, dtype="float64")
    found = interlayer(context, settings, prepare_jacobians(context.linearisation, structure, settings))
    assert found["jacobian_norm"].shape == (len(net.x), len(structure.pairs))
    assert not found["jacobian_error"].any()
    for column, (i, j) in enumerate(structure.pairs):
        for row in range(len(net.x)):
            jacobian, value = explicit(net, structure, i, j, row)
            norm = float(jacobian.norm())
            assert float(found["jacobian_norm"][row, column]) == pytest.approx(norm, rel=1e-9, abs=1e-12)
            image = float((jacobian @ value.flatten()).norm())
            layer = structure.layers[i - 1]
            cushion = layer.positions**0.5 * image / (norm * float(value.norm()))
            assert float(found["interlayer_cushion"][row, column]) == pytest.approx(cushion, rel=1e-9)
            expected = naive_spread(jacobian, value, layer)
            assert float(found["jacobian_spread"][row, column]) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("name", nets.NAMES)
def test_neighbours_need_no_sweep_and_agree_with_one(name):
    net = nets.build(name)
    structure = Structure.of(net.architecture)
    adjacent = adjacent_pairs(net.architecture, structure)
    linearisation = Linearisation(net.architecture, net.parameters, net.x)
    empty = net.x.new_zeros(0, 0)
    swept = JacobianPlan(structure, frozenset(), {j: SweepPlan(empty, empty, exact=True) for _, j in structure.pairs})
    short, full = jacobian_norms(linearisation, exact_plan(net)), jacobian_norms(linearisation, swept)
    assert torch.allclose(short.norm, full.norm, rtol=1e-10)
    assert torch.allclose(short.spread, full.spread, rtol=1e-10)
    expected = {
        "mlp": {(1, 2), (2, 3), (3, 4)},
        "lenet": {(1, 2), (2, 3), (3, 4)},
        # the pool's windows overlap before layer 4
        "strided": {(1, 2), (2, 3)},
    }
    if name in expected:
        assert adjacent == expected[name]


def test_rows_in_chunks_are_the_same_rows(monkeypatch):
    net = nets.build("lenet")
    linearisation = Linearisation(net.architecture, net.parameters, net.x)
    whole = jacobian_norms(linearisation, exact_plan(net))
    monkeypatch.setattr(sys.modules["bitcert.stability.jacobians"], "CHUNK_ELEMENTS", 1)
    assert torch.allclose(jacobian_norms(linearisation, exact_plan(net)).norm, whole.norm, rtol=1e-12)


def wide(depth=5, width=48, outputs=4):
    """A trained-looking chain (decaying singular values) wide enough to be estimated."""
    generator = torch.Generator().manual_seed(5)
    layers = []
    for k in range(depth):
        layer = nn.Linear(width, width if k < depth - 1 else outputs, bias=True)
        u = torch.linalg.qr(torch.randn(width, width, generator=generator))[0][: layer.out_features]
        scales = 0.93 ** torch.arange(width, dtype=torch.float32)
        v = torch.linalg.qr(torch.randn(width, width, generator=generator))[0]
        layer.weight.data = (u * scales) @ v * 2
        layer.bias.data = 0.1 * torch.randn(layer.out_features, generator=generator)
        layers += [layer, nn.ReLU()]
    x = torch.randn(64, width, generator=generator)
    return nets.from_module(nn.Sequential(*layers[:-1]), x)


@pytest.fixture(scope="module")
def wide_net():
    return wide()


def test_the_estimate_is_unbiased_and_its_error_bar_covers(wide_net):
    net = wide_net
    structure = Structure.of(net.architecture)
    linearisation = Linearisation(net.architecture, net.parameters, net.x[:8])
    truth = jacobian_norms(linearisation, exact_plan(net)).norm
    inside, deviations = [], []
    for seed in range(150):
        plan = plan_jacobians(linearisation, structure, 0.05, seed)
        assert any(not sweep.exact for sweep in plan.sweeps.values())
        found = jacobian_norms(linearisation, plan)
        estimated = found.error > 0
        assert torch.allclose(found.norm[~estimated], truth[~estimated], rtol=1e-9)
        inside.append(((found.norm - truth).abs() <= 2 * found.error)[estimated].double().mean())
        deviations.append((found.norm.square() / truth.square() - 1)[estimated].mean())
    # Two standard errors are to hold in 95 of 100 cases; squares of few probes are skewed, hence a little less.
    assert 0.91 <= float(torch.stack(inside).mean()) <= 0.98
    deviations = torch.stack(deviations)
    assert abs(float(deviations.mean())) < 4 * float(deviations.std()) / len(deviations) ** 0.5


def test_a_forgotten_basis_is_noticed(wide_net):
    """The broken twin: probes of the complement without the part along the basis fall short of the truth."""
    net = wide_net
    structure = Structure.of(net.architecture)
    linearisation = Linearisation(net.architecture, net.parameters, net.x[:8])
    truth = jacobian_norms(linearisation, exact_plan(net)).norm
    plan = plan_jacobians(linearisation, structure, 0.02, 0)
    with_basis = [j for j, sweep in plan.sweeps.items() if len(sweep.basis)]
    assert with_basis
    broken = {j: SweepPlan(s.basis[:0], s.probes, exact=s.exact) for j, s in plan.sweeps.items()}
    found = jacobian_norms(linearisation, JacobianPlan(structure, plan.adjacent, broken)).norm
    columns = [k for k, (i, j) in enumerate(structure.pairs) if j in with_basis and (i, j) not in plan.adjacent]
    assert (found[:, columns] < 0.9 * truth[:, columns]).all()


def test_the_tolerance_is_met_and_a_smaller_one_costs_more_probes(wide_net):
    net = wide_net
    structure = Structure.of(net.architecture)
    pilot = Linearisation(net.architecture, net.parameters, net.x[:16])
    linearisation = Linearisation(net.architecture, net.parameters, net.x)
    truth = jacobian_norms(linearisation, exact_plan(net)).norm
    rows = []
    for tolerance in (0.08, 0.05, 0.035):
        squares = []
        for seed in range(12):  # the probes are shared by the examples, so one run says little about the mean error
            plan = plan_jacobians(pilot, structure, tolerance, seed)
            found = jacobian_norms(linearisation, plan)
            squares.append((found.norm / truth - 1).square().mean())
        assert 0.4 * tolerance <= float(torch.stack(squares).mean().sqrt()) <= tolerance
        rows.append(sum(len(sweep.basis) + len(sweep.probes) for sweep in plan.sweeps.values()))
    assert rows[0] < rows[1] < rows[2]


def test_a_tolerance_that_asks_for_every_row_takes_them_exactly(wide_net):
    structure = Structure.of(wide_net.architecture)
    pilot = Linearisation(wide_net.architecture, wide_net.parameters, wide_net.x[:4])
    plan = plan_jacobians(pilot, structure, 1e-4, 0)
    assert all(sweep.exact for sweep in plan.sweeps.values())


def test_each_example_is_estimated_alone(wide_net):
    """Examples get the same value in any batch, in any order: probes belong to the run."""
    structure = Structure.of(wide_net.architecture)
    everyone = Linearisation(wide_net.architecture, wide_net.parameters, wide_net.x)
    plan = plan_jacobians(everyone.take(torch.arange(8)), structure, 0.05, 0)
    whole = jacobian_norms(everyone, plan)
    order = torch.randperm(len(wide_net.x), generator=torch.Generator().manual_seed(0))
    for rows in order.split(7):
        part = jacobian_norms(everyone.take(rows), plan)
        assert torch.allclose(part.norm, whole.norm[rows], rtol=1e-10)
        assert torch.allclose(part.error, whole.error[rows], rtol=1e-6)


def test_harder_examples_get_more_probes(wide_net):
    structure = Structure.of(wide_net.architecture)
    everyone = Linearisation(wide_net.architecture, wide_net.parameters, wide_net.x)
    plan = plan_jacobians(everyone.take(torch.arange(8)), structure, 0.1, 0)
    few = {j: replace(s, more=()) for j, s in plan.sweeps.items()}
    eager = {j: replace(s, limit=0.0) for j, s in plan.sweeps.items()}
    short = jacobian_norms(everyone, JacobianPlan(structure, plan.adjacent, few)).error
    long = jacobian_norms(everyone, JacobianPlan(structure, plan.adjacent, eager)).error
    ratio = float(long.square().sum().sqrt() / short.square().sum().sqrt())
    assert ratio == pytest.approx((1 + estimates.MORE_BLOCKS) ** -0.5, rel=0.2)


def test_a_dead_layer_gives_no_cushion():
    net = nets.build("mlp_no_bias")
    dead = nets.wrap("dead", net.network, torch.zeros(2, 6))
    context = dead.context()
    settings = MeasureSettings(exact=True, dtype="float64")
    found = interlayer(context, settings, prepare_jacobians(context.linearisation, context.structure, settings))
    assert torch.isnan(found["interlayer_cushion"]).all()


def checkpoint_networks():
    data = os.environ.get("BITCERT_DATA")
    return None if not data else Path(data) / "pretrained" / "lenet_mnist" / "lenet5_original.pt"


@pytest.mark.skipif(not checkpoint_networks() or not checkpoint_networks().exists(), reason="needs BITCERT_DATA")
def test_error_bars_cover_on_a_real_network():
    from bitcert import Role, capture, load_sample

    state = torch.load(checkpoint_networks(), weights_only=True)
    module = nn.Sequential(
        *(nn.Conv2d(1, 20, 5), nn.MaxPool2d(2), nn.Conv2d(20, 50, 5), nn.MaxPool2d(2), nn.Flatten()),
        *(nn.Linear(800, 500), nn.ReLU(), nn.Linear(500, 10)),
    )
    module.load_state_dict(dict(zip(module.state_dict(), state.values(), strict=True)))
    x = torch.from_numpy(load_sample("mnist", Role.TRAIN).inputs[:24].copy()).float() / 255
    network = capture(module, x)
    structure = Structure.of(network.architecture)
    linearisation = Linearisation(network.architecture, network.parameters, x[:2])
    plan = JacobianPlan.exact(network.architecture, structure, x)
    truth = jacobian_norms(linearisation, plan).norm
    pilot = Linearisation(network.architecture, network.parameters, x[4:12])
    inside = []
    for seed in range(8):
        found = jacobian_norms(linearisation, plan_jacobians(pilot, structure, 0.03, seed))
        estimated = found.error > 0
        assert estimated.any()
        inside.append(((found.norm - truth).abs() <= 2 * found.error)[estimated].double().mean())
    assert float(torch.stack(inside).mean()) >= 0.85
