"""Single lines of a verification: at their limits, with parts missing or of another kind, and in their words."""

import dataclasses
import hashlib
import importlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from bitcert import Helper, HelperWeights, Preprocessing, Role, Sample, Status, capture, certify, load_sample
from bitcert.certificates import statements
from bitcert.certificates.certificate import MAX_CERTIFICATE_BYTES, MESSAGE_FILE
from bitcert.certificates.original import Counts, Original, load_test_part
from bitcert.certificates.reading import (
    CannotCheckError,
    Checker,
    InvalidError,
    Line,
    check_sample,
    decode,
    find_sample,
    read_bytes,
    read_certificate,
    read_helper,
    read_message,
    read_numbers,
)
from bitcert.certificates.statements import check_commitment, check_rule, close, loss_names
from bitcert.certificates.verification import Given, check_losses, check_original, check_rest, load_losses
from bitcert.coding import MAX_MESSAGE_BYTES
from bitcert.counting import DecisionRule, Disagreement, ErrorCount, Level, LossCount
from bitcert.data import PriorSplit
from bitcert.decoder.commitment import Commitment
from bitcert.decoder.description import SplitClaim
from bitcert.decoder.helper import description_hash
from bitcert.errors import InputError
from bitcert.losses import parse_losses
from bitcert.network import OpaqueModel
from bitcert.network.nodes import ParameterSpec
from bitcert.proof import holdout_bound, occam_bound, self_contained_bound
from bitcert.proof.claims import LOSS_UNITS, delta_plan

HELPER = Helper((2,), 2)
verifying = importlib.import_module("bitcert.certificates.verification")


def found(check, *arguments):
    """The lines that a check adds, and what stopped it."""
    checker = Checker()
    try:
        check(*arguments, checker)
    except (CannotCheckError, InvalidError) as stop:
        return checker.lines, stop
    return checker.lines, None


def last(check, *arguments):
    """Whether the last line holds; ``None`` where there is none."""
    lines, _ = found(check, *arguments)
    return lines[-1].holds if lines else None


@pytest.fixture(scope="module")
def made(toy, toy_compressed):
    return certify(toy_compressed, toy)


# The counts


@pytest.mark.parametrize(
    ("errors", "near_ties", "rounding", "failing"),
    [
        (2, 1, 0, None),
        (4, 3, 3, None),
        (3, 2, 2, None),
        (1, 1, 0, "errors"),
        (5, 1, 0, "errors"),
        (2, 0, 0, "near-ties"),
        (2, 4, 0, "near-ties"),
        (2, 1, 2, "rounding"),
        (2, 3, 4, "rounding"),
    ],
)
def test_counts_lie_between_the_two_that_were_counted(errors, near_ties, rounding, failing):
    certificate = SimpleNamespace(errors=errors, near_ties=near_ties, rounding=rounding)
    low, high = ErrorCount(2, 1, 9, 7), ErrorCount(4, 3, 9, 0)
    lines, stop = found(verifying._check_counts, certificate, low, high)
    assert [line.name for line in lines if not line.holds] == ([failing] if failing else [])
    assert lines[0].detail == f"{errors} claimed, between 2 and 4 counted"
    if not failing:
        assert [line.detail for line in lines[1:]] == [
            f"{near_ties} claimed, between 1 and 3 counted",
            f"{rounding} near-ties claimed to be none in float64, 7 here",
        ]
    else:
        assert isinstance(stop, InvalidError)
        assert str(stop).startswith(f"{failing}: ")


@pytest.mark.parametrize(
    ("prior", "original", "runs"),
    [
        (None, None, 10),
        ({}, None, 20),
        (None, {"unlabelled": {"samples": 7}}, 17),
        ({}, {"unlabelled": {"samples": 7}}, 27),
    ],
)
def test_how_many_examples_the_helpers_network_is_run_on(prior, original, runs):
    assert verifying._num_runs(SimpleNamespace(prior=prior, original=original), 10) == runs


# The data


def test_a_sample_is_taken_as_it_is(toy):
    assert find_sample(SimpleNamespace(data={}), toy) is toy


@pytest.mark.parametrize(("stated", "classes"), [(10, 10), (11, 11), (True, 10), ("11", 10), (None, 10)])
def test_the_number_of_classes_is_the_stated_one_if_it_is_a_number(stated, classes):
    certificate = SimpleNamespace(data={"name": "digits", "num_classes": stated})
    for data in (None, "digits"):
        sample = find_sample(certificate, data)
        assert (sample.num_classes, sample.role, len(sample)) == (classes, Role.TRAIN, 1797)


def test_data_that_nobody_names_are_asked_for(tmp_path):
    certificate = SimpleNamespace(data={"name": "mine", "num_classes": 2})
    with pytest.raises(CannotCheckError, match=r"^the data 'mine' are not built in; name the training data with"):
        find_sample(certificate, None)
    with pytest.raises(CannotCheckError, match=r"^the data: expected"):
        find_sample(certificate, tmp_path / "gone.npz")


@pytest.mark.parametrize("key", ["name", "hash", "num_classes", "input_shape", "benchmark"])
def test_the_description_of_the_data_is_complete(made, toy, key):
    without = dataclasses.replace(made, data={k: v for k, v in made.data.items() if k != key})
    _, stop = found(check_sample, without, toy)
    if key == "hash":
        assert isinstance(stop, CannotCheckError)
    else:
        assert str(stop) == "data description: 2 classes, shape [2]"
    assert found(check_sample, made, toy)[1] is None
    told = dataclasses.replace(made, data={**made.data, "name": 3})
    assert str(found(check_sample, told, toy)[1]).startswith("data description")


@pytest.mark.parametrize("change", [{"num_classes": 3}, {"input_shape": [3]}, {"benchmark": "mnist"}])
def test_another_description_of_the_data_is_refused(made, toy, change):
    told = dataclasses.replace(made, data={**made.data, **change})
    assert str(found(check_sample, told, toy)[1]) == "data description: 2 classes, shape [2]"


def test_a_benchmark_is_described_as_one(made):
    sample = load_sample("digits", Role.TRAIN)
    facts = {"num_classes": 10, "input_shape": [1, 8, 8], "benchmark": "digits", "hash": sample.content_hash}
    told = dataclasses.replace(made, data={**made.data, **facts}, samples=len(sample))
    assert found(check_sample, told, sample)[1] is None


def test_repeated_examples_are_told_beyond_one_in_a_hundred(made):
    rng = np.random.default_rng(0)
    for repeated, share in [(2, None), (4, "1.3%"), (6, "2.0%")]:
        inputs = rng.normal(size=(300, 2)).astype(np.float32)
        inputs[:repeated] = inputs[0]
        sample = Sample(inputs, np.arange(300) // 150, 2, Role.TRAIN, "toy")
        data = {**made.data, "hash": sample.content_hash}
        lines, stop = found(check_sample, dataclasses.replace(made, data=data), sample)
        assert stop is None
        told = [line.detail for line in lines if line.name == "repeated examples"]
        assert told == (
            [f"{share} of the examples occur more than once; assumed drawn so, not copied"] if share else []
        )


def test_samples_are_the_counted_ones(made, toy):
    _, stop = found(check_sample, dataclasses.replace(made, samples=299), toy)
    assert str(stop) == "samples: 299 claimed, 300 counted"


SPLIT_KEYS = ["fraction", "seed", "samples", "hash", "rest_hash"]


def with_split(made, toy, **changes):
    split = PriorSplit.of(toy, 0.5)
    return dataclasses.replace(made, samples=150, prior={**split.describe(), **changes}), split


def test_a_split_is_made_again(made, toy):
    certificate, split = with_split(made, toy)
    lines, stop = found(check_sample, certificate, toy)
    assert stop is None
    told = {line.name: line.detail for line in lines}
    assert told["prior split"] == "150 of 300 for the helper, fraction 0.5, seed 0; made again"
    assert told["choice of the split"] == "assumed declared before the data were looked at, not checked"
    assert "prior part and rest" not in told
    assert check_sample(certificate, toy, Checker()).content_hash == split.rest.content_hash


def test_examples_on_both_sides_of_a_split_are_told(made, toy):
    inputs = toy.inputs.copy()
    inputs[:] = inputs[:3].repeat(100, 0)
    twice = Sample(inputs, np.arange(300) % 2, 2, Role.TRAIN, "toy")
    certificate, _ = with_split(made, twice)
    certificate = dataclasses.replace(certificate, data={**made.data, "hash": twice.content_hash})
    lines, stop = found(check_sample, certificate, twice)
    assert stop is None
    told = {line.name: line for line in lines}["prior part and rest"]
    assert (told.detail, told.checked) == (
        "150 examples of the rest equal one of the prior part; assumed drawn so",
        False,
    )


@pytest.mark.parametrize(
    "changes",
    [{"seed": True}, {"seed": 0.0}, {"fraction": 1}, {"fraction": "0.5"}, {"more": 1}],
)
def test_a_split_of_another_form_is_refused(made, toy, changes):
    certificate, _ = with_split(made, toy, **changes)
    assert str(found(check_sample, certificate, toy)[1]) == (
        "prior split: fraction, hash, rest_hash, samples, seed were expected"
    )


@pytest.mark.parametrize("changes", [{"samples": 149}, {"hash": "0"}, {"rest_hash": "0"}])
def test_a_split_with_other_facts_is_refused(made, toy, changes):
    certificate, _ = with_split(made, toy, **changes)
    assert str(found(check_sample, certificate, toy)[1]).startswith("prior split: 150 of 300")


def test_an_impossible_split_is_refused(made, toy):
    certificate, _ = with_split(made, toy, fraction=1.5)
    assert str(found(check_sample, certificate, toy)[1]).startswith("prior split: expected a fraction")


# Files


def test_files_are_read_up_to_their_limit(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    assert read_bytes(path, 5) == b"12345"
    with pytest.raises(InvalidError, match=r"^file: more than 4 bytes$"):
        read_bytes(path, 4)
    with pytest.raises(CannotCheckError, match=r"cannot be read \(No such file or directory\); name certificate.json"):
        read_bytes(tmp_path / "gone", 5)
    with pytest.raises(CannotCheckError, match=r"cannot be read \(.*null.*\); name certificate.json"):
        read_bytes(Path("a\0b"), 5)
    with pytest.raises(CannotCheckError, match=r"is not a file; name certificate.json, with message.bin beside it"):
        read_bytes(tmp_path, 5)


def test_a_certificate_is_read_and_told(made, tmp_path):
    path = tmp_path / "certificate.json"
    path.write_text(made.to_json())
    check = Checker()
    assert read_certificate(path, check) == made
    assert check.lines == [Line("certificate file", True, "canonical form, checksum matches")]
    for content in (b"{}", b"\xff", made.to_json().encode()[:-1]):
        path.write_bytes(content)
        with pytest.raises(InvalidError, match=r"^certificate file: "):
            read_certificate(path, check)
    assert len(check.lines) == 1
    path.write_bytes(b"PK\x03\xed")
    with pytest.raises(InvalidError, match=r"^certificate file: not the text of a certificate.json"):
        read_certificate(path, check)


def test_limits_of_the_files(tmp_path):
    assert (MAX_CERTIFICATE_BYTES, MESSAGE_FILE) == (1 << 20, "message.bin")
    with open(tmp_path / "message.bin", "wb") as file:
        file.truncate(MAX_MESSAGE_BYTES + 1)
    with pytest.raises(InvalidError, match=r"message.bin: more than"):
        read_message(tmp_path / "certificate.json")


@pytest.mark.parametrize("value", ["0.5", None, 3, {"a": 1}, ["1"], [True], [None], [[1.0]]])
def test_what_is_no_list_of_numbers(value):
    with pytest.raises(InvalidError, match=r"helper: malformed preprocessing"):
        read_numbers(value)


def test_lists_of_numbers():
    assert read_numbers([]) == ()
    assert read_numbers([1, 2.5]) == (1.0, 2.5)
    assert all(type(value) is float for value in read_numbers([1, 2]))


def test_a_line_that_fails_stops_the_check():
    check = Checker()
    check.trust("a", "b")
    check.line("c", True, "d")
    with pytest.raises(InvalidError, match=r"^e: f$"):
        check.line("e", False, "f")
    assert check.lines == [Line("a", True, "b", checked=False), Line("c", True, "d"), Line("e", False, "f")]


# The message and the helper


def test_a_message_is_compared_in_every_statement(made, toy_compressed):
    message, helper = toy_compressed.message, toy_compressed.helper
    lines, stop = found(decode, made, message, helper)
    assert stop is None
    digest = made.message["sha256"][:16]
    assert [(line.name, line.detail) for line in lines] == [
        ("message file", f"SHA-256 {digest}… claimed, {digest}… found"),
        ("message bits", "32 claimed, 32 counted"),
        ("sections", "3 sections sum to 32 bits"),
        ("description", "integer head on 2 of 2 inputs: 3 non-zero weights"),
    ]
    changes = {
        "message file": {"message": {**made.message, "sha256": "0"}},
        "message bits": {"message_bits": 16},
        "sections": {"sections": made.sections[:2]},
        "description": {"description": "another"},
    }
    for name, change in changes.items():
        assert str(found(decode, dataclasses.replace(made, **change), message, helper)[1]).startswith(f"{name}: ")


def test_bytes_that_are_no_message_are_refused(made, toy_compressed):
    message = toy_compressed.message[:-1]
    stated = {"sha256": hashlib.sha256(message).hexdigest()}
    told = dataclasses.replace(made, message={**made.message, **stated}, message_bits=8 * len(message))
    assert str(found(decode, told, message, toy_compressed.helper)[1]).startswith("message: ")


def test_classes_that_the_message_says_are_not_the_helpers(made, toy):
    inferred = Helper.for_sample(dataclasses.replace(toy, classes_inferred=True)).describe()
    assert inferred["classes_inferred"] is True
    helper, _ = helper_of(made, toy, **inferred, hash=description_hash(inferred))
    assert helper.describe() == inferred


def helper_of(made, toy, folder=Path(), model=None, **changes):
    certificate = dataclasses.replace(made, helper={**made.helper, **changes})
    checker = Checker()
    try:
        return read_helper(certificate, folder, toy, checker, model), checker.lines
    except (CannotCheckError, InvalidError) as stop:
        return stop, checker.lines


def test_a_helper_is_built_from_the_certificate(made, toy, toy_compressed):
    helper, lines = helper_of(made, toy)
    assert helper.describe() == toy_compressed.helper.describe()
    assert [(line.name, line.detail, line.checked) for line in lines] == [
        (
            "helper's origin",
            "inputs 2, 2 classes, scale 1; assumed fixed before the data were seen, not checked",
            False,
        ),
        ("helper", "shape, preprocessing and hash against the certificate's", True),
        ("decoder", f"source hash {made.helper['decoder'][:16]}… is this program's", True),
    ]


def test_the_helper_of_a_split_was_fixed_later(made, toy):
    _, lines = helper_of(dataclasses.replace(made, prior={}), toy)
    assert lines[0].detail.endswith("; assumed fixed before the rest was seen, not checked")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"scale": None}, "helper: malformed preprocessing"),
        ({"scale": -1.0}, "helper: expected a positive finite scale"),
        ({"mean": [1.0], "std": []}, "helper: expected as many channel means as stds"),
        ({"decoder": None}, "helper: no hash of the decoder"),
        ({"decoder": 3}, "helper: no hash of the decoder"),
        ({"hash": "0"}, "helper: shape, preprocessing and hash"),
        ({"classes_inferred": True}, "helper: shape, preprocessing and hash"),
        ({"message_format": 2}, "helper: shape, preprocessing and hash"),
        ({"more": None}, "helper: shape, preprocessing and hash"),
        ({"weights": "0"}, "helper weights: without an architecture that they belong to"),
    ],
)
def test_a_helper_of_another_description_is_refused(made, toy, changes, reason):
    stop, _ = helper_of(made, toy, **changes)
    assert isinstance(stop, InvalidError)
    assert str(stop).startswith(reason)


with torch.random.fork_rng():
    torch.manual_seed(5)
    NETWORK = capture(torch.nn.Linear(2, 2), torch.zeros(2, 2))
    OTHER = capture(torch.nn.Linear(2, 2, bias=False), torch.zeros(2, 2))


def network_files(folder):
    weights = HelperWeights.of(NETWORK.architecture, NETWORK.parameters)
    (folder / "architecture.json").write_text(NETWORK.architecture.to_json())
    (folder / "helper.safetensors").write_bytes(weights.to_bytes())
    helper = Helper((2,), 2, Preprocessing(), NETWORK.architecture, weights=weights)
    return {**helper.describe(), "hash": helper.content_hash}


def test_architecture_and_weights_are_read_from_their_files(made, toy, tmp_path):
    helper, lines = helper_of(made, toy, tmp_path, **network_files(tmp_path))
    assert helper.predictor == NETWORK.architecture
    assert [(line.name, line.detail) for line in lines[:2]] == [
        ("architecture", "content hash against the certificate's"),
        ("helper weights", "content hash against the certificate's"),
    ]


def test_files_of_another_network_are_refused(made, toy, tmp_path):
    described = network_files(tmp_path)
    (tmp_path / "architecture.json").write_text(OTHER.architecture.to_json())
    assert str(helper_of(made, toy, tmp_path, **described)[0]).startswith("architecture: content hash")
    (tmp_path / "architecture.json").write_bytes(b"\xff")
    assert str(helper_of(made, toy, tmp_path, **described)[0]).startswith("architecture.json: ")
    (tmp_path / "architecture.json").write_text("{}")
    assert str(helper_of(made, toy, tmp_path, **described)[0]).startswith("architecture.json: ")
    with open(tmp_path / "architecture.json", "wb") as file:
        file.truncate((1 << 22) + 1)
    assert str(helper_of(made, toy, tmp_path, **described)[0]) == "architecture.json: more than 4194304 bytes"
    network_files(tmp_path)
    (tmp_path / "helper.safetensors").write_bytes(b"nothing")
    assert str(helper_of(made, toy, tmp_path, **described)[0]).startswith("helper.safetensors: ")
    other = HelperWeights({name: np.zeros_like(value) for name, value in NETWORK.parameters.items()})
    (tmp_path / "helper.safetensors").write_bytes(other.to_bytes())
    assert str(helper_of(made, toy, tmp_path, **described)[0]).startswith("helper weights: content hash")


SPECS = (ParameterSpec("weight", (2, 2), "weight"), ParameterSpec("bias", (2,), "bias"))
OPAQUE = OpaqueModel(torch.nn.Linear(2, 2), "mine:net", SPECS, 2, (2,))


def test_python_code_is_passed_or_asked_for(made, toy):
    described = Helper((2,), 2, Preprocessing(), OPAQUE)
    facts = {**described.describe(), "hash": described.content_hash}
    stop, _ = helper_of(made, toy, **facts)
    assert isinstance(stop, CannotCheckError)
    assert str(stop) == "the network is the Python code 'mine:net'; to run it, pass it with --model"
    for model in (OPAQUE, lambda sample: OPAQUE if sample is toy else None):
        helper, _ = helper_of(made, toy, model=model, **facts)
        assert helper.predictor is OPAQUE

    def refuses(sample):
        raise InputError("a module", "none", "write one")

    stop, _ = helper_of(made, toy, model=refuses, **facts)
    assert isinstance(stop, CannotCheckError)
    assert str(stop) == "the network: expected a module, got none; write one"
    stop, _ = helper_of(made, toy, model=OPAQUE, **{**facts, "architecture": "0"})
    assert str(stop).startswith("architecture: content hash")


# The commitment


@pytest.mark.parametrize(
    "changes",
    [
        {"architectures": None},
        {"weights": "ab"},
        {"num_classes": True},
        {"num_classes": 2.0},
        {"num_classes": "2"},
        {"more": 1},
    ],
)
def test_a_commitment_of_another_form_is_refused(made, changes):
    certificate = dataclasses.replace(made, commitment={**made.commitment, **changes})
    assert str(found(check_commitment, certificate, HELPER, None)[1]) == (
        "commitment: architectures, hash, num_classes, weights were expected"
    )


@pytest.mark.parametrize(
    "changes", [{"hash": "0"}, {"num_classes": 3}, {"num_classes": None}, {"architectures": ["x"]}, {"weights": ["x"]}]
)
def test_a_commitment_to_something_else_is_refused(made, changes):
    certificate = dataclasses.replace(made, commitment={**made.commitment, **changes})
    assert "is that of a declaration" in str(found(check_commitment, certificate, HELPER, None)[1])


@pytest.mark.parametrize("published", ["", "1234", "g" * 64, "ab" * 33])
def test_what_is_no_hash_cannot_be_compared(made, published):
    stop = found(check_commitment, made, HELPER, published)[1]
    assert isinstance(stop, CannotCheckError)
    assert "64 hexadecimal digits" in str(stop)


def test_a_commitment_that_does_not_have_this_helper_in_it_is_refused(made):
    """The hash fits the declaration; the helper is another one."""
    other = Commitment.of([Helper((2,), 3)])
    stop = found(check_commitment, dataclasses.replace(made, commitment=other.describe()), HELPER, None)[1]
    assert str(stop).startswith("commitment: ")


def test_classes_that_nobody_declared_are_in_the_message_or_the_width_of_the_network(made):
    """The public network has two outputs: of three classes it says nothing."""
    weights = HelperWeights.of(NETWORK.architecture, NETWORK.parameters)
    open_problem = Helper((2,), 2, classes_inferred=True)
    for classes, inferred, holds in [(2, False, True), (3, True, True), (3, False, False)]:
        helper = Helper((2,), classes, Preprocessing(), NETWORK.architecture, inferred, weights)
        declared = Commitment.of([open_problem, helper]).describe()
        certificate = dataclasses.replace(made, helper=helper.describe(), commitment=declared)
        assert (found(check_commitment, certificate, helper, None)[1] is None) is holds


def test_a_commitment_with_a_split_is_to_that_split(made, toy, toy_compressed):
    certificate, _ = with_split(made, toy)
    own = Commitment.of([toy_compressed.helper], SplitClaim(0.5, 0))
    assert found(check_commitment, dataclasses.replace(certificate, commitment=own.describe()), HELPER, None)[1] is None
    assert found(check_commitment, certificate, HELPER, None)[1] is not None


@pytest.mark.parametrize(
    ("commitment", "choices"),
    [
        ({}, 1),
        ({"architectures": ["a", "b"], "weights": ["c", "d", "e"]}, 6),
        ({"architectures": "ab", "weights": ["c", "d"]}, 2),
        ({"architectures": ["a", "b"], "weights": None}, 2),
    ],
)
def test_how_many_helpers_share_delta(commitment, choices):
    assert statements._stated_choices(SimpleNamespace(commitment=commitment)) == choices


# Hold-out lines


HELD = {"name": "h", "hash": "0", "samples": 100, "errors": 5, "bound": holdout_bound(5, 100, 0.05)}


@pytest.mark.parametrize(
    ("changes", "holds"),
    [
        ({}, True),
        ({"name": 3}, False),
        ({"hash": None}, False),
        ({"bound": 1}, False),
        ({"bound": HELD["bound"] * (1 + 1e-11)}, False),
        ({"bound": HELD["bound"] * (1 + 1e-13)}, True),
        ({"errors": 6}, False),
        ({"errors": 101}, False),
        ({"errors": True}, False),
        ({"more": 1}, False),
    ],
)
def test_a_hold_out_line_agrees_with_its_counts(changes, holds):
    certificate = SimpleNamespace(holdout={**HELD, **changes}, delta=0.05)
    assert last(statements._check_holdout, certificate) is holds


def test_without_a_hold_out_there_is_no_line():
    assert last(statements._check_holdout, SimpleNamespace(holdout=None, delta=0.05)) is None


REST = {"samples": 150, "errors": 5, "bound": holdout_bound(5, 150, 0.05), "in_helper": False}


@pytest.mark.parametrize(
    ("changes", "holds"),
    [
        ({}, True),
        ({"errors": 6}, False),
        ({"errors": 5.0}, False),
        ({"errors": True}, False),
        ({"errors": 151}, None),
        ({"samples": 151}, False),
        ({"in_helper": True}, False),
        ({"in_helper": 0}, False),
        ({"bound": 0.5}, False),
        ({"bound": 1}, False),
        ({"more": 1}, False),
    ],
)
def test_the_line_of_the_rest(toy, toy_compressed, changes, holds):
    certificate = SimpleNamespace(rest={**REST, **changes}, prior={}, delta=0.05)
    rest = toy.take(slice(0, 150))
    lines, stop = found(check_rest, certificate, toy_compressed.helper, rest, DecisionRule())
    assert (lines[-1].holds if lines else None) is holds
    if holds:
        assert lines[0].detail == f"{REST['bound']:.6f} recomputed; comparison only; its network is not in the files"
    if holds is None:
        assert str(stop).startswith("hold-out on the rest: expected num_errors")


def test_a_rest_belongs_to_a_split(toy, toy_compressed):
    for prior, rest, said in [
        (None, None, None),
        (None, REST, "a certificate without a prior split has no rest"),
        ({}, None, "bound, errors, in_helper, samples of 150 examples expected"),
    ]:
        certificate = SimpleNamespace(rest=rest, prior=prior, delta=0.05)
        lines, _ = found(check_rest, certificate, toy_compressed.helper, toy.take(slice(0, 150)), DecisionRule())
        assert [(line.name, line.holds, line.detail) for line in lines] == (
            [] if said is None else [("hold-out on the rest", False, said)]
        )


def test_a_network_in_the_helper_is_counted_again(toy):
    weights = HelperWeights(
        {"weight": np.array([[-1.0, 0.0], [1.0, 0.0]], np.float32), "bias": np.zeros(2, np.float32)}
    )
    helper = Helper((2,), 2, Preprocessing(), NETWORK.architecture, weights=weights)
    wrong = int(((toy.inputs[:, 0] > 0) != toy.labels).sum())
    for errors in (wrong - 1, wrong, wrong + 1):
        claimed = {"samples": 300, "errors": errors, "bound": holdout_bound(errors, 300, 0.05), "in_helper": True}
        certificate = SimpleNamespace(rest=claimed, prior={}, delta=0.05)
        lines, _ = found(check_rest, certificate, helper, toy, DecisionRule())
        said = f"{errors} errors claimed, between {wrong} and {wrong} counted"
        assert (lines[0].holds, lines[0].detail.split("; ")[1]) == (errors == wrong, said)


@pytest.mark.parametrize(
    ("claimed", "holds"),
    [(0.5, True), (0.5 * (1 + 9e-13), True), (0.5 * (1 + 2e-12), False), (1, False), ("0.5", False), (None, False)],
)
def test_numbers_are_close_to_the_last_digits(claimed, holds):
    assert close(claimed, 0.5) is holds


def test_nothing_is_close_to_0_but_0():
    assert close(0.0, 0.0)
    assert not close(1e-300, 0.0)


# Form


@pytest.mark.parametrize(
    ("versions", "message", "names"),
    [
        ({}, {}, ["versions", "message name"]),
        ({"more": "1"}, {}, ["versions"]),
        ({}, {"more": "1"}, ["versions", "message name"]),
        ({}, {"file": "other.bin"}, ["versions", "message name"]),
    ],
)
def test_versions_and_the_name_of_the_message(made, versions, message, names):
    certificate = dataclasses.replace(made, versions={**made.versions, **versions}, message={**made.message, **message})
    lines, _ = found(statements._check_form, certificate)
    assert [line.name for line in lines] == names
    assert lines[0].checked is bool(versions)
    if versions:
        assert lines[0].detail == "python and bitcert, torch, numpy, scipy, constriction were expected"
    elif message:
        assert not lines[1].holds


def test_unknown_helper_bits_charge_everything(made):
    unknown = dataclasses.replace(made, helper_sections=())
    assert statements._self_contained(unknown, 0.05) == 1.0
    assert statements._self_contained(made, 0.01) == self_contained_bound(
        made.errors, made.samples, made.message_bits, made.helper_bits, 0.01
    )
    absurd = dataclasses.replace(made, helper_sections=(("x", 2**60),))
    with pytest.raises(InvalidError, match=r"^self-contained bound: expected helper_bits"):
        statements._self_contained(absurd, 0.05)


def test_a_verification_is_true_where_it_is_valid():
    assert verifying.Verification(Status.VALID, ())
    assert not verifying.Verification(Status.INVALID, ())
    assert not verifying.Verification(Status.CANNOT_CHECK, ())
    assert [int(status) for status in Status] == [0, 1, 2]


# Losses


def entry(name, total, values, delta=0.05, helper_bits=10, samples=100, bits=16, **changes):
    loss = parse_losses([name], 6)[0]
    return {
        "name": name,
        "values": values,
        "total": total,
        "mean": loss.mean(total, samples),
        "bound": loss.bound(total, samples, bits, delta),
        "self_contained": 1.0 if helper_bits is None else loss.bound(total, samples, bits + helper_bits, delta),
        **changes,
    }


def with_losses(*entries, helper_bits=10):
    ledger = (("occam", 0.05), *((each["name"], 0.05) for each in entries))
    return SimpleNamespace(
        losses=entries, delta_ledger=ledger, samples=100, message_bits=16, helper_bits=helper_bits, num_classes=6
    )


def counted(*totals):
    return LossCount(ErrorCount(0, 0, 100), totals, True)


@pytest.mark.parametrize(
    "changes",
    [
        {"name": 3},
        {"values": None},
        {"total": 1.0},
        {"total": True},
        {"mean": 1},
        {"bound": 1},
        {"self_contained": 1},
        {"more": 1},
    ],
)
def test_an_entry_of_another_form_is_refused(changes):
    with pytest.raises(
        InvalidError, match=r"^losses: entries of bound, mean, name, self_contained, total, values were expected$"
    ):
        loss_names(SimpleNamespace(losses=[{**entry("top-2", 3, "0 or 1"), **changes}]))


def test_names_of_losses():
    assert loss_names(SimpleNamespace(losses=[entry("top-2", 3, "0 or 1"), entry("brier", 3, "0 to 1")])) == (
        "top-2",
        "brier",
    )


def test_users_losses_run_only_if_they_are_allowed():
    facts = entry("brier", 3, "0 to 1")
    certificate = SimpleNamespace(losses=[{**facts, "name": "gone:loss"}, facts])
    known, left_open = load_losses(certificate, 6, ())
    assert ([loss.name for loss in known], left_open) == (["brier"], ("gone:loss",))
    with pytest.raises(CannotCheckError, match=r"^the loss gone:loss: expected a loss function gone:loss"):
        load_losses(certificate, 6, ("gone:loss",))
    with pytest.raises(InvalidError, match=r"^losses: expected"):
        load_losses(SimpleNamespace(losses=[{**facts, "name": "top-9"}]), 6, ("top-9",))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, None),
        ({"values": "0 to 1"}, "loss top-2: values 0 or 1"),
        ({"mean": 0.5}, "loss top-2, bound: "),
        ({"bound": 0.5}, "loss top-2, bound: "),
        ({"self_contained": 0.5}, "loss top-2, bound: "),
        ({"total": 6}, "loss top-2, sum: 6 claimed, between 3 and 5 counted"),
        ({"total": 2}, "loss top-2, sum: 2 claimed, between 3 and 5 counted"),
    ],
)
def test_a_loss_is_checked_in_every_number(changes, reason):
    certificate = with_losses(entry("brier", 7, "0 to 1"), {**entry("top-2", 4, "0 or 1"), **changes})
    losses = parse_losses(["brier", "top-2"], 6)
    _, stop = found(check_losses, certificate, losses, (counted(7, 3), counted(7, 5)))
    assert str(stop or "").startswith(reason or "")
    assert (stop is None) is (reason is None)


def test_the_ends_of_what_was_counted_are_inside():
    for total in (3, 5):
        certificate = with_losses(entry("top-2", total, "0 or 1"))
        assert found(check_losses, certificate, parse_losses(["top-2"], 6), (counted(3), counted(5)))[1] is None


def test_of_a_loss_that_is_not_run_the_arithmetic_is_checked():
    own = {**entry("brier", 7, "0 to 1"), "name": "mine:loss"}
    for facts, holds in [(own, True), ({**own, "values": "0 or 1"}, False), ({**own, "bound": 0.5}, False)]:
        lines, stop = found(check_losses, with_losses(facts), (), (counted(), counted()))
        assert (stop is None) is holds
        assert not any(line.name.endswith("sum") for line in lines)
    lost = {**own, "total": 101 * LOSS_UNITS}
    assert str(found(check_losses, with_losses(lost), (), (counted(), counted()))[1]).startswith(
        "loss mine:loss: expected total_units"
    )


def test_losses_of_a_helper_of_unknown_length_charge_everything():
    certificate = with_losses(entry("top-2", 4, "0 or 1", helper_bits=None), helper_bits=None)
    assert found(check_losses, certificate, parse_losses(["top-2"], 6), (counted(3), counted(5)))[1] is None


# The original network


APART = Sample(np.random.default_rng(1).normal(size=(40, 2)).astype(np.float32), None, 2, Role.UNLABELLED, "apart")
ORIGINAL = Original.of(NETWORK, Preprocessing(2.0, (0.5, 0.25), (1.0, 3.0)), APART, "mine")


def facts(disagreements=3, delta=0.02, **changes):
    bound = holdout_bound(disagreements, 40, delta)
    return {
        **ORIGINAL.describe(),
        "disagreements": disagreements,
        "disagreement_bound": bound,
        "look": 1,
        **changes,
    }


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, None),
        ({"name": 3}, "original network's description: form and hash"),
        ({"hash": "0"}, "original network's description: form and hash"),
        ({"scale": 3.0}, "original network's description: form and hash"),
        ({"more": 3}, "original network's description: form and hash"),
        ({"unlabelled": None}, "original network's description: form and hash"),
        ({"unlabelled": {"name": "a", "hash": "b"}}, "original network's description: form and hash"),
        ({"unlabelled": {"name": 3, "hash": "b", "samples": 40}}, "original network's description: form and hash"),
        ({"unlabelled": {"name": "a", "hash": 3, "samples": 40}}, "original network's description: form and hash"),
        ({"disagreements": 41}, "disagreement: expected num_errors"),
        ({"disagreements": 2}, "disagreement: "),
        ({"disagreement_bound": 0.5}, "disagreement: "),
    ],
)
def test_the_step_to_the_original_network(changes, reason):
    certificate = SimpleNamespace(original={**facts(), **changes})
    check = Checker()
    if reason is None:
        bounds = statements._check_transfer(certificate, 0.02, (0.1, 0.2), check)
        apart = holdout_bound(3, 40, 0.02)
        assert bounds == pytest.approx([0.1 + apart, 0.2 + apart], rel=1e-14)
        assert check.lines[-1].detail == f"{apart:.6f} recomputed at 0.02"
    else:
        with pytest.raises(InvalidError) as stop:
            statements._check_transfer(certificate, 0.02, (0.1, 0.2), check)
        assert str(stop.value).startswith(reason)


@pytest.mark.parametrize("look", [True, 1.0, "1", None])
def test_a_look_is_a_number(look):
    with pytest.raises(InvalidError, match=r"^original network's description: the number of the look"):
        statements._stated_look(SimpleNamespace(original={"look": look}))


def test_looks_as_stated():
    assert statements._stated_look(SimpleNamespace(original=None)) is None
    assert statements._stated_look(SimpleNamespace(original={"look": 3})) == 3


def recounted(claimed, given, toy, rule=None):
    check = Checker()
    certificate = SimpleNamespace(original=claimed)
    try:
        missing = check_original(certificate, ORIGINAL.classifier, rule or DecisionRule(), toy, given, check)
    except (CannotCheckError, InvalidError) as stop:
        return stop, check.lines
    return missing, check.lines


def test_an_original_network_that_is_not_passed_is_named(toy):
    assert recounted(None, Given(), toy) == ("", [])
    for factory, name in [(None, "mine"), ("own:net", "own:net")]:
        missing, lines = recounted(facts(factory=factory), Given(), toy)
        assert missing == (
            f"the original network ({name!r}) is not in the files; pass it with --original and --weights"
        )
        assert lines == []


def test_disagreements_are_counted_again(toy):
    """With itself a network disagrees nowhere."""
    for number, holds in [(0, True), (1, False)]:
        found_, lines = recounted(facts(number), Given(ORIGINAL), toy)
        assert lines[-1].detail == f"{number} claimed, between 0 and 0 counted on 40"
        assert lines[-1].holds is holds
        assert (found_ == "") is holds
    assert [line.name for line in lines] == [
        "unlabelled data",
        "unlabelled data apart",
        "unlabelled data's origin",
        "looks at the unlabelled data",
        "disagreements",
    ]


def test_the_makers_own_counts_are_taken(toy):
    levels = tuple(Disagreement(number, 40) for number in (2, 3, 5))
    given = Given(ORIGINAL, counts=Counts((), levels))
    for number, holds in [(1, False), (2, True), (5, True), (6, False)]:
        assert (recounted(facts(number), given, toy)[0] == "") is holds


def test_a_network_is_made_with_the_preprocessing_that_is_stated(toy):
    def make(sample, preprocessing):
        assert sample.content_hash == APART.content_hash
        assert preprocessing == Preprocessing(2.0, (0.5, 0.25), (1.0, 3.0))
        return ORIGINAL

    assert recounted(facts(0), Given(make, APART), toy)[0] == ""

    def refuses(sample, preprocessing):
        raise InputError("a module", "none", "write one")

    stop, _ = recounted(facts(0), Given(refuses, APART), toy)
    assert isinstance(stop, CannotCheckError)
    assert str(stop) == "the original network: expected a module, got none; write one"


def test_another_network_is_not_the_original(toy):
    torch.manual_seed(1)
    weights = Original.of(capture(torch.nn.Linear(2, 2), torch.zeros(2, 2)), ORIGINAL.preprocessing, APART)
    graph = Original.of(OTHER, ORIGINAL.preprocessing, APART)
    for other, what in [(weights, "weights or preprocessing"), (graph, "architecture")]:
        stop, _ = recounted(facts(0), Given(other), toy)
        assert isinstance(stop, CannotCheckError)
        assert str(stop) == (
            f"the network given is not the original of the certificate ('mine'): its {what} differ; pass the same one "
            "with --original and --weights"
        )


def test_unlabelled_data_are_those_that_are_named(toy):
    fewer = APART.take(slice(0, 39), "apart")
    stop, _ = recounted(facts(0), Given(ORIGINAL, fewer), toy)
    assert isinstance(stop, CannotCheckError)
    assert str(stop) == (
        "the unlabelled data given (apart) are not those of the certificate ('apart'): their content hashes differ; "
        "pass them with --unlabelled"
    )
    claimed = facts(0)
    claimed["unlabelled"] = {**claimed["unlabelled"], "samples": 39}
    assert str(recounted(claimed, Given(ORIGINAL), toy)[0]) == "unlabelled data: 39 claimed, 40 found, hash matches"
    reused = dataclasses.replace(ORIGINAL, unlabelled=Sample(toy.inputs[:5], None, 2, Role.UNLABELLED, "reused"))
    claimed = {**facts(0), "unlabelled": {"name": "r", "hash": reused.unlabelled.content_hash, "samples": 5}}
    stop, _ = recounted(claimed, Given(reused), toy)
    assert isinstance(stop, InvalidError)
    assert str(stop).startswith("unlabelled data: ")


def test_unlabelled_data_are_found_by_a_built_in_name_only(toy, tmp_path):
    claimed = facts(0)
    stop, _ = recounted(claimed, Given(lambda sample, how: ORIGINAL), toy)
    assert isinstance(stop, CannotCheckError)
    assert str(stop) == "the unlabelled data 'apart' are not built in; name them with --unlabelled"
    stop, _ = recounted(claimed, Given(lambda sample, how: ORIGINAL, tmp_path / "gone.npz"), toy)
    assert isinstance(stop, CannotCheckError)
    assert str(stop).startswith("the unlabelled data: expected")
    claimed["unlabelled"] = {**claimed["unlabelled"], "name": "digits (test)"}
    stop, _ = recounted(claimed, Given(lambda sample, how: ORIGINAL), toy)
    assert "the unlabelled data given (digits" in str(stop) or str(stop).startswith("the unlabelled data: ")


def test_labels_of_unlabelled_data_are_dropped(tmp_path):
    np.savez(tmp_path / "mine.npz", x=APART.inputs, y=np.arange(40) % 2)
    sample = load_test_part(tmp_path / "mine.npz", Role.UNLABELLED, APART)
    assert (sample.role, sample.has_labels, sample.num_classes) == (Role.UNLABELLED, False, 2)
    assert sample.content_hash == APART.content_hash


def test_batches_fit_the_original_network_too(toy, monkeypatch):
    seen = []
    real = verifying.count_disagreements

    def watched(*arguments):
        seen.append((arguments[3].batch_size, arguments[4]))
        return real(*arguments)

    monkeypatch.setattr(verifying, "count_disagreements", watched)
    monkeypatch.setattr(Original, "batch_size", 7)
    recounted(facts(0), Given(ORIGINAL), toy)
    recounted(facts(0), Given(ORIGINAL), toy, DecisionRule(5))
    assert seen == [(7, (Level.LENIENT, Level.STRICT)), (5, (Level.LENIENT, Level.STRICT))]


def test_a_network_that_cannot_be_counted_cannot_be_checked(toy, monkeypatch):
    monkeypatch.setattr(Original, "classifier", property(lambda self: lambda inputs: torch.zeros(len(inputs), 5)))
    stop, _ = recounted(facts(0), Given(ORIGINAL), toy)
    assert isinstance(stop, CannotCheckError)
    assert str(stop).startswith("the original network: expected 2 logits")


# The division of delta


def test_delta_is_spent_as_it_is_divided(made):
    plan = delta_plan(0.05)
    assert made.delta_ledger == tuple((entry_.name, entry_.amount) for entry_ in plan)
    check = Checker()
    bound, parts = statements._check_delta(made, check)
    assert (bound, parts) == (occam_bound(made.errors, made.samples, made.message_bits, 0.05), (0.05,))
    with pytest.raises(InvalidError, match=r"^bound: expected num_errors"):
        statements._check_delta(dataclasses.replace(made, errors=301), check)
    with pytest.raises(InvalidError, match=r"^delta: 0.05 spent once"):
        statements._check_delta(dataclasses.replace(made, delta_ledger=()), check)


@pytest.mark.parametrize(
    ("predictor", "double", "holds"),
    [(None, True, True), (None, False, False), (OPAQUE, True, True), (OPAQUE, False, True)],
)
def test_only_code_outside_the_program_may_be_without_float64(predictor, double, holds):
    helper = Helper((2,), 2, Preprocessing(), predictor)
    rule = DecisionRule(helper.batch_size)
    certificate = SimpleNamespace(decision_rule=rule.describe(double))
    assert last(check_rule, certificate, helper) is holds
    odd = SimpleNamespace(decision_rule={**rule.describe(True), "batch_size": float(rule.batch_size)})
    assert last(check_rule, odd, helper) is False


@pytest.mark.parametrize(
    "claimed", [[-8, -8], [-64], [0], [], ["64"], ["x", 64], [True, 64], [64.0], None, "64", [8, 9], [4, 16]]
)
def test_a_shape_that_is_none_of_these_data_changes_nothing(tmp_path, claimed):
    """A file may say anything; what the data cannot have is found by the check of the sample, not here."""
    x = np.random.default_rng(0).normal(size=(6, 8, 8)).astype(np.float32)
    np.savez(tmp_path / "a.npz", x=x, y=np.arange(6) % 2)
    certificate = SimpleNamespace(data={"name": "a.npz", "num_classes": 2, "input_shape": claimed})
    kept = find_sample(certificate, tmp_path / "a.npz")
    assert kept.input_shape == (1, 8, 8)
    certificate.data["input_shape"] = [8, 8]
    assert find_sample(certificate, tmp_path / "a.npz").input_shape == (8, 8)
