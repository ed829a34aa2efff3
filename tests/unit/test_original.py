"""From the compressed to the original network: what a disagreement is, and which unlabelled examples are refused."""

import dataclasses
import hashlib
import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bitcert import Helper, Preprocessing, Role, Sample, capture
from bitcert.certificates.original import (
    ORIGINAL_KEYS,
    UNLABELLED_KEYS,
    Original,
    check_unlabelled,
    helper_network,
    identity_hash,
    trials_of,
    unlabelled_sample,
)
from bitcert.counting import DecisionRule, count_batch, count_disagreements
from bitcert.decoder import HelperWeights
from bitcert.errors import InputError, SampleReuseError
from bitcert.network import OpaqueModel
from bitcert.network.nodes import ParameterSpec

TOLERANCE = 1e-4


def of_logits(first, second):
    """The disagreements of two networks with these logits (the inputs are row numbers)."""
    tables = [torch.tensor(rows, dtype=torch.float32) for rows in (first, second)]
    rows = np.arange(len(first), dtype=np.float32)[:, None]
    sample = Sample(rows, None, tables[0].shape[1], Role.UNLABELLED, "rows")
    pair = [lambda x, table=table: table[x[:, 0].astype(int)] for table in tables]
    return count_disagreements(*pair, sample, DecisionRule(3, TOLERANCE))[0].disagreements


def test_other_first_places_disagree_and_equal_ones_do_not():
    assert of_logits([[1, 0, 0]], [[9, 3, 1]]) == 0
    assert of_logits([[1, 0, 0]], [[0, 1, 0]]) == 1
    assert of_logits([[1, 0, 0]] * 7, [[1, 0, 0]] * 4 + [[0, 0, 1]] * 3) == 3


@pytest.mark.parametrize("tied", [[1, 1, 0], [1, 1 - 5e-5, 0], [np.nan, 0, 0], [np.inf, 0, 0], [1, -np.inf, 0]])
def test_near_ties_and_logits_that_are_not_finite_disagree_in_either_network(tied):
    clear = [[1, 0, 0]]
    assert of_logits([tied], clear) == of_logits(clear, [tied]) == of_logits([tied], [tied]) == 1


LOGITS = st.lists(st.sampled_from([0.0, 1.0, 1.0 - 5e-5, 2.0, -3.0, np.nan, np.inf]), min_size=3, max_size=3)


@given(first=LOGITS, second=LOGITS, label=st.integers(0, 2))
def test_who_is_wrong_where_the_other_is_right_disagrees(first, second, label):
    """The step of the theorem, example by example: wrong(f) <= wrong(g) + disagree."""
    labels = np.array([label])
    wrong = [count_batch(torch.tensor([row]), labels, TOLERANCE).errors for row in (first, second)]
    assert wrong[0] <= wrong[1] + of_logits([first], [second])


def test_a_larger_tolerance_counts_no_less():
    rng = np.random.default_rng(0)
    logits = np.round(rng.normal(size=(300, 2, 4)), 1).astype(np.float32)
    sample = Sample(logits, None, 4, Role.UNLABELLED, "logits")
    pair = (lambda x: torch.tensor(x[:, 0]), lambda x: torch.tensor(x[:, 1]))
    counts = [count_disagreements(*pair, sample, DecisionRule(50, tol))[0] for tol in (0.0, 1e-4, 0.05, 0.5)]
    assert [count.disagreements for count in counts] == sorted(count.disagreements for count in counts)
    assert {count.samples for count in counts} == {300}


def plain(values, role=Role.UNLABELLED, name="plain"):
    inputs = np.asarray(values, np.float32).reshape(-1, 1)
    labels = None if role is Role.UNLABELLED else np.arange(len(inputs)) % 2
    return Sample(inputs, labels, 2, role, name)


def test_one_shared_example_is_refused_and_counted():
    train = plain(range(1000), Role.TRAIN, "mine")
    check_unlabelled(plain(range(1000, 1500)), train)
    for first, shared in [(999, 1), (990, 10), (0, 500)]:
        with pytest.raises(SampleReuseError, match=f"{shared} of the 500 examples of 'plain' inside 'mine'"):
            check_unlabelled(plain(range(first, first + 500)), train)


@pytest.mark.parametrize("role", [Role.PRIOR, Role.HOLDOUT, Role.TRAIN])
def test_every_other_use_is_looked_at(role):
    with pytest.raises(SampleReuseError, match=role.value):
        check_unlabelled(plain(range(20)), plain(range(100, 140), Role.TRAIN), plain(range(19, 60), role))


def test_what_a_table_repeats_by_chance_is_counted_and_not_refused():
    """20 of 1,000 rows occur twice, so about 19 of 951 new ones are in it too."""
    train = plain([*range(990), *range(10)], Role.TRAIN)
    assert check_unlabelled(plain([*range(5000, 5950), 3]), train) == 1
    assert check_unlabelled(plain([*range(5000, 5931), *range(20)]), train) == 20
    with pytest.raises(SampleReuseError, match=r"at most about 19 examples.* got 60 of the 951"):
        check_unlabelled(plain([*range(5000, 5891), *range(60)]), train)


@pytest.mark.parametrize(("stated", "trials"), [({}, 900), ({"shared": 40}, 860), ({"shared": 880}, 30)])
def test_shared_examples_are_no_trials_but_may_disagree(stated, trials):
    facts = {"disagreements": 30, "unlabelled": {"samples": 900, **stated}}
    assert trials_of(facts) == trials


@pytest.mark.parametrize("shared", [-1, 0, 901, 900, 1.0, True, None, "3"])
def test_no_other_number_of_shared_examples_is_taken(shared):
    with pytest.raises(InputError, match=r"shared|not in the training data"):
        trials_of({"disagreements": 30, "unlabelled": {"samples": 900, "shared": shared}})


def test_another_shape_is_refused():
    other = Sample(np.zeros((4, 2), np.float32), None, 2, Role.UNLABELLED, "other")
    with pytest.raises(InputError, match="shape"):
        check_unlabelled(other, plain(range(10), Role.TRAIN))


def test_labels_are_dropped():
    labelled = plain(range(10), Role.HOLDOUT)
    bare = unlabelled_sample(labelled)
    assert (bare.role, bare.has_labels, len(bare)) == (Role.UNLABELLED, False, 10)
    assert unlabelled_sample(bare) is bare
    flipped = Sample(labelled.inputs, 1 - labelled.labels, 2, Role.HOLDOUT, "flipped")
    assert unlabelled_sample(flipped).content_hash == bare.content_hash, "no label can say anything"


@pytest.fixture(scope="module")
def original():
    torch.manual_seed(0)
    network = capture(torch.nn.Linear(1, 2), torch.zeros(2, 1))
    return Original.of(network, Preprocessing(), plain(range(20)), "my network")


def test_the_identity_is_architecture_weights_and_preprocessing(original):
    same = dataclasses.replace(original, unlabelled=plain(range(7)), name="another name")
    assert same.content_hash == original.content_hash
    name, value = next(iter(original.values.items()))
    moved = dataclasses.replace(original, values={**original.values, name: value + 1e-6})
    scaled = dataclasses.replace(original, preprocessing=Preprocessing(scale=2.0))
    assert len({original.content_hash, moved.content_hash, scaled.content_hash}) == 3


def test_the_classifier_is_the_network_on_preprocessed_inputs(original):
    scaled = dataclasses.replace(original, preprocessing=Preprocessing(scale=2.0))
    inputs = np.array([[4.0], [-2.0]], np.float32)
    expected = torch.tensor(inputs) / 2 @ original.values["weight"].T + original.values["bias"]
    assert torch.allclose(scaled.classifier(inputs), expected)
    assert not scaled.classifier(inputs).requires_grad


def test_no_network_in_the_helper_no_hold_out_line_from_it(toy_compressed):
    assert helper_network(toy_compressed.helper) is None


def opaque(factory="mine:make"):
    specs = (ParameterSpec("weight", (2, 1), "weight"), ParameterSpec("bias", (2,), "bias"))
    return OpaqueModel(torch.nn.Linear(1, 2), factory, specs, 2, (1,))


def test_the_description_is_what_files_are_compared_with(original):
    said = dataclasses.replace(original, name="x" * 300).describe()
    assert said["name"] == "x" * 200
    assert said["unlabelled"] == {"name": "plain", "hash": original.unlabelled.content_hash, "samples": 20}
    assert said["unlabelled"].keys() == UNLABELLED_KEYS
    assert said.keys() == ORIGINAL_KEYS - {"disagreements", "disagreement_bound", "look"}
    parts = {key: said[key] for key in ("architecture", "factory", "mean", "scale", "std", "weights")}
    assert parts["factory"] is None
    assert said["hash"] == identity_hash(said) == hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def test_a_network_without_a_name_has_one(original):
    parts = original.predictor, original.values, original.preprocessing, original.unlabelled
    unnamed = Original.of(capture(torch.nn.Linear(1, 2), torch.zeros(2, 1)), *parts[2:])
    assert Original(*parts).name == unnamed.name == "original network"


def test_python_code_is_known_by_its_name(original):
    first, second = (dataclasses.replace(original, predictor=opaque(name)) for name in ("mine:make", "mine:other"))
    assert first.describe()["factory"] == "mine:make"
    assert first.content_hash != second.content_hash


def test_labels_in_the_role_of_unlabelled_examples_are_dropped_too():
    odd = Sample(np.zeros((4, 1), np.float32), np.array([0, 1, 0, 1]), 2, Role.UNLABELLED, "odd")
    assert not unlabelled_sample(odd).has_labels


def test_the_network_of_a_helper_is_one_with_weights_for_its_classes(original):
    weights = HelperWeights.of(original.predictor, original.values)
    own = helper_network(Helper((1,), 2, Preprocessing(scale=2.0), original.predictor, weights=weights))
    inputs = np.array([[4.0], [-2.0]], np.float32)
    scaled = dataclasses.replace(original, preprocessing=Preprocessing(scale=2.0))
    assert torch.equal(own(inputs), scaled.classifier(inputs))
    assert helper_network(Helper((1,), 2, Preprocessing(), original.predictor)) is None
    assert helper_network(Helper((1,), 3, Preprocessing(), original.predictor, weights=weights)) is None
    assert helper_network(Helper((1,), 2, Preprocessing(), opaque(), weights=weights)) is None


def test_progress_is_the_part_that_was_counted():
    sample, told = plain(range(20)), []

    def network(inputs):
        return torch.tensor(inputs) @ torch.ones(1, 2)

    count_disagreements(network, network, sample, DecisionRule(15), progress=lambda *said: told.append(said))
    assert told == [("counting disagreements", 0.75), ("counting disagreements", 1.0)]
