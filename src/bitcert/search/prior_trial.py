"""What is trained on a prior part, and whether its images are mirrored: a short trial within that part.

The helper may depend on the prior part in any way (docs/theory.md section 2, data-dependent helper), so what is found
here costs no bit beyond the declaration of the architectures; of the rest nothing is seen. Of the built-in networks for
images the wide one is taken where there is time to train it. If an architecture was given as well, both are trained for
a tenth of the time each on nine tenths of the prior part, and compared on the last tenth: a network that is accurate
after a day may be the worse one after ten minutes. None of these trainings mirrors images. If the network so trained
finds a mirrored image about as easy as an upright one, left and right do not matter to the classes (photographs; not
digits), and the training that counts mirrors.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from bitcert.certificates.original import RawClassifier
from bitcert.data import Sample
from bitcert.data.split import split_prior
from bitcert.decoder import Preprocessing
from bitcert.errors import InputError
from bitcert.network import Network
from bitcert.random import stream
from bitcert.run import Run
from bitcert.search.judging import network_logits
from bitcert.search.prior import PriorModel, PriorRecipe, is_fast_enough, trainer_for
from bitcert.search.prior_network import BuiltIn, is_image

TRIAL_SHARE = 0.1
"""Part of the time for the prior network that each architecture is tried for."""
WIDE_EPOCHS, WIDE_STEPS = 5, 1_000
"""The wide network is taken where the time allows as many of both."""
FEWEST_STEPS = 50
"""What is not trained for as many steps in a trial is too slow for the time."""
_MOST = 50_000
"""More examples are not tried on: they are copied, and a trial is short."""
_LEARNS_ON = 0.9
_MOST_HELD = 5_000
_FEWEST = 200
"""Of fewer examples a tenth tells nothing."""
_CLEARLY = 0.9
"""A given architecture must err less often than so much of the built-in one's error: small networks begin faster."""
_SYMMETRIC = 0.1
"""Mirroring may add at most this part of the distance between the error on upright images and guessing."""


@dataclass(frozen=True)
class Choice:
    """What a trial found: the index of the architecture, and whether images are mirrored."""

    index: int = 0
    mirrored: bool = False


def needs_trial(prior: Sample, models: Sequence[PriorModel]) -> bool:
    """Whether there is anything to choose and enough to choose by."""
    return len(prior) >= _FEWEST and (len(models) > 1 or is_image(prior.input_shape))


def default_choice(prior: Sample, models: Sequence[PriorModel]) -> Choice:
    """Where a trial tells nothing: the small built-in network, quick to train, for images; else the given one."""
    return Choice(models.index(BuiltIn.SMALL) if is_image(prior.input_shape) and BuiltIn.SMALL in models else 0)


def num_tried(models: Sequence[PriorModel]) -> int:
    """How many trainings a trial has."""
    return len({isinstance(model, BuiltIn) for model in models})


def try_out(
    prior: Sample,
    run: Run,
    budget: float,
    models: Sequence[PriorModel],
    preprocessing: Preprocessing,
    recipe: PriorRecipe | None = None,
) -> Choice:
    """Train each for a while on most of the prior part, and compare them on what is left of it.

    Args:
        prior: the prior part, of role ``prior``.
        run: seed and time, all of which is used.
        budget: seconds that the training will have which then counts.
        models: as for :func:`~bitcert.search.prior.train_prior`: at most one that is not built in, and it first.
        preprocessing: of the helper.
        recipe: how they will be trained.

    Raises:
        InputError: as ``train_prior``.
    """
    if not needs_trial(prior, models):
        return default_choice(prior, models)
    plain = replace(recipe or PriorRecipe(), mirrored=False)
    kinds = [_built_in(prior, run, budget, models, preprocessing, plain)] if BuiltIn.SMALL in models else []
    if len(prior) > _MOST:
        prior = prior.take(np.sort(stream(run.seed, "prior/trial").permutation(len(prior))[:_MOST]))
    try:
        learned, held = split_prior(prior, max(_LEARNS_ON, 1 - _MOST_HELD / len(prior)))
    except InputError:  # one of the parts has a single class
        return default_choice(prior, models)
    upright: list[float] = []
    networks: list[Network] = []
    tried = [*(model for model in models if not isinstance(model, BuiltIn)), *kinds]
    for model in tried:
        trainer = trainer_for(learned, run, model, preprocessing, plain)
        trainer.run = run.share(run.budget_seconds / len(tried))  # the clock starts when all is made ready
        trainer.train()
        networks.append(trainer.trained())
        slow = trainer.num_steps < FEWEST_STEPS
        upright.append(math.inf if slow else _error_rate(networks[-1], held, preprocessing))
    if min(upright) == math.inf:
        return default_choice(prior, models)
    own = len(tried) == 2 and upright[0] < _CLEARLY * upright[1]
    best = 0 if own else len(tried) - 1  # the built-in one, unless that was too slow
    winner, mirrored = tried[best], False
    if is_image(prior.input_shape):
        turned = replace(held, inputs=np.ascontiguousarray(np.asarray(held.inputs)[..., ::-1]))
        more = _error_rate(networks[best], turned, preprocessing) - upright[best]
        known = 1 - 1 / prior.num_classes - upright[best]
        mirrored = bool(known > 0 and more <= _SYMMETRIC * known)
    return Choice(models.index(BuiltIn.MIRRORED if winner is BuiltIn.WIDE and mirrored else winner), mirrored)


def _built_in(
    prior: Sample,
    run: Run,
    seconds: float,
    models: Sequence[PriorModel],
    preprocessing: Preprocessing,
    recipe: PriorRecipe,
) -> BuiltIn:
    """The built-in network that so many seconds are enough for."""
    if BuiltIn.WIDE not in models:
        return BuiltIn.SMALL
    steps = max(WIDE_STEPS, math.ceil(WIDE_EPOCHS * len(prior) / recipe.batch_size))
    if recipe.max_steps is None:
        enough = is_fast_enough(prior, run, BuiltIn.WIDE, seconds / steps, preprocessing, recipe)
    else:
        enough = recipe.max_steps >= steps
    return BuiltIn.WIDE if enough else BuiltIn.SMALL


def _error_rate(network: Network, sample: Sample, preprocessing: Preprocessing) -> float:
    logits = network_logits(RawClassifier(network.architecture, network.parameters, preprocessing), sample)
    return float((logits.argmax(1) != sample.labels).mean())
