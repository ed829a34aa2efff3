"""Forged splits, losses, disagreements and delta ledgers: a stranger's recount finds each of them."""

import copy
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from bitcert import Compressed, Helper, Preprocessing, Role, Sample, Status, capture, certify, verify
from bitcert.certificates.conditions import conditions
from bitcert.certificates.original import Original, identity_hash
from bitcert.data import PriorSplit
from bitcert.decoder import head as bank_head
from bitcert.decoder.commitment import Commitment
from bitcert.decoder.description import SplitClaim, helper_ledger
from bitcert.proof import disagreement_bound, holdout_bound, occam_bound
from bitcert.proof.claims import LOSS_UNITS, bounded_loss_bound, delta_plan, theorem_text, zero_one_loss_bound

UNUSED = "ab" * 32


def half_planes(n, seed, role=Role.TRAIN):
    rng = np.random.default_rng(seed)
    inputs = rng.normal(size=(n, 3)).astype(np.float32)
    labels = np.argmax(inputs + 0.4 * rng.normal(size=(n, 3)), 1)
    return Sample(inputs, None if role is Role.UNLABELLED else labels, 3, role, f"largest of three {seed}")


WHOLE = half_planes(500, 0)
APART = half_planes(400, 1, Role.UNLABELLED)


@pytest.fixture(scope="module")
def original():
    module = torch.nn.Linear(3, 3)
    with torch.no_grad():
        module.weight.copy_(torch.eye(3) + 0.2)
        module.bias.copy_(torch.tensor([0.3, 0.0, 0.0]))
    return Original.of(capture(module, torch.zeros(2, 3)), Preprocessing(), APART, "f")


@pytest.fixture
def path(original, tmp_path):
    """A certificate with everything in it: prior split, two losses, the original network."""
    helper = Helper.for_sample(WHOLE)
    message, ledger = bank_head.write(None, np.vstack([3 * np.eye(3, dtype=int), np.zeros((1, 3), int)]), helper)
    split = PriorSplit.of(WHOLE, 0.4).with_helper(original.classifier)
    certificate = certify(
        Compressed(message, ledger, helper), split.rest, prior=split, original=original, losses=("top-2", "brier")
    )
    (tmp_path / "message.bin").write_bytes(message)
    file = tmp_path / "certificate.json"
    file.write_text(certificate.to_json())
    return file


def restate(content):
    """Make every number follow from the counts, names and delta, as a careful forger would."""
    names = [entry["name"] for entry in content["losses"]]
    original, prior = content["original"], content["prior"]
    plan = delta_plan(content["delta"], names, None if original is None else original["look"])
    parts = [entry.amount for entry in plan]
    content["delta_ledger"] = [[entry.name, entry.amount] for entry in plan]
    samples, bits = content["samples"], content["message_bits"]
    helper = Helper.for_sample(WHOLE)
    split = None if prior is None else SplitClaim(prior["fraction"], prior["seed"])
    content["helper_sections"] = [list(entry) for entry in helper_ledger(helper, split).sections]
    content["commitment"] = Commitment.of([helper], split).describe()
    helper_bits = sum(size for _, size in content["helper_sections"])
    bound = occam_bound(content["errors"], samples, bits, parts[0])
    content["bounds"] = {name: getattr(bound, name) for name in ("binomial", "kl_chernoff", "hoeffding")}
    content["bound"] = bound.binomial
    content["self_contained"] = occam_bound(content["errors"], samples, bits + helper_bits, parts[0]).binomial
    if original is not None:
        counts = original["disagreements"], original["unlabelled"]["samples"]
        original["disagreement_bound"] = holdout_bound(*counts, parts[1])
        original["hash"] = identity_hash(original)
        for key in ("bound", "self_contained"):
            content[key] = disagreement_bound(content[key], *counts, parts[1])
    for entry, part in zip(content["losses"], parts[len(parts) - len(names) :], strict=True):
        whole = entry["values"] == "0 or 1"
        entry["mean"] = entry["total"] / (samples if whole else samples * LOSS_UNITS)
        of = zero_one_loss_bound if whole else bounded_loss_bound
        entry["bound"] = of(entry["total"], samples, bits, part)
        entry["self_contained"] = of(entry["total"], samples, bits + helper_bits, part)
    rest = content["rest"]
    if rest is not None:
        rest["bound"] = holdout_bound(rest["errors"], rest["samples"], content["delta"])
    bounded = any(entry["values"] != "0 or 1" for entry in content["losses"])
    content["theorem"] = theorem_text(prior=prior is not None, bounded=bounded, original=original is not None)
    content["certifies"] = "compressed" if original is None else "original"
    content["conditions"] = list(conditions(SimpleNamespace(**content, helper_bits=helper_bits), helper))


def check(path, original):
    outcome = verify(path, WHOLE, original=original)
    assert bool(outcome.reason) == (outcome.status is not Status.VALID)
    return outcome


def test_the_untouched_file_is_valid_and_restating_changes_nothing(path, original, forge):
    assert check(path, original).status is Status.VALID
    before = json.loads(path.read_text())
    after = copy.deepcopy(before)
    restate(after)
    assert after == before, "the forger of these tests writes what bitcert writes"
    forge(path, restate)
    assert check(path, original).status is Status.VALID


def test_changed_at_any_byte_it_is_invalid(path, original):
    text = path.read_bytes()
    for position in range(0, len(text), 3):
        changed = bytearray(text)
        changed[position] ^= 0x01
        path.write_bytes(changed)
        assert check(path, original).reason.startswith("certificate file:"), position


def inside(part, **values):
    return lambda content: content[part].update(values)


def loss(index, **values):
    return lambda content: content["losses"][index].update(values)


def added(part, key, step):
    return lambda content: content[part].update({key: content[part][key] + step})


def take_from_the_disagreement(content):
    """Two budgets from one delta: each entry the whole."""
    content["delta_ledger"] = [[name, content["delta"]] for name, _ in content["delta_ledger"]]


def another_division(content):
    first, second = content["delta_ledger"][:2]
    first[1], second[1] = second[1], first[1]


def overlapping(content):
    """The first training example among the unlabelled ones, named by its right hash."""
    content["original"]["unlabelled"].update(hash=overlap().content_hash, samples=len(APART) + 1)


def overlap():
    return Sample(np.concatenate([APART.inputs, WHOLE.inputs[:1]]), None, 3, Role.UNLABELLED, "overlapping")


AS_THEY_ARE = [
    ("delta given out thrice", take_from_the_disagreement, "delta"),
    ("delta divided otherwise", another_division, "delta"),
    ("delta of a loss left out", lambda c: c["delta_ledger"].pop(), "delta"),
    ("delta of a loss left in", lambda c: c["losses"].pop(), "delta"),
    ("a loss twice", lambda c: c["losses"].append(c["losses"][0]), "bound"),
    ("loss bound lowered", loss(1, bound=0.01), "loss brier, bound"),
    ("loss mean lowered", loss(1, mean=0.01), "loss brier, bound"),
    ("loss bound a text", loss(0, bound="0.1"), "losses"),
    ("loss total a boolean", loss(0, total=True), "losses"),
    ("loss with more to say", loss(0, note="trust me"), "losses"),
    ("loss empty", lambda c: c["losses"].__setitem__(0, {}), "losses"),
    ("whose: the compressed one", lambda c: c.update(certifies="compressed"), "theorem"),
    ("bound without the disagreement", lambda c: c.update(bound=c["bounds"]["binomial"]), "bound"),
    ("disagreement bound lowered", added("original", "disagreement_bound", -0.01), "disagreement"),
    ("disagreements lowered", added("original", "disagreements", -1), "disagreement"),
    ("disagreements a text", inside("original", disagreements="0"), "original network's description"),
    ("disagreements more than examples", inside("original", disagreements=10**6), "disagreement"),
    ("original with other weights", inside("original", weights=UNUSED), "original network's description"),
    ("original with more to say", inside("original", note=1), "original network's description"),
    ("original without a name", lambda c: c["original"].pop("name"), "original network's description"),
    ("original of no use", lambda c: c.update(original={}), "original network's description"),
    ("unlabelled data missing", lambda c: c["original"].pop("unlabelled"), "original network's description"),
    ("unlabelled data a list", inside("original", unlabelled=[]), "original network's description"),
    ("hold-out on the rest lowered", added("rest", "bound", -0.01), "hold-out on the rest"),
    ("hold-out on the rest missing", lambda c: c.update(rest=None), "hold-out on the rest"),
    ("hold-out on the rest of more", added("rest", "samples", 1), "hold-out on the rest"),
    ("hold-out on the rest said to be in the helper", inside("rest", in_helper=True), "hold-out on the rest"),
    ("hold-out on the rest a text", inside("rest", errors="3"), "hold-out on the rest"),
    ("the split's theorem left out", lambda c: c.update(prior=None), "theorem"),
    ("fraction a whole number", inside("prior", fraction=1), "prior split"),
    ("fraction a text", inside("prior", fraction="0.4"), "prior split"),
    ("fraction not a number", inside("prior", fraction=-0.4), "prior split"),
    ("seed a boolean", inside("prior", seed=False), "prior split"),
    ("seed negative", inside("prior", seed=-1), "prior split"),
    ("split with more to say", inside("prior", note=1), "prior split"),
    ("split of no use", lambda c: c.update(prior={}), "prior split"),
]


@pytest.mark.parametrize(("change", "line"), [e[1:] for e in AS_THEY_ARE], ids=[e[0] for e in AS_THEY_ARE])
def test_a_forged_certificate_is_refused_with_the_line_that_fails(path, original, forge, change, line):
    forge(path, change)
    outcome = check(path, original)
    assert outcome.status is Status.INVALID
    assert outcome.reason.startswith(f"{line}:"), outcome.reason


def leaves(value, place=()):
    """Every value that is no list and no object, with its place."""
    if not isinstance(value, dict | list):
        yield place, value
        return
    for key, item in value.items() if isinstance(value, dict) else enumerate(value):
        yield from leaves(item, (*place, key))


def changes(value):
    """The same number in another type, another close to it, another text; ``...`` removes the value."""
    if isinstance(value, bool):
        return (not value, int(value), ...)
    if isinstance(value, int):
        return (float(value), value + 1, ...)
    if isinstance(value, float):
        return (*([int(value)] if value.is_integer() else []), value * (1 - 1e-9), ...)
    return ("x" if value is None else f"{value} ", ...)


def test_a_value_that_is_changed_anywhere_is_refused(path, original, forge):
    """Names and versions are the maker's own words; all else must be so, and of its type."""
    honest, accepted = json.loads(path.read_text()), set()
    for place, value in leaves(honest):
        for change in changes(value):
            content = copy.deepcopy(honest)
            inner = content
            for key in place[:-1]:
                inner = inner[key]
            if change is ...:
                del inner[place[-1]]
            else:
                inner[place[-1]] = change
            forge(path, lambda c, content=content: (c.clear(), c.update(content)))
            if check(path, original).status is Status.VALID:
                accepted.add(place)
    names = {("data", "name"), ("original", "name"), ("original", "unlabelled", "name")}
    assert accepted == names | {("versions", key) for key in honest["versions"]} | {("checksum",)}


RESTATED = [
    ("a smaller prior part", inside("prior", fraction=0.3), "prior split"),
    ("another seed", inside("prior", seed=1), "prior split"),
    ("the prior part counted too", lambda c: c.update(samples=500), "samples"),
    ("the split denied", lambda c: c.update(prior=None, rest=None), "samples"),
    ("the split denied and all counted", lambda c: c.update(prior=None, rest=None, samples=500), "errors|near-ties"),
    ("fewer top-2 errors", lambda c: c["losses"][0].update(total=c["losses"][0]["total"] - 1), "loss top-2, sum"),
    (
        "a smaller Brier loss",
        lambda c: c["losses"][1].update(total=c["losses"][1]["total"] * 9 // 10),
        "loss brier, sum",
    ),
    ("Brier loss called 0/1", loss(1, values="0 or 1", total=3), "loss brier"),
    ("an unknown loss", loss(0, name="top-2 "), "losses"),
    ("a top-3 of three classes", loss(0, name="top-3"), "losses"),
    ("a loss of another name", loss(0, name="margin:9"), "loss margin:9, sum"),
    ("fewer disagreements", added("original", "disagreements", -1), "disagreements"),
    ("no disagreements", inside("original", disagreements=0), "disagreements"),
    ("more unlabelled examples", lambda c: c["original"]["unlabelled"].update(samples=10**6), "unlabelled data"),
    ("fewer errors", lambda c: c.update(errors=c["errors"] - 1), "errors"),
]


@pytest.mark.parametrize(("change", "line"), [e[1:] for e in RESTATED], ids=[e[0] for e in RESTATED])
def test_a_forger_who_restates_everything_is_caught_by_the_count(path, original, forge, change, line):
    def forged(content):
        change(content)
        restate(content)

    forge(path, forged)
    outcome = check(path, original)
    assert outcome.status is Status.INVALID
    assert any(outcome.reason.startswith(f"{name}:") for name in line.split("|")), outcome.reason


OTHERS = ["weights", "preprocessing", "unlabelled"]


@pytest.mark.parametrize("what", OTHERS)
def test_another_network_or_other_unlabelled_data_cannot_be_checked(path, original, what):
    values = dict(original.values)
    name = sorted(values)[0]
    values[name] = values[name] + 1e-3
    other = Original(
        original.predictor,
        values if what == "weights" else original.values,
        Preprocessing(scale=2.0) if what == "preprocessing" else original.preprocessing,
        half_planes(400, 9, Role.UNLABELLED) if what == "unlabelled" else original.unlabelled,
    )
    outcome = check(path, other)
    assert outcome.status is Status.CANNOT_CHECK
    assert what in outcome.reason


def test_a_network_that_the_forger_puts_in_place_of_the_original_is_the_one_that_counts(path, original, forge):
    """Hash and disagreements of the compressed network itself: true only of that network, which must be passed."""
    forge(path, lambda c: (c["original"].update(weights=UNUSED, disagreements=0), restate(c)))
    outcome = check(path, original)
    assert outcome.status is Status.CANNOT_CHECK
    assert "not the original of the certificate" in outcome.reason


def test_unlabelled_examples_from_the_training_data_are_found_by_the_verifier_too(path, original, forge):
    def forged(content):
        overlapping(content)
        restate(content)

    forge(path, forged)
    outcome = verify(path, WHOLE, original=lambda sample, how: original, unlabelled=overlap())
    assert outcome.status is Status.INVALID
    assert "1 of the 401" in outcome.reason


def test_a_strangers_code_does_not_run_unasked(path, original, forge, tmp_path, monkeypatch):
    (tmp_path / "strangers_loss.py").write_text("raise SystemExit('this ran')\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    forge(path, lambda c: (c["losses"][1].update(name="strangers_loss:f"), restate(c)))
    outcome = check(path, original)
    assert outcome.status is Status.CANNOT_CHECK
    assert "--loss strangers_loss:f" in outcome.reason


def test_nothing_but_a_built_in_name_is_looked_up(path, original, forge):
    forge(path, lambda c: (c["original"]["unlabelled"].update(name="/etc/passwd"), restate(c)))
    outcome = verify(path, WHOLE, original=lambda sample, how: original)
    assert outcome.status is Status.CANNOT_CHECK
    assert "--unlabelled" in outcome.reason
