"""From a message to a certificate: decode, count errors on the sample as given, apply the Occam bound.

The certified hypothesis is ``decode(bytes)``, never the network in memory. Theorem: Arora et al. 2018, Thm 2.1 with all
constants, in the exact binomial-tail form of THEORY section 2.
"""

from __future__ import annotations

import hashlib
import platform
from functools import cache
from importlib.metadata import version

from bitcert.certify import CITATION_BINOMIAL_TAIL, CITATION_OCCAM, ConfidenceBudget, holdout_bound, occam_bound
from bitcert.certify.certificate import MESSAGE_FILE, PURPOSE, VERSIONED, Certificate
from bitcert.compress.run import Compressed
from bitcert.data import Role, Sample, check_independent
from bitcert.errors import InputError
from bitcert.evaluate import Classifier, DecisionRule, Progress, count_errors
from bitcert.helper import Helper, decode_message

CERTIFICATE_FILE = "certificate.json"
ARCHITECTURE_FILE = "architecture.json"
REPORT_FILE = "report.html"
THEOREM = f"{CITATION_OCCAM}; {CITATION_BINOMIAL_TAIL}"


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
    if sample.classes_inferred and helper.predictor is None and not helper.classes_inferred:
        expected, got = "a message that says the number of classes", "one that leaves it out"
        raise InputError(expected, got, "make the helper with Helper.for_sample, or state num_classes")


def certify(
    compressed: Compressed,
    sample: Sample,
    *,
    delta: float = 0.05,
    holdout: Sample | None = None,
    progress: Progress | None = None,
) -> Certificate:
    """Certify the compressed network on its training sample.

    With probability at least ``1 - delta`` over the draw of ``sample``, the error probability of
    ``decode_message(compressed.message, compressed.helper)`` on a new example is at most ``certificate.bound``.

    Args:
        compressed: message and helper; anything chosen after seeing ``sample`` must be in the message.
        sample: the training sample, counted as given.
        delta: failure probability in (0, 1).
        holdout: labelled examples never used, for the comparison line only.
        progress: called with the task and the fraction done.

    Raises:
        InputError: when ``delta`` or the sample does not fit.
        SampleReuseError: when ``holdout`` shares its examples with ``sample``.
    """
    budget = ConfidenceBudget(delta)
    if (tuple(sample.input_shape), sample.num_classes) != (
        compressed.helper.input_shape,
        compressed.helper.num_classes,
    ):
        got = f"{sample.name} of shape {list(sample.input_shape)} with {sample.num_classes} classes"
        expected = f"inputs of shape {list(compressed.helper.input_shape)}, {compressed.helper.num_classes} classes"
        raise InputError(expected, got, "certify on the sample the message was made for")
    _check_classes(compressed.helper, sample)
    if holdout is not None:
        check_holdout(sample, holdout)
    rule = DecisionRule(compressed.helper.batch_size)
    decoded = decode_message(compressed.message, compressed.helper)
    count = count_errors(decoded.classifier, sample, rule, progress)
    num_bits = 8 * len(compressed.message)
    bound = occam_bound(count.errors, count.samples, num_bits, budget.withdraw(PURPOSE, delta))
    return Certificate(
        bound=bound.binomial,
        delta=delta,
        errors=count.errors,
        near_ties=count.near_ties,
        samples=count.samples,
        message_bits=num_bits,
        certifies="compressed",
        theorem=THEOREM,
        bounds={"binomial": bound.binomial, "kl_chernoff": bound.kl_chernoff, "hoeffding": bound.hoeffding},
        sections=decoded.ledger.sections,
        delta_ledger=tuple((entry.name, float(entry.amount)) for entry in budget.ledger),
        decision_rule={"dtype": rule.dtype, "batch_size": rule.batch_size, "tolerance": rule.tolerance},
        data=describe_sample(sample),
        helper=describe_helper(compressed.helper),
        message={"file": MESSAGE_FILE, "sha256": hashlib.sha256(compressed.message).hexdigest()},
        description=decoded.description,
        holdout=None if holdout is None else holdout_line(decoded.classifier, holdout, rule, delta),
        versions=versions(),
    )
