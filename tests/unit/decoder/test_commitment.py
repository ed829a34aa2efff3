"""The commitment: what its hash is of, which helpers it covers, and how many share delta."""

import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest
from torch import nn, zeros

from bitcert.data import Column, Schema, Table
from bitcert.decoder import Helper, HelperWeights, Preprocessing
from bitcert.decoder.commitment import COMMITMENT_KEYS, Commitment, num_choices, problem_of
from bitcert.decoder.description import SplitClaim
from bitcert.network import capture

SCALED = Preprocessing(2.0, (0.5, 0.25), (1.0, 3.0))
PROBLEM = Helper((2,), 2, SCALED)
NETWORK = capture(nn.Linear(2, 2), zeros(2, 2)).architecture
WEIGHTS = HelperWeights({"weight": np.eye(2, dtype=np.float32), "bias": np.zeros(2, np.float32)})
OTHERS = HelperWeights({"weight": np.ones((2, 2), np.float32), "bias": np.zeros(2, np.float32)})
OWN = Helper((2,), 2, SCALED, NETWORK, weights=WEIGHTS)
FURTHER = Helper((2,), 2, SCALED, NETWORK, weights=OTHERS)


def test_what_is_declared():
    declared = Commitment.of([PROBLEM, OWN, FURTHER])
    assert declared.num_classes == 2
    assert declared.architectures == (NETWORK.content_hash,)
    assert declared.weights == tuple(sorted([WEIGHTS.content_hash, OTHERS.content_hash]))
    assert declared.split is None
    assert Commitment.of([PROBLEM]).num_classes == 2, "of the problem alone"
    assert Commitment.of([Helper((2,), 2, SCALED, classes_inferred=True)]).num_classes is None
    split = SplitClaim(0.5, 3)
    trained = Commitment.of([PROBLEM, OWN], split)
    assert (trained.weights, trained.split) == ((), split), "weights of a prior part come later"


def test_the_hash_is_of_everything_in_one_form():
    problem = {
        "message_format": PROBLEM.describe()["message_format"],
        "input_shape": [2],
        "scale": 2.0,
        "mean": [0.5, 0.25],
        "std": [1.0, 3.0],
        "decoder": PROBLEM.describe()["decoder"],
    }
    assert problem_of(OWN.describe()) == problem
    for split, said in [(None, None), (SplitClaim(0.5, 3), [0.5, 3])]:
        declared = Commitment.of([PROBLEM, OWN], split)
        parts = [problem, 2, [NETWORK.content_hash], [] if split else [WEIGHTS.content_hash], said]
        assert declared.hash == hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
        assert declared.describe() == {
            "hash": declared.hash,
            "num_classes": 2,
            "architectures": parts[2],
            "weights": parts[3],
        }
        assert declared.describe().keys() == COMMITMENT_KEYS


def test_a_table_is_a_part_of_the_problem():
    """Without one the hash is that of certificates from before there were tables."""
    schemas = [Schema(label="y"), Schema(label="z"), Schema((Column("a", use=False),), "y")]
    helpers = [replace(PROBLEM, table=Table(schema, ("a", "y", "z"))) for schema in schemas]
    hashes = {Commitment.of([helper]).hash for helper in (PROBLEM, *helpers)}
    assert len(hashes) == 4
    assert "table" not in problem_of(PROBLEM.describe())
    assert problem_of(helpers[2].describe()) == {**problem_of(PROBLEM.describe()), "table": schemas[2].hash}
    first, second = (Commitment.of([helper]) for helper in helpers[:2])
    assert first.covers(helpers[0].describe())
    assert not first.covers(helpers[1].describe())
    assert not second.covers(PROBLEM.describe())


@pytest.mark.parametrize(
    ("architectures", "weights", "choices"), [("", "", 1), ("a", "", 1), ("", "b", 1), ("ab", "", 2), ("ab", "cde", 6)]
)
def test_every_pair_of_what_was_declared_is_a_choice(architectures, weights, choices):
    assert num_choices(architectures, weights) == choices
    assert Commitment({}, 2, tuple(architectures), tuple(weights)).choices == choices


OWN_PROBLEM = problem_of(PROBLEM.describe())
FIXED = {**OWN_PROBLEM, "num_classes": 2, "classes_inferred": False, "architecture": None}
GIVEN = {**FIXED, "architecture": "net"}


@pytest.mark.parametrize(
    ("described", "covered"),
    [
        (FIXED, True),
        (GIVEN, True),
        ({**GIVEN, "weights": "public"}, True),
        ({**GIVEN, "architecture": "another net"}, False),
        ({**GIVEN, "weights": "others"}, False),
        ({**FIXED, "num_classes": 3}, False),
        ({**FIXED, "classes_inferred": True}, False),
        ({**FIXED, "classes_inferred": None}, False),
        *(({**FIXED, key: "another"}, False) for key in OWN_PROBLEM),
        *(({k: v for k, v in FIXED.items() if k != key}, False) for key in OWN_PROBLEM),
    ],
)
def test_which_helpers_are_covered(described, covered):
    assert Commitment(OWN_PROBLEM, 2, ("net",), ("public",)).covers(described) is covered


@pytest.mark.parametrize(
    ("described", "covered"),
    [
        ({**FIXED, "classes_inferred": True, "num_classes": 9}, True),
        (FIXED, False),
        ({**FIXED, "classes_inferred": 1}, False),
        (GIVEN, True),
        ({**GIVEN, "architecture": "another net"}, False),
    ],
)
def test_classes_that_were_left_open_are_in_the_message_or_in_the_network(described, covered):
    assert Commitment(OWN_PROBLEM, None, ("net",), ()).covers(described) is covered


def test_weights_of_a_prior_part_are_whatever_was_trained_on_it():
    described = {**GIVEN, "weights": "trained later"}
    assert Commitment(OWN_PROBLEM, 2, ("net",), (), SplitClaim(0.5, 0)).covers(described)
    assert not Commitment(OWN_PROBLEM, 2, ("net",), ()).covers(described)
