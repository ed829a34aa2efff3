"""A Gaussian posterior over the weights: its divergence, what the bound is made of, and what is refused."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from scipy.optimize import brentq
from torch import nn
from torch.distributions import Normal, kl_divergence

from bitcert import Helper, Role, Run, capture, to_sample
from bitcert.decision import ErrorCount
from bitcert.decoder.tensors import Base
from bitcert.errors import InputError
from bitcert.proof import binary_kl, pac_bayes_sampled
from bitcert.random import stream
from bitcert.search import randomised
from bitcert.search.randomised import GRID, LABEL, Posterior, RandomisedSettings, certify_randomised, scale


@pytest.fixture(scope="module")
def sample():
    rng = stream(0, "test randomised")
    labels = rng.integers(0, 2, 400)
    inputs = rng.normal(size=(400, 6)) + 1.5 * (2 * labels[:, None] - 1)
    return to_sample((inputs.astype(np.float32), labels), Role.TRAIN)


@pytest.fixture(scope="module")
def net(sample):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 2))
    return capture(model.eval(), torch.from_numpy(sample.inputs[:2].copy()))


def posterior(net, sample):
    made = Posterior(net, Helper.for_sample(sample, net.architecture), len(sample), 0, Base.RANDOM)
    with torch.no_grad():
        for k, log_std in enumerate(made.log_std.values()):
            log_std += 0.3 * k
    return made


def twin(made, k):
    """Tensor by tensor with torch's own distributions, and the price of the scale."""
    total = math.log(GRID)
    for name, mean in made.mean.items():
        own = Normal(mean.detach().double(), made.log_std[name].detach().double().exp())
        prior = Normal(made.center[name].double(), scale(k) * made.unit[name].double())
        total += float(kl_divergence(own, prior).sum())
    return total


def test_the_divergence_is_that_of_torch_at_the_best_scale(net, sample):
    made = posterior(net, sample)
    best = made.best_scale()
    every = [twin(made, k) for k in range(GRID)]
    assert made.kl_nats(best) == pytest.approx(min(every), rel=1e-6)
    assert best == int(np.argmin(every))


@pytest.mark.parametrize("step", range(24))
def test_the_scale_is_the_best_of_the_grid_however_far_the_means_went(net, sample, step):
    made, away = posterior(net, sample), 1.3**-step
    with torch.no_grad():
        for name, mean in made.mean.items():
            mean.copy_(made.center[name] + away * made.unit[name])
            made.log_std[name].copy_(torch.log(0.1 * away * made.unit[name]))
    every = [twin(made, k) for k in range(GRID)]
    assert made.best_scale() == int(np.argmin(every))
    assert made.kl_nats(step % GRID) == pytest.approx(every[step % GRID], rel=1e-6)


def test_the_widths_of_the_prior_are_the_ones_that_are_declared():
    """``1 / sqrt(fan-in)`` of a matrix or kernel and 1/10 of a vector, times ``2^(-k/2)``."""
    layers = nn.Sequential(nn.Conv2d(1, 3, (2, 2)), nn.ReLU(), nn.Flatten(), nn.Linear(3, 1), nn.Linear(1, 2))
    network = capture(layers.eval(), torch.zeros(2, 1, 2, 2))
    made = Posterior(network, Helper((1, 2, 2), 2, predictor=network.architecture), 9, 0, Base.RANDOM)
    fans = {"0.weight": 4, "3.weight": 3, "4.weight": 1}
    for name, unit in made.unit.items():
        expected = 1 / math.sqrt(fans[name]) if name in fans else 0.1
        assert torch.equal(unit, torch.full(unit.shape, expected)), name
    assert [scale(k) for k in (0, 1, 2, 15)] == pytest.approx([1, 0.5**0.5, 0.5, 2**-7.5], rel=1e-15)


@pytest.mark.parametrize(("draws", "part"), [(0, 1), (1, 0)])
def test_no_draws_or_empty_ones_are_refused(draws, part):
    with pytest.raises(InputError, match=rf"^expected at least 1 draw of at least 1 example, got {draws} of {part}"):
        RandomisedSettings(draws=draws, part=part)
    assert RandomisedSettings(draws=1, part=1).part == 1
    with pytest.raises(InputError, match=r"^expected share of the draws of at least"):
        RandomisedSettings(draws_delta=1e-310)
    for delta, share in ((1.0, 0.5), (0.5, 0.0)):
        with pytest.raises(InputError, match=r"^expected 0 < share of the draws < delta < 1"):
            RandomisedSettings(delta=delta, draws_delta=share)


def test_the_gradient_is_that_of_the_divergence(net, sample):
    made = posterior(net, sample)
    k = made.best_scale()
    total = sum(
        kl_divergence(Normal(mean, made.log_std[n].exp()), Normal(made.center[n], scale(k) * made.unit[n])).sum()
        for n, mean in made.mean.items()
    )
    expected = torch.autograd.grad(total, [*made.mean.values(), *made.log_std.values()])
    for value in (*made.mean.values(), *made.log_std.values()):
        value.grad = torch.zeros_like(value)
    made.before_step(0.0)
    for value, gradient in zip((*made.mean.values(), *made.log_std.values()), expected, strict=True):
        assert torch.allclose(value.grad * len(sample), gradient, rtol=1e-3, atol=1e-4)


def test_a_certificate_says_what_it_is_and_follows_from_its_parts(net, sample):
    settings = RandomisedSettings(num_steps=100, draws=200, part=50, rate=0.01)
    found = certify_randomised(net, sample, settings, run=Run(seed=0))
    assert found.label == LABEL
    assert "not the network itself" in found.label
    parts = (found.mean_loss, found.draws, found.num_samples, found.kl_nats, found.delta, found.draws_delta)
    assert (found.loss_limit, found.bound) == pac_bayes_sampled(*parts)
    assert found.mean_loss < 0.1
    assert found.mean_loss < found.loss_limit < found.bound < 0.5  # not vacuous
    assert found.steps == 100
    again = certify_randomised(net, sample, settings, run=Run(seed=0))
    assert again == found


@pytest.mark.parametrize(("base", "center"), [(Base.RANDOM, "a random network"), (Base.FILE, "the helper's weights")])
def test_what_no_file_can_show_is_said_in_these_words(base, center):
    assert randomised._conditions(RandomisedSettings(base=base), 7) == (
        "The examples of the sample are independent draws from one distribution, and new data come from it too.",
        f"The architecture, the prior's centre ({center}) and widths (1 / sqrt(fan-in) of a matrix or kernel and 1/10 "
        "of a vector), and the seed 7 were fixed before the data were seen.",
        "The 2,000 draws of at most 100 examples each, the failure probability 0.05 and its share 0.01 were fixed "
        "before the first draw.",
        "This is the only run: of several runs (other seeds, rates, steps or draws) the best does not hold with this "
        "probability.",
        "The generator's numbers stand for independent normal ones, also where float32 rounds them.",
    )


def test_what_must_be_fixed_beforehand_is_said_and_hashed(net, sample, monkeypatch):
    settings = RandomisedSettings(num_steps=1, draws=2, part=5)
    found = certify_randomised(net, sample, settings, run=Run(seed=3))
    told = " ".join(found.conditions)
    for words in ("seed 3", "a random network", "2 draws of at most 5 examples", "share 0.01", "the only run"):
        assert words in told
    hashes = {found.declared_hash}
    for changed in ({"draws": 3}, {"part": 6}, {"delta": 0.06}, {"draws_delta": 0.02}):
        hashes.add(certify_randomised(net, sample, replace(settings, **changed), run=Run(seed=3)).declared_hash)
    hashes.add(certify_randomised(net, sample, settings, run=Run(seed=4)).declared_hash)
    monkeypatch.setattr(randomised, "WIDTHS", "1 everywhere")
    hashes.add(certify_randomised(net, sample, settings, run=Run(seed=3)).declared_hash)
    assert len(hashes) == 7
    assert (
        certify_randomised(net, sample, replace(settings, rate=0.1), run=Run(seed=3)).helper_hash == found.helper_hash
    )


def test_the_bound_by_two_inversions_of_scipy():
    mean, draws, samples, nats, delta, share = 0.04, 700, 5_000, 90.0, 0.05, 0.01

    def inverse(q, budget):
        return brentq(lambda p: binary_kl(q, p) - budget, q, 1 - 1e-12, xtol=1e-14)

    limit = inverse(mean, math.log(1 / share) / draws)
    bound = inverse(limit, (nats + math.log(2 * math.sqrt(samples) / (delta - share))) / samples)
    assert pac_bayes_sampled(mean, draws, samples, nats, delta, share) == pytest.approx((limit, bound), rel=1e-9)
    # without errors in closed form
    assert pac_bayes_sampled(0.0, draws, samples, nats, delta, share)[0] == pytest.approx(1 - share ** (1 / draws))


def test_the_share_of_errors_over_all_draws_is_rounded_up(net, sample, monkeypatch):
    """One of seven errs in every draw: the float nearest to 1 / 7 is below it."""
    monkeypatch.setattr(randomised, "count_batch", lambda *_: ErrorCount(1, 0, 7))
    found = certify_randomised(net, sample, RandomisedSettings(num_steps=1, draws=7, part=7), run=Run())
    assert Fraction(found.mean_loss) > Fraction(7, 49) > Fraction(1 / 7)
    assert found.mean_loss == math.nextafter(1 / 7, 1)
    assert certify_randomised(net, sample, RandomisedSettings(num_steps=1, draws=1, part=900), run=Run()).part == 400


@pytest.mark.parametrize("share", [0.0, 0.05, 0.06, float("nan"), 4.4e-323])
def test_a_share_outside_delta_is_refused(share):
    with pytest.raises(InputError):
        pac_bayes_sampled(0.1, 100, 1_000, 1.0, 0.05, share)
    with pytest.raises(InputError):
        RandomisedSettings(draws_delta=share)


class Shifted(nn.Linear):
    def __init__(self):
        super().__init__(6, 2)
        self.register_buffer("shift", torch.ones(6))

    def forward(self, x):
        return super().forward(x + self.shift)


def test_numbers_that_are_no_weights_are_refused(sample):
    network = capture(Shifted().eval(), torch.from_numpy(sample.inputs[:2].copy()))
    with pytest.raises(InputError, match="whose numbers are all weights"):
        certify_randomised(network, sample, RandomisedSettings(num_steps=1))
