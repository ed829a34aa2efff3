"""The whole road: what the search may see, what is certified, and that stopping and prolonging keep it valid."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from bitcert import Preprocessing, Role, Run, Sample, capture, load_sample
from bitcert.codecs.quantise import Quantise
from bitcert.data.split import PriorSplit, split_prior
from bitcert.decoder import HelperWeights
from bitcert.errors import InputError, SampleReuseError
from bitcert.search import Checkpoint, prior
from bitcert.search.compression import (
    certify_best,
    check_early,
    find_message,
    search_checkpoint,
    searched,
    train_helper,
)
from bitcert.search.contender import check_helpers
from bitcert.search.contenders import contenders
from bitcert.search.request import CertifyRequest

SECONDS = 0.3


def half_planes(num: int, seed: int, role: Role = Role.TRAIN) -> Sample:
    """Points [4] whose class is the sign of the first two numbers' sum."""
    inputs = np.random.default_rng(seed).normal(size=(num, 4)).astype(np.float32)
    labels = (inputs[:, 0] + inputs[:, 1] > 0).astype(np.int64)
    return Sample(inputs, None if role is Role.UNLABELLED else labels, 2, role, f"half planes {seed}")


@pytest.fixture(scope="module")
def sample():
    return half_planes(1500, 0)


@pytest.fixture(scope="module")
def network():
    """A linear classifier that is right."""
    net = nn.Sequential(nn.Linear(4, 2))
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([[-1.0, -1, 0.01, 0], [1, 1, 0, 0.01]]))
        net[0].bias.zero_()
    return capture(net, torch.zeros(2, 4))


def test_a_sample_alone_is_certified(sample):
    found = certify_best(CertifyRequest(sample), Run(budget_seconds=SECONDS))
    assert found.certificate.bound < 0.2
    assert found.certificate.certifies == "compressed"
    assert not found.interrupted
    assert {c.name.split(": ")[0] for c in found.compressed.candidates} == {
        "decision tree",
        "sum of votes",
        "bank head",
    }


def test_the_search_sees_the_size_of_the_unlabelled_sample_only(sample, network, sealed):
    request = CertifyRequest(sample, network, unlabelled=half_planes(400, 1, Role.UNLABELLED))
    search = replace(request)
    object.__setattr__(search, "unlabelled", sealed(400))
    run = Run(budget_seconds=SECONDS, delta=search.search_delta)
    _, message = find_message(search, run)
    assert message.message, "found without a look at it"
    with pytest.raises(AssertionError, match="looked at"):
        check_early(search)


def test_the_original_network_is_certified(sample, network):
    unlabelled = half_planes(400, 1, Role.UNLABELLED)
    request = CertifyRequest(sample, network, unlabelled=unlabelled, holdout=half_planes(300, 2, Role.HOLDOUT))
    found = certify_best(request, run := Run(budget_seconds=SECONDS))
    certificate = found.certificate
    assert certificate.certifies == "original"
    assert found.original is not None
    amounts = [amount for _, amount in certificate.delta_ledger]
    assert sum(amounts) <= 0.05
    assert run.delta == amounts[0] < 0.05, "one delta, in two parts"
    assert certificate.bounds["binomial"] < certificate.bound < 0.3
    assert certificate.holdout["samples"] == 300


def test_unlabelled_examples_from_the_training_set_are_refused_before_any_work(sample, network):
    reused = Sample(sample.inputs[:200], None, 2, Role.UNLABELLED, "reused")
    request = CertifyRequest(sample, network, unlabelled=reused)
    run = Run(budget_seconds=1e9)
    with pytest.raises(SampleReuseError):
        certify_best(request, run)
    assert not run.candidates


def test_a_prior_part_is_split_off_first_and_only_the_rest_is_counted(sample):
    request = CertifyRequest(sample, prior_fraction=0.4, prior_seed=3, prior_model=nn.Sequential(nn.Linear(4, 2)))
    found = certify_best(request, Run(budget_seconds=1.0))
    prior, rest = split_prior(sample, 0.4, 3)
    assert found.certificate.samples == len(rest) == 900
    assert found.sample.content_hash == rest.content_hash
    assert found.certificate.prior["samples"] == len(prior)
    assert found.certificate.rest is not None, "what holding out the rest would have said"
    assert found.certificate.bound < 0.2


def test_a_prior_network_is_trained_once(sample, tmp_path):
    """Training it anew after its certificate was seen would be a choice of the helper that nobody pays for."""
    request = CertifyRequest(sample, prior_fraction=0.5, prior_model=nn.Sequential(nn.Linear(4, 2)))
    split = split_prior(sample, 0.5, 0)
    assert len(split[0]) == 750
    networks = []
    for budget in (0.4, 30.0):
        run = Run(budget_seconds=budget, checkpoint=search_checkpoint(tmp_path / "out", request, 0))
        networks.append(train_helper(PriorSplit.of(sample, 0.5), request, run))
    first, second = (net.parameters for net in networks)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_prior_network_is_frozen_when_a_certificate_rests_on_it(sample, tmp_path, monkeypatch):
    """Ctrl-C while it is trained issues a certificate; the same command may not train it on after that was seen."""
    request = CertifyRequest(sample, prior_fraction=0.5, prior_model=nn.Sequential(nn.Linear(4, 2)))
    run = Run(budget_seconds=1e6, checkpoint=search_checkpoint(tmp_path / "out", request, 0))
    step = prior.PriorTrainer.step

    def interrupted(self, t):
        step(self, t)
        if self.num_steps == 3:
            run.stop()

    with monkeypatch.context() as patch:
        patch.setattr(prior.PriorTrainer, "step", interrupted)
        first = certify_best(request, run)
    assert first.interrupted
    helpers = []
    for again in (request, replace(request, losses=("brier",), delta=0.01)):
        longer = Run(budget_seconds=SECONDS, checkpoint=search_checkpoint(tmp_path / "out", again, 0))
        network = train_helper(PriorSplit.of(sample, 0.5), again, longer)
        helpers.append(HelperWeights.of(network.architecture, network.parameters).content_hash)
    assert helpers == [first.certificate.helper["weights"]] * 2, "no further training, whatever is claimed"


def test_the_helper_network_learns_nothing_from_the_original(sample, network):
    """The original has seen the rest of the sample: whatever it answers, the network of the prior part is the same."""
    split, unlabelled = PriorSplit.of(sample, 0.5, 0), half_planes(80, 3, Role.UNLABELLED)
    other = replace(network, parameters={name: -value for name, value in network.parameters.items()})
    values = []
    for original in (network, other):
        request = CertifyRequest(sample, original, unlabelled=unlabelled, prior_fraction=0.5)
        values.append(train_helper(split, request, Run(budget_seconds=SECONDS / 10)).parameters)
    assert values[0].keys() == values[1].keys()
    assert all(torch.equal(values[0][name], values[1][name]) for name in values[0])


@pytest.mark.parametrize("tick", [0.003, 0.03])
def test_a_process_ten_times_slower_keeps_its_budget_and_what_is_sure(network, ticking, tick):
    """Every look at the clock takes a tick, so the budget is a number of looks; a slow process has a tenth of them.

    Each of the contenders, of which there are eleven, makes a few looks whatever its share is.
    """
    small, budget, least_looks = half_planes(400, 5), 1.0, 100
    ticking(tick)
    alone = certify_best(CertifyRequest(small), Run(budget_seconds=budget / 10)).certificate
    ticking(tick)
    run = Run(budget_seconds=budget)
    _, compressed = find_message(CertifyRequest(small, network), run)
    assert run.seconds <= 1.15 * budget + least_looks * tick
    assert min(each.bound for each in (compressed, *compressed.others)) <= alone.bound


def test_a_stopped_search_is_certified(sample):
    run = Run(budget_seconds=1e6)
    boards = []

    def watch(board):
        boards.append(board)
        if board.best is not None:
            run.stop()

    found = certify_best(CertifyRequest(sample), run, watch=watch)
    assert found.interrupted
    assert found.certificate.bound <= boards[-1].best.bound * (1 + 1e-9)


def test_random_labels_end_without_a_claim(sample):
    labels = np.random.default_rng(5).integers(0, 2, len(sample))
    noise = Sample(sample.inputs, labels, 2, Role.TRAIN, "noise")
    certificate = certify_best(CertifyRequest(noise), Run(budget_seconds=SECONDS)).certificate
    assert certificate.bound >= 0.5


def test_all_contenders_of_a_search_read_their_family_with_one_helper(sample, network):
    wide = capture(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)), torch.zeros(2, 4))
    for request in (
        CertifyRequest(sample),
        CertifyRequest(sample, network),
        CertifyRequest(sample, network, unlabelled=half_planes(50, 1, Role.UNLABELLED)),
    ):
        for public in (None, network, wide):
            found = contenders(searched(request, sample, public))
            check_helpers(found)
            assert found


def test_effort_is_no_part_of_the_identity_but_everything_else_is(sample, network):
    base = CertifyRequest(sample, network)
    assert base.identity(0) == CertifyRequest(sample, network).identity(0)
    shifted = replace(network, parameters={k: v + 1 for k, v in network.parameters.items()})
    unlabelled = half_planes(50, 1, Role.UNLABELLED)
    others = [
        CertifyRequest(half_planes(1500, 9), network),
        CertifyRequest(sample, shifted),
        CertifyRequest(sample, network, delta=0.1),
        CertifyRequest(sample, network, losses=("brier",)),
        CertifyRequest(sample, network, unlabelled=unlabelled),
        CertifyRequest(sample, network, helper_network=network),
        CertifyRequest(sample, prior_fraction=0.5),
        CertifyRequest(sample, prior_fraction=0.5, prior_seed=1),
    ]
    identities = {base.identity(0), base.identity(1), *(request.identity(0) for request in others)}
    assert len(identities) == 2 + len(others)


def test_combinations_that_make_no_sense_are_refused(sample, network):
    with pytest.raises(InputError, match="original network"):
        CertifyRequest(sample, unlabelled=half_planes(50, 1, Role.UNLABELLED))
    with pytest.raises(InputError, match="prior part"):
        CertifyRequest(sample, prior_fraction=0.5, helper_network=network)
    with pytest.raises(InputError, match="codecs"):
        CertifyRequest(sample, codecs=(Quantise(),))
    with pytest.raises(InputError, match="families"):
        CertifyRequest(sample, network, families=("head",))


def test_further_losses_share_the_delta(sample):
    request = CertifyRequest(sample, losses=("brier",))
    found = certify_best(request, run := Run(budget_seconds=SECONDS))
    assert run.delta == pytest.approx(0.025)
    assert [loss["name"] for loss in found.certificate.losses] == ["brier"]
    assert sum(amount for _, amount in found.certificate.delta_ledger) <= 0.05


def test_a_checkpoint_lies_beside_the_output(sample, tmp_path):
    checkpoint = search_checkpoint(tmp_path / "out", CertifyRequest(sample), 0)
    assert isinstance(checkpoint, Checkpoint)
    assert checkpoint.path.parent == tmp_path / ".out.search"


def test_the_rest_is_preprocessed_as_the_whole_sample():
    """The usual scale of digits follows from their name, and the rest of a split has another one."""
    digits = load_sample("digits", Role.TRAIN)
    _, rest = split_prior(digits, 0.5)
    given = searched(CertifyRequest(digits, prior_fraction=0.5), rest, None)
    assert given.problem.preprocessing == Preprocessing.usual(digits) == Preprocessing(scale=16.0)
