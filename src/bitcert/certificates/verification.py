"""A reviewer's check of a certificate: decode the message, count errors again, recompute the bound, compare.

Nothing in the certificate is believed: each statement is a line that is recomputed from the message, the data and the
program. First what the certificate says by itself (:mod:`bitcert.certificates.statements`), then its files and the data
(:mod:`bitcert.certificates.reading`), then, here, everything that is a count: errors, losses, the hold-out line of a
split, disagreements with the original network. Counts are made at two levels (:class:`bitcert.counting.Level`): a claim
must lie between what is wrong here beyond doubt and what any machine might have counted. Whatever needs something the
reviewer did not pass (the original network, a user's loss) is left open and named; all else is still checked.

What no file can show, and this does not check, are the conditions of the certificate (that the unlabelled examples were
drawn independently of both networks, for one); they are named, and which of them ``self_contained`` does without.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum
from pathlib import Path
from typing import Any

from torch import Tensor

from bitcert.certificates import reading, statements
from bitcert.certificates.certificate import REST_KEYS, Certificate
from bitcert.certificates.original import (
    SHARED,
    Counts,
    MakeOriginal,
    Original,
    check_unlabelled,
    helper_network,
    load_test_part,
    unlabelled_sample,
)
from bitcert.certificates.reading import CannotCheckError, Checker, InvalidError, Line, MakeModel
from bitcert.certificates.screening import LEVELS, SCREENING, count_again
from bitcert.certificates.statements import close, loss_names
from bitcert.certificates.workload import WorkLimit
from bitcert.counting import (
    Classifier,
    DecisionRule,
    ErrorCount,
    LossCount,
    Progress,
    count_disagreements,
    count_losses,
)
from bitcert.data import NAMES, Role, Sample
from bitcert.data.schema_file import SchemaSource
from bitcert.decoder import Helper
from bitcert.errors import BitcertError, InputError, ModelError, SampleReuseError
from bitcert.losses import Loss, is_users, parse_loss
from bitcert.network import OpaqueModel
from bitcert.proof import holdout_bound


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


@dataclass(frozen=True)
class Given:
    """What a reviewer passed beside the certificate, see :func:`verify`."""

    original: Original | MakeOriginal | None = None
    unlabelled: Sample | str | Path | None = None
    counts: Counts | None = None
    limit: WorkLimit = field(default_factory=WorkLimit)
    data: Sample | str | Path | None = None
    model: OpaqueModel | MakeModel | None = None
    losses: tuple[str, ...] = ()
    commitment: str | None = None
    progress: Progress | None = None
    label: str | None = None
    schema: SchemaSource = None


def _check_counts(certificate: Certificate, low: ErrorCount, high: ErrorCount, check: Checker) -> None:
    fits = low.errors <= certificate.errors <= high.errors
    check.line("errors", fits, f"{certificate.errors} claimed, between {low.errors} and {high.errors} counted")
    fits = low.near_ties <= certificate.near_ties <= high.near_ties
    detail = f"{certificate.near_ties} claimed, between {low.near_ties} and {high.near_ties} counted"
    check.line("near-ties", fits, detail)
    fits = certificate.rounding <= min(certificate.near_ties, high.near_ties)
    check.line("rounding", fits, f"{certificate.rounding} near-ties claimed to be none in float64, {low.rounding} here")


# Losses


def load_losses(
    certificate: Certificate, num_classes: int, allowed: Collection[str]
) -> tuple[tuple[Loss, ...], tuple[str, ...]]:
    """The losses that can be counted again, and the names of the user's own that were not allowed to run.

    Raises:
        CannotCheckError: an allowed one cannot be loaded.
        InvalidError: an unknown one.
    """
    known, left_open = [], []
    for name in loss_names(certificate):
        if is_users(name) and name not in allowed:
            left_open.append(name)
            continue
        try:
            known.append(parse_loss(name, num_classes))
        except InputError as error:
            if is_users(name):
                raise CannotCheckError(f"the loss {name}: {error}") from None
            raise InvalidError(f"losses: {error}") from None
    return tuple(known), tuple(left_open)


def check_losses(
    certificate: Certificate, losses: tuple[Loss, ...], counts: tuple[LossCount, LossCount], check: Checker
) -> None:
    """Totals against the counts, means and bounds against the totals; of losses that were not run only the latter."""
    low, high = counts
    run = {loss.name: index for index, loss in enumerate(losses)}
    bits, size = certificate.message_bits, certificate.helper_bits
    paid = [amount for _, amount in certificate.delta_ledger[len(certificate.delta_ledger) - len(certificate.losses) :]]
    for entry, delta in zip(certificate.losses, paid, strict=True):
        name, total = entry["name"], entry["total"]
        loss = losses[run[name]] if name in run else Loss(name, _never, zero_one=False)
        line = f"loss {name}"
        check.line(line, entry["values"] == loss.values, f"values {loss.values}")
        if name in run:
            least, most = low.totals[run[name]], high.totals[run[name]]
            check.line(f"{line}, sum", least <= total <= most, f"{total} claimed, between {least} and {most} counted")
        try:
            bound = loss.bound(total, certificate.samples, bits, delta)
            charged = 1.0 if size is None else loss.bound(total, certificate.samples, bits + size, delta)
        except InputError as error:
            raise InvalidError(f"{line}: {error}") from None
        same = close(entry["mean"], loss.mean(total, certificate.samples)) and close(entry["bound"], bound)
        same = same and close(entry["self_contained"], charged)
        check.line(f"{line}, bound", same, f"{bound:.6f} recomputed at {delta:g}, self-contained {charged:.6f}")


def _never(*_: object) -> Tensor:
    raise AssertionError("a loss that was not allowed to run")


# The hold-out line of a prior split


def check_rest(certificate: Certificate, helper: Helper, rest: Sample, rule: DecisionRule, check: Checker) -> None:
    """What holding out the rest would have said; counted again where the helper holds the network.

    Raises:
        InvalidError: the line is missing, or does not hold.
    """
    claimed = certificate.rest
    if certificate.prior is None:
        if claimed is not None:
            check.line("hold-out on the rest", False, "a certificate without a prior split has no rest")
        return
    network = helper_network(helper)
    usable = reading.has_form(claimed, REST_KEYS, errors=int, samples=int) and claimed["in_helper"] is (
        network is not None
    )
    if claimed is None or not usable or claimed["samples"] != len(rest):
        check.line("hold-out on the rest", False, f"{', '.join(sorted(REST_KEYS))} of {len(rest)} examples expected")
        return
    try:
        bound = holdout_bound(claimed["errors"], len(rest), certificate.delta)
    except InputError as error:
        raise InvalidError(f"hold-out on the rest: {error}") from None
    found = "comparison only; its network is not in the files"
    holds = close(claimed["bound"], bound)
    if network is not None:
        low, high = (each.errors.errors for each in count_losses(network, rest, rule, levels=LEVELS, ways=None))
        holds = holds and low <= claimed["errors"] <= high
        found = f"{claimed['errors']} errors claimed, between {low} and {high} counted"
    check.line("hold-out on the rest", holds, f"{bound:.6f} recomputed; {found}")


# The original network


def check_original(
    certificate: Certificate, compressed: Classifier, rule: DecisionRule, sample: Sample, given: Given, check: Checker
) -> str:
    """Count the disagreements again; returns what is missing for that, or an empty text.

    Raises:
        CannotCheckError: what was passed cannot be loaded, or is not what the certificate names.
        InvalidError: a line does not hold.
    """
    claimed = certificate.original
    if claimed is None:
        return ""
    if given.original is None:
        network = claimed["factory"] or claimed["name"]
        return f"the original network ({network!r}) is not in the files; pass it with --original and --weights"
    unlabelled = _find_unlabelled(claimed["unlabelled"]["name"], sample, given)
    _check_unlabelled_data(claimed["unlabelled"], claimed["look"], unlabelled, sample, check)
    original = _load_original(claimed, unlabelled, given)
    rule = replace(rule, batch_size=min(rule.batch_size, original.batch_size))
    given.limit.admit(original.predictor, len(unlabelled))
    try:
        levels = given.counts.disagreements if given.counts is not None else ()
        pair = original.classifier, compressed
        levels = levels or count_disagreements(*pair, unlabelled, rule, LEVELS, given.progress)
    except BitcertError as error:
        raise CannotCheckError(f"the original network: {error}") from None
    found, low, high = claimed["disagreements"], levels[0].disagreements, levels[-1].disagreements
    detail = f"{found} claimed, between {low} and {high} counted on {len(unlabelled)}"
    check.line("disagreements", low <= found <= high, detail)
    return ""


def _find_unlabelled(stated: str, sample: Sample, given: Given) -> Sample:
    if isinstance(given.unlabelled, Sample):
        return unlabelled_sample(given.unlabelled)
    if given.unlabelled is None and isinstance(given.original, Original):
        return given.original.unlabelled
    built_in = stated.removesuffix(" (test)")
    if given.unlabelled is None and built_in not in NAMES:
        # A stranger's file must not choose which paths of this machine are read.
        raise CannotCheckError(f"the unlabelled data {stated!r} are not built in; name them with --unlabelled")
    source = built_in if given.unlabelled is None else given.unlabelled
    try:
        return load_test_part(source, Role.UNLABELLED, sample)
    except BitcertError as error:
        raise CannotCheckError(f"the unlabelled data: {error}") from None


def _check_unlabelled_data(
    claimed: Mapping[str, Any], look: int, unlabelled: Sample, sample: Sample, check: Checker
) -> None:
    if unlabelled.content_hash != claimed["hash"]:
        raise CannotCheckError(
            f"the unlabelled data given ({unlabelled.name}) are not those of the certificate ({claimed['name']!r}): "
            "their content hashes differ; pass them with --unlabelled"
        )
    same = claimed["samples"] == len(unlabelled)
    check.line("unlabelled data", same, f"{claimed['samples']} claimed, {len(unlabelled)} found, hash matches")
    try:
        shared = check_unlabelled(unlabelled, sample)
    except (SampleReuseError, InputError) as error:
        raise InvalidError(f"unlabelled data: {error}") from None
    found = f"{shared:,} of them are in the training data too, as by chance, and are no trials"
    found = found if shared else "none of them is in the training data, byte by byte"
    check.line("unlabelled data apart", shared == claimed.get(SHARED, 0), found)
    detail = "assumed independent of the training of both networks, not checked; held-out data were not read"
    check.trust("unlabelled data's origin", detail)
    detail = f"certificate number {look} on these examples, as stated by its maker; earlier ones are assumed counted"
    check.trust("looks at the unlabelled data", detail)


def _load_original(claimed: Mapping[str, Any], unlabelled: Sample, given: Given) -> Original:
    if isinstance(given.original, Original):
        original = given.original
    else:
        assert given.original is not None
        try:
            original = given.original(unlabelled, reading.read_preprocessing(claimed))
        except BitcertError as error:
            raise CannotCheckError(f"the original network: {error}") from None
    if original.content_hash != claimed["hash"]:
        same_graph = original.predictor.content_hash == claimed["architecture"]
        what = "weights or preprocessing" if same_graph else "architecture"
        raise CannotCheckError(
            f"the network given is not the original of the certificate ({claimed['name']!r}): its {what} differ; "
            "pass the same one with --original and --weights"
        )
    return original


# The whole


def _num_runs(certificate: Certificate, samples: int) -> int:
    """Examples that the helper's network is run on: the sample, again for a prior split, and the unlabelled ones."""
    unlabelled = certificate.original["unlabelled"]["samples"] if certificate.original is not None else 0
    return samples * (1 if certificate.prior is None else 2) + int(unlabelled)


def _verify(path: Path, given: Given, check: Checker) -> Certificate:
    certificate = reading.read_certificate(path, check)
    statements.check_statements(certificate, check)
    message = reading.read_message(path)
    sample = reading.find_sample(certificate, given.data, given.schema, given.label)
    counted = reading.check_sample(certificate, sample, check)
    helper = reading.read_helper(certificate, path.parent, sample, check, given.model)
    statements.check_helper_bits(certificate, helper, check)
    statements.check_commitment(certificate, helper, given.commitment, check)
    statements.check_conditions(certificate, helper, check)
    given.limit.admit(helper.predictor, _num_runs(certificate, len(counted)))
    decoded = reading.decode(certificate, message, helper, check)
    abstains_within = 0.0 if certificate.original is None else decoded.abstains_within
    rule = statements.check_rule(certificate, helper, check, abstains_within)
    losses, left_open = load_losses(certificate, sample.num_classes, given.losses)
    try:
        levels = given.counts.losses if given.counts is not None else ()
        if not levels:
            levels, screened = count_again(certificate, decoded.classifier, counted, rule, losses, given.progress)
            if screened:
                check.trust("second way of counting", SCREENING)
    except ModelError as error:
        raise CannotCheckError(f"the network's own code: {error}") from None
    _check_counts(certificate, levels[0].errors, levels[-1].errors, check)
    check_losses(certificate, losses, (levels[0], levels[-1]), check)
    check_rest(certificate, helper, counted, replace(rule, abstains_within=0.0), check)
    for name in loss_names(certificate):
        if is_users(name) and name not in left_open:
            check.trust(f"loss {name}, code", "the code that was run here; the certificate names it only")
    missing = [f"the loss {name} is Python code; to run it, pass --loss {name}" for name in left_open]
    missing += [check_original(certificate, decoded.classifier, rule, sample, given, check)]
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
    given = Given(
        original,
        unlabelled,
        counts,
        limit or WorkLimit(),
        data,
        model,
        tuple(losses),
        commitment,
        progress,
        label,
        schema,
    )
    try:
        found = _verify(Path(certificate), given, check)
    except CannotCheckError as missing:
        return Verification(Status.CANNOT_CHECK, tuple(check.lines), str(missing))
    except (InvalidError, BitcertError) as failure:
        return Verification(Status.INVALID, tuple(check.lines), str(failure))
    return Verification(Status.VALID, tuple(check.lines), "", found)
