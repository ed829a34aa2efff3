"""From a message to a certificate: what is counted, what is refused, what the file and its sentence say."""

import dataclasses
import hashlib
import json
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitcert import Certificate, Compressed, Helper, Role, Sample, certify, count_errors, decode_message
from bitcert.certificates.certificate import (
    CERTIFICATE_FILE,
    DATA_KEYS,
    HOLDOUT_KEYS,
    MAX_CERTIFICATE_BYTES,
    MESSAGE_FILE,
    MESSAGE_KEYS,
    REST_KEYS,
    TABLE_KEYS,
    VERSIONED,
    parse_strict,
)
from bitcert.certificates.certification import ARCHITECTURE_FILE, REPORT_FILE, certify_counting
from bitcert.data import Schema, Table
from bitcert.decoder import head as bank_head
from bitcert.errors import DecodeError, InputError, SampleReuseError
from bitcert.proof import holdout_bound, occam_bound
from bitcert.proof.claims import PURPOSE


@pytest.fixture
def certificate(toy, toy_compressed):
    return certify(toy_compressed, toy)


def test_numbers_are_those_of_the_decoded_message(certificate, toy, toy_compressed):
    decoded = decode_message(toy_compressed.message, toy_compressed.helper)
    count = count_errors(decoded.classifier, toy)
    bound = occam_bound(count.errors, len(toy), 8 * len(toy_compressed.message), 0.05)
    assert (certificate.errors, certificate.near_ties, certificate.samples) == (count.errors, count.near_ties, 300)
    assert certificate.bound == bound.binomial
    assert certificate.bounds == {
        "binomial": bound.binomial,
        "kl_chernoff": bound.kl_chernoff,
        "hoeffding": bound.hoeffding,
    }
    assert certificate.message_bits == 8 * len(toy_compressed.message) == sum(b for _, b in certificate.sections)
    assert certificate.message["sha256"] == hashlib.sha256(toy_compressed.message).hexdigest()
    assert certificate.data["hash"] == toy.content_hash
    assert certificate.helper["hash"] == toy_compressed.helper.content_hash
    assert sum(amount for _, amount in certificate.delta_ledger) == certificate.delta == 0.05
    assert certificate.certifies == "compressed"


def test_the_message_in_memory_is_not_believed(toy, toy_compressed):
    """Ledger and candidates of a compressor are ignored; only the bytes count."""
    lying = dataclasses.replace(toy_compressed, ledger=dataclasses.replace(toy_compressed.ledger, sections=(("x", 1),)))
    assert certify(lying, toy) == certify(toy_compressed, toy)


@pytest.mark.parametrize("delta", [0, 1, -0.1, 1.5, float("nan"), float("inf"), "0.05", None, True])
def test_delta_must_be_a_probability(toy, toy_compressed, delta):
    with pytest.raises(InputError, match="delta"):
        certify(toy_compressed, toy, delta=delta)


def test_a_smaller_delta_gives_a_larger_bound(toy, toy_compressed):
    bounds = [certify(toy_compressed, toy, delta=delta).bound for delta in (0.5, 0.05, 1e-6, 1e-300)]
    assert bounds == sorted(bounds)
    assert len(set(bounds)) == 4


@pytest.mark.parametrize(("shape", "classes"), [((3,), 2), ((2,), 3), ((1, 2), 2)])
def test_a_sample_of_another_problem_is_refused(toy_compressed, shape, classes):
    other = Sample(np.zeros((5, *shape), np.float32), np.array([0, 1, 0, 1, 1]), classes, Role.TRAIN, "other")
    with pytest.raises(InputError, match="certify on the sample"):
        certify(toy_compressed, other)


def test_a_damaged_message_is_refused(toy, toy_compressed):
    broken = dataclasses.replace(toy_compressed, message=toy_compressed.message[:-1])
    with pytest.raises(DecodeError):
        certify(broken, toy)


def held_out(toy, **changes):
    rng = np.random.default_rng(9)
    values = {"inputs": rng.normal(size=(80, 2)).astype(np.float32), "labels": np.arange(80) % 2, "num_classes": 2}
    return Sample(**{**values, **changes}, role=Role.HOLDOUT, name="held out")


def test_hold_out_line(toy, toy_compressed):
    held = held_out(toy)
    line = certify(toy_compressed, toy, holdout=held, delta=0.1).holdout
    errors = count_errors(decode_message(toy_compressed.message, toy_compressed.helper).classifier, held).errors
    assert line is not None
    assert (line["samples"], line["errors"], line["hash"]) == (80, errors, held.content_hash)
    assert line["bound"] == holdout_bound(errors, 80, 0.1)


def test_a_hold_out_may_repeat_what_the_sample_itself_repeats(toy, toy_compressed):
    """Tables do; leaving such rows out would make the hold-out one of another source."""
    twice = toy.take([*range(len(toy)), *range(len(toy))])
    held = toy.take(slice(0, 20)).with_role(Role.HOLDOUT)
    assert certify(toy_compressed, twice, holdout=held).holdout["samples"] == 20
    with pytest.raises(SampleReuseError):
        certify(toy_compressed, toy, holdout=held)


def test_hold_out_must_be_other_examples_of_the_same_problem(toy, toy_compressed):
    with pytest.raises(SampleReuseError):
        certify(toy_compressed, toy, holdout=toy.with_role(Role.HOLDOUT))
    with pytest.raises(SampleReuseError):
        certify(toy_compressed, toy, holdout=toy.take(slice(0, 100)).with_role(Role.HOLDOUT))
    with pytest.raises(InputError, match="held-out data of shape"):
        certify(toy_compressed, toy, holdout=held_out(toy, inputs=np.zeros((80, 3), np.float32)))
    with pytest.raises(InputError, match="held-out data of shape"):
        certify(toy_compressed, toy, holdout=held_out(toy, num_classes=5))


# The file


def test_the_file_is_read_back_exactly(certificate):
    text = certificate.to_json()
    again = Certificate.from_json(text)
    assert again == certificate
    assert again.to_json() == text
    assert text.isascii()


def test_the_file_has_the_promised_keys_and_one_form(certificate):
    text = certificate.to_json()
    content = json.loads(text)
    promised = {
        "bound",
        "self_contained",
        "conditions",
        "delta",
        "errors",
        "near_ties",
        "samples",
        "message_bits",
        "certifies",
        "theorem",
    }
    assert promised <= content.keys()
    assert list(content) == sorted(content)
    for other in (text.rstrip(), text + "\n", text.replace("\n", "\r\n"), json.dumps(content)):
        with pytest.raises(DecodeError):
            Certificate.from_json(other)


def reread(certificate, seal_again, tmp_path, **changes):
    """The certificate with other content under keys of its file, and a checksum that fits."""
    path = tmp_path / "certificate.json"
    path.write_text(certificate.to_json())
    seal_again(path, lambda content: content.update(changes))
    return Certificate.from_json(path.read_text())


NO_PROBABILITIES = (1, "0.5", 1.5, -0.5, None, True)
NO_COUNTS = (-1, 1.0, True, "1", None)
NO_OBJECTS = (None, [], "x", 1)
NO_TEXTS = (None, 3, ["x"])
NO_PAIRS = (None, {}, ["ab"], [["x"]], [[1, 1]], [{"x": 1, "y": 1}])
UNUSABLE = {
    **dict.fromkeys(("bound", "self_contained", "delta"), NO_PROBABILITIES),
    **dict.fromkeys(("errors", "near_ties", "rounding", "samples", "message_bits"), NO_COUNTS),
    **dict.fromkeys(("theorem", "description"), NO_TEXTS),
    **dict.fromkeys(("decision_rule", "data", "helper", "commitment"), NO_OBJECTS),
    "certifies": ("both", "", None),
    "bounds": (None, [], [["binomial", 0.5]], *({"binomial": value} for value in NO_PROBABILITIES)),
    **dict.fromkeys(("sections", "helper_sections"), (*NO_PAIRS, [["x", 1, 2]], *([["x", n]] for n in NO_COUNTS))),
    "delta_ledger": (*NO_PAIRS, [["x", 0.5, 0.5]], *([["x", value]] for value in NO_PROBABILITIES)),
    "conditions": (None, "text", {"a": "b"}, *([text] for text in NO_TEXTS)),
    **dict.fromkeys(("message", "versions"), (*NO_OBJECTS, *({"file": text, "b": "x"} for text in NO_TEXTS))),
    **dict.fromkeys(("holdout", "prior", "rest", "original"), ([], "x", 1, False)),
    "losses": (None, {}, "x", [None], [[]]),
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_a_value_of_another_kind_is_refused_by_its_name(certificate, forge, tmp_path, name):
    for value in UNUSABLE[name]:
        with pytest.raises(DecodeError, match=f"unusable values of {name};"):
            reread(certificate, forge, tmp_path, **{name: value})


def test_every_key_of_a_file_has_its_kind(certificate):
    assert set(json.loads(certificate.to_json())) - {"format", "checksum"} == set(UNUSABLE)


@pytest.mark.parametrize(
    "changes",
    [
        {"bound": 0.0, "self_contained": 1.0, "bounds": {}},
        {"errors": 0, "samples": 10**18},
        {"sections": [], "helper_sections": [["a", 0]], "delta_ledger": [["a", 0.0], ["b", 1.0]]},
        {"certifies": "original", "losses": [{}], "conditions": [], "original": {}, "message": {}},
    ],
)
def test_values_at_the_ends_are_read(certificate, forge, tmp_path, changes):
    again = reread(certificate, forge, tmp_path, **changes)
    assert json.loads(again.to_json()).items() >= changes.items()


@pytest.mark.parametrize("changes", [{"more": 1}, {"format": "bitcert-certificate-2"}, {"format": None}])
def test_another_format_or_key_is_refused(certificate, forge, tmp_path, changes):
    said = "missing or unknown keys" if "more" in changes else "no format 'bitcert-certificate-3'"
    with pytest.raises(DecodeError, match=said):
        reread(certificate, forge, tmp_path, **changes)


def test_a_missing_key_and_a_wrong_checksum_are_refused(certificate, forge, tmp_path):
    path = tmp_path / "certificate.json"
    path.write_text(certificate.to_json())
    forge(path, lambda content: content.pop("losses"))
    with pytest.raises(DecodeError, match="missing or unknown keys"):
        Certificate.from_json(path.read_text())
    with pytest.raises(DecodeError, match="checksum"):
        Certificate.from_json(certificate.to_json().replace('"errors": ', '"errors": 1'))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (" " * (1 << 20) + "1", "1048577 characters"),
        ("[" * 9 + "]" * 9, "more than 8 levels of nesting"),
        ('{"a":' * 9 + "1" + "}" * 9, "more than 8 levels of nesting"),
        ("[[" * 5, "more than 8 levels of nesting"),
        ("9" * 20, "more than 19 digits"),
        ('{"a": 1, "a": 1}', "a key given twice"),
        ("1e999", "beyond the range of a float"),
        ("NaN", "the number NaN"),
        ("-Infinity", "the number -Infinity"),
        ("[", "not JSON"),
        ("", "not JSON"),
    ],
)
def test_json_is_read_within_limits(text, said):
    with pytest.raises(DecodeError, match=said):
        parse_strict(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (" " * ((1 << 20) - 1) + "1", 1),
        ("[" * 8 + "]" * 8, [[[[[[[[]]]]]]]]),
        ("[[],[[]],{}]", [[], [[]], {}]),
        (json.dumps(['[{"\\' * 9, "]"]), ['[{"\\' * 9, "]"]),
        ("9" * 19, 10**19 - 1),
        ("1e308", 1e308),
    ],
)
def test_json_at_the_limits_is_read(text, value):
    assert parse_strict(text) == value


def test_the_size_of_a_text_is_limited(monkeypatch):
    monkeypatch.setattr(sys.modules["bitcert.certificates.certificate"], "MAX_CERTIFICATE_BYTES", 10)
    assert parse_strict(" " * 9 + "1") == 1
    with pytest.raises(DecodeError, match="11 characters"):
        parse_strict(" " * 10 + "1")


@pytest.mark.parametrize(("text", "said"), [("x" * 9, "not JSON"), ("[x" * 9, "more than 8 levels of nesting")])
def test_only_brackets_are_depth(text, said):
    with pytest.raises(DecodeError, match=said):
        parse_strict(text)


def test_what_is_no_object_is_no_certificate():
    for text in ("[1]", "7", "null", '"bitcert-certificate-3"'):
        with pytest.raises(DecodeError, match="no format 'bitcert-certificate-3'"):
            Certificate.from_json(text)


def test_a_file_is_ascii_and_has_no_number_that_json_has_not(certificate):
    assert dataclasses.replace(certificate, description="é").to_json().isascii()
    with pytest.raises(ValueError, match="nan"):
        dataclasses.replace(certificate, bound=float("nan")).to_json()


def test_the_format_is_nobodys_choice(certificate):
    with pytest.raises((ValueError, TypeError), match="format"):  # Python 3.13 raises another one
        dataclasses.replace(certificate, format="bitcert-certificate-2")
    assert "bitcert-certificate" not in repr(certificate)


def test_delta_is_a_twentieth_unless_another_one_is_asked_for(toy, toy_compressed):
    assert certify(toy_compressed, toy).delta == certify_counting(toy_compressed, toy).certificate.delta == 0.05


def test_bits_of_the_helper_are_those_of_its_sections(certificate):
    parts = dataclasses.replace(certificate, helper_sections=(("a", 3), ("b", 4)))
    assert parts.helper_bits == 7
    assert dataclasses.replace(certificate, helper_sections=()).helper_bits is None


def test_what_a_file_may_say_of_its_parts(certificate):
    """Names that other programs read: a change of one is another format."""
    content = json.loads(certificate.to_json())
    assert (set(content["data"]), set(content["message"])) == (DATA_KEYS, MESSAGE_KEYS)
    assert (content["delta_ledger"][0][0], content["message"]["file"]) == (PURPOSE, MESSAGE_FILE)
    assert {"name", "hash", "num_classes", "input_shape", "benchmark"} == DATA_KEYS
    assert {"label", "classes", "schema"} == TABLE_KEYS
    assert {"name", "hash", "samples", "errors", "bound"} == HOLDOUT_KEYS
    assert {"samples", "errors", "bound", "in_helper"} == REST_KEYS
    assert {"file", "sha256"} == MESSAGE_KEYS
    assert MAX_CERTIFICATE_BYTES == 1 << 20
    assert (CERTIFICATE_FILE, ARCHITECTURE_FILE, REPORT_FILE) == (
        "certificate.json",
        "architecture.json",
        "report.html",
    )
    assert (MESSAGE_FILE, PURPOSE) == ("message.bin", "occam bound of the compressed network")
    assert VERSIONED == ("bitcert", "torch", "numpy", "scipy", "constriction")


TEXTS = st.text(max_size=20)
COUNTS = st.integers(0, 10**18)
UNITS = st.floats(0, 1)


@given(
    floats=st.tuples(UNITS, UNITS),
    counts=st.tuples(COUNTS, COUNTS, COUNTS, COUNTS, COUNTS),
    texts=st.tuples(TEXTS, TEXTS),
    sections=st.lists(st.tuples(TEXTS, COUNTS), max_size=3),
    data=st.dictionaries(TEXTS, st.one_of(TEXTS, COUNTS, st.none(), st.lists(COUNTS, max_size=2)), max_size=3),
)
def test_any_certificate_is_read_back(floats, counts, texts, sections, data):
    names = ("errors", "near_ties", "rounding", "samples", "message_bits")
    certificate = Certificate(
        bound=floats[0],
        self_contained=floats[1],
        delta=floats[1],
        **dict(zip(names, counts, strict=True)),
        certifies="original",
        theorem=texts[0],
        bounds={"binomial": floats[0]},
        sections=tuple(sections),
        helper_sections=tuple(sections),
        delta_ledger=((texts[0], floats[1]),),
        decision_rule=data,
        data=data,
        helper=data,
        commitment=data,
        conditions=texts,
        message={texts[0]: texts[1]},
        description=texts[1],
        holdout=data,
        versions={},
    )
    assert Certificate.from_json(certificate.to_json()) == certificate


def test_brackets_in_a_text_are_not_depth(certificate):
    odd = dataclasses.replace(certificate, description="[{" * 100 + '"\\', theorem="]" * 9)
    assert Certificate.from_json(odd.to_json()) == odd


# The sentence


@pytest.mark.parametrize(
    ("bound", "said"),
    [
        (0.362, "36.2 %"),
        (0.3620000000000001, "36.3 %"),
        (0.36201, "36.3 %"),
        (0.1, "10.0 %"),
        (0.0, "0.0 %"),
        (1e-12, "0.1 %"),
        (0.999, "99.9 %"),
        (0.007, "0.7 %"),
    ],
)
def test_the_bound_is_rounded_up(certificate, bound, said):
    sentence = dataclasses.replace(certificate, bound=bound).sentence
    assert sentence == f"With 95 % confidence this classifier is wrong on at most {said} of new data like these."


@pytest.mark.parametrize("bound", [0.9991, 1.0])
def test_a_bound_that_rounds_up_to_all_is_vacuous(certificate, bound):
    expected = "With 95 % confidence nothing is certified of this classifier: the bound is vacuous (100 %)."
    assert dataclasses.replace(certificate, bound=bound).sentence == expected


@given(bound=st.floats(0, 0.999))
def test_no_bound_is_rounded_down(bound):
    certificate = _bare(bound=bound)
    said = float(certificate.sentence.split("at most ")[1].split(" %")[0]) / 100
    assert said >= bound - 1e-15
    assert said <= bound + 0.001 + 1e-9


@pytest.mark.parametrize(
    ("delta", "said"),
    [
        (0.05, "95 %"),
        (0.1, "90 %"),
        (0.025, "97.5 %"),
        (1e-9, "99.9999 %"),
        (1e-300, "99.9999 %"),
        (1 / 3, "66.6666 %"),
    ],
)
def test_the_confidence_is_rounded_down(certificate, delta, said):
    assert dataclasses.replace(certificate, delta=delta).sentence.startswith(f"With {said} confidence ")


def test_a_vacuous_bound_says_so(certificate):
    vacuous = dataclasses.replace(certificate, bound=1.0)
    assert vacuous.vacuous
    assert "nothing is certified" in vacuous.sentence
    assert "vacuous" in vacuous.sentence
    assert not certificate.vacuous


def test_whose_error_is_bounded_is_said(certificate):
    original = dataclasses.replace(certificate, certifies="original")
    assert "the original network is wrong on at most" in original.sentence


def test_a_hopeless_message_gets_a_vacuous_certificate(toy):
    helper = Helper.for_sample(toy)
    message, ledger = bank_head.write(None, np.zeros((3, 2), np.int64), helper)
    certificate = certify(Compressed(message, ledger, helper), toy)
    assert (certificate.errors, certificate.near_ties) == (300, 300)
    assert certificate.bound == 1.0
    assert certificate.vacuous


def test_the_rule_is_written_down(certificate):
    assert certificate.decision_rule == {
        "dtype": "float32",
        "batch_size": 1000,
        "tolerance": 1e-4,
        "second_dtype": "float64",
        "second_batches": "halves of the first",
        "rounding": 16.0,
    }


def _bare(**values):
    defaults = {field.name: None for field in dataclasses.fields(Certificate) if field.init}
    return Certificate(**{**defaults, "delta": 0.05, "certifies": "compressed", **values})


def test_a_hold_out_in_the_role_of_training_data_is_checked_all_the_same(toy, toy_compressed):
    """Roles are the caller's words; that the examples are those trained on shows anyway."""
    with pytest.raises(SampleReuseError, match="the same"):
        certify(toy_compressed, toy, holdout=toy.take(slice(0, len(toy)), "the same data"))


def test_a_helper_that_leaves_the_table_out_is_refused(toy, toy_compressed):
    """The schema would be a choice that nothing charges for and nobody is told of."""
    table = Table(Schema(label="y", classes=("no", "yes")), ("a", "b", "y"))
    read = dataclasses.replace(toy, table=table)
    with pytest.raises(InputError, match=r"a helper that says how .* was read from a table"):
        certify(toy_compressed, read)
    helper = dataclasses.replace(toy_compressed.helper, table=table)
    certificate = certify(dataclasses.replace(toy_compressed, helper=helper), read)
    assert certificate.data["table"] == table.describe()
    assert certificate.helper["table"] == table.schema.hash
    assert certificate.self_contained > certify(toy_compressed, toy).self_contained
    with pytest.raises(InputError, match="a helper that says"):
        certify(dataclasses.replace(toy_compressed, helper=helper), toy)
