"""Guha 2023: values by hand and against a naive twin, scale laws, errata, conditions, and what is refused."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from bitcert.random import stream
from bitcert.theory.formulas.pruning import all_weights, claim_kept, log_ratio, prune, strongest
from bitcert.theory.formulas.pruning_setting import at_gamma, claim, log_kappas, printed_claim, stated
from bitcert.theory.formulas.pruning_theory import spectral_bound
from bitcert.theory.papers import guha2023
from bitcert.theory.registry import Bound
from bitcert.theory.value import Condition, Status
from tests.reference import pruning_naive as naive
from tests.unit.theory import hand

EVERY = [value for value in vars(guha2023).values() if isinstance(value, Bound)]
DENSE_ONLY = {
    "guha2023-thm5.2-at-gamma",
    "guha2023-appendixC",
    "guha2023-lemma4.4",
    "guha2023-lemmaC.4",
    "guha2023-thmD.1",
    "guha2023-thm6.2",
}
MARGINS = "Lemma 4.4's change of outputs is at most gamma / sqrt 2"


def matrices(seed: int = 0) -> list[np.ndarray]:
    rng = stream(seed, "test guha2023")
    return [rng.normal(size=(12, 9)), rng.normal(size=(7, 12)), rng.normal(size=(5, 7))]


def condition(value, name: str) -> Condition:
    (found,) = [c for c in value.conditions if c.name == name]
    return found


def test_the_catalogue_of_the_paper():
    assert len(EVERY) == 9
    assert all(b.name.startswith("guha2023-") and b.sentence and b.dropped for b in EVERY)


def test_a_diagonal_network_by_hand():
    """``2 I`` twice: the diagonal is kept, so j = 1, J = 2; rho = (1/2)(2)/(2 * 2) = 1/4, r = 2 * 8 + 1 = 17."""
    inputs = hand.inputs([2 * np.eye(2), 2 * np.eye(2)])
    value = guha2023.sketch_at_stated_strength(inputs)
    assert math.exp(value.log) == pytest.approx(2 * 1 * 2 * math.log(2) ** 2 * math.log(17))
    assert [part.layer for part in value.layers] == ["layer1", "layer2"]
    counted = guha2023.count_at_stated_strength(inputs)
    assert math.exp(counted.log) == pytest.approx(2 * (math.log2(6) + 2 * math.log2(17)))
    change = guha2023.output_change(inputs)
    gamma = spectral_bound((2, 2), 1.0, 2.0)
    assert math.exp(change.log) == pytest.approx(math.e * 3 * 4 * 2 * (8 * gamma + 1 / 2) / 2)


@pytest.mark.parametrize("seed", [0, 5])
def test_agrees_with_the_naive_twin(seed):
    own = matrices()
    inputs = hand.inputs(own, seed=seed)
    twins = [naive.layer(m, f"layer{k}", 1.0, 1 / 3, seed) for k, m in enumerate(own, 1)]
    shapes = [m.shape for m in own]
    for k, found in enumerate(stated(inputs).layers):
        assert np.allclose(found.values * np.abs(own[k]).max(), twins[k].matrix)
    assert math.exp(guha2023.sketch_at_stated_strength(inputs).log) == pytest.approx(naive.sketch(twins, shapes))
    assert math.exp(guha2023.count_at_stated_strength(inputs).log) == pytest.approx(naive.counted(twins, shapes))
    change = naive.output_change(own, twins, 12, 3.0)
    assert math.exp(guha2023.output_change(replace(inputs, gamma=0.7)).log) == pytest.approx(change / 0.7)


def test_gamma_l_is_lemma_4_2():
    (weights,) = all_weights(hand.inputs([matrices()[0]]))
    psi = float((matrices()[0] ** 2).mean())
    for d in (1e-3, 1.0, 40.0):
        assert math.exp(weights.log_gamma(log_ratio(d))) == pytest.approx(spectral_bound((12, 9), d, psi))


@pytest.mark.parametrize("bound", EVERY, ids=lambda b: b.name)
def test_rescaling_layers_changes_nothing_but_what_is_printed(bound):
    own = matrices()
    before, after = (hand.inputs(m) for m in (own, [own[0] * 8, own[1] / 16, own[2] * 2]))
    assert bound(after).log == pytest.approx(bound(before).log, rel=1e-12)
    if bound.name == "guha2023-thm5.2":  # 1 / rho supposes weights of size 1
        assert bound(after).log_printed != pytest.approx(bound(before).log_printed, rel=1e-5)


@pytest.mark.parametrize("bound", EVERY, ids=lambda b: b.name)
def test_scaling_the_network_and_gamma_together_changes_nothing(bound):
    own = matrices()
    before = bound(hand.inputs(own, gamma=0.5))
    after = bound(hand.inputs([own[0] * 4, *own[1:]], gamma=2.0, sample=hand.sample((2.0, 4.0, 8.0, 16.0))))
    if bound.name != "guha2023-thmD.1":  # the margins of hand.sample do not follow
        assert after.log == pytest.approx(before.log, rel=1e-12)


def test_twice_the_margin_halves_the_relative_change():
    inputs = hand.inputs(matrices())
    for bound in (guha2023.output_change, guha2023.output_change_if_spread):
        difference = bound(inputs).log - bound(replace(inputs, gamma=2.0)).log
        assert difference == pytest.approx(math.log(2))


@pytest.mark.parametrize("bound", EVERY, ids=lambda b: b.name)
def test_a_larger_margin_is_never_worse(bound):
    if bound.name == "guha2023-thmD.1":
        return  # the margin loss grows with gamma
    inputs = hand.inputs(matrices())
    values = [bound(replace(inputs, gamma=gamma)).log for gamma in (1e-6, 1e-3, 1.0, 100.0)]
    assert values == sorted(values, reverse=True)
    if "stated" not in bound.function.__name__ and bound.name != "guha2023-lemmaD.1-predicted":
        assert values[0] > values[-1]


def test_the_union_bound_is_monotone_in_samples_and_delta():
    own = matrices()
    values = [guha2023.union_error(hand.inputs(own, sample=hand.sample(num_samples=m))).log for m in (10, 100, 10**6)]
    assert values == sorted(values, reverse=True)
    values = [guha2023.union_error(hand.inputs(own, delta=delta)).log for delta in (0.001, 0.05, 0.5)]
    assert values == sorted(values, reverse=True)


def test_pruning_at_gamma_is_the_strongest_that_the_condition_allows():
    inputs = hand.inputs(matrices(), gamma=2.0)
    found = at_gamma(inputs)
    value = guha2023.sketch_at_gamma(inputs)
    assert condition(value, MARGINS).holds
    assert value.ingredients["d"] == pytest.approx(found.d)
    assert 0 < found.d < 1e-3
    stronger = replace(found, log_q=found.log_q + 0.01)
    weights = found.weights
    slack, half = math.log(12), found.log_share - math.log(2)
    margins = [half + w.log_norm - slack - w.log_gamma(stronger.log_q) for w in weights]
    assert min(margins) < 0
    assert min(half + w.log_norm - slack - w.log_gamma(found.log_q) for w in weights) >= 0


def test_the_network_so_pruned_really_changes_by_less():
    """Lemma 4.4's conclusion, simulated: ReLU chain, inputs of norm 3, pruned and rounded at gamma."""
    own = matrices()
    inputs = hand.inputs(own, gamma=2.0)
    found = at_gamma(inputs)
    rounded = []
    for layer in found.layers:
        step = math.exp(layer.log_rho)
        values = layer.values * math.exp(layer.weights.log_top)
        rounded.append(step * np.rint(values / step))
    x = stream(1, "test guha inputs").normal(size=(9, 200))
    x *= 3 / np.linalg.norm(x, axis=0)

    def run(layers):
        out = x
        for k, matrix in enumerate(layers):
            out = matrix @ (np.maximum(out, 0) if k else out)
        return out

    worst = np.linalg.norm(run(own) - run(rounded), axis=0).max()
    assert 0 < worst <= 2.0 / math.sqrt(2)


def test_a_stronger_pruning_keeps_a_subset():
    weights = all_weights(hand.inputs(matrices()))
    kept = [weights[0].prune(log_ratio(d), 0) != 0 for d in (1e-6, 0.1, 1.0, 30.0)]
    assert all((strong <= weak).all() for weak, strong in itertools.pairwise(kept))
    assert kept[0].sum() > kept[-1].sum() >= 9


def test_the_weakest_pruning_keeps_everything():
    weights = all_weights(hand.inputs(matrices()))
    assert (weights[0].prune(-5000.0, 0) == weights[0].unit).all()
    assert strongest(weights, -3000.0, 12) < -4000


# --- errata -------------------------------------------------------------------------------------------------------


def test_erratum_4_needs_the_root_of_two():
    """A change between gamma / sqrt 2 and gamma meets the printed condition only."""
    inputs = hand.inputs([np.eye(2) * 1e-3, np.eye(2)])
    change = math.exp(guha2023.output_change(replace(inputs, gamma=1.0)).log)
    between = guha2023.output_change(replace(inputs, gamma=change * 1.2))
    assert between.log < 0
    assert condition(between, MARGINS).holds is False
    assert condition(guha2023.output_change(replace(inputs, gamma=change * 1.5)), MARGINS).holds


def test_erratum_11_theorem_d1_is_right_as_printed():
    """``sqrt(ln sqrt(J / delta) / n)``: only a line of the proof has another exponent, so there is one value."""
    inputs = hand.inputs(matrices(), gamma=1.0, sample=hand.sample((0.5, 1.0, 2.0, 4.0, 8.0)))
    value = guha2023.union_error(inputs)
    bits = value.ingredients["bits"]
    printed = math.sqrt((bits * math.log(2) + math.log(20)) / 2 / 5)
    assert math.exp(value.log) == pytest.approx(0.4 + printed)  # margins of at most gamma
    assert value.log_printed is None
    assert "right as printed" in value.notes[0]


def test_erratum_8_the_input_norm_is_not_its_dimension():
    value = guha2023.output_change(hand.inputs(matrices()))
    assert value.log_printed - value.log == pytest.approx(math.log(9 / 3))


def test_erratum_9_counts_what_was_pruned():
    own = [m / 10 for m in matrices()]
    value = guha2023.sketch_at_stated_strength(hand.inputs(own))
    twins = [naive.layer(m, f"layer{k}", 1.0, 1 / 3) for k, m in enumerate(own, 1)]
    chi = 1 - math.sqrt(1 / 3)
    printed = sum(
        3 * 12 * chi * m.size * math.log(max(m.shape)) ** 2 * math.log(1 / t.rho)
        for m, t in zip(own, twins, strict=True)
    )
    assert math.exp(value.log_printed) == pytest.approx(printed)
    assert value.log_printed > value.log + 1


def test_one_over_rho_has_no_meaning_for_large_weights():
    value = guha2023.sketch_at_stated_strength(hand.inputs([1e6 * m for m in matrices()]))
    assert value.log_printed is None
    assert value.log == pytest.approx(guha2023.sketch_at_stated_strength(hand.inputs(matrices())).log)


def test_erratum_10_alpha_is_the_number_kept():
    value = guha2023.count_at_stated_strength(hand.inputs([np.eye(4)]))
    r = 2 * (4 * 2) + 1
    assert math.exp(value.log) == pytest.approx(math.log2(math.comb(16, 4)) + 4 * math.log2(r))
    assert math.exp(value.log_printed) == pytest.approx(math.log2(math.comb(16, 4)) + 12 * math.log2(r))


def test_the_printed_probability_leaves_out_lemma_5_1():
    """Five layers of width 784: Theorem 5.2 prints about 1/2, with Lemma 5.1's own terms nothing is left."""
    shapes = [(784, 784)] * 4 + [(10, 784)]
    inputs = hand.inputs([np.eye(2)] * 5)
    weights = [SimpleNamespace(shape=shape) for shape in shapes]
    printed = 1 - sum(2 / 20 + max(shape) ** -2.0 for shape in shapes)
    assert 0.49 < printed < 0.5
    assert printed_claim(inputs, weights) == 0
    assert claim(inputs, weights) == pytest.approx(1 - 5 / 20 - 5 * 784**-2)
    one = hand.inputs([np.eye(2)])
    expected = 1 - 2 / 4 - 1e-12 - 0.01 - 0.1
    assert printed_claim(one, [SimpleNamespace(shape=(10**6, 10**3))]) == pytest.approx(expected)


# --- Lemmas D.2 and D.3 -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("d", [0.3, 1.0, 10.0])
def test_no_more_entries_are_kept_than_lemmas_d2_and_d3_say(d):
    shape, failure, draws = (15, 20), 0.1, 300
    said = claim_kept(shape, d, failure)
    assert said.probability >= (1 - failure) ** 2
    rng = stream(0, "claims")
    a = rng.normal(size=(draws, *shape))
    kept = (rng.random(a.shape) >= np.exp(-(a**2) / d)) | np.eye(*shape, dtype=bool)
    counts = kept.sum((1, 2))
    assert (counts > said.kept).mean() <= 2 * failure
    assert said.kept < 300
    assert (counts > 0.8 * counts.mean()).mean() > 2 * failure  # a claim of 80 % of the mean would be false


def test_the_diagonal_is_kept_however_strong_the_pruning():
    assert claim_kept((3, 4), 1e9, 0.01).kept == 3


def test_the_predicted_count_uses_the_claim():
    inputs = hand.inputs(matrices(), delta=0.12)
    value = guha2023.count_as_predicted(inputs)
    claims = [claim_kept(m.shape, 1.0, 0.02) for m in matrices()]
    assert value.ingredients["alpha"] == tuple(own.kept for own in claims)
    assert value.probability >= 1 - 0.12 - 1e-9
    assert value.log > guha2023.count_at_stated_strength(inputs).log


# --- Appendix C ---------------------------------------------------------------------------------------------------


def test_kappa_bounds_inputs_that_are_spread_on_a_sphere():
    matrix = np.eye(3, 300)
    inputs = hand.inputs([matrix], sample=hand.sample(num_samples=50))
    kappa = math.exp(log_kappas(inputs, all_weights(inputs))[0])
    assert kappa == pytest.approx(math.sqrt(3 * 2 * math.log(2 * 50 * 3 / 0.05) / 300))
    assert kappa < 1
    x = stream(0, "sphere").normal(size=(300, 200, 50))
    largest = (np.linalg.norm(x[:3], axis=0) / np.linalg.norm(x, axis=0)).max(1)
    assert (largest > kappa).mean() <= 0.05
    assert (largest > kappa / 3).mean() > 0.5


def test_only_layers_with_fewer_outputs_gain_and_never_above_one():
    inputs = hand.inputs([np.eye(300, 3), np.eye(40), np.eye(3, 300), np.eye(200, 300)])
    kappas = log_kappas(inputs, all_weights(inputs))
    assert kappas[0] == kappas[1] == kappas[3] == 0 > kappas[2]


def test_spread_inputs_allow_a_stronger_pruning():
    own = [stream(0, "k").normal(size=(300, 300)) / 17, np.eye(3, 300)]
    inputs = hand.inputs(own, gamma=0.1)
    without, with_kappa = guha2023.sketch_at_gamma(inputs), guha2023.sketch_with_kappa(inputs)
    assert with_kappa.ingredients["d"] > without.ingredients["d"]
    assert with_kappa.log < without.log
    assert with_kappa.probability == pytest.approx(without.probability - 0.05)
    value, spread = guha2023.output_change(inputs), guha2023.output_change_if_spread(inputs)
    assert spread.log - value.log == pytest.approx(sum(with_kappa.ingredients["log_kappa"]))
    assert spread.log_printed - value.log_printed < spread.log - value.log  # the smaller union


# --- Theorem 6.2 --------------------------------------------------------------------------------------------------


def test_a_winning_ticket_by_hand():
    """``2 I``, then ``I``, width 2: every layer is divided by sqrt(fan-in) max |a| = 2 sqrt 2 and sqrt 2."""
    inputs = hand.inputs([2 * np.eye(2), np.eye(2)], gamma=0.5, delta=0.1)
    value = guha2023.winning_ticket(inputs)
    epsilon = 0.5 / 4 / (3 * 2 * math.sqrt(2) * math.sqrt(2))
    rho = epsilon / (math.e * 2 * 2)
    side = 2 * 2 * 2 / epsilon * math.log(10)
    assert math.exp(value.log) == pytest.approx((2 * 2 + 2 * 4) * math.log(side) ** 2 * math.log(1 / rho))
    assert value.probability == pytest.approx(1 - 0.1 - 2 * side**-2.0)
    assert value.status is Status.UNKNOWN  # the polynomial


def test_a_spectral_norm_may_be_the_larger_divisor():
    inputs = hand.inputs([np.ones((2, 2))])
    assert guha2023.winning_ticket(inputs).ingredients["log_c"] == (pytest.approx(math.log(2)),)


def test_a_margin_beyond_the_layers_is_outside():
    value = guha2023.winning_ticket(hand.inputs([np.eye(2)], gamma=100.0))
    assert value.status is Status.OUTSIDE
    assert "margin" in value.why


# --- conditions, refusals, extremes -------------------------------------------------------------------------------


@pytest.mark.parametrize("bound", EVERY, ids=lambda b: b.name)
@pytest.mark.parametrize("scale", [1e30, 1e-30])
def test_sixty_extreme_layers_give_finite_logarithms(bound, scale):
    value = bound(hand.inputs([scale * np.array([[0.7, 0.1], [0.2, -0.4]])] * 60))
    if bound.name == "guha2023-thm6.2" and scale < 1:  # no network of such layers has a margin of 1
        assert value.status is Status.OUTSIDE
        return
    assert value.log is not None
    assert math.isfinite(value.log)
    assert (
        all(math.isfinite(v) for v in value.ingredients["log_rho"])
        if isinstance(value.ingredients["log_rho"], tuple)
        else math.isfinite(value.ingredients["log_rho"])
    )


@pytest.mark.parametrize("bound", EVERY, ids=lambda b: b.name)
def test_a_layer_of_zeros_is_named(bound):
    value = bound(hand.inputs([np.eye(2), np.zeros((2, 2))]))
    assert value.status is Status.OUTSIDE
    assert "layer2" in value.why


@pytest.mark.parametrize("bound", EVERY, ids=lambda b: b.name)
def test_convolutions_are_counted_but_have_no_norm_bound(bound):
    inputs = hand.inputs(matrices())
    kernel = torch.from_numpy(matrices()[0].reshape(12, 1, 3, 3))
    first = replace(inputs.layers[0], op="conv2d", weight=kernel, positions=16)
    value = bound(replace(inputs, layers=(first, *inputs.layers[1:])))
    if bound.name in DENSE_ONLY:
        assert value.status is Status.OUTSIDE
        assert "layer1" in value.why
    else:
        assert value.status is Status.FAILS
        assert "fully connected" in value.why
        assert value.log == pytest.approx(bound(inputs).log)
        assert condition(value, MARGINS).holds is None


@pytest.mark.parametrize("bound", EVERY, ids=lambda b: b.name)
@pytest.mark.parametrize("name", ["bias-free", "chain of layers", "activations 1-Lipschitz"])
def test_structure_is_a_condition(bound, name):
    inputs = hand.inputs(matrices())
    broken = replace(inputs, structure={**inputs.structure, name: Condition(name, False, "as planted")})
    value = bound(broken)
    assert value.status is Status.FAILS
    assert "as planted" in value.why
    assert value.log == bound(inputs).log


@pytest.mark.parametrize("bound", EVERY, ids=lambda b: b.name)
def test_no_row_is_ever_sure(bound):
    """Latala's constant, or the polynomial of Theorem 6.2, is unknown."""
    assert bound(hand.inputs(matrices(), gamma=1e-3)).status in (Status.UNKNOWN, Status.FAILS)


def test_layers_far_from_normal_are_named():
    spiky = np.full((10, 10), 0.01)
    spiky[0, 0] = 5.0
    value = guha2023.sketch_at_stated_strength(hand.inputs([spiky, matrices()[0]]))
    found = condition(value, "entries are N(0, Psi)")
    assert found.holds is False
    assert "layer1" in found.detail


def test_inputs_of_zero_change_nothing():
    inputs = hand.inputs(matrices(), sample=hand.sample(largest_input=0.0))
    assert guha2023.output_change(inputs).log == -math.inf
    assert guha2023.sketch_at_gamma(inputs).log is not None
    assert guha2023.winning_ticket(inputs).status is Status.OUTSIDE


def test_a_hole_in_the_diagonal_is_a_condition():
    matrix = matrices()[0]
    matrix[3, 3] = 0
    value = guha2023.sketch_at_stated_strength(hand.inputs([matrix]))
    assert condition(value, "no zero on the diagonal (Definition 5.1)").holds is False


def test_everything_pruned_leaves_nothing_to_count():
    """A layer whose diagonal is 0 may lose every entry; it then costs nothing and no logarithm breaks."""
    matrix = np.array([[0.0, 1e-9], [1.0, 0.0]])
    weights = all_weights(hand.inputs([matrix]))
    layers = prune(weights, log_ratio(1e9), 0.0, 0)
    assert layers[0].kept == 0
    assert layers[0].log_values == 0


# --- the paper's tables -------------------------------------------------------------------------------------------


def test_table_1_grows_with_the_width_as_theorem_5_2_does():
    """Its ingredients are not printed, but if every layer keeps the same share of its longer side, Theorem 5.2 grows
    with the hidden width as ``sqrt(sum_l p_l^2 ln^2 p_l)``, and the printed natural logs of "Ours" do, to 0.1."""
    printed = {500: 3.36, 784: 3.77, 1000: 4.00, 1500: 4.40, 2000: 4.73, 2500: 4.96}
    predicted = {}
    for width in printed:
        shapes = [(width, 784), *[(width, width)] * 3, (10, width)]
        predicted[width] = 0.5 * math.log(sum(max(s) ** 2 * math.log(max(s)) ** 2 for s in shapes))
    rest = np.array([printed[w] - predicted[w] for w in printed])
    assert np.abs(rest - rest.mean()).max() < 0.1
    squared = np.array([printed[w] - 2 * predicted[w] for w in printed])  # the capacity itself would grow twice as fast
    assert np.abs(squared - squared.mean()).max() > 0.5
    share_times_log = math.exp(2 * rest.mean()) * 60_000  # (j / p) ln(1 / rho)
    assert 0.5 < share_times_log < 1.2


def test_table_1_prints_its_baselines_without_the_root_and_with_the_frobenius_norm():
    """Then Neyshabur 2017 over Bartlett 2017 is ``h L^2 sum R^2 / (sum R^(2/3))^3`` with ``R = ||A||_F / ||A||_2``,
    at least ``h`` and at most ``25 h`` in any network. The printed logs give ``h`` to 0.2; gaps would give its root."""
    printed = {500: (17.91, 11.51), 784: (18.34, 11.68), 1000: (18.70, 11.87), 1500: (18.81, 11.70)}
    printed |= {2000: (21.50, 13.96), 2500: (21.57, 13.81)}
    for width, (spectral, bartlett) in printed.items():
        assert abs(spectral - bartlett - math.log(width)) < 0.21
        assert spectral - bartlett > 0.5 * math.log(25 * width)  # more than gaps of any network allow
    ratios = stream(0, "ratios").random((200, 5)) * 30 + 1
    factor = 25 * (ratios**2).sum(1) / (ratios ** (2 / 3)).sum(1) ** 3
    assert factor.min() >= 1
    assert factor.max() <= 25
