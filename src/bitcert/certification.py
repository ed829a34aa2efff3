"""From a message to a certificate: decode, count errors on the sample as given, apply the Occam bound.

The certified hypothesis is ``decode(bytes)``, never the network in memory. Theorem: Arora et al. 2018, Thm 2.1 with all
constants, in the exact binomial-tail form of THEORY section 2. With a declared prior part the helper may depend on it
and only the rest is counted; with unlabelled examples the bound is carried over to the original network
(:mod:`bitcert.original`); further losses share the failure probability (:mod:`bitcert.certify.claims`).
"""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Sequence
from functools import cache
from importlib.metadata import version

from bitcert.certify import ConfidenceBudget, disagreement_bound, holdout_bound, occam_bound
from bitcert.certify.certificate import MESSAGE_FILE, VERSIONED, Certificate
from bitcert.certify.claims import delta_plan, theorem_text
from bitcert.compress.run import Compressed
from bitcert.data import PriorSplit, Role, Sample, check_independent
from bitcert.errors import InputError, SampleReuseError
from bitcert.evaluate import Classifier, DecisionRule, Progress, count_errors
from bitcert.helper import Decoded, Helper, decode_message
from bitcert.losses import Loss, count_losses_at, parse_losses
from bitcert.original import Original, check_unlabelled, count_disagreements_at, helper_network

CERTIFICATE_FILE = "certificate.json"
ARCHITECTURE_FILE = "architecture.json"
REPORT_FILE = "report.html"


@cache
def _version(name: str) -> str:
    return version(name)


def versions() -> dict[str, str]:
    """Versions of the program and of what its numbers depend on."""
    return {"python": platform.python_version(), **{name: _version(name) for name in VERSIONED}}


def describe_sample(sample: Sample) -> dict[str, object]:
    """What a certificate says of its training sample."""
    return {
        "name": sample.name,
        "hash": sample.content_hash,
        "num_classes": sample.num_classes,
        "input_shape": list(sample.input_shape),
    }


def describe_helper(helper: Helper) -> dict[str, object]:
    """What a certificate says of the helper string, with its hash."""
    return {**helper.describe(), "hash": helper.content_hash}


def holdout_line(classifier: Classifier, sample: Sample, rule: DecisionRule, delta: float) -> dict[str, object]:
    """What holding these labels out would have said: the exact binomial limit without any message."""
    count = count_errors(classifier, sample, rule)
    return {
        "name": sample.name,
        "hash": sample.content_hash,
        "samples": count.samples,
        "errors": count.errors,
        "bound": holdout_bound(count.errors, count.samples, delta),
    }


def check_holdout(sample: Sample, holdout: Sample) -> None:
    """Refuse held-out labels that the certified classifier could not be tested on.

    Raises:
        InputError: when shape or classes differ from the training sample's.
        SampleReuseError: when the two share their examples.
    """
    if (sample.input_shape, sample.num_classes) != (holdout.input_shape, holdout.num_classes):
        expected = f"held-out data of shape {list(sample.input_shape)} with {sample.num_classes} classes"
        got = f"{holdout.name} of shape {list(holdout.input_shape)} with {holdout.num_classes}"
        raise InputError(expected, got, "hold out examples of the same problem")
    # whatever role they came in, held-out labels is what they are used as
    check_independent(sample, holdout.with_role(Role.HOLDOUT) if holdout.role is sample.role else holdout)


def _check_classes(helper: Helper, sample: Sample) -> None:
    if sample.classes_inferred and not helper.fixes_classes and not helper.classes_inferred:
        expected, got = "a message that says the number of classes", "one that leaves it out"
        raise InputError(expected, got, "make the helper with Helper.for_sample, or state num_classes")


def _check_fit(compressed: Compressed, sample: Sample, prior: PriorSplit | None) -> None:
    """Refuse a sample that the message was not made for, or one that is not the rest of the split."""
    helper = compressed.helper
    if (tuple(sample.input_shape), sample.num_classes) != (helper.input_shape, helper.num_classes):
        got = f"{sample.name} of shape {list(sample.input_shape)} with {sample.num_classes} classes"
        expected = f"inputs of shape {list(helper.input_shape)}, {helper.num_classes} classes"
        raise InputError(expected, got, "certify on the sample the message was made for")
    _check_classes(helper, sample)
    if prior is not None and sample is not prior.rest and sample.content_hash != prior.rest.content_hash:
        expected = f"the rest of the prior split ({len(prior.rest)} of the {len(prior.full)} of {prior.full.name})"
        raise SampleReuseError(expected, f"{sample.name} with {len(sample)}", "certify on the rest only")


def check_samples(
    sample: Sample, holdout: Sample | None, prior: PriorSplit | None = None, original: Original | None = None
) -> None:
    """Refuse samples that may not be used together: call it before a long run; :func:`certify` does too.

    Args:
        sample: the training sample; with a split the rest.
        holdout: labels for the comparison line only.
        prior: the declared split.
        original: its unlabelled sample is looked at.

    Raises:
        InputError: another shape or number of classes.
        SampleReuseError: two of them share examples.
    """
    used = [prior.full if prior is not None else sample]
    if holdout is not None:
        check_holdout(used[0], holdout)
        used.append(holdout)
    if original is not None:
        check_unlabelled(original.unlabelled, *used)


def rest_line(helper: Helper, prior: PriorSplit, rule: DecisionRule, delta: float) -> dict[str, object]:
    """What simply holding out the rest would have said of the network trained on the prior part (0 bits).

    Raises:
        InputError: that network is neither in the helper nor known to the split.
    """
    own = helper_network(helper)
    classifier = own or prior.helper_classifier
    if classifier is None:
        expected = "the network that was trained on the prior part, whose hold-out line stands beside the certificate"
        raise InputError(
            expected, "none", "put its weights into the helper, or call PriorSplit.with_helper(classifier)"
        )
    count = count_errors(classifier, prior.rest, rule)
    bound = holdout_bound(count.errors, count.samples, delta)
    return {"samples": count.samples, "errors": count.errors, "bound": bound, "in_helper": own is not None}


def _original_facts(
    original: Original, decoded: Decoded, rule: DecisionRule, delta: float, progress: Progress | None
) -> dict[str, object]:
    """What the certificate says of the original network; ``delta`` is the part of the disagreement."""
    size = min(rule.batch_size, original.batch_size)
    counted = count_disagreements_at(
        original.classifier, decoded.classifier, original.unlabelled, size, (rule.tolerance,), progress
    )[0]
    bound = holdout_bound(counted.disagreements, counted.samples, delta)
    return {**original.describe(), "disagreements": counted.disagreements, "disagreement_bound": bound}


def _loss_facts(loss: Loss, total: int, samples: int, message_bits: int, delta: float) -> dict[str, object]:
    return {
        "name": loss.name,
        "values": loss.values,
        "total": total,
        "mean": loss.mean(total, samples),
        "bound": loss.bound(total, samples, message_bits, delta),
    }


def certify(
    compressed: Compressed,
    sample: Sample,
    *,
    delta: float = 0.05,
    holdout: Sample | None = None,
    prior: PriorSplit | None = None,
    original: Original | None = None,
    losses: Sequence[str] = (),
    progress: Progress | None = None,
) -> Certificate:
    """Certify the compressed network, or the original one, on a training sample.

    With probability at least ``1 - delta`` over the draw of ``sample`` (and of the unlabelled sample), the error
    probability of ``decode_message(compressed.message, compressed.helper)`` on a new example is at most
    ``certificate.bound``; with ``original`` it is that of the original network. All losses hold at once with it.

    Args:
        compressed: message and helper; anything chosen after seeing ``sample`` must be in the message.
        sample: the training sample, counted as given; with ``prior`` its ``rest``.
        delta: failure probability in (0, 1), divided by :func:`bitcert.certify.claims.delta_plan`.
        holdout: labelled examples never used, for the comparison line only.
        prior: the declared split whose prior part the helper may depend on.
        original: the original network and an unlabelled sample that is independent of everything else.
        losses: names of further losses (see :mod:`bitcert.losses`), of the compressed network.
        progress: called with the task and the fraction done.

    Raises:
        InputError: when ``delta``, a loss or the sample does not fit.
        SampleReuseError: when two samples share examples that must not, or ``sample`` is not the rest of the split.
    """
    further = parse_losses(losses, sample.num_classes)
    names = [loss.name for loss in further]
    budget = ConfidenceBudget(delta)
    parts = [budget.withdraw(entry.name, entry.amount) for entry in delta_plan(delta, names, original is not None)]
    _check_fit(compressed, sample, prior)
    check_samples(sample, holdout, prior, original)
    helper, rule = compressed.helper, DecisionRule(compressed.helper.batch_size)
    decoded = decode_message(compressed.message, helper)
    counted = count_losses_at(decoded.classifier, sample, rule.batch_size, (rule.tolerance,), further, progress)[0]
    count, num_bits = counted.errors, 8 * len(compressed.message)
    bound = occam_bound(count.errors, count.samples, num_bits, parts[0])
    facts = None if original is None else _original_facts(original, decoded, rule, parts[1], progress)
    transferred = bound.binomial
    if facts is not None and original is not None:
        transferred = disagreement_bound(transferred, facts["disagreements"], len(original.unlabelled), parts[1])
    return Certificate(
        bound=transferred,
        delta=delta,
        errors=count.errors,
        near_ties=count.near_ties,
        samples=count.samples,
        message_bits=num_bits,
        certifies="compressed" if original is None else "original",
        theorem=theorem_text(
            prior=prior is not None,
            bounded=any(not loss.zero_one for loss in further),
            original=original is not None,
        ),
        bounds={"binomial": bound.binomial, "kl_chernoff": bound.kl_chernoff, "hoeffding": bound.hoeffding},
        sections=decoded.ledger.sections,
        delta_ledger=tuple((entry.name, float(entry.amount)) for entry in budget.ledger),
        decision_rule={"dtype": rule.dtype, "batch_size": rule.batch_size, "tolerance": rule.tolerance},
        data=describe_sample(sample if prior is None else prior.full),
        helper=describe_helper(helper),
        message={"file": MESSAGE_FILE, "sha256": hashlib.sha256(compressed.message).hexdigest()},
        description=decoded.description,
        holdout=None if holdout is None else holdout_line(decoded.classifier, holdout, rule, delta),
        versions=versions(),
        prior=None if prior is None else prior.describe(),
        rest=None if prior is None else rest_line(helper, prior, rule, delta),
        losses=tuple(
            _loss_facts(loss, total, count.samples, num_bits, part)
            for loss, total, part in zip(further, counted.totals, parts[len(parts) - len(further) :], strict=True)
        ),
        original=facts,
    )
