"""Whole verifications of small certificates: what is handed on, what is run, and what is said at the end."""

import dataclasses
import importlib
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from bitcert import Helper, HelperWeights, Preprocessing, Role, Run, Sample, Status, capture, certify, verify
from bitcert.certificates import original as originals
from bitcert.certificates import statements
from bitcert.certificates.original import Counts, Original, load_test_part
from bitcert.certificates.reading import CannotCheckError, Checker, InvalidError, find_sample, read_helper
from bitcert.certificates.statements import check_commitment, check_helper_bits
from bitcert.certificates.verification import Given, check_original, check_rest
from bitcert.certificates.workload import WorkLimit
from bitcert.codecs.tuned import compress_values
from bitcert.counting import DecisionRule, ErrorCount, LossCount
from bitcert.decoder.description import SplitClaim, helper_ledger
from bitcert.decoder.helper import description_hash
from bitcert.errors import DecodeError, ModelError
from bitcert.network import OpaqueModel
from bitcert.network.nodes import ParameterSpec
from bitcert.proof import holdout_bound

verifying = importlib.import_module("bitcert.certificates.verification")

HELPER = Helper((2,), 2)
SPECS = (ParameterSpec("weight", (2, 2), "weight"), ParameterSpec("bias", (2,), "bias"))


def opaque(module=None, sources=None):
    known = {"mine": b"import torch\n"} if sources is None else sources
    return OpaqueModel(module or torch.nn.Linear(2, 2), "mine:net", SPECS, 2, (2,), sources=known)


class Picky(torch.nn.Linear):
    """Python code that refuses to run once it is told so."""

    refuses = False

    def forward(self, x):
        if Picky.refuses:
            raise RuntimeError("not today")
        return super().forward(x)


def written(folder, certificate, compressed):
    predictor = compressed.helper.predictor
    (folder / "message.bin").write_bytes(compressed.message)
    if predictor is not None and not isinstance(predictor, OpaqueModel):
        (folder / "architecture.json").write_text(predictor.to_json())
    path = folder / "certificate.json"
    path.write_text(certificate.to_json())
    return path


@pytest.fixture(scope="module")
def made(toy, toy_compressed):
    return certify(toy_compressed, toy)


def quantised(toy, predictor):
    values = {"weight": torch.tensor([[-3.0, 0.6], [3.0, 0.0]]), "bias": torch.zeros(2)}
    helper = Helper.for_sample(toy, predictor)
    return compress_values(values, toy, helper, Run(budget_seconds=0.01), fine_tune=False)


@pytest.fixture(scope="module")
def network():
    return capture(torch.nn.Linear(2, 2), torch.zeros(2, 2))


# What comes out


def test_nothing_is_said_beside_valid():
    assert verifying.Verification(Status.VALID, ()).reason == ""


def test_the_certificate_that_was_checked_is_returned(made, toy, toy_compressed, tmp_path):
    outcome = verify(written(tmp_path, made, toy_compressed), toy)
    assert (outcome.status, outcome.certificate) == (Status.VALID, made)


def test_whatever_else_the_files_make_fail_is_invalid(made, toy, toy_compressed, tmp_path, monkeypatch):
    def breaks(*_):
        raise DecodeError("a thing", "none", "look")

    monkeypatch.setattr(statements, "check_commitment", breaks)
    outcome = verify(written(tmp_path, made, toy_compressed), toy)
    assert (outcome.status, outcome.reason, outcome.certificate) == (
        Status.INVALID,
        "expected a thing, got none; look",
        None,
    )
    assert outcome.lines[0].name == "certificate file"


# The data


def test_data_that_are_named_come_before_a_built_in_name(toy, tmp_path):
    np.savez(tmp_path / "mine.npz", x=toy.inputs, y=toy.labels)
    certificate = SimpleNamespace(data={"name": "digits", "num_classes": 2})
    assert find_sample(certificate, tmp_path / "mine.npz").content_hash == toy.content_hash


def test_unlabelled_data_that_are_named_come_first(toy, network, tmp_path):
    apart = Sample(np.random.default_rng(1).normal(size=(40, 2)).astype(np.float32), None, 2, Role.UNLABELLED, "apart")
    original = Original.of(network, Preprocessing(), apart)
    np.savez(tmp_path / "mine.npz", x=apart.inputs[:7])
    for given, size in [(Given(original), 40), (Given(original, tmp_path / "mine.npz"), 7)]:
        assert len(verifying._find_unlabelled("digits (test)", toy, given)) == size


def test_without_a_path_the_built_in_name_is_loaded_and_nothing_downloaded(toy, monkeypatch):
    seen = []

    def load(source, role, **options):
        seen.append((source, options))
        return Sample(toy.inputs, None, 2, role, "toy")

    monkeypatch.setattr(originals, "load_sample", load)
    verifying._find_unlabelled("digits (test)", toy, Given(lambda *_: None))
    load_test_part("digits", Role.UNLABELLED, toy, download=True)
    options = {"split": "test", "num_classes": 2, "download": False, "progress": None, "schema": None}
    assert seen == [("digits", options), ("digits", {**options, "download": True})]


# The bounds


@pytest.mark.parametrize("name", ["binomial", "kl_chernoff", "hoeffding"])
def test_every_form_of_the_bound_is_recomputed(made, name):
    wrong = {**made.bounds, name: made.bounds[name] / 2}
    more = {**made.bounds, "another": 0.1}
    for bounds in (wrong, more):
        with pytest.raises(
            InvalidError, match=r"^bounds: binomial 0\.\d{6}, kl_chernoff 0\.\d{6}, hoeffding 0\.\d{6}$"
        ):
            statements._check_bounds(dataclasses.replace(made, bounds=bounds), Checker())


def test_how_long_the_helpers_description_is_is_told(made):
    for sections, said in [
        (made.helper_sections, f"{made.helper_bits:,}"),
        ((), "the helper's description is unknown"),
    ]:
        certificate = dataclasses.replace(made, helper_sections=sections)
        if not sections:
            certificate = dataclasses.replace(certificate, self_contained=1.0)
        check = Checker()
        statements._check_bounds(certificate, check)
        told = {line.name: line.detail for line in check.lines}["self-contained bound"]
        assert told == f"{certificate.self_contained:.6f} recomputed with the bits of the helper: {said}"


@pytest.mark.parametrize("prior", [None, {"fraction": 0.5, "seed": 3}])
@pytest.mark.parametrize("sources", [{}, {"mine": b"import torch\n"}])
def test_the_helpers_description_is_written_again(prior, sources):
    helper = Helper((2,), 2, Preprocessing(), opaque(sources=sources))
    split = None if prior is None else SplitClaim(0.5, 3)
    sections = helper_ledger(helper, split).sections if sources else ()
    bits = sum(bits for _, bits in sections)
    said = f"{bits:,} bits" if sources else "source code of the network not found"
    check = Checker()
    check_helper_bits(SimpleNamespace(prior=prior, helper_sections=sections), helper, check)
    assert check.lines[0].detail == f"{said} in {len(sections)} sections"
    with pytest.raises(InvalidError, match=r"^helper's description: "):
        check_helper_bits(SimpleNamespace(prior=prior, helper_sections=(("x", 1),)), helper, check)


# The helper and its commitment


def test_another_programs_decoder_is_told(made, toy):
    described = {**made.helper, "decoder": "0123456789abcdef" * 4}
    described["hash"] = description_hash({key: value for key, value in described.items() if key != "hash"})
    check = Checker()
    read_helper(dataclasses.replace(made, helper=described), None, toy, check, None)
    line = check.lines[-1]
    assert (line.name, line.checked) == ("decoder", False)
    ours = made.helper["decoder"][:16]
    assert line.detail == f"made with the sources 0123456789abcdef…, checked with {ours}… of this program"


def test_a_published_commitment_is_compared(made):
    check = Checker()
    own = made.commitment["hash"]
    check_commitment(made, HELPER, f" {own.upper()}\n", check)
    assert check.lines[-1].detail == f"{own} given, {own} found"
    with pytest.raises(InvalidError, match=f"^commitment published: {'ab' * 32} given, {own} found$"):
        check_commitment(made, HELPER, "ab" * 32, check)
    with pytest.raises(CannotCheckError) as stop:
        check_commitment(made, HELPER, "x" * 70, check)
    assert str(stop.value) == (
        f"a commitment of 64 hexadecimal digits was expected, got '{'x' * 64}'; pass what bitcert helper --hash printed"
    )


def test_a_commitment_to_another_programs_decoder_cannot_be_compared(made, monkeypatch):
    monkeypatch.setattr(statements, "decoder_hash", lambda: "0" * 64)
    with pytest.raises(CannotCheckError) as stop:
        check_commitment(made, HELPER, made.commitment["hash"], Checker())
    assert str(stop.value) == (
        "the commitment is to a decoder with other source code than this program's; install the version of bitcert "
        f"that made the certificate ({made.versions['bitcert']})"
    )


# What is counted


def test_code_of_the_user_that_raises_while_counting_cannot_be_checked(toy, tmp_path):
    predictor = opaque(Picky(2, 2))
    compressed = quantised(toy, predictor)
    path = written(tmp_path, certify(compressed, toy), compressed)
    assert verify(path, toy, model=predictor)
    Picky.refuses = True
    try:
        outcome = verify(path, toy, model=predictor)
    finally:
        Picky.refuses = False
    assert outcome.status is Status.CANNOT_CHECK
    assert outcome.reason.startswith("the network's own code: ")
    assert "not today" in outcome.reason


def test_counting_is_admitted_by_its_size(toy, network, tmp_path):
    compressed = quantised(toy, network.architecture)
    certificate = certify(compressed, toy)
    path = written(tmp_path, certificate, compressed)
    told = []
    assert verify(path, toy, limit=WorkLimit(announce=told.append))
    assert len(told) == 1
    assert told[0].startswith("Plan: counting 300 examples takes")
    outcome = verify(path, toy, limit=WorkLimit(most=1))
    assert outcome.status is Status.CANNOT_CHECK
    assert "--max-operations" in outcome.reason


def test_counting_the_original_is_admitted_by_its_size(toy, network):
    apart = Sample(np.random.default_rng(1).normal(size=(40, 2)).astype(np.float32), None, 2, Role.UNLABELLED, "apart")
    original = Original.of(network, Preprocessing(), apart)
    claimed = {**original.describe(), "disagreements": 0, "disagreement_bound": holdout_bound(0, 40, 0.02), "look": 1}
    arguments = (SimpleNamespace(original=claimed), original.classifier, DecisionRule(), toy)
    told = []
    assert check_original(*arguments, Given(original, limit=WorkLimit(announce=told.append)), Checker()) == ""
    assert [sentence.split(" takes ")[0] for sentence in told] == ["Plan: counting 40 examples"]
    with pytest.raises(CannotCheckError, match="--max-operations"):
        check_original(*arguments, Given(original, limit=WorkLimit(most=1)), Checker())


def test_what_the_maker_counted_is_not_counted_again(made, toy, toy_compressed, tmp_path, monkeypatch):
    path = written(tmp_path, made, toy_compressed)

    def never(*_):
        raise ModelError("no count", "one", "take those that are given")

    monkeypatch.setattr(verifying, "count_losses", never)
    lenient, own, strict = (LossCount(ErrorCount(n, 0, 300), (), True) for n in (made.errors - 2, made.errors, 300))
    for levels, status in [
        ((lenient, own, strict), Status.VALID),
        ((own, strict, lenient), Status.INVALID),
        ((strict, lenient, own), Status.INVALID),
        ((lenient, strict, own), Status.VALID),
        ((lenient, lenient, lenient), Status.INVALID),
    ]:
        outcome = verify(path, toy, counts=Counts(levels, ()))
        assert outcome.status is status, outcome.reason


def test_the_rest_needs_its_bound_and_its_count(toy):
    weights = HelperWeights(
        {"weight": np.array([[-1.0, 0.0], [1.0, 0.0]], np.float32), "bias": np.zeros(2, np.float32)}
    )
    network = capture(torch.nn.Linear(2, 2), torch.zeros(2, 2))
    helper = Helper((2,), 2, Preprocessing(), network.architecture, weights=weights)
    wrong = int(((toy.inputs[:, 0] > 0) != toy.labels).sum())
    claimed = {"samples": 300, "errors": wrong, "bound": holdout_bound(wrong, 300, 0.05), "in_helper": True}
    for bound, holds in [(claimed["bound"], True), (claimed["bound"] / 2, False)]:
        certificate = SimpleNamespace(rest={**claimed, "bound": bound}, prior={}, delta=0.05)
        check = Checker()
        if holds:
            check_rest(certificate, helper, toy, DecisionRule(), check)
        else:
            with pytest.raises(InvalidError, match=r"^hold-out on the rest: "):
                check_rest(certificate, helper, toy, DecisionRule(), check)


# Losses of the user


def test_code_of_losses_is_named_where_it_ran_and_asked_for_where_not(toy, toy_compressed, tmp_path, monkeypatch):
    (tmp_path / "own_losses.py").write_text(
        "def half(logits, labels):\n    return 0.5 * (logits.argmax(1) != labels)\n\n\n"
        "def third(logits, labels):\n    return (logits.argmax(1) != labels) / 3\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    names = ("own_losses:half", "brier", "own_losses:third")
    path = written(tmp_path, certify(toy_compressed, toy, losses=names), toy_compressed)
    for allowed in ((), names[:1], (names[0], names[2])):
        outcome = verify(path, toy, losses=allowed)
        told = [line for line in outcome.lines if line.name.endswith(", code")]
        assert [line.name for line in told] == [f"loss {name}, code" for name in allowed]
        for line in told:
            assert not line.checked
            assert line.detail == "the code that was run here; the certificate names it only"
        missing = [name for name in names if ":" in name and name not in allowed]
        if missing:
            assert outcome.status is Status.CANNOT_CHECK
            said = "; ".join(f"the loss {name} is Python code; to run it, pass --loss {name}" for name in missing)
            assert outcome.reason == f"{said}; all other lines were checked and hold"
        else:
            assert outcome.status is Status.VALID
