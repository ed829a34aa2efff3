"""Which contenders enter a search: what is given decides, by fixed rules that look at sizes and kinds only.

- No network: the built-in families.
- A given network: learned quantisation, all codecs, and a codec and strength for every layer; and the built-in
  families, which need no network and give a certificate at once. What is certified is the user's choice: the best
  message of its weights, of its architecture and of the built-in families are all kept (:class:`Option`).
- A helper network (public, or trained on a declared prior part): heads on its features, and differences from it.
- A surrogate for an original network: all of these, the built-in families learning the original's soft answers.

The order is that of promise: where time is short the last ones are left out. All helpers are made here, before anything
is tried, from what the user declared: which of them a message is decoded with follows from its family.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from enum import StrEnum
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitcert.codecs.base import Codec, Selection
from bitcert.codecs.best import PlainCodecs, is_trained
from bitcert.codecs.quantise import TunedQuantise
from bitcert.codecs.random_subspace import RandomSubspace
from bitcert.codecs.registry import CODECS
from bitcert.codecs.tuned import compress_values
from bitcert.data import Sample
from bitcert.decoder import Helper, network_head
from bitcert.decoder import head as bank_head
from bitcert.decoder import network as quantised
from bitcert.decoder import tensors as composed
from bitcert.decoder import trees as decision_tree
from bitcert.decoder import votes as sum_of_votes
from bitcert.decoder.features.edges import is_image
from bitcert.decoder.tensors import Base
from bitcert.errors import InputError, unknown_name
from bitcert.network import Network, estimate_plan
from bitcert.network.architecture import Architecture
from bitcert.run import Compressed, Run
from bitcert.search.contender import Contender
from bitcert.search.difference import compress_difference
from bitcert.search.head import compress_head
from bitcert.search.head_forms import compress_network_head
from bitcert.search.judging import Judge
from bitcert.search.request import CertifyRequest
from bitcert.search.strengths import compress_per_layer
from bitcert.search.trees import compress_trees
from bitcert.search.votes import compress_votes

Targets = NDArray[np.float32]


class Option(StrEnum):
    """What a message is of, where a network is given: in the words of the user's choice."""

    WEIGHTS = "its weights, compressed"
    ARCHITECTURE = "its architecture, trained for the certificate"
    BUILT_IN = "a built-in classifier, trained for the certificate"


EXAMPLES_A_SECOND = 4000
"""A training that sees fewer than a few passes over the data says nothing; a rough speed is enough to judge that."""
LEAST_COUNTS = 2
"""As many passes of a given network over the sample does the quickest of its compressors make."""
EXAMPLES_A_DIMENSION = 30
"""Of a random subspace for a whole network: about three bits a dimension, a tenth of a bit for each example."""


def contenders(
    given: CertifyRequest, targets: Targets | None = None, judge: Judge | None = None
) -> tuple[Contender, ...]:
    """All that can be tried, the most promising first.

    Args:
        given: the request; its helper network is the one trained on a declared prior part, and its sample the rest.
        targets: soft answers ``[m, classes]`` of the original network that is to be certified, if any.
        judge: of its surrogates.
    """
    found: list[Contender] = []
    if given.codecs:
        return tuple(_chosen(given))
    if given.helper_network is not None:
        found += _on_helper_network(given, given.helper_network, targets)
    # a data-free message can hardly rival a helper network, but may try
    weight = 1.0 if given.helper_network is None else 0.2
    found += [replace(contender, weight=weight * contender.weight) for contender in _built_in(given, targets, judge)]
    if given.network is not None:
        found += _of_network(given)
    if given.network is None or targets is not None or given.helper_network is not None:
        # the user asked for one thing: its best message, of whatever kind
        found = [replace(contender, option="") for contender in found]
    return tuple(found)


FAMILIES = {
    "head": ("bank head",),
    "tree": ("decision tree",),
    "votes": ("sum of votes",),
    "table": ("decision tree", "sum of votes", "bank head"),
}
"""The built-in families as users name them, and their contenders."""


def usual_family(input_shape: tuple[int, ...]) -> str:
    """What is trained where no family is named: a head for images, for everything else whatever reads tables."""
    return "head" if is_image(input_shape) else "table"


def _built_in(given: CertifyRequest, targets: Targets | None, judge: Judge | None) -> list[Contender]:
    """The families that are part of the program: those wanted, else the usual ones for such data."""
    head, helper, option = partial(compress_head, targets=targets, judge=judge), given.problem, Option.BUILT_IN
    votes = partial(compress_votes, targets=targets, judge=judge)
    found = (
        Contender("decision tree", decision_tree.family_of(helper), compress_trees, helper, True, 3.0, option=option),
        Contender("sum of votes", sum_of_votes.FAMILY, votes, helper, True, 3.0, option=option),
        Contender("bank head", bank_head.FAMILY, head, helper, False, 3.0, option=option),
    )
    families = given.families or (usual_family(given.sample.input_shape),)
    if unknown := [family for family in families if family not in FAMILIES]:
        raise unknown_name("family", unknown[0], FAMILIES)
    wanted = {name for family in families for name in FAMILIES[family]}
    return [contender for contender in found if contender.name in wanted]


def _of_network(given: CertifyRequest) -> list[Contender]:
    """A given network: learned quantisation, and if its layers are visible all codecs."""
    helper = given.own_helper
    bare = replace(helper, weights=None)
    counts = LEAST_COUNTS * _seconds_of_a_count(given)
    least = 1.0 + len(given.sample) / EXAMPLES_A_SECOND + counts

    def tuned(sample: Sample, helper: Helper, run: Run) -> Compressed:
        return compress_values(given.tensors, sample, helper, run, fine_tune=given.fine_tune)

    own = Option.WEIGHTS
    found = [Contender("learned quantisation", quantised.FAMILY, tuned, bare, False, 1.5, counts, own)]
    network, public = given.network, given.helper_network
    if not isinstance(network, Network) or (public is not None and helper.weights is None):
        return found
    strengths = partial(compress_per_layer, network)
    found.append(Contender("a strength for each layer", composed.FAMILY, strengths, bare, False, 0.25, least, own))
    plain = PlainCodecs(_plain(helper), network)
    found.append(Contender("codecs of the papers", composed.FAMILY, plain, helper, True, 0.25, least, own))
    subspace = RandomSubspace(dimension=max(20, min(5000, len(given.sample) // EXAMPLES_A_DIMENSION)))
    found.append(_trained(subspace, network, bare, subspace.label, 1.5, least, Option.ARCHITECTURE))
    for kind in CODECS.values():
        if issubclass(kind, TunedQuantise | RandomSubspace) or not is_trained(kind):
            continue
        usual = kind.strengths()
        codec = usual[len(usual) // 2]
        found.append(_trained(codec, network, bare, codec.label, 0.3, 4 * least, Option.ARCHITECTURE))
    return found


def _seconds_of_a_count(given: CertifyRequest) -> float:
    """Of the given network's errors, roughly, on the machine of :data:`~bitcert.network.plan.OPERATIONS_PER_SECOND`."""
    if not isinstance(given.network, Network):
        return 0.0
    plan = estimate_plan(given.network, len(given.sample), given.own_helper.batch_size)
    return plan.estimate_seconds()


def _plain(helper: Helper) -> tuple[Codec, ...]:
    """Every codec that trains nothing at its usual strengths; as differences too where there are public weights."""
    plain = [codec for kind in CODECS.values() for codec in kind.strengths() if not is_trained(codec)]
    if helper.weights is None:
        return tuple(plain)
    public = Selection(base=Base.FILE)
    based: list[Any] = [codec for codec in plain if hasattr(codec, "selection")]
    return (*plain, *(replace(codec, selection=public) for codec in based))


def _on_helper_network(given: CertifyRequest, network: Network, targets: Targets | None) -> list[Contender]:
    """Heads on its features and differences from it."""
    helper = given.public_helper
    head = partial(compress_network_head, targets=targets)
    found = [Contender("head on the helper network", network_head.FAMILY, head, helper, False)]
    if not helper.fixes_classes or not isinstance(helper.predictor, Architecture) or not network.weight_layers:
        return found
    least = 1.0 + len(given.sample) / EXAMPLES_A_SECOND
    tuned = partial(compress_difference, network)
    found.append(Contender("tuned helper network", composed.FAMILY, tuned, helper, False, 0.5, least))
    subspace = RandomSubspace(dimension=300, selection=Selection(base=Base.FILE))
    found.append(_trained(subspace, network, helper, "subspace at the helper network", 0.5, least))
    return found


def _trained(
    codec: Codec, network: Network, helper: Helper, name: str, weight: float, least_seconds: float, option: str = ""
) -> Contender:
    def compress(sample: Sample, helper: Helper, run: Run) -> Compressed:
        return codec.encode(network, sample, helper=helper, run=run)

    family = quantised.FAMILY if isinstance(codec, TunedQuantise) else composed.FAMILY
    return Contender(name, family, compress, helper, False, weight, least_seconds, option)


def _chosen(given: CertifyRequest) -> list[Contender]:
    """The codecs that the user named, each by itself if it trains.

    Raises:
        InputError: the network's layers cannot be seen.
    """
    network, public = given.network, given.helper_network
    if not isinstance(network, Network):
        raise InputError("a network whose layers can be captured", "one that cannot", "leave out --codec")
    helper = given.own_helper
    if public is not None and helper.weights is None:
        raise InputError("--codec for the helper's network", "one of another structure", "leave out --codec")
    plain: Sequence[Codec] = [codec for codec in given.codecs if not is_trained(codec)]
    found = []
    if plain:
        found.append(Contender("codecs that train nothing", composed.FAMILY, PlainCodecs(plain, network), helper))
    for codec in given.codecs:
        if is_trained(codec):
            own = replace(helper, weights=None) if isinstance(codec, TunedQuantise) else helper
            found.append(_trained(codec, network, own, codec.label, 1.0, 0.0))
    return found
