"""The stability profile that the bounds rest on: given and checked against the network, or measured here.

A profile belongs to one network and one sample (hashes of both), or to examples drawn from the sample as ``bitcert
measure --samples`` draws them; its minima then hold for those only, which the rows that use it say. A profile states
no preprocessing: where it has the norms of the inputs they are compared with those of this run. A profile from a
stranger is NOT shown to be true by any of this.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bitcert.counting import Progress
from bitcert.data import Sample
from bitcert.decoder import Preprocessing
from bitcert.errors import InputError
from bitcert.network import Network
from bitcert.stability import LayerRow, StabilityProfile, Structure, measure, network_hash
from bitcert.stability.hypotheses import smoothness_hypothesis
from bitcert.stability.planning import drawn
from bitcert.theory.inputs import NO_PROFILE, LayerInputs, LayerStability, SampleFacts
from bitcert.theory.settings import QUANTITIES, BoundSettings
from bitcert.theory.value import Absent, Condition, Status

_ROUNDING = 1e-3
"""Relative difference of two computations of one norm in float32, and more."""
_NO_DEAD = Condition("no dead inputs", None, "not measured")


@dataclass(frozen=True, eq=False)
class StabilityFacts:
    """What a profile, or the lack of one, gives the bounds; fields as in :class:`bitcert.theory.inputs.BoundInputs`.

    Attributes:
        stability: of every layer.
        dead: whether no example made a ratio 0/0.
    """

    stability: tuple[LayerStability | Absent, ...]
    smoothness: Condition | Absent
    dead: Condition
    zeta: float
    measured_samples: int | None

    @classmethod
    def none(cls, depth: int) -> StabilityFacts:
        """Without a profile."""
        return cls((NO_PROFILE,) * depth, NO_PROFILE, _NO_DEAD, 0.0, None)

    def into(self, layers: Sequence[LayerInputs]) -> tuple[LayerInputs, ...]:
        """The layers with their stability."""
        return tuple(replace(layer, stability=own) for layer, own in zip(layers, self.stability, strict=True))


def check_profile(profile: StabilityProfile, network: Network, sample: Sample) -> None:
    """Refuse a profile of another network or of other data.

    Raises:
        InputError: saying which.
    """
    if profile.network["content_hash"] != network_hash(network):
        got = f"one of {profile.network['name']} with other weights or another architecture"
        raise InputError("a profile of this network", got, "measure this network, or leave the profile out")
    count = profile.sample["num_samples"]
    own = sample if count >= len(sample) else drawn(sample, count, profile.settings["seed"])
    if profile.sample["content_hash"] != own.content_hash:
        got = f"one of {profile.sample['name']} ({count:,} examples)"
        raise InputError(f"a profile measured on {sample.name}", got, "measure this network on these data")
    depth = len(Structure.of(network.architecture).layers)
    if len(profile.layers) != depth:
        got = f"{len(profile.layers)}"
        raise InputError(f"a profile of {depth} weight layers", got, "measure this network again")


def check_norms(profile: StabilityProfile, facts: SampleFacts) -> None:
    """Refuse a profile that was measured with another preprocessing, where it can be told.

    Raises:
        InputError: the norms of the inputs differ.
    """
    found = profile.distributions.get("input_norm")
    if not found or found[0].maximum is None:
        return
    theirs, ours = found[0].maximum, facts.largest_input
    whole = profile.sample["num_samples"] >= facts.num_samples
    far = theirs > ours * (1 + _ROUNDING) or (whole and theirs < ours * (1 - _ROUNDING))
    if far:
        got = f"inputs of norm up to {theirs:.4g} in the profile and {ours:.4g} here"
        raise InputError("a profile measured with this preprocessing", got, "give the same scale, mean and std")


def measured_profile(
    network: Network,
    sample: Sample,
    settings: BoundSettings,
    preprocessing: Preprocessing,
    folder: Path | None = None,
    progress: Progress | None = None,
) -> StabilityProfile:
    """The profile that the bounds need, measured as the settings say; arguments as in :func:`bitcert.measure`.

    Raises:
        InputError: as :func:`bitcert.measure` does.
    """
    count = len(sample) if settings.profile_samples is None else settings.profile_samples
    part = drawn(sample, count, settings.seed)
    return measure(network, part, settings.measure, preprocessing=preprocessing, folder=folder, progress=progress)


def stability_facts(profile: StabilityProfile) -> StabilityFacts:
    """What a profile gives the bounds."""
    depth = len(profile.layers)
    hypotheses = {h.name: h for h in profile.hypotheses}
    return StabilityFacts(
        stability=tuple(_of_layer(profile, row) for row in profile.layers),
        smoothness=_smoothness(profile, depth),
        dead=hypotheses.get(_NO_DEAD.name, _NO_DEAD),
        zeta=float(profile.settings["zeta"]),
        measured_samples=profile.sample["measured"],
    )


def _of_layer(profile: StabilityProfile, row: LayerRow) -> LayerStability | Absent:
    """A layer's values; what is infinite, or missing because every example is dead, is for the bounds to name."""
    if not any(name in profile.distributions for name in QUANTITIES[:3]):
        why = f"needs a profile with {', '.join(QUANTITIES[:3])}: they were not measured for layer {row.index}"
        return Absent(Status.NEEDS, why)
    cushions = profile.distributions.get("layer_cushion")
    return LayerStability(
        cushion=row.layer_cushion,
        minimal_cushion=row.minimal_cushion,
        contraction=row.contraction,
        beta=row.beta,
        contraction_after=row.contraction_after,
        largest_cushion=None if cushions is None else cushions[row.index - 1].maximum,
        largest_minimal_cushion=_largest_minimal_cushion(profile, row),
    )


def _largest_minimal_cushion(profile: StabilityProfile, row: LayerRow) -> float | None:
    """``min(sqrt h_i, min over j > i of max over the sample of mu_{i,j})``: definition 5.5 of Zhang 2020 as printed."""
    found = profile.distributions.get("interlayer_cushion")
    if found is None:
        return None
    pairs = zip(profile.pairs, found, strict=True)
    largest = [own.maximum for (i, _), own in pairs if i == row.index]
    known = [value for value in largest if value is not None]
    return min([math.sqrt(row.channels), *known]) if len(known) == len(largest) else None


def _smoothness(profile: StabilityProfile, depth: int) -> Condition | Absent:
    if not profile.pairs:
        return Condition("interlayer smoothness ρ_δ ≥ 3d", True, "no pair of layers")
    if profile.smoothness is None:
        return Absent(Status.NEEDS, "needs a profile with smoothness: it was not measured")
    found = smoothness_hypothesis(profile.smoothness, depth)
    limit, measured = profile.settings.get("smoothness_samples"), profile.sample["measured"]
    if isinstance(limit, int) and limit < measured:
        # the largest value of some examples is none of all of them; that they break it is enough
        holds = found.holds if found.holds is False else None
        return Condition(found.name, holds, f"{found.detail}; on {limit} of {measured} examples")
    return found
