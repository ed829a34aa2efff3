"""The declared split: what decides it, what each part is, what is refused."""

from decimal import Decimal

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bitcert.data import PriorSplit, Role, Sample, load_sample, split_prior
from bitcert.data.split import PRIOR_KEYS, prior_mask
from bitcert.decoder import Preprocessing
from bitcert.errors import InputError


def sample(n=40, labels=None):
    inputs = np.arange(2 * n, dtype=np.float32).reshape(n, 2)
    return Sample(inputs, np.arange(n) % 2 if labels is None else labels, 2, Role.TRAIN, "toy")


@example(n=3, fraction=1 / 3, seed=0)
@given(n=st.integers(2, 300), fraction=st.floats(0.01, 0.99), seed=st.integers(0, 5))
@example(n=3, fraction=1 / 3, seed=0)
@example(n=300, fraction=0.29, seed=0)
def test_every_example_is_in_one_part(n, fraction, seed):
    """The prior part has the size that the decimal says, rounded down: a third of three, written down, is not one."""
    count = int(Decimal(repr(fraction)) * n)
    if count == 0:
        with pytest.raises(InputError, match="examples in both"):
            prior_mask(n, fraction, seed)
        return
    mask = prior_mask(n, fraction, seed)
    assert (mask.shape, mask.dtype) == ((n,), np.bool_)
    assert mask.sum() == count < n


def test_the_decimal_counts():
    assert prior_mask(100, 0.29, 0).sum() == 29
    assert prior_mask(10, 0.3, 0).sum() == 3
    assert prior_mask(60000, 0.5, 0).sum() == 30000


def test_the_split_is_the_same_for_ever():
    """Raw Philox words: a change here makes every certificate with a split unverifiable."""
    assert np.flatnonzero(prior_mask(20, 0.3, 0)).tolist() == FROZEN[0]
    assert np.flatnonzero(prior_mask(20, 0.3, 7)).tolist() == FROZEN[7]


FROZEN = {0: [3, 5, 7, 10, 18, 19], 7: [3, 4, 14, 16, 18, 19]}


def test_the_parts_keep_the_order_and_say_what_they_are():
    whole = sample()
    prior, rest = split_prior(whole, 0.25, 3)
    assert (prior.role, rest.role) == (Role.PRIOR, Role.TRAIN)
    assert (prior.name, rest.name) == ("toy (prior part)", "toy (rest)")
    assert len(prior) == 10
    rows = np.concatenate([prior.inputs[:, 0], rest.inputs[:, 0]])
    assert sorted(rows) == whole.inputs[:, 0].tolist()
    for part in (prior, rest):
        assert (np.diff(part.inputs[:, 0]) > 0).all()
        assert (part.labels == part.inputs[:, 0] // 2 % 2).all()


def test_labels_and_inputs_do_not_decide():
    """The split is a function of number, fraction and seed: nobody can steer it through the data."""
    whole = sample()
    other = Sample(whole.inputs[::-1].copy(), 1 - whole.labels, 2, Role.TRAIN, "toy")
    where = np.flatnonzero(np.isin(whole.inputs[:, 0], split_prior(whole, 0.5)[0].inputs[:, 0]))
    assert (split_prior(other, 0.5)[0].inputs == other.inputs[where]).all()


@pytest.mark.parametrize("fraction", [0, 1, 0.0, 1.0, -0.5, 2, float("nan"), float("inf"), "0.5", None, True, 0.01])
def test_a_part_may_not_be_empty(fraction):
    with pytest.raises(InputError, match="prior part"):
        split_prior(sample(), fraction)


@pytest.mark.parametrize("seed", [-1, 1.0, "0", None, True, 2**63])
def test_a_seed_is_a_whole_number(seed):
    with pytest.raises(InputError, match="seed"):
        split_prior(sample(), 0.5, seed)


@pytest.mark.parametrize("fraction", [0.0, 1.0, False, True, 1.5])
def test_a_fraction_at_the_ends_is_refused_before_anything_is_counted(fraction):
    with pytest.raises(InputError, match="strictly between 0 and 1"):
        prior_mask(40, fraction, 0)


def test_the_largest_seed_is_one():
    assert prior_mask(20, 0.3, 2**63 - 1).sum() == 6


@pytest.mark.parametrize("role", [Role.TRAIN, Role.HOLDOUT])
def test_the_parts_have_their_roles_whatever_the_whole_was(role):
    prior, rest = split_prior(sample().with_role(role), 0.5)
    assert (prior.role, rest.role) == (Role.PRIOR, Role.TRAIN)


def test_the_seed_is_0_unless_another_one_was_declared():
    split = PriorSplit.of(sample(), 0.5)
    assert split.seed == 0
    for prior, _ in (split_prior(sample(), 0.5), split_prior(sample(), 0.5, 0)):
        assert prior.content_hash == split.prior.content_hash


def test_a_split_may_know_the_network_of_its_prior_part():
    split = PriorSplit.of(sample(), 0.5)
    knowing = split.with_helper(len)
    assert "helper_classifier" not in repr(knowing)
    assert (split.helper_classifier, knowing.helper_classifier) == (None, len)
    assert (knowing.prior, knowing.rest, knowing.describe()) == (split.prior, split.rest, split.describe())


def test_one_class_on_a_side_is_refused():
    labels = np.zeros(40, int)
    labels[3] = 1
    with pytest.raises(InputError, match="two classes"):
        split_prior(sample(labels=labels), 0.5)


def test_what_the_certificate_says():
    split = PriorSplit.of(sample(), 0.5, 2)
    said = split.describe()
    assert said == {
        "fraction": 0.5,
        "seed": 2,
        "samples": 20,
        "hash": split.prior.content_hash,
        "rest_hash": split.rest.content_hash,
    }
    assert said.keys() == PRIOR_KEYS


def test_a_part_of_the_digits_is_preprocessed_as_the_digits():
    digits = load_sample("digits", Role.TRAIN)
    assert Preprocessing.usual(split_prior(digits, 0.5)[1]).scale == Preprocessing.usual(digits).scale == 16.0
