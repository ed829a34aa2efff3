"""Lottery tickets: pruning against a loop, rewinding, what is decoded, interruption anywhere, refusals."""

from __future__ import annotations

import functools
import itertools
import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from bitcert import Helper, Role, Run, Sample, capture, certify, decode_message
from bitcert.codecs.base import Codec, Rest, Selection, network_layers
from bitcert.codecs.lottery import LotteryTicket, Scope, Start
from bitcert.codecs.quantiser import Uniform
from bitcert.codecs.ticket import Plan, Ticket
from bitcert.codecs.training import Trainer
from bitcert.decoder.tensors import Base
from bitcert.errors import InputError
from bitcert.run import Checkpoint


@pytest.fixture(scope="module")
def sample():
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(512, 6)).astype(np.float32)
    return Sample(inputs, (inputs[:, 0] * inputs[:, 1] > 0).astype(np.int64), 2, Role.TRAIN, "checks")


def build(*middle: nn.Module):
    torch.manual_seed(0)
    return capture(nn.Sequential(nn.Linear(6, 12), *middle, nn.ReLU(), nn.Linear(12, 2)), torch.randn(2, 6))


@pytest.fixture(scope="module")
def network():
    return build()


@pytest.fixture(scope="module")
def helper(network, sample):
    return Helper.for_sample(sample, network.architecture)


QUICK = LotteryTicket(rounds=3, num_steps=30, rate=2e-2)
SHORT = LotteryTicket(rounds=2, num_steps=12, rate=2e-2)
WEIGHTS = 6 * 12 + 12 * 2 + 12 + 2


def ticket(network, helper, initial=None, **plan) -> Ticket:
    layers = network_layers(network, helper, Selection())
    values = {x.target.name: x.trained.double().numpy() for x in layers}
    bases = {name: np.zeros_like(value) for name, value in values.items()}
    options = {"quantiser": Uniform(0.5), "rest": Rest.QUANTISED, "rounded_from": 1.0} | plan
    return Ticket(layers, bases, initial or values, frozenset(values), Plan(**options))


def decoded_weights(compressed):
    return decode_message(compressed.message, compressed.helper).classifier.weights


@pytest.mark.parametrize("codec", [QUICK, replace(QUICK, start="trained"), replace(QUICK, scope="layer", biases=False)])
def test_every_round_is_a_message_and_the_best_is_kept(codec, network, sample, helper):
    run = Run(budget_seconds=1e6)
    compressed = codec.encode(network, sample, helper=helper, run=run)
    assert len(compressed.candidates) == 4
    total = WEIGHTS if codec.biases else WEIGHTS - 14
    if codec.scope is Scope.GLOBAL:
        alive = [int(c.name.split(": ")[1].split(" of ")[0]) for c in compressed.candidates]
        wanted = [total]
        for _ in range(3):
            wanted.append(wanted[-1] - round(0.5 * wanted[-1]))
        assert alive == wanted
    bits = [candidate.message_bits for candidate in compressed.candidates]
    assert bits == sorted(bits, reverse=True)
    assert compressed.ledger.total_bits == 8 * len(compressed.message)
    certificate = certify(compressed, sample, delta=run.delta)
    best = min(compressed.candidates, key=lambda c: c.bound)
    assert (certificate.errors, certificate.message_bits, certificate.bound) == (
        best.errors,
        best.message_bits,
        best.bound,
    )
    num_alive = sum(int((weight != 0).sum()) for weight in decoded_weights(compressed).values())
    assert num_alive <= int(best.name.split(": ")[1].split(" of ")[0]) + 14 * (not codec.biases)


def test_training_helps(network, sample, helper):
    compressed = replace(QUICK, rounds=1, num_steps=120).encode(
        network, sample, helper=helper, run=Run(budget_seconds=1e6)
    )
    assert compressed.candidates[0].errors < 80


@functools.cache
def tiny():
    net = capture(nn.Linear(2, 3), torch.randn(2, 2))
    sample = Sample(np.zeros((3, 2), np.float32), np.arange(3), 3, Role.TRAIN, "x")
    return net, Helper.for_sample(sample, net.architecture)


@settings(max_examples=40, deadline=None)
@given(
    values=st.lists(st.integers(-5, 5), min_size=4, max_size=30),
    removed=st.floats(0.05, 0.95),
    scope=st.sampled_from(list(Scope)),
    rounds=st.integers(1, 3),
)
def test_pruning_removes_the_smallest_survivors(values, removed, scope, rounds):
    net, helper = tiny()
    numbers = np.resize(np.array(values, dtype=float), 9)
    initial = {"weight": numbers[:6].reshape(3, 2), "bias": numbers[6:]}
    model = ticket(net, helper, initial)
    alive = {name: list(range(value.size)) for name, value in initial.items()}
    for _ in range(rounds):
        model.prune(removed, scope)
        groups = [list(initial)] if scope is Scope.GLOBAL else [[name] for name in initial]
        for group in groups:
            # in the order of the tensors of the architecture, as ties fall to the first
            entries = [
                (abs(initial[n].ravel()[i]), k, n, i) for k, n in enumerate(model.parts) if n in group for i in alive[n]
            ]
            for _, _, name, index in sorted(entries)[: round(removed * len(entries))]:
                alive[name].remove(index)
    for name, value in initial.items():
        wanted = np.zeros(value.size)
        wanted[alive[name]] = value.ravel()[alive[name]]
        assert np.array_equal(model.weights()[name].detach().numpy().ravel(), wanted)
    assert model.num_alive == sum(map(len, alive.values()))


def starts_of_rounds(monkeypatch, codec, network, sample, helper) -> list[tuple[dict, dict]]:
    """Weights and masks at the start of each training."""
    seen, train = [], Trainer.train

    def spy(trainer, *args, **kwargs):
        parts = trainer.model.parts
        weights = {name: value.detach().clone() for name, value in trainer.model.weights().items()}
        seen.append((weights, {name: part.mask.clone() for name, part in parts.items()}))
        return train(trainer, *args, **kwargs)

    monkeypatch.setattr(Trainer, "train", spy)
    codec.encode(network, sample, helper=helper, run=Run(budget_seconds=1e6))
    return seen


def test_survivors_go_back_to_their_initial_values(monkeypatch, network, sample, helper):
    seen = starts_of_rounds(monkeypatch, QUICK, network, sample, helper)
    initial = seen[0][0]
    assert len(seen) == 4
    assert 0.3 < float(initial["0.weight"].std()) < 0.9  # He-normal: sqrt(2 / 6)
    assert not initial["0.bias"].any()
    for (_, before), (weights, mask) in itertools.pairwise(seen):
        for name, value in weights.items():
            assert torch.equal(value, mask[name] * initial[name])
            assert not bool((mask[name] > before[name]).any())


def test_given_values_are_the_initial_ones_or_are_pruned(monkeypatch, network, sample, helper):
    seen = starts_of_rounds(monkeypatch, replace(QUICK, start=Start.GIVEN), network, sample, helper)
    for weights, mask in seen:
        assert all(torch.equal(value, mask[name] * network.parameters[name]) for name, value in weights.items())
    seen = starts_of_rounds(monkeypatch, replace(QUICK, start=Start.TRAINED), network, sample, helper)
    assert len(seen) == 3  # the given network is not trained before it is pruned
    weights, mask = seen[0]
    assert all(torch.equal(value, mask[name] * network.parameters[name]) for name, value in weights.items())
    assert not torch.equal(seen[1][0]["0.weight"], seen[1][1]["0.weight"] * network.parameters["0.weight"])


def test_early_values_can_be_those_gone_back_to(monkeypatch, network, sample, helper):
    noted = []
    note = Ticket.note

    def spy(model: Ticket) -> None:
        note(model)
        noted.append(model.weights())

    monkeypatch.setattr(Ticket, "note", spy)
    seen = starts_of_rounds(monkeypatch, replace(QUICK, rewind=0.5), network, sample, helper)
    assert len(noted) == 1
    assert not torch.equal(noted[0]["0.weight"], seen[0][0]["0.weight"])
    assert torch.equal(seen[2][0]["0.weight"], seen[2][1]["0.weight"] * noted[0]["0.weight"].detach())


def test_what_is_decoded_is_what_was_trained(network, sample, helper):
    """Rounded tensors train as the multiples of the step that the message holds."""
    model = ticket(network, helper, rounded_from=0.0)
    model.prune(0.4, Scope.LAYER)
    model.after_step(0.0)
    from bitcert.codecs.base import assemble

    weights = decoded_weights(assemble(helper, model.codes()))
    for name, value in model.weights().items():
        torch.testing.assert_close(weights[name], value.detach(), rtol=1e-6, atol=0)
        assert (weights[name][model.parts[name].mask == 0] == 0).all()
    gradient = torch.autograd.grad(model.weights()["0.weight"].sum(), model.parts["0.weight"].latent)[0]
    assert torch.equal(gradient, model.parts["0.weight"].mask)


class Killed(Exception):
    pass


def killer(at: int):
    """A progress callback that raises at its ``at``-th call."""
    calls = [0]

    def progress(task: str, fraction: float) -> None:
        calls[0] += 1
        if calls[0] == at:
            raise Killed

    return progress


def told(compressed):
    return compressed.message, [(c.name, c.errors, c.message_bits) for c in compressed.candidates]


@pytest.mark.parametrize("codec", [SHORT, replace(SHORT, start="trained"), replace(SHORT, rewind=0.3)])
def test_an_interrupted_run_ends_as_an_uninterrupted_one(codec, network, sample, helper, ticking, tmp_path):
    ticking(3.0)
    wanted = told(codec.encode(network, sample, helper=helper, run=Run(budget_seconds=1e6)))
    calls = [0]

    def count(task: str, fraction: float) -> None:
        calls[0] += 1

    codec.encode(network, sample, helper=helper, run=Run(budget_seconds=1e6, progress=count))
    for at in (2, calls[0] // 2, calls[0] // 2 + 4, calls[0] - 1):
        checkpoint = Checkpoint(tmp_path / f"{at}.safetensors", "run")
        with pytest.raises(Killed):
            codec.encode(
                network, sample, helper=helper, run=Run(budget_seconds=1e6, progress=killer(at), checkpoint=checkpoint)
            )
        again = codec.encode(network, sample, helper=helper, run=Run(budget_seconds=1e6, checkpoint=checkpoint))
        assert told(again) == wanted


def test_a_run_killed_many_times_ends_as_well(network, sample, helper, ticking, tmp_path):
    ticking(3.0)
    wanted = told(SHORT.encode(network, sample, helper=helper, run=Run(budget_seconds=1e6)))
    checkpoint = Checkpoint(tmp_path / "state.safetensors", "run")
    for _ in range(40):
        run = Run(budget_seconds=1e6, progress=killer(15), checkpoint=checkpoint)
        try:
            found = SHORT.encode(network, sample, helper=helper, run=run)
            break
        except Killed:
            continue
    assert told(found) == wanted
    # and a finished run is not trained again
    run = Run(budget_seconds=1e6, progress=killer(1), checkpoint=checkpoint)
    assert told(SHORT.encode(network, sample, helper=helper, run=run)) == wanted


def test_time_is_shared_among_the_rounds_and_a_short_one_still_gives_a_message(network, sample, helper, ticking):
    ticking(0.5)
    run = Run(budget_seconds=100.0)
    compressed = LotteryTicket(rounds=3).encode(network, sample, helper=helper, run=run)
    ends = [candidate.seconds for candidate in compressed.candidates]
    assert len(ends) == 4
    assert max(abs(end - 25 * (k + 1)) for k, end in enumerate(ends)) < 6
    short = LotteryTicket(rounds=3).encode(network, sample, helper=helper, run=Run(budget_seconds=0.1))
    assert len(short.candidates) == 1
    assert certify(short, sample).errors == short.candidates[0].errors


def test_gains_and_unpruned_layers_are_the_rests(sample):
    network = build(nn.LayerNorm(12))
    for rest in Rest:
        selection = Selection(layers=("0.weight",), rest=rest)
        compressed = replace(QUICK, selection=selection).encode(network, sample, run=Run(budget_seconds=1e6))
        weights = decoded_weights(compressed)
        if rest is Rest.HELPER:
            assert torch.equal(weights["1.weight"], torch.ones(12))
            assert not weights["3.weight"].any()
        else:
            assert bool((weights["1.weight"] != 1).any())
            assert bool((weights["3.weight"] != 0).all())


def test_a_base_in_the_helper_makes_differences_sparse(network, sample, helper):
    codec = replace(QUICK, selection=Selection(base=Base.RANDOM, seed=4), start="random", rounds=6)
    compressed = codec.encode(network, sample, helper=helper, run=Run(budget_seconds=1e6))
    base = replace(codec, num_steps=1, rounds=1).encode(network, sample, helper=helper, run=Run(budget_seconds=0.01))
    same = decoded_weights(compressed)["0.weight"] == decoded_weights(base)["0.weight"]
    assert float(same.float().mean()) > 0.5


BAD = {
    "rounds of pruning": {"rounds": 0},
    "fraction between 0 and 1": {"removed": 0.0},
    "fraction between 0": {"removed": 1.0},
    "rewind between": {"rewind": 1.5},
    "rounded_from between": {"rounded_from": -0.1},
    "learning rate": {"rate": math.nan},
    "batch size": {"batch_size": 0},
    "steps": {"num_steps": 0},
    "start among": {"start": "nothing"},
    "scope among": {"scope": "row"},
}


@pytest.mark.parametrize("match", BAD)
def test_bad_options(match):
    with pytest.raises(InputError, match=match):
        LotteryTicket(**BAD[match])


def test_what_cannot_be_trained_is_refused(network, sample, helper):
    with pytest.raises(InputError, match="training sample"):
        QUICK.encode(network, helper=helper)
    with pytest.raises(InputError, match="weight layer"):
        replace(QUICK, selection=Selection(layers=("nowhere",))).encode(network, sample, helper=helper)
    with pytest.raises(InputError, match="converges"):
        replace(QUICK, rate=1e30).encode(network, sample, helper=helper, run=Run(budget_seconds=1e6))
    # a network that is all zeros is pruned to zeros, without an error
    zeros = replace(network, parameters={name: torch.zeros_like(v) for name, v in network.parameters.items()})
    codec = replace(QUICK, start=Start.TRAINED)
    assert codec.encode(zeros, sample, helper=helper, run=Run(budget_seconds=1e6)).candidates


def test_theory_solves_for_the_targets_width(network, sample):
    theory = LotteryTicket(rounds=2).theory(network, sample)
    assert theory.layers[0].parameters == pytest.approx(72 / 4)
    survivors = 18 + 6
    width = (math.sqrt(36 + 4 * survivors) - 6) / 2  # 6 n + n^2 = survivors, L = 1
    assert theory.parameters == pytest.approx((6 * width + width**2) * math.log(12) ** 2)
    assert "the root is" in theory.statement
    assert "the root is" not in LotteryTicket().theory(network).statement
    json.dumps(theory.describe(), allow_nan=False)


def test_strengths_and_labels():
    assert all(isinstance(codec, Codec) for codec in LotteryTicket.strengths())
    assert len({codec.label for codec in LotteryTicket.strengths()}) == 5
    assert LotteryTicket(start="trained", scope="layer").label == "lottery 7 x 50% from trained by layer"
