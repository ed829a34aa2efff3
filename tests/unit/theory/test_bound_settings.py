"""Settings: ranges, one sentence for each refusal, and that they can be written down."""

import json
import math

import pytest

from bitcert.errors import InputError
from bitcert.stability import MeasureSettings
from bitcert.theory.settings import MARGIN_QUANTILE, BoundSettings


@pytest.mark.parametrize(
    "wrong",
    [
        {"gamma": 0.0},
        {"gamma": -1.0},
        {"gamma": math.inf},
        {"gamma": math.nan},
        {"gamma": True},
        {"gamma": "1"},
        {"margin_quantile": 0.0},
        {"margin_quantile": 1.0},
        {"margin_quantile": math.nan},
        {"gamma": 1.0, "margin_quantile": 0.1},
        {"delta": 0.0},
        {"delta": 1.0},
        {"zeta": 1.0},
        {"zeta": -0.1},
        {"seed": -1},
        {"seed": 1.0},
        {"profile": 1},
        {"flatness": None},
        {"profile_samples": 0},
        {"device": "abacus"},
        {"measure": {"zeta": 0.1}},
    ],
)
def test_values_out_of_range_are_refused(wrong):
    with pytest.raises(InputError, match=r"^expected .*, got .*; "):
        BoundSettings(**wrong)


def test_the_measurement_follows_the_settings():
    settings = BoundSettings(seed=7, zeta=0.25, measure=MeasureSettings(seed=1, zeta=0.5, draws=9))
    assert (settings.measure.seed, settings.measure.zeta, settings.measure.draws) == (7, 0.25, 9)
    assert "spectra" not in (BoundSettings().measure.quantities or ())


def test_the_quantile_is_the_papers_unless_a_margin_is_given():
    assert BoundSettings().quantile == MARGIN_QUANTILE
    assert BoundSettings(margin_quantile=0.1).quantile == 0.1
    assert BoundSettings(gamma=2.0).quantile is None


def test_a_description_is_json_and_names_the_measurement():
    content = BoundSettings(gamma=2.0).describe()
    assert json.loads(json.dumps(content)) == content
    assert content["gamma"] == 2.0
    assert content["measure.delta"] == 0.05  # of the smoothness, not of the guarantees
    assert "measure.zeta" not in content
