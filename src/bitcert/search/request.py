"""What is to be certified, and with what: every option of a search stated once, and the helper strings that follow.

Everything the helper strings hold is fixed by the request: preprocessing, a given network's architecture, public
weights, or the structure of what is trained on a declared prior part, whose split is chosen before anything is looked
at (docs/theory.md section 2). So the helpers can be declared, and published as a commitment, before any label is read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

import torch
from torch import nn

from bitcert.canonical import hash_of
from bitcert.certificates.certification import versions
from bitcert.certificates.looks import LookBook
from bitcert.certificates.original import Original, RawClassifier, unlabelled_sample
from bitcert.codecs.base import Codec
from bitcert.data import Sample
from bitcert.decoder import Helper, HelperWeights, Preprocessing, as_network, example_for
from bitcert.decoder.commitment import Commitment
from bitcert.decoder.description import SplitClaim
from bitcert.errors import InputError
from bitcert.losses import parse_losses
from bitcert.network import Architecture, Network, OpaqueModel, Predictor, capture
from bitcert.proof.claims import delta_plan
from bitcert.search.prior import PriorModel
from bitcert.search.prior_network import BuiltIn, built_in_network, built_in_networks


class Effort(StrEnum):
    """The time a search may use, in seconds of training and counting on two cores.

    Loading data, capturing a network and the check of the finished files come on top. Not guaranteed: the same message
    from machines of different speed, because the search follows the clock; every message it writes is certified alike.
    """

    quick = "quick"
    standard = "standard"
    thorough = "thorough"

    @property
    def seconds(self) -> float:
        """The budget.

        >>> [effort.seconds for effort in Effort]
        [120.0, 900.0, 3600.0]
        """
        return {"quick": 120.0, "standard": 900.0, "thorough": 3600.0}[self.value]


@dataclass(frozen=True, eq=False)
class CertifyRequest:
    """What is to be certified, and with what.

    Args:
        sample: the training sample, all of it.
        network: a trained network to compress, captured or opaque; ``None`` for the built-in families. A module, here
            and as a helper network, is captured with the first examples.
        values: its tensors by name; a captured network's own if empty.
        preprocessing: fixed before the data were seen; the usual one of the sample if ``None``.
        helper_network: public network whose weights the messages may refer to; it may be one for other classes.
        unlabelled: examples drawn independently of everything else: the certificate is then of ``network`` itself.
        prior_fraction: of the sample, to train a helper network on; the rest is what errors are counted on.
        prior_seed: of that split.
        prior_model: whose architecture is trained on the prior part, instead of the built-in one; its weights are
            not used.
        losses: further losses to certify from the same ``delta``, e.g. ``("top-3", "brier")``.
        holdout: labelled examples never used, for the comparison line only.
        delta: probability with which the certificate may fail.
        codecs: for the network, instead of all.
        families: built-in families, instead of all.
        fine_tune: whether a given network's integers may be trained.
        name: of the network, for a certificate of the original.
        looks: where certificates on the unlabelled sample are counted; the user's state folder if ``None``.

    Raises:
        InputError: a combination that makes no sense.
    """

    sample: Sample
    network: Network | OpaqueModel | None = None
    values: Mapping[str, torch.Tensor] = field(default_factory=dict)
    preprocessing: Preprocessing | None = None
    helper_network: Network | None = None
    unlabelled: Sample | None = None
    prior_fraction: float | None = None
    prior_seed: int = 0
    prior_model: nn.Module | Network | None = None
    losses: tuple[str, ...] = ()
    holdout: Sample | None = None
    delta: float = 0.05
    codecs: tuple[Codec, ...] = ()
    families: tuple[str, ...] = ()
    fine_tune: bool = True
    name: str = "original network"
    looks: LookBook | None = None

    def __post_init__(self) -> None:
        for name in ("network", "helper_network"):
            given = getattr(self, name)
            if not isinstance(given, Network | OpaqueModel | None):
                object.__setattr__(self, name, as_network(given, self.sample, self.preprocessing))
        if self.unlabelled is not None and self.network is None:
            got, do = "none", "pass the trained network that the unlabelled examples are for"
            raise InputError("an original network to certify on unlabelled examples", got, do)
        if self.prior_fraction is not None and self.helper_network is not None:
            got, do = "both", "leave out one: a message has one helper network"
            raise InputError("public weights or a prior part as helper", got, do)
        if self.codecs and self.network is None:
            raise InputError("a network for the codecs", "none", "pass the network that they compress")
        if self.families and self.network is not None:
            raise InputError("no built-in families for a given network", ", ".join(self.families), "leave them out")

    @property
    def tensors(self) -> Mapping[str, torch.Tensor]:
        """The network's values by name."""
        return self.network.parameters if isinstance(self.network, Network) and not self.values else self.values

    @property
    def predictor(self) -> Architecture | OpaqueModel:
        """The structure of the given network."""
        assert self.network is not None
        return self.network.architecture if isinstance(self.network, Network) else self.network

    @property
    def used_preprocessing(self) -> Preprocessing:
        """The one given, or the usual one of the sample."""
        return self.preprocessing or Preprocessing.usual(self.sample)

    @property
    def search_delta(self) -> float:
        """What the Occam bound gets of ``delta``: at which candidates are compared."""
        return delta_plan(self.delta, self.loss_names, None if self.unlabelled is None else 1)[0].amount

    @property
    def loss_names(self) -> list[str]:
        """The further losses as certificates name them."""
        return [loss.name for loss in parse_losses(self.losses, self.sample.num_classes)]

    def classifier(self) -> RawClassifier:
        """The given network on raw inputs."""
        return RawClassifier(self.predictor, self.tensors, self.used_preprocessing)

    @property
    def problem(self) -> Helper:
        """The helper string of the problem alone: shape, classes, preprocessing."""
        return Helper.for_sample(self.sample, None, self.used_preprocessing)

    @property
    def own_helper(self) -> Helper:
        """For messages about the given network: its architecture, and public weights if they are of the same."""
        public = self.helper_network
        if public is not None and public.architecture.content_hash == self.predictor.content_hash:
            return self.public_helper
        return replace(self.problem, predictor=self.predictor, classes_inferred=False)

    @property
    def public_helper(self) -> Helper:
        """For messages about the helper network, whose weights are in it; it may be one for other classes."""
        network, problem = self.helper_network, self.problem
        assert network is not None
        weights = HelperWeights.of(network.architecture, network.parameters)
        inferred = problem.classes_inferred and network.architecture.num_outputs != problem.num_classes
        return replace(problem, predictor=network.architecture, weights=weights, classes_inferred=inferred)

    def original(self) -> Original | None:
        """The original network with its unlabelled examples, if it is what is certified."""
        if self.unlabelled is None:
            return None
        raw, unlabelled = self.classifier(), unlabelled_sample(self.unlabelled)
        return Original(raw.predictor, raw.values, raw.preprocessing, unlabelled, self.name)

    def identity(self, seed: int) -> str:
        """SHA-256 of everything that a search of this request depends on, its time excepted.

        Of the unlabelled sample only the size is in it: that is all the search knows.
        """
        public = self.helper_network
        parts: list[object] = [versions(), self.sample.content_hash, seed, self.delta, self.loss_names]
        parts += [repr(self.used_preprocessing), self.prior_fraction, self.prior_seed, self.families, self.fine_tune]
        parts += [[repr(codec) for codec in self.codecs], None if self.unlabelled is None else len(self.unlabelled)]
        parts += [None if self.network is None else _fingerprint(self.predictor, self.tensors)]
        parts += [None if public is None else _fingerprint(public.architecture, public.parameters)]
        return hash_of([*parts, self._prior_model])

    def prior_identity(self, seed: int) -> str:
        """SHA-256 of what the training of a prior network depends on, whatever is then claimed of it."""
        parts: list[object] = [versions(), self.sample.content_hash, seed, repr(self.used_preprocessing)]
        return hash_of([*parts, self.prior_fraction, self.prior_seed, self._prior_model, len(self.prior_models)])

    @property
    def prior_models(self) -> tuple[PriorModel, ...]:
        """Those among which a trial on the prior part chooses.

        A certificate of an original network is through a surrogate, which may be any network: the given architecture,
        which suits the data, or a built-in one, which learns fast.
        """
        built_in = built_in_networks(self.sample.input_shape)
        if self.prior_model is None:
            return built_in
        return (self.prior_model,) if self.unlabelled is None else (self.prior_model, *built_in)

    @property
    def _prior_model(self) -> str:
        trained = self.prior_model
        return trained.architecture.content_hash if isinstance(trained, Network) else repr(trained)


def _fingerprint(predictor: Predictor, values: Mapping[str, torch.Tensor]) -> list[object]:
    digests = {name: hashlib.sha256(v.contiguous().numpy().tobytes()).hexdigest() for name, v in values.items()}
    return [predictor.content_hash, sorted(digests.items())]


def declared_helpers(request: CertifyRequest) -> tuple[Helper, ...]:
    """Every helper that a message of this request may be decoded with, the problem alone first; no label is read."""
    found = [request.problem]
    if request.network is not None:
        found.append(replace(request.problem, predictor=request.predictor, classes_inferred=False))
    if request.helper_network is not None:
        found.append(request.public_helper)
    if request.prior_fraction is not None:
        for model in request.prior_models:
            trained = untrained(request.sample, request, model).architecture
            found.append(replace(request.problem, predictor=trained, classes_inferred=False))
    return tuple(found)


def commitment_of(request: CertifyRequest) -> Commitment:
    """What can be published before any label is read; a certificate of this request carries its hash."""
    split = None if request.prior_fraction is None else SplitClaim(request.prior_fraction, request.prior_seed)
    return Commitment.of(declared_helpers(request), split)


def untrained(prior: Sample, request: CertifyRequest, model: PriorModel) -> Network:
    """The structure of what is trained on the prior part: one of :attr:`CertifyRequest.prior_models`."""
    if isinstance(model, Network):
        return model
    if isinstance(model, BuiltIn):
        num_classes = prior.num_classes if request.network is None else request.predictor.num_outputs
        model = built_in_network(prior.input_shape, num_classes, model)
    module = model.eval()
    return capture(module, example_for(module, prior, request.used_preprocessing))
