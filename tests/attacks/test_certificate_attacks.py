"""Certificates and messages from strangers: damaged, forged or absurd ones are never valid, never raise, never hang."""

import hashlib
import json
import os
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bitcert import (
    Compressed,
    DecisionRule,
    Role,
    Sample,
    Status,
    Verification,
    certify,
    count_errors,
    decode_message,
    verify,
)
from bitcert.certificates.certificate import MAX_CERTIFICATE_BYTES
from bitcert.decoder import Helper
from bitcert.decoder import head as bank_head
from bitcert.decoder.helper import MAX_BATCH_ELEMENTS
from tests.tools.counted import at_most

FLIPS = (0x01, 0x80)
LINES = 5_000_000
"""A check of the largest certificate takes three lines a byte, any other one a hundredth of this."""

same_files = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def checked(path: Path, sample: Sample) -> Verification:
    """Verify, with what holds of every outcome."""
    with at_most(LINES):
        outcome = verify(path, sample)
    assert bool(outcome.reason) == (outcome.status is not Status.VALID)
    return outcome


def assert_refused(path: Path, sample: Sample, status: Status | None = None, reason: str = "") -> None:
    outcome = checked(path, sample)
    assert outcome.status is not Status.VALID
    assert status in (None, outcome.status), outcome.reason
    assert reason in outcome.reason


def message_of(path: Path) -> Path:
    return path.parent / "message.bin"


def put(path: Path, message: bytes, forge, restate: bool = False) -> None:
    """Replace the message, and let the certificate say so as a forger would."""
    message_of(path).write_bytes(message)
    digest = hashlib.sha256(message).hexdigest()
    said = {"message": {"file": "message.bin", "sha256": digest}, "message_bits": 8 * len(message)}
    forge(path, lambda content: content.update(said), restate)


# Every byte


def test_untouched_files_are_valid(digits_certificate, digits, toy_certificate, toy, forge):
    assert checked(digits_certificate, digits)
    assert checked(toy_certificate, toy)
    forge(toy_certificate, lambda content: None)
    assert checked(toy_certificate, toy), "the forger of these tests writes what bitcert writes"


def test_a_certificate_changed_at_any_byte_is_invalid(digits_certificate, digits):
    text = digits_certificate.read_bytes()
    for position in range(len(text)):
        for flip in FLIPS:
            changed = bytearray(text)
            changed[position] ^= flip
            digits_certificate.write_bytes(changed)
            outcome = verify(digits_certificate, digits)
            assert outcome.status is Status.INVALID, (position, flip)
            assert outcome.reason.startswith("certificate file:")


def test_a_certificate_cut_anywhere_is_invalid(digits_certificate, digits):
    text = digits_certificate.read_bytes()
    for length in range(len(text)):
        digits_certificate.write_bytes(text[:length])
        assert verify(digits_certificate, digits).status is Status.INVALID, length


def test_a_message_changed_at_any_byte_is_invalid(digits_certificate, digits):
    message = message_of(digits_certificate).read_bytes()
    for position in range(len(message)):
        for flip in FLIPS:
            changed = bytearray(message)
            changed[position] ^= flip
            message_of(digits_certificate).write_bytes(changed)
            assert_refused(digits_certificate, digits, Status.INVALID, "message file:")


def test_a_message_cut_or_extended_is_invalid_even_with_its_new_hash(digits_certificate, digits, forge):
    message = message_of(digits_certificate).read_bytes()
    for other in [message[:length] for length in range(len(message))] + [message + b"\0", message + message]:
        put(digits_certificate, other, forge, restate=True)
        assert_refused(digits_certificate, digits, Status.INVALID)


def assert_valid_only_if_true(path: Path, sample: Sample, message: bytes) -> bool:
    """A changed message may be another honest classifier; then everything said of it must be so."""
    outcome = checked(path, sample)
    if outcome.status is Status.VALID:
        decoded = decode_message(message, Helper.for_sample(sample))
        count = count_errors(decoded.classifier, sample, DecisionRule())
        assert outcome.certificate is not None
        assert outcome.certificate.errors == count.errors
        assert outcome.certificate.sections == decoded.ledger.sections
        assert outcome.certificate.message_bits == 8 * len(message) == decoded.ledger.total_bits
    return outcome.status is Status.VALID


def test_a_message_changed_at_any_byte_with_its_new_hash_is_valid_only_if_all_is_true(
    digits_certificate, digits, forge
):
    message = message_of(digits_certificate).read_bytes()
    for position in range(len(message)):
        for flip in FLIPS:
            changed = bytearray(message)
            changed[position] ^= flip
            put(digits_certificate, bytes(changed), forge)
            assert_valid_only_if_true(digits_certificate, digits, bytes(changed))


def test_every_message_of_one_or_two_bytes(toy_certificate, toy, forge):
    contents = [bytes([a]) for a in range(256)] + [bytes([a, b]) for a in range(192, 256, 3) for b in range(0, 256, 15)]
    for message in contents:
        put(toy_certificate, message, forge, restate=True)
        assert not assert_valid_only_if_true(toy_certificate, toy, message), "the sections are those of another one"


@same_files
@given(message=st.binary(max_size=200))
def test_random_messages(toy_certificate, toy, forge, message):
    put(toy_certificate, message, forge, restate=True)
    assert_valid_only_if_true(toy_certificate, toy, message)


@same_files
@given(content=st.one_of(st.binary(max_size=300), st.text(max_size=300).map(str.encode)))
def test_random_certificates(toy_certificate, toy, content):
    toy_certificate.write_bytes(content)
    assert_refused(toy_certificate, toy, Status.INVALID, "certificate file:")


@same_files
@given(data=st.data())
def test_spliced_certificates(digits_folder, toy_certificate, toy, data):
    text = (digits_folder / "certificate.json").read_text()
    start = data.draw(st.integers(0, len(text)))
    length = data.draw(st.integers(0, 30))
    insert = data.draw(st.one_of(st.text(max_size=5), st.sampled_from(["1e999", "NaN", "[[", "-0", "\\u0000"])))
    changed = text[:start] + insert + text[start + length :]
    if changed != text:
        toy_certificate.write_bytes(changed.encode())
        assert_refused(toy_certificate, toy, Status.INVALID, "certificate file:")


# Forgeries: content changed, checksum made to fit


def setter(**values):
    return lambda content: content.update(values)


def scaled(name, factor):
    return lambda content: content.update({name: content[name] * factor})


def added(name, step):
    return lambda content: content.update({name: content[name] + step})


def inside(part, **values):
    return lambda content: content[part].update(values)


def without(part, key):
    return lambda content: content[part].pop(key)


def lower_all_bounds(content):
    content["bound"] *= 0.9
    content["bounds"] = {name: 0.9 * value for name, value in content["bounds"].items()}


def swap_sections(content):
    content["sections"][0], content["sections"][1] = content["sections"][1], content["sections"][0]


def longer_header(content):
    content["sections"][0][1] += 1
    content["sections"][1][1] -= 1


HELD_OUT = {"name": "h", "hash": "0", "samples": 100, "errors": 5, "bound": 0.01}

FORGERIES = [
    ("bound lowered", added("bound", -0.01), "bounds|bound"),
    ("bound a little lowered", scaled("bound", 1 - 1e-9), "bound"),
    ("bound raised", added("bound", 0.01), "bound"),
    ("bound zero", setter(bound=0.0), "bound"),
    ("all bounds lowered", lower_all_bounds, "bounds"),
    ("forms swapped", lambda c: c["bounds"].update(hoeffding=c["bounds"]["binomial"]), "bounds"),
    ("form missing", without("bounds", "hoeffding"), "bounds"),
    ("form added", inside("bounds", magic=0.1), "bounds"),
    ("errors lowered", added("errors", -1), "bounds"),
    ("near-ties raised", added("near_ties", 1), "near-ties"),
    ("near-ties absurd", setter(near_ties=10**15), "near-ties"),
    ("bits lowered", added("message_bits", -8), "bounds"),
    ("bits zero", setter(message_bits=0), "bounds"),
    ("bits absurd", setter(message_bits=10**18), "bound"),
    ("samples raised", scaled("samples", 100), "bounds"),
    ("samples zero", setter(samples=0), "bound"),
    ("samples absurd", setter(samples=10**18), "bound"),
    ("more errors than samples", setter(errors=10**6), "bound"),
    ("delta doubled", scaled("delta", 2), "delta"),
    ("delta zero", setter(delta=0.0), "bound"),
    ("delta one", setter(delta=1.0), "bound"),
    ("delta the smallest float", setter(delta=5e-324), "bound"),
    ("delta ledger empty", setter(delta_ledger=[]), "delta"),
    ("delta ledger doubled", lambda c: c.update(delta_ledger=2 * c["delta_ledger"]), "delta"),
    ("delta ledger halved", lambda c: c["delta_ledger"][0].__setitem__(1, 0.025), "delta"),
    ("delta spent on something else", setter(delta_ledger=[["nothing", 0.05]]), "delta"),
    ("theorem changed", setter(theorem="Fermat 1637"), "theorem"),
    ("certifies the original", setter(certifies="original"), "theorem"),
    ("hold-out of no use", setter(holdout={}), "hold-out line"),
    ("hold-out bound wrong", setter(holdout=HELD_OUT), "hold-out line"),
    ("hold-out of text", setter(holdout={**HELD_OUT, "bound": "0.1"}), "hold-out line"),
    ("hold-out of lists", setter(holdout={**HELD_OUT, "errors": [1]}), "hold-out line"),
    ("hold-out of booleans", setter(holdout={**HELD_OUT, "errors": True}), "hold-out line"),
    ("hold-out negative", setter(holdout={**HELD_OUT, "errors": -1}), "hold-out line"),
    ("versions extra", inside("versions", extra="1"), "versions"),
    ("versions missing", without("versions", "torch"), "versions"),
    ("message elsewhere", inside("message", file="../message.bin"), "message name"),
    ("message absolute", inside("message", file="/etc/passwd"), "message name"),
    ("message is the folder", inside("message", file=".."), "message name"),
    ("message without a name", inside("message", file=""), "message name"),
    ("message name with a zero", inside("message", file="a\0b"), "message name"),
    ("message name not Unicode", inside("message", file="\ud800"), "message name"),
    ("message name missing", without("message", "file"), "message name"),
    ("message with more to say", inside("message", note="trust me"), "message name"),
    ("message hash of another", inside("message", sha256="0" * 64), "message file"),
    ("message hash missing", lambda c: c.update(message={"file": "message.bin", "hash": "0"}), "message name"),
    ("tolerance zero", inside("decision_rule", tolerance=0.0), "decision rule"),
    ("tolerance negative", inside("decision_rule", tolerance=-1.0), "decision rule"),
    ("tolerance huge", inside("decision_rule", tolerance=1e300), "decision rule"),
    ("batch chosen for its result", inside("decision_rule", batch_size=999), "decision rule"),
    ("batch of none", inside("decision_rule", batch_size=0), "decision rule"),
    ("batch negative", inside("decision_rule", batch_size=-5), "decision rule"),
    ("batch huge", inside("decision_rule", batch_size=10**18), "decision rule"),
    ("batch a boolean", inside("decision_rule", batch_size=True), "decision rule"),
    ("batch a list", inside("decision_rule", batch_size=[1000]), "decision rule"),
    ("batch a fraction", inside("decision_rule", batch_size=10.5), "decision rule"),
    ("another dtype", inside("decision_rule", dtype="float64"), "decision rule"),
    ("rule extra", inside("decision_rule", ties="ignored"), "decision rule"),
    ("data of another sample", inside("data", hash="0" * 64), "data"),
    ("data hash a list", inside("data", hash=[]), "data"),
    ("classes changed", inside("data", num_classes=11), "data description"),
    ("classes missing", without("data", "num_classes"), "data description"),
    ("shape changed", inside("data", input_shape=[64]), "data description"),
    ("data with more to say", inside("data", note="independent"), "data description"),
    ("data name a list", inside("data", name=["digits"]), "data description"),
    ("helper scale changed", inside("helper", scale=17.0), "helper"),
    ("helper scale zero", inside("helper", scale=0), "helper"),
    ("helper scale a list", inside("helper", scale=[[]]), "helper"),
    ("helper scale huge", inside("helper", scale=1e308), "helper"),
    ("helper means uneven", inside("helper", mean=[0.0], std=[]), "helper"),
    ("helper means many", inside("helper", mean=[0.0] * 1000, std=[1.0] * 1000), "helper"),
    ("helper std zero", inside("helper", mean=[0.0], std=[0.0]), "helper"),
    ("helper mean a text", inside("helper", mean="0.5"), "helper"),
    ("helper shape changed", inside("helper", input_shape=[1, 16, 4]), "helper"),
    ("helper classes changed", inside("helper", num_classes=11), "helper"),
    ("helper classes inferred", inside("helper", classes_inferred=True), "helper"),
    ("helper hash changed", inside("helper", hash="0"), "helper"),
    ("helper extra", inside("helper", note=1), "helper"),
    ("helper a factory", inside("helper", factory="os:getcwd"), "helper"),
    ("helper empty", setter(helper={}), "helper"),
    ("sections swapped", swap_sections, "sections"),
    ("sections shifted", longer_header, "sections"),
    ("sections empty", setter(sections=[]), "sections"),
    ("description changed", setter(description="a perfect classifier"), "description"),
    ("description huge", setter(description="x" * 500_000), "description"),
]


@pytest.mark.parametrize(("change", "line"), [entry[1:] for entry in FORGERIES], ids=[entry[0] for entry in FORGERIES])
def test_a_forged_certificate_is_refused_with_the_line_that_fails(digits_certificate, digits, forge, change, line):
    forge(digits_certificate, change)
    outcome = checked(digits_certificate, digits)
    assert outcome.status in (Status.INVALID, Status.CANNOT_CHECK)
    lines = line.split("|")
    if outcome.status is Status.CANNOT_CHECK:
        assert any(name in outcome.reason for name in lines)
    else:
        assert outcome.reason.split(":")[0] in lines


RESTATED = [
    ("errors lowered", added("errors", -1), "errors"),
    ("errors raised", added("errors", 1), "errors"),
    ("no errors", setter(errors=0), "errors"),
    ("bits lowered", added("message_bits", -8), "message bits"),
    ("bits zero", setter(message_bits=0), "message bits"),
    ("samples doubled", scaled("samples", 2), "samples"),
    ("samples absurd", setter(samples=2**53), "samples"),
    ("delta doubled", scaled("delta", 2), "delta"),
    ("delta nearly one", setter(delta=1 - 2**-53), "delta"),
]


@pytest.mark.parametrize(("change", "line"), [entry[1:] for entry in RESTATED], ids=[entry[0] for entry in RESTATED])
def test_a_forger_who_restates_the_bounds_is_caught_by_the_count(digits_certificate, digits, forge, change, line):
    forge(digits_certificate, change, restate=True)
    assert_refused(digits_certificate, digits, Status.INVALID, f"{line}: ")


def test_a_certificate_at_another_delta_is_another_honest_certificate(digits_certificate, digits, forge):
    """Doubling delta everywhere changes the claim, not its truth: the sentence then says 90 %."""

    def change(content):
        content["delta"] = 0.1
        content["delta_ledger"][0][1] = 0.1

    forge(digits_certificate, change, restate=True)
    outcome = checked(digits_certificate, digits)
    assert outcome.certificate is not None
    assert outcome.certificate.sentence.startswith("With 90 % confidence")


@same_files
@given(
    keys=st.lists(st.integers(0, 30), max_size=3),
    value=st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(10**18), 10**18),
        st.floats(allow_nan=False, allow_infinity=False),
        st.text(max_size=5),
        st.just([]),
        st.just({}),
        st.lists(st.lists(st.integers(0, 3), max_size=2), max_size=2),
    ),
)
def test_any_value_in_any_place(digits_folder, digits_compressed, toy_certificate, digits, forge, keys, value):
    """Valid, if at all, only with the numbers of the honest certificate (a name is free text, so is a version)."""
    message_of(toy_certificate).write_bytes(digits_compressed.message)
    honest = (digits_folder / "certificate.json").read_text()
    toy_certificate.write_text(honest)

    def change(content):
        place = content
        for depth, key in enumerate(keys):
            names = sorted(place) if isinstance(place, dict) else list(range(len(place)))
            if not names:
                return
            name = names[key % len(names)]
            if depth == len(keys) - 1 or not isinstance(place[name], dict | list):
                place[name] = value
                return
            place = place[name]

    forge(toy_certificate, change)
    outcome = checked(toy_certificate, digits)
    if outcome.status is Status.VALID:
        said, true = json.loads(toy_certificate.read_text()), json.loads(honest)
        free = {"versions", "data", "checksum", "holdout"}
        assert {k: said[k] for k in said.keys() - free} == {k: true[k] for k in true.keys() - free}


# Absurd files

NESTED = "[" * 100_000
HIDDEN = '{"a":"' + "]" * 50_000 + '","b":' + "[" * 990 + "]" * 990 + "}"
ABSURD = {
    "empty": b"",
    "one zero": b"\0",
    "zeros": b"\0" * 1000,
    "deep lists": NESTED.encode(),
    "deep lists, closed": (NESTED + "]" * 100_000).encode(),
    "deep objects": b'{"a":' * 100_000,
    "depth hidden behind brackets in a string": HIDDEN.encode(),
    "quotes without end": b'"\\' * 400_000,
    "one string without end": b'"' + b"x" * 900_000,
    "a million digits": b'{"errors": ' + b"9" * 1_000_000 + b"}",
    "a million digits after the point": b'{"bound": 0.' + b"9" * 1_000_000 + b"}",
    "a million digits in the exponent": b'{"bound": 1e' + b"9" * 1_000_000 + b"}",
    "NaN": b'{"format": "bitcert-certificate-1", "bound": NaN}',
    "infinity": b'{"format": "bitcert-certificate-1", "bound": -Infinity}',
    "beyond a float": b'{"format": "bitcert-certificate-1", "bound": 1e999}',
    "not ASCII": '{"format": "bitcert-certificate-1", "theorem": "é"}'.encode(),
    "UTF-16": '{"format": "bitcert-certificate-1"}'.encode("utf-16"),
    "a list": b"[1, 2]",
    "a number": b"7",
    "null": b"null",
    "a text": b'"bitcert-certificate-1"',
    "only a format": b'{"format": "bitcert-certificate-1"}',
    "many keys": json.dumps({str(i): 0 for i in range(70_000)}).encode(),
}


@pytest.mark.parametrize("content", ABSURD.values(), ids=ABSURD)
def test_absurd_certificates_are_invalid(toy_certificate, toy, content):
    toy_certificate.write_bytes(content)
    assert_refused(toy_certificate, toy, Status.INVALID, "certificate file:")


def edited(text: str, old: str, new: str) -> str:
    assert old in text
    return text.replace(old, new, 1)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"errors": ', '"errors": 0,\n "errors": '),
        (' "bound": ', '\n "bound": '),
        ('"samples": 300', '"samples": 300.0'),
        ('"samples": 300', '"samples": 3e2'),
        ('"near_ties": 0', '"near_ties": -0'),
        ('"delta": 0.05', '"delta": 0.050'),
        ('"certifies"', '"certif\\u0069es"'),
        ('"delta": 0.05', '"delta": 1e999'),
        ('"delta": 0.05', '"delta": "0.05"'),
        ('"near_ties": 0', '"near_ties": false'),
    ],
    ids=["twice", "spaced", "float", "exponent", "minus zero", "digits", "escape", "huge", "text", "boolean"],
)
def test_only_the_canonical_text_is_read(toy_certificate, toy, old, new):
    toy_certificate.write_text(edited(toy_certificate.read_text(), old, new))
    assert_refused(toy_certificate, toy, Status.INVALID, "certificate file:")


def test_a_huge_file_costs_no_memory(toy_certificate, toy):
    for path in (toy_certificate, message_of(toy_certificate)):
        kept = path.read_bytes()
        with open(path, "r+b") as file:
            file.truncate(100 << 20)
        tracemalloc.start()
        try:
            assert_refused(path.parent / "certificate.json", toy, Status.INVALID, f"{path.name}: more than")
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < (80 << 20)
        path.write_bytes(kept)


def test_the_largest_certificate_read_is_bounded(toy_certificate, toy):
    toy_certificate.write_bytes(b" " * MAX_CERTIFICATE_BYTES)
    assert_refused(toy_certificate, toy, Status.INVALID, "certificate file:")
    toy_certificate.write_bytes(b" " * (MAX_CERTIFICATE_BYTES + 1))
    assert_refused(toy_certificate, toy, Status.INVALID, "certificate.json: more than")


@pytest.mark.parametrize("name", ["certificate.json", "message.bin"])
def test_a_folder_pipe_or_nothing_in_place_of_a_file_cannot_be_checked(toy_certificate, toy, name):
    path = toy_certificate.parent / name
    path.unlink()
    assert_refused(toy_certificate, toy, Status.CANNOT_CHECK, "No such file")
    path.mkdir()
    assert_refused(toy_certificate, toy, Status.CANNOT_CHECK, "not a file")
    path.rmdir()
    os.mkfifo(path)
    assert_refused(toy_certificate, toy, Status.CANNOT_CHECK, "not a file")


def test_paths_that_cannot_exist(toy):
    for path in ("", "a\0b", "x" * 5000, "\ud800"):
        assert verify(path, toy).status is Status.CANNOT_CHECK


@pytest.mark.parametrize("name", ["/dev/zero", "/", "../data.npz", "mnits", "", "a\0b", "\ud800", "digits "])
def test_a_certificate_does_not_choose_which_files_are_read(toy_certificate, forge, monkeypatch, name):
    def never(path, *args, **kwargs):
        raise AssertionError(f"{path} was opened")

    monkeypatch.setattr("bitcert.data.load._load_path", never)
    forge(toy_certificate, inside("data", name=name))
    outcome = verify(toy_certificate)
    assert outcome.status is Status.CANNOT_CHECK
    assert "--data" in outcome.reason


def test_absurdly_many_classes_cost_bounded_memory(forge, tmp_path, monkeypatch):
    """Logits are counted in batches that fit, whatever number of classes the certificate states."""
    classes = 200_000
    inputs = np.random.default_rng(0).normal(size=(400, 2)).astype(np.float32)
    sample = Sample(inputs, (inputs[:, 0] > 0).astype(np.int64), classes, Role.TRAIN, "wide")
    helper = Helper.for_sample(sample)
    message, ledger = bank_head.write(None, np.zeros((3, classes), np.int64), helper)
    (tmp_path / "message.bin").write_bytes(message)
    few = sample.take(slice(0, 40))
    path = tmp_path / "certificate.json"
    path.write_text(certify(Compressed(message, ledger, helper), few).to_json())
    forge(path, lambda c: c["data"].update(hash=sample.content_hash))
    forge(path, lambda c: c.update(samples=400, errors=400, near_ties=400), restate=True)
    seen = []
    counted = "bitcert.certificates.screening.count_losses"
    monkeypatch.setattr(counted, lambda *args: seen.append(args[2].batch_size) or _stop())
    with pytest.raises(RuntimeError, match="counted"):
        verify(path, sample)
    assert seen[0] * classes <= MAX_BATCH_ELEMENTS


def _stop():
    raise RuntimeError("counted")
