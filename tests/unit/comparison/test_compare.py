"""``compare`` on small networks: the rows' numbers, refusals, resumption, plans and files."""

import importlib
import json
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest
import torch

from bitcert import Role, Run, Sample, capture, certify, count_errors
from bitcert.codecs import LayerCodec, registry
from bitcert.codecs.best import is_trained
from bitcert.codecs.quantise import Exact, Quantise, TunedQuantise
from bitcert.codecs.quantiser import Uniform
from bitcert.comparison import CompareSettings, Comparison, compare, plan_comparison
from bitcert.comparison import counting as counting_module
from bitcert.comparison.counting import Counter
from bitcert.comparison.deviation import original_classifier, output_deviation
from bitcert.comparison.records import ComparisonRow, numbers_in
from bitcert.counting import DecisionRule
from bitcert.decoder import Helper, decode_message
from bitcert.errors import DecodeError, InputError, SampleReuseError
from bitcert.folder import ROWS_FILE, RowStore
from bitcert.proof import holdout_bound
from bitcert.theory.value import Theory

from .makers import make_refused, make_row, make_usual

COARSE, FINE = Quantise(quantiser=Uniform(2.0)), Quantise(quantiser=Uniform(0.125))


@dataclass(frozen=True, kw_only=True)
class Refusing(Quantise):
    """Suits no network."""

    name: ClassVar[str] = "refusing"

    def encode(self, network, sample=None, *, helper=None, run=None):
        raise InputError("another network", "this one", "find one")

    def theory(self, network, sample=None):
        raise InputError("a theory", "none", "write one")


@dataclass(frozen=True, kw_only=True)
class Training(Quantise):
    """Says what run it is given, and is interrupted once."""

    name: ClassVar[str] = "training"
    trained: ClassVar[bool] = True
    seen: ClassVar[list] = []
    interrupted: ClassVar[bool] = False

    amount: int = 4

    def encode(self, network, sample=None, *, helper=None, run=None):
        type(self).seen.append(run)
        if run.checkpoint is not None and not type(self).interrupted:
            type(self).interrupted = True
            run.checkpoint.save({"steps": 5}, {})
            raise KeyboardInterrupt
        return super().encode(network, sample, helper=helper)

    @classmethod
    def strengths(cls):
        return tuple(cls(amount=amount) for amount in (1, 2, 3))


@pytest.fixture
def training(monkeypatch):
    monkeypatch.setattr(Training, "seen", [])
    monkeypatch.setattr(Training, "interrupted", False)
    return Training(amount=1)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(2, 6), torch.nn.ReLU(), torch.nn.Linear(6, 2))
    with torch.no_grad():
        module[0].weight[:2] = torch.tensor([[4.0, 0.0], [-4.0, 0.0]])
        module[2].weight[:, :2] = torch.tensor([[-4.0, 4.0], [4.0, -4.0]])
    return capture(module, torch.zeros(2, 2))


@pytest.fixture(scope="module")
def held() -> Sample:
    inputs = np.random.default_rng(9).normal(size=(150, 2)).astype(np.float32)
    return Sample(inputs, (inputs[:, 0] > 0).astype(np.int64), 2, Role.HOLDOUT, "toy test")


@pytest.fixture(scope="module")
def compared(network, toy, held) -> Comparison:
    return compare(network, toy, codecs=(FINE, COARSE, Exact(), Refusing()), holdout=held)


def test_a_row_says_what_a_certificate_says(compared, network, toy, held):
    for codec, row in zip((FINE, COARSE, Exact()), compared.rows, strict=False):
        compressed = codec.encode(network, toy)
        certificate = certify(compressed, toy, holdout=held)
        measured = row.measured
        assert measured.message_bits == certificate.message_bits
        assert measured.bound == certificate.bound
        assert (measured.errors, measured.near_ties) == (certificate.errors, certificate.near_ties)
        assert measured.message_sha256 == certificate.message["sha256"]
        assert measured.holdout.errors == certificate.holdout["errors"]
        assert (row.codec, row.label) == (codec.name, codec.label)
        assert registry.codec_from(row.codec, row.options) == codec


def test_the_deviations_are_of_the_decoded_network(compared, network, toy):
    helper = Helper.for_sample(toy, network.architecture)
    compressed = COARSE.encode(network, toy)
    classifier = decode_message(compressed.message, compressed.helper).classifier
    expected = output_deviation(original_classifier(network, helper), classifier, toy)
    found = compared.rows[1].measured.deviation
    assert found.entrywise.maximum == pytest.approx(expected.entrywise.maximum)
    assert found.l2.upper == pytest.approx(expected.l2.quantiles[0.99])
    assert found.disagreements == expected.disagreements
    assert found.margin_loss == expected.compressibility.margin_loss
    assert compared.rows[2].measured.deviation.l2.maximum == 0.0


def test_the_original_and_what_holding_out_says_of_it(compared, network, toy, held):
    classifier = original_classifier(network, Helper.for_sample(toy, network.architecture))
    original = compared.original
    assert original.errors == count_errors(classifier, toy).errors
    assert original.holdout.errors == count_errors(classifier, held).errors
    assert original.holdout.bound == holdout_bound(original.holdout.errors, 150, 0.05)
    assert original.parameters == network.num_parameters
    assert compared.holdout["name"] == "toy test"
    assert compared.guessing == 0.5


def test_what_does_not_suit_is_a_row_with_its_sentence(compared):
    row = compared.rows[3]
    assert row.measured is None
    assert row.refusal == "expected another network, got this one; find one"
    assert row.theory.problem == "expected a theory, got none; write one"
    assert "1 row without a message, each saying why: refusing." in compared.conclusions


def test_theory_stands_beside(compared, network):
    theory = compared.rows[1].theory
    assert theory.parameters == COARSE.theory(network).parameters
    assert [condition.holds for condition in theory.conditions] == [False]


def test_the_same_in_batches_and_without_kept_logits(network, toy, monkeypatch):
    whole = compare(network, toy, codecs=(COARSE,)).rows[0].measured
    monkeypatch.setattr(Helper, "batch_size", 7)
    for most in (counting_module.MOST_LOGITS, 0):
        monkeypatch.setattr(counting_module, "MOST_LOGITS", most)
        batched = compare(network, toy, codecs=(COARSE,)).rows[0].measured
        assert (batched.errors, batched.bound) == (whole.errors, whole.bound)
        assert batched.deviation.l2.maximum == pytest.approx(whole.deviation.l2.maximum, rel=1e-5)
        assert batched.deviation.disagreements == whole.deviation.disagreements


def test_numbers_in_a_message(network, toy, ticking):
    compressed = COARSE.encode(network, toy)
    weights = decode_message(compressed.message, compressed.helper).classifier.weights
    assert numbers_in(compressed.message, compressed.helper) == sum(int((w != 0).sum()) for w in weights.values())
    ticking(0.5)
    tuned = TunedQuantise(fine_tune=False).encode(network, toy, run=Run(budget_seconds=3.0))
    weights = decode_message(tuned.message, tuned.helper).classifier.weights
    assert numbers_in(tuned.message, tuned.helper) == sum(int((w != 0).sum()) for w in weights.values())


def test_the_same_bytes_are_counted_once(network, toy, monkeypatch):
    calls = []
    count = Counter.count
    monkeypatch.setattr(Counter, "count", lambda self, classifier: calls.append(1) or count(self, classifier))
    found = compare(network, toy, codecs=(COARSE, replace(COARSE), FINE))
    assert len(calls) == 2
    assert found.rows[0].measured == found.rows[1].measured


def test_written_and_read_back(compared):
    assert Comparison.from_json(compared.to_json()) == compared
    usual = make_usual()
    assert Comparison.from_json(usual.to_json()) == usual
    content = json.loads(compared.to_json())
    assert set(content["versions"]) >= {"bitcert", "torch"}
    assert content["settings"]["seed"] == 0


@pytest.mark.parametrize("text", ["", "[]", "{}", "x" * 10, '{"format":"bitcert-comparison-1"}', "[" * 10_000])
def test_a_file_that_is_none(text):
    with pytest.raises(DecodeError, match=r"comparison\.json"):
        Comparison.from_json(text)


def test_a_file_with_a_wrong_number():
    text = make_usual().to_json()
    for good, bad in (('"errors":12', '"errors":"12"'), ('"delta":0.05', '"delta":NaN'), ('"rows"', '"raws"')):
        assert good in text
        with pytest.raises(DecodeError):
            Comparison.from_json(text.replace(good, bad, 1))


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        ('"num_classes":10', '"num_classes":0'),
        ('"num_classes":10', '"num_classes":"10"'),
        ('"delta":0.05', '"delta":0.0'),
        ('"message_bits":300', '"message_bits":0'),
        ('"bound":0.41', '"bound":1.5'),
        ('"samples":100', '"samples":0'),
        ('"errors":700', '"errors":7000'),
        ('"errors":700', '"errors":-1'),
    ],
)
def test_a_file_with_impossible_counts(good, bad):
    text = make_usual().to_json()
    assert good in text
    with pytest.raises(DecodeError, match="impossible counts"):
        Comparison.from_json(text.replace(good, bad, 1))


# Refusals of the whole


def test_data_and_names_that_do_not_fit(network, toy, monkeypatch):
    with pytest.raises(InputError, match="did you mean 'quantise'"):
        compare(network, toy, codecs=("quantis",))
    with pytest.raises(InputError, match="codecs with strengths of their own to compare, got per-layer"):
        compare(network, toy, codecs=("per-layer",))
    with pytest.raises(SampleReuseError):
        compare(network, toy, codecs=(COARSE,), holdout=toy.with_role(Role.HOLDOUT))


def test_a_network_that_is_not_finite(toy):
    network = capture(torch.nn.Sequential(torch.nn.Linear(2, 2)), torch.zeros(2, 2))
    network.parameters["0.bias"][0] = float("inf")
    with pytest.raises(InputError, match=r"finite values in 0\.bias"):
        compare(network, toy, codecs=(COARSE,))


@pytest.mark.parametrize(
    "wrong",
    [
        {"delta": 0.0},
        {"delta": 1.0},
        {"delta": float("nan")},
        {"budget_seconds": 0.0},
        {"budget_seconds": float("nan")},
        {"seed": -1},
        {"most_strengths": 0},
        {"theory_samples": 0},
    ],
    ids=str,
)
def test_settings_that_cannot_be(wrong):
    with pytest.raises(InputError):
        CompareSettings(**wrong)


# Plans


def test_codecs_that_train_come_last_and_share_the_time(network, toy, monkeypatch):
    monkeypatch.setattr(registry, "CODECS", {"training": Training, "quantise": Quantise, "tuned": TunedQuantise})
    monkeypatch.setattr("bitcert.comparison.plan.CODECS", registry.CODECS)
    plan = plan_comparison(network, toy, CompareSettings(budget_seconds=480.0, most_strengths=3))
    names = [entry.codec.label for entry in plan.entries]
    assert names[:3] == ["quantise 0.125", "quantise 1", "quantise 4"], "the ends and the middle"
    assert [entry.codec.name for entry in plan.entries[3:]] == ["training"] * 3 + ["tuned"] * 2
    assert [entry.seconds for entry in plan.entries] == [0.0] * 3 + [80.0] * 3 + [120.0] * 2
    assert plan.training_seconds == 480.0
    assert plan.memory_bytes > 0
    short = plan_comparison(network, toy, CompareSettings(budget_seconds=10.0))
    trained = [entry for entry in short.entries if entry.seconds]
    assert [(entry.codec.label, entry.seconds) for entry in trained] == [
        ("training 0.25", 5.0),
        ("tuned", 5.0),
    ]
    assert trained[0].codec.amount == 4, "its defaults"


def test_which_codecs_train():
    assert not any(is_trained(kind) for kind in (Quantise, Exact()))
    assert all(is_trained(kind) for kind in (TunedQuantise, Training(), Training))
    whole = {name for name, kind in registry.CODECS.items() if not issubclass(kind, LayerCodec)}
    assert whole == {name for name, kind in registry.CODECS.items() if is_trained(kind)}


def test_training_gets_its_share_and_the_settings(network, toy, training):
    settings = CompareSettings(seed=7, budget_seconds=33.0, delta=0.1)
    compare(network, toy, settings, codecs=(training, COARSE))
    (run,) = Training.seen
    assert (run.seed, run.budget_seconds, run.delta, run.checkpoint) == (7, 33.0, 0.1, None)


def test_another_strength_gets_the_time_of_one_that_is_refused(network, toy, training, monkeypatch):
    refused = Training.encode

    def encode(self, *given, **named):
        if self.amount > 2:
            raise InputError("less", str(self.amount), "take less")
        return refused(self, *given, **named)

    monkeypatch.setattr(Training, "encode", encode)
    monkeypatch.setitem(registry.CODECS, "training", Training)
    rows = compare(network, toy, CompareSettings(budget_seconds=10.0), codecs=("training",)).rows
    amounts = [row.options["amount"] for row in rows]
    assert amounts == ["4", "3", "2"], "its defaults, then its strengths from the last on until one works"
    assert [row.measured is None for row in rows] == [True, True, False]
    assert [run.budget_seconds for run in Training.seen] == [10.0]
    rows = compare(network, toy, codecs=(Training(amount=3),)).rows
    assert len(rows) == 1, "nothing is tried that was not asked for"


# Interruption


def test_an_interrupted_comparison_goes_on(network, toy, training, tmp_path, monkeypatch):
    codecs = (FINE, COARSE, training)
    with pytest.raises(KeyboardInterrupt):
        compare(network, toy, codecs=codecs, folder=tmp_path)
    assert len((tmp_path / ROWS_FILE).read_text().splitlines()) == 2
    (checkpoint,) = tmp_path.glob("*.safetensors")
    encoded = []
    encode = Quantise.encode
    monkeypatch.setattr(
        Quantise, "encode", lambda self, *a, **k: encoded.append(type(self)) or encode(self, *a, **k), raising=False
    )
    found = compare(network, toy, codecs=codecs, folder=tmp_path)
    assert encoded == [Training], "finished rows were not made again"
    first, second = Training.seen
    assert second.checkpoint.load() is None, "removed once the row is kept"
    assert first.checkpoint.identity == second.checkpoint.identity
    assert not checkpoint.exists()
    assert [row.codec for row in found.rows] == ["quantise", "quantise", "training"]
    whole = compare(network, toy, codecs=codecs[:2])
    for row, other in zip(found.rows, whole.rows, strict=False):
        assert row.measured.message_sha256 == other.measured.message_sha256
        assert row.measured.deviation == other.measured.deviation


def test_kept_rows_are_of_the_same_question(network, toy, tmp_path, monkeypatch):
    compare(network, toy, codecs=(COARSE,), folder=tmp_path)
    module = importlib.import_module("bitcert.comparison.run")
    made = []
    new_row = module._Work._new_row
    monkeypatch.setattr(module._Work, "_new_row", lambda *given: made.append(1) or new_row(*given))
    compare(network, toy, codecs=(COARSE,), folder=tmp_path)
    assert not made
    compare(network, toy, CompareSettings(delta=0.1), codecs=(COARSE,), folder=tmp_path)
    assert len(made) == 1
    other = toy.take(slice(0, 200))
    compare(network, other, codecs=(COARSE,), folder=tmp_path)
    assert len(made) == 2


def test_rows_that_cannot_be_read_are_made_again(tmp_path):
    store = RowStore(tmp_path, ComparisonRow)
    store.put("a", make_row("svd", 10, 1, 0.5))
    store.put("b", make_refused("svd", "too small"))
    path = tmp_path / ROWS_FILE
    lines = path.read_text().splitlines()
    path.write_text("\n".join(["", "{", '{"key":"c"}', "[]", lines[0].replace('"errors":', '"mistakes":'), lines[1]]))
    again = RowStore(tmp_path, ComparisonRow)
    assert again.get("a") is None
    assert again.get("b") == make_refused("svd", "too small")
    path.write_bytes(b"\xff\xfe")
    assert RowStore(tmp_path, ComparisonRow).get("b") is None
    assert RowStore(None, ComparisonRow).checkpoint("a") is None


def test_a_full_disk_leaves_the_rows_before(tmp_path, monkeypatch):
    store = RowStore(tmp_path, ComparisonRow)
    store.put("a", make_row("svd", 10, 1, 0.5))

    def fails(*given):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", fails)
    with pytest.raises(OSError, match="No space"):
        store.put("b", make_row("svd", 20, 1, 0.5))
    assert RowStore(tmp_path, ComparisonRow).get("a") is not None
    assert RowStore(tmp_path, ComparisonRow).get("b") is None


def test_a_theory_sees_a_subsample(network, toy, monkeypatch):
    sizes = []

    @dataclass(frozen=True, kw_only=True)
    class Looking(Quantise):
        name: ClassVar[str] = "looking"

        def theory(self, network, sample=None):
            sizes.append(len(sample))
            return Theory("here", "so", float("inf"), None, "", 0.5)

    row = compare(network, toy, CompareSettings(theory_samples=50), codecs=(Looking(),)).rows[0]
    assert sizes == [50]
    assert row.theory.parameters is None, "what is not finite is not known"
    assert DecisionRule().batch_size == 1000
