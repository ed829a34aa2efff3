"""The norm bound with all constants: by hand, its hypotheses, its errata, and against memorised labels."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from bitcert import capture
from bitcert.theory.gathering import gather
from bitcert.theory.ingredients.conditions import PLAIN, plain_chain
from bitcert.theory.papers.galanti2023 import norm_bound, norm_bound_with_biases
from bitcert.theory.settings import BoundSettings
from bitcert.theory.table import BoundRow
from bitcert.theory.value import Condition, Status
from tests.unit.theory import hand, nets

A = np.array([[3.0, 0.0], [0.0, 4.0]])  # Frobenius 5
B = np.array([[1.0, 2.0], [2.0, 1.0]])  # l2,1 norm 2 sqrt(5), Frobenius sqrt(10)
GRAPH = {**hand.inputs([A]).structure, PLAIN: Condition(PLAIN, True, "by hand")}
CONFIDENCE = 3 / math.sqrt(2 * 4)


def inputs(matrices, **changes):
    return hand.inputs(matrices, **{"structure": GRAPH, **changes})


def test_the_bound_worked_out_by_hand():
    value = norm_bound(inputs([A, B], gamma=2.0, delta=0.1))
    r = 5 * 2 * math.sqrt(5) / (2 - math.sqrt(2) * hand.rounding([A, B], 3.0))
    nats = 2 * math.log(2) + math.log(2)  # depth and two classes; every dense layer reads one node
    capacity = 4 * (r + 1) / 4 * (1 + math.sqrt(2 * nats)) * math.sqrt(4 * 9)
    confidence = CONFIDENCE * math.sqrt(math.log(2 * (r + 2) ** 2 / 0.1))
    # margins 0.5, 1, 2, 4: three of four are at most gamma
    assert value.value == pytest.approx(3 / 4 + capacity + confidence)
    assert value.status is Status.HOLDS
    assert value.ingredients["degrees"] == (1.0, 1.0)
    assert value.ingredients["pixel_sum"] == 36


def test_erratum_the_printed_line_beside_the_bound():
    """Printed: 2 sqrt(2), Frobenius norms throughout, (rho + 1) / gamma for a gamma fixed beforehand."""
    value = norm_bound(inputs([A, B], gamma=2.0, delta=0.1))
    rho = 5 * math.sqrt(10)
    capacity = 2 * math.sqrt(2) * (rho + 1) / (2 * 4) * (1 + math.sqrt(6 * math.log(2))) * 6
    confidence = CONFIDENCE * math.sqrt(math.log(2 * (rho + 2) ** 2 / 0.1))
    assert math.exp(value.log_printed) == pytest.approx(3 / 4 + capacity + confidence)
    assert value.log_printed < value.log


def test_erratum_the_slope_of_the_margin_is_the_root_of_two():
    """The constant: along (1, -1) the margin u_y - max u_j moves by sqrt(2) times the l2 distance."""
    step = np.array([1.0, -1.0, 0.0]) / math.sqrt(2)
    u = np.array([3.0, 2.0, -5.0])

    def margin(logits):
        return logits[0] - max(logits[1:])

    assert margin(u + step) - margin(u) == pytest.approx(math.sqrt(2))


def test_erratum_frobenius_norm_and_the_logarithm_of_the_classes_do_not_go_together():
    """A single linear layer, exactly: the supremum over the class is a norm of the sums u_c = sum_i e_ic x_i."""
    rng, classes, m = np.random.default_rng(0), 400, 3
    x = rng.normal(size=(m, 5))
    signs = rng.choice([-1.0, 1.0], size=(200, m, classes))
    sums = np.linalg.norm(np.einsum("tmc,mk->tck", signs, x), axis=2)  # ||u_c|| of every draw
    limit = (1 + math.sqrt(2 * (math.log(2) + math.log(classes)))) * math.sqrt((x**2).sum())
    over_frobenius_ball, over_21_ball = np.sqrt((sums**2).sum(1)).mean(), sums.max(1).mean()
    assert over_frobenius_ball > 3 * limit
    assert over_21_ball <= limit


def test_a_gamma_chosen_after_seeing_the_data_is_paid_by_the_ratio():
    """The last layer, the margins and gamma scaled together are the same classifier, so the bound is the same."""
    one = norm_bound(inputs([A, B], gamma=1.0, sample=hand.sample([0.5, 1.0, 2.0, 4.0])))
    ten = norm_bound(inputs([A, 10 * B], gamma=10.0, sample=hand.sample([5.0, 10.0, 20.0, 40.0])))
    assert ten.log == pytest.approx(one.log, abs=1e-12)
    # the printed line is not invariant: it knows no gamma but one fixed beforehand
    assert ten.log_printed != pytest.approx(one.log_printed, abs=1e-3)
    assert any("gamma" in condition.name for condition in one.conditions)


def test_rescaling_hidden_layers_changes_nothing():
    one = norm_bound(inputs([A, B, B]))
    assert norm_bound(inputs([A * 8, B / 2, B / 4])).log == pytest.approx(one.log, abs=1e-12)


def test_degrees_of_convolutions_and_of_a_dense_layer_after_them():
    kernel = torch.full((3, 2, 3, 3), 0.5, dtype=torch.float64)
    flat = kernel.flatten(1).numpy()
    first = hand.layer(flat, "conv", op="conv2d", weight=kernel, channels=3, positions=16, num_inputs=32)
    last = hand.layer(np.ones((2, 48)), "dense")
    sample = hand.sample(input_shape=(2, 4, 4))
    value = norm_bound(inputs([A, B], layers=(first, last), sample=sample, gamma=2.0))
    assert value.ingredients["degrees"] == (9.0, 16.0)
    assert value.ingredients["pixel_sum"] == 7.0  # the largest pixel sum, not the whole input
    r = math.sqrt(54 * 0.25) * 2 * math.sqrt(48) / 2
    nats = 2 * math.log(2) + math.log(9 * 16) + math.log(2)
    capacity = (r + 1) * (1 + math.sqrt(2 * nats)) * math.sqrt(9 * 16 * 7)
    confidence = CONFIDENCE * math.sqrt(math.log(2 * (r + 2) ** 2 / 0.05))
    assert value.value == pytest.approx(3 / 4 + capacity + confidence)
    assert value.status is Status.UNKNOWN
    assert value.why.startswith("unknown: float32 logits within a known distance of the exact ones (not known of conv")


def test_rounding_beyond_the_margin_is_no_guarantee():
    steep = norm_bound(inputs([1e6 * np.array(A), B], gamma=2.0))
    assert steep.status is Status.FAILS
    assert "float32 logits" in steep.why


def test_the_sum_of_squares_of_the_sample_is_used_where_it_is_known():
    known = norm_bound(inputs([A, B], sample=hand.sample(total_square=20.0)))
    assert known.ingredients["pixel_sum"] == 20.0
    assert known.log < norm_bound(inputs([A, B])).log  # 4 times 3^2 otherwise


@pytest.mark.parametrize(
    "name", ["bias-free", "ReLU activations only", PLAIN, "every weight layer measured", "chain of layers"]
)
def test_every_hypothesis_on_the_graph_is_needed(name):
    value = norm_bound(inputs([A, B], structure={**GRAPH, name: Condition(name, None, "?")}))
    assert value.status is Status.UNKNOWN
    failed = norm_bound(inputs([A, B], structure={**GRAPH, name: Condition(name, False, "it is not so")}))
    assert failed.status is (Status.OUTSIDE if name == "chain of layers" else Status.FAILS)
    assert "it is not so" in failed.why
    assert BoundRow.of(norm_bound, failed, 4).kind == "measure"


def test_layers_that_do_not_fit_fail_a_condition():
    """Whatever lies between (pooling, slicing) is not in the theorem."""
    value = norm_bound(inputs([A, np.ones((2, 3))]))
    assert value.status is Status.FAILS
    assert "reads 3 values of 2" in value.why


def test_layers_outside_the_class_are_refused():
    places = hand.layer(A, "tokens", positions=4)
    assert "4 places" in norm_bound(inputs([A], layers=(places,))).why
    conv = hand.layer(A, "conv", op="conv2d", positions=4)
    assert "after a dense layer" in norm_bound(inputs([A, A], layers=(hand.layer(A), conv))).why
    assert norm_bound(inputs([A], layers=(conv,))).status is Status.OUTSIDE  # its logits come from four places


def test_a_zero_layer_leaves_margin_loss_and_confidence():
    value = norm_bound(inputs([A, np.zeros((2, 2))], gamma=2.0))
    least = 4 / 4 * (1 + math.sqrt(6 * math.log(2))) * 6
    assert value.value == pytest.approx(3 / 4 + least + CONFIDENCE * math.sqrt(math.log(8 / 0.05)))


def test_monotone_in_delta_and_in_the_number_of_examples():
    one = norm_bound(inputs([A, B], delta=0.05)).log
    assert norm_bound(inputs([A, B], delta=0.01)).log > one
    assert norm_bound(inputs([A, B], sample=hand.sample([0.5, 1.0, 2.0, 4.0] * 10))).log < one


def test_sixty_large_layers_have_a_finite_logarithm():
    value = norm_bound(inputs([np.full((1, 1), 1e30)] * 60, sample=hand.sample(input_shape=(1,))))
    assert value.status is Status.FAILS
    assert value.why.startswith("fails: float32 logits")
    assert value.log == pytest.approx(60 * math.log(1e30), rel=1e-2)
    assert BoundRow.of(norm_bound, value, 4).vacuous


def test_it_can_be_below_one():
    sample = hand.sample([1.0] * 40000, largest_input=1.0, input_shape=(1,))
    value = norm_bound(inputs([[[0.5], [-0.5]]], gamma=0.9, sample=sample))
    assert value.status is Status.HOLDS
    assert 0.1 < value.value < 0.2


def test_memorising_random_labels_is_not_certified():
    """The minimum-norm separator of random labels is wrong half of the time; the middle term is what says so."""
    rng, m, size = np.random.default_rng(1), 500, 1000
    x, y = rng.normal(size=(m, size)), rng.choice([-1.0, 1.0], size=m)
    w = x.T @ np.linalg.solve(x @ x.T, y)
    margins = y * (x @ w)
    assert margins.min() == pytest.approx(1)
    facts = hand.sample(margins, total_square=float((x**2).sum()), input_shape=(size,))
    weight = np.stack([w, -w]) / 2
    layer = hand.layer(weight)
    value = norm_bound(inputs([A], layers=(layer,), gamma=0.99, sample=facts))
    r = float(np.linalg.norm(w)) / 0.99
    without = 3 * math.sqrt(math.log(2 * (r + 2) ** 2 / 0.05) / (2 * m))
    assert without < 0.5 < value.value


def test_biases_are_one_more_weight():
    """A network with biases is the network without them whose input and hidden layers carry a 1."""
    a, b = np.array([1.0, -2.0]), np.array([0.5, 3.0])
    sizes = [float(np.linalg.norm(bias)) for bias in (a, b)]
    tensors = [
        hand.layer(matrix, name, bias=torch.tensor(bias), has_bias=True, bias_norm=size)
        for matrix, name, bias, size in zip((A, B), ("one", "two"), (a, b), sizes, strict=True)
    ]
    with_biases = norm_bound_with_biases(inputs([A, B], layers=tuple(tensors), sample=hand.sample(total_square=20.0)))
    first = np.block([[A, a[:, None]], [np.zeros((1, 2)), np.ones((1, 1))]])
    second = np.hstack([B, b[:, None]])
    facts = hand.sample(total_square=20.0 + 4, input_shape=(3,))
    without = norm_bound(inputs([first, second], sample=facts))
    # but for rounding: constants are exact, and are no terms of a sum
    products = [
        found.ingredients["log_r"] + math.log(1 - found.ingredients["rounding_of_margins"])
        for found in (with_biases, without)
    ]
    assert products[0] == pytest.approx(products[1], abs=1e-12)
    assert with_biases.log == pytest.approx(without.log, abs=1e-4)
    assert with_biases.status is Status.HOLDS
    biased = {**GRAPH, "bias-free": Condition("bias-free", False, "offsets: one")}
    row = norm_bound_with_biases(inputs([A, B], layers=tuple(tensors), structure=biased))
    assert row.status is Status.HOLDS
    assert norm_bound(inputs([A, B], layers=tuple(tensors), structure=biased)).status is Status.FAILS


def test_biases_of_convolutions_are_one_more_node():
    kernel = torch.full((3, 2, 3, 3), 0.5, dtype=torch.float64)
    bias = torch.tensor([1.0, 1.0, 1.0], dtype=torch.float64)
    first = hand.layer(
        kernel.flatten(1).numpy(),
        "conv",
        op="conv2d",
        weight=kernel,
        channels=3,
        positions=16,
        num_inputs=32,
        bias=bias,
    )
    last = hand.layer(np.ones((2, 48)), "dense", bias=torch.tensor([1.0, 1.0], dtype=torch.float64))
    value = norm_bound_with_biases(inputs([A, B], layers=(first, last), sample=hand.sample(input_shape=(2, 4, 4))))
    assert value.ingredients["degrees"] == (10.0, 17.0)
    assert value.ingredients["norms"] == pytest.approx((math.sqrt(54 * 0.25 + 3), 2 * 7))
    assert value.ingredients["pixel_sum"] == 7.0  # the constant's 4 is less


def test_a_bias_that_was_not_gathered_is_asked_for():
    layers = (hand.layer(A, "one", has_bias=True), hand.layer(B, "two"))
    assert norm_bound_with_biases(inputs([A, B], layers=layers)).status is Status.NEEDS


def chain(*modules):
    return nn.Sequential(*modules)


@pytest.mark.parametrize(
    ("module", "shape", "plain"),
    [
        (chain(nn.Flatten(), nn.Linear(8, 4), nn.ReLU(), nn.Dropout(), nn.Linear(4, 3)), (2, 2, 2), True),
        (chain(nn.Conv2d(2, 3, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(12, 3)), (2, 2, 2), True),
        (chain(nn.Conv2d(2, 3, 1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(3, 3)), (2, 2, 2), False),
        (chain(nn.Conv2d(2, 3, 1), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(3, 3)), (2, 2, 2), False),
        (chain(nn.Conv2d(2, 3, 1), nn.MaxPool2d(1), nn.Flatten(), nn.Linear(12, 3)), (2, 2, 2), False),
        (chain(nn.Unflatten(1, (1, 2, 2)), nn.Conv2d(1, 3, 2), nn.Flatten()), (4,), False),
        (chain(nn.Linear(4, 3), nn.Tanh()), (4,), False),
        (chain(nn.Linear(4, 3), nn.LeakyReLU()), (4,), False),
        (chain(nn.Linear(4, 3), nn.Softmax(1)), (4,), False),
    ],
)
def test_which_graphs_are_plain(module, shape, plain):
    network = capture(module.eval(), torch.zeros(2, *shape))
    condition = plain_chain(network.architecture)
    assert condition.name == PLAIN
    assert condition.holds is plain, condition.detail


@pytest.mark.parametrize(("bias", "statuses"), [(False, ("guarantee", "guarantee")), (True, ("measure", "guarantee"))])
def test_on_a_captured_network_the_right_row_is_a_guarantee(bias, statuses):
    network = nets.captured(nets.chain(bias=bias), 5)
    sample = nets.sample_of(network)
    given = gather(network, sample, BoundSettings(margin_quantile=0.3, profile=False, flatness=False))
    rows = [BoundRow.of(row, row(given), given.m) for row in (norm_bound, norm_bound_with_biases)]
    assert tuple(row.kind for row in rows) == statuses, [row.why for row in rows]
    assert given.sample.total_square == pytest.approx(float((sample.inputs.astype(np.float64) ** 2).sum()))


def test_pooling_is_never_a_guarantee():
    torch.manual_seed(0)
    model = chain(nn.Conv2d(2, 4, 3, padding=1, bias=False), nn.ReLU(), nn.MaxPool2d(3, 1, 1), nn.Flatten())
    model = chain(*model, nn.Linear(144, 3, bias=False))
    network = nets.captured(model, 2, 6, 6)
    given = gather(network, nets.sample_of(network), BoundSettings(margin_quantile=0.3, profile=False, flatness=False))
    value = norm_bound(given)  # the pooling keeps every size, and the network is "ReLU only" to the measures
    assert value.status is Status.FAILS
    assert "max_pool2d" in value.why
