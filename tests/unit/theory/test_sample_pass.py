"""One pass over the data against loops over examples, and what it refuses."""

import math

import numpy as np
import pytest
import torch

from bitcert import Preprocessing, Role, Sample
from bitcert.counting import count_errors
from bitcert.errors import InputError
from bitcert.theory.ingredients import sample_pass
from bitcert.theory.ingredients.messages import OpenedMessage
from bitcert.theory.ingredients.sample_pass import check_sample, count_holdout, pass_over
from tests.unit.theory import nets


@pytest.fixture(scope="module")
def network():
    return nets.captured(nets.convolutional(), 2, 6, 6)


@pytest.fixture(scope="module")
def sample(network):
    return nets.sample_of(network, wrong=4)


def slow_margins(logits, labels):
    return [float(row[y] - max(v for k, v in enumerate(row) if k != y)) for row, y in zip(logits, labels, strict=True)]


@pytest.mark.parametrize("batch", [1, 7, 1000])
def test_facts_against_loops_over_examples(network, sample, monkeypatch, batch):
    monkeypatch.setattr(sample_pass, "MAX_BATCH_SIZE", batch)
    process = Preprocessing(2.0, (0.1, -0.2), (0.5, 2.0))
    facts, messages = pass_over(network, sample, process)
    x = ((sample.inputs / 2.0 - np.array([0.1, -0.2]).reshape(2, 1, 1)) / np.array([0.5, 2.0]).reshape(2, 1, 1)).astype(
        np.float32
    )
    logits = network(torch.from_numpy(x)).numpy().astype(np.float64)
    margins = sorted(slow_margins(logits, sample.labels))
    np.testing.assert_allclose(facts.margins, margins, rtol=1e-4, atol=1e-6)
    assert facts.errors == sum(margin <= 0 for margin in margins)
    norms = [math.sqrt(sum(v * v for v in row.ravel().tolist())) for row in x]
    assert facts.largest_input == pytest.approx(max(norms), rel=1e-6)
    assert facts.largest_output == pytest.approx(max(math.sqrt((row**2).sum()) for row in logits), rel=1e-4)
    places = [sum(float((e[:, a, b] ** 2).sum()) for e in x) for a in range(6) for b in range(6)]
    assert facts.largest_pixel == pytest.approx(max(places), rel=1e-6)
    assert (facts.num_samples, facts.num_classes, facts.input_shape) == (40, 3, (2, 6, 6))
    assert facts.total_square == pytest.approx(sum(norm**2 for norm in norms), rel=1e-6)
    assert facts.norm_limit is None
    assert messages == ()


def test_the_entries_of_a_vector_are_places_of_their_own():
    network = nets.captured(nets.chain(), 5)
    sample = nets.sample_of(network)
    facts, _ = pass_over(network, sample, Preprocessing())
    assert facts.largest_pixel == pytest.approx(float((sample.inputs.astype(np.float64) ** 2).sum(0).max()), rel=1e-6)


def test_errors_are_those_of_certificates(network, sample):
    facts, _ = pass_over(network, sample, Preprocessing())
    assert facts.errors == count_errors(lambda x: network(torch.from_numpy(x.copy())), sample).errors == 4
    assert int(np.searchsorted(facts.margins, 0.0, side="right")) == 4


def test_a_tie_is_an_error():
    tied = nets.captured(torch.nn.Linear(2, 2, bias=False), 2)
    values = {name: torch.ones(2, 2) for name in tied.parameters}
    network = type(tied)(tied.architecture, values, tied.report)
    inputs = np.ones((3, 2), np.float32)
    sample = Sample(inputs, np.array([0, 1, 0]), 2, Role.TRAIN, "tied")
    assert pass_over(network, sample, Preprocessing())[0].errors == 3
    assert count_holdout(network, sample, Preprocessing()).errors == 3


def test_the_limit_of_pixels_holds_without_the_data(network):
    rng = np.random.default_rng(0)
    process = Preprocessing(255.0, (0.9, 0.1), (0.5, 0.2))
    extreme = np.zeros((4, 2, 6, 6), np.uint8)
    extreme[:, 1] = 255  # farthest from each channel's mean
    extreme[1:] = rng.integers(0, 256, (3, 2, 6, 6))
    sample = Sample(extreme, np.array([0, 1, 2, 0]), 3, Role.TRAIN, "pixels")
    facts, _ = pass_over(network, sample, process)
    expected = math.sqrt(36 * ((0.9 / 0.5) ** 2 + (0.9 / 0.2) ** 2))
    assert facts.largest_input == pytest.approx(expected, rel=1e-6)
    assert facts.largest_input <= facts.norm_limit <= expected * (1 + 1e-5)


def message(classifier, batch_size=1000):
    return OpenedMessage("other", 80, classifier, batch_size)


def test_messages_are_compared_with_the_network_and_counted(network, sample):
    def shifted(x):
        logits = network(torch.from_numpy(x.copy()))
        first = torch.from_numpy(x.copy()).reshape(len(x), -1)[:, :1]
        return logits + first * torch.tensor([0.3, 0.0, -0.4])

    facts, (found,) = pass_over(network, sample, Preprocessing(), messages=[message(shifted, 7)])
    largest = float(np.abs(sample.inputs.reshape(40, -1)[:, 0]).max())
    assert found.deviation == pytest.approx(0.4 * largest, rel=1e-5)
    assert found.deviation_l2 == pytest.approx(0.5 * largest, rel=1e-5)
    assert found.errors == count_errors(shifted, sample).errors
    assert (found.name, found.bits) == ("other", 80)
    assert facts.errors == 4


def test_a_message_that_overflows_is_infinitely_far(network, sample):
    _, (found,) = pass_over(
        network, sample, Preprocessing(), messages=[message(lambda x: torch.full((len(x), 3), math.nan))]
    )
    assert found.deviation == found.deviation_l2 == math.inf
    assert found.errors == len(sample)


def test_a_message_of_another_problem_is_refused(network, sample):
    with pytest.raises(InputError, match=r"shape \[40, 2\] from other"):
        pass_over(network, sample, Preprocessing(), messages=[message(lambda x: torch.zeros(len(x), 2))])


def test_outputs_that_are_not_finite_are_refused(network, sample):
    values = {name: value * 1e30 for name, value in network.parameters.items()}
    broken = type(network)(network.architecture, values, network.report)
    with pytest.raises(InputError, match="NaN or infinity for example 0 of toy"):
        pass_over(broken, sample, Preprocessing())
    with pytest.raises(InputError, match="NaN or infinity for example 0 of toy"):
        count_holdout(broken, sample, Preprocessing())


def test_held_out_errors(network, sample):
    found = count_holdout(network, sample, Preprocessing())
    assert (found.name, found.errors, found.samples) == ("toy", 4, 40)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"labels": None, "role": Role.UNLABELLED}, "labels of toy"),
        ({"labels": np.zeros(40, np.int64), "role": Role.UNLABELLED}, "only label 0 on 40 examples"),
        ({"num_classes": 4}, "a network with 4 outputs"),
        ({"inputs": np.zeros((40, 72), np.float32)}, "inputs of shape"),
    ],
)
def test_samples_that_do_not_fit_are_refused(network, sample, change, words):
    content = {"inputs": sample.inputs, "labels": sample.labels, "num_classes": 3, "role": Role.TRAIN, **change}
    with pytest.raises(InputError, match=words):
        check_sample(network, Sample(**content, name="toy"))


def test_a_sample_that_fits_passes(network, sample):
    check_sample(network, sample)


def test_progress_reaches_the_end(network, sample):
    told = []
    pass_over(network, sample, Preprocessing(), progress=lambda task, fraction: told.append(fraction))
    count_holdout(network, sample, Preprocessing(), progress=lambda task, fraction: told.append(fraction))
    assert told[-1] == told[0] == 1.0
