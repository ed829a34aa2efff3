"""From data, and perhaps a network, to the best certificate found in a given time: the whole road as one function.

The order is what makes the statement true. First everything the helper strings hold is fixed: preprocessing, a given
network's architecture, public weights, or weights trained on a declared prior part by a split that was chosen before
(docs/theory.md section 2). Then the contenders are tried on the training sample (with a prior part: on the rest only)
and one message is chosen, free of charge, because all are words of one prefix code. Only then are the errors counted
for the certificate and, for one of the original network, the unlabelled examples looked at: the search is told how many
there are and nothing else, so the message cannot have been tuned on them.

A prior network is trained once: it is frozen in the search's state before anything is counted with it, also when its
training was interrupted, because training it further after its certificate was seen would be a choice of the helper
that nothing pays for. Looks at the unlabelled examples are counted (:mod:`bitcert.certificates.looks`). Not guaranteed:
any bound below one.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from bitcert.certificates.certificate import Certificate
from bitcert.certificates.certification import Declaration, certify_counting, versions
from bitcert.certificates.looks import LookBook
from bitcert.certificates.original import Counts, Original, RawClassifier, check_unlabelled, unlabelled_sample
from bitcert.codecs.base import Codec
from bitcert.data import PriorSplit, Sample
from bitcert.decoder import Helper, Preprocessing
from bitcert.decoder.commitment import Commitment
from bitcert.decoder.description import SplitClaim
from bitcert.errors import InputError
from bitcert.losses import parse_losses
from bitcert.network import Network, OpaqueModel, capture
from bitcert.proof.claims import delta_plan
from bitcert.run import Checkpoint, Compressed, Run
from bitcert.search.contender import Board
from bitcert.search.contenders import Given, contenders, helper_with
from bitcert.search.distil import distillation_targets, network_logits
from bitcert.search.halving import search
from bitcert.search.judging import Judge, OriginalNetwork
from bitcert.search.prior import train_prior
from bitcert.search.prior_network import built_in_network

__all__ = ["BestCertificate", "CertifyRequest", "certify_best", "commitment_of", "search_checkpoint"]

PRIOR_FILE = "prior-network.safetensors"
"""Beside the search's state: the network of a declared prior part, once it is trained."""

PRIOR_SHARE = 0.5
"""Part of the time that trains the network of a declared prior part."""


@dataclass(frozen=True, eq=False)
class CertifyRequest:
    """What is to be certified, and with what.

    Args:
        sample: the training sample, all of it.
        network: a trained network to compress, captured or opaque; ``None`` for the built-in families.
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
    def used_preprocessing(self) -> Preprocessing:
        """The one given, or the usual one of the sample."""
        return self.preprocessing or Preprocessing.usual(self.sample)

    @property
    def search_delta(self) -> float:
        """What the Occam bound gets of ``delta``: at which candidates are compared."""
        return delta_plan(self.delta, self._loss_names, None if self.unlabelled is None else 1)[0].amount

    @property
    def _loss_names(self) -> list[str]:
        return [loss.name for loss in parse_losses(self.losses, self.sample.num_classes)]

    def classifier(self) -> RawClassifier:
        """The given network on raw inputs."""
        assert self.network is not None
        predictor = self.network.architecture if isinstance(self.network, Network) else self.network
        return RawClassifier(predictor, self.tensors, self.used_preprocessing)

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
        public, trained = self.helper_network, self.prior_model
        parts: list[object] = [versions(), self.sample.content_hash, seed, self.delta, self._loss_names]
        parts += [repr(self.used_preprocessing), self.prior_fraction, self.prior_seed, self.families, self.fine_tune]
        parts += [[repr(codec) for codec in self.codecs], None if self.unlabelled is None else len(self.unlabelled)]
        parts += [_fingerprint(self.network, self.tensors)]
        parts += [None if public is None else _fingerprint(public, public.parameters)]
        parts += [trained.architecture.content_hash if isinstance(trained, Network) else repr(trained)]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def prior_identity(self, seed: int) -> str:
        """SHA-256 of what the training of a prior network depends on, whatever is then claimed of it."""
        trained = self.prior_model
        parts: list[object] = [versions(), self.sample.content_hash, seed, repr(self.used_preprocessing)]
        parts += [self.prior_fraction, self.prior_seed]
        parts += [trained.architecture.content_hash if isinstance(trained, Network) else repr(trained)]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _fingerprint(network: Network | OpaqueModel | None, values: Mapping[str, torch.Tensor]) -> list[object] | None:
    if network is None:
        return None
    predictor = network.architecture if isinstance(network, Network) else network
    digests = {name: hashlib.sha256(v.contiguous().numpy().tobytes()).hexdigest() for name, v in values.items()}
    return [predictor.content_hash, sorted(digests.items())]


@dataclass(frozen=True, eq=False)
class BestCertificate:
    """What :func:`certify_best` found.

    Attributes:
        certificate: of the best message.
        compressed: that message, with all candidates that were tried.
        sample: what errors were counted on: the whole sample or the rest of the split.
        original: the network that is certified with its unlabelled examples, or ``None``.
        interrupted: whether the search was stopped before its time was over.
        counts: what was counted for the certificate.
        others: where a network was given and no unlabelled examples: the best of every other option that says more
            than guessing, best first (what a certificate is of is ``compressed.option``). All hold together, because
            their messages are words of one code: they share one ``delta``.
    """

    certificate: Certificate
    compressed: Compressed
    sample: Sample
    original: Original | None
    interrupted: bool
    counts: Counts
    others: tuple[BestCertificate, ...] = ()


def search_checkpoint(out: Path, request: CertifyRequest, seed: int) -> Checkpoint:
    """Where the search of an output folder keeps its state: a hidden folder beside it."""
    out = Path(os.path.abspath(out))
    return Checkpoint(out.with_name(f".{out.name}.search") / "search.safetensors", request.identity(seed))


def certify_best(
    request: CertifyRequest, run: Run | None = None, *, watch: Callable[[Board], None] | None = None
) -> BestCertificate:
    """Search for the message with the best certificate, and certify it.

    With probability at least ``1 - request.delta`` over the draw of the sample (and of the unlabelled one), the error
    probability on a new example of what ``certificate.certifies`` names is at most ``certificate.bound``, and all
    further losses hold with it.

    >>> found = certify_best(CertifyRequest(sample), Run(budget_seconds=120))  # doctest: +SKIP

    Args:
        request: data, networks and claims.
        run: seed, seconds for the search, device, progress, checkpoint; stopping it (from a signal handler, say) ends
            the search with the best message so far. Its ``delta`` is set to the part that the message gets.
        watch: called with the state of the search whenever it changes.

    Raises:
        InputError: a combination that makes no sense, or data that do not fit.
        SampleReuseError: samples that must be independent share examples.
    """
    run = run or Run()
    run.delta = request.search_delta
    check_early(request)
    split, compressed = find_message(request, run, watch)
    return certified(request, compressed, split, run)


def check_early(request: CertifyRequest) -> None:
    """Refuse before a long search what its certificate would refuse afterwards.

    Raises:
        InputError: losses or unlabelled examples that do not fit, or a helper that is the given network.
        SampleReuseError: unlabelled examples that were used for something else.
    """
    parse_losses(request.losses, request.sample.num_classes)
    _check_public(request)
    if request.unlabelled is not None:
        used = [request.sample, *([] if request.holdout is None else [request.holdout])]
        check_unlabelled(unlabelled_sample(request.unlabelled), *used)


def _check_public(request: CertifyRequest) -> None:
    """Refuse public weights that are the trained network's own: they have seen the data, so their bits must count."""
    if request.network is None or request.helper_network is None:
        return
    own, public = (_contents(values) for values in (request.tensors, request.helper_network.parameters))
    if own <= public:
        expected = "helper weights that were fixed before the data were seen"
        do = "pass as helper only weights that have not seen the data; where that is true of these, leave out the other"
        raise InputError(expected, "those of the trained network itself, under whatever names", do)


def _contents(values: Mapping[str, torch.Tensor]) -> set[str]:
    """Hashes of the tensors' values, whatever their names and shapes."""
    return {hashlib.sha256(value.float().contiguous().numpy().tobytes()).hexdigest() for value in values.values()}


def find_message(
    request: CertifyRequest, run: Run, watch: Callable[[Board], None] | None = None
) -> tuple[PriorSplit | None, Compressed]:
    """The search alone: of the unlabelled examples it uses the number, of the held-out ones nothing."""
    split, sample, public, before = None, request.sample, request.helper_network, 0.0
    if request.prior_fraction is not None:
        split = PriorSplit.of(request.sample, request.prior_fraction, request.prior_seed)
        public, sample = train_helper(split, request, run), split.rest
        split = split.with_helper(RawClassifier(public.architecture, public.parameters, request.used_preprocessing))
        before = run.seconds
    logits = None if request.unlabelled is None else network_logits(request.classifier(), sample)
    given = given_for(request, sample, public, logits)
    judge = Judge(sample, run.delta, _judged_original(request, logits))
    return split, search(contenders(given), sample, judge, run, watch=watch, before=before)


def certified(
    request: CertifyRequest,
    compressed: Compressed,
    split: PriorSplit | None,
    run: Run,
    declared: tuple[Helper, ...] = (),
) -> BestCertificate:
    """The certificate of a message that is final; only here are the unlabelled examples looked at.

    Args:
        request: what is certified.
        compressed: the message.
        split: the prior split of the request.
        run: for its progress.
        declared: further helpers that a message might have been decoded with.
    """
    sample, original = request.sample if split is None else split.rest, request.original()
    made = certify_counting(
        compressed,
        sample,
        delta=request.delta,
        holdout=request.holdout,
        prior=split,
        original=original,
        losses=request.losses,
        declared=Declaration((*declared_helpers(request), *declared), request.looks),
        progress=run.progress,
    )
    # a count can take long: it is for what says more than guessing
    told = [other for other in compressed.others if other.bound < 1 - 1 / sample.num_classes]
    others = tuple(certified(request, other, split, run, declared) for other in told)
    return BestCertificate(made.certificate, compressed, sample, original, run.stopped, made.counts, others)


def given_for(
    request: CertifyRequest, sample: Sample, helper_network: Network | None, logits: NDArray[np.float32] | None
) -> Given:
    """What the search may use: the request without its unlabelled and held-out examples and without the prior part.

    ``logits`` are the original network's on the sample, if it is what is certified.
    """
    return Given(
        sample,
        Helper.for_sample(sample, None, request.used_preprocessing),
        request.network,
        request.tensors,
        helper_network,
        None if logits is None else distillation_targets(logits, sample),
        request.codecs,
        request.families,
        request.fine_tune,
    )


def _judged_original(request: CertifyRequest, logits: NDArray[np.float32] | None) -> OriginalNetwork | None:
    """The original network for the search: of the unlabelled examples their number goes with it, nothing else."""
    if request.unlabelled is None or logits is None:
        return None
    delta = delta_plan(request.delta, request._loss_names, 1)[1].amount
    return OriginalNetwork(logits, len(request.unlabelled), delta)


def train_helper(split: PriorSplit, request: CertifyRequest, run: Run) -> Network:
    """The network trained on the prior part: from the checkpoint if it was trained before, else now.

    Raises:
        InputError: a model that does not fit the sample.
    """
    kept = None
    if run.checkpoint is not None:
        kept = Checkpoint(run.checkpoint.path.with_name(PRIOR_FILE), request.prior_identity(run.seed))
    state = None if kept is None else kept.load()
    if state is not None:
        run.spent_before(run.seconds + float(str(state[0]["seconds"])))
        return replace(_untrained(split.prior, request), parameters=state[1])
    part = run.share(PRIOR_SHARE * run.budget_seconds, "prior network")
    network = train_prior(split.prior, part, request.prior_model, preprocessing=request.used_preprocessing)
    if kept is not None:
        # also of an interrupted training: a certificate will rest on this network
        kept.save({"seconds": part.seconds}, dict(network.parameters))
        assert part.checkpoint is not None
        part.checkpoint.remove()
    return network


def declared_helpers(request: CertifyRequest) -> tuple[Helper, ...]:
    """Every helper that a message of this request may be decoded with, the problem alone first; no label is read."""
    problem = Helper.for_sample(request.sample, None, request.used_preprocessing)
    found = [problem]
    if request.network is not None:
        predictor = request.network.architecture if isinstance(request.network, Network) else request.network
        found.append(replace(problem, predictor=predictor, classes_inferred=False))
    if request.helper_network is not None:
        found.append(helper_with(request.helper_network, problem))
    if request.prior_fraction is not None:
        found.append(
            replace(problem, predictor=_untrained(request.sample, request).architecture, classes_inferred=False)
        )
    return tuple(found)


def commitment_of(request: CertifyRequest) -> Commitment:
    """What can be published before any label is read; a certificate of this request carries its hash."""
    split = None if request.prior_fraction is None else SplitClaim(request.prior_fraction, request.prior_seed)
    return Commitment.of(declared_helpers(request), split)


def _untrained(prior: Sample, request: CertifyRequest) -> Network:
    """The structure of what :func:`train_helper` trains."""
    model = request.prior_model
    if isinstance(model, Network):
        return model
    module = built_in_network(prior.input_shape, prior.num_classes) if model is None else model
    return capture(module.eval(), request.used_preprocessing(prior.inputs[:2]))
