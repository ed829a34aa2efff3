"""Laws of every bound of the catalogue: no row is lost, scale, margin, sample size, delta, products out of range."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bitcert.errors import InputError
from bitcert.theory.inputs import Flatness, HoldoutFacts, MessageFacts
from bitcert.theory.registry import all_bounds, get_bound
from bitcert.theory.table import BoundRow, BoundTable
from bitcert.theory.value import Condition, Kind, Status, Unit
from tests.unit.theory import hand

ROWS = all_bounds()
SMOOTH = Condition("interlayer smoothness ρ_δ ≥ 3d", True, "by hand")

UNCHANGED_BY_RESCALING = [
    *("arora2018-thm2.1", "arora2018-thm2.2", "arora2018-thm4.1", "arora2018-thm5.1", "arora2018-table1"),
    *("arora2018-lemma3", "notes2019-capacity", "zhang2020-thm5.1", "zhang2020-thm5.7", "zhang2020-thm6.1"),
    *("bartlett2002-l1inf", "bartlett2017-spec-l12", "neyshabur2015-frobenius", "neyshabur2015-l3-1.5"),
    *("neyshabur2018-spec-fro", "product-l1inf", "product-frobenius", "product-l3-1.5", "product-spectral"),
    *("product-l1.5-operator", "product-trace", "path-l1", "path-l1.5", "path-l2"),
]
"""Their statement is one of the function and of ratios of norms, not of single weights."""

POWERS_OF_GAMMA = {
    **dict.fromkeys(("notes2019-capacity", "arora2018-table1", "arora2018-thm2.1", "occam-binomial", "holdout"), 0),
    **dict.fromkeys(("product-frobenius", "product-spectral", "path-l1", "path-l2"), -1),
    **dict.fromkeys(("arora2018-thm2.2", "arora2018-thm4.1", "arora2018-thm5.1", "zhang2020-thm6.1"), -2),
    **dict.fromkeys(("bartlett2002-l1inf", "bartlett2017-spec-l12", "neyshabur2015-frobenius"), -2),
    **dict.fromkeys(("arora2018-thm4.1-zeta", "zhang2020-thm5.1", "neyshabur2018-spec-fro"), -2),
}


def matrices(seed=0, scales=(1.0, 1.0, 1.0)):
    rng = np.random.default_rng(seed)
    shapes = ((5, 4), (6, 5), (2, 6))
    return [scale * rng.normal(size=shape) for scale, shape in zip(scales, shapes, strict=True)]


def log_path_norm(weights, p):
    size = np.ones(weights[0].shape[1])
    for weight in weights:
        size = np.abs(weight) ** p @ size
    return math.log(size.sum()) / p


def no_paths(log, paths=None):
    paths = paths or dict.fromkeys((1.0, 1.5, 2.0), log)
    return {"path_norms": paths, "path_norms_with_biases": paths}


def everything(weights=None, margins=None, **changes):
    """Nothing is missing, so that every row that is for dense chains has a value."""
    weights = matrices() if weights is None else weights
    rng = np.random.default_rng(1)
    start = [0.9 * weight + 1e-3 * np.abs(weight).max() * rng.normal(size=weight.shape) for weight in weights]
    margins = np.linspace(-0.5, 8.0, 400) if margins is None else margins
    if "path_norms" not in changes:
        changes |= no_paths(0.0, {p: log_path_norm(weights, p) for p in (1.0, 1.5, 2.0)})
    given = {
        "sample": hand.sample(margins, norm_limit=4.0, input_shape=(weights[0].shape[1],)),
        "smoothness": SMOOTH,
        "measured_samples": len(margins),
        "zeta": 0.01,
        "flatness": Flatness(0.1, 0.2, 1e-3, 0.1, 10, 100, 0.9, 0.1, 0.1),
        "messages": (MessageFacts("a", 100, 20, 0.1, 0.2), MessageFacts("b", 300, 10, 0.05, 0.1)),
        "holdout": HoldoutFacts("h", 12, 200),
        **changes,
    }
    return hand.inputs(weights, init=start, **given)


def values(inputs):
    return {row.name: row(inputs) for row in ROWS}


@pytest.fixture(scope="module")
def plain():
    return values(everything())


def test_names_and_sentences():
    for row in ROWS:
        assert row.sentence.endswith(".")
        assert row.source
        assert row.title
        assert (row.kind is Kind.GUARANTEE) <= (row.dropped == ""), row.name
        assert get_bound(row.name) is row
    with pytest.raises(InputError, match=r"arora2018-thm4\.1"):
        get_bound("arora2018-thm4.2")


def test_every_row_has_a_value_or_a_reason(plain):
    missing = {name: found.why for name, found in plain.items() if found.log is None}
    assert all(missing.values())
    # nothing is missing here, so no row may ask for more
    assert not [why for name, why in missing.items() if plain[name].status is Status.NEEDS]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_network_of_which_nothing_else_is_known_still_has_every_row(row):
    inputs = hand.inputs(matrices(), structure={})
    found = row(inputs)
    assert found.log is not None or found.status in (Status.NEEDS, Status.OUTSIDE)
    assert found.why
    assert len(found.why) < 400
    # what was not gathered is never taken to hold
    assert found.status is not Status.HOLDS or not any("graph" in c.detail for c in found.conditions)


def assert_numbers(row, found):
    """What goes into a row by hand is a number, or missing; the logarithm of 0 is missing in the table."""
    for name, content in found.ingredients.items():
        for number in content if isinstance(content, tuple) else (content,):
            assert not isinstance(number, float) or number < math.inf, name
    for name, content in BoundRow.of(row, found, 400).ingredients.items():
        for number in content if isinstance(content, list) else (content,):
            assert not isinstance(number, float) or math.isfinite(number), name


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_sixty_layers_of_norm_1e30_have_finite_logarithms(row):
    deep = [np.array([[1e30]])] * 59 + [np.array([[1e30], [-1e30]])]
    found = row(everything(deep, **no_paths(9000.0)))
    assert found.log is None or found.log == -math.inf or abs(found.log) < 1e6
    table_row = BoundRow.of(row, found, 400)
    assert found.log is None or table_row.value is not None or table_row.log10 > 300
    assert_numbers(row, found)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_zero_layer_gives_a_value_or_a_reason(row):
    found = row(everything([*matrices()[:2], np.zeros((2, 6))], **no_paths(-math.inf)))
    assert found.log is not None or found.why.startswith(("does not apply", "needs"))
    assert_numbers(row, found)


@settings(max_examples=6, deadline=None)
@given(power=st.integers(-20, 20))
def test_rescaled_layers(power):
    factor = 2.0**power
    before, after = everything(), everything(matrices(scales=(factor, 1.0, 1 / factor)))
    for name in UNCHANGED_BY_RESCALING:
        row = get_bound(name)
        assert row(after).log == pytest.approx(row(before).log, abs=1e-8), name


@settings(max_examples=6, deadline=None)
@given(gamma=st.floats(0.05, 3.0))
def test_twice_the_margin(gamma):
    near, far = everything(gamma=gamma), everything(gamma=2 * gamma)
    for row in ROWS:
        low, high = row(near), row(far)
        if low.log is None or high.log is None:
            continue
        if row.name in POWERS_OF_GAMMA:
            assert high.log - low.log == pytest.approx(POWERS_OF_GAMMA[row.name] * math.log(2), abs=1e-9), row.name
        elif row.unit is Unit.SAMPLES:
            assert high.log <= low.log + 1e-9, row.name


@settings(max_examples=6, deadline=None)
@given(factor=st.integers(2, 50))
def test_more_examples_of_the_same_margins_never_loosen_a_bound_on_errors(factor):
    margins = np.linspace(-0.5, 8.0, 40)
    messages = lambda m: (MessageFacts("a", 100, m // 20, 0.1, 0.2),)  # noqa: E731
    few = everything(margins=margins, messages=messages(40))
    many = everything(margins=np.repeat(margins, factor), messages=messages(40 * factor))
    for row in ROWS:
        if row.kind is Kind.GUARANTEE and row.unit in (Unit.ERROR, Unit.GAP):
            low, high = row(many), row(few)
            assert low.log <= high.log + 1e-9, row.name


@settings(max_examples=6, deadline=None)
@given(delta=st.floats(1e-6, 0.4))
def test_more_confidence_never_tightens_a_bound(delta):
    sure, unsure = everything(delta=delta), everything(delta=2 * delta)
    for row in ROWS:
        low, high = row(unsure), row(sure)
        if low.log is None or high.log is None:
            continue
        if row.unit is not Unit.PLAIN:
            assert low.log <= high.log + 1e-12, row.name
        if row.kind is Kind.GUARANTEE and high.log < 50:
            assert low.log < high.log, row.name


def test_a_guarantee_needs_every_condition():
    for row in ROWS:
        found = row(everything())
        if row.kind is not Kind.GUARANTEE or not found.conditions:
            continue
        broken = replace(found, conditions=(*found.conditions, Condition("another", None, "unknown")))
        assert BoundRow.of(row, broken, 400).kind == Kind.MEASURE


def table(inputs):
    errors = inputs.sample.errors
    return BoundTable(
        network={"name": "n", "content_hash": "0" * 64, "num_parameters": 62, "depth": 3, "width": 6},
        sample={"name": "s", "content_hash": "1" * 64, "num_samples": inputs.m, "num_classes": 2, "errors": errors},
        holdout={"name": "h", "errors": 12, "samples": 200},
        gamma=inputs.gamma,
        gamma_rule=inputs.gamma_rule,
        margin_loss=inputs.sample.margin_loss(inputs.gamma),
        delta=inputs.delta,
        rows=tuple(BoundRow.of(row, row(inputs), inputs.m) for row in ROWS),
        layers=tuple((layer.name, layer.num_weights) for layer in inputs.layers),
        settings={},
        seconds={},
        versions={},
    )


def test_the_table_is_written_and_read_back():
    for inputs in (everything(), hand.inputs(matrices())):
        made = table(inputs)
        again = BoundTable.from_json(made.to_json())
        assert again == made
        assert again.to_json() == made.to_json()
        assert made.gap == pytest.approx(12 / 200 - inputs.sample.errors / inputs.m)
