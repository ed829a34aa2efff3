"""From data, and perhaps a network, to the best message and its certificate: the whole road in two verbs.

:func:`compress` makes a message in one way. :func:`certify_best` searches for the best certificate in a given time, and
its order is what makes the statement true. First everything the helper strings hold is fixed: preprocessing, a given
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
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import nn

from bitcert.certificates.certificate import Certificate
from bitcert.certificates.certification import Declaration, certify_counting
from bitcert.certificates.original import Counts, Original, RawClassifier, check_unlabelled, unlabelled_sample
from bitcert.codecs.tuned import compress_network
from bitcert.data import PriorSplit, Sample
from bitcert.decoder import Helper, Preprocessing, as_network
from bitcert.decoder.helper import examples_at_a_time
from bitcert.errors import InputError
from bitcert.losses import parse_losses
from bitcert.network import Network, estimate_plan
from bitcert.proof.claims import delta_plan
from bitcert.run import Checkpoint, Compressed, Run
from bitcert.search.contender import Board
from bitcert.search.contenders import contenders, usual_family
from bitcert.search.halving import search
from bitcert.search.head_features import head_memory_bytes
from bitcert.search.judging import Judge, OriginalNetwork, network_logits, soft_labels
from bitcert.search.prior import PriorRecipe, train_prior
from bitcert.search.prior_trial import TRIAL_SHARE, Choice, default_choice, needs_trial, num_tried, try_out
from bitcert.search.request import CertifyRequest, declared_helpers, untrained
from bitcert.search.trees import tree_memory_bytes
from bitcert.search.votes import vote_memory_bytes

PRIOR_FILE = "prior-network.safetensors"
"""Beside the search's state: the network of a declared prior part, once it is trained."""

PRIOR_SHARE = 0.7
"""Part of the time that trains the network of a declared prior part."""


def compress_built_in(sample: Sample, helper: Helper, run: Run, family: str) -> Compressed:
    """The best message of a built-in family that is found in the run's time.

    Raises:
        InputError: a sample that the family cannot use.
    """
    tried = contenders(CertifyRequest(sample, preprocessing=helper.preprocessing, families=(family,)))
    if len(tried) == 1:
        return tried[0].compress(sample, helper, run)
    found = search(tried, sample, Judge(sample, run.delta), run)
    if run.checkpoint is not None and not run.stopped:
        for contender in tried:
            run.checkpoint.part(contender.name).remove()
    return found


def compress(
    sample: Sample,
    network: Network | nn.Module | None = None,
    *,
    family: str | None = None,
    preprocessing: Preprocessing | None = None,
    fine_tune: bool = True,
    run: Run | None = None,
) -> Compressed:
    """Compress a network, or train a built-in one for its certificate, on ``sample``.

    Args:
        sample: the training sample; the certificate will be about it.
        network: a captured network, or a module, which is captured with the first examples; ``None`` to train a
            built-in family.
        family: ``"head"`` (helper features and an integer head that selects from them), ``"tree"`` (a decision tree),
            ``"votes"`` (a sum of votes on tests) or ``"table"`` (the best of what reads tables). By default a head for
            images and ``"table"`` for everything else.
        preprocessing: fixed before the data were seen; the usual one of the sample if ``None``.
        fine_tune: whether a given network may be fine-tuned while it is quantised.
        run: seed, time budget, device, progress and checkpoint.

    Raises:
        InputError: for an unknown family or a sample the family cannot use.
    """
    run = run or Run()
    network = None if network is None else as_network(network, sample, preprocessing)
    helper = Helper.for_sample(sample, None if network is None else network.architecture, preprocessing)
    if network is not None:
        return compress_network(network, sample, helper, run, fine_tune=fine_tune)
    return compress_built_in(sample, helper, run, family or usual_family(sample.input_shape))


def plan_memory_bytes(sample: Sample, network: Network | None = None) -> int | None:
    """What :func:`compress` will need beside the program: the data and the training state.

    For the built-in families this is the largest one's. ``None`` when it is not known (opaque modules).
    """
    if network is None:
        helper = Helper.for_sample(sample)
        needed = head_memory_bytes(helper, len(sample))
        if usual_family(sample.input_shape) != "head":
            shape = len(sample), math.prod(sample.input_shape)
            needed = max(needed, tree_memory_bytes(*shape), vote_memory_bytes(*shape))
        return sample.inputs.nbytes + needed
    batch_size = examples_at_a_time(network.architecture, sample.input_shape, sample.num_classes)
    plan = estimate_plan(network, len(sample), batch_size)
    return sample.inputs.nbytes + 8 * plan.parameter_bytes + max(plan.activation_bytes, plan.gradient_bytes // 8)


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
    if request.unlabelled is None:
        original, targets = None, None
    else:
        logits = network_logits(request.classifier(), sample)
        delta = delta_plan(request.delta, request.loss_names, 1)[1].amount
        original, targets = OriginalNetwork(logits, len(request.unlabelled), delta), soft_labels(logits, sample)
    judge = Judge(sample, run.delta, original)
    tried = contenders(searched(request, sample, public), targets, None if original is None else judge)
    return split, search(tried, sample, judge, run, watch=watch, before=before)


def searched(request: CertifyRequest, sample: Sample, public: Network | None) -> CertifyRequest:
    """What the search may use: the request without its unlabelled and held-out examples and without the prior part.

    Args:
        request: with the preprocessing that it would use on its whole sample.
        sample: what errors are counted on.
        public: the helper network, that of a prior part included.
    """
    return replace(
        request,
        sample=sample,
        preprocessing=request.used_preprocessing,
        helper_network=public,
        unlabelled=None,
        holdout=None,
        prior_fraction=None,
    )


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


def train_helper(split: PriorSplit, request: CertifyRequest, run: Run) -> Network:
    """The network trained on the prior part: from the checkpoint if it was trained before, else now.

    Raises:
        InputError: a model that does not fit the sample.
    """
    kept = None
    if run.checkpoint is not None:
        kept = Checkpoint(run.checkpoint.path.with_name(PRIOR_FILE), request.prior_identity(run.seed))
    state = None if kept is None else kept.load()
    models, preprocessing = request.prior_models, request.used_preprocessing
    if state is not None:
        run.spent_before(run.seconds + float(state[0]["seconds"]))
        return replace(untrained(split.prior, request, models[state[0]["index"]]), parameters=state[1])
    budget = PRIOR_SHARE * run.budget_seconds
    choice, seconds = _tried(split.prior, request, run, budget)
    part = run.share(max(budget - seconds, budget / 2), "prior network")
    recipe = PriorRecipe(mirrored=choice.mirrored)
    network = train_prior(split.prior, part, models[choice.index], preprocessing=preprocessing, recipe=recipe)
    if kept is not None:
        # also of an interrupted training: a certificate will rest on this network
        kept.save({"seconds": seconds + part.seconds, "index": choice.index}, dict(network.parameters))
        assert part.checkpoint is not None
        part.checkpoint.remove()
    return network


def _tried(prior: Sample, request: CertifyRequest, run: Run, budget: float) -> tuple[Choice, float]:
    """What a trial found, now or before the run was killed, and the seconds it took."""
    if not needs_trial(prior, request.prior_models):
        return default_choice(prior, request.prior_models), 0.0
    before = run.seconds
    part = run.share(TRIAL_SHARE * num_tried(request.prior_models) * budget)
    part.progress = lambda task, fraction: run.progress("comparing prior networks", part.fraction)
    kept = None if run.checkpoint is None else run.checkpoint.part("prior trial")
    state = None if kept is None else kept.load()
    if state is not None:
        run.spent_before(run.seconds + float(state[0]["seconds"]))
        return Choice(state[0]["index"], state[0]["mirrored"]), float(state[0]["seconds"])
    choice = try_out(prior, part, budget - part.budget_seconds, request.prior_models, request.used_preprocessing)
    if kept is not None:
        kept.save({**asdict(choice), "seconds": run.seconds - before}, {})
    return choice, run.seconds - before
