"""Settings of a measurement: what is accepted, and the sentence for what is not."""

import pytest
import torch

from bitcert.errors import InputError
from bitcert.stability.settings import QUANTITIES, MeasureSettings, check_available


def test_defaults_measure_everything_in_float32():
    settings = MeasureSettings()
    assert settings.wanted == QUANTITIES
    assert settings.torch_dtype == torch.float32


def test_lists_become_tuples_in_the_order_of_computation():
    settings = MeasureSettings(quantities=["margin", "layer_cushion", "margin"], noise_levels=[0.5, 1])
    assert settings.quantities == ("layer_cushion", "margin")
    assert settings.noise_levels == (0.5, 1.0)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("seed", -1),
        ("seed", True),
        ("exact", 1),
        ("tolerance", 0.0),
        ("tolerance", 1.0),
        ("tolerance", float("nan")),
        ("zeta", 1.0),
        ("zeta", -0.1),
        ("zeta", "0.1"),
        ("delta", 0),
        ("noise_levels", ()),
        ("noise_levels", (0.1, 0.1)),
        ("noise_levels", (0.0,)),
        ("noise_levels", (float("inf"),)),
        ("noise_levels", 0.1),
        ("noise_levels", "0.1"),
        ("draws", 0),
        ("projections", 0),
        ("sensitivity_draws", 1),
        ("batch_size", 0),
        ("batch_size", 1.5),
        ("dtype", "float16"),
        ("device", "abacus"),
        ("device", None),
        ("keep", None),
        ("quantities", ()),
        ("quantities", "margin"),
        ("quantities", ("margins",)),
        ("memory_bytes", 10),
    ],
)
def test_unusable_values_are_refused_in_one_sentence(name, value):
    with pytest.raises(InputError) as caught:
        MeasureSettings(**{name: value})
    text = str(caught.value)
    assert text.startswith("expected ")
    assert "\n" not in text
    assert len(text) < 400


def test_an_unknown_quantity_is_answered_with_the_nearest():
    with pytest.raises(InputError, match="did you mean 'layer_cushion'"):
        MeasureSettings(quantities=("layer_cushio",))


def test_description_round_trip():
    settings = MeasureSettings(zeta=0.1, noise_levels=(0.1, 0.5), quantities=("margin",))
    assert MeasureSettings.from_description(settings.describe()) == settings


@pytest.mark.parametrize("change", [{"zeta": 2.0}, {"unknown": 1}])
def test_descriptions_that_cannot_be_are_refused(change):
    with pytest.raises(InputError):
        MeasureSettings.from_description({**MeasureSettings().describe(), **change})


def test_identity_ignores_what_only_the_reduction_uses():
    base = MeasureSettings()
    assert MeasureSettings(zeta=0.1, keep=True).identity() == base.identity()
    for other in (MeasureSettings(seed=1), MeasureSettings(delta=0.1), MeasureSettings(dtype="float64")):
        assert other.identity() != base.identity()


def test_a_device_that_is_not_there_is_explained():
    check_available("cpu")
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match="--device cpu"):
            check_available("cuda")
