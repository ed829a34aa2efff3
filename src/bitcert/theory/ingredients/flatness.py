"""How much Gaussian noise on the weights a network bears before it loses a stated part of its training accuracy.

``sigma`` is the largest standard deviation found with ``E_u[accuracy(w) - accuracy(w + u)] <= drop``, ``u ~ N(0,
sigma^2)`` on every trained number (weights, biases, gains); ``magnitude_sigma`` the same for ``u_i ~ N(0, sigma^2
w_i^2 + epsilon^2)`` with ``epsilon`` = 1e-3 (Jiang et al. 2020, appendix; the PAC-Bayes measures of the public
collections, one of which draws noise with standard deviation ``sigma^2``: a mistake, not followed).

The expectation is a mean over a few draws. Every ``sigma`` sees the same draws (named streams) on the same examples, so
that the measured drop is one function of ``sigma``; it is bracketed by factors of 4 and bisected to 2 %. It need not be
monotone: what is found is a crossing of ``drop``. Each draw has its own evenly spaced examples, as many as a stated
amount of arithmetic allows. An estimate, NOT a bound.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bitcert.counting import Labels, Progress, margins
from bitcert.data import Sample
from bitcert.decoder import Preprocessing
from bitcert.errors import InputError
from bitcert.network import Network
from bitcert.random import torch_stream
from bitcert.theory.ingredients.sample_pass import batch_rows
from bitcert.theory.inputs import Flatness
from bitcert.theory.value import Absent, Status

EPSILON = 1e-3
"""Floor of the magnitude-aware noise (Jiang 2020)."""

BUDGET = 2e11
"""Floating-point operations of all evaluations together: some 6 s on two cores for dense layers."""

DRAWS = 20
"""The noise of the draws outweighs that of the examples: many draws on few examples each."""

PRECISION = 1.02
"""Largest ratio of the ends of the final bracket."""

_FACTOR = 4.0
_MOST_GROWTH, _MOST_SHRINKING = 12, 24
_EVALUATIONS = 20
"""Values of sigma that two searches usually try."""

_FEWEST = 100
"""Examples of all draws together, whatever the budget."""

_MOST_ENTRIES = 1 << 26
"""Numbers in the inputs of all draws together, which stay in memory."""

_BATCH_ENTRIES = 1 << 24

Draw = Callable[[Tensor, Tensor, float], Tensor]
"""``(weights, standard normals, sigma) -> noise``."""


@dataclass(frozen=True)
class Found:
    """Where a search ended.

    Attributes:
        sigma: largest tried with a drop of at most the target; 0 if even the smallest noise costs more.
        drop: measured there.
    """

    sigma: float
    drop: float


Part = tuple[Tensor, Labels]
"""Inputs as the network sees them, and their labels."""


@dataclass(frozen=True, eq=False)
class Probe:
    """A network, the examples of each draw, and the noise.

    Attributes:
        network: the network.
        parts: the examples of each draw.
        clean: accuracy without noise on each of them.
        seed: of the noise.
        draw: shape of the noise.
        tell: called after every evaluation.
    """

    network: Network
    parts: tuple[Part, ...]
    clean: tuple[float, ...]
    seed: int
    draw: Draw
    tell: Callable[[], None]

    def drop(self, sigma: float) -> float:
        """Mean drop in accuracy over the draws."""
        drops = [
            clean - accuracy(self.network, self._noisy(k, sigma), part)
            for k, (clean, part) in enumerate(zip(self.clean, self.parts, strict=True))
        ]
        self.tell()
        return math.fsum(drops) / len(drops)

    def _noisy(self, k: int, sigma: float) -> dict[str, Tensor]:
        generator = torch_stream(self.seed, f"bounds/flatness/{k}")
        noisy = dict(self.network.parameters)
        for spec in self.network.architecture.parameters:
            if spec.kind != "buffer":
                weights = self.network.parameters[spec.name]
                noisy[spec.name] = weights + self.draw(weights, torch.randn(spec.shape, generator=generator), sigma)
        return noisy


def accuracy(network: Network, parameters: Mapping[str, Tensor], part: Part) -> float:
    """Fraction of the examples whose label has the largest output; a tie or an output that is no number is an error."""
    inputs, labels = part
    rows = batch_rows(network, _BATCH_ENTRIES)
    correct = 0
    with torch.no_grad():
        for start in range(0, len(labels), rows):
            logits = network.architecture.forward(inputs[start : start + rows], parameters)
            correct += int((margins(logits, labels[start : start + rows])[0] > 0).sum())
    return correct / len(labels)


def plain(weights: Tensor, normals: Tensor, sigma: float) -> Tensor:
    """Noise of standard deviation ``sigma``."""
    return sigma * normals


def by_magnitude(weights: Tensor, normals: Tensor, sigma: float) -> Tensor:
    """Noise of variance ``sigma^2 w^2 + epsilon^2``."""
    return torch.hypot(sigma * weights, torch.full_like(weights, EPSILON)) * normals


def flatness(
    network: Network,
    sample: Sample,
    preprocessing: Preprocessing,
    *,
    seed: int,
    drop: float = 0.1,
    draws: int = DRAWS,
    budget: float = BUDGET,
    progress: Progress | None = None,
) -> Flatness | Absent:
    """The two sigmas of a network on a labelled sample.

    Args:
        network: captured.
        sample: training examples with labels.
        preprocessing: from stored examples to the network's inputs.
        seed: of the noise.
        drop: accuracy given up, in (0, 1).
        draws: of the noise, at least 2.
        budget: floating-point operations, which limit the examples, as memory does (never below 100 together).
        progress: called with the task and the fraction done.

    Returns:
        The flatness, or ``Absent`` where no noise costs so much, or there are no labels.

    Raises:
        InputError: ``drop``, ``draws`` or ``budget`` out of range.
    """
    if not 0 < drop < 1 or draws < 2 or not budget > 0:
        got = f"drop {drop}, draws {draws}, budget {budget}"
        raise InputError("a drop in (0, 1), at least 2 draws and a positive budget", got, "leave them out")
    if not sample.has_labels:
        return Absent(Status.NEEDS, "needs labels: the accuracy that noise on the weights costs")
    each = affordable_examples(network, len(sample), draws, budget)
    where = [spread(len(sample), each, k, draws) for k in range(draws)]
    parts = _parts(sample, preprocessing, where)
    clean = tuple(accuracy(network, network.parameters, part) for part in parts)
    probe = Probe(network, parts, clean, seed, plain, _counter(progress))
    right = math.fsum(clean) / draws
    found = _search(probe, _typical_size(network), drop) if right > drop else None
    magnitude = None if found is None else _search(replace(probe, draw=by_magnitude), 0.5, drop, floor=True)
    if progress is not None:
        progress("adding noise to the weights", 1.0)
    if found is None or magnitude is None:
        why = f"the network is right on {100 * right:.3g} % of the examples, and no noise takes {100 * drop:.3g} points"
        return Absent(Status.OUTSIDE, f"does not apply: {why} from it")
    return Flatness(
        sigma=found.sigma,
        magnitude_sigma=magnitude.sigma,
        epsilon=EPSILON,
        drop=drop,
        draws=draws,
        examples=min(len(sample), each * draws),
        accuracy=right,
        reached=found.drop,
        magnitude_reached=magnitude.drop,
    )


def affordable_examples(network: Network, num_samples: int, draws: int, budget: float) -> int:
    """Examples of each draw: as many as arithmetic and memory allow, at least 100 together, at most all."""
    work = max(1, sum(network.architecture.propagation.flops.values()))
    fitting = _MOST_ENTRIES // math.prod(network.architecture.input_shape)
    few, affordable = math.ceil(_FEWEST / draws), int(budget / (_EVALUATIONS * draws * work))
    if num_samples <= min(affordable, fitting):
        return num_samples  # once in memory for all draws
    return min(num_samples, max(few, min(affordable, fitting // draws)))


def spread(num_samples: int, count: int, draw: int, draws: int) -> NDArray[np.int64]:
    """``count`` evenly spaced positions; those of different draws are different while there are enough examples.

    >>> [spread(8, 2, draw, 2).tolist() for draw in (0, 1)]
    [[0, 4], [2, 6]]
    """
    return (np.arange(count, dtype=np.int64) * draws + draw) * num_samples // (count * draws)


def _parts(sample: Sample, preprocessing: Preprocessing, where: list[NDArray[np.int64]]) -> tuple[Part, ...]:
    whole = len(where[0]) == len(sample)  # every draw sees everything: once in memory
    parts = [(preprocessing(sample.inputs_at(k)), sample.labels[k]) for k in (where[:1] if whole else where)]
    return tuple(parts * len(where) if whole else parts)


def _typical_size(network: Network) -> float:
    """Root mean square of the trained numbers, where the search starts."""
    kinds = {spec.name: spec.kind for spec in network.architecture.parameters}
    values = [value for name, value in network.parameters.items() if kinds.get(name) != "buffer"]
    squares = math.fsum(float(value.double().square().sum()) for value in values)
    return math.sqrt(squares / max(1, sum(value.numel() for value in values))) or 1.0


def _search(probe: Probe, start: float, target: float, floor: bool = False) -> Found | None:
    """The largest sigma found whose drop is at most ``target``; ``None`` if none costs more.

    Args:
        probe: measures the drop.
        start: first sigma tried.
        target: the drop.
        floor: whether there is noise at ``sigma = 0`` that may cost too much by itself.
    """
    if floor:
        none = probe.drop(0.0)
        if none > target:
            return Found(0.0, none)
    near, measured = start, probe.drop(start)
    fits = measured <= target
    for _ in range(_MOST_GROWTH if fits else _MOST_SHRINKING):
        far = near * _FACTOR if fits else near / _FACTOR
        beyond = probe.drop(far)
        if (beyond <= target) is not fits:
            break
        near, measured = far, beyond
    else:
        return None
    low, high, measured = (near, far, measured) if fits else (far, near, beyond)
    while high > PRECISION * low:
        middle = math.sqrt(low * high)
        halfway = probe.drop(middle)
        if halfway <= target:
            low, measured = middle, halfway
        else:
            high = middle
    return Found(low, measured)


def _counter(progress: Progress | None) -> Callable[[], None]:
    done = itertools.count(1)

    def tell() -> None:
        if progress is not None:
            progress("adding noise to the weights", min(0.95, next(done) / (_EVALUATIONS + 2)))

    return tell
