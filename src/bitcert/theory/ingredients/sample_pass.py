"""What the bounds need of a sample: margins, errors, norms and pixel sums, in one pass over the data.

For every example ``x`` after preprocessing, with logits ``f(x)``: margin ``f(x)[y] - max_{j != y} f(x)[j]``, errors by
the rule of certificates (a tie or near-tie is an error), ``||x||_2``, ``||f(x)||_2``, and for every place of the input
the sum over the examples of ``||x[:, place]||^2`` with the channels together (docs/theory.md section 3.3, the bound
with all constants). Decoded messages are compared with the network in the same pass: entrywise and l2 deviation of the
logits (Arora 2018, Def. 1), and errors of their own.

Logits are float32 in batches, their comparison is in float64; one number an example is kept. Nothing here is promised
for other examples, and a maximum over a sample is a fact about that sample only.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

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
    facts = _Facts(len(sample))
    found = [MessageFacts(own.name, own.bits, 0, 0.0, 0.0, basis=own.basis) for own in messages]
    forward = _Forward(network, preprocessing, device, "margins of the training data", progress)
    for batch in forward.batches(sample, [message.batch_size for message in messages]):
        found = [_compared(own, message, batch) for own, message in zip(found, messages, strict=True)]
        facts.add(batch)
    return facts.result(sample, _norm_limit(sample, preprocessing)), tuple(found)


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
    batches = _Forward(network, preprocessing, device, "held-out data", progress).batches(holdout)
    return HoldoutFacts(holdout.name[:200], sum(batch.errors(batch.logits) for batch in batches), len(holdout))


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
class _Forward:
    """A network that is run over a sample, with the name of the task."""

    network: Network
    preprocessing: Preprocessing
    device: str
    task: str
    progress: Progress | None

    def batches(self, sample: Sample, limits: Sequence[int] = ()) -> Iterator[_Batch]:
        """The whole sample in batches of at most the ``limits``; refuses logits that are not finite."""
        parameters = {name: value.to(self.device) for name, value in self.network.parameters.items()}
        done = 0
        for inputs, labels in sample.batches(min([_batch_size(self.network), *limits])):
            x = self.preprocessing(inputs)
            with torch.no_grad():
                logits = self.network.architecture.forward(x.to(self.device), parameters).cpu()
            _check_finite(logits, done, sample)
            yield _Batch(inputs, x, logits, labels)
            done += len(labels)
            if self.progress is not None:
                self.progress(self.task, done / len(sample))


def _batch_size(network: Network) -> int:
    """Few enough that no value of the network exceeds a fixed number of entries, nor all in memory at once 16 times."""
    architecture = network.architecture
    propagation = architecture.propagation
    largest = max(math.prod(architecture.input_shape), *propagation.elements.values())
    return max(1, min(MAX_BATCH_SIZE, _BATCH_ENTRIES // largest, 16 * _BATCH_ENTRIES // propagation.peak))


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


class _Facts:
    """Running values of one pass."""

    def __init__(self, size: int) -> None:
        self.margins: NDArray[np.float64] = np.empty(size)
        self.filled, self.errors = 0, 0
        self.largest_input, self.largest_output = 0.0, 0.0
        self.total_square = 0.0
        self.pixels: Tensor | None = None

    def add(self, batch: _Batch) -> None:
        """One more batch."""
        self.errors += batch.errors(batch.logits)
        first, self.filled = self.filled, self.filled + len(batch.labels)
        self.margins[first : self.filled] = batch_margins(batch.logits, batch.labels)[0].numpy()
        squares = batch.x.double().square_()
        norms = squares.flatten(1).sum(1)
        self.largest_input = max(self.largest_input, math.sqrt(float(norms.max())))
        self.total_square += float(norms.sum())
        self.largest_output = max(self.largest_output, float(batch.logits.double().norm(dim=1).max()))
        sums = squares.sum(0)
        # an image's channels are one place; the entries of a vector are places of their own
        places = sums.sum(0) if sums.dim() > 1 else sums
        self.pixels = places if self.pixels is None else self.pixels + places

    def result(self, sample: Sample, norm_limit: float | None) -> SampleFacts:
        """The frozen result."""
        return SampleFacts(
            name=sample.name[:200],
            num_samples=self.filled,
            num_classes=sample.num_classes,
            errors=self.errors,
            margins=np.sort(self.margins),
            largest_input=self.largest_input,
            largest_output=self.largest_output,
            largest_pixel=0.0 if self.pixels is None else float(self.pixels.max()),
            input_shape=sample.input_shape,
            norm_limit=norm_limit,
            total_square=self.total_square,
        )


def _compared(so_far: MessageFacts, message: OpenedMessage, batch: _Batch) -> MessageFacts:
    """The facts of a message with one more batch."""
    f = batch.logits
    with torch.no_grad():
        g = message.classifier(batch.inputs).cpu()
    if g.shape != f.shape:
        got = f"shape {list(g.shape)} from {message.name}"
        raise InputError(f"logits of shape {list(f.shape)}", got, "name certificates of the same problem")
    difference = f.double() - g.double()
    # a decoded network may overflow: its distance is then infinite, and never NaN
    difference = torch.where(torch.isfinite(difference), difference.abs(), torch.full_like(difference, math.inf))
    return replace(
        so_far,
        errors=so_far.errors + batch.errors(g),
        disagreements=so_far.disagreements + int((f.argmax(1) != g.argmax(1)).sum()),
        deviation=max(so_far.deviation, float(difference.max())),
        deviation_l2=max(so_far.deviation_l2, float(difference.norm(dim=1).max())),
    )
