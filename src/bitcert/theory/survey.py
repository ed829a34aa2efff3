"""The verb ``survey``: measures of many networks beside their generalization gaps, and how well each orders them.

One network is worked on at a time, and its row is kept when it is finished. What cannot be computed of a network costs
its entry, not the row, and a network that cannot be used costs its row, not the table; both say why. A measure that
orders these networks well does NOT have to order others, and explains nothing by itself.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor, nn

from bitcert import clock
from bitcert.canonical import hash_of
from bitcert.certificates.certification import check_holdout, versions
from bitcert.counting import Progress
from bitcert.data import Role, Sample
from bitcert.decoder import Preprocessing, as_network
from bitcert.errors import BitcertError, InputError
from bitcert.folder import RowStore
from bitcert.network import Network
from bitcert.stability import network_hash
from bitcert.stability.settings import check_available
from bitcert.theory.gathering import NO_FLATNESS, gather
from bitcert.theory.inputs import NO_PROFILE, BoundInputs
from bitcert.theory.registry import Bound, all_bounds, get_bound
from bitcert.theory.settings import BoundSettings
from bitcert.theory.survey_table import Reading, Survey, SurveyRow, Value
from bitcert.theory.value import Absent

Start = Mapping[str, Tensor] | Network | Callable[[], Network]
Source = Network | nn.Module | Callable[[], Network]
"""A network, or what loads it when its turn comes, so that a folder of them does not have to fit into memory."""

_ABOUT_DATA = ("holdout", "occam")
"""Rows that measure no network: they are about held-out labels and messages."""


def usual_measures() -> tuple[Bound, ...]:
    """Every bound and measure of one network."""
    return tuple(b for b in all_bounds() if b.name.partition("-")[0] not in _ABOUT_DATA and not _is_of_message(b))


def _is_of_message(bound: Bound) -> bool:
    return bound.name.endswith("-message")


@dataclass(frozen=True, eq=False)
class _Work:
    """What all networks share; fields as the arguments of :func:`survey`."""

    sample: Sample
    measures: tuple[Bound, ...]
    settings: BoundSettings
    named: bool
    holdout: Sample | None
    preprocessing: Preprocessing
    hyperparameters: Mapping[str, Mapping[str, Value]]
    folder: Path | None
    progress: Progress | None

    def key(self, name: str, network: Network, start: Mapping[str, Tensor] | None) -> str:
        """Hash of everything that determines a row."""
        given = self.preprocessing
        held = None if self.holdout is None else self.holdout.content_hash
        parts = [
            *(versions(), name, network_hash(network), self.sample.content_hash, held, self.settings.describe()),
            *([measure.name for measure in self.measures], self.named, given.scale, given.mean, given.std),
            dict(self.hyperparameters.get(name, {})),
            None if start is None else sorted((key, _digest(value)) for key, value in start.items()),
        ]
        return hash_of(parts)

    def row(self, name: str, network: Network, start: Mapping[str, Tensor] | None) -> SurveyRow:
        """The measures of one network."""
        started, settings = clock.seconds(), self.settings
        inputs = self._gather(network, start, replace(settings, profile=False, flatness=False))
        readings = self._readings(inputs)
        missing = {reading.why for reading in readings.values()}
        profile = NO_PROFILE.why in missing and (self.named or settings.profile)
        flat = NO_FLATNESS.why in missing and (self.named or settings.flatness)
        if profile or flat:
            inputs = self._gather(network, start, replace(settings, profile=profile, flatness=flat))
            readings = self._readings(inputs)
        held = None if isinstance(inputs.holdout, Absent) else inputs.holdout
        return SurveyRow(
            name=name[:200],
            content_hash=network_hash(network),
            num_parameters=inputs.num_parameters,
            depth=inputs.depth,
            width=inputs.width,
            errors=inputs.sample.errors,
            samples=inputs.m,
            holdout_errors=None if held is None else held.errors,
            holdout_samples=None if held is None else held.samples,
            gamma=None if isinstance(inputs.gamma, Absent) else inputs.gamma,
            hyperparameters=dict(self.hyperparameters.get(name, {})),
            readings=readings,
            seconds=round(clock.seconds() - started, 3),
        )

    def _gather(self, network: Network, start: Mapping[str, Tensor] | None, settings: BoundSettings) -> BoundInputs:
        return gather(
            network,
            self.sample,
            settings,
            self.preprocessing,
            init=start,
            holdout=self.holdout,
            folder=None if self.folder is None else self.folder / "shards",
            progress=self.progress,
        )

    def _readings(self, inputs: BoundInputs) -> dict[str, Reading]:
        return {measure.name: Reading.of(measure(inputs)) for measure in self.measures}


def _parameters(start: Start | None) -> Mapping[str, Tensor] | None:
    if start is None or isinstance(start, Mapping):
        return start
    return (start if isinstance(start, Network) else start()).parameters


def _digest(value: Tensor) -> str:
    return hashlib.sha256(value.detach().cpu().contiguous().numpy().tobytes()).hexdigest()


def survey(
    networks: Mapping[str, Source] | Sequence[Source],
    sample: Sample,
    measures: Sequence[str | Bound] | None = None,
    settings: BoundSettings | None = None,
    *,
    holdout: Sample | None = None,
    preprocessing: Preprocessing | None = None,
    init: Mapping[str, Start] | None = None,
    hyperparameters: Mapping[str, Mapping[str, Value]] | None = None,
    folder: Path | None = None,
    progress: Progress | None = None,
) -> Survey:
    """Measures of many networks of one training sample, beside their generalization gaps.

    Args:
        networks: by name, or in a sequence; captured, as modules (captured here), or functions that load one.
        sample: the labelled data that all of them were trained on.
        measures: names of rows of :func:`bitcert.bounds`, or bounds of your own; what they need (noise stability,
            flatness) is measured then. By default every one that ``settings`` allow.
        settings: as for ``bounds``; by default noise stability and flatness, which take longest, are left out.
        holdout: labelled data never used: the gap is the error on them less the training error.
        preprocessing: from stored examples to the networks' inputs; by default the usual one of the sample.
        init: initial weights by the network's name, for measures of the distance.
        hyperparameters: by the network's name; the same names for each network. For the conditional correlations.
        folder: where finished rows are kept, so that an interrupted survey goes on from them.
        progress: called with the task and the fraction done.

    Raises:
        InputError: no network can be used, an unknown measure, hyperparameters that do not fit.
        SampleReuseError: held-out data that share an example with the training data.
    """
    chosen = usual_measures() if measures is None else tuple(_bound(each) for each in measures)
    given = settings or BoundSettings(profile=False, flatness=False)
    check_available(given.device)
    named = _named(networks)
    _check_hyperparameters(named, hyperparameters or {})
    if holdout is not None:
        check_holdout(sample.with_role(Role.TRAIN), holdout)
    usual, kept = preprocessing or Preprocessing.usual(sample), hyperparameters or {}
    work = _Work(
        *(sample, chosen, given, measures is not None, holdout, usual, kept, folder, progress),
    )
    rows, refused = _rows(work, named, init or {})
    if not rows:
        name, why = next(iter(refused.items()))
        raise InputError("a network that can be measured", f"{len(refused)} that cannot; of {name}: {why}", "see why")
    return Survey(
        sample={"name": sample.name[:200], "content_hash": sample.content_hash, "num_samples": len(sample)},
        holdout=None if holdout is None else {"name": holdout.name[:200], "num_samples": len(holdout)},
        measures=tuple(measure.name for measure in chosen),
        rows=tuple(rows),
        refused=refused,
        settings={**given.describe(), "scale": usual.scale, "mean": list(usual.mean), "std": list(usual.std)},
        versions=versions(),
    )


def _rows(
    work: _Work, named: Mapping[str, Source], init: Mapping[str, Start]
) -> tuple[list[SurveyRow], dict[str, str]]:
    """The rows of all networks that can be used, and of the others why not."""
    store = RowStore(work.folder, SurveyRow)
    rows, refused = [], {}
    for k, (name, source) in enumerate(named.items()):
        if work.progress is not None:
            work.progress("networks", k / len(named))
        try:
            network = _network(source, work)
            start = _parameters(init.get(name))
            key = work.key(name, network, start)
            row = store.get(key)
            if row is None:
                row = work.row(name, network, start)
                store.put(key, row)
            rows.append(row)
        except BitcertError as error:
            refused[name] = str(error)[:1000]
    if work.progress is not None:
        work.progress("networks", 1.0)
    return rows, refused


def _named(networks: Mapping[str, Source] | Iterable[Source]) -> dict[str, Source]:
    found = networks if isinstance(networks, Mapping) else dict(_numbered(networks))
    if not found:
        raise InputError("at least one network", "none", "name some")
    return {str(name): source for name, source in found.items()}


def _numbered(networks: Iterable[Source]) -> Iterator[tuple[str, Source]]:
    for k, network in enumerate(networks, start=1):
        yield f"network {k}", network


def _bound(measure: str | Bound) -> Bound:
    return measure if isinstance(measure, Bound) else get_bound(measure)


def _network(source: Source, work: _Work) -> Network:
    found = source if isinstance(source, nn.Module | Network) else source()
    return as_network(found, work.sample, work.preprocessing)


def _check_hyperparameters(named: Mapping[str, Source], given: Mapping[str, Mapping[str, Value]]) -> None:
    """Refuse hyperparameters of unknown networks, and networks with other ones than the rest."""
    if not given:
        return
    unknown, missing = [name for name in given if name not in named], [name for name in named if name not in given]
    if unknown or missing:
        got = f"some of {unknown[0]!r}, which is none" if unknown else f"none of {missing[0]!r}"
        raise InputError("hyperparameters of every network by its name", got, "use the names of the networks")
    first = next(iter(given))
    for name, own in given.items():
        if set(own) != set(given[first]):
            theirs, others = (", ".join(sorted(given[each])) or "none" for each in (name, first))
            got = f"{theirs} of {name} and {others} of {first}"
            raise InputError("the same hyperparameters for every network", got, "state all of them for each")
