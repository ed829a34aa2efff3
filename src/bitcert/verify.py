"""A stranger's check of a certificate: decode the message, count errors again, recompute the bound, compare.

Nothing in the certificate is believed: each statement is a line that is recomputed from the message, the data and the
program. Errors are recounted with half and with twice the near-tie tolerance, so that another machine's rounding,
which is far smaller, cannot make an honest certificate fail.

What no file can show, and this does not check: that the sample was drawn independently, and that the architecture and
the preprocessing were fixed before it was seen.
"""

from __future__ import annotations

import hashlib
import math
import stat
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from bitcert.certify import CITATION_BINOMIAL_TAIL, CITATION_OCCAM, holdout_bound, occam_bound
from bitcert.certify.certificate import (
    DATA_KEYS,
    HOLDOUT_KEYS,
    MAX_CERTIFICATE_BYTES,
    MESSAGE_FILE,
    MESSAGE_KEYS,
    PURPOSE,
    VERSIONED,
    Certificate,
)
from bitcert.coding import MAX_MESSAGE_BYTES
from bitcert.data import NAMES, Role, Sample, load_sample
from bitcert.errors import BitcertError, DecodeError, InputError
from bitcert.evaluate import DecisionRule, ErrorCount, Progress, count_errors_at
from bitcert.helper import Decoded, Helper, HelperWeights, Preprocessing, decode_message
from bitcert.helper.weights import HELPER_FILE, MAX_HELPER_BYTES
from bitcert.network import Architecture, OpaqueModel

MAX_ARCHITECTURE_BYTES = 1 << 22
RELATIVE_TOLERANCE = 1e-12


class Status(IntEnum):
    """Outcome of a verification; the value is the exit code."""

    VALID = 0
    INVALID = 1
    CANNOT_CHECK = 2


@dataclass(frozen=True)
class Line:
    """One statement of the certificate and whether it holds; ``checked`` is false where it is taken on trust."""

    name: str
    holds: bool
    detail: str
    checked: bool = True


@dataclass(frozen=True)
class Verification:
    """The outcome of :func:`verify`: status, what was checked, and the reason when it is not valid."""

    status: Status
    lines: tuple[Line, ...]
    reason: str = ""
    certificate: Certificate | None = None

    def __bool__(self) -> bool:
        return self.status is Status.VALID


MakeModel = Callable[[Sample], OpaqueModel]
"""Builds the user's own Python network for a sample; called only for a certificate that needs it."""


class _CannotCheckError(Exception):
    """Something needed for checking is missing."""


class _InvalidError(Exception):
    """A line failed; the rest need not be computed."""


class _Checker:
    """Collects lines and stops at the first that fails."""

    def __init__(self) -> None:
        self.lines: list[Line] = []

    def trust(self, name: str, detail: str) -> None:
        self.lines.append(Line(name, True, detail, checked=False))

    def line(self, name: str, holds: bool, detail: str) -> None:
        self.lines.append(Line(name, holds, detail))
        if not holds:
            raise _InvalidError(f"{name}: {detail}")


def _read(path: Path, limit: int) -> bytes:
    try:
        # A pipe or a device in place of the file would be waited for.
        if not stat.S_ISREG(path.stat().st_mode):
            raise _CannotCheckError(f"{path} is not a file; name certificate.json, with message.bin beside it")
        with open(path, "rb") as file:
            content = file.read(limit + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise _CannotCheckError(
            f"{path} cannot be read ({reason}); name certificate.json, with message.bin beside it"
        ) from None
    if len(content) > limit:
        raise _InvalidError(f"{path.name}: more than {limit} bytes")
    return content


def _close(claimed: float, recomputed: float) -> bool:
    return math.isclose(claimed, recomputed, rel_tol=RELATIVE_TOLERANCE, abs_tol=0.0)


def _read_certificate(path: Path, check: _Checker) -> Certificate:
    raw = _read(path, MAX_CERTIFICATE_BYTES)
    try:
        certificate = Certificate.from_json(raw.decode("ascii"))
    except (DecodeError, UnicodeDecodeError) as error:
        raise _InvalidError(f"certificate file: {error}") from None
    check.line("certificate file", True, "canonical form, checksum matches")
    return certificate


def _find_sample(certificate: Certificate, data: Sample | str | Path | None) -> Sample:
    if isinstance(data, Sample):
        return data
    name = certificate.data.get("name")
    classes = certificate.data.get("num_classes")
    if data is None and name not in NAMES:
        # A stranger's file must not choose which paths of this machine are read.
        raise _CannotCheckError(f"the data {name!r} are not built in; name the training data with --data")
    try:
        return load_sample(data if data is not None else str(name), Role.TRAIN, num_classes=_count_or_none(classes))
    except BitcertError as error:
        raise _CannotCheckError(f"the data: {error}") from None


def _count_or_none(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _check_sample(certificate: Certificate, sample: Sample, check: _Checker) -> None:
    if sample.content_hash != certificate.data.get("hash"):
        raise _CannotCheckError(
            f"the data given ({sample.name}) are not those of the certificate ({certificate.data.get('name')!r}): "
            "their content hashes differ; pass the original training data with --data"
        )
    check.line("data", True, f"content hash {sample.content_hash[:16]}… matches")
    described = (certificate.data.get("num_classes"), certificate.data.get("input_shape"))
    known = set(certificate.data) == DATA_KEYS and isinstance(certificate.data["name"], str)
    same = described == (sample.num_classes, list(sample.input_shape))
    check.line("data description", known and same, f"{sample.num_classes} classes, shape {list(sample.input_shape)}")
    check.line("samples", certificate.samples == len(sample), f"{certificate.samples} claimed, {len(sample)} counted")


def _numbers(value: object) -> tuple[float, ...]:
    if not isinstance(value, list) or not all(isinstance(v, int | float) and not isinstance(v, bool) for v in value):
        raise _InvalidError("helper: malformed preprocessing")
    return tuple(float(v) for v in value)


def _make_model(factory: object, model: OpaqueModel | MakeModel | None, sample: Sample) -> OpaqueModel:
    if isinstance(model, OpaqueModel):
        return model
    if model is None:
        raise _CannotCheckError(f"the network is the Python code {factory!r}; to run it, pass it with --model")
    try:
        return model(sample)
    except BitcertError as error:
        raise _CannotCheckError(f"the network: {error}") from None


def _read_predictor(
    certificate: Certificate, folder: Path, make: Callable[[object], OpaqueModel], check: _Checker
) -> Architecture | OpaqueModel | None:
    claimed = certificate.helper.get("architecture")
    if claimed is None:
        return None
    if certificate.helper.get("factory") is not None:
        predictor: Architecture | OpaqueModel = make(certificate.helper["factory"])
    else:
        text = _read(folder / "architecture.json", MAX_ARCHITECTURE_BYTES)
        try:
            predictor = Architecture.from_json(text.decode("utf-8"))
        except (DecodeError, UnicodeDecodeError) as error:
            raise _InvalidError(f"architecture.json: {error}") from None
    check.line("architecture", predictor.content_hash == claimed, "content hash against the certificate's")
    return predictor


def _read_weights(
    certificate: Certificate, folder: Path, predictor: Architecture | OpaqueModel | None, check: _Checker
) -> HelperWeights | None:
    """The public weights that the message refers to, from the file beside the certificate."""
    if "weights" not in certificate.helper:
        return None
    claimed = certificate.helper["weights"]
    if not isinstance(predictor, Architecture):
        raise _InvalidError("helper weights: without an architecture that they belong to")
    try:
        weights = HelperWeights.from_bytes(_read(folder / HELPER_FILE, MAX_HELPER_BYTES), predictor)
    except DecodeError as error:
        raise _InvalidError(f"{HELPER_FILE}: {error}") from None
    check.line("helper weights", weights.content_hash == claimed, "content hash against the certificate's")
    return weights


def _build_helper(
    certificate: Certificate,
    sample: Sample,
    predictor: Architecture | OpaqueModel | None,
    weights: HelperWeights | None,
    check: _Checker,
) -> Helper:
    described = certificate.helper
    inferred = described.get("classes_inferred") is True
    try:
        scale = _numbers([described.get("scale")])[0]
        preprocessing = Preprocessing(scale, _numbers(described.get("mean")), _numbers(described.get("std")))
        helper = Helper(tuple(sample.input_shape), sample.num_classes, preprocessing, predictor, inferred, weights)
    except InputError as error:
        raise _InvalidError(f"helper: {error}") from None
    same = {**helper.describe(), "hash": helper.content_hash} == dict(described)
    check.line("helper", same, "shape, preprocessing and hash against the certificate's")
    trusted = "the user's Python code, and " if isinstance(predictor, OpaqueModel) else ""
    if weights is not None:
        trusted += f"{sum(v.size for v in weights.values.values()):,} helper weights, and "
    detail = f"{trusted}{helper.num_constants} unusual constants; assumed fixed before the data were seen, not checked"
    check.trust("helper's origin", detail)
    return helper


def _decode(certificate: Certificate, message: bytes, helper: Helper, check: _Checker) -> Decoded:
    digest, claimed_digest = hashlib.sha256(message).hexdigest(), str(certificate.message.get("sha256"))
    detail = f"SHA-256 {claimed_digest[:16]}… claimed, {digest[:16]}… found"
    check.line("message file", claimed_digest == digest, detail)
    bits = 8 * len(message)
    check.line("message bits", certificate.message_bits == bits, f"{certificate.message_bits} claimed, {bits} counted")
    try:
        decoded = decode_message(message, helper)
    except DecodeError as error:
        raise _InvalidError(f"message: {error}") from None
    sections = certificate.sections
    check.line("sections", sections == decoded.ledger.sections, f"{len(sections)} sections sum to {bits} bits")
    check.line("description", certificate.description == decoded.description, decoded.description)
    return decoded


def _check_rule(certificate: Certificate, helper: Helper, check: _Checker) -> DecisionRule:
    ours = DecisionRule(helper.batch_size)
    expected = {"dtype": ours.dtype, "batch_size": ours.batch_size, "tolerance": ours.tolerance}
    claimed = certificate.decision_rule
    same = dict(claimed) == expected and type(claimed["batch_size"]) is int
    detail = f"{ours.dtype}, batches of {ours.batch_size}, gaps within {ours.tolerance:g} count as errors"
    check.line("decision rule", same, detail)
    return ours


def _check_counts(certificate: Certificate, low: ErrorCount, high: ErrorCount, check: _Checker) -> None:
    fits = low.errors <= certificate.errors <= high.errors
    check.line("errors", fits, f"{certificate.errors} claimed, between {low.errors} and {high.errors} counted")
    fits = low.near_ties <= certificate.near_ties <= high.near_ties
    detail = f"{certificate.near_ties} claimed, between {low.near_ties} and {high.near_ties} counted"
    check.line("near-ties", fits, detail)


def _check_bounds(certificate: Certificate, check: _Checker) -> None:
    try:
        bound = occam_bound(certificate.errors, certificate.samples, certificate.message_bits, certificate.delta)
    except InputError as error:
        raise _InvalidError(f"bound: {error}") from None
    spent_once = certificate.delta_ledger == ((PURPOSE, certificate.delta),)
    check.line("delta", spent_once, f"{certificate.delta:g} spent once")
    recomputed = {"binomial": bound.binomial, "kl_chernoff": bound.kl_chernoff, "hoeffding": bound.hoeffding}
    same = set(recomputed) == set(certificate.bounds) and all(
        _close(certificate.bounds[name], value) for name, value in recomputed.items()
    )
    check.line("bounds", same, ", ".join(f"{name} {value:.6f}" for name, value in recomputed.items()))
    check.line("bound", _close(certificate.bound, bound.binomial), f"{bound.binomial:.6f} recomputed")
    theorem = f"{CITATION_OCCAM}; {CITATION_BINOMIAL_TAIL}"
    stated = certificate.theorem == theorem and certificate.certifies == "compressed"
    check.line("theorem", stated, "Occam bound of the compressed network")


def _check_holdout(certificate: Certificate, check: _Checker) -> None:
    if certificate.holdout is None:
        return
    claimed = certificate.holdout
    texts = [isinstance(claimed.get(key), str) for key in ("name", "hash")]
    same = set(claimed) == HOLDOUT_KEYS and all(texts) and isinstance(claimed["bound"], float)
    if same:
        try:
            bound = holdout_bound(claimed["errors"], claimed["samples"], certificate.delta)
            same = _close(claimed["bound"], bound)
        except InputError:
            same = False
    check.line("hold-out line", same, "agrees with its own counts (comparison only; its data were not read)")


def _check_form(certificate: Certificate, check: _Checker) -> None:
    known = set(certificate.versions) == {"python", *VERSIONED}
    if known:
        check.trust("versions", "stated by the maker, not checked")
    else:
        check.line("versions", False, f"python and {', '.join(VERSIONED)} were expected")
    # Any other name could point out of the folder, or at a device.
    named = set(certificate.message) == MESSAGE_KEYS and certificate.message["file"] == MESSAGE_FILE
    check.line("message name", named, f"{MESSAGE_FILE} beside the certificate")


def _count(
    decoded: Decoded, sample: Sample, rule: DecisionRule, progress: Progress | None
) -> tuple[ErrorCount, ErrorCount]:
    tolerances = (0.5 * rule.tolerance, 2.0 * rule.tolerance)
    low, high = count_errors_at(decoded.classifier, sample, rule.batch_size, tolerances, progress)
    return low, high


def _count_with_users_code(
    decoded: Decoded, sample: Sample, rule: DecisionRule, progress: Progress | None
) -> tuple[ErrorCount, ErrorCount]:
    try:
        return _count(decoded, sample, rule, progress)
    except BitcertError:
        raise
    except Exception as error:  # the user's own module may raise anything
        raise _CannotCheckError(f"the network's own code failed with {type(error).__name__}: {error}") from None


def _verify(
    path: Path,
    data: Sample | str | Path | None,
    model: OpaqueModel | MakeModel | None,
    progress: Progress | None,
    check: _Checker,
) -> Certificate:
    certificate = _read_certificate(path, check)
    _check_bounds(certificate, check)
    _check_holdout(certificate, check)
    _check_form(certificate, check)
    message = _read(path.parent / MESSAGE_FILE, MAX_MESSAGE_BYTES)
    sample = _find_sample(certificate, data)
    _check_sample(certificate, sample, check)
    predictor = _read_predictor(certificate, path.parent, lambda name: _make_model(name, model, sample), check)
    weights = _read_weights(certificate, path.parent, predictor, check)
    helper = _build_helper(certificate, sample, predictor, weights, check)
    rule = _check_rule(certificate, helper, check)
    decoded = _decode(certificate, message, helper, check)
    count = _count_with_users_code if isinstance(predictor, OpaqueModel) else _count
    low, high = count(decoded, sample, rule, progress)
    _check_counts(certificate, low, high, check)
    return certificate


def verify(
    certificate: str | Path,
    data: Sample | str | Path | None = None,
    *,
    model: OpaqueModel | MakeModel | None = None,
    progress: Progress | None = None,
) -> Verification:
    """Check the certificate file against its message and the training data.

    Args:
        certificate: path of ``certificate.json``; the message (and architecture) lie beside it.
        data: the training data as a sample, name or path; found when ``None`` if the certificate gives a built-in
            name (a path in the certificate is not followed).
        model: the user's own Python network, or a function that makes it for the sample, for certificates of one
            that could not be captured.
        progress: called with the task and the fraction done.

    Returns:
        The outcome: valid, invalid (a line fails), or cannot be checked (something is missing). Never raises for
        the content of the files.
    """
    check = _Checker()
    try:
        found = _verify(Path(certificate), data, model, progress, check)
    except _CannotCheckError as missing:
        return Verification(Status.CANNOT_CHECK, tuple(check.lines), str(missing))
    except _InvalidError as failure:
        return Verification(Status.INVALID, tuple(check.lines), str(failure))
    except BitcertError as failure:
        return Verification(Status.INVALID, tuple(check.lines), str(failure))
    return Verification(Status.VALID, tuple(check.lines), "", found)
