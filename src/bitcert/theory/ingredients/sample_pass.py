"""What the bounds need of a sample: margins, errors, norms and pixel sums, in one pass over the data.

For every example ``x`` after preprocessing, with logits ``f(x)``: margin ``f(x)[y] - max_{j != y} f(x)[j]``, errors by
the rule of certificates (a tie or near-tie is an error), ``||x||_2``, ``||f(x)||_2``, and for every place of the input
the sum over the examples of ``||x[:, place]||^2`` with the channels together (docs/theory.md section 3.3, the bound
with all constants). Decoded messages are compared with the network in the same pass: entrywise and l2 deviation of the
logits (Arora 2018, Def. 1), and errors of their own.

Logits are float32 in batches, their comparison is in float64; two numbers an example are kept. Nothing here is promised
for other examples, and a maximum over a sample is a fact about that sample only.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, reduce

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bitcert.counting import DecisionRule, Progress, count_batch
from bitcert.counting import margins as batch_margins
from bitcert.data import Sample
from bitcert.decoder import Preprocessing
from bitcert.decoder.helper import MAX_BATCH_SIZE
from bitcert.errors import InputError
from bitcert.network import Network
from bitcert.shards import Part, Task, executor_for, in_shards
from bitcert.theory.ingredients.messages import OpenedMessage
from bitcert.theory.inputs import HoldoutFacts, MessageFacts, SampleFacts

_BATCH_ENTRIES = 1 << 21
"""Entries of the largest value in a batch: larger ones leave the cache, and convolutions take twice as long."""

_ROUNDING = 1 + 1e-6
"""Of the preprocessing in float32, for a limit that must not be exceeded."""


def check_sample(network: Network, sample: Sample) -> None:
    """Refuse a sample on which the margins of this network cannot be computed.

    Raises:
        InputError: no labels, a single class, another shape or number of classes, or a network of tokens.
    """
    architecture = network.architecture
    if architecture.input_dtype != "float32":
        got = "one that reads token indices"
        raise InputError("a network that reads numbers", got, "bound networks of images or vectors")
    if not sample.has_labels:
        raise InputError(f"labels of {sample.name}", "none", "pass the labelled training data")
    if bool((sample.labels == sample.labels[0]).all()):
        got = f"only label {sample.labels[0]} on {len(sample)} examples"
        raise InputError(f"examples of at least two classes in {sample.name}", got, "pass data that were not filtered")
    if tuple(sample.input_shape) != architecture.input_shape:
        got = f"{sample.name} of shape {list(sample.input_shape)}"
        raise InputError(f"inputs of shape {list(architecture.input_shape)}", got, "use the network's own data")
    if sample.num_classes != architecture.num_outputs:
        got = f"{architecture.num_outputs} outputs"
        expected = f"a network with {sample.num_classes} outputs, one for each class of {sample.name}"
        raise InputError(expected, got, "use the data this network was trained for")


def pass_over(
    network: Network,
    sample: Sample,
    preprocessing: Preprocessing,
    *,
    messages: Sequence[OpenedMessage] = (),
    device: str = "cpu",
    progress: Progress | None = None,
) -> tuple[SampleFacts, tuple[MessageFacts, ...]]:
    """The facts of a labelled sample, and those of each message.

    Args:
        network: captured.
        sample: labelled; see :func:`check_sample`.
        preprocessing: from stored examples to the network's inputs.
        messages: decoded, to be compared with the network.
        device: where the network runs.
        progress: called with the task and the fraction done.

    Raises:
        InputError: logits of the network that are not finite.
    """
    run = _Pass(network, sample, preprocessing, device, tuple(message.batch_size for message in messages))

    def gather(start: int, stop: int) -> _Facts:
        return reduce(operator.add, (_Facts.of(batch, messages) for batch in run.batches(start, stop)))

    found = reduce(operator.add, run.in_shards(gather, "margins of the training data", progress))
    facts = SampleFacts(
        name=sample.name[:200],
        num_samples=len(sample),
        num_classes=sample.num_classes,
        errors=found.errors,
        margins=np.sort(torch.cat(found.margins).numpy()),
        largest_input=math.sqrt(found.largest_square),
        largest_output=found.largest_output,
        largest_pixel=float(found.places.max()),
        input_shape=sample.input_shape,
        norm_limit=_norm_limit(sample, preprocessing),
        total_square=found.total_square,
    )
    return facts, found.messages


def count_holdout(
    network: Network,
    holdout: Sample,
    preprocessing: Preprocessing,
    device: str = "cpu",
    progress: Progress | None = None,
) -> HoldoutFacts:
    """Errors on held-out labels, by the rule of certificates.

    Raises:
        InputError: logits that are not finite.
    """
    run = _Pass(network, holdout, preprocessing, device)

    def count(start: int, stop: int) -> int:
        return sum(batch.errors(batch.logits) for batch in run.batches(start, stop))

    return HoldoutFacts(holdout.name[:200], sum(run.in_shards(count, "held-out data", progress)), len(holdout))


@dataclass(frozen=True, eq=False)
class _Batch:
    """Stored inputs, what the network sees of them ``[batch, ...]``, logits ``[batch, classes]`` and labels."""

    inputs: NDArray[np.generic]
    x: Tensor
    logits: Tensor
    labels: NDArray[np.int64]

    def errors(self, logits: Tensor) -> int:
        """Errors of these logits, by the rule of certificates."""
        return count_batch(logits, self.labels, DecisionRule().tolerance).errors


@dataclass(frozen=True, eq=False)
class _Facts:
    """What is known of some examples in their order; ``places`` are the sums of squares at each place of the input."""

    errors: int
    margins: tuple[Tensor, ...]
    largest_square: float
    total_square: float
    largest_output: float
    places: Tensor
    messages: tuple[MessageFacts, ...]

    @classmethod
    def of(cls, batch: _Batch, messages: Sequence[OpenedMessage]) -> _Facts:
        """Those of one batch."""
        entries = batch.x.double().square_()
        squares, sums = entries.flatten(1).sum(1), entries.sum(0)
        return cls(
            errors=batch.errors(batch.logits),
            margins=(batch_margins(batch.logits, batch.labels)[0],),
            largest_square=float(squares.max()),
            total_square=float(squares.sum()),
            largest_output=float(batch.logits.double().norm(dim=1).max()),
            # an image's channels are one place; the entries of a vector are places of their own
            places=sums.sum(0) if sums.dim() > 1 else sums,
            messages=tuple(_compared(message, batch) for message in messages),
        )

    def __add__(self, other: _Facts) -> _Facts:
        return _Facts(
            self.errors + other.errors,
            self.margins + other.margins,
            max(self.largest_square, other.largest_square),
            self.total_square + other.total_square,
            max(self.largest_output, other.largest_output),
            self.places + other.places,
            tuple(map(_joined, self.messages, other.messages)),
        )


@dataclass(frozen=True, eq=False)
class _Pass:
    """A sample on its way through the network, in batches of at most the ``limits``."""

    network: Network
    sample: Sample
    preprocessing: Preprocessing
    device: str
    limits: tuple[int, ...] = ()

    @cached_property
    def batch_size(self) -> int:
        rows = _BATCH_ENTRIES // math.prod(self.network.architecture.input_shape)
        return max(1, min(MAX_BATCH_SIZE, rows, batch_rows(self.network, _BATCH_ENTRIES), *self.limits))

    def in_shards(self, task: Task[Part], name: str, progress: Progress | None) -> list[Part]:
        executor = executor_for(len(self.sample), self.device)
        return in_shards(task, len(self.sample), self.batch_size, name, progress, executor)

    def batches(self, start: int, stop: int) -> Iterator[_Batch]:
        """Those of a range of examples; refuses logits that are not finite."""
        parameters = {name: value.to(self.device) for name, value in self.network.parameters.items()}
        for inputs, labels in self.sample.batches(self.batch_size, start, stop):
            x = self.preprocessing(inputs)
            with torch.no_grad():
                logits = self.network.architecture.forward(x.to(self.device), parameters).cpu()
            _check_finite(logits, start, self.sample)
            yield _Batch(inputs, x, logits, labels)
            start += len(labels)


def batch_rows(network: Network, entries: int) -> int:
    """Examples for which no value of the network has more entries than this, nor all in memory at once 16 times."""
    propagation = network.architecture.propagation
    largest = max(propagation.elements.values(), default=1)
    return max(1, min(entries // largest, 16 * entries // propagation.peak))


def _check_finite(logits: Tensor, first: int, sample: Sample) -> None:
    finite = torch.isfinite(logits).all(1)
    if not bool(finite.all()):
        where = first + int(torch.nonzero(~finite)[0])
        got = f"NaN or infinity for example {where} of {sample.name}"
        raise InputError("finite outputs", got, "check data and preprocessing")


def _norm_limit(sample: Sample, preprocessing: Preprocessing) -> float | None:
    """A limit on ``||x||_2`` that holds for every input of 8-bit pixels, whatever the data; ``None`` for floats."""
    if sample.inputs.dtype != np.uint8:
        return None
    shape = sample.input_shape
    # each entry is largest at 0 or at 255
    ends = [preprocessing(np.full((1, *shape), value, np.uint8)).double().abs() for value in (0, 255)]
    return float(torch.maximum(*ends).norm()) * _ROUNDING


def _compared(message: OpenedMessage, batch: _Batch) -> MessageFacts:
    """The facts of a message on one batch."""
    f = batch.logits
    with torch.no_grad():
        g = message.classifier(batch.inputs).cpu()
    if g.shape != f.shape:
        got = f"shape {list(g.shape)} from {message.name}"
        raise InputError(f"logits of shape {list(f.shape)}", got, "name certificates of the same problem")
    difference = f.double() - g.double()
    # a decoded network may overflow: its distance is then infinite, and never NaN
    difference = torch.where(torch.isfinite(difference), difference.abs(), torch.full_like(difference, math.inf))
    return MessageFacts(
        name=message.name,
        bits=message.bits,
        errors=batch.errors(g),
        deviation=float(difference.max()),
        deviation_l2=float(difference.norm(dim=1).max()),
        disagreements=int((f.argmax(1) != g.argmax(1)).sum()),
        basis=message.basis,
    )


def _joined(own: MessageFacts, other: MessageFacts) -> MessageFacts:
    """The facts of one message on the examples of both."""
    return replace(
        own,
        errors=own.errors + other.errors,
        deviation=max(own.deviation, other.deviation),
        deviation_l2=max(own.deviation_l2, other.deviation_l2),
        disagreements=own.disagreements + other.disagreements,
    )
