"""From a message to a certificate: decode, count errors on the sample as given, apply the Occam bound.

The certified hypothesis is ``decode(bytes)``, never the network in memory. Theorem: Arora et al. 2018, Thm 2.1 with all
constants, in the exact binomial-tail form of docs/theory.md section 2. With a declared prior part the helper may depend
on it and only the rest is counted; with unlabelled examples the bound is carried over to the original network
(:mod:`bitcert.certificates.original`); further losses share the failure probability (:mod:`bitcert.proof.claims`).
"""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from importlib.metadata import version
from typing import Any

from bitcert.certificates.certificate import MESSAGE_FILE, VERSIONED, Certificate
from bitcert.certificates.conditions import conditions
from bitcert.certificates.looks import LookBook
from bitcert.certificates.original import Counts, Original, check_unlabelled, helper_network, pair_hash, trials_of
from bitcert.counting import (
    Classifier,
    DecisionRule,
    Level,
    LossCount,
    Progress,
    count_disagreements,
    count_errors,
    count_losses,
)
from bitcert.data import PriorSplit, Sample, benchmark_name, check_apart
from bitcert.decoder import Decoded, Helper, decode_message
from bitcert.decoder.commitment import Commitment
from bitcert.decoder.description import SplitClaim, helper_ledger
from bitcert.errors import InputError, SampleReuseError
from bitcert.losses import Loss, parse_losses
from bitcert.network import OpaqueModel
from bitcert.proof import ConfidenceBudget, disagreement_bound, holdout_bound, occam_bound, self_contained_bound
from bitcert.proof.budget import check_delta
from bitcert.proof.claims import delta_plan, theorem_text
from bitcert.run import Compressed

ARCHITECTURE_FILE = "architecture.json"
REPORT_FILE = "report.html"
CERTIFIED = tuple(Level).index(Level.CERTIFIED)


_version = cache(version)


def versions() -> dict[str, str]:
    """Versions of the program and of what its numbers depend on."""
    return {"python": platform.python_version(), **{name: _version(name) for name in VERSIONED}}


def describe_sample(sample: Sample) -> dict[str, Any]:
    """What a certificate says of its training sample."""
    table = {} if sample.table is None else {"table": sample.table.describe()}
    return {
        **table,
        "name": sample.name,
        "hash": sample.content_hash,
        "num_classes": sample.num_classes,
        "input_shape": list(sample.input_shape),
        "benchmark": benchmark_name(sample),
    }


def describe_helper(helper: Helper) -> dict[str, object]:
    """What a certificate says of the helper string, with its hash."""
    return {**helper.describe(), "hash": helper.content_hash}


def check_holdout(sample: Sample, holdout: Sample) -> None:
    """Refuse held-out labels that the certified classifier could not be tested on.

    Raises:
        InputError: when shape or classes differ from the training sample's.
        SampleReuseError: when the two share an example.
    """
    if (sample.input_shape, sample.num_classes) != (holdout.input_shape, holdout.num_classes):
        expected = f"held-out data of shape {list(sample.input_shape)} with {sample.num_classes} classes"
        got = f"{holdout.name} of shape {list(holdout.input_shape)} with {holdout.num_classes}"
        raise InputError(expected, got, "hold out examples of the same problem")
    check_apart(sample, holdout, repeats=True)


def _check_fit(compressed: Compressed, sample: Sample, prior: PriorSplit | None) -> None:
    """Refuse a sample that the message was not made for, or one that is not the rest of the split."""
    helper = compressed.helper
    if (tuple(sample.input_shape), sample.num_classes) != (helper.input_shape, helper.num_classes):
        got = f"{sample.name} of shape {list(sample.input_shape)} with {sample.num_classes} classes"
        expected = f"inputs of shape {list(helper.input_shape)}, {helper.num_classes} classes"
        raise InputError(expected, got, "certify on the sample the message was made for")
    if sample.classes_inferred and not helper.fixes_classes and not helper.classes_inferred:
        expected, got = "a message that says the number of classes", "one that leaves it out"
        raise InputError(expected, got, "make the helper with Helper.for_sample, or state num_classes")
    if sample.table != helper.table:
        expected = f"a helper that says how {sample.name} was read from a table"
        raise InputError(expected, "another one, or none", "make the helper with Helper.for_sample")
    if prior is not None and sample is not prior.rest and sample.content_hash != prior.rest.content_hash:
        expected = f"the rest of the prior split ({len(prior.rest)} of the {len(prior.full)} of {prior.full.name})"
        raise SampleReuseError(expected, f"{sample.name} with {len(sample)}", "certify on the rest only")


def _check_samples(sample: Sample, holdout: Sample | None, prior: PriorSplit | None, original: Original | None) -> None:
    """Refuse samples that may not be used together."""
    used = [prior.full if prior is not None else sample]
    if holdout is not None:
        check_holdout(used[0], holdout)
        used.append(holdout)
    if original is not None:
        check_unlabelled(original.unlabelled, *used)


@dataclass(frozen=True, eq=False)
class Declaration:
    """What was declared before the data were looked at, beside the helper of the message itself.

    Args:
        helpers: all helpers that a message of this run may be decoded with, the problem alone first; their hash is the
            commitment. Empty: the message's own.
        looks: where certificates on an unlabelled sample are counted; the user's state folder if ``None``.
    """

    helpers: tuple[Helper, ...] = ()
    looks: LookBook | None = None


def _split_of(prior: PriorSplit | None) -> SplitClaim | None:
    return None if prior is None else SplitClaim(prior.fraction, prior.seed)


@dataclass(frozen=True, eq=False)
class _Claim:
    """One certificate in the making: what it is about, and how delta is divided."""

    compressed: Compressed
    decoded: Decoded
    sample: Sample
    delta: float
    losses: tuple[Loss, ...]
    holdout: Sample | None
    prior: PriorSplit | None
    original: Original | None
    look: int | None
    commitment: Commitment

    @classmethod
    def of(
        cls,
        compressed: Compressed,
        sample: Sample,
        declared: Declaration,
        delta: float = 0.05,
        holdout: Sample | None = None,
        prior: PriorSplit | None = None,
        original: Original | None = None,
        losses: Sequence[str] = (),
    ) -> _Claim:
        """What :func:`certify` was asked for, if nothing is wrong with it; a look is entered in its books."""
        further = parse_losses(losses, sample.num_classes)
        check_delta(delta)
        _check_fit(compressed, sample, prior)
        _check_samples(sample, holdout, prior, original)
        decoded = decode_message(compressed.message, compressed.helper)
        look = None
        if original is not None:
            pair = pair_hash(original, compressed.message, compressed.helper)
            look = (declared.looks or LookBook.for_output()).enter(original.unlabelled.examples_hash, pair)
        commitment = Commitment.of((*declared.helpers, compressed.helper), _split_of(prior))
        return cls(compressed, decoded, sample, delta, further, holdout, prior, original, look, commitment)

    @cached_property
    def ledger(self) -> tuple[tuple[str, float], ...]:
        """Every part of delta, withdrawn from one budget."""
        budget = ConfidenceBudget(self.delta)
        names = [loss.name for loss in self.losses]
        for entry in delta_plan(self.delta, names, self.look, self.commitment.choices):
            budget.withdraw(entry.name, entry.amount)
        return tuple((entry.name, float(entry.amount)) for entry in budget.ledger)

    @property
    def parts(self) -> list[float]:
        """The amounts of the ledger."""
        return [amount for _, amount in self.ledger]

    @property
    def rule(self) -> DecisionRule:
        """How it is counted; only as a surrogate may the classifier abstain."""
        abstains = 0.0 if self.original is None else self.decoded.abstains_within
        return DecisionRule(self.compressed.helper.batch_size, abstains_within=abstains)

    @property
    def message_bits(self) -> int:
        """Length of the message file."""
        return 8 * len(self.compressed.message)

    @cached_property
    def helper_sections(self) -> tuple[tuple[str, int], ...]:
        """Bits of the helper's description by section; none where an opaque module's source could not be read."""
        helper = self.compressed.helper
        if isinstance(helper.predictor, OpaqueModel) and not helper.predictor.sources:
            return ()
        return helper_ledger(helper, _split_of(self.prior)).sections

    @property
    def helper_bits(self) -> int | None:
        """Their sum; ``None`` where the description is unknown."""
        return sum(bits for _, bits in self.helper_sections) if self.helper_sections else None

    def loss_facts(self, counted: LossCount) -> tuple[dict[str, object], ...]:
        """What the certificate says of the further losses."""
        samples, bits, size = counted.errors.samples, self.message_bits, self.helper_bits
        paid = self.parts[len(self.parts) - len(self.losses) :]
        return tuple(
            {
                "name": loss.name,
                "values": loss.values,
                "total": total,
                "mean": loss.mean(total, samples),
                "bound": loss.bound(total, samples, bits, delta),
                "self_contained": 1.0 if size is None else loss.bound(total, samples, bits + size, delta),
            }
            for loss, total, delta in zip(self.losses, counted.totals, paid, strict=True)
        )

    def count(self, progress: Progress | None) -> Counts:
        """Everything that is counted, at all levels in one pass over each sample."""
        found = count_losses(self.decoded.classifier, self.sample, self.rule, self.losses, tuple(Level), progress)
        original = self.original
        if original is None:
            return Counts(found)
        rule = replace(self.rule, batch_size=min(self.rule.batch_size, original.batch_size))
        pair, unlabelled = (original.classifier, self.decoded.classifier), original.unlabelled
        return Counts(found, count_disagreements(*pair, unlabelled, rule, tuple(Level), progress))

    def original_facts(self, counts: Counts) -> dict[str, Any] | None:
        """What the certificate says of the original network."""
        original = self.original
        if original is None:
            return None
        shared = check_unlabelled(original.unlabelled, self.sample if self.prior is None else self.prior.full)
        disagreements = counts.disagreements[CERTIFIED].disagreements
        found = {**original.describe(shared), "disagreements": disagreements, "look": self.look}
        return {**found, "disagreement_bound": holdout_bound(disagreements, trials_of(found), self.parts[1])}

    def transferred(self, bound: float, facts: Mapping[str, Any] | None) -> float:
        """The bound of what is certified from that of the compressed network."""
        if facts is None:
            return bound
        return disagreement_bound(bound, facts["disagreements"], trials_of(facts), self.parts[1])

    def _held_out(self, classifier: Classifier, sample: Sample) -> dict[str, object]:
        """What holding these labels out would have said: the exact binomial limit without any message."""
        count = count_errors(classifier, sample, replace(self.rule, abstains_within=0.0))
        bound = holdout_bound(count.errors, count.samples, self.delta)
        return {"samples": count.samples, "errors": count.errors, "bound": bound}

    def holdout_line(self) -> dict[str, object] | None:
        """What the certificate says of held-out labels, for comparison."""
        held = self.holdout
        if held is None:
            return None
        return {"name": held.name, "hash": held.content_hash, **self._held_out(self.decoded.classifier, held)}

    def rest_line(self) -> dict[str, object] | None:
        """What simply holding out the rest would have said of the network trained on the prior part (0 bits).

        Raises:
            InputError: that network is neither in the helper nor known to the split.
        """
        if self.prior is None:
            return None
        own = helper_network(self.compressed.helper)
        classifier = own or self.prior.helper_classifier
        if classifier is None:
            trained = "the network that was trained on the prior part"
            expected = f"{trained}, whose hold-out line stands beside the certificate"
            do = "put its weights into the helper, or call PriorSplit.with_helper(classifier)"
            raise InputError(expected, "none", do)
        return {**self._held_out(classifier, self.prior.rest), "in_helper": own is not None}

    def certificate(self, counts: Counts) -> Certificate:
        """The certificate of these counts."""
        counted, facts, prior = counts.losses[CERTIFIED], self.original_facts(counts), self.prior
        count, size, charged = counted.errors, self.helper_bits, 1.0
        known = count.errors, count.samples, self.message_bits
        bound = occam_bound(*known, self.parts[0])
        if size is not None:
            charged = self_contained_bound(*known, size, self.parts[0])
        bounded = any(not loss.zero_one for loss in self.losses)
        certificate = Certificate(
            bound=self.transferred(bound.binomial, facts),
            self_contained=self.transferred(charged, facts),
            delta=self.delta,
            errors=count.errors,
            near_ties=count.near_ties,
            rounding=count.rounding,
            samples=count.samples,
            message_bits=self.message_bits,
            certifies="compressed" if facts is None else "original",
            theorem=theorem_text(prior=prior is not None, bounded=bounded, original=facts is not None),
            bounds={"binomial": bound.binomial, "kl_chernoff": bound.kl_chernoff, "hoeffding": bound.hoeffding},
            sections=self.decoded.ledger.sections,
            helper_sections=self.helper_sections,
            delta_ledger=self.ledger,
            decision_rule=self.rule.describe(counted.double),
            data=describe_sample(self.sample if prior is None else prior.full),
            helper=describe_helper(self.compressed.helper),
            commitment=self.commitment.describe(),
            conditions=(),
            message={"file": MESSAGE_FILE, "sha256": hashlib.sha256(self.compressed.message).hexdigest()},
            description=self.decoded.description,
            holdout=self.holdout_line(),
            versions=versions(),
            prior=None if prior is None else prior.describe(),
            rest=self.rest_line(),
            losses=self.loss_facts(counted),
            original=facts,
        )
        return replace(certificate, conditions=conditions(certificate, self.compressed.helper))


@dataclass(frozen=True, eq=False)
class CountedCertificate:
    """A certificate and the counts it was made from."""

    certificate: Certificate
    counts: Counts


def certify(
    compressed: Compressed,
    sample: Sample,
    *,
    delta: float = 0.05,
    holdout: Sample | None = None,
    prior: PriorSplit | None = None,
    original: Original | None = None,
    losses: Sequence[str] = (),
    declared: Declaration | None = None,
    progress: Progress | None = None,
) -> Certificate:
    """Certify the compressed network, or the original one, on a training sample.

    With probability at least ``1 - delta`` over the draw of ``sample`` (and of the unlabelled sample), the error
    probability of ``decode_message(compressed.message, compressed.helper)`` on a new example is at most
    ``certificate.bound`` if the helper was fixed beforehand, and at most ``certificate.self_contained`` in any case;
    with ``original`` it is that of the original network. All losses hold at once with it.

    Args:
        compressed: message and helper; anything chosen after seeing ``sample`` must be in the message.
        sample: the training sample, counted as given; with ``prior`` its ``rest``.
        delta: failure probability in (0, 1), divided by :func:`bitcert.proof.claims.delta_plan`.
        holdout: labelled examples never used, for the comparison line only.
        prior: the declared split whose prior part the helper may depend on.
        original: the original network and an unlabelled sample that is independent of everything else. The look at it
            is entered in the user's book (see ``declared``).
        losses: names of further losses (see :mod:`bitcert.losses`), of the compressed network.
        declared: the helpers of the whole run, and where looks are counted.
        progress: called with the task and the fraction done.

    Raises:
        InputError: when ``delta``, a loss or the sample does not fit.
        SampleReuseError: when two samples share examples, or ``sample`` is not the rest of the split.
    """
    options = {"delta": delta, "holdout": holdout, "prior": prior, "original": original, "losses": losses}
    return certify_counting(compressed, sample, declared=declared, progress=progress, **options).certificate


def certify_counting(
    compressed: Compressed,
    sample: Sample,
    *,
    declared: Declaration | None = None,
    progress: Progress | None = None,
    **claimed: Any,
) -> CountedCertificate:
    """Like :func:`certify`, which has the same options; the counts come with the certificate.

    A verification in the same process need not count again.
    """
    claim = _Claim.of(compressed, sample, declared or Declaration(), **claimed)
    counts = claim.count(progress)
    return CountedCertificate(claim.certificate(counts), counts)
