"""From the files of a certificate to the classifier they describe, believing nothing: what verification starts with.

Each statement that is looked at becomes a line of a :class:`Checker`; the first that is false stops the reading. What
no file can show, and this does not check: that the architecture and the preprocessing were fixed before the sample was
seen. The counts and the bound of the certificate are not looked at here; :mod:`bitcert.certificates.verification`
recomputes them.
"""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

from bitcert.canonical import same_json
from bitcert.certificates.certificate import DATA_KEYS, MAX_CERTIFICATE_BYTES, MESSAGE_FILE, TABLE_KEYS, Certificate
from bitcert.coding import MAX_MESSAGE_BYTES
from bitcert.data import (
    NAMES,
    PriorSplit,
    Role,
    Sample,
    Schema,
    benchmark_name,
    count_shared_examples,
    load_sample,
    load_schema,
    shaped_like,
)
from bitcert.data.apart import repeated_fraction
from bitcert.data.schema_file import SchemaSource
from bitcert.data.split import PRIOR_KEYS
from bitcert.decoder import Decoded, Helper, HelperWeights, Preprocessing, decode_message
from bitcert.decoder.description import helper_contents
from bitcert.decoder.helper import description_hash
from bitcert.decoder.program import decoder_hash
from bitcert.decoder.weights import HELPER_FILE, MAX_HELPER_BYTES
from bitcert.errors import BitcertError, DecodeError, InputError
from bitcert.network import Architecture, OpaqueModel
from bitcert.network.decode import decode_architecture

MAX_ARCHITECTURE_BYTES = 1 << 22
MANY_REPEATED = 0.01
"""Fraction of repeated examples from which on the reader is told: copies make a sample larger than it is."""

MakeModel = Callable[[Sample], OpaqueModel]
"""Builds the user's own Python network for a sample; called only for a certificate that needs it."""


@dataclass(frozen=True)
class Line:
    """One statement of the certificate and whether it holds; ``checked`` is false where it is taken on trust."""

    name: str
    holds: bool
    detail: str
    checked: bool = True


class CannotCheckError(Exception):
    """Something needed for checking is missing."""


class InvalidError(Exception):
    """A line failed; the rest need not be computed."""


class Checker:
    """Collects lines and stops at the first that fails."""

    def __init__(self) -> None:
        self.lines: list[Line] = []

    def trust(self, name: str, detail: str) -> None:
        """A statement that no file can show."""
        self.lines.append(Line(name, True, detail, checked=False))

    def line(self, name: str, holds: bool, detail: str) -> None:
        """A statement that was checked.

        Raises:
            InvalidError: it does not hold.
        """
        self.lines.append(Line(name, holds, detail))
        if not holds:
            raise InvalidError(f"{name}: {detail}")


def has_form(entry: object, keys: Collection[str], **kinds: type) -> TypeGuard[Mapping[str, Any]]:
    """Whether an entry of a file has exactly these keys, and the values just these types (a bool is no int)."""
    if not isinstance(entry, Mapping) or set(entry) != set(keys):
        return False
    return all(type(entry[key]) is kind for key, kind in kinds.items())


def read_bytes(path: Path, limit: int) -> bytes:
    """A file of at most ``limit`` bytes.

    Raises:
        CannotCheckError: it cannot be read.
        InvalidError: it is longer.
    """
    try:
        # A pipe or a device in place of the file would be waited for.
        if not stat.S_ISREG(path.stat().st_mode):
            raise CannotCheckError(f"{path} is not a file; name certificate.json, with message.bin beside it")
        with open(path, "rb") as file:
            content = file.read(limit + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise CannotCheckError(
            f"{path} cannot be read ({reason}); name certificate.json, with message.bin beside it"
        ) from None
    if len(content) > limit:
        raise InvalidError(f"{path.name}: more than {limit} bytes")
    return content


def read_certificate(path: Path, check: Checker) -> Certificate:
    """The certificate in a file."""
    raw = read_bytes(path, MAX_CERTIFICATE_BYTES)
    try:
        certificate = Certificate.from_json(raw.decode("ascii"))
    except UnicodeDecodeError:
        raise InvalidError("certificate file: not the text of a certificate.json written by bitcert") from None
    except DecodeError as error:
        raise InvalidError(f"certificate file: {error}") from None
    check.line("certificate file", True, "canonical form, checksum matches")
    return certificate


def read_message(path: Path) -> bytes:
    """The message beside the certificate at ``path``."""
    return read_bytes(path.parent / MESSAGE_FILE, MAX_MESSAGE_BYTES)


def find_sample(
    certificate: Certificate, data: Sample | str | Path | None, schema: SchemaSource = None, label: str | None = None
) -> Sample:
    """The training data that were passed, or those of the built-in name that the certificate gives."""
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


def check_sample(certificate: Certificate, sample: Sample, check: Checker) -> Sample:
    """Whether the certificate is one of this sample; returns the part of it that errors are counted on."""
    if sample.content_hash != certificate.data.get("hash"):
        raise CannotCheckError(
            f"the data given ({sample.name}) are not those of the certificate ({certificate.data.get('name')!r}): "
            "their content hashes differ; pass the original training data with --data"
        )
    check.line("data", True, f"content hash {sample.content_hash[:16]}… matches")
    described = [certificate.data.get(key) for key in ("num_classes", "input_shape", "benchmark", "table")]
    keys = DATA_KEYS if sample.table is None else DATA_KEYS | {"table"}
    if (sample.table is None) is not (certificate.data.get("table") is None):
        stated = "numbers of no table" if sample.table is not None else "a table"
        raise CannotCheckError(f"the data of the certificate are {stated}; pass its file with --data")
    known = set(certificate.data) == keys and isinstance(certificate.data["name"], str)
    table = None if sample.table is None else sample.table.describe()
    if table is not None and isinstance(described[-1], Mapping) and "columns" not in described[-1]:
        table.pop("columns", None)  # certificates of earlier versions do not name them
    fits = same_json(described, [sample.num_classes, list(sample.input_shape), benchmark_name(sample), table])
    check.line("data description", known and fits, f"{sample.num_classes} classes, shape {list(sample.input_shape)}")
    repeated = repeated_fraction(sample)
    if repeated > MANY_REPEATED:
        detail = f"{repeated:.1%} of the examples occur more than once; assumed drawn so, not copied"
        check.trust("repeated examples", detail)
    counted = _divide(certificate, sample, check)
    detail = f"{certificate.samples} claimed, {len(counted)} counted"
    check.line("samples", certificate.samples == len(counted), detail)
    return counted


def table_schema(certificate: Certificate, given: SchemaSource, label: str | None) -> Schema | None:
    """What the training data's table is read with: the certificate's label and class names, and the schema given.

    Raises:
        CannotCheckError: the schema given is not the certificate's.
        InvalidError: what the certificate says of its table has another form.
    """
    claimed = certificate.data.get("table")
    try:
        if claimed is None:
            return None if given is None and label is None else load_schema(given).having(label)
        stated = _stated_schema(claimed)
        found = load_schema(given).having(label)
        # what the file leaves out may have been said beside it
        found = found.having(stated.label if found.label is None else None, () if found.classes else stated.classes)
    except InputError as error:
        raise CannotCheckError(f"the schema: {error}") from None
    digest = found.hash if found.columns else None
    if digest != claimed["schema"] or found.classes != stated.classes or found.label != stated.label:
        names = [
            f"that of SHA-256 {each[:16]}…" if each is not None else "none" for each in (claimed["schema"], digest)
        ]
        if names[0] == names[1]:
            names = ["the certificate's label and classes", "others"]
        raise CannotCheckError(
            f"expected the schema that the data were certified with ({names[0]}), got {names[1]}; pass the same one "
            "with --schema"
        )
    return found


def _stated_schema(claimed: Any) -> Schema:
    named = {"columns": list} if isinstance(claimed, Mapping) and "columns" in claimed else {}
    usable = has_form(claimed, TABLE_KEYS | set(named), label=str, **named)
    usable = usable and isinstance(claimed["schema"], str | None)
    classes = claimed["classes"] if usable else None
    if not usable or not (classes is None or (isinstance(classes, list) and all(isinstance(c, str) for c in classes))):
        raise InvalidError(f"data description: {', '.join(sorted(TABLE_KEYS))} of its table were expected")
    try:
        return Schema((), claimed["label"], tuple(classes or ()))
    except InputError as error:
        raise InvalidError(f"data description: {error}") from None


def _divide(certificate: Certificate, sample: Sample, check: Checker) -> Sample:
    """The rest of the declared split, made again; the whole sample without one."""
    claimed = certificate.prior
    if claimed is None:
        return sample
    if not has_form(claimed, PRIOR_KEYS, seed=int, fraction=float):
        check.line("prior split", False, f"{', '.join(sorted(PRIOR_KEYS))} were expected")
    try:
        split = PriorSplit.of(sample, claimed["fraction"], claimed["seed"])
    except InputError as error:
        raise InvalidError(f"prior split: {error}") from None
    fraction, seed = split.fraction, split.seed
    detail = f"{len(split.prior)} of {len(sample)} for the helper, fraction {fraction:g}, seed {seed}; made again"
    check.line("prior split", same_json(claimed, split.describe()), detail)
    odd = "" if seed == 0 else f", and the seed is {seed}, not 0"
    detail = f"assumed declared before the data were looked at, not checked{odd}"
    check.trust("choice of the split", detail)
    if shared := count_shared_examples(split.rest, split.prior):
        check.trust(
            "prior part and rest", f"{shared:,} examples of the rest equal one of the prior part; assumed drawn so"
        )
    return split.rest


def read_helper(
    certificate: Certificate,
    folder: Path,
    sample: Sample,
    check: Checker,
    model: OpaqueModel | MakeModel | None = None,
) -> Helper:
    """The helper string, from the certificate and the files beside it."""
    predictor = _read_predictor(certificate, folder, lambda name: _make_model(name, model, sample), check)
    weights = _read_weights(certificate, folder, predictor, check)
    return _build_helper(certificate, sample, predictor, weights, check)


def decode(certificate: Certificate, message: bytes, helper: Helper, check: Checker) -> Decoded:
    """The classifier that the message is."""
    digest, claimed_digest = hashlib.sha256(message).hexdigest(), str(certificate.message.get("sha256"))
    detail = f"SHA-256 {claimed_digest[:16]}… claimed, {digest[:16]}… found"
    check.line("message file", claimed_digest == digest, detail)
    bits = 8 * len(message)
    check.line("message bits", certificate.message_bits == bits, f"{certificate.message_bits} claimed, {bits} counted")
    try:
        decoded = decode_message(message, helper)
    except DecodeError as error:
        raise InvalidError(f"message: {error}") from None
    sections = certificate.sections
    check.line("sections", sections == decoded.ledger.sections, f"{len(sections)} sections sum to {bits} bits")
    check.line("description", certificate.description == decoded.description, decoded.description)
    return decoded


def read_numbers(value: object) -> tuple[float, ...]:
    """A list of a stranger's file as numbers.

    Raises:
        InvalidError: it is none.
    """
    if not isinstance(value, list) or not all(isinstance(v, int | float) and not isinstance(v, bool) for v in value):
        raise InvalidError("helper: malformed preprocessing")
    return tuple(float(v) for v in value)


def read_preprocessing(described: Mapping[str, object]) -> Preprocessing:
    """The preprocessing in the description of a network or a helper.

    Raises:
        InvalidError: its numbers are none.
        InputError: they are no preprocessing.
    """
    scale = read_numbers([described.get("scale")])[0]
    return Preprocessing(scale, read_numbers(described.get("mean")), read_numbers(described.get("std")))


def _make_model(factory: object, model: OpaqueModel | MakeModel | None, sample: Sample) -> OpaqueModel:
    if isinstance(model, OpaqueModel):
        return model
    if model is None:
        raise CannotCheckError(f"the network is the Python code {factory!r}; to run it, pass it with --model")
    try:
        return model(sample)
    except BitcertError as error:
        raise CannotCheckError(f"the network: {error}") from None


def _read_predictor(
    certificate: Certificate, folder: Path, make: Callable[[object], OpaqueModel], check: Checker
) -> Architecture | OpaqueModel | None:
    claimed = certificate.helper.get("architecture")
    if claimed is None:
        return None
    if certificate.helper.get("factory") is not None:
        predictor: Architecture | OpaqueModel = make(certificate.helper["factory"])
    else:
        text = read_bytes(folder / "architecture.json", MAX_ARCHITECTURE_BYTES)
        try:
            predictor = decode_architecture(text.decode("utf-8"))
        except (DecodeError, UnicodeDecodeError) as error:
            raise InvalidError(f"architecture.json: {error}") from None
    check.line("architecture", predictor.content_hash == claimed, "content hash against the certificate's")
    return predictor


def _read_weights(
    certificate: Certificate, folder: Path, predictor: Architecture | OpaqueModel | None, check: Checker
) -> HelperWeights | None:
    """The public weights that the message refers to, from the file beside the certificate."""
    if "weights" not in certificate.helper:
        return None
    claimed = certificate.helper["weights"]
    if not isinstance(predictor, Architecture):
        raise InvalidError("helper weights: without an architecture that they belong to")
    try:
        weights = HelperWeights.from_bytes(read_bytes(folder / HELPER_FILE, MAX_HELPER_BYTES), predictor)
    except DecodeError as error:
        raise InvalidError(f"{HELPER_FILE}: {error}") from None
    check.line("helper weights", weights.content_hash == claimed, "content hash against the certificate's")
    return weights


def _build_helper(
    certificate: Certificate,
    sample: Sample,
    predictor: Architecture | OpaqueModel | None,
    weights: HelperWeights | None,
    check: Checker,
) -> Helper:
    described = certificate.helper
    inferred = described.get("classes_inferred") is True
    try:
        problem = tuple(sample.input_shape), sample.num_classes
        helper = Helper(*problem, read_preprocessing(described), predictor, inferred, weights, sample.table)
    except InputError as error:
        raise InvalidError(f"helper: {error}") from None
    seen = "before the data were seen" if certificate.prior is None else "before the rest was seen"
    check.trust("helper's origin", f"{helper_contents(helper)}; assumed fixed {seen}, not checked")
    decoder = described.get("decoder")
    if not isinstance(decoder, str):
        raise InvalidError("helper: no hash of the decoder")
    found = helper.describe(decoder)
    fits = same_json({**found, "hash": description_hash(found)}, described)
    check.line("helper", fits, "shape, preprocessing and hash against the certificate's")
    if decoder == decoder_hash():
        check.line("decoder", True, f"source hash {decoder[:16]}… is this program's")
    else:
        detail = f"made with the sources {decoder[:16]}…, checked with {decoder_hash()[:16]}… of this program"
        check.trust("decoder", detail)
    return helper
