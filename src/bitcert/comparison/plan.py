"""Which messages a comparison makes, how the time for training is shared, and what it will take.

Codecs that only look at the weights come first, those that train on the sample last. The time for training is shared
equally among the codecs that train, and a codec's share among its strengths, of which as many are tried as get
``LEAST_TRAINING`` seconds each; where that is a single one, the codec's own defaults are tried. The estimate of time
does NOT include encoding, which depends on the codec.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bitcert.codecs.base import Codec
from bitcert.codecs.best import is_trained
from bitcert.codecs.registry import CODECS, find_codec, required_fields
from bitcert.data import Sample
from bitcert.decoder.helper import examples_at_a_time
from bitcert.errors import InputError
from bitcert.network import Network, estimate_plan

LEAST_TRAINING = 60.0
MOST_LOGITS = 1 << 26
"""Up to this many of the original's logits are kept; beyond, they are computed again for every message."""
DEVIATION_BYTES = 41


@dataclass(frozen=True)
class CompareSettings:
    """Options of a comparison.

    Args:
        delta: probability with which any of the bounds may fail.
        seed: of training and of the subsample for the theory.
        budget_seconds: for all training together.
        most_strengths: settings of one codec, at most, evenly chosen among its own.
        theory_samples: examples shown to the papers' formulas, drawn at random; they are measures, not guarantees.
        device: where to train.
    """

    delta: float = 0.05
    seed: int = 0
    budget_seconds: float = 300.0
    most_strengths: int = 5
    theory_samples: int = 1000
    device: str = "cpu"

    def __post_init__(self) -> None:
        if not 0 < self.delta < 1:
            raise InputError("delta between 0 and 1", str(self.delta), "use e.g. 0.05")
        if not 0 < self.budget_seconds < float("inf"):
            raise InputError("a positive number of seconds for training", str(self.budget_seconds), "give e.g. 300")
        if self.seed < 0 or self.most_strengths < 1 or self.theory_samples < 1:
            got = f"{self.seed}, {self.most_strengths}, {self.theory_samples}"
            expected = "a seed of 0 or more, at least 1 strength and at least 1 example for the theory"
            raise InputError(expected, got, "change them")


@dataclass(frozen=True)
class Entry:
    """One message to be made.

    Attributes:
        codec: with its settings.
        seconds: of training; 0 for a codec that does not train.
        instead: what is tried, in this order, if the codec refuses the network, so that its time is not lost.
    """

    codec: Codec
    seconds: float = 0.0
    instead: tuple[Codec, ...] = ()


@dataclass(frozen=True)
class ComparisonPlan:
    """What will be done.

    Attributes:
        entries: in the order of the work.
        count_seconds: for counting errors of all messages, estimated.
        training_seconds: at most.
        memory_bytes: beside the program and the data.
        without: codecs that were asked for and have no strengths of their own.
    """

    entries: tuple[Entry, ...]
    count_seconds: float
    training_seconds: float
    memory_bytes: int
    without: tuple[str, ...] = ()


def plan_comparison(
    network: Network,
    sample: Sample,
    settings: CompareSettings,
    codecs: Sequence[Codec | str] | None = None,
    holdout: Sample | None = None,
) -> ComparisonPlan:
    """The messages of a comparison and its cost.

    Args:
        network: to be compressed.
        sample: the training sample.
        settings: see there.
        codecs: names, whose strengths are tried, or codecs with their settings; all of the registry by default.
        holdout: held-out labels, counted too.

    Raises:
        InputError: no codec is called so, or none is left.
    """
    groups, without = _groups(codecs, settings)
    if not groups:
        known = ", ".join(without) or "none"
        raise InputError("codecs with strengths of their own to compare", known, "name other ones")
    training = [group for group in groups if is_trained(group[0])]
    entries = [Entry(codec) for group in groups if not is_trained(group[0]) for codec in group]
    for group in training:
        share = settings.budget_seconds / len(training)
        # the other strengths of a codec that has time for one only, from the last to the first
        alone = len(group) == 1 and group[0] not in (codecs or ())
        instead = tuple(s for s in reversed(type(group[0]).strengths()) if s != group[0]) if alone else ()
        entries += [Entry(codec, share / len(group), instead) for codec in group]
    counted = len(sample) + (0 if holdout is None else len(holdout))
    batch_size = examples_at_a_time(network.architecture, sample.input_shape, sample.num_classes)
    cost = estimate_plan(network, counted, batch_size)
    logits = len(sample) * sample.num_classes
    memory = cost.memory_bytes + 8 * cost.parameter_bytes + DEVIATION_BYTES * len(sample)
    return ComparisonPlan(
        entries=tuple(entries),
        count_seconds=(len(entries) + 1) * cost.estimate_seconds(),
        training_seconds=settings.budget_seconds if training else 0.0,
        memory_bytes=memory + (4 * logits if logits <= MOST_LOGITS else 0),
        without=tuple(without),
    )


def _groups(
    codecs: Sequence[Codec | str] | None, settings: CompareSettings
) -> tuple[list[tuple[Codec, ...]], list[str]]:
    """The messages of each codec, and names that have none."""
    chosen: Sequence[Codec | str] = tuple(CODECS) if codecs is None else codecs
    names = [codec for codec in dict.fromkeys(chosen) if isinstance(codec, str)]
    kinds = {name: find_codec(name) for name in names}
    given: dict[str, list[Codec]] = {}
    for codec in chosen:
        if not isinstance(codec, str):
            given.setdefault(codec.name, []).append(codec)
    num_trained = sum(is_trained(kind) for kind in kinds.values()) + sum(is_trained(g[0]) for g in given.values())
    groups: list[tuple[Codec, ...]] = [tuple(group) for group in given.values()]
    for kind in kinds.values():
        most = settings.most_strengths
        if is_trained(kind):
            most = min(most, int(settings.budget_seconds / num_trained / LEAST_TRAINING))
        groups.append(_chosen(kind, max(1, most)))
    without = [name for name, group in zip(kinds, groups[len(given) :], strict=True) if not group]
    return [group for group in groups if group], without


def _chosen(kind: type[Codec], most: int) -> tuple[Codec, ...]:
    """At most ``most`` strengths, the first and the last among them; for a single one, the codec's own defaults."""
    codecs = kind.strengths()
    if len(codecs) <= most:
        return codecs
    if most > 1:
        return tuple(codecs[round(k * (len(codecs) - 1) / (most - 1))] for k in range(most))
    return (codecs[len(codecs) // 2] if required_fields(kind) else kind(),)
