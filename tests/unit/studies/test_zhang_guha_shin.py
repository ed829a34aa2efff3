"""Parts of the studies of Zhang 2020, Guha 2023 and Shin 2021 that take no time; whole studies run as commands."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from bitcert import Preprocessing, Role, Run, to_sample
from bitcert.errors import InputError
from bitcert.random import stream
from bitcert.studies import STUDIES, Size, StudyResult
from bitcert.studies.context import Context
from bitcert.studies.guha2023 import DEPTH, mlp
from bitcert.studies.guha_readings import COLUMNS, readings
from bitcert.studies.notes2019 import _recipe
from bitcert.studies.published import PUBLISHED, load_published
from bitcert.studies.replacement import RULES, head_of, replaced
from bitcert.studies.shin2021 import _point, _small_recipes, fig2
from bitcert.studies.zhang2020 import InvertedBlock
from tests.unit.theory import hand

OURS = [name for name in STUDIES if name.split(".")[0] in ("zhang2020", "guha2023", "shin2021")]


STORED = sorted((Path(__file__).parents[3] / "docs" / "results-studies").glob("*.json"))


@pytest.mark.parametrize("path", STORED, ids=lambda path: path.stem)
def test_a_stored_result_is_of_its_study_and_stated_size(path):
    result = StudyResult.from_json(path.read_text())
    assert result.study == path.stem
    assert result.study in STUDIES
    assert result.outcome.rows
    if result.size == "quick" and result.study in OURS:
        assert result.outcome.scaled


def context(tmp_path, size=Size.QUICK):
    return Context("shin2021.fig2", size, tmp_path / "pieces", tmp_path / "networks", Run(seed=0))


def test_every_table_and_figure_of_the_three_papers_is_there():
    tables = {"zhang2020.resnet", "zhang2020.projection_or_svd", "guha2023.table1", "guha2023.table2", "guha2023.fig2"}
    tables |= {"guha2023.coresets", "guha2023.pac_bayes"}
    tables |= {f"shin2021.{name}" for name in ("table1", "fig1", "fig2", "fig3", "equations")}
    assert set(OURS) == tables
    for name in OURS:
        assert STUDIES[name].cost(Size.QUICK).seconds <= 120
        assert STUDIES[name].cost(Size.DEFAULT).seconds <= 3_600


def test_guhas_network_is_five_layers_without_biases_as_linear_draws_them():
    torch.manual_seed(0)
    model = mlp(784, 784)
    assert [tuple(p.shape) for p in model.parameters()] == [(784, 784)] * (DEPTH - 1) + [(10, 784)]
    assert all(abs(float(p.detach().abs().max()) * 28 - 1) < 1e-3 for p in model.parameters())


def test_readings_of_a_diagonal_network_by_hand():
    """``2 I`` twice: Frobenius product 8 * 8; the gap is half the logarithm of capacity over m."""
    inputs = hand.inputs([2 * np.eye(2), 2 * np.eye(2)])
    found = readings(inputs, {"trained network": 0.25, "pruned": 0.0})
    (first,) = [own for own in found if own.theorem and own.column == COLUMNS[0]]
    capacity = 4**2 * 8 * 8 / inputs.gamma**2
    assert first.log == pytest.approx(0.5 * math.log(capacity / inputs.m))
    errors = [own for own in found if own.column == COLUMNS[4]]
    assert [own.log for own in errors] == [math.log(0.25), None]
    assert sum(own.fits for own in found) == sum(own.theorem for own in found) == 5


def test_networks_of_the_notes_see_colours_around_zero(tmp_path):
    """On inputs that are all positive, those of width 4 and 20 answered the same to everything."""
    for channels in (3, 1):
        inputs = np.full((2, channels, 4, 4), 128, np.uint8)
        sample = to_sample((inputs, np.array([0, 1])), Role.TRAIN)
        seen = _recipe(context(tmp_path), sample, 4).preprocessing(sample)(inputs)
        assert bool(seen.abs().max() < 0.3) == (channels == 3)


def test_forty_three_networks_and_more(tmp_path):
    recipes = list(_small_recipes(context(tmp_path, Size.DEFAULT)))
    assert len(recipes) + len(PUBLISHED) >= 43
    assert len({(recipe.name, data) for recipe, data in recipes}) == len(recipes)


def test_a_point_of_figure_3_by_hand():
    layer = nn.Linear(30, 4, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(stream(0, "test point").normal(size=(4, 30))))
    values = np.linalg.svd(layer.weight.detach().double().numpy(), compute_uv=False)
    point = _point("x", nn.Sequential(nn.Linear(30, 30), layer))
    assert point.stable_rank == pytest.approx(float((values**2).sum() / values[0] ** 2), rel=1e-4)
    assert point.exponent is not None
    assert point.exponent > 1


def test_a_replaced_head_is_counted_draw_by_draw():
    rng = stream(0, "test head")
    labels = rng.integers(0, 3, 200)
    inputs = (rng.normal(size=(200, 6)) + 3 * np.eye(3, 6)[labels]).astype(np.float32)
    sample = to_sample((inputs, labels), Role.HOLDOUT)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 40), nn.ReLU(), nn.Linear(40, 3)).eval()
    head = head_of(model, Preprocessing(), sample)
    features = model[1](model[0](torch.from_numpy(inputs)))
    assert torch.allclose(torch.from_numpy(head.sample.inputs.copy()), features, atol=1e-5)
    found = replaced(head, 3)
    right = float((model(torch.from_numpy(inputs)).argmax(1).numpy() == labels).mean())
    assert found.before == pytest.approx(100 * right)
    assert set(found.after) == set(RULES)
    assert all(len(rates) == 3 and all(0 <= rate <= 100 for rate in rates) for rates in found.after.values())


def test_figure_2_at_its_quick_size(tmp_path):
    outcome = fig2(context(tmp_path))
    shares = [row.ours for row in outcome.rows]
    assert all(0 < share < 100 for share in shares)
    printed, bound, _ = shares
    assert bound >= printed  # where it says nothing the bound is 1
    assert all(panel.field is not None for panel in outcome.figures[0].panels)


@pytest.mark.parametrize("gated", [True, False])
def test_an_inverted_block_keeps_the_shape_of_its_shortcut(gated):
    block = InvertedBlock(8, 8, 1, gated=gated).eval()
    x = torch.zeros(2, 8, 6, 6)
    assert block(x).shape == x.shape
    assert block.shortcut
    assert InvertedBlock(8, 12, 2, gated=gated)(x).shape == (2, 12, 3, 3)


def test_unknown_and_missing_networks_are_refused(monkeypatch, tmp_path):
    with pytest.raises(InputError, match="resnet20"):
        load_published("resnet21")
    monkeypatch.setenv("BITCERT_DATA", str(tmp_path))
    with pytest.raises(InputError, match="BITCERT_DATA"):
        load_published("resnet20")
