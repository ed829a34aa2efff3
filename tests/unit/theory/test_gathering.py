"""The verb ``bounds`` and what it gathers: against the parts it is made of, with and without what is optional."""

import json
import math

import numpy as np
import pytest
import torch
from torch import nn

from bitcert import Compressed, Helper, Preprocessing, Role, Sample, capture, certify
from bitcert.decoder import network as quantised
from bitcert.errors import BitcertError, InputError, SampleReuseError
from bitcert.stability import measure, network_hash
from bitcert.stability.producers import SamplePass
from bitcert.theory import gathering
from bitcert.theory.formulas.low_rank_network import OFFSETS_IN_LAYERS
from bitcert.theory.gathering import bounds, gather
from bitcert.theory.ingredients.conditions import PLAIN
from bitcert.theory.ingredients.margin import NO_MARGIN
from bitcert.theory.registry import Bound, all_bounds
from bitcert.theory.settings import BoundSettings
from bitcert.theory.table import BoundTable
from bitcert.theory.value import Absent, BoundValue, Condition, Kind, Status, Unit
from tests.unit.theory import hand, nets

QUICK = BoundSettings(margin_quantile=0.3, flatness=False)
BARE = BoundSettings(margin_quantile=0.3, flatness=False, profile=False)
POSITIVE = BoundSettings(margin_quantile=0.95, flatness=False, profile=False)


@pytest.fixture(scope="module")
def network():
    return nets.captured(nets.chain(), 5)


@pytest.fixture(scope="module")
def start():
    return nets.captured(nets.chain(seed=1), 5)


@pytest.fixture(scope="module")
def sample(network):
    return nets.sample_of(network, wrong=4)


@pytest.fixture(scope="module")
def holdout(network):
    return nets.sample_of(network, n=25, seed=2, name="held", wrong=5).with_role(Role.HOLDOUT)


@pytest.fixture(scope="module")
def everything(network, start, sample, holdout):
    settings = BoundSettings(margin_quantile=0.3, zeta=0.1, delta=0.01, seed=3)
    return gather(network, sample, settings, init=start, holdout=holdout)


def test_everything_is_gathered(everything, network, start, sample):
    inputs = everything
    assert (inputs.depth, inputs.width, inputs.m, inputs.delta, inputs.seed, inputs.zeta) == (3, 8, 40, 0.01, 3, 0.1)
    assert (inputs.sample.errors, inputs.holdout.errors, inputs.holdout.samples) == (4, 5, 25)
    margins = inputs.sample.margins
    assert inputs.gamma == margins[math.ceil(0.3 * 40) - 1]
    assert inputs.gamma_rule == "30 % quantile of the training margins"
    assert inputs.num_parameters == 5 * 8 + 8 * 6 + 6 * 3
    assert set(inputs.initial) == set(inputs.parameters) == set(network.parameters)
    assert all(condition.holds for name, condition in inputs.structure.items() if name != "margins positive")
    assert inputs.structure["margins positive"].holds is False
    assert inputs.structure["margins positive"].detail == "36 of 40 examples"
    assert set(hand.HYPOTHESES) <= set(inputs.structure)
    assert inputs.messages_note == "no certificate was named"
    assert inputs.flatness.sigma > 0
    assert inputs.lipschitz.log_total == pytest.approx(sum(math.log(own.norms.operator) for own in inputs.layers))
    assert inputs.path_norms[1.0] == pytest.approx(inputs.path_norms_with_biases[1.0])  # there are no biases


def test_the_profile_measured_is_the_one_that_could_have_been_given(everything, network, start, sample, holdout):
    settings = BoundSettings(margin_quantile=0.3, zeta=0.1, delta=0.01, seed=3)
    profile = measure(network, sample, settings.measure)
    given = gather(network, sample, settings, init=start, holdout=holdout, profile=profile)
    assert [own.stability for own in given.layers] == [own.stability for own in everything.layers]
    assert given.smoothness == everything.smoothness
    assert given.flatness == everything.flatness


def test_what_is_not_given_says_what_it_needs(network, sample):
    inputs = gather(network, sample, BARE)
    for absent, words in (
        (inputs.layers[0].stability, "--profile"),
        (inputs.smoothness, "--profile"),
        (inputs.layers[0].distance, "--init"),
        (inputs.initial, "--init"),
        (inputs.holdout, "--holdout"),
        (inputs.flatness, "flatness"),
    ):
        assert isinstance(absent, Absent)
        assert absent.status is Status.NEEDS
        assert words in absent.why


def test_a_profile_of_some_examples_says_so(network, sample):
    settings = BoundSettings(margin_quantile=0.3, flatness=False, profile_samples=15)
    assert gather(network, sample, settings).measured_samples == 15


def test_an_interrupted_measurement_goes_on_from_its_folder(network, sample, tmp_path, monkeypatch):
    first = gather(network, sample, QUICK, folder=tmp_path)
    assert any(tmp_path.rglob("*.npz"))
    monkeypatch.setattr(SamplePass, "arrays", lambda *_: pytest.fail("a finished shard was computed again"))
    again = gather(network, sample, QUICK, folder=tmp_path)
    assert [own.stability for own in again.layers] == [own.stability for own in first.layers]


def test_parameters_beside_the_layers_are_named():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(5, 4, bias=False), nn.Linear(4, 3, bias=False)
            self.gain = nn.Parameter(torch.full((4,), 2.0))

        def forward(self, x):
            return self.second(torch.relu(self.first(x)) * self.gain)

    torch.manual_seed(0)
    scaled = nets.captured(Scaled(), 5)
    condition = gather(scaled, nets.sample_of(scaled), BARE).structure["every weight layer measured"]
    assert condition.holds is False
    assert "gain" in condition.detail


def test_offsets_and_plain_chains_are_facts_of_the_graph(network, sample):
    biased = nets.captured(nets.chain(bias=True), 5)
    inputs = gather(biased, nets.sample_of(biased), BARE)
    found = inputs.structure
    assert inputs.path_norms_with_biases[1.0] > inputs.path_norms[1.0]
    assert found["margins positive"].holds is True
    assert found["bias-free"].holds is False
    assert found[OFFSETS_IN_LAYERS].holds is True
    assert found[PLAIN].holds is True

    class Shifted(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.shift = nn.Linear(5, 3, bias=False), nn.Parameter(torch.ones(3))

        def forward(self, x):
            return torch.tanh(self.first(x)) + self.shift

    shifted = nets.captured(Shifted(), 5)
    found = gather(shifted, nets.sample_of(shifted), BARE).structure
    assert found[OFFSETS_IN_LAYERS].holds is False
    assert found[PLAIN].holds is False
    assert found["every weight layer measured"].holds is True


class Multiplied(nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.first, self.factor = nn.Linear(5, 3, bias=False), factor

    def forward(self, x):
        return self.first(x * self.factor)


@pytest.mark.parametrize(("factor", "holds"), [(0.5, True), (3.0, False), (-2.0, False)])
def test_constants_that_make_values_grow_are_factors(factor, holds):
    torch.manual_seed(0)
    network = nets.captured(Multiplied(factor), 5)
    assert gather(network, nets.sample_of(network), BARE).structure["every weight layer measured"].holds is holds


def test_slopes_of_activations_and_biases_are_no_layers():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 4), nn.PReLU(), nn.Linear(4, 3))
    network = nets.captured(model, 5)
    inputs = gather(network, nets.sample_of(network), BARE)
    assert inputs.structure["every weight layer measured"].holds is True
    assert inputs.structure["bias-free"].holds is False
    assert inputs.structure["ReLU activations only"].holds is False


@pytest.fixture(scope="module")
def table(network, start, sample, holdout):
    return bounds(network, sample, QUICK, init=start, holdout=holdout)


def test_every_bound_has_its_row(table):
    assert [row.name for row in table.rows] == [bound.name for bound in all_bounds()]
    for row in table.rows:
        assert row.why, row.name
        assert (row.log10 is None and row.value is None) or math.isfinite(row.log10 if row.log10 is not None else 0.0)


def test_the_table_describes_the_run(table, network, sample):
    assert table.network["content_hash"] == network_hash(network)
    assert table.sample["content_hash"] == sample.content_hash
    assert table.gap == pytest.approx(5 / 25 - 4 / 40)
    assert table.margin_loss >= 0.3
    assert table.layers == (("0.weight", 40), ("2.weight", 48), ("4.weight", 18))
    assert {"sample", "weights", "profile", "graph", "holdout", "bounds"} <= set(table.seconds)
    assert table.settings["init_given"] is True
    assert table.settings["margin_quantile"] == 0.3
    assert table.row(table.rows[0].name) is table.rows[0]


def test_the_table_survives_its_file(table):
    text = table.to_json()
    assert BoundTable.from_json(text).to_json() == text
    rows = json.loads(table.rows_json())
    assert {"name", "source", "kind", "value", "log10", "applies", "why"} <= set(rows[0])


def test_rows_are_pure_functions_of_what_was_gathered(monkeypatch, network, sample):
    seen = []

    def probe(inputs):
        seen.append(inputs)
        return BoundValue(0.0, (Condition("toy", True, "by hand"),))

    made = Bound("toy", "here", "toy", Kind.MEASURE, Unit.PLAIN, "A toy.", "all", probe)
    monkeypatch.setattr(gathering, "all_bounds", lambda: (made,))
    found = bounds(network, sample, BARE)
    assert len(seen) == 1
    assert found.rows[0].value == 1.0
    assert found.holdout is None
    assert found.gap is None


def test_progress_covers_every_stage(network, sample, holdout):
    told = {}
    gather(network, sample, QUICK, holdout=holdout, progress=lambda task, fraction: told.update({task: fraction}))
    expected = {"margins of the training data", "norms of the weights", "measuring", "held-out data"}
    assert expected <= set(told)
    assert all(told[task] == 1.0 for task in expected)


def test_a_network_with_many_errors_keeps_the_rows_that_need_no_margin(network, sample):
    settings = BoundSettings(margin_quantile=0.05, flatness=False, profile=False)
    without, with_one = bounds(network, sample, settings), bounds(network, sample, BARE)
    assert (without.gamma, without.margin_loss) == (None, None)
    assert BoundTable.from_json(without.to_json()) == without
    lost = {row.name for row in with_one.rows if without.row(row.name).why.startswith(NO_MARGIN)}
    assert {"neyshabur2018-spec-fro", "jiang2020-inverse-margin", "galanti2023"} <= lost
    for row in with_one.rows:
        if row.name not in lost:
            assert without.row(row.name) == row
        elif row.status not in (Status.NEEDS, Status.OUTSIDE):
            assert "gamma" in row.ingredients or "margin_loss" in row.ingredients or "gamma" in row.formula
    halves = without.to_json().replace('"margin_loss":null', '"margin_loss":0.5')
    with pytest.raises(BitcertError, match="impossible margin"):
        BoundTable.from_json(halves)


def refused(words, network, sample, settings=BARE, **extras):
    with pytest.raises(InputError, match=words):
        gather(network, sample, settings, **extras)


def test_bad_input_is_refused_in_a_sentence(network, sample, holdout, tmp_path):
    whole = measure(nets.captured(nets.chain(seed=5), 5), sample, QUICK.measure)
    refused("profile of this network", network, sample, profile=whole)
    refused("below the largest", network, sample, BoundSettings(profile=False, flatness=False, gamma=1e9))
    refused("certificate.json", network, sample, messages=[tmp_path / "nothing"])
    refused("initial weights", network, sample, init={"0.weight": torch.zeros(8, 5)})
    refused("a device", network, sample, BoundSettings(profile=False, flatness=False, device="xpu"))
    unlabelled = Sample(holdout.inputs, None, 3, Role.UNLABELLED, "bare")
    refused("held-out data with labels", network, sample, holdout=unlabelled)
    values = {**network.parameters, "0.weight": torch.full((8, 5), math.inf)}
    broken = type(network)(network.architecture, values, network.report)
    refused("finite weights", broken, sample)
    bare = capture(nn.Sequential(nn.ReLU()), torch.zeros(2, 3))
    points = Sample(
        np.random.default_rng(0).normal(size=(9, 3)).astype(np.float32), np.arange(9) % 3, 3, Role.TRAIN, "p"
    )
    refused("a linear or convolution layer", bare, points)


def test_the_training_data_are_no_held_out_data(network, sample):
    with pytest.raises(SampleReuseError):
        gather(network, sample, BARE, holdout=sample)
    with pytest.raises(BitcertError, match=r"^expected .* got .*; "):
        gather(network, sample, BARE, holdout=sample.with_role(Role.HOLDOUT))


def test_labels_meant_for_something_else_are_no_held_out_data(network, sample, holdout):
    for role in (Role.PRIOR, Role.TRAIN, Role.UNLABELLED):
        with pytest.raises(
            SampleReuseError, match=rf"^expected held-out data of role holdout, got held of role {role}"
        ):
            gather(network, sample, BARE, holdout=holdout.with_role(role))
    with pytest.raises(SampleReuseError, match="the training data toy themselves"):
        gather(network, sample, BARE, holdout=sample)


def test_a_held_out_example_that_is_a_training_example_is_refused(network, sample, holdout):
    """One of many, and with another label: the input decides."""
    inputs = np.concatenate([sample.inputs[:1], holdout.inputs])
    labels = np.concatenate([(sample.labels[:1] + 1) % 3, holdout.labels])
    with pytest.raises(SampleReuseError, match="1 of the 26"):
        bounds(network, sample, BARE, holdout=Sample(inputs, labels, 3, Role.HOLDOUT, "mixed"))
    assert bounds(network, sample, BARE, holdout=holdout).row("holdout").kind == Kind.GUARANTEE


class Thresholds(nn.Module):
    """Thresholds written into the code."""

    def __init__(self, *thresholds):
        super().__init__()
        self.thresholds, self.out = thresholds, nn.Linear(5, 3, bias=False)

    def forward(self, x):
        steps = [torch.clamp(x - t, -0.5, 0.5) for t in self.thresholds]
        return self.out(torch.stack(steps).sum(0) if len(steps) > 1 else steps[0])


def test_numbers_outside_the_parameters_are_counted(network, sample):
    def constants(module, **given):
        return gather(nets.captured(module, 5), sample, POSITIVE, **given).constants

    assert constants(Thresholds(0.25)) == 0
    assert constants(Thresholds(0.26)) == 1
    plain = Thresholds(1.0)
    assert constants(plain, preprocessing=Preprocessing(3.7)) == 1
    assert constants(plain, preprocessing=Preprocessing(1.0)) == 0
    many = constants(
        Thresholds(0.137), preprocessing=Preprocessing(2.0, (0.0, 0.1, 0.13, 0.5, 0.31), (1.0, 0.5, 0.7, 2, 3))
    )
    assert many == 1 + 2 + 1
    charged = bounds(nets.captured(Thresholds(0.26), 5), sample, POSITIVE).row("zhang2020-thm2.4")
    assert charged.ingredients["bits"] == 32 * 15 + 64


def test_a_bad_file_is_found_before_any_measurement(network, sample, monkeypatch, tmp_path):
    monkeypatch.setattr(gathering, "pass_over", lambda *_, **__: pytest.fail("the data were passed over"))
    with pytest.raises(InputError):
        gather(network, sample, BARE, messages=[tmp_path])


def test_messages_of_this_sample_are_recounted(toy, toy_certificate, toy_compressed):
    """A linear network beside the built-in family's message of the same data."""
    torch.manual_seed(0)
    network = nets.captured(nn.Linear(2, 2), 2)
    inputs = gather(
        network, toy, BoundSettings(profile=False, flatness=False, margin_quantile=0.9), messages=[toy_certificate]
    )
    (found,) = inputs.messages
    assert found.bits == 8 * len(toy_compressed.message)
    assert 0 < found.errors < len(toy)
    assert 0 < found.deviation <= found.deviation_l2
    assert inputs.messages_note == "1 message read"


def test_preprocessing_reaches_every_part(network, sample):
    doubled = gather(network, sample, BARE, preprocessing=Preprocessing(0.5))
    plain = gather(network, sample, BARE)
    assert doubled.sample.largest_input == pytest.approx(2 * plain.sample.largest_input)
    assert doubled.gamma == pytest.approx(2 * plain.gamma, rel=1e-5)  # no biases: f(2 x) = 2 f(x)


def test_the_message_of_the_network_itself_is_close_to_it(tmp_path):
    """Weights rounded to multiples of 1/64, from files with an architecture: deviations as computed by hand."""
    network = nets.captured(nets.chain(bias=True), 5)
    sample = nets.sample_of(network)
    architecture = network.architecture
    integers = {name: np.rint(64 * value.numpy()).astype(np.int64) for name, value in network.parameters.items()}
    message, ledger = quantised.write(architecture, integers, dict.fromkeys(integers, -24))  # steps of 2^(-24/4)
    compressed = Compressed(message, ledger, Helper.for_sample(sample, architecture))
    (tmp_path / "message.bin").write_bytes(message)
    (tmp_path / "architecture.json").write_text(architecture.to_json())
    (tmp_path / "certificate.json").write_text(certify(compressed, sample).to_json())
    (found,) = gather(network, sample, BARE, messages=[tmp_path]).messages
    rounded = {name: torch.from_numpy(value / 64).float() for name, value in integers.items()}
    x = torch.from_numpy(sample.inputs.copy())
    difference = (architecture.forward(x, rounded) - network(x)).double()
    assert found.deviation == pytest.approx(float(difference.abs().max()), rel=1e-5)
    assert found.deviation_l2 == pytest.approx(float(difference.norm(dim=1).max()), rel=1e-5)
    assert found.bits == 8 * len(message)
    assert found.errors == int((architecture.forward(x, rounded).argmax(1).numpy() != sample.labels).sum())


class Gated(nn.Module):
    """A product of branches, outside nearly every theorem."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(5, 8), nn.Linear(5, 8), nn.Linear(8, 3)

    def forward(self, x):
        return self.c(self.a(x) * torch.sigmoid(self.b(x)))


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(5, 5), nn.Linear(5, 5), nn.Linear(5, 3)

    def forward(self, x):
        h = torch.relu(self.a(x))
        return torch.softmax(self.c(h + torch.relu(self.b(h))), 1)


@pytest.mark.parametrize("make", [Gated, Residual, lambda: nn.Linear(5, 3)])
def test_outside_the_theorems_every_row_is_there_with_its_reason(make):
    torch.manual_seed(0)
    network = nets.captured(make(), 5)
    rng = np.random.default_rng(3)
    sample = Sample(rng.normal(size=(60, 5)).astype(np.float32), np.arange(60) % 3, 3, Role.TRAIN, "toy")
    found = bounds(network, sample, BoundSettings(margin_quantile=0.8, flatness=False), init=network)
    assert len(found.rows) == len(all_bounds())
    assert BoundTable.from_json(found.to_json()) is not None
    for row in found.rows:
        assert len(row.why) > 10, row.name
        if row.log10 is None and row.value != 0:
            assert row.status in (Status.NEEDS, Status.OUTSIDE), row.name
        if row.kind == Kind.GUARANTEE:
            assert all(condition.holds for condition in row.conditions), row.name
