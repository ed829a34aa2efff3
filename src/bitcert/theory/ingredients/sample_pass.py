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
    found = [MessageFacts(own.name, own.bits, 0, 0.0, 0.0, basis=own.basis) for own in messages]
    margins: list[Tensor] = []
    squares: list[Tensor] = []
    outputs: list[float] = []
    errors, places = 0, torch.zeros((), dtype=torch.float64)
    sizes = [message.batch_size for message in messages]
    task = "margins of the training data"
    for batch in _batches(network, sample, preprocessing, device, task, progress, sizes):
        found = [_compared(own, message, batch) for own, message in zip(found, messages, strict=True)]
        errors += batch.errors(batch.logits)
        margins.append(batch_margins(batch.logits, batch.labels)[0])
        outputs.append(float(batch.logits.double().norm(dim=1).max()))
        entries = batch.x.double().square_()
        squares.append(entries.flatten(1).sum(1))
        sums = entries.sum(0)
        # an image's channels are one place; the entries of a vector are places of their own
        places = places + (sums.sum(0) if sums.dim() > 1 else sums)
    facts = SampleFacts(
        name=sample.name[:200],
        num_samples=len(sample),
        num_classes=sample.num_classes,
        errors=errors,
        margins=np.sort(torch.cat(margins).numpy()),
        largest_input=math.sqrt(max(float(own.max()) for own in squares)),
        largest_output=max(outputs),
        largest_pixel=float(places.max()),
        input_shape=sample.input_shape,
        norm_limit=_norm_limit(sample, preprocessing),
        total_square=sum(float(own.sum()) for own in squares),
    )
    return facts, tuple(found)


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
    batches = _batches(network, holdout, preprocessing, device, "held-out data", progress)
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


def _batches(
    network: Network,
    sample: Sample,
    preprocessing: Preprocessing,
    device: str,
    task: str,
    progress: Progress | None,
    limits: Sequence[int] = (),
) -> Iterator[_Batch]:
    """The whole sample through the network in batches of at most the ``limits``; refuses logits that are not finite."""
    parameters = {name: value.to(device) for name, value in network.parameters.items()}
    own = min(
        MAX_BATCH_SIZE,
        _BATCH_ENTRIES // math.prod(network.architecture.input_shape),
        batch_rows(network, _BATCH_ENTRIES),
    )
    done = 0
    for inputs, labels in sample.batches(max(1, min([own, *limits]))):
        x = preprocessing(inputs)
        with torch.no_grad():
            logits = network.architecture.forward(x.to(device), parameters).cpu()
        _check_finite(logits, done, sample)
        yield _Batch(inputs, x, logits, labels)
        done += len(labels)
        if progress is not None:
            progress(task, done / len(sample))


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
