"""The noise-stability rows end to end against a slow twin: pooling, Table 1 before and after, Zhang as printed."""

import math

import pytest
import torch
from torch import nn

from bitcert.decoder import Preprocessing
from bitcert.errors import DecodeError
from bitcert.stability import MeasureSettings
from bitcert.theory.formulas.cushions import Cushions
from bitcert.theory.gathering import bounds
from bitcert.theory.ingredients.stability import measured_profile
from bitcert.theory.settings import BoundSettings
from bitcert.theory.table import BoundTable
from tests.reference import stability_naive as naive
from tests.unit.theory import nets

GAMMA = 2.0**-10
SETTINGS = BoundSettings(flatness=False, gamma=GAMMA, measure=MeasureSettings(exact=True, dtype="float64"))


def pooled(seed=3):
    """LeNet's shape in small: two convolutions with pooling behind them, of both kinds, and two dense layers."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 3, 3, bias=False),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(3, 4, 2, bias=False),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(4, 5, bias=False),
        nn.ReLU(),
        nn.Linear(5, 3, bias=False),
    )


def case(model, *shape):
    network = nets.captured(model, *shape)
    sample = nets.sample_of(network, n=6, seed=8, wrong=1)
    profile = measured_profile(network, sample, SETTINGS, Preprocessing())
    table = bounds(network, sample, SETTINGS, preprocessing=Preprocessing(), profile=profile)
    parameters = {name: value.double() for name, value in network.parameters.items()}
    found = naive.examine_all(network.architecture, parameters, torch.from_numpy(sample.inputs.copy()).double())
    return network.architecture, profile, table, found


@pytest.fixture(scope="module")
def convolutions():
    return case(pooled(), 1, 8, 8)


@pytest.fixture(scope="module")
def dense():
    return case(nets.chain(seed=0), 5)


def worst(found, k):
    return max(one.contraction[k] for one in found)


def test_the_contraction_is_of_the_value_that_feeds_the_next_layer(convolutions):
    _, profile, _, found = convolutions
    own = [row.contraction.worst for row in profile.layers]
    assert own == pytest.approx([1.0, worst(found, 0), worst(found, 1), worst(found, 2)], rel=1e-9)
    assert [row.contraction_after.worst for row in profile.layers] == pytest.approx([*own[1:], 1.0])
    # the mean of four entries alone takes half of the norm
    assert own[2] > 2


def test_theorem_51_counts_pooling(convolutions):
    architecture, _, table, found = convolutions
    row = table.row("arora2018-thm5.1")
    assert row.value == pytest.approx(naive.theorem_51(architecture, found, GAMMA), rel=1e-6)
    conditions = {c.name: c for c in row.conditions}
    assert conditions["pooling 1-Lipschitz"].holds is True
    assert "max_pool2d" in conditions["pooling 1-Lipschitz"].detail
    assert "avg_pool2d" in conditions["pooling 1-Lipschitz"].detail


def test_theorem_41(dense):
    architecture, _, table, found = dense
    expected = naive.theorem_51(architecture, found, GAMMA)
    assert table.row("arora2018-thm4.1").value == pytest.approx(expected, rel=1e-6)
    assert table.row("zhang2020-thm5.7").value == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("name", ["convolutions", "dense"])
def test_erratum_19_table_1_takes_the_contraction_before_and_shows_the_one_after(name, request):
    architecture, profile, table, found = request.getfixturevalue(name)
    row, before = table.row("arora2018-table1"), naive.table_1(architecture, found)
    after = naive.table_1(architecture, found, after=True)
    assert [math.exp(part.log) for part in row.layers] == pytest.approx(before, rel=1e-6)
    assert row.value == pytest.approx(sum(before), rel=1e-6)
    assert [math.exp(v) for v in row.ingredients["log_layers_with_contraction_after"]] == pytest.approx(after, rel=1e-6)
    assert f"after each layer instead: {sum(after):.4g}" in row.notes[0]
    assert [own.effective_parameters.worst for own in profile.layers] == pytest.approx(before, rel=1e-6)
    assert [own.effective_parameters_after.worst for own in profile.layers] == pytest.approx(after, rel=1e-6)


def test_erratum_2_the_printed_value_of_zhang_takes_every_definition_as_printed(dense):
    """Not the inverted contraction alone: the largest cushions of the sample and mu_{i,i} = sqrt(h) as well."""
    architecture, _, table, found = dense
    row = table.row("zhang2020-thm5.7")
    printed = naive.zhang_57_as_printed(architecture, found, GAMMA)
    assert row.printed_log10 == pytest.approx(math.log10(printed), abs=1e-6)
    contraction = max(value for one in found for value in one.contraction)
    assert row.printed_log10 < row.log10 - 4 * math.log10(contraction) - 0.3


def test_the_cushions_of_a_codec_take_the_same_contraction(convolutions):
    _, profile, _, found = convolutions
    assert Cushions.from_profile(profile).contraction == pytest.approx(max(worst(found, k) for k in range(3)))


def test_overlapping_windows_are_a_condition_that_fails():
    model = nn.Sequential(
        nn.Conv2d(1, 3, 3, bias=False), nn.ReLU(), nn.MaxPool2d(3, 1), nn.Flatten(), nn.Linear(48, 3, bias=False)
    )
    _, _, table, _ = case(model, 1, 8, 8)
    for name in ("arora2018-thm5.1", "arora2018-table1", "notes2019-capacity"):
        row = table.row(name)
        assert "pooling 1-Lipschitz (windows overlap, a norm may grow: max_pool2d" in row.why
        assert row.applies is False


def test_a_table_of_the_former_format_is_refused_in_one_sentence(dense):
    text = dense[2].to_json()
    assert '"format":"bitcert-bounds-2"' in text
    with pytest.raises(DecodeError, match="pools between two layers; compute the bounds again"):
        BoundTable.from_json(text.replace("bitcert-bounds-2", "bitcert-bounds-1"))
