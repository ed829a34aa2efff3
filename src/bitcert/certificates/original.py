"""The step from the compressed network to the original one, and the networks it needs, run as they are.

Let a classifier be right on ``(x, y)`` if the logit of ``y`` clearly exceeds every other in both ways of counting
(:mod:`bitcert.counting`) and all are finite: near-ties are errors, for the original network f as for the compressed
one g. (A network that breaks them somehow is wrong on no more.) Say that the two *disagree* on x if their largest
logits are at different places, or the two largest logits of EITHER are a near-tie, or any logit is not finite. Where
they do not disagree, both have the same clear first place, so f is right there exactly when g is. Hence
``1[f wrong] <= 1[g wrong] + 1[disagree]`` for every example, and ``L(f) <= L(g) + P[disagree]`` (docs/theory.md section
2). The first is bounded by the Occam certificate at ``delta_1``; the second, as whether they disagree needs no label,
by the exact binomial limit ``p_bar(a, n, delta_2)`` of ``a`` disagreements on ``n`` unlabelled examples. Near-ties of g
count as disagreements although they are errors already: they are rare, and so the count only rises with the
tolerance, which is what lets another machine check it. Other losses are NOT carried over: two networks with the same
first place may differ in all else.

A surrogate may abstain where its two largest logits are close (:mod:`bitcert.decoder.abstaining`). It then counts as
disagreeing and not as wrong. An example where they do not disagree is still one that g answers, so the inequality
holds as it stands. Where g is wrong more often than not this is cheaper: such an example would mostly be counted
twice, once as an error of g and once, because f is right there, as a disagreement.

The unlabelled examples must be drawn independently of f, of g and of everything g was made from. What is seen of that
is refused: examples of them that are also in the training sample, in the prior part or among held-out ones, number by
number, if they are more than the repetitions of a table make likely. Those that are not refused are no trials
(:func:`bitcert.proof.trials_apart`), so that copies among them do no harm. NOT seen are changed copies, and whether f
was trained on them or g chosen by them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from bitcert.canonical import hash_of
from bitcert.counting import Classifier, Disagreement, FloatClassifier, LossCount, Progress
from bitcert.data import Role, Sample, check_apart, count_shared_examples, load_sample, schema_like, shaped_like
from bitcert.data.apart import of_one_type
from bitcert.decoder import Helper, HelperWeights, Preprocessing, as_network
from bitcert.decoder.helper import examples_at_a_time
from bitcert.decoder.network import run_network
from bitcert.errors import InputError
from bitcert.network import Network, OpaqueModel
from bitcert.network.architecture import Architecture
from bitcert.proof import trials_apart

_IDENTITY = ("architecture", "weights", "factory", "scale", "mean", "std")
ORIGINAL_KEYS = frozenset({"name", "hash", *_IDENTITY, "unlabelled", "disagreements", "disagreement_bound", "look"})
UNLABELLED_KEYS = frozenset({"name", "hash", "samples"})
SHARED = "shared"
"""Key of the number of unlabelled examples that are also in the training data, if there are any."""


@dataclass(frozen=True, eq=False)
class RawClassifier(FloatClassifier):
    """A network with its preprocessing: raw inputs ``[batch, ...]`` -> logits ``[batch, classes]``."""

    predictor: Architecture | OpaqueModel
    values: Mapping[str, torch.Tensor]
    preprocessing: Preprocessing

    def logits(self, inputs: NDArray[np.generic], dtype: torch.dtype) -> torch.Tensor:
        """Logits of a batch of raw inputs, computed in ``dtype``."""
        with torch.no_grad():
            return run_network(self.predictor, self.values, self.preprocessing, inputs, dtype)


@dataclass(frozen=True, eq=False)
class Original:
    """The original network f, unmodified, and the unlabelled sample its disagreements are counted on.

    Args:
        predictor: its architecture, or its Python code where that could not be captured.
        values: its tensors by name.
        preprocessing: what it was trained with.
        unlabelled: drawn independently of the training sample and of both networks; see :func:`unlabelled_sample`.
        name: for people.

    >>> original = Original.of(network, Preprocessing(scale=255.0), unlabelled)  # doctest: +SKIP
    """

    predictor: Architecture | OpaqueModel
    values: Mapping[str, torch.Tensor]
    preprocessing: Preprocessing
    unlabelled: Sample
    name: str = "original network"

    @classmethod
    def of(
        cls,
        network: Network | nn.Module,
        preprocessing: Preprocessing,
        unlabelled: Sample,
        name: str = "original network",
    ) -> Original:
        """From a captured network, or a module, which is captured with the first examples."""
        network = as_network(network, unlabelled, preprocessing)
        return cls(network.architecture, network.parameters, preprocessing, unlabelled, name)

    @property
    def classifier(self) -> Classifier:
        """Raw inputs -> logits of the original network."""
        return RawClassifier(self.predictor, self.values, self.preprocessing)

    @property
    def batch_size(self) -> int:
        """Examples evaluated at a time: a fixed function of the network, as for a helper."""
        return examples_at_a_time(self.predictor, self.unlabelled.input_shape, self.unlabelled.num_classes)

    @cached_property
    def _identity(self) -> dict[str, object]:
        return {
            "architecture": self.predictor.content_hash,
            "weights": HelperWeights.of(self.predictor, self.values).content_hash,  # type: ignore[arg-type]
            "factory": self.predictor.factory if isinstance(self.predictor, OpaqueModel) else None,
            "scale": self.preprocessing.scale,
            "mean": list(self.preprocessing.mean),
            "std": list(self.preprocessing.std),
        }

    @property
    def content_hash(self) -> str:
        """SHA-256 (hex) of architecture, weights and preprocessing."""
        return identity_hash(self._identity)

    def describe(self, shared: int = 0) -> dict[str, object]:
        """What a certificate says of the original network and of the unlabelled sample, as JSON values.

        Args:
            shared: how many unlabelled examples are also in the training data.
        """
        sample = self.unlabelled
        data = {"name": sample.name, "hash": sample.content_hash, "samples": len(sample)}
        data |= {SHARED: shared} if shared else {}
        return {"name": self.name[:200], "hash": self.content_hash, **self._identity, "unlabelled": data}


def identity_hash(described: Mapping[str, object]) -> str:
    """SHA-256 (hex) of those entries of a description that make up the network."""
    entries = {key: described[key] for key in _IDENTITY}
    return hash_of(entries)


def pair_hash(original: Original, message: bytes, helper: Helper) -> str:
    """What a look at the unlabelled sample is about: the original network, the message and the message's helper."""
    parts = [original.content_hash, hashlib.sha256(message).hexdigest(), helper.content_hash]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


MakeOriginal = Callable[[Sample, Preprocessing], Original]
"""Loads the original network for an unlabelled sample and a preprocessing; called only for a certificate of one."""


def unlabelled_sample(sample: Sample) -> Sample:
    """The inputs of ``sample`` alone, in the role ``UNLABELLED``: whatever labels it had are gone."""
    if sample.role is Role.UNLABELLED and not sample.has_labels:
        return sample
    return Sample(sample.inputs, None, sample.num_classes, Role.UNLABELLED, sample.name)  # type: ignore[arg-type]


def load_test_part(
    source: str | Path, role: Role, like: Sample, download: bool = False, progress: Progress | None = None
) -> Sample:
    """Held-out or unlabelled examples by name or path: the test part where there are two.

    Args:
        source: name or path.
        role: what they are for; of unlabelled ones the labels are dropped.
        like: the training sample: a table is read as it was, inputs have its shape if they can have it.
        download: fetch built-in data that are not found.
        progress: while downloading.

    Raises:
        InputError: they cannot be read.
    """
    classes, schema = like.num_classes, schema_like(source, like.table)
    found = load_sample(
        source, role, split="test", num_classes=classes, download=download, progress=progress, schema=schema
    )
    found = shaped_like(found, like.input_shape)
    return unlabelled_sample(found) if role is Role.UNLABELLED else found


def trials_of(facts: Mapping[str, Any]) -> int:
    """On how many examples the disagreements are counted, from what a certificate says of the original network.

    Raises:
        InputError: it says nothing sensible.
    """
    data = facts["unlabelled"]
    shared = data.get(SHARED, 0)
    if type(shared) is not int or not 0 <= shared <= data["samples"] or (SHARED in data and not shared):
        raise InputError("a number of shared examples", str(shared)[:100], "ask for the file again")
    return trials_apart(facts["disagreements"], data["samples"], shared)


def check_unlabelled(unlabelled: Sample, *used: Sample) -> int:
    """Refuse unlabelled examples of another problem, or too many that are also in a sample used for anything else.

    Returns:
        How many are also in the first of those samples, by chance or not.

    Raises:
        InputError: another shape.
        SampleReuseError: more shared examples than are likely, with the number of them.
    """
    for sample in used:
        if unlabelled.input_shape != sample.input_shape:
            got = f"{unlabelled.name} of shape {list(unlabelled.input_shape)}"
            expected = f"unlabelled examples of shape {list(sample.input_shape)}"
            raise InputError(expected, got, "pass examples of the same problem")
        check_apart(unlabelled, sample, repeats=True)
    return count_shared_examples(*of_one_type(unlabelled, used[0]))


@dataclass(frozen=True, eq=False)
class Counts:
    """What was counted for a certificate, at each level of strictness, so that its maker need not count twice.

    Attributes:
        losses: errors and losses on the training sample: lenient, certified, strict.
        disagreements: on the unlabelled sample at the same levels; empty without an original network.
    """

    losses: tuple[LossCount, ...]
    disagreements: tuple[Disagreement, ...] = ()


def helper_network(helper: Helper) -> Classifier | None:
    """The network that the helper string itself holds, as a classifier; ``None`` where it holds none for these classes.

    With a prior part it is the network trained on that part, whose errors on the rest say what holding out the rest
    would have told.
    """
    predictor: Any = helper.predictor
    if not isinstance(predictor, Architecture) or helper.weights is None:
        return None
    if predictor.num_outputs != helper.num_classes:
        return None
    values = {name: torch.from_numpy(np.array(value)) for name, value in helper.weights.values.items()}
    return RawClassifier(predictor, values, helper.preprocessing)
