"""The best of several codecs: smallest bound, refusals skipped, all candidates listed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from bitcert import Helper, Role, Run, Sample, capture, certify
from bitcert.codecs.base import Selection
from bitcert.codecs.best import encode_best
from bitcert.codecs.quantise import Quantise
from bitcert.codecs.quantiser import Uniform
from bitcert.errors import InputError
from bitcert.shards import LocalWorkers, executing_on


@pytest.fixture(scope="module")
def problem():
    """A linear classifier of 4,000 points that one coarse step serves as well as a fine one."""
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(4000, 6)).astype(np.float32)
    labels = (inputs[:, 0] + inputs[:, 1] > 0).astype(np.int64)
    net = nn.Sequential(nn.Linear(6, 2))
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([[-1.0, -1, 0.01, 0, 0, 0], [1, 1, 0, 0.01, 0, 0]]))
        net[0].bias.zero_()
    sample = Sample(inputs, labels, 2, Role.TRAIN, "half planes")
    network = capture(net, torch.zeros(2, 6))
    return network, sample, Helper.for_sample(sample, network.architecture)


BAD = Quantise(selection=Selection(layers=("nowhere",)))
COARSE, FINE = Quantise(quantiser=Uniform(1.0)), Quantise(quantiser=Uniform(2.0**-8))


def test_the_smallest_bound_wins_and_all_are_listed(problem):
    network, sample, helper = problem
    run = Run()
    best = encode_best((FINE, COARSE, BAD), network, sample, helper, run)
    assert [candidate.name for candidate in best.candidates] == [FINE.label, COARSE.label]
    bounds = [candidate.bound for candidate in best.candidates]
    assert bounds[1] < bounds[0]
    assert certify(best, sample, delta=run.delta).bound == bounds[1]
    assert best.message == COARSE.encode(network, helper=helper).message


def test_workers_tell_how_many_codecs_are_tried(problem):
    network, sample, helper = problem
    told = []
    run = Run(progress=lambda task, fraction: told.append((task, fraction)))
    with executing_on(LocalWorkers(2)):
        encode_best((FINE, COARSE), network, sample, helper, run)
    assert told == [("trying codecs", 0.5), ("trying codecs", 1.0)]


def test_what_every_codec_refuses_is_refused(problem):
    network, sample, helper = problem
    with pytest.raises(InputError, match="weight layer"):
        encode_best((BAD,), network, sample, helper, Run())
