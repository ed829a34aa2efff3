"""Certificates with a prior split, further losses or the original network: made, counted again, and refused."""

import dataclasses
import hashlib
import json
import platform
from importlib.metadata import version

import numpy as np
import pytest
import torch
from scipy.stats import beta

from bitcert import (
    Certificate,
    Compressed,
    Helper,
    HelperWeights,
    Preprocessing,
    Role,
    Run,
    Sample,
    Status,
    capture,
    certify,
    count_errors,
    decode_message,
    verify,
)
from bitcert.certificates import certification
from bitcert.certificates.certification import Declaration, certify_counting, describe_sample
from bitcert.certificates.original import Original, pair_hash
from bitcert.codecs.tuned import compress_values
from bitcert.data import PriorSplit
from bitcert.decoder import abstaining
from bitcert.decoder import head as bank_head
from bitcert.decoder.commitment import Commitment
from bitcert.decoder.description import SplitClaim, helper_ledger
from bitcert.errors import InputError, SampleReuseError
from bitcert.network import capture_opaque
from bitcert.proof import disagreement_bound, holdout_bound, occam_bound


@pytest.fixture(scope="module")
def whole():
    rng = np.random.default_rng(3)
    inputs = rng.normal(size=(600, 2)).astype(np.float32)
    labels = (inputs[:, 0] + 0.3 * rng.normal(size=600) > 0).astype(np.int64)
    return Sample(inputs, labels, 2, Role.TRAIN, "half planes")


@pytest.fixture(scope="module")
def unlabelled():
    inputs = np.random.default_rng(4).normal(size=(500, 2)).astype(np.float32)
    return Sample(inputs, None, 2, Role.UNLABELLED, "more half planes")


@pytest.fixture(scope="module")
def network():
    module = torch.nn.Linear(2, 2)
    with torch.no_grad():
        module.weight.copy_(torch.tensor([[-3.0, 0.6], [3.0, 0.0]]))
        module.bias.zero_()
    return capture(module, torch.zeros(2, 2))


@pytest.fixture(scope="module")
def original(network, unlabelled):
    return Original.of(network, Preprocessing(), unlabelled, "my network")


@pytest.fixture(scope="module")
def compressed(whole):
    helper = Helper.for_sample(whole)
    message, ledger = bank_head.write(None, np.array([[-3, 2], [0, 1], [0, 0]]), helper)
    return Compressed(message, ledger, helper)


@pytest.fixture(scope="module")
def split(whole, network):
    return PriorSplit.of(whole, 0.4, 5).with_helper(lambda x: network(torch.tensor(x)))


@pytest.fixture
def write(tmp_path, compressed):
    """Files of a certificate; returns its path."""

    def to_files(certificate, message=compressed.message):
        (tmp_path / "message.bin").write_bytes(message)
        path = tmp_path / "certificate.json"
        path.write_text(certificate.to_json())
        return path

    return to_files


def classifier_of(compressed):
    return decode_message(compressed.message, compressed.helper).classifier


def clopper_pearson(errors, samples, delta):
    """The upper limit by scipy's beta distribution, an independent road."""
    return beta.ppf(1 - delta, errors + 1, samples - errors)


# The format


def test_a_file_of_another_format_or_without_a_key_is_refused(write, compressed, whole, forge):
    path = write(certify(compressed, whole))
    for change in (
        lambda content: content.update(format="bitcert-certificate-2"),
        lambda content: content.pop("original"),
        lambda content: content.pop("self_contained"),
        lambda content: content.update(format="bitcert-certificate-4"),
    ):
        text = path.read_text()
        forge(path, change)
        assert verify(path, whole).status is Status.INVALID
        path.write_text(text)
    assert verify(path, whole)


# The prior split


def test_only_the_rest_is_counted(compressed, whole, split, write):
    certificate = certify(compressed, split.rest, prior=split)
    assert certificate.samples == len(split.rest) == 360
    assert certificate.errors == count_errors(classifier_of(compressed), split.rest).errors
    assert certificate.data["hash"] == whole.content_hash
    assert certificate.prior == split.describe()
    assert "prior part" in certificate.theorem
    outcome = verify(write(certificate), whole)
    assert outcome.status is Status.VALID, outcome.reason
    lines = {line.name: line for line in outcome.lines}
    assert lines["prior split"].checked
    assert not lines["choice of the split"].checked
    assert "seed is 5" in lines["choice of the split"].detail


def test_the_line_of_holding_out_the_rest_stands_beside_it(compressed, split, network):
    line = certify(compressed, split.rest, prior=split, delta=0.1).rest
    errors = count_errors(lambda x: network(torch.tensor(x)), split.rest).errors
    assert line is not None
    assert (line["errors"], line["samples"], line["in_helper"]) == (errors, 360, False)
    assert line["bound"] == pytest.approx(clopper_pearson(errors, 360, 0.1), rel=1e-9)


def test_without_the_helper_network_there_is_no_certificate_with_a_split(compressed, whole):
    split = PriorSplit.of(whole, 0.5)
    with pytest.raises(InputError, match="hold-out line"):
        certify(compressed, split.rest, prior=split)


@pytest.mark.parametrize("part", ["full", "prior"])
def test_the_prior_part_may_not_be_counted(compressed, split, part):
    sample = getattr(split, part).with_role(Role.TRAIN)
    with pytest.raises(SampleReuseError, match="rest of the prior split"):
        certify(compressed, sample, prior=split)


def test_held_out_labels_may_not_come_from_the_prior_part(compressed, split):
    held = split.prior.with_role(Role.HOLDOUT)
    with pytest.raises(SampleReuseError):
        certify(compressed, split.rest, prior=split, holdout=held)


@pytest.fixture(scope="module")
def helper_files(whole, network):
    """A message with the helper network's weights in the helper: the head takes them as they are."""
    from bitcert.decoder import network as quantised

    split = PriorSplit.of(whole, 0.5)
    weights = HelperWeights.of(network.architecture, network.parameters)
    helper = dataclasses.replace(Helper.for_sample(whole, network.architecture), weights=weights)
    integers = {"weight": np.array([[-3, 0], [3, 0]]), "bias": np.zeros(2, int)}
    message, ledger = quantised.write(network.architecture, integers, {"weight": 0, "bias": 0})
    return split, Compressed(message, ledger, helper)


def test_a_helper_network_in_the_files_is_counted_again(helper_files, whole, write, forge):
    split, message = helper_files
    certificate = certify(message, split.rest, prior=split)
    assert certificate.rest is not None
    assert certificate.rest["in_helper"] is True
    path = write(certificate, message.message)
    (path.parent / "architecture.json").write_text(message.helper.predictor.to_json())
    (path.parent / "helper.safetensors").write_bytes(message.helper.weights.to_bytes())
    outcome = verify(path, whole)
    assert outcome.status is Status.VALID, outcome.reason
    errors = certificate.rest["errors"] - 1
    forge(path, lambda c: c["rest"].update(errors=errors, bound=occam_bound(errors, 300, 0, 0.05).binomial))
    assert verify(path, whole).reason.startswith("hold-out on the rest:")


# Further losses


def test_losses_share_delta_and_are_counted_again(compressed, whole, write):
    names = ("brier", "margin:0.5")
    certificate = certify(compressed, whole, losses=names, delta=0.06)
    assert [amount for _, amount in certificate.delta_ledger] == [0.02, 0.02, 0.02]
    assert [entry["name"] for entry in certificate.losses] == list(names)
    assert certificate.bound == occam_bound(certificate.errors, 600, certificate.message_bits, 0.02).binomial
    margin = certificate.losses[1]
    assert margin["total"] > certificate.errors
    assert margin["bound"] == occam_bound(margin["total"], 600, certificate.message_bits, 0.02).binomial
    logits = classifier_of(compressed)(whole.inputs).double()
    softmax = torch.softmax(logits, 1).numpy()
    exact = 0.5 * ((softmax - np.eye(2)[whole.labels]) ** 2).sum(1).mean()
    assert exact <= certificate.losses[0]["mean"] <= exact + 2e-5
    assert verify(write(certificate), whole).status is Status.VALID


def test_a_users_loss_runs_only_where_it_is_named(compressed, whole, write, tmp_path, monkeypatch):
    (tmp_path / "own_loss.py").write_text("def half(logits, labels):\n    return 0.5 * (logits.argmax(1) != labels)\n")
    monkeypatch.syspath_prepend(tmp_path)
    certificate = certify(compressed, whole, losses=("own_loss:half",))
    assert 0.5 * certificate.errors / 600 <= certificate.losses[0]["mean"] + 1e-12
    path = write(certificate)
    outcome = verify(path, whole)
    assert outcome.status is Status.CANNOT_CHECK
    assert "--loss own_loss:half" in outcome.reason
    assert "errors" in {line.name for line in outcome.lines}, "all else was checked"
    assert verify(path, whole, losses=("own_loss:half",)).status is Status.VALID


# The original network


def test_the_original_gets_both_bounds(compressed, whole, original, network, write):
    certificate = certify(compressed, whole, original=original)
    first = classifier_of(compressed)(original.unlabelled.inputs).argmax(1)
    second = network(torch.tensor(original.unlabelled.inputs)).argmax(1)
    apart = int((first != second).sum())
    facts = certificate.original
    assert facts is not None
    assert facts["disagreements"] == apart > 5
    occam = occam_bound(certificate.errors, 600, certificate.message_bits, 0.01).binomial
    assert certificate.bounds["binomial"] == occam
    assert certificate.bound == pytest.approx(occam + clopper_pearson(apart, 500, 0.032), rel=1e-9)
    assert certificate.bound >= occam + facts["disagreement_bound"]
    assert certificate.certifies == "original"
    assert "original network" in certificate.sentence
    assert verify(write(certificate), whole, original=original).status is Status.VALID
    assert (
        verify(
            write(certificate),
            whole,
            original=lambda sample, how: Original.of(network, how, sample),
            unlabelled=original.unlabelled,
        ).status
        is Status.VALID
    )


def test_a_surrogate_that_abstains_is_certified_and_its_threshold_cannot_be_forged(
    compressed, whole, original, write, forge, tmp_path
):
    message = abstaining.write(compressed.message, 0)
    silent = Compressed(message, decode_message(message, compressed.helper).ledger, compressed.helper)
    plain, certificate = (certify(each, whole, original=original) for each in (compressed, silent))
    assert certificate.errors < plain.errors
    assert certificate.original["disagreements"] > plain.original["disagreements"]
    assert certificate.decision_rule["abstains_within"] == 1.0
    assert certificate.message_bits == plain.message_bits + abstaining.PREFIX_BITS
    path = write(certificate, message)
    assert verify(path, whole, original=original).status is Status.VALID
    for change in (
        lambda content: content["decision_rule"].update(abstains_within=2.0),
        lambda content: content["decision_rule"].pop("abstains_within"),
    ):
        text = path.read_text()
        forge(path, change)
        assert verify(path, whole, original=original).reason.startswith("decision rule")
        path.write_text(text)
    (tmp_path / "message.bin").write_bytes(abstaining.write(compressed.message, 4))
    assert verify(path, whole, original=original).status is Status.INVALID


def test_a_certificate_of_the_compressed_network_lets_nothing_abstain(compressed, whole, write):
    message = abstaining.write(compressed.message, 0)
    silent = Compressed(message, decode_message(message, compressed.helper).ledger, compressed.helper)
    plain, certificate = certify(compressed, whole), certify(silent, whole)
    assert certificate.errors == plain.errors
    assert certificate.decision_rule == plain.decision_rule
    assert verify(write(certificate, message), whole).status is Status.VALID


def test_without_the_original_the_rest_is_checked_and_the_reader_told_what_to_pass(compressed, whole, original, write):
    path = write(certify(compressed, whole, original=original))
    outcome = verify(path, whole)
    assert outcome.status is Status.CANNOT_CHECK
    assert "--original" in outcome.reason
    assert {"errors", "bound", "disagreement", "message file"} <= {line.name for line in outcome.lines}
    assert all(line.holds for line in outcome.lines)
    no_data = verify(path, whole, original=lambda sample, how: original)
    assert no_data.status is Status.CANNOT_CHECK
    assert "--unlabelled" in no_data.reason


def test_everything_at_once(compressed, whole, split, original, write):
    certificate = certify(
        compressed, split.rest, prior=split, original=original, losses=("brier",), delta=0.1, holdout=None
    )
    assert [amount for _, amount in certificate.delta_ledger] == [0.01, 0.032, 0.05]
    again = Certificate.from_json(certificate.to_json())
    assert again == certificate
    assert verify(write(certificate), whole, original=original).status is Status.VALID


@pytest.mark.parametrize("where", ["training", "prior", "held out"])
def test_unlabelled_examples_may_be_nowhere_else(compressed, whole, split, original, where):
    rng = np.random.default_rng(8)
    labels = np.arange(50) % 2
    held = Sample(rng.normal(size=(50, 2)).astype(np.float32), labels, 2, Role.HOLDOUT, "held")
    source = {"training": split.rest, "prior": split.prior, "held out": held}[where]
    inputs = np.concatenate([original.unlabelled.inputs, source.inputs[:1]])
    mixed = dataclasses.replace(original, unlabelled=Sample(inputs, None, 2, Role.UNLABELLED, "mixed"))
    with pytest.raises(SampleReuseError, match=r"1 of the \d+ examples"):
        certify(compressed, split.rest, prior=split, original=mixed, holdout=held)


def test_the_file_is_small_and_plain(compressed, split, original):
    text = certify(compressed, split.rest, prior=split, original=original, losses=("brier",)).to_json()
    assert text.isascii()
    assert list(json.loads(text)) == sorted(json.loads(text))
    assert len(text) < 6000


# What a reader is told


@pytest.fixture
def everything(compressed, split, original):
    """A certificate with a prior split, further losses and the original network."""
    names = ("brier", "margin:0.5")
    return certify(compressed, split.rest, prior=split, original=original, losses=names, delta=0.1)


def test_the_conditions_in_words(everything):
    assert everything.conditions == (
        "the 360 examples were drawn independently of each other, from the source of new ones",
        "delta = 0.1 and the claims (0/1 error, brier, margin:0.5) were chosen before the data were seen",
        f"for `bound` only: the helper (inputs 2, 2 classes, scale 1; {everything.helper_bits} bits to describe) was "
        "fixed before the rest of the data was seen",
        "the program's features and decoders were fixed before the data were seen and compute what they did here",
        "for `bound` only: the split (fraction 0.4, seed 5) was declared before the data were seen, and the helper "
        "network was trained once and on the prior part alone",
        "the 500 unlabelled examples were drawn independently of the training of both networks, from the same source",
        "this is certificate number 1 on these unlabelled examples, and what earlier ones said of them did not choose "
        "its network",
    )


def test_every_line_in_words(everything, whole, original, write):
    made, outcome = everything, verify(write(everything), whole, original=original)
    bounds, facts, (brier, margin) = made.bounds, made.original, made.losses
    own, decoder = made.commitment["hash"], made.helper["decoder"]
    message, sizes = made.message["sha256"], (made.helper_bits, len(made.helper_sections))
    assert [(line.name, line.detail) for line in outcome.lines if line.checked and "loss brier" not in line.name] == [
        ("certificate file", "canonical form, checksum matches"),
        ("delta", "0.1 in parts of 0.00666667, 0.0213333, 0.0333333, 0.0333333"),
        ("bounds", ", ".join(f"{name} {bounds[name]:.6f}" for name in ("binomial", "kl_chernoff", "hoeffding"))),
        ("original network's description", "form and hash"),
        ("disagreement", f"{facts['disagreement_bound']:.6f} recomputed at 0.0213333"),
        ("bound", f"{made.bound:.6f} recomputed"),
        ("self-contained bound", f"{made.self_contained:.6f} recomputed with the bits of the helper: {sizes[0]}"),
        ("theorem", "disagreement bound of the original network"),
        ("message name", "message.bin beside the certificate"),
        ("data", f"content hash {whole.content_hash[:16]}… matches"),
        ("data description", "2 classes, shape [2]"),
        ("prior split", "240 of 600 for the helper, fraction 0.4, seed 5; made again"),
        ("samples", "360 claimed, 360 counted"),
        ("helper", "shape, preprocessing and hash against the certificate's"),
        ("decoder", f"source hash {decoder[:16]}… is this program's"),
        ("helper's description", f"{sizes[0]} bits in {sizes[1]} sections"),
        ("commitment", f"{own[:16]}… is that of a declaration which has this helper in it"),
        ("conditions", "7 are stated, as they are for such a certificate"),
        ("message file", f"SHA-256 {message[:16]}… claimed, {message[:16]}… found"),
        ("message bits", f"{made.message_bits} claimed, {made.message_bits} counted"),
        ("sections", f"3 sections sum to {made.message_bits} bits"),
        ("description", "integer head on 2 of 2 inputs: 3 non-zero weights"),
        (
            "decision rule",
            "right in float32 and in float64, batches of 1000 and of half; gaps within 0.0001, or within 16 times the "
            "difference of both, count as errors",
        ),
        ("errors", "37 claimed, between 37 and 37 counted"),
        ("near-ties", "0 claimed, between 0 and 0 counted"),
        ("rounding", "0 near-ties claimed to be none in float64, 0 here"),
        ("loss margin:0.5", "values 0 or 1"),
        ("loss margin:0.5, sum", "47 claimed, between 47 and 47 counted"),
        (
            "loss margin:0.5, bound",
            f"{margin['bound']:.6f} recomputed at 0.0333333, self-contained {margin['self_contained']:.6f}",
        ),
        (
            "hold-out on the rest",
            f"{made.rest['bound']:.6f} recomputed; comparison only; its network is not in the files",
        ),
        ("unlabelled data", "500 claimed, 500 found, hash matches"),
        ("unlabelled data apart", "none of them is in the training data, byte by byte"),
        ("disagreements", f"{facts['disagreements']} claimed, between 42 and 42 counted on 500"),
    ]
    assert [(line.name, line.detail) for line in outcome.lines if not line.checked] == [
        ("versions", "stated by the maker, not checked"),
        (
            "choice of the split",
            "assumed declared before the data were looked at, not checked, and the seed is 5, not 0",
        ),
        ("helper's origin", "inputs 2, 2 classes, scale 1; assumed fixed before the rest was seen, not checked"),
        ("commitment published", f"not checked; compare with --commitment {own}"),
        (
            "unlabelled data's origin",
            "assumed independent of the training of both networks, not checked; held-out data were not read",
        ),
        (
            "looks at the unlabelled data",
            "certificate number 1 on these examples, as stated by its maker; earlier ones are assumed counted",
        ),
    ]
    lines = {line.name: line.detail for line in outcome.lines}
    assert lines["loss brier"] == f"values {brier['values']}"
    assert lines["loss brier, sum"].startswith(f"{brier['total']} claimed, between ")


def test_lines_of_a_published_commitment_and_of_a_hold_out(compressed, whole, write):
    held = Sample(np.ones((3, 2), np.float32), np.array([0, 1, 1]), 2, Role.HOLDOUT, "held")
    certificate = certify(compressed, whole, holdout=held)
    own = certificate.commitment["hash"]
    outcome = verify(write(certificate), whole, commitment=f" {own.upper()}\n")
    lines = {line.name: line.detail for line in outcome.lines}
    assert outcome.status is Status.VALID
    assert lines["delta"] == "0.05 spent once"
    assert lines["theorem"] == "Occam bound of the compressed network"
    assert lines["commitment published"] == f"{own} given, {own} found"
    assert lines["hold-out line"] == "agrees with its own counts (comparison only; its data were not read)"
    assert lines["helper's origin"].endswith("; assumed fixed before the data were seen, not checked")
    other = verify(write(certificate), whole, commitment="0" * 64)
    assert (other.status, other.reason) == (
        Status.INVALID,
        f"commitment published: {'0' * 64} given, {own} found",
    )


# What a certificate says, and what its maker is refused


def test_every_number_of_a_certificate(everything, compressed, whole, split, original):
    counted = certify_counting(
        compressed, split.rest, prior=split, original=original, losses=("brier", "margin:0.5"), delta=0.1
    )
    assert counted.certificate == everything
    levels = [(count.errors.errors, count.totals[1]) for count in counted.counts.losses]
    assert levels == [(37, 47)] * 3
    assert [count.disagreements for count in counted.counts.disagreements] == [42] * 3
    bits, parts = everything.message_bits, [amount for _, amount in everything.delta_ledger]
    assert bits == 8 * len(compressed.message)
    assert (
        everything.data
        == describe_sample(whole)
        == {
            "name": "half planes",
            "hash": whole.content_hash,
            "num_classes": 2,
            "input_shape": [2],
            "benchmark": None,
        }
    )
    assert everything.helper == {**compressed.helper.describe(), "hash": compressed.helper.content_hash}
    assert everything.helper_sections == helper_ledger(compressed.helper, SplitClaim(0.4, 5)).sections
    assert everything.message == {"file": "message.bin", "sha256": hashlib.sha256(compressed.message).hexdigest()}
    assert everything.versions == {
        "python": platform.python_version(),
        **{name: version(name) for name in ("bitcert", "torch", "numpy", "scipy", "constriction")},
    }
    apart = holdout_bound(42, 500, parts[1])
    assert everything.original == {
        **original.describe(),
        "disagreements": 42,
        "disagreement_bound": apart,
        "look": 1,
    }
    own = occam_bound(37, 360, bits + everything.helper_bits, parts[0]).binomial
    assert everything.self_contained == disagreement_bound(own, 42, 500, parts[1])
    brier, margin = everything.losses
    assert margin == {
        "name": "margin:0.5",
        "values": "0 or 1",
        "total": 47,
        "mean": 47 / 360,
        "bound": occam_bound(47, 360, bits, parts[3]).binomial,
        "self_contained": occam_bound(47, 360, bits + everything.helper_bits, parts[3]).binomial,
    }
    assert brier["bound"] < brier["self_contained"] < 1.0
    assert everything.rest == {
        "samples": 360,
        "errors": 36,
        "bound": holdout_bound(36, 360, 0.1),
        "in_helper": False,
    }


def test_a_hold_out_line_names_its_sample(compressed, whole):
    held = Sample(np.ones((3, 2), np.float32), np.array([0, 1, 1]), 2, Role.HOLDOUT, "held")
    line = certify(compressed, whole, holdout=held).holdout
    assert line == {
        "name": "held",
        "hash": held.content_hash,
        "samples": 3,
        "errors": line["errors"],
        "bound": holdout_bound(line["errors"], 3, 0.05),
    }


def test_a_look_is_at_one_message_of_one_helper_and_one_network(compressed, original):
    parts = [original.content_hash, hashlib.sha256(compressed.message).hexdigest(), compressed.helper.content_hash]
    expected = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
    assert pair_hash(original, compressed.message, compressed.helper) == expected


def test_a_sample_that_tells_its_classes_needs_a_message_that_says_them(compressed, whole):
    inferred = Sample.from_arrays(whole.inputs, whole.labels, Role.TRAIN, "half planes")
    with pytest.raises(InputError, match="a message that says the number of classes, got one that leaves it out;"):
        certify(compressed, inferred)
    helper = dataclasses.replace(compressed.helper, classes_inferred=True)
    message, ledger = bank_head.write(None, np.array([[-3, 2], [0, 1], [0, 0]]), helper)
    assert certify(Compressed(message, ledger, helper), inferred).errors > 0


def test_a_network_fixed_the_number_of_classes_beforehand(whole, network):
    inferred = Sample.from_arrays(whole.inputs, whole.labels, Role.TRAIN, "half planes")
    helper = Helper.for_sample(inferred, network.architecture)
    assert not helper.classes_inferred
    compressed = compress_values(network.parameters, inferred, helper, Run(budget_seconds=0.01), fine_tune=False)
    assert certify(compressed, inferred).samples == 600


def test_the_rest_of_a_split_is_known_by_its_content(compressed, split):
    again = split.rest.take(slice(0, len(split.rest)))
    assert again is not split.rest
    assert certify(compressed, again, prior=split).samples == 360


def test_an_impossible_delta_is_refused_before_anything_is_looked_at(compressed, whole, original, state_folder):
    with pytest.raises(InputError, match="delta"):
        certify(compressed, whole, original=original, delta=1.0)
    assert not (state_folder / "looks.json").exists()


def test_code_that_could_not_be_read_has_no_description(whole):
    module = torch.nn.Linear(2, 2)
    opaque, values = capture_opaque(module, "mine:net", torch.from_numpy(whole.inputs[:4].copy()))
    unknown = dataclasses.replace(opaque, sources={})
    known = dataclasses.replace(opaque, sources={"mine": b"import torch\n"})
    for predictor, is_known in ((unknown, False), (known, True)):
        helper = Helper.for_sample(whole, predictor)
        message = compress_values(values, whole, helper, Run(budget_seconds=0.01), fine_tune=False)
        certificate = certify(message, whole, losses=("brier",), delta=0.5)
        assert bool(certificate.helper_sections) is is_known
        assert (certificate.helper_bits is None) is not is_known
        if not is_known:
            assert certificate.helper_sections == ()
            assert certificate.self_contained == certificate.losses[0]["self_contained"] == 1.0
            assert certificate.bound < 1.0


def test_progress_of_both_counts_is_told(compressed, whole, original):
    told = []
    certify(compressed, whole, original=original, progress=lambda what, part: told.append((what, part)))
    assert told == [("counting errors", 1.0), ("counting disagreements", 1.0)]


def test_batches_fit_both_networks(compressed, whole, original, monkeypatch):
    seen = []
    real = certification.count_disagreements

    def watched(*arguments):
        seen.append(arguments[3].batch_size)
        return real(*arguments)

    monkeypatch.setattr(certification, "count_disagreements", watched)
    monkeypatch.setattr(Original, "batch_size", 7)
    certify(compressed, whole, original=original)
    assert seen == [7]


def test_what_was_declared_beside_the_own_helper_is_committed_to(compressed, whole, network):
    own = compressed.helper
    further = dataclasses.replace(own, predictor=network.architecture)
    assert certify(compressed, whole).commitment == Commitment.of([own]).describe()
    declared = certify(compressed, whole, declared=Declaration((own, further))).commitment
    assert declared == Commitment.of([own, further]).describe()


@pytest.mark.parametrize("wrong", ["shape", "classes"])
def test_why_a_sample_does_not_fit(compressed, whole, wrong):
    inputs = np.zeros((4, 3 if wrong == "shape" else 2), np.float32)
    other = Sample(inputs, np.array([0, 1, 0, 1]), 3 if wrong == "classes" else 2, Role.TRAIN, "other")
    with pytest.raises(InputError, match=r"inputs of shape \[2\], 2 classes, got other of shape"):
        certify(compressed, other)
    with pytest.raises(InputError, match=r"held-out data of shape \[2\] with 2 classes, got other of shape"):
        certify(compressed, whole, holdout=other.with_role(Role.HOLDOUT))
