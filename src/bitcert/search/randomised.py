"""Certify a randomised classifier by PAC-Bayes: it draws its weights anew from a Gaussian posterior for every answer.

Prior ``P = N(w_0, (lambda_k s_l)^2)`` on every trained number: ``w_0`` the helper's random network (or public weights),
``s_l = 1 / sqrt(fan-in)`` of a matrix or kernel and 1/10 of a vector, ``lambda_k = 2^(-k/2)`` one of ``GRID`` scales;
choosing among them costs ``ln GRID`` nats. Posterior ``Q = N(w, sigma^2)``, one mean and deviation a number, trained on
``cross-entropy + KL(Q||P) / m`` (:func:`bitcert.proof.gaussian_kl`).

The training loss of the randomised classifier is estimated by draws of weights and of a part of the sample, which has
its own share of delta (:func:`bitcert.proof.pac_bayes_sampled`).

It is NOT a certificate of the network with the mean weights, nor of one draw, and there is no message: a reviewer who
wants to check it must draw again. What no file can show and the bound needs is in its ``conditions``. Where a
deterministic classifier is deployed use ``certify``.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from bitcert.certificates.certification import versions
from bitcert.codecs.best import Search
from bitcert.codecs.training import Schedule, Tensors, Trainer
from bitcert.counting import DecisionRule, count_batch
from bitcert.data import Sample
from bitcert.decoder import Helper
from bitcert.decoder.network import network_inputs
from bitcert.decoder.tensors import Base, base_values, targets
from bitcert.errors import InputError
from bitcert.network import Network
from bitcert.proof import gaussian_kl, pac_bayes_sampled
from bitcert.proof.budget import check_delta
from bitcert.proof.holdout import rate_rounded_up
from bitcert.random import stream, torch_stream
from bitcert.run import Run

GRID = 16
"""Scales of the prior; 2^0 to 2^-7.5."""
WIDTHS = "1 / sqrt(fan-in) of a matrix or kernel and 1/10 of a vector"
"""Deviations of the prior at scale 1."""
START = 0.05
"""Deviation of the posterior before training, relative to the prior's widest."""
LABEL = "randomised classifier (PAC-Bayes): weights drawn anew for every answer; not the network itself"


@dataclass(frozen=True)
class RandomisedSettings:
    """How it is trained and certified.

    Args:
        delta: failure probability, in (0, 1).
        draws_delta: its share for the draws, below ``delta``.
        draws: of weights and a part of the sample, fixed beforehand.
        part: examples of a draw.
        rate, batch_size: of the training.
        num_steps: of the training; ``None`` follows the run's budget.
        base: where the prior is centred: ``Base.RANDOM`` or ``Base.FILE`` (weights in the helper).
    """

    delta: float = 0.05
    draws_delta: float = 0.01
    draws: int = 2000
    part: int = 100
    rate: float = 1e-3
    batch_size: int = 128
    num_steps: int | None = None
    base: Base = Base.RANDOM

    def __post_init__(self) -> None:
        if self.draws < 1 or self.part < 1:
            raise InputError("at least 1 draw of at least 1 example", f"{self.draws} of {self.part}", "use e.g. 2000")
        if not 0 < self.draws_delta < self.delta < 1:
            got = f"delta {self.delta:g}, share of the draws {self.draws_delta:g}"
            raise InputError("0 < share of the draws < delta < 1", got, "give e.g. 0.05 and 0.01")
        check_delta(self.draws_delta, "share of the draws")


@dataclass(frozen=True)
class RandomisedCertificate:
    """What is certified, of what, and what it rests on.

    Attributes:
        label: that this is about a randomised classifier.
        bound: on its error on new data, with probability ``1 - delta``.
        loss_limit: upper limit on its training error, from the draws.
        mean_loss: share of errors over all draws.
        kl_nats: ``KL(Q||P)`` with the price of the scale.
        prior_scale: ``lambda_k``.
        draws, part, delta, draws_delta, num_samples: of the statement.
        data_hash, helper_hash: of the sample, and of the helper that was fixed before it.
        conditions: what no file can show and the bound needs, in words.
        declared_hash: SHA-256 of what must be fixed beforehand: helper, prior, seed, draws, part, delta, its share and
            the conditions. Publish it before the run to show that they were.
        steps: of the training.
        settings, versions: of the run.
    """

    label: str
    bound: float
    loss_limit: float
    mean_loss: float
    kl_nats: float
    prior_scale: float
    draws: int
    part: int
    delta: float
    draws_delta: float
    num_samples: int
    data_hash: str
    helper_hash: str
    conditions: tuple[str, ...]
    declared_hash: str
    steps: int
    settings: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)


class Posterior:
    """Means and deviations of every trained number, as a model of :class:`~bitcert.codecs.training.Trainer`.

    Args:
        network: whose weights the means start from.
        helper: holds the architecture and the weights of a prior with ``Base.FILE``.
        num_samples: ``m``.
        seed: of the prior's random network and of the draws.
        base: of the prior.
    """

    def __init__(self, network: Network, helper: Helper, num_samples: int, seed: int, base: Base) -> None:
        self.num_samples = num_samples
        self.center, self.unit, self.mean, self.log_std = Tensors(), Tensors(), Tensors(), Tensors()
        for target in targets(network.architecture):
            if target.kind == "buffer":
                got = f"the statistics {target.name}"
                raise InputError("a network whose numbers are all weights", got, "fold or leave out batch norm")
            name, fan_in = target.name, max(1, math.prod(target.shape[1:])) if len(target.shape) > 1 else 100
            center = torch.from_numpy(base_values(base, target, target.draws(seed), helper)).float()
            self.center[name] = center
            self.unit[name] = torch.full(target.shape, 1 / math.sqrt(fan_in))
            self.mean[name] = network.parameters[name].detach().clone().float().requires_grad_()
            self.log_std[name] = torch.log(START * self.unit[name]).requires_grad_()
        self.generator = torch_stream(seed, "randomised/training")

    def weights(self) -> Tensors:
        """A draw for a step of the training, differentiable in means and deviations."""
        return self.draw(self.generator)

    def draw(self, generator: torch.Generator) -> Tensors:
        """A draw from this stream."""
        return {
            name: mean + self.log_std[name].exp() * torch.randn(mean.shape, generator=generator)
            for name, mean in self.mean.items()
        }

    def groups(self) -> list[dict[str, Any]]:
        """The deviations move ten times as fast: they are logarithms."""
        return [{"params": [*self.mean.values()]}, {"params": [*self.log_std.values()], "factor": 10.0}]

    @torch.no_grad()
    def best_scale(self) -> int:
        """The scale of the grid where ``KL(Q||P)`` is smallest; any choice is paid for."""
        count, squares = 0, 0.0
        for name, mean in self.mean.items():
            std, unit = self.log_std[name].double().exp(), self.unit[name].double()
            away = mean.double() - self.center[name].double()
            squares += float(((std.square() + away.square()) / unit.square()).sum())
            count += mean.numel()
        # what does not depend on the scale is left out
        return int(np.argmin([count * math.log(scale(k)) + squares / (2 * scale(k) ** 2) for k in range(GRID)]))

    @torch.no_grad()
    def kl_nats(self, k: int) -> float:
        """``KL(Q||P)`` at a scale with the price of choosing it, rounded up."""
        parts = [
            gaussian_kl(
                mean.double().numpy(),
                self.log_std[name].exp().double().numpy(),  # the float32 deviations that are drawn with
                self.center[name].double().numpy(),
                scale(k) * self.unit[name].double().numpy(),
            )
            for name, mean in self.mean.items()
        ]
        return math.nextafter(math.fsum([*parts, math.nextafter(math.log(GRID), math.inf)]), math.inf)

    def before_step(self, fraction: float) -> None:
        """Add the gradient of ``KL(Q||P) / m`` at the best scale."""
        del fraction
        k = self.best_scale()
        with torch.no_grad():
            for name, mean in self.mean.items():
                prior = (scale(k) * self.unit[name]).square()
                if mean.grad is not None:
                    mean.grad += (mean - self.center[name]) / prior / self.num_samples
                gradient = self.log_std[name].grad
                if gradient is not None:
                    gradient += ((2 * self.log_std[name]).exp() / prior - 1) / self.num_samples

    def after_step(self, fraction: float) -> None:
        """Nothing to project."""

    def state(self) -> Tensors:
        """Means and logarithms of the deviations."""
        return {f"{kind}/{name}": value for kind in ("mean", "log_std") for name, value in getattr(self, kind).items()}


def scale(k: int) -> float:
    """``lambda_k = 2^(-k/2)``."""
    return float(2.0 ** (-k / 2))


def certify_randomised(
    network: Network,
    sample: Sample,
    settings: RandomisedSettings | None = None,
    *,
    helper: Helper | None = None,
    run: Run | None = None,
) -> RandomisedCertificate:
    """Train a Gaussian posterior over the weights of a network, and bound the error of the classifier that draws them.

    Args:
        network: captured; its weights are where the means start.
        sample: the training sample, on which everything is counted.
        settings: see :class:`RandomisedSettings`.
        helper: fixed before the data; the usual one of the sample by default.
        run: seed, time budget, device, progress, checkpoint.

    Raises:
        InputError: batch-norm statistics among the numbers of the network, a training that diverges, or as
            ``settings``.
    """
    settings, run = settings or RandomisedSettings(), run or Run()
    helper = helper or Helper.for_sample(sample, network.architecture)
    search = Search(sample, helper, run)
    posterior = Posterior(network, helper, len(sample), run.seed, settings.base)
    schedule = Schedule(settings.batch_size, settings.rate, num_steps=settings.num_steps)
    trainer = Trainer(search, posterior, schedule, "randomised", "training the posterior")
    state = search.resume()
    if state is not None:
        trainer.restore(state)
    trainer.train(0.8 * run.budget_seconds if settings.num_steps is None else math.inf)
    if not trainer.is_finite():
        raise InputError("a training that converges", "numbers that are not finite", "lower the learning rate")
    k = posterior.best_scale()
    nats = posterior.kl_nats(k)
    mean_loss = _sampled_loss(search, posterior, settings)
    limit, bound = pac_bayes_sampled(mean_loss, settings.draws, len(sample), nats, settings.delta, settings.draws_delta)
    return RandomisedCertificate(
        label=LABEL,
        bound=bound,
        loss_limit=limit,
        mean_loss=mean_loss,
        kl_nats=nats,
        prior_scale=scale(k),
        draws=settings.draws,
        part=min(settings.part, len(sample)),
        delta=settings.delta,
        draws_delta=settings.draws_delta,
        num_samples=len(sample),
        data_hash=sample.content_hash,
        helper_hash=helper.content_hash,
        conditions=_conditions(settings, run.seed),
        declared_hash=declared_hash(helper, settings, run.seed),
        steps=trainer.num_steps,
        settings=_stated(settings, run.seed),
        versions=versions(),
    )


def _stated(settings: RandomisedSettings, seed: int) -> dict[str, Any]:
    stated = {"seed": seed, "rate": settings.rate, "batch_size": settings.batch_size}
    return {**stated, "base": settings.base.name}


def _conditions(settings: RandomisedSettings, seed: int) -> tuple[str, ...]:
    """What the bound needs and no file can show."""
    center = "a random network" if settings.base is Base.RANDOM else "the helper's weights"
    return (
        "The examples of the sample are independent draws from one distribution, and new data come from it too.",
        f"The architecture, the prior's centre ({center}) and widths ({WIDTHS}), and the seed {seed} were fixed before "
        "the data were seen.",
        f"The {settings.draws:,} draws of at most {settings.part:,} examples each, the failure probability "
        f"{settings.delta:g} and its share {settings.draws_delta:g} were fixed before the first draw.",
        "This is the only run: of several runs (other seeds, rates, steps or draws) the best does not hold with this "
        "probability.",
        "The generator's numbers stand for independent normal ones, also where float32 rounds them.",
    )


def declared_hash(helper: Helper, settings: RandomisedSettings, seed: int) -> str:
    """SHA-256 (hex) of what must be fixed before the data are seen, or before the first draw; no data are needed."""
    parts = [helper.content_hash, settings.base.name, GRID, WIDTHS, seed, settings.draws, settings.part]
    parts += [settings.delta, settings.draws_delta, list(_conditions(settings, seed))]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _sampled_loss(search: Search, posterior: Posterior, settings: RandomisedSettings) -> float:
    """Mean share of errors over the draws; a near-tie is an error. Streams of its own: no draw was trained on."""
    sample, seed, rule = search.sample, search.run.seed, DecisionRule()
    generator, parts = torch_stream(seed, "randomised/draws"), stream(seed, "randomised/parts")
    size, wrong = min(settings.part, len(sample)), 0
    with torch.no_grad():
        for k in range(settings.draws):
            chosen = np.sort(parts.choice(len(sample), size=size, replace=False))
            x = network_inputs(search.predictor, search.helper.preprocessing, sample.inputs_at(chosen))
            logits = search.predictor.forward(x, posterior.draw(generator))
            wrong += count_batch(logits, sample.labels[chosen], rule.tolerance).errors
            search.run.progress("drawing weights", (k + 1) / settings.draws)
    return rate_rounded_up(wrong, settings.draws * size)
