"""A stranger's check of a certificate: decode the message, count errors again, recompute the bound, compare.

Nothing in the certificate is believed: each statement is a line that is recomputed from the message, the data and the
program (further losses, the original network and the split in :mod:`bitcert.certificates.recount`). Errors are
recounted in both ways and at two levels (:class:`bitcert.counting.Level`): a claim must lie between what is wrong here
beyond doubt and what any machine might have counted.

What no file can show, and this does not check, are the conditions of the certificate; they are named, and which of them
``self_contained`` does without.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from bitcert.certificates.certificate import HOLDOUT_KEYS, MESSAGE_FILE, MESSAGE_KEYS, VERSIONED, Certificate
from bitcert.certificates.conditions import Facts, conditions
from bitcert.certificates.original import Counts, MakeOriginal, Original
from bitcert.certificates.reading import (
    CannotCheckError,
    Checker,
    InvalidError,
    Line,
    MakeModel,
    check_commitment,
    check_sample,
    decode,
    read_certificate,
    read_helper,
    read_message,
    table_schema,
)
from bitcert.certificates.recount import (
    LEVELS,
    Given,
    check_losses,
    check_original,
    check_rest,
    check_transfer,
    close,
    load_losses,
    loss_names,
    stated_choices,
    stated_look,
)
from bitcert.certificates.workload import WorkLimit
from bitcert.counting import DecisionRule, ErrorCount, LossCount, Progress, count_losses
from bitcert.data import NAMES, Role, Sample, load_sample, shaped_like
from bitcert.data.schema_file import SchemaSource
from bitcert.decoder import Decoded, Helper
from bitcert.decoder.description import SplitClaim, helper_ledger
from bitcert.errors import BitcertError, BudgetError, InputError, ModelError
from bitcert.losses import Loss, is_users
from bitcert.network import OpaqueModel
from bitcert.proof import ConfidenceBudget, OccamBound, holdout_bound, occam_bound, self_contained_bound
from bitcert.proof.claims import delta_plan, theorem_text


class Status(IntEnum):
    """Outcome of a verification; the value is the exit code."""

    VALID = 0
    INVALID = 1
    CANNOT_CHECK = 2


@dataclass(frozen=True)
class Verification:
    """The outcome of :func:`verify`: status, what was checked, and the reason when it is not valid."""

    status: Status
    lines: tuple[Line, ...]
    reason: str = ""
    certificate: Certificate | None = None

    def __bool__(self) -> bool:
        return self.status is Status.VALID


def _find_sample(
    certificate: Certificate, data: Sample | str | Path | None, schema: SchemaSource = None, label: str | None = None
) -> Sample:
    if isinstance(data, Sample):
        return data
    name = certificate.data.get("name")
    classes = certificate.data.get("num_classes")
    if data is None and name not in NAMES:
        # A stranger's file must not choose which paths of this machine are read.
        raise CannotCheckError(f"the data {name!r} are not built in; name the training data with --data")
    found = table_schema(certificate, schema, label)
    source = data if data is not None else str(name)
    try:
        sample = load_sample(source, Role.TRAIN, num_classes=_count_or_none(classes), schema=found)
    except BitcertError as error:
        raise CannotCheckError(f"the data: {error}") from None
    sizes = certificate.data.get("input_shape")
    claimed = tuple(sizes) if isinstance(sizes, list) else ()
    return shaped_like(sample, claimed) if all(map(_count_or_none, claimed)) else sample


def _count_or_none(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _check_rule(certificate: Certificate, helper: Helper, check: Checker) -> DecisionRule:
    ours = DecisionRule(helper.batch_size)
    claimed = certificate.decision_rule
    # only code outside the program may be without a second way in float64
    allowed = (True, False) if isinstance(helper.predictor, OpaqueModel) else (True,)
    same = any(dict(claimed) == ours.describe(double) for double in allowed) and type(claimed["batch_size"]) is int
    detail = (
        f"right in {ours.dtype} and in {claimed.get('second_dtype')}, batches of {ours.batch_size} and of half; gaps "
        f"within {ours.tolerance:g}, or within {ours.rounding:g} times the difference of both, count as errors"
    )
    check.line("decision rule", same, detail)
    return ours


def _check_counts(certificate: Certificate, low: ErrorCount, high: ErrorCount, check: Checker) -> None:
    fits = low.errors <= certificate.errors <= high.errors
    check.line("errors", fits, f"{certificate.errors} claimed, between {low.errors} and {high.errors} counted")
    fits = low.near_ties <= certificate.near_ties <= high.near_ties
    detail = f"{certificate.near_ties} claimed, between {low.near_ties} and {high.near_ties} counted"
    check.line("near-ties", fits, detail)
    fits = certificate.rounding <= min(certificate.near_ties, high.near_ties)
    check.line("rounding", fits, f"{certificate.rounding} near-ties claimed to be none in float64, {low.rounding} here")


def _check_delta(certificate: Certificate, check: Checker) -> tuple[OccamBound, tuple[float, ...]]:
    """The Occam bound at its part of delta, and all parts: exactly those of the claims made, in the fixed division."""
    names = loss_names(certificate)
    try:
        plan = delta_plan(certificate.delta, names, stated_look(certificate), stated_choices(certificate))
        budget = ConfidenceBudget(certificate.delta)
        parts = tuple(budget.withdraw(entry.name, entry.amount) for entry in plan)
        bound = occam_bound(certificate.errors, certificate.samples, certificate.message_bits, parts[0])
    except (InputError, BudgetError) as error:
        raise InvalidError(f"bound: {error}") from None
    spent = certificate.delta_ledger == tuple((entry.name, entry.amount) for entry in plan)
    each = "spent once" if len(parts) == 1 else "in parts of " + ", ".join(f"{part:g}" for part in parts)
    check.line("delta", spent, f"{certificate.delta:g} {each}")
    return bound, parts


def _check_bounds(certificate: Certificate, check: Checker) -> None:
    bound, parts = _check_delta(certificate, check)
    recomputed = {"binomial": bound.binomial, "kl_chernoff": bound.kl_chernoff, "hoeffding": bound.hoeffding}
    same = set(recomputed) == set(certificate.bounds) and all(
        close(certificate.bounds[name], value) for name, value in recomputed.items()
    )
    check.line("bounds", same, ", ".join(f"{name} {value:.6f}" for name, value in recomputed.items()))
    transferred = certificate.original is not None
    whole = [bound.binomial, _self_contained(certificate, parts[0])]
    if transferred:
        whole = check_transfer(certificate, parts[1], tuple(whole), check)
    check.line("bound", close(certificate.bound, whole[0]), f"{whole[0]:.6f} recomputed")
    same = close(certificate.self_contained, whole[1])
    size = "the helper's description is unknown" if certificate.helper_bits is None else f"{certificate.helper_bits:,}"
    check.line("self-contained bound", same, f"{whole[1]:.6f} recomputed with the bits of the helper: {size}")
    bounded = any(entry["values"] != "0 or 1" for entry in certificate.losses)
    theorem = theorem_text(prior=certificate.prior is not None, bounded=bounded, original=transferred)
    whose = "original" if transferred else "compressed"
    stated = certificate.theorem == theorem and certificate.certifies == whose
    check.line("theorem", stated, f"{'disagreement' if transferred else 'Occam'} bound of the {whose} network")


def _self_contained(certificate: Certificate, delta: float) -> float:
    """The bound of the compressed network that charges for the helper's description, of the length that is stated."""
    if certificate.helper_bits is None:
        return 1.0
    counts = certificate.errors, certificate.samples, certificate.message_bits
    try:
        return self_contained_bound(*counts, certificate.helper_bits, delta)
    except InputError as error:
        raise InvalidError(f"self-contained bound: {error}") from None


def _check_helper_bits(certificate: Certificate, helper: Helper, check: Checker) -> None:
    """The helper's description, written again."""
    prior = certificate.prior
    split = None if prior is None else SplitClaim(prior["fraction"], prior["seed"])
    known = not isinstance(helper.predictor, OpaqueModel) or helper.predictor.sources
    sections = helper_ledger(helper, split).sections if known else ()
    found = f"{sum(bits for _, bits in sections):,} bits" if known else "source code of the network not found"
    check.line("helper's description", certificate.helper_sections == sections, f"{found} in {len(sections)} sections")


def _check_conditions(certificate: Certificate, helper: Helper, check: Checker) -> None:
    """The conditions, which no file can show, are those of such a certificate."""
    prior, original = certificate.prior, certificate.original
    facts = Facts(
        certificate.samples,
        certificate.delta,
        loss_names(certificate),
        helper,
        certificate.helper_bits,
        certificate.data["benchmark"],
        None if prior is None else (prior["fraction"], prior["seed"]),
        None if original is None else (original["unlabelled"]["samples"], original["look"]),
    )
    stated = certificate.conditions == conditions(facts)
    check.line("conditions", stated, f"{len(certificate.conditions)} are stated, as they are for such a certificate")


def _check_holdout(certificate: Certificate, check: Checker) -> None:
    if certificate.holdout is None:
        return
    claimed = certificate.holdout
    texts = [isinstance(claimed.get(key), str) for key in ("name", "hash")]
    same = set(claimed) == HOLDOUT_KEYS and all(texts)
    if same:
        try:
            bound = holdout_bound(claimed["errors"], claimed["samples"], certificate.delta)
            same = close(claimed["bound"], bound)
        except InputError:
            same = False
    check.line("hold-out line", same, "agrees with its own counts (comparison only; its data were not read)")


def _check_form(certificate: Certificate, check: Checker) -> None:
    known = set(certificate.versions) == {"python", *VERSIONED}
    if known:
        check.trust("versions", "stated by the maker, not checked")
    else:
        check.line("versions", False, f"python and {', '.join(VERSIONED)} were expected")
    # Any other name could point out of the folder, or at a device.
    named = set(certificate.message) == MESSAGE_KEYS and certificate.message["file"] == MESSAGE_FILE
    check.line("message name", named, f"{MESSAGE_FILE} beside the certificate")


def _count(
    decoded: Decoded, sample: Sample, rule: DecisionRule, losses: Sequence[Loss], progress: Progress | None
) -> tuple[LossCount, LossCount]:
    try:
        low, high = count_losses(decoded.classifier, sample, rule, losses, LEVELS, progress)
    except ModelError as error:
        raise CannotCheckError(f"the network's own code: {error}") from None
    return low, high


def _num_runs(certificate: Certificate, samples: int) -> int:
    """Examples that the helper's network is run on: the sample, again for a prior split, and the unlabelled ones."""
    unlabelled = certificate.original["unlabelled"]["samples"] if certificate.original is not None else 0
    return samples * (1 if certificate.prior is None else 2) + int(unlabelled)


@dataclass(frozen=True)
class _Passed:
    """What the stranger passed beside the certificate."""

    data: Sample | str | Path | None
    model: OpaqueModel | MakeModel | None
    given: Given
    losses: tuple[str, ...]
    commitment: str | None
    progress: Progress | None
    label: str | None
    schema: SchemaSource


def _verify(path: Path, passed: _Passed, check: Checker) -> Certificate:
    certificate = read_certificate(path, check)
    _check_bounds(certificate, check)
    _check_holdout(certificate, check)
    _check_form(certificate, check)
    message = read_message(path)
    sample = _find_sample(certificate, passed.data, passed.schema, passed.label)
    counted = check_sample(certificate, sample, check)
    helper = read_helper(certificate, path.parent, sample, check, passed.model)
    _check_helper_bits(certificate, helper, check)
    check_commitment(certificate, passed.commitment, check)
    _check_conditions(certificate, helper, check)
    passed.given.limit.admit(helper.predictor, _num_runs(certificate, len(counted)))
    rule = _check_rule(certificate, helper, check)
    decoded = decode(certificate, message, helper, check)
    losses, left_open = load_losses(certificate, sample.num_classes, passed.losses)
    if passed.given.counts is None:
        low, high = _count(decoded, counted, rule, losses, passed.progress)
    else:
        low, high = passed.given.counts.losses[0], passed.given.counts.losses[-1]
    _check_counts(certificate, low.errors, high.errors, check)
    check_losses(certificate, losses, (low, high), check)
    check_rest(certificate, helper, counted, rule, check)
    for name in loss_names(certificate):
        if is_users(name) and name not in left_open:
            check.trust(f"loss {name}, code", "the code that was run here; the certificate names it only")
    missing = [f"the loss {name} is Python code; to run it, pass --loss {name}" for name in left_open]
    missing += [check_original(certificate, decoded.classifier, rule, sample, passed.given, check, passed.progress)]
    if any(missing):
        raise CannotCheckError("; ".join(filter(None, missing)) + "; all other lines were checked and hold")
    return certificate


def verify(
    certificate: str | Path,
    data: Sample | str | Path | None = None,
    *,
    model: OpaqueModel | MakeModel | None = None,
    original: Original | MakeOriginal | None = None,
    unlabelled: Sample | str | Path | None = None,
    losses: Sequence[str] = (),
    commitment: str | None = None,
    counts: Counts | None = None,
    progress: Progress | None = None,
    limit: WorkLimit | None = None,
    label: str | None = None,
    schema: SchemaSource = None,
) -> Verification:
    """Check the certificate file against its message and the training data.

    Args:
        certificate: path of ``certificate.json``; the message (and architecture) lie beside it.
        data: the training data as a sample, name or path; found when ``None`` if the certificate gives a built-in
            name (a path in the certificate is not followed). With a prior split the whole data; it is split again.
        model: the user's own Python network, or a function that makes it for the sample, for certificates of one
            that could not be captured.
        original: the original network, or a function that loads it for the unlabelled sample and the preprocessing,
            for a certificate of that network.
        unlabelled: the unlabelled data as a sample, name (its test part) or path; found like ``data`` when ``None``.
        losses: names of the user's own losses whose code may be run.
        commitment: the hash that was published before the data were opened, if there is one.
        counts: only for the maker of the certificate: what was counted for it in this process is not counted again.
        progress: called with the task and the fraction done.
        label: of a table, its label's column, if it shall be another than the certificate says.
        schema: of a table that was certified with one: the same.
        limit: how much counting the certificate may ask for; see :class:`~bitcert.certificates.workload.WorkLimit`.

    Returns:
        The outcome: valid, invalid (a line fails), or cannot be checked (something is missing; what can be checked
        without it is). Never raises for the content of the files.
    """
    check = Checker()
    given = Given(original, unlabelled, counts, limit or WorkLimit())
    passed = _Passed(data, model, given, tuple(losses), commitment, progress, label, schema)
    try:
        found = _verify(Path(certificate), passed, check)
    except CannotCheckError as missing:
        return Verification(Status.CANNOT_CHECK, tuple(check.lines), str(missing))
    except (InvalidError, BitcertError) as failure:
        return Verification(Status.INVALID, tuple(check.lines), str(failure))
    return Verification(Status.VALID, tuple(check.lines), "", found)
