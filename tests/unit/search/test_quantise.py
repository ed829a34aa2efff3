from __future__ import annotations

import functools
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from bitcert.codecs.finetune import SCHEDULE, trainer, tune
from bitcert.codecs.integer_training import rate_slopes
from bitcert.codecs.quantisation import Problem, Quantisation, code_bits
from bitcert.codecs.tuned import common_settings, compress_network, compress_values, sweep_precision
from bitcert.coding import MessageReader, integer_code_bits, step_size
from bitcert.coding.layouts import UnitsInUse, tensor_code_bits
from bitcert.counting import count_errors
from bitcert.data import Role, Sample, load_sample
from bitcert.decoder import Helper, decode_message
from bitcert.decoder.network import FAMILY, dequantise, read_integers, write
from bitcert.errors import DecodeError, InputError
from bitcert.network import Network, capture, capture_opaque
from bitcert.run import Checkpoint, Run


class Positions(nn.Module):
    """Every kind of parameter: weight, bias, norm gain, embedding table, integer buffer, tied weights."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("position_ids", torch.arange(8))
        self.table = nn.Embedding(8, 8)
        self.first = nn.Linear(8, 8)
        self.second = nn.Linear(8, 8, bias=False)
        self.second.weight = self.first.weight
        self.norm = nn.LayerNorm(8)
        self.last = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.table(self.position_ids).sum(0)
        return self.last(self.norm(self.second(torch.relu(self.first(x)))))


class Convolutions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 6, 3), nn.ReLU(), nn.MaxPool2d(2))
        self.head = nn.Linear(24, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(x).flatten(1))


class Residual(nn.Module):
    """Two convolutions with batch norms around a shortcut, as in a residual network."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.stem_norm = nn.Conv2d(1, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
        self.inner, self.inner_norm = nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
        self.head = nn.Linear(4, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.stem_norm(self.stem(x)))
        x = torch.relu(x + self.inner_norm(self.inner(x)))
        return self.head(x.mean((2, 3)))


@functools.cache
def positions() -> Network:
    torch.manual_seed(0)
    return capture(Positions(), torch.randn(4, 8))


@functools.cache
def convolutions() -> Network:
    torch.manual_seed(1)
    return capture(Convolutions(), torch.rand(4, 1, 8, 8))


@functools.cache
def digits() -> Sample:
    return load_sample("digits", Role.TRAIN)


@functools.cache
def trained() -> tuple[nn.Module, Network]:
    """A dense network with 2 hidden units per class, trained on the digits to a few errors."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 20), nn.ReLU(), nn.Linear(20, 10))
    sample = digits()
    x = torch.tensor(sample.inputs, dtype=torch.float32) / 16
    y = torch.tensor(sample.labels)
    optimiser = torch.optim.Adam(model.parameters(), 0.02)
    for _ in range(120):
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimiser.step()
    return model, capture(model, x[:4])


def random_quantisation(network: Network, seed: int, density: float = 1.0) -> Quantisation:
    generator = np.random.default_rng(seed)
    integers, exponents = {}, {}
    for spec in network.architecture.parameters:
        values = np.rint(3 * generator.standard_normal(spec.shape)).astype(np.int64)
        if len(spec.shape) > 1:  # whole units silent, as after pruning
            values[generator.random(spec.shape[0]) > density] = 0
        if spec.kind == "buffer":
            values = np.arange(values.size).reshape(spec.shape)
        integers[spec.name] = values
        exponents[spec.name] = 0 if spec.kind == "buffer" else int(generator.integers(-30, 5))
    return Quantisation(integers, exponents)


def helper_of(network: Network) -> Helper:
    architecture = network.architecture
    return Helper(architecture.input_shape, architecture.num_outputs, predictor=architecture)


@pytest.mark.parametrize("network", [positions, convolutions])
@pytest.mark.parametrize("density", [0.0, 0.3, 1.0])
def test_a_message_decodes_to_the_same_integers_and_bitwise_the_same_weights(network, density) -> None:
    network = network()
    quantisation = random_quantisation(network, 3, density)
    message, ledger = write(network.architecture, quantisation.integers, quantisation.exponents)
    decoded = decode_message(message, helper_of(network))
    assert decoded.ledger == ledger
    assert ledger.total_bits == 8 * len(message)
    expected = dequantise(network.architecture, quantisation.integers, quantisation.exponents)
    weights = decoded.classifier.weights
    assert set(weights) == set(expected)
    for name, tensor in expected.items():
        assert weights[name].dtype == torch.float32
        assert weights[name].numpy().tobytes() == tensor.numpy().tobytes()
    x = np.random.default_rng(0).random((5, *network.architecture.input_shape), dtype=np.float32)
    assert torch.equal(decoded.classifier(x), network.architecture.forward(torch.from_numpy(x), expected))


def test_a_weight_is_the_integer_times_the_step_and_a_gain_is_counted_from_one() -> None:
    network = positions()
    quantisation = random_quantisation(network, 5)
    weights = dequantise(network.architecture, quantisation.integers, quantisation.exponents)
    step = step_size(quantisation.exponents["first.weight"])
    expected = (quantisation.integers["first.weight"] * step).astype(np.float32)
    assert np.array_equal(weights["first.weight"].numpy(), expected)
    gain = 1 + quantisation.integers["norm.weight"] * step_size(quantisation.exponents["norm.weight"])
    assert np.array_equal(weights["norm.weight"].numpy(), gain.astype(np.float32))


def test_ledger_names_every_tensor_and_tied_weights_are_coded_once() -> None:
    network = positions()
    quantisation = random_quantisation(network, 7)
    _, ledger = write(network.architecture, quantisation.integers, quantisation.exponents)
    names = [name for name, _ in ledger.sections]
    assert names == ["header", *(spec.name for spec in network.architecture.parameters), "padding"]
    assert "first.weight" in names
    assert "second.weight" not in names


def test_silent_units_are_paid_for_once_and_not_in_the_columns_that_read_them() -> None:
    network = convolutions()
    quantisation = random_quantisation(network, 9)
    integers = {name: values.copy() for name, values in quantisation.integers.items()}
    silent = [1, 2, 4]
    integers["body.2.weight"][silent] = 0
    integers["body.2.bias"][silent] = 0
    integers["head.weight"].reshape(10, 6, 4)[:, silent] = 0
    _, ledger = write(network.architecture, integers, quantisation.exponents)
    bits = dict(ledger.sections)
    alive = np.delete(integers["head.weight"].reshape(10, 6, 4), silent, axis=1)
    assert bits["head.weight"] < integer_code_bits(alive) + 40
    assert bits["head.weight"] < integer_code_bits(integers["head.weight"]) - 20


def test_ideal_lengths_are_close_to_the_file() -> None:
    for network in (positions(), convolutions()):
        for density in (0.2, 1.0):
            quantisation = random_quantisation(network, 11, density)
            message, _ = write(network.architecture, quantisation.integers, quantisation.exponents)
            overhead = 24 * len(network.architecture.parameters) + 16
            bits = code_bits(network.architecture, quantisation)
            assert bits * 0.99 - 8 <= 8 * len(message) <= bits * 1.03 + overhead


def test_shortest_layout_is_never_longer_than_the_plain_one() -> None:
    generator = np.random.default_rng(0)
    for density in (0.02, 0.2, 1.0):
        values = (generator.random((12, 5, 3, 3)) < density).astype(np.int64)
        assert tensor_code_bits(values, UnitsInUse())[0] <= integer_code_bits(values) + 1e-9


def test_a_helper_without_architecture_is_refused() -> None:
    network = convolutions()
    quantisation = random_quantisation(network, 1)
    message, _ = write(network.architecture, quantisation.integers, quantisation.exponents)
    with pytest.raises(DecodeError, match="architecture"):
        decode_message(message, Helper((1, 8, 8), 10))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_changed_message_is_refused_or_is_another_network(data: st.DataObject) -> None:
    network = convolutions()
    quantisation = random_quantisation(network, 13, 0.5)
    message, _ = write(network.architecture, quantisation.integers, quantisation.exponents)
    position = data.draw(st.integers(0, len(message) - 1))
    mutated = bytearray(message)
    mutated[position] ^= data.draw(st.integers(1, 255))
    try:
        decoded = decode_message(bytes(mutated), helper_of(network))
    except DecodeError:
        return
    same = dequantise(network.architecture, quantisation.integers, quantisation.exponents)
    weights = decoded.classifier.weights
    assert decoded.ledger.total_bits == 8 * len(mutated)
    assert any(not torch.equal(weights[name], same[name]) for name in same)


def test_every_truncation_and_every_extension_is_refused() -> None:
    network = convolutions()
    quantisation = random_quantisation(network, 13, 0.5)
    message, _ = write(network.architecture, quantisation.integers, quantisation.exponents)
    for length in range(0, len(message), 3):
        with pytest.raises(DecodeError):
            decode_message(message[:length], helper_of(network))
    with pytest.raises(DecodeError):
        decode_message(message + b"\x00", helper_of(network))


def test_an_absurd_step_is_refused() -> None:
    from bitcert.coding import MessageWriter

    network = convolutions()
    writer = MessageWriter(FAMILY)
    with writer.section("x") as bits:
        bits.signed(10**15)
    message, _ = writer.finish()
    with pytest.raises(DecodeError, match="exponent"):
        decode_message(message + bytes(100), helper_of(network))


def test_integer_buffers_are_lossless_at_every_precision_of_the_rest() -> None:
    network = positions()
    sample = Sample(np.eye(8, dtype=np.float32)[:6], np.arange(6) % 3, 3, Role.TRAIN, "toy")
    problem = Problem(network.parameters, sample, helper_of(network), Run())
    for fraction in (0.1, 4.0):
        quantisation = problem.quantise(common_settings(problem, fraction))
        message, _ = write(network.architecture, quantisation.integers, quantisation.exponents)
        integers, exponents = read_integers(MessageReader(message), network.architecture)
        name = next(spec.name for spec in network.architecture.parameters if spec.kind == "buffer")
        assert exponents[name] == 0
        assert np.array_equal(integers[name].ravel(), np.arange(8))


def test_rate_slopes_predict_the_change_of_the_code_length() -> None:
    generator = np.random.default_rng(4)
    values = np.rint(0.5 * generator.standard_normal((40, 60))).astype(np.int64)
    slopes = rate_slopes(values)
    row, column = np.argwhere(np.abs(values) == 1)[7]
    without = values.copy()
    without[row, column] = 0
    saved = integer_code_bits(values) - integer_code_bits(without)
    assert saved == pytest.approx(float(slopes.levels[0]), rel=0.25)
    gradient = slopes.gradient(torch.tensor([[0.4]]).expand(40, 60))
    assert float(gradient[row, column]) >= float(slopes.levels[0])
    assert torch.equal(slopes.gradient(torch.zeros(40, 60)), torch.zeros(40, 60))


def test_post_training_finds_a_nonvacuous_bound_and_books_what_it_returns() -> None:
    _, network = trained()
    sample = digits()
    run = Run(budget_seconds=3)
    compressed = compress_network(network, sample, Helper.for_sample(sample), run, fine_tune=False)
    assert compressed.helper.predictor is network.architecture
    best = min(candidate.bound for candidate in compressed.candidates)
    errors = count_errors(decode_message(compressed.message, compressed.helper).classifier, sample).errors
    booked = next(candidate for candidate in compressed.candidates if candidate.bound == best)
    assert (booked.errors, booked.message_bits) == (errors, 8 * len(compressed.message))
    assert compressed.ledger.total_bits == 8 * len(compressed.message)
    assert best < 0.95


def test_fine_tuning_improves_the_bound_within_the_budget(ticking) -> None:
    ticking(2**-7)
    _, network = trained()
    sample = digits()
    run = Run(budget_seconds=8)
    compressed = compress_network(network, sample, Helper.for_sample(sample), run)
    before = min(c.bound for c in compressed.candidates if "precision" in c.name)
    after = min(c.bound for c in compressed.candidates)
    assert after < before - 0.1
    assert run.seconds < 8 + 2


def test_a_killed_run_goes_on_from_its_checkpoint(tmp_path, ticking) -> None:
    ticking(2**-7)  # sums of which are exact
    _, network = trained()
    sample = digits()
    helper = Helper.for_sample(sample, network.architecture)
    checkpoint = Checkpoint(tmp_path / "state", "same")

    class Killed(Exception):
        pass

    def kill(task: str, fraction: float) -> None:
        if fraction > 0.5 and task.startswith("fine"):
            raise Killed

    problem = Problem(network.parameters, sample, helper, Run(budget_seconds=4, progress=kill, checkpoint=checkpoint))
    _, started = sweep_precision(problem, 0.1)
    problem.keep("common precision", problem.quantise(started))
    with pytest.raises(Killed):
        tune(problem, started, replace(SCHEDULE, checkpoint_seconds=0.2))
    state = checkpoint.load()
    assert state is not None
    steps_before = state[0]["trainer"]["num_steps"]
    assert steps_before > 0
    again = Run(budget_seconds=4, checkpoint=checkpoint)
    compressed = compress_network(network, sample, helper, again)
    assert again.seconds < 5, "the seconds before the kill count"
    assert compressed.candidates[: len(problem.run.candidates)] == tuple(problem.run.candidates)
    errors = count_errors(decode_message(compressed.message, helper).classifier, sample).errors
    best = min(compressed.candidates, key=lambda c: (c.bound, c.message_bits))
    assert (best.errors, best.message_bits) == (errors, 8 * len(compressed.message))


def test_restored_training_takes_the_same_steps(tmp_path) -> None:
    _, network = trained()
    sample = digits()
    helper = Helper.for_sample(sample, network.architecture)
    checkpoint = Checkpoint(tmp_path / "state", "same")
    problem = Problem(network.parameters, sample, helper, Run(checkpoint=checkpoint))
    initial = common_settings(problem, 0.5)
    problem.keep("start", problem.quantise(initial))
    whole, model = trainer(problem, initial)
    for _ in range(25):
        whole.step(0.2)
    whole.save()
    for _ in range(20):
        whole.step(0.2)
    other, same = trainer(problem, initial)
    state = problem.resume()
    assert state is not None
    other.restore(state)
    for _ in range(20):
        other.step(0.2)
    for one, two in zip(model.state().values(), same.state().values(), strict=True):
        assert torch.equal(one, two)


def test_random_labels_get_no_bound_below_the_true_error() -> None:
    _, network = trained()
    labels = np.random.default_rng(0).integers(0, 10, len(digits()))
    sample = Sample(digits().inputs, labels, 10, Role.TRAIN, "digits")
    compressed = compress_network(network, sample, Helper.for_sample(sample), Run(budget_seconds=3))
    assert min(candidate.bound for candidate in compressed.candidates) >= 0.9


def test_an_opaque_module_is_treated_alike() -> None:
    model, _ = trained()
    sample = digits()
    example = torch.tensor(sample.inputs[:4], dtype=torch.float32) / 16
    opaque, values = capture_opaque(model, "tests:model", example)
    helper = Helper.for_sample(sample, opaque)
    compressed = compress_values(values, sample, helper, Run(budget_seconds=1))
    decoded = decode_message(compressed.message, helper)
    best = min(candidate.bound for candidate in compressed.candidates)
    assert best < 0.95
    assert count_errors(decoded.classifier, sample).errors < 900


@pytest.mark.parametrize("fine_tune", [False, True])
def test_a_residual_network_is_compressed_even_where_nothing_can_be_certified(fine_tune) -> None:
    torch.manual_seed(0)
    network = capture(Residual(), torch.rand(4, 1, 8, 8))
    sample = digits().take(slice(0, 200))
    run = Run(budget_seconds=1)
    compressed = compress_network(network, sample, Helper.for_sample(sample), run, fine_tune=fine_tune)
    decoded = decode_message(compressed.message, compressed.helper)
    assert decoded.ledger.total_bits == 8 * len(compressed.message)
    errors = count_errors(decoded.classifier, sample).errors
    assert (errors, 8 * len(compressed.message)) in {(c.errors, c.message_bits) for c in compressed.candidates}


def test_a_helper_of_another_architecture_is_refused() -> None:
    _, network = trained()
    sample = digits()
    with pytest.raises(InputError, match="architecture"):
        compress_network(network, sample, Helper.for_sample(sample, convolutions().architecture), Run())


def test_weights_that_vanish_or_explode_still_give_a_message() -> None:
    sample = Sample(np.eye(8, dtype=np.float32), np.arange(8) % 3, 3, Role.TRAIN, "toy")
    network = positions()
    values = {name: torch.zeros_like(tensor) for name, tensor in network.parameters.items()}
    values["first.weight"] = torch.full((8, 8), 1e30)
    compressed = compress_values(values, sample, helper_of(network), Run(budget_seconds=1), fine_tune=True)
    assert compressed.candidates[0].bound == 1.0
    decode_message(compressed.message, compressed.helper)


def test_a_scalar_parameter_is_coded_and_decoded():
    class Tempered(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(64, 10)
            self.temperature = nn.Parameter(torch.tensor(2.0))

        def forward(self, x):
            return self.layer(x.flatten(1)) * self.temperature

    sample = load_sample("digits", Role.TRAIN)
    network = capture(Tempered(), torch.rand(2, 1, 8, 8))
    compressed = compress_network(network, sample, Helper.for_sample(sample), Run(budget_seconds=1), fine_tune=False)
    classifier = decode_message(compressed.message, compressed.helper).classifier
    assert classifier(sample.inputs[:3]).shape == (3, 10)


def test_a_non_zero_bias_has_a_price():
    values = np.array([0] * 40 + [1, -2, 3], dtype=np.int64)
    slopes = rate_slopes(values)
    dearer = integer_code_bits(np.where(np.arange(43) == 0, 1, values)) - integer_code_bits(values)
    assert float(slopes.levels[0]) == pytest.approx(dearer, rel=0.15)
    assert slopes.gradient(torch.full((43,), 0.3)).min() > 0
