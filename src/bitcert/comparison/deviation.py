"""How far the outputs of a compressed network are from the original's, in one pass over a sample.

For every input ``x`` of a sample, with logits ``f(x)`` of the original and ``g(x)`` of the compressed network:

* entrywise: ``max_y |f(x)[y] - g(x)[y]|``; l2: ``||f(x) - g(x)||_2``; relative: ``||f(x) - g(x)||_2 / ||f(x)||_2``.

A margin ``f(x)[y] - max_{j != y} f(x)[j]`` changes by at most twice the entrywise and by at most ``sqrt(2)`` times the
l2 deviation. So with ``gamma`` the largest entrywise deviation on the sample, ``hat L_0(g) <= hat L_{2 gamma}(f)``, and
with ``gamma = sqrt(2)`` times the largest l2 deviation, ``hat L_0(g) <= hat L_gamma(f)``; where a fraction ``zeta`` of
the sample is left out of the maximum, ``zeta`` is added on the right. ``hat L_gamma(f)`` is the fraction with margin
``<= gamma``: ties are errors. Source: Arora et al. 2018, Def. 1 and Thm 2.1, which print ``hat L_gamma(f)`` for the
entrywise deviation; that form is false (docs/theory.md section 2 and erratum 4) and stands here beside the right one.

Not promised: anything about new examples. This is a measure of two networks on given data; certificates count the
errors of the decoded network itself (near-ties included, which are not errors here).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from bitcert.canonical import plain
from bitcert.counting import (
    Classifier,
    Progress,
    margins,
    one_pass,
)
from bitcert.data import Sample
from bitcert.decoder import Helper, as_network
from bitcert.decoder.network import QuantisedNetwork
from bitcert.errors import InputError
from bitcert.network import Network
from bitcert.shards import in_shards

Column = NDArray[np.float64]

UPPER = 0.99
QUANTILES = (0.5, 0.9, 0.95, 0.99)
FRACTIONS = (1.0, 0.99, 0.95, 0.9)


@dataclass(frozen=True)
class DeviationDistribution:
    """One deviation over the sample.

    Attributes:
        maximum: its largest value, ``inf`` where a logit is not finite.
        mean: arithmetic mean.
        quantiles: by level; the value at ``q`` is the ``ceil(q n)``-th smallest, so it occurs in the data.
        worst_index: position of the maximum in the sample.
        skipped: examples without a value (a relative deviation of 0/0).
    """

    maximum: float
    mean: float
    quantiles: Mapping[float, float]
    worst_index: int
    skipped: int = 0


@dataclass(frozen=True)
class MarginComparison:
    """The margin theorem with the smallest ``gamma`` that holds for a fraction of the sample.

    Attributes:
        fraction: of the sample for which ``gamma`` bounds the deviation, ``1 - zeta``.
        gamma: that entrywise deviation.
        error: ``hat L_0(g)``, the same for every fraction.
        margin_loss: ``hat L_{2 gamma}(f) + zeta``: the right form.
        printed_margin_loss: ``hat L_gamma(f) + zeta`` with the same entrywise ``gamma``: as printed, not sound.
        gamma_l2: ``sqrt(2)`` times the l2 deviation.
        margin_loss_l2: ``hat L_gamma(f) + zeta`` with ``gamma_l2``: sound.
    """

    fraction: float
    gamma: float
    error: float
    margin_loss: float
    printed_margin_loss: float
    gamma_l2: float
    margin_loss_l2: float

    @property
    def holds(self) -> bool:
        """``hat L_0(g) <= hat L_{2 gamma}(f) + zeta``; always true up to the rounding of the logits."""
        return self.error <= self.margin_loss

    @property
    def holds_l2(self) -> bool:
        """``hat L_0(g) <= hat L_gamma(f) + zeta`` with the l2 ``gamma``; always true likewise."""
        return self.error <= self.margin_loss_l2

    @property
    def holds_as_printed(self) -> bool:
        """``hat L_0(g) <= hat L_gamma(f) + zeta`` with the entrywise ``gamma``; may be false."""
        return self.error <= self.printed_margin_loss


@dataclass(frozen=True)
class OutputDeviation:
    """Deviations of one network's logits from another's on a sample.

    Attributes:
        samples: how many inputs.
        entrywise, l2, relative: see the module.
        disagreements: inputs for which the largest logit is another one (the first, where several are largest).
        original_error: ``hat L_0(f)``, or ``None`` without labels.
        comparisons: the margin theorem per fraction of the sample, largest first; empty without labels.
    """

    samples: int
    entrywise: DeviationDistribution
    l2: DeviationDistribution
    relative: DeviationDistribution
    disagreements: int
    original_error: float | None
    comparisons: tuple[MarginComparison, ...]

    @property
    def compressibility(self) -> MarginComparison | None:
        """(gamma, S)-compressibility: the comparison with nothing left out, or ``None`` without labels."""
        return self.comparisons[0] if self.comparisons else None

    def describe(self) -> dict[str, object]:
        """As JSON values; a number that is not finite becomes ``None``."""
        document = asdict(self)
        for row, comparison in zip(document["comparisons"], self.comparisons, strict=True):
            for name in ("holds", "holds_l2", "holds_as_printed"):
                row[name] = getattr(comparison, name)
        described: dict[str, object] = plain(document)
        return described


def original_classifier(network: Network, helper: Helper) -> Classifier:
    """A captured network with its own weights, behind the helper's preprocessing: raw inputs -> logits."""
    return QuantisedNetwork(helper, network.architecture, network.parameters)


def _as_classifier(model: Classifier | nn.Module | Network, sample: Sample) -> Classifier:
    if not isinstance(model, Network | nn.Module):
        return model
    network = as_network(model, sample)
    return original_classifier(network, Helper.for_sample(sample, network.architecture))


def output_deviation(
    original: Classifier | nn.Module,
    compressed: Classifier | nn.Module,
    sample: Sample,
    batch_size: int = 1000,
    progress: Progress | None = None,
) -> OutputDeviation:
    """Deviations of ``compressed`` from ``original``, streamed in batches; 41 bytes an example are kept.

    Args:
        original: ``f``, raw inputs ``[batch, ...]`` to logits ``[batch, classes]``; see :func:`original_classifier`. A
            network or module, here and as ``compressed``, is captured with the first examples and has the usual
            preprocessing of the sample.
        compressed: ``g``, e.g. ``decode_message(...).classifier``.
        sample: inputs, and labels for the margin theorem.
        batch_size: examples at a time.
        progress: called with the task and the fraction done.

    Raises:
        InputError: when the two do not return logits of one and the same shape, or labels exceed it.

    >>> from bitcert.data import Role
    >>> sample = Sample(np.array([[1.0, 0.0], [0.0, 2.0]], np.float32), np.array([0, 1]), 2, Role.TRAIN, "toy")
    >>> def same(x): return torch.tensor(x)
    >>> def double(x): return 2 * torch.tensor(x)
    >>> deviation = output_deviation(same, double, sample)
    >>> deviation.entrywise.maximum, deviation.relative.maximum, deviation.disagreements
    (2.0, 1.0, 0)
    """
    pair = [_as_classifier(each, sample) for each in (original, compressed)]

    def compute(start: int, stop: int) -> Columns:
        batches = paired_outputs(pair, sample, batch_size, start, stop)
        return Columns.joined([Columns.of(*batch, sample.has_labels) for batch in batches])

    return Columns.joined(in_shards(compute, len(sample), batch_size, "comparing outputs", progress)).summary()


def paired_outputs(
    pair: Sequence[Classifier], sample: Sample, batch_size: int, start: int, stop: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor, NDArray[np.int64]]]:
    """Logits ``[batch, classes]`` of both networks, and the labels, batch by batch."""
    for (f, g), labels in one_pass(pair, sample, batch_size, within=(start, stop)):
        if f.shape != g.shape or f.ndim != 2 or len(f) != len(labels) or f.shape[1] < 2:
            got = f"shapes {list(f.shape)} and {list(g.shape)} for {len(labels)} inputs"
            do = "compare networks of one task"
            raise InputError("logits [batch, classes] of one shape from both networks", got, do)
        if int(labels.max()) >= f.shape[1]:
            got = f"label {int(labels.max())}"
            raise InputError(f"labels below the number of logits, {f.shape[1]}", got, "use the data of these networks")
        yield f, g, labels


@dataclass(frozen=True, eq=False)
class Columns:
    """One number a sample for every quantity: exact quantiles need them all, and they are small.

    float64, so that the inequalities between margins and deviations hold as they do for real numbers. Without labels
    there are no margins.
    """

    entrywise: Column
    l2: Column
    relative: Column
    disagrees: NDArray[np.bool_]
    margin_f: Column
    margin_g: Column

    @classmethod
    def of(cls, f: torch.Tensor, g: torch.Tensor, labels: NDArray[np.int64], labelled: bool) -> Columns:
        """Those of a batch of logits ``[batch, classes]``."""
        f, g = f.detach().cpu().double(), g.detach().cpu().double()
        first, second = f.numpy(), g.numpy()
        finite = np.isfinite(first).all(1) & np.isfinite(second).all(1)
        difference = np.where(finite[:, None], first, 0.0) - np.where(finite[:, None], second, 0.0)
        norm = np.linalg.norm(np.where(finite[:, None], first, 1.0), axis=1)
        l2 = np.linalg.norm(difference, axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            relative = l2 / norm
        return cls(
            entrywise=np.where(finite, np.abs(difference).max(1), math.inf),
            l2=np.where(finite, l2, math.inf),
            relative=np.where(finite, relative, math.inf),
            disagrees=~finite | (first.argmax(1) != second.argmax(1)),
            margin_f=_margins(f, labels) if labelled else np.empty(0),
            margin_g=_margins(g, labels) if labelled else np.empty(0),
        )

    @classmethod
    def joined(cls, parts: Sequence[Columns]) -> Columns:
        """Those of consecutive parts of a sample."""
        return cls(*(np.concatenate([getattr(part, own.name) for part in parts]) for own in fields(cls)))

    @property
    def size(self) -> int:
        """How many examples."""
        return len(self.entrywise)

    def summary(self) -> OutputDeviation:
        """The frozen result."""
        labelled = len(self.margin_f) > 0
        return OutputDeviation(
            samples=self.size,
            entrywise=_distribution(self.entrywise),
            l2=_distribution(self.l2),
            relative=_distribution(self.relative),
            disagreements=int(self.disagrees.sum()),
            original_error=self._loss(self.margin_f, 0.0) if labelled else None,
            comparisons=tuple(self._comparison(fraction) for fraction in FRACTIONS) if labelled else (),
        )

    def _comparison(self, fraction: float) -> MarginComparison:
        gamma, gamma_l2 = quantile(self.entrywise, fraction), math.sqrt(2.0) * quantile(self.l2, fraction)
        # The order statistic covers ceil(fraction * n) examples; the others may all be errors.
        left_out = self.size - math.ceil(fraction * self.size)
        return MarginComparison(
            fraction=fraction,
            gamma=gamma,
            error=self._loss(self.margin_g, 0.0),
            margin_loss=self._loss(self.margin_f, 2 * gamma, left_out),
            printed_margin_loss=self._loss(self.margin_f, gamma, left_out),
            gamma_l2=gamma_l2,
            margin_loss_l2=self._loss(self.margin_f, gamma_l2, left_out),
        )

    def _loss(self, margin: Column, gamma: float, left_out: int = 0) -> float:
        """Fraction with margin ``<= gamma`` (one that is not a number counts), plus what is left out, at most 1.

        One division of whole numbers, so that equal fractions are equal floats.
        """
        return min(self.size - int((margin > gamma).sum()) + left_out, self.size) / self.size


def _margins(logits: torch.Tensor, labels: NDArray[np.int64]) -> Column:
    """Margins ``[batch]``; of logits that are not finite not a number, hence not above any gamma, hence an error."""
    finite = torch.isfinite(logits).all(1)
    found: Column = torch.where(finite, margins(logits, labels)[0], torch.nan).numpy()
    return found


def quantile(values: Column, level: float) -> float:
    """The ``ceil(level * n)``-th smallest of ``values [n]``, ``n >= 1``.

    >>> quantile(np.array([3.0, 1.0, 2.0, 4.0]), 0.5), quantile(np.array([3.0, 1.0]), 1.0)
    (2.0, 3.0)
    """
    rank = min(max(math.ceil(level * len(values)), 1), len(values)) - 1
    return float(np.partition(values, rank)[rank])


def _distribution(values: Column) -> DeviationDistribution:
    present = values[~np.isnan(values)]
    if not len(present):
        return DeviationDistribution(math.nan, math.nan, dict.fromkeys(QUANTILES, math.nan), 0, len(values))
    return DeviationDistribution(
        maximum=float(present.max()),
        mean=float(present.mean()),
        quantiles={level: quantile(present, level) for level in QUANTILES},
        worst_index=int(np.nanargmax(values)),
        skipped=len(values) - len(present),
    )
