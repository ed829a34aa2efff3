"""Arora 2018: every row worked out by hand, its scale laws, its errata, Table 1, and the reasons for missing values."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from bitcert.theory.formulas.projection_tail import num_projections
from bitcert.theory.inputs import NO_PROFILE, LayerStability, MessageFacts
from bitcert.theory.papers.arora2018 import (
    LEMMA_3,
    LEMMA_3_INIT,
    LEMMA_3_ZETA,
    TABLE_1,
    TABLE_1_INIT,
    TABLE_1_ZETA,
    THEOREM_41,
    THEOREM_41_INIT,
    THEOREM_41_ZETA,
    THEOREM_51,
    THEOREM_51_INIT,
    THEOREM_51_ZETA,
    thm21,
    thm21_message,
    thm22,
    thm22_constants,
    thm22_original,
)
from bitcert.theory.papers.zhang2020 import theorem_2_4, theorem_5_1, theorem_5_7
from bitcert.theory.table import BoundRow
from bitcert.theory.value import Absent, Condition, Kind, Status
from tests.reference import low_rank_naive as naive
from tests.unit.theory import hand

STABLE = (THEOREM_41, THEOREM_51, TABLE_1, LEMMA_3)
WITH_ZETA = (THEOREM_41_ZETA, THEOREM_51_ZETA, TABLE_1_ZETA, LEMMA_3_ZETA)
FROM_INIT = (THEOREM_41_INIT, THEOREM_51_INIT, TABLE_1_INIT, LEMMA_3_INIT)
TWO = ([[3.0, 0.0], [0.0, 4.0]], [[1.0, 2.0]])
SMOOTH = Condition("interlayer smoothness ρ_δ ≥ 3d", True, "by hand")


def two(**changes):
    """Spectral norms 4 and sqrt 5, stable ranks 25/16 and 1, four examples, ``max ||x|| = 3``, ``max ||f|| = 5``."""
    return hand.inputs(TWO, **{"smoothness": SMOOTH, "measured_samples": 4, **changes})


def many_margins(count=1000, **changes):
    return hand.sample(np.linspace(-0.5, 8.0, count), **changes)


def with_stability(inputs, *rows):
    layers = [replace(layer, stability=row) for layer, row in zip(inputs.layers, rows, strict=True)]
    return replace(inputs, layers=tuple(layers))


# Theorem 2.1


def test_theorem_21_by_hand():
    found = thm21(two(num_parameters=6, sample=hand.sample([-1.0, 0.0, 1.0, 2.0])))
    expected = 2 / 4 + math.sqrt((32 * 6 * math.log(2) + math.log(20)) / 8)
    assert found.value == pytest.approx(expected, rel=1e-9)
    assert found.value >= expected
    assert found.status is Status.HOLDS
    assert BoundRow.of(thm21, found, 4).kind == Kind.GUARANTEE
    assert BoundRow.of(thm21, found, 4).vacuous


def test_theorem_21_is_no_guarantee_for_weights_that_are_not_float32():
    found = thm21(two(parameters={"w": torch.tensor([0.1], dtype=torch.float64)}))
    assert found.status is Status.FAILS
    assert BoundRow.of(thm21, found, 4).kind == Kind.MEASURE
    assert thm21(two(parameters={"w": torch.tensor([0.1])})).status is Status.HOLDS


def test_numbers_outside_the_parameters_cost_64_bits_each():
    """Thresholds written into the code may have been learnt as well."""
    for bound in (thm21, theorem_2_4, thm22_constants, thm22_original):
        inputs = hand.inputs([[[4.0]]], gamma=1.0, sample=many_margins(norm_limit=6.0))
        free, charged = bound(inputs), bound(replace(inputs, constants=306))
        assert charged.ingredients["constants"] == 306
        assert charged.ingredients["bits"] == free.ingredients["bits"] + 64 * 306
        loss = charged.ingredients["training_loss" if "training_loss" in charged.ingredients else "margin_loss"]
        gap = math.sqrt((charged.ingredients["bits"] * math.log(2) + math.log(20)) / 2000)
        assert charged.value == pytest.approx(loss + gap, rel=1e-9)
        assert any(note.startswith("306 unusual numbers") for note in charged.notes)
        assert not any("unusual numbers" in note for note in free.notes)


def test_theorem_21_counts_near_ties_as_errors():
    clean, tied = (thm21(two(sample=hand.sample(errors=errors))) for errors in (0, 3))
    assert tied.value - clean.value == pytest.approx(3 / 4)


def message(**changes):
    return MessageFacts(**{"name": "m", "bits": 10, "errors": 1, "deviation": 0.5, "deviation_l2": 0.9, **changes})


def test_a_message_costs_twice_its_deviation():
    sample = hand.sample([0.4, 0.6, 0.9, 1.1, 3.0])
    found = thm21_message(two(sample=sample, messages=(message(),)))
    tail = math.sqrt((10 * math.log(2) + math.log(20)) / 10)
    assert found.ingredients["threshold"] == 1.0
    assert found.value == pytest.approx(3 / 5 + tail, rel=1e-9)
    # erratum 4: printed with the margin loss at the entrywise deviation itself
    assert math.exp(found.log_printed) == pytest.approx(1 / 5 + tail, rel=1e-9)
    assert found.status is Status.HOLDS


def test_the_l2_deviation_is_used_where_it_is_better():
    close = message(deviation_l2=0.6)
    found = thm21_message(two(sample=hand.sample([0.4, 0.6, 0.9, 1.1]), messages=(close,)))
    assert found.ingredients["threshold"] == pytest.approx(0.6 * math.sqrt(2))
    assert found.ingredients["margin_loss"] == 0.5


def test_the_best_of_several_messages_shares_delta():
    far = message(name="far", deviation=math.inf, deviation_l2=math.inf)
    others = (message(name="long", bits=1000), message(), far)
    found = thm21_message(two(messages=others))
    tail = math.sqrt((10 * math.log(2) + math.log(3 * 20)) / 8)
    assert found.ingredients["message"] == "m"
    assert found.value == pytest.approx(0.5 + tail, rel=1e-9)
    assert found.ingredients["all_deviations"] == (0.5, 0.5, None)


def test_a_message_with_more_errors_and_near_ties_than_small_margins_has_those():
    found = thm21_message(two(messages=(message(errors=3),)))
    assert found.value == pytest.approx(3 / 4 + math.sqrt((10 * math.log(2) + math.log(20)) / 8), rel=1e-9)


def test_a_message_is_needed():
    found = thm21_message(two(messages_note="no folder was given"))
    assert found.status is Status.NEEDS
    assert "no folder was given" in found.why


# Theorem 2.2


def test_theorem_22_by_hand():
    found = thm22(two(gamma=2.0))
    product, ranks = 16 * 5, [25 / 16, 1]
    assert found.value == pytest.approx(2 * 4 * 9 * product * sum(ranks) / 4)
    assert [math.exp(part.log) for part in found.layers] == pytest.approx([2 * 4 * 9 * product * r / 4 for r in ranks])
    # erratum 3: printed with max ||x||
    assert math.exp(found.log_printed) == pytest.approx(found.value / 3)
    assert found.status is Status.HOLDS


def test_theorem_22_does_not_change_when_layers_are_rescaled():
    scaled = two(layers=hand.inputs([np.array(TWO[0]) * 1e5, np.array(TWO[1]) / 1e5]).layers)
    assert thm22(scaled).log == pytest.approx(thm22(two()).log, abs=1e-9)


def test_the_same_theorems_in_zhang_2020():
    for inputs in (two(), two(layers=(hand.layer(TWO[0], op="conv2d", window=9), hand.layer(TWO[1])))):
        assert thm22(inputs).log == pytest.approx(theorem_5_1(inputs).log, abs=1e-12)
        assert thm22(inputs).log_printed == pytest.approx(theorem_5_1(inputs).log_printed, abs=1e-12)
    assert THEOREM_41(two()).log == pytest.approx(theorem_5_7(two()).log, abs=1e-12)


@pytest.mark.parametrize("bound", [thm22, THEOREM_41, THEOREM_51])
def test_twice_the_margin_is_a_quarter_of_the_capacity(bound):
    assert bound(two(gamma=1.0)).value == pytest.approx(4 * bound(two(gamma=2.0)).value)


def test_a_zero_layer_has_no_stable_rank():
    found = thm22(hand.inputs([[[0.0]], [[1.0]]]))
    assert found.status is Status.OUTSIDE
    assert "layer1 are all zero" in found.why


def test_a_convolution_is_no_fully_connected_layer():
    inputs = hand.inputs([[[1.0]]], layers=(hand.layer([[1.0]], op="conv2d"),))
    found = thm22(inputs)
    assert found.status is Status.FAILS
    assert "fully connected" in found.why


def test_sixty_layers_of_norm_1e30():
    deep = hand.inputs([[[1e30]]] * 60, sample=hand.sample(norm_limit=3.0), gamma=2.0, smoothness=SMOOTH)
    expected = 2 * (60 * 30 * math.log(10) + math.log(3 * 60 / 2)) + math.log(60)
    assert thm22(deep).log == pytest.approx(expected, rel=1e-9)
    assert thm22(deep).value is None
    for bound in (thm22_constants, thm22_original, *STABLE):
        assert math.isfinite(bound(deep).log)
    for bound in (thm22_constants, thm22_original):
        assert bound(deep).why.startswith("fails: float32 logits within a known distance of the exact ones (up to")
    # each layer needs log2(1e30^60) digits and a few more
    assert thm22_constants(deep).ingredients["entry_bits"][0] == pytest.approx(1800 * math.log2(10), abs=20)


# Theorem 2.2 with its constants


def rounded(inputs, bound):
    found = bound(inputs)
    return found, {name: found.ingredients[name] for name in ("output_error_allowed", "bits", "layer_bits", "reserve")}


def test_the_constants_by_hand():
    """One layer ``[4]``, ``max ||x|| = 3``: outputs may err by ``(gamma - 1e-4 max ||f||) / sqrt 2``."""
    inputs = hand.inputs([[[4.0]]], gamma=1.0, sample=many_margins())
    found = thm22_constants(inputs)
    allowed = (1.0 - 5e-4) / math.sqrt(2)
    assert found.ingredients["output_error_allowed"] == pytest.approx(allowed)
    assert found.ingredients["log_relative_error"] == pytest.approx(math.log(allowed / 12), abs=1e-6)
    # the entry may err by 0.2355, so the step is 2^-2 and 16 steps need 6 digits: tag 1, exponent 5, width 5
    assert found.ingredients["step_exponents"] == (-2.0,)
    assert found.ingredients["entry_bits"] == (6.0,)
    assert found.ingredients["bits"] == 1 + 5 + 5 + 6
    loss = inputs.sample.margin_loss(1.0)
    assert found.value == pytest.approx(loss + math.sqrt((17 * math.log(2) + math.log(20)) / 2000), rel=1e-9)
    assert found.status is Status.HOLDS


def test_the_original_needs_a_limit_and_half_the_margin():
    inputs = hand.inputs([[[4.0]]], gamma=1.0, sample=many_margins())
    found = thm22_original(inputs)
    assert found.status is Status.NEEDS
    limited = hand.inputs([[[4.0]]], gamma=1.0, sample=many_margins(norm_limit=6.0))
    found = thm22_original(limited)
    allowed = (0.5 - 5e-4) / math.sqrt(2)
    assert found.ingredients["log_relative_error"] == pytest.approx(math.log(allowed / 24), abs=1e-6)
    # 0.0588: steps of 2^-4, 64 of them, and 64 bits for the threshold: tag 1, exponent 7, width 7
    assert found.ingredients["bits"] == 1 + 7 + 7 + 8 + 64
    assert found.status is Status.HOLDS
    assert thm22_original(replace(limited, sample=many_margins(norm_limit=2.0))).status is Status.FAILS


def test_the_limit_on_inputs_is_not_taken_from_the_sample():
    near, far = (
        hand.inputs([[[4.0]]], sample=many_margins(norm_limit=limit, largest_input=1.0)) for limit in (6.0, 600.0)
    )
    assert thm22_original(far).ingredients["bits"] > thm22_original(near).ingredients["bits"]
    assert thm22_constants(far).log == thm22_constants(near).log


def test_a_margin_within_rounding_is_refused():
    found = thm22_constants(hand.inputs([[[4.0]]], gamma=4e-4, sample=many_margins()))
    assert found.status is Status.OUTSIDE
    assert "rounding" in found.why


def test_the_constants_are_no_guarantee_where_a_hypothesis_fails():
    def status(**changes):
        return thm22_constants(hand.inputs([[[4.0]]], sample=many_margins(), **changes)).status

    names = ("activations 1-Lipschitz", "positively homogeneous apart from biases", "bias-free")
    for name in names:
        for holds, expected in ((False, Status.FAILS), (None, Status.UNKNOWN)):
            structure = {**hand.inputs([[[4.0]]]).structure, name: Condition(name, holds, "by hand")}
            assert status(structure=structure) is expected
    assert status(lipschitz=Absent(Status.OUTSIDE, "does not apply: a softmax")) is Status.OUTSIDE
    assert status(layers=(hand.layer([[4.0]], op="conv2d"),)) is Status.FAILS
    biased = hand.layer([[4.0]], has_bias=True, bias_norm=1.0)
    assert status(layers=(biased,)) is Status.UNKNOWN


def test_a_smaller_margin_takes_more_bits_and_leaves_fewer_errors():
    fine, coarse = (thm22_constants(hand.inputs(TWO, gamma=gamma, sample=many_margins())) for gamma in (0.01, 1.0))
    assert fine.ingredients["bits"] > coarse.ingredients["bits"]
    assert fine.ingredients["margin_loss"] < coarse.ingredients["margin_loss"]


def margins_of(weights, x, y):
    """Margins of a bias-free ReLU network, for two or more classes; ``x`` ``[inputs, n]``."""
    for k, weight in enumerate(weights):
        x = weight @ x if k + 1 == len(weights) else np.maximum(weight @ x, 0)
    own = x[y, np.arange(x.shape[1])]
    others = np.where(np.arange(len(x))[:, None] == y, -np.inf, x).max(0)
    return own - others


def trained(seed, m=200, features=20):
    """Two layers on three classes, the second one fitted to the labels; inputs of norm at most 4."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(features, m))
    x *= 4 / np.linalg.norm(x, axis=0).max()
    y = (np.abs(x[0]) * 4).astype(int).clip(0, 2)
    first = rng.normal(size=(30, features)) / 4
    hidden = np.maximum(first @ x, 0)
    second = np.eye(3)[:, y] @ np.linalg.pinv(hidden, rcond=1e-2)
    return [first, second], x, y


@pytest.mark.parametrize("seed", range(3))
def test_no_margin_is_lost_on_the_sample_and_none_of_the_original_on_any_input(seed):
    weights, x, y = trained(seed)
    margins = margins_of(weights, x, y)
    outputs = weights[1] @ np.maximum(weights[0] @ x, 0)
    sizes = {"largest_input": 4.0, "largest_output": float(np.linalg.norm(outputs, axis=0).max()), "norm_limit": 4.0}
    gamma = float(np.quantile(margins[margins > 0], 0.3))
    inputs = hand.inputs(weights, gamma=gamma, sample=hand.sample(margins, **sizes))
    rng = np.random.default_rng(100 + seed)
    new = rng.normal(size=(len(x), 3000))
    new *= 4 / np.linalg.norm(new, axis=0)
    for bound, lost in ((thm22_constants, gamma), (thm22_original, gamma / 2)):
        found, parts = rounded(inputs, bound)
        sent = load_message(inputs, found)
        bits = naive.message(weights, sent)
        assert len(bits) + (64 if bound is thm22_original else 0) == parts["bits"]
        read, _ = naive.decoded(bits, [w.shape for w in weights])
        assert (margins_of(read, x, y)[margins > gamma] > gamma - lost).all()
        labels = rng.integers(3, size=3000)
        moved = np.abs(margins_of(read, new, labels) - margins_of(weights, new, labels))
        assert 0 < moved.max() <= lost
    errors, limit = (margins_of(read, x, y) <= 0).sum(), (margins <= gamma).sum()
    assert errors <= limit


def load_message(inputs, found):
    from bitcert.theory.formulas.low_rank_network import network_message

    return network_message(inputs, found.ingredients["log_relative_error"]).forms


def random_labels(draw, m=200, features=250):
    """A linear classifier that fits random labels of two classes: true error one half, training error 0."""
    rng = np.random.default_rng(draw)
    x = rng.normal(size=(features, m))
    x /= np.linalg.norm(x, axis=0)
    y = rng.integers(2, size=m)
    w = (2 * y - 1) @ np.linalg.pinv(x)
    weights = [np.stack([-w, w]) / 2]
    margins = margins_of(weights, x, y)
    sizes = {"largest_input": 1.0, "largest_output": 1.0, "norm_limit": 1.0}
    return hand.inputs(weights, gamma=0.9, sample=hand.sample(margins, **sizes))


def test_the_guarantees_hold_for_random_labels_and_a_code_that_forgets_its_entries_does_not():
    for draw in range(20):
        inputs = random_labels(draw)
        assert inputs.sample.margin_loss(inputs.gamma) == 0
        for bound in (thm22_constants, thm22_original, thm21):
            assert bound(inputs).value >= 0.5
        form = load_message(inputs, thm22_constants(inputs))[0]
        header = form.bits - form.numbers * form.width
        broken = math.sqrt((header * math.log(2) + math.log(20)) / (2 * inputs.m))
        assert broken < 0.5


# noise stability

ROWS = (hand.stability(0.5, 0.25, 2.0, 1.5), hand.stability(0.2, 0.1, 3.0, 1.25))
INVERSES = [1 / (0.5 * 0.25) ** 2, 1 / (0.2 * 0.1) ** 2]


def test_theorem_41_by_hand():
    inputs = with_stability(two(gamma=2.0), *ROWS)
    found = THEOREM_41(inputs)
    factor = 3.0**2 * 2**2 * 5.0**2 / 2.0**2
    assert found.value == pytest.approx(factor * sum(INVERSES))
    assert [math.exp(part.log) for part in found.layers] == pytest.approx([factor * value for value in INVERSES])
    assert found.status is Status.HOLDS
    assert found.ingredients["contraction"] == pytest.approx(3.0)


def test_theorem_51_by_hand():
    inputs = with_stability(two(gamma=2.0), *ROWS)
    layers = (replace(inputs.layers[0], op="conv2d", window=9), inputs.layers[1])
    inputs = replace(inputs, layers=layers)
    factor = 3.0**2 * 2**2 * 5.0**2 / 2.0**2
    expected = factor * (1.5**2 * 9 * INVERSES[0] + 1.25**2 * INVERSES[1])
    assert THEOREM_51(inputs).value == pytest.approx(expected)
    # refused, not computed: the theorem has no meaning for a shared filter
    assert THEOREM_41(inputs).status is Status.OUTSIDE
    assert LEMMA_3(inputs).status is Status.OUTSIDE
    assert "1 other layers, e.g. layer1" in LEMMA_3(inputs).why


def test_theorems_41_and_51_agree_on_dense_layers():
    assert THEOREM_41(two()).log == pytest.approx(THEOREM_51(two()).log)


def test_table_1_by_hand():
    found = TABLE_1(with_stability(two(), *ROWS))
    expected = [2.0**2 * 1.5**2 * INVERSES[0], 3.0**2 * 1.25**2 * INVERSES[1]]
    assert [math.exp(part.log) for part in found.layers] == pytest.approx(expected)
    assert found.value == pytest.approx(sum(expected))


PRINTED = [  # Arora 2018, Table 1: layer, kernel [out, in, 3, 3] of VGG-19 on CIFAR-10, effective, actual, percent
    (1, (64, 3, 3, 3), 1644.87, 1728, "95.18"),
    (4, (128, 128, 3, 3), 644654.14, 147456, "437.18"),
    (6, (256, 256, 3, 3), 3457882.42, 589824, "586.25"),
    (9, (512, 256, 3, 3), 36920.60, 1179648, "3.129"),
    (12, (512, 512, 3, 3), 22735.09, 2359296, "0.963"),
    (15, (512, 512, 3, 3), 26583.81, 2359296, "1.126"),
    (18, (512, 512), 5052.15, 262144, "1.927"),
]


def test_table_1_of_the_paper():
    """From the printed products; the printed percentages are cut, not rounded (95.189.. is printed as 95.18)."""
    layers = []
    for number, shape, product, _, _ in PRINTED:
        window = math.prod(shape[2:])
        # any ingredients with this product: c = 1.5, beta = 2, mu = 1/2
        minimal = 1.5 * 2 * math.sqrt(window) / (0.5 * math.sqrt(product))
        dense = hand.layer([[1.0]], f"layer{number}", stability=hand.stability(0.5, minimal, 1.5, 2.0), window=window)
        op = "conv2d" if len(shape) == 4 else "linear"
        layers.append(replace(dense, op=op, weight=torch.zeros(1).expand(shape)))
    found = TABLE_1(hand.inputs([[[1.0]]], layers=tuple(layers)))
    for part, (_, _, product, actual, percent) in zip(found.layers, PRINTED, strict=True):
        assert part.actual == actual
        assert math.exp(part.log) == pytest.approx(product)
        digits = len(percent.split(".")[1])
        assert f"{math.floor(10**digits * 100 * product / actual) / 10**digits:.{digits}f}" == percent
        assert 100 * math.exp(part.log) / part.actual == pytest.approx(float(percent), abs=10.0**-digits)


def test_lemma_3_by_hand():
    inputs = with_stability(two(gamma=2.0), *ROWS)
    found = LEMMA_3(inputs)
    epsilon = 2.0 / (math.sqrt(2) * 5.0)
    logarithm = math.log(4 * 2 * 2 / 0.05)
    # printed: 72 c^2 d^2 log(m d h / delta) / eps^2 * sum
    printed = 72 * 9 * 4 * logarithm / epsilon**2 * sum(INVERSES)
    assert math.exp(found.log_printed) == pytest.approx(printed)
    layer_epsilons = [epsilon * own / (6 * 3.0 * 2) for own in (0.5 * 0.25, 0.2 * 0.1)]
    counts = [num_projections(own, 2 * logarithm) for own in layer_epsilons]
    assert found.value == pytest.approx(sum(counts))
    assert [math.exp(part.log) for part in found.layers] == pytest.approx(counts)
    # the constant that holds is 6 to 9 times the printed one
    assert 6 < found.value / printed < 9.2


def test_lemma_3_far_below_the_range_of_its_tail():
    tiny = hand.stability(1e-160, 1e-150, 1.0)
    found = LEMMA_3(with_stability(two(), tiny, tiny))
    assert found.log - found.log_printed == pytest.approx(math.log(6), abs=0.1)
    near = [hand.stability(0.05, value, 1.0) for value in (0.0099, 0.0101)]
    logs = [LEMMA_3(with_stability(two(), row, row)).log for row in near]
    # across the place where the count becomes a formula
    assert logs[0] - logs[1] == pytest.approx(2 * math.log(0.0101 / 0.0099), abs=1e-4)


def test_an_epsilon_above_one_counts_as_one():
    easy = hand.stability(1.0, 1.0, 1e-9)
    found = LEMMA_3(with_stability(two(gamma=3.9), easy, easy))
    assert found.value == pytest.approx(2 * num_projections(1.0, found.ingredients["log_inverse_eta"]))


@pytest.mark.parametrize(("worst", "zeta"), list(zip(STABLE, WITH_ZETA, strict=True)))
def test_outliers(worst, zeta):
    better = LayerStability(
        hand.reduced(0.5, 0.6), hand.reduced(0.25, 0.3), hand.reduced(2.0, 1.8), hand.reduced(1.5, 1.2)
    )
    sample = many_margins()
    inputs = with_stability(two(sample=sample, measured_samples=1000, zeta=0.01), better, better)
    plain = hand.stability(0.6, 0.3, 1.8, 1.2)
    expected = worst(with_stability(inputs, plain, plain))
    found = zeta(inputs)
    assert found.log == pytest.approx(expected.log)
    assert found.log_printed == (None if expected.log_printed is None else pytest.approx(expected.log_printed))
    assert found.log < worst(inputs).log
    assert found.ingredients["zeta"] == 0.01
    # 2 layers: two cushions and a contraction each, and a spread of the one pair
    extremes = 7 if "betas" in found.ingredients else 6
    assert found.ingredients["outliers_together_at_most"] == pytest.approx(0.01 * extremes)
    assert math.exp(found.ingredients["log_gap_with_zeta"]) == pytest.approx(math.sqrt(found.value / 1000) + 0.01)
    assert "adds zeta = 0.01" in found.notes[0]


@pytest.mark.parametrize(("worst", "init"), list(zip(STABLE, FROM_INIT, strict=True)))
def test_from_initialisation_the_frobenius_norm_becomes_that_of_the_distance(worst, init):
    start = ([[3.0, 0.0], [0.0, 3.0]], [[1.0, 1.5]])
    moved = hand.inputs(TWO, init=start, smoothness=SMOOTH, measured_samples=4)
    moved = with_stability(moved, *ROWS)
    # ||A||_F / ||A - A_0||_F: 5 / 1 and sqrt 5 / 0.5
    ratios = [5.0, math.sqrt(5) / 0.5]
    larger = [replace(row, cushion=hand.reduced(row.cushion.worst * r)) for row, r in zip(ROWS, ratios, strict=True)]
    assert init(moved).log == pytest.approx(worst(with_stability(moved, *larger)).log)
    assert init(moved).status is Status.UNKNOWN
    assert "A - A_init" in init(moved).why
    missing = init(with_stability(two(), *ROWS))
    assert missing.status is Status.NEEDS
    assert missing.why.startswith("needs --init")


@pytest.mark.parametrize("init", FROM_INIT)
def test_a_layer_that_did_not_move_costs_nothing(init):
    one = with_stability(hand.inputs(TWO, init=(TWO[0], [[0.0, 0.0]])), *ROWS)
    found = init(one)
    assert found.layers[0].log == -math.inf
    assert found.log == pytest.approx(found.layers[1].log)
    none = with_stability(hand.inputs(TWO, init=TWO), *ROWS)
    assert init(none).log == -math.inf
    assert init(none).value == 0


@pytest.mark.parametrize("bound", STABLE)
def test_cushions_do_not_see_the_scale_of_layers(bound):
    scaled = hand.inputs([np.array(TWO[0]) * 1e3, np.array(TWO[1]) / 1e3])
    assert bound(with_stability(two(layers=scaled.layers), *ROWS)).log == bound(with_stability(two(), *ROWS)).log


@pytest.mark.parametrize("bound", [*STABLE, *WITH_ZETA, *FROM_INIT])
def test_reasons_without_a_profile(bound):
    inputs = two(layers=tuple(replace(layer, stability=NO_PROFILE) for layer in two().layers))
    found = bound(inputs)
    assert found.status is Status.NEEDS
    assert found.why.startswith("needs a profile")


@pytest.mark.parametrize("bound", STABLE)
def test_reasons_for_dead_layers(bound):
    zero = replace(hand.stability(), cushion=hand.reduced(0.0, 0.5))
    found = bound(with_stability(two(), zero, hand.stability()))
    assert found.status is Status.OUTSIDE
    assert "layer cushion of layer1 is 0" in found.why
    assert "outliers left out" in found.why
    infinite = replace(hand.stability(), contraction=hand.reduced(math.inf))
    assert "infinite" in bound(with_stability(two(), infinite, hand.stability())).why
    unknown = replace(hand.stability(), minimal_cushion=hand.reduced(None))
    assert bound(with_stability(two(), unknown, hand.stability())).status is Status.NEEDS
    zeta = WITH_ZETA[STABLE.index(bound)]
    assert math.isfinite(zeta(with_stability(two(), zero, hand.stability())).log)


def test_conditions_are_listed():
    def why(**changes):
        return THEOREM_41(two(**changes)).why

    assert why() == "every condition holds on this network and sample"
    assert "3 of 4 examples" in why(measured_samples=3)
    assert "not known how many" in why(measured_samples=None)
    assert "needs a profile" in why(smoothness=NO_PROFILE)
    biased = {**two().structure, "bias-free": Condition("bias-free", False, "offsets: b")}
    assert "bias-free (offsets: b)" in why(structure=biased)
    assert "fully connected" in [condition.name for condition in THEOREM_41(two()).conditions]


def test_zero_outputs():
    silent = hand.sample(largest_output=0.0)
    for bound in (THEOREM_41, THEOREM_51, LEMMA_3):
        assert "every output is 0" in bound(two(sample=silent)).why


@pytest.mark.parametrize(
    "bound", [thm21, thm22, thm22_constants, thm22_original, *STABLE, *WITH_ZETA, *FROM_INIT], ids=lambda b: b.name
)
def test_no_row_is_nan_or_without_a_sentence(bound):
    inputs = hand.inputs(TWO, init=([[0.0, 0.0], [1.0, 1.0]], [[0.0, 0.0]]), sample=many_margins(norm_limit=9.0))
    row = BoundRow.of(bound, bound(inputs), inputs.m)
    assert row.log10 is not None
    assert row.why
    assert row.sentence.endswith(".")
    assert (row.dropped == "") == (row.theorem_kind == "guarantee")


def test_dead_inputs_are_told_beside_the_extremes():
    dead = Condition("no dead inputs", False, "150 of layer_cushion skipped")
    inputs = hand.inputs(TWO, smoothness=SMOOTH)
    told = hand.inputs(TWO, smoothness=SMOOTH, structure={**inputs.structure, dead.name: dead})
    for bound in STABLE:
        assert any("150 of layer_cushion skipped" in note for note in bound(told).notes)
        assert bound(told).status is bound(inputs).status


def test_a_norm_that_did_not_converge_fails_the_row():
    broken = Condition("operator norms converged", False, "one known to 1e-3 only")
    inputs = hand.inputs(TWO)
    found = thm22(hand.inputs(TWO, structure={**inputs.structure, broken.name: broken}))
    assert found.status is Status.FAILS
    assert "known to 1e-3 only" in found.why
