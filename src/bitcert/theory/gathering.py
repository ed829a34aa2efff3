"""The verb ``bounds``: every bound of the catalogue on one network and its training data (docs/theory.md section 3.3).

What the bounds are computed from is gathered once: norms of the weights and of their distance from initialisation, one
pass over the data, the stability profile, worst-case growth and path norms of the graph, flatness, decoded messages.
Each bound is then a pure function of it. Nothing is promised that a row does not say itself: most rows are *measures*,
and one that counts as a guarantee names its conditions.
"""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bitcert.certificates.certification import check_holdout, versions
from bitcert.counting import Progress
from bitcert.data import Role, Sample
from bitcert.decoder import Preprocessing, as_network
from bitcert.decoder.helper import count_unusual_scalars, is_unusual
from bitcert.errors import InputError, SampleReuseError, listed
from bitcert.network import Network
from bitcert.stability import StabilityProfile, Structure, initial_network, network_hash
from bitcert.stability.settings import check_available
from bitcert.theory.ingredients.conditions import graph_conditions
from bitcert.theory.ingredients.flatness import flatness
from bitcert.theory.ingredients.lipschitz import lipschitz
from bitcert.theory.ingredients.margin import choose_gamma
from bitcert.theory.ingredients.messages import open_messages
from bitcert.theory.ingredients.path_norms import path_norms
from bitcert.theory.ingredients.sample_pass import check_sample, count_holdout, pass_over
from bitcert.theory.ingredients.stability import (
    StabilityFacts,
    check_norms,
    check_profile,
    measured_profile,
    stability_facts,
)
from bitcert.theory.ingredients.weights import weigh_layers
from bitcert.theory.inputs import NO_HOLDOUT, NO_INIT, BoundInputs, Flatness, HoldoutFacts, SampleFacts
from bitcert.theory.registry import all_bounds
from bitcert.theory.settings import BoundSettings
from bitcert.theory.table import BoundRow, BoundTable
from bitcert.theory.value import Absent, Condition, Status

NO_FLATNESS = Absent(Status.NEEDS, "needs flatness: it was switched off with --no-flatness")


@dataclass(frozen=True, eq=False)
class _Run:
    """One network on one sample; fields as the arguments of :func:`bounds`."""

    network: Network
    sample: Sample
    settings: BoundSettings
    given: Preprocessing | None = None
    init: Mapping[str, Tensor] | Network | None = None
    profile: StabilityProfile | None = None
    holdout: Sample | None = None
    messages: Sequence[Path | str] = ()
    folder: Path | None = None
    progress: Progress | None = None
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def preprocessing(self) -> Preprocessing:
        return self.given or Preprocessing.usual(self.sample)

    @functools.cached_property
    def structure(self) -> Structure:
        return Structure.of(self.network.architecture)

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measure what a part of the work takes."""
        start = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start


def bounds(
    network: Network | nn.Module,
    sample: Sample,
    settings: BoundSettings | None = None,
    *,
    preprocessing: Preprocessing | None = None,
    init: Mapping[str, Tensor] | Network | nn.Module | None = None,
    profile: StabilityProfile | None = None,
    holdout: Sample | None = None,
    messages: Sequence[Path | str] = (),
    folder: Path | None = None,
    progress: Progress | None = None,
) -> BoundTable:
    """Every bound of the catalogue on one network, side by side.

    Args:
        network: captured, or a module, which is captured with the first examples.
        sample: the labelled data it was trained on, as they are stored.
        settings: margin, failure probability, what is measured.
        preprocessing: from stored examples to the network's inputs; by default the usual one of the sample.
        init: initial weights, captured the same way, or their parameters by name.
        profile: of this network on this sample, or on examples drawn from it; measured without one.
        holdout: labelled data that were never used.
        messages: files or folders of certificates of this sample.
        folder: where finished parts of the measurement are kept, so that an interrupted run goes on from them.
        progress: called with the task and the fraction done.

    Raises:
        InputError: data that do not fit the network, a margin that was given and is too large, a profile of another
            network, initial weights of another network, weights or outputs that are not finite, unreadable files.
        DecodeError: files of a certificate that contradict each other.
        SampleReuseError: held-out data of another role, or that share an example with the training data.
    """
    settings = settings or BoundSettings()
    network = as_network(network, sample, preprocessing)
    init = as_network(init, sample, preprocessing) if isinstance(init, nn.Module) else init
    run = _Run(network, sample, settings, preprocessing, init, profile, holdout, messages, folder, progress)
    inputs = _gather(run)
    every = all_bounds()
    rows = []
    with run.stage("bounds"):
        for k, bound in enumerate(every, start=1):
            rows.append(BoundRow.of(bound, bound(inputs), inputs.m))
            if progress is not None:
                progress("bounds", k / len(every))
    return _table(run, inputs, rows)


def gather(
    network: Network | nn.Module,
    sample: Sample,
    settings: BoundSettings | None = None,
    preprocessing: Preprocessing | None = None,
    **given: Any,
) -> BoundInputs:
    """Everything the bounds are computed from; arguments and errors as in :func:`bounds`."""
    return _gather(
        _Run(as_network(network, sample, preprocessing), sample, settings or BoundSettings(), preprocessing, **given)
    )


def _gather(run: _Run) -> BoundInputs:
    network, sample = run.network, run.sample
    initial = _check(run)
    with run.stage("messages"):
        opened, note = open_messages(run.messages, sample, run.network)
    with run.stage("sample"):
        device, progress = run.settings.device, run.progress
        facts, messages = pass_over(
            network, sample, run.preprocessing, messages=opened, device=device, progress=progress
        )
    if run.profile is not None:
        check_norms(run.profile, facts)
    # before anything that takes minutes
    gamma, rule = choose_gamma(facts.margins, run.settings, sample.name)
    with run.stage("weights"):
        weighed = weigh_layers(network.architecture, run.structure, network.parameters, initial, run.progress)
    stability = _stability(run)
    with run.stage("graph"):
        pairs = zip(run.structure.layers, weighed.layers, strict=True)
        operators = {layer.node: own.norms.operator for layer, own in pairs}
        growth = lipschitz(network.architecture, network.parameters, run.structure, operators)
        plain, biased = (path_norms(network.architecture, network.parameters, biases) for biases in (False, True))
    return BoundInputs(
        layers=stability.into(weighed.layers),
        sample=facts,
        gamma=gamma,
        gamma_rule=rule,
        delta=run.settings.delta,
        structure=_conditions(run, facts, stability.dead, weighed.converged),
        num_parameters=network.num_parameters,
        constants=_constants(run),
        smoothness=stability.smoothness,
        zeta=stability.zeta,
        measured_samples=stability.measured_samples,
        lipschitz=growth,
        path_norms=plain,
        path_norms_with_biases=biased,
        flatness=_flatness(run),
        messages=messages,
        messages_note=note,
        holdout=_holdout(run),
        parameters=dict(network.parameters),
        initial=NO_INIT if initial is None else initial,
        seed=run.settings.seed,
    )


def _check(run: _Run) -> Mapping[str, Tensor] | None:
    """Refuse what cannot be used before any work; the initial parameters, if there are any."""
    network, sample = run.network, run.sample
    check_available(run.settings.device)
    check_sample(network, sample)
    bad = [name for name, value in network.parameters.items() if not bool(torch.isfinite(value).all())]
    if bad:
        got = f"NaN or infinity in {listed(bad)}"
        raise InputError("finite weights", got, "repair or retrain the network")
    if not run.structure.layers:
        got = run.structure.skipped[0] if run.structure.skipped else "none"
        raise InputError("a network with a linear or convolution layer", got, "bound another network")
    if run.profile is not None:
        check_profile(run.profile, network, sample)
    if run.holdout is not None:
        if not run.holdout.has_labels:
            raise InputError("held-out data with labels", f"none in {run.holdout.name}", "pass labelled data")
        _check_role(sample, run.holdout)
        check_holdout(sample.with_role(Role.TRAIN), run.holdout)
    return None if run.init is None else initial_network(network, run.init).parameters


def _check_role(sample: Sample, holdout: Sample) -> None:
    """Refuse labels that were meant for something else: what was used once is not held out."""
    if holdout is sample:
        raise SampleReuseError("held-out data", f"the training data {sample.name} themselves", "pass unused data")
    if holdout.role is not Role.HOLDOUT:
        got = f"{holdout.name} of role {holdout.role}"
        raise SampleReuseError("held-out data of role holdout", got, "pass data that were never used, with that role")


def _constants(run: _Run) -> int:
    """Numbers of graph and preprocessing that are neither parameters nor customary; the usual scale is the program's.

    Of a mean or deviation only the unusual entries count: here each costs 64 bits, it is not merely reported.
    """
    given, usual = run.preprocessing, Preprocessing.usual(run.sample)
    numbers = (*given.mean, *given.std, *(() if given.scale == usual.scale else (given.scale,)))
    return count_unusual_scalars(run.network.architecture) + sum(map(is_unusual, numbers))


def _stability(run: _Run) -> StabilityFacts:
    if run.profile is not None:
        return stability_facts(run.profile)
    if not run.settings.profile:
        return StabilityFacts.none(len(run.structure.layers))
    with run.stage("profile"):
        profile = measured_profile(run.network, run.sample, run.settings, run.preprocessing, run.folder, run.progress)
    return stability_facts(profile)


def _conditions(run: _Run, facts: SampleFacts, dead: Condition, converged: Condition) -> dict[str, Condition]:
    """Facts on the graph, the sample and the computation by name."""
    found = graph_conditions(run.network.architecture, run.network.parameters, run.structure)
    correct = int((facts.margins > 0).sum())
    positive = Condition("margins positive", correct == facts.num_samples, f"{correct} of {facts.num_samples} examples")
    return found | {condition.name: condition for condition in (dead, positive, converged)}


def _flatness(run: _Run) -> Flatness | Absent:
    if not run.settings.flatness:
        return NO_FLATNESS
    with run.stage("flatness"):
        return flatness(run.network, run.sample, run.preprocessing, seed=run.settings.seed, progress=run.progress)


def _holdout(run: _Run) -> HoldoutFacts | Absent:
    if run.holdout is None:
        return NO_HOLDOUT
    with run.stage("holdout"):
        return count_holdout(run.network, run.holdout, run.preprocessing, run.settings.device, run.progress)


def _table(run: _Run, inputs: BoundInputs, rows: Sequence[BoundRow]) -> BoundTable:
    holdout = inputs.holdout
    gamma = None if isinstance(inputs.gamma, Absent) else inputs.gamma
    return BoundTable(
        network={
            "name": f"a network of {inputs.depth} weight layer{'s' if inputs.depth > 1 else ''}",
            "content_hash": network_hash(run.network),
            "num_parameters": inputs.num_parameters,
            "depth": inputs.depth,
            "width": inputs.width,
        },
        sample={
            "name": inputs.sample.name,
            "content_hash": run.sample.content_hash,
            "num_samples": inputs.m,
            "num_classes": inputs.sample.num_classes,
            "errors": inputs.sample.errors,
        },
        holdout=None if isinstance(holdout, Absent) else asdict(holdout),
        gamma=gamma,
        gamma_rule=inputs.gamma_rule,
        margin_loss=None if gamma is None else inputs.sample.margin_loss(gamma),
        delta=inputs.delta,
        rows=tuple(rows),
        layers=tuple((layer.name[:200], layer.num_weights) for layer in inputs.layers),
        settings=_describe(run, inputs),
        seconds={name: round(value, 3) for name, value in run.seconds.items()},
        versions=versions(),
    )


def _describe(run: _Run, inputs: BoundInputs) -> dict[str, object]:
    """The settings of the run, and what was given beside network and sample."""
    return {
        **run.settings.describe(),
        "init_given": run.init is not None,
        "profile_given": run.profile is not None,
        "profile_zeta": inputs.zeta if inputs.measured_samples is not None else None,
        "measured_samples": inputs.measured_samples,
        "messages": inputs.messages_note,
        "scale": run.preprocessing.scale,
        "mean": list(run.preprocessing.mean),
        "std": list(run.preprocessing.std),
    }
