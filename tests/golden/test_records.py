"""The record certificates kept in ``records/``: whole, consistent and readable without the data; one verified in full.

``python benchmarks/tightness.py --verify`` verifies all of them, which takes the data and minutes.
"""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path

import pytest

import records
from bitcert import Certificate, Helper, HelperWeights, Preprocessing, Status, decode_message, verify
from bitcert.decoder.description import SplitClaim, helper_ledger
from bitcert.decoder.helper import description_hash
from bitcert.errors import BitcertError
from bitcert.network.decode import decode_architecture
from bitcert.proof import disagreement_bound, occam_bound
from bitcert.proof.claims import LOSS_UNITS, bounded_loss_bound, delta_plan, zero_one_loss_bound

RECORDS = Path(__file__).parents[2] / "records"
FOLDERS = sorted(path.parent for path in RECORDS.glob("*/certificate.json"))
KNOWN_FILES = {"message.bin", "certificate.json", "architecture.json", "helper.safetensors", "report.html"}
MOST_BYTES = 3 << 20
"""Of one record: messages are a few hundred bytes, helper networks up to about two megabytes."""


def helper_of(folder: Path, certificate: Certificate) -> Helper | None:
    """The helper string from the files; ``None`` where its weights are kept elsewhere."""
    told, predictor, weights = certificate.helper, None, None
    if told["architecture"] is not None:
        predictor = decode_architecture((folder / "architecture.json").read_text())
        assert predictor.content_hash == told["architecture"], "architecture"
    if "weights" in told:
        if not (folder / "helper.safetensors").exists():
            return None
        assert predictor is not None
        weights = HelperWeights.from_bytes((folder / "helper.safetensors").read_bytes(), predictor)
        assert weights.content_hash == told["weights"], "helper weights"
    preprocessing = Preprocessing(told["scale"], tuple(told["mean"]), tuple(told["std"]))
    shape, classes = tuple(certificate.data["input_shape"]), certificate.data["num_classes"]
    helper = Helper(shape, classes, preprocessing, predictor, told["classes_inferred"], weights)
    described = helper.describe(told["decoder"])
    assert {**described, "hash": description_hash(described)} == dict(told), "helper"
    prior = certificate.prior
    split = None if prior is None else SplitClaim(prior["fraction"], prior["seed"])
    assert certificate.helper_sections == helper_ledger(helper, split).sections, "helper's description"
    return helper


def check_bounds(certificate: Certificate) -> None:
    """All bounds from the counts, in code of the test's own."""
    names = [loss["name"] for loss in certificate.losses]
    original, samples, bits = certificate.original, certificate.samples, certificate.message_bits
    look = None if original is None else original["look"]
    parts = [entry.amount for entry in delta_plan(certificate.delta, names, look)]
    assert [amount for _, amount in certificate.delta_ledger] == parts, "delta"
    charged = sum(bits for _, bits in certificate.helper_sections)
    bounds = {"bound": (certificate.bound, bits), "self-contained": (certificate.self_contained, bits + charged)}
    for what, (stated, length) in bounds.items():
        bound = occam_bound(certificate.errors, samples, length, parts[0]).binomial
        if original is not None:
            bound = disagreement_bound(bound, original["disagreements"], original["unlabelled"]["samples"], parts[1])
        assert math.isclose(stated, bound, rel_tol=1e-12), what
    for loss, part in zip(certificate.losses, parts[len(parts) - len(names) :], strict=True):
        whole = loss["values"] == "0 or 1"
        value = (zero_one_loss_bound if whole else bounded_loss_bound)(loss["total"], samples, bits, part)
        assert math.isclose(loss["bound"], value, rel_tol=1e-12), f"loss {loss['name']}"
        assert math.isclose(loss["mean"], loss["total"] / (samples * (1 if whole else LOSS_UNITS))), loss["name"]


def check_record(folder: Path) -> None:
    """Everything that can be said of a record without its data.

    Raises:
        AssertionError: naming what is wrong.
    """
    names = {path.name for path in folder.iterdir()}
    assert {"message.bin", "certificate.json"} <= names <= KNOWN_FILES, f"files: {sorted(names)}"
    assert sum(path.stat().st_size for path in folder.iterdir()) <= MOST_BYTES, "size"
    try:
        certificate = Certificate.from_json((folder / "certificate.json").read_text())
    except BitcertError as error:
        raise AssertionError(f"certificate: {error}") from None
    message = (folder / "message.bin").read_bytes()
    assert hashlib.sha256(message).hexdigest() == certificate.message["sha256"], "message hash"
    assert certificate.message_bits == 8 * len(message), "message bits"
    assert sum(bits for _, bits in certificate.sections) == 8 * len(message), "sections"
    check_bounds(certificate)
    helper = helper_of(folder, certificate)
    if helper is not None:
        decoded = decode_message(message, helper)
        assert (decoded.ledger.sections, decoded.description) == (certificate.sections, certificate.description)


@pytest.mark.parametrize("folder", FOLDERS, ids=[folder.name for folder in FOLDERS])
def test_a_record_is_whole_and_consistent(folder: Path) -> None:
    check_record(folder)


def cheapest() -> Path | None:
    """The record with the least work for a stranger who has no networks: the embedded digits where there are any."""
    certificates = {folder: Certificate.from_json((folder / "certificate.json").read_text()) for folder in FOLDERS}
    able = {folder: c for folder, c in certificates.items() if c.original is None and "weights" not in c.helper}
    return min(
        able, key=lambda f: (able[f].data["name"] != "digits", able[f].samples, able[f].message_bits), default=None
    )


def test_the_cheapest_record_is_valid() -> None:
    folder = cheapest()
    if folder is None:
        pytest.skip("no record without networks")
    outcome = verify(folder / "certificate.json")
    if outcome.status is Status.CANNOT_CHECK:
        pytest.skip(outcome.reason)
    assert outcome.status is Status.VALID, outcome.reason


def test_the_page_of_records_has_the_table_of_the_kept_lines() -> None:
    page = (RECORDS.parent / "docs" / "records.md").read_text()
    rows = [line for line in page.splitlines() if line.startswith("|")]
    assert rows == records.markdown().splitlines()


def test_the_page_on_tightness_says_what_first_looks_would_have_given() -> None:
    """From the counts of the four records that pay for a third look, rounded up."""
    told = " ".join((RECORDS.parent / "docs" / "tightness.md").read_text().split())
    bounds = []
    for name in ("lenet5-original", "lenet5-original-prior", "resnet20-original", "resnet20-original-prior"):
        found = Certificate.from_json((RECORDS / name / "certificate.json").read_text())
        first, second = (entry.amount for entry in delta_plan(found.delta, look=1))
        occam = occam_bound(found.errors, found.samples, found.message_bits, first).binomial
        assert found.original is not None
        counts = found.original["disagreements"], found.original["unlabelled"]["samples"]
        bounds.append(f"{math.ceil(1e4 * disagreement_bound(occam, *counts, second)) / 100:.2f}")
    assert f"As first looks the two rows would have {bounds[0]} and {bounds[1]} %." in told
    assert f"as first looks they would have {bounds[2]} and {bounds[3]} %." in told


def test_the_readme_quotes_the_records() -> None:
    readme = " ".join((RECORDS.parent / "README.md").read_text().split())
    for name, what, digits in (("mnist", "images of MNIST a head of", 2), ("cifar10", "CIFAR-10 one of", 1)):
        certificate = Certificate.from_json((RECORDS / name / "certificate.json").read_text())
        bound = math.ceil(certificate.bound * 10 ** (2 + digits)) / 10**digits
        assert f"{what} {certificate.message_bits:,} bits" in readme
        assert f"at {bound} %" in readme


# The check itself: what it says of a good record, and of bad ones


@pytest.fixture
def record(digits_certificate: Path) -> Path:
    return digits_certificate.parent


def test_a_good_record_passes(record: Path) -> None:
    check_record(record)


BAD = {
    "message hash": lambda c, r: (r / "message.bin").write_bytes((r / "message.bin").read_bytes()[::-1]),
    "message bits": lambda c, r: c.update(message_bits=c["message_bits"] - 8),
    "sections": lambda c, r: c["sections"][0].__setitem__(1, 1),
    "bound": lambda c, r: c.update(errors=c["errors"] - 5),
    "self-contained": lambda c, r: c.update(self_contained=c["bound"]),
    "delta": lambda c, r: c.update(delta=0.1),
    "files": lambda c, r: (r / "notes.txt").write_text("?"),
    "helper": lambda c, r: c["helper"].update(scale=1.0),
    "helper's description": lambda c, r: c["helper_sections"][0].__setitem__(1, 0),
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_record_is_noticed(record: Path, forge, what: str) -> None:
    forge(record / "certificate.json", lambda content: BAD[what](content, record), what == "helper's description")
    with pytest.raises(AssertionError, match=f"^{what}"):
        check_record(record)


def test_a_record_with_a_changed_byte_is_noticed(record: Path) -> None:
    text = (record / "certificate.json").read_text()
    bound = json.loads(text)["bound"]
    (record / "certificate.json").write_text(text.replace(repr(bound), repr(bound / 2)))
    with pytest.raises(AssertionError, match=r"^certificate:"):
        check_record(record)
