"""What was learned, hidden in the helper instead of the message: ``self_contained`` charges it, and says so.

Each attack makes a certificate whose ``bound`` is small and false, because its condition (the helper was fixed before
the data) is broken. No file can show that; the bound that does without the condition must not be fooled.
"""

import dataclasses
import json

import numpy as np
import pytest
import torch

from bitcert import Compressed, Helper, Preprocessing, Role, Sample, Status, capture, certify, verify
from bitcert.certificates.certification import Declaration
from bitcert.certificates.conditions import HELPER_ONLY, NOT_MET
from bitcert.decoder import HelperWeights, network_head
from bitcert.decoder import network as quantised
from bitcert.decoder.commitment import Commitment
from bitcert.decoder.description import SplitClaim, helper_ledger
from bitcert.decoder.helper import description_hash
from bitcert.network import Architecture, Node
from bitcert.network.decode import decode_architecture
from bitcert.proof import occam_bound, self_contained_bound

SIZE = 150


def random_labels(seed=0, size=SIZE):
    """Inputs in general position with labels by coin flips: nothing can be learned, the true error of all is 1/2."""
    rng = np.random.default_rng(seed)
    return Sample(rng.normal(size=(size, size)).astype(np.float32), rng.integers(0, 2, size), 2, Role.TRAIN, "coins")


def memorising_integers(sample):
    """A network without parameters whose ``arange`` nodes hold weights that fit every label."""
    inputs, signs = sample.inputs.astype(np.float64), 2.0 * sample.labels - 1.0
    weights = np.linalg.solve(inputs, signs)
    whole = np.rint(weights / np.abs(weights).max() * 50_000).astype(int) + 100_000
    nodes = [Node(f"w{k}", "arange", (), {"start": int(w), "end": int(w) + 1, "step": 1}) for k, w in enumerate(whole)]
    nodes += [
        Node("row", "cat", tuple(node.name for node in nodes), {"dim": 0}),
        Node("floats", "to_float", ("row",)),
        Node("centred", "add_scalar", ("floats",), {"value": -100_000.0}),
        Node("column", "reshape", ("centred",), {"shape": (sample.input_shape[0], 1)}),
        Node("logit", "matmul", ("input", "column")),
        Node("other", "neg", ("logit",)),
        Node("logits", "cat", ("other", "logit"), {"dim": 1}),
    ]
    return Architecture(sample.input_shape, 2, tuple(nodes), ())


def of_architecture(sample, architecture):
    """The message about a network without parameters: nothing but its header."""
    helper = Helper.for_sample(sample, architecture)
    message, ledger = quantised.write(architecture, {}, {})
    return Compressed(message, ledger, helper)


def write(folder, compressed, certificate):
    (folder / "message.bin").write_bytes(compressed.message)
    (folder / "architecture.json").write_text(compressed.helper.predictor.to_json())
    path = folder / "certificate.json"
    path.write_text(certificate.to_json())
    return path


def test_random_labels_in_the_integers_of_an_architecture(tmp_path):
    sample = random_labels()
    compressed = of_architecture(sample, memorising_integers(sample))
    certificate = certify(compressed, sample)
    assert certificate.errors == 0
    assert certificate.message_bits == 8
    assert compressed.helper.num_constants <= 1, "what was reported as trusted before"
    assert certificate.bound < 0.1, "the condition is broken, so this claim is false"
    assert certificate.self_contained > 0.999
    assert certificate.helper_bits > SIZE * 14
    claim = next(c for c in certificate.conditions if c.startswith(HELPER_ONLY))
    assert f"{3 * SIZE + 4} integers" in claim
    outcome = verify(write(tmp_path, compressed, certificate), sample)
    assert outcome.status is Status.VALID, outcome.reason


def test_random_labels_in_customary_constants():
    """Weights as chains of multiplications by 0.5, 2 and 20: none of them is unusual."""
    sample = random_labels(2, 40)
    rng = np.random.default_rng(0)
    nodes, last = [], "input"
    for k, value in enumerate(rng.choice([0.5, 2.0, 20.0], 400)):
        nodes.append(Node(f"n{k}", "mul_scalar", (last,), {"value": float(value)}))
        last = f"n{k}"
    nodes.append(Node("logits", "slice", (last,), {"dim": 1, "start": 0, "end": 2, "step": 1}))
    helper = Helper.for_sample(sample, Architecture((40,), 2, tuple(nodes), ()))
    assert helper.num_constants == 0
    assert dict(helper_ledger(helper).sections)["architecture"] > 400 * np.log2(3)


def test_a_scale_tuned_on_the_data_is_charged():
    """The best of many scales for a network that saturates: a choice of about log2(candidates) bits."""
    rng = np.random.default_rng(5)
    inputs = rng.normal(size=(400, 6)).astype(np.float32)
    sample = Sample(inputs, rng.integers(0, 2, 400), 2, Role.TRAIN, "noise")
    message, ledger = None, None
    found = []
    for scale in rng.uniform(0.01, 1, 300):
        helper = Helper.for_sample(sample, Architecture((6,), 2, _hashing(), ()), Preprocessing(float(scale)))
        message, ledger = quantised.write(helper.predictor, {}, {})
        found.append(certify(Compressed(message, ledger, helper), sample))
    best = min(found, key=lambda c: c.errors)
    assert best.errors < 190, "by luck alone"
    assert best.self_contained > best.bound + 0.05
    assert best.self_contained >= occam_bound(best.errors, 400, best.message_bits + 9, 0.05).binomial


def _hashing():
    """A function that changes wildly with the scale of its input."""
    return (
        Node("large", "mul_scalar", ("input",), {"value": 1000.0}),
        Node("whole", "to_index", ("large",)),
        Node("floats", "to_float", ("whole",)),
        Node("sum", "sum", ("floats",), {"dim": (1,), "keepdim": True}),
        Node("half", "mul_scalar", ("sum",), {"value": 0.5}),
        Node("rounded", "to_index", ("half",)),
        Node("again", "to_float", ("rounded",)),
        Node("parity", "sub", ("half", "again")),
        Node("size", "abs", ("parity",)),
        Node("shifted", "add_scalar", ("size",), {"value": -0.25}),
        Node("other", "neg", ("shifted",)),
        Node("logits", "cat", ("other", "shifted"), {"dim": 1}),
    )


def test_helper_weights_and_a_chosen_split_are_charged(toy):
    network = capture(torch.nn.Linear(2, 2), torch.zeros(2, 2))
    helper = dataclasses.replace(Helper.for_sample(toy, network.architecture), classes_inferred=False)
    plain = helper_ledger(helper).total_bits
    assert helper_ledger(helper, SplitClaim(0.5, 12345)).total_bits > plain + 13
    weights = HelperWeights.of(network.architecture, network.parameters)
    assert helper_ledger(dataclasses.replace(helper, weights=weights)).total_bits == plain + 6 * 32


# The certificate's own statements about the helper


@pytest.fixture
def coin_files(tmp_path):
    sample = random_labels(7, 60)
    compressed = of_architecture(sample, memorising_integers(sample))
    return write(tmp_path, compressed, certify(compressed, sample)), sample


def restated(content, bits):
    """A self-contained bound that follows from a description of that many bits."""
    counts = content["errors"], content["samples"], content["message_bits"]
    content["self_contained"] = self_contained_bound(*counts, bits, content["delta"])


LIES = {
    "a shorter description": lambda c: (c["helper_sections"][2].__setitem__(1, 5), restated(c, 30)),
    "no description": lambda c: c.update(helper_sections=[], self_contained=1.0),
    "a section less": lambda c: c["helper_sections"].pop(),
    "the same bound without trust": lambda c: c.update(self_contained=c["bound"]),
    "a condition less": lambda c: c["conditions"].pop(),
    "a condition in nicer words": lambda c: c["conditions"].__setitem__(0, "all is well"),
    "another commitment": lambda c: c["commitment"].update(hash="ab" * 32),
    "a commitment to nothing": lambda c: c["commitment"].update(architectures=[]),
    "a commitment of another form": lambda c: c.update(commitment={"hash": 1}),
    "classes committed to as a text": lambda c: c["commitment"].update(num_classes="2"),
    "a benchmark": lambda c: c["data"].update(benchmark="mnist"),
    "rounding of more than the near-ties": lambda c: c.update(rounding=c["near_ties"] + 1),
    "no second way": lambda c: c["decision_rule"].update(second_dtype="float32"),
    "a milder rule": lambda c: c["decision_rule"].update(rounding=0.0),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_about_the_helper_is_noticed(coin_files, forge, lie):
    path, sample = coin_files
    assert verify(path, sample)
    forge(path, LIES[lie])
    outcome = verify(path, sample)
    assert outcome.status is Status.INVALID, lie
    assert len(outcome.reason.splitlines()) == 1


def test_another_decoder_is_told_but_does_not_make_it_invalid(coin_files, forge):
    path, sample = coin_files
    content = json.loads(path.read_text())
    helper = Helper.for_sample(sample, decode_architecture((path.parent / "architecture.json").read_text()))
    described = helper.describe("cd" * 32)

    def change(content):
        content["helper"] = {**described, "hash": description_hash(described)}
        problem = {**Commitment.of([helper]).problem, "decoder": "cd" * 32}
        own = dataclasses.replace(Commitment.of([helper]), problem=problem)
        content["commitment"] = own.describe()

    forge(path, change)
    outcome = verify(path, sample)
    assert outcome.status is Status.VALID, outcome.reason
    line = next(line for line in outcome.lines if line.name == "decoder")
    assert not line.checked
    published = json.loads(path.read_text())["commitment"]["hash"]
    assert published != content["commitment"]["hash"]
    refused = verify(path, sample, commitment=published)
    assert refused.status is Status.CANNOT_CHECK
    assert "version of bitcert" in refused.reason


def test_a_commitment_covers_every_helper_of_the_run_and_no_other(toy, toy_compressed, tmp_path):
    network = capture(torch.nn.Linear(2, 2), torch.zeros(2, 2)).architecture
    problem = toy_compressed.helper
    declared = (problem, dataclasses.replace(problem, predictor=network))
    certificate = certify(toy_compressed, toy, declared=Declaration(declared))
    assert certificate.commitment["hash"] == Commitment.of(declared).hash
    assert certificate.commitment["architectures"] == [network.content_hash]
    (tmp_path / "message.bin").write_bytes(toy_compressed.message)
    path = tmp_path / "certificate.json"
    path.write_text(certificate.to_json())
    assert verify(path, toy, commitment=Commitment.of(declared).hash).status is Status.VALID
    assert verify(path, toy, commitment=f" {Commitment.of(declared).hash.upper()}\n").status is Status.VALID
    other = verify(path, toy, commitment=Commitment.of([problem]).hash)
    assert other.status is Status.INVALID
    assert other.reason.startswith("commitment published:")


def test_many_declared_helpers_share_delta(tmp_path, forge):
    """One commitment to 4,000 public weights and the best of them afterwards: the choice is paid for."""
    rng = np.random.default_rng(0)
    sample = Sample(rng.normal(size=(400, 8)).astype(np.float32), rng.integers(0, 2, 400), 2, Role.TRAIN, "coins")
    network = capture(torch.nn.Linear(8, 2, bias=False), torch.ones(2, 8))
    (name,) = network.parameters
    public = rng.normal(size=(4000, 2, 8)).astype(np.float32)
    errors = [int(((sample.inputs @ each.T).argmax(1) != sample.labels).sum()) for each in public]
    problem = Helper.for_sample(sample)
    helpers = [
        dataclasses.replace(problem, predictor=network.architecture, weights=HelperWeights({name: each}))
        for each in public
    ]
    best = helpers[int(np.argmin(errors))]
    message, ledger = network_head.write(best, network_head.NetworkHeadCode(network_head.Form.NETWORK))
    compressed = Compressed(message, ledger, best)
    alone = certify(compressed, sample, declared=Declaration((problem,)))
    certificate = certify(compressed, sample, declared=Declaration((problem, *helpers)))
    assert Commitment.of((problem, *helpers)).choices == 4000
    assert [amount for _, amount in certificate.delta_ledger] == [0.05 / 4000]
    charged = occam_bound(certificate.errors, 400, certificate.message_bits, 0.05 / 4000).binomial
    assert certificate.bound == charged > alone.bound + 0.01
    path = write(tmp_path, compressed, certificate)
    (tmp_path / "helper.safetensors").write_bytes(best.weights.to_bytes())
    assert verify(path, sample, commitment=Commitment.of((problem, *helpers)).hash).status is Status.VALID
    forge(path, lambda content: content["delta_ledger"][0].__setitem__(1, 0.05), restate=True)
    assert verify(path, sample).reason.startswith("delta:")


def test_what_a_commitment_depends_on(toy):
    problem = Helper.for_sample(toy)
    network = capture(torch.nn.Linear(2, 2), torch.zeros(2, 2)).architecture
    deeper = capture(torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.ReLU()), torch.zeros(2, 2)).architecture
    own = [dataclasses.replace(problem, predictor=each) for each in (network, deeper)]
    hashes = [
        Commitment.of([problem]).hash,
        Commitment.of([dataclasses.replace(problem, preprocessing=Preprocessing(2.0))]).hash,
        Commitment.of([dataclasses.replace(problem, classes_inferred=True)]).hash,
        Commitment.of([problem, own[0]]).hash,
        Commitment.of([problem, own[1]]).hash,
        Commitment.of([problem, *own]).hash,
        Commitment.of([problem, own[0]], SplitClaim(0.5, 0)).hash,
        Commitment.of([problem, own[0]], SplitClaim(0.5, 1)).hash,
    ]
    assert len(set(hashes)) == len(hashes)
    assert Commitment.of([problem, *own]) == Commitment.of([problem, *own[::-1]])
    inferred = [dataclasses.replace(problem, classes_inferred=True, num_classes=k) for k in (2, 7)]
    assert Commitment.of(inferred[:1]) == Commitment.of(inferred[1:]), "no label may be needed"


def test_a_benchmark_says_that_its_condition_does_not_hold(digits, digits_compressed, toy, toy_compressed):
    on_benchmark = certify(digits_compressed, digits)
    assert on_benchmark.data["benchmark"] == "digits"
    assert sum(condition.startswith(NOT_MET) for condition in on_benchmark.conditions) == 1
    renamed = Sample(digits.inputs, digits.labels, 10, Role.TRAIN, "my own scans")
    by_content = certify(digits_compressed, renamed)
    assert by_content.data["benchmark"] == "digits", "whatever it is called"
    assert not any(condition.startswith(NOT_MET) for condition in certify(toy_compressed, toy).conditions)


def test_the_head_needs_no_trust_in_an_architecture(toy, toy_compressed):
    certificate = certify(toy_compressed, toy)
    assert certificate.helper_bits < 40
    assert certificate.bound < certificate.self_contained < certificate.bound + 0.1
