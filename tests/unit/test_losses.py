"""Losses beside the 0/1 error: their values against slow counts, ties, rounding upwards, and what is refused."""

import math
import sys
from fractions import Fraction

import numpy as np
import pytest
import torch

from bitcert import Role, Sample
from bitcert.certify.claims import LOSS_UNITS
from bitcert.errors import InputError
from bitcert.evaluate import DecisionRule, Level, TwoWays, count_errors_at
from bitcert.losses import count_losses, is_users, parse_loss, parse_losses

TOLERANCE = 1e-4


def logits_and_labels(n=200, k=6, seed=0):
    rng = np.random.default_rng(seed)
    logits = np.round(rng.normal(size=(n, k)) * 2, 1)  # rounded: ties occur
    return torch.tensor(logits), torch.tensor(rng.integers(k, size=n))


def total(name, logits, labels, tolerance=TOLERANCE, level=Level.CERTIFIED):
    ways = TwoWays(logits.double(), logits.double())
    return parse_loss(name, logits.shape[1]).total(ways, labels, DecisionRule(tolerance=tolerance), level)


@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_top_k_is_the_rank_with_ties_as_errors(k):
    logits, labels = logits_and_labels()
    slow = 0
    for row, label in zip(logits.tolist(), labels.tolist(), strict=True):
        size = max(map(abs, row))
        ahead = sum(row[label] - other <= TOLERANCE * size for j, other in enumerate(row) if j != label)
        slow += ahead > k - 1
    assert total(f"top-{k}", logits, labels) == slow
    assert 0 < slow < len(labels)


def test_near_ties_at_the_last_place_are_errors():
    logits = torch.tensor([[5.0, 3.0, 3.0 - 1e-9, 0.0]], dtype=torch.float64)
    for label, wrong in [(0, 0), (1, 1), (2, 1), (3, 1)]:
        assert total("top-2", logits, torch.tensor([label])) == wrong
    assert total("top-3", logits, torch.tensor([2])) == 0


def test_top_1_is_the_zero_one_error():
    logits, labels = logits_and_labels(seed=3)
    sample = Sample(logits.numpy(), labels.numpy(), 6, Role.TRAIN, "logits")
    stored = torch.tensor(sample.inputs)
    errors = count_errors_at(lambda x: torch.tensor(x), sample, 50, (TOLERANCE,))[0].errors
    assert total("top-1", stored.double(), labels) == errors


def test_margin_loss():
    logits, labels = logits_and_labels(seed=5)
    others = logits.scatter(1, labels[:, None], -torch.inf).amax(1)
    margin = logits[torch.arange(200), labels] - others
    assert total("margin:0.75", logits, labels) == int((margin <= 0.75 + TOLERANCE * logits.abs().amax(1)).sum())
    assert total("margin:0", logits, labels) == total("top-1", logits, labels)


def test_brier_is_rounded_up_and_not_by_much():
    logits, labels = logits_and_labels(seed=7)
    exact = 0.0
    for row, label in zip(logits.tolist(), labels.tolist(), strict=True):
        weights = [math.exp(value - max(row)) for value in row]
        p = [weight / sum(weights) for weight in weights]
        exact += 0.5 * sum((value - (j == label)) ** 2 for j, value in enumerate(p))
    units = total("brier", logits, labels)
    assert exact < units / LOSS_UNITS < exact + 200 * (TOLERANCE * 0.1 + 2 / LOSS_UNITS)


def test_brier_is_at_most_one():
    logits = torch.tensor([[1e30, -1e30], [1e30, -1e30]], dtype=torch.float64)
    assert total("brier", logits, torch.tensor([1, 1])) == 2 * LOSS_UNITS
    assert total("brier", logits, torch.tensor([0, 0])) == 2 * math.ceil(1e-5 * LOSS_UNITS)


@pytest.mark.parametrize(("name", "most"), [("top-2", 1), ("margin:1", 1), ("brier", LOSS_UNITS)])
def test_logits_that_are_not_finite_lose_everything(name, most):
    logits = torch.tensor([[9.0, 0.0, 0.0], [torch.nan, 0.0, 0.0], [torch.inf, 0.0, 0.0], [0.0, -torch.inf, 1.0]])
    labels = torch.tensor([0, 0, 0, 2])
    one = total(name, logits[:1].double(), labels[:1])
    assert total(name, logits.double(), labels) == one + 3 * most
    assert total(name, logits[1:].double(), labels[1:]) == 3 * most


def test_the_sum_does_not_depend_on_the_batches():
    logits, labels = logits_and_labels(seed=2)
    sample = Sample(logits.numpy(), labels.numpy(), 6, Role.TRAIN, "logits")
    losses = parse_losses(["brier", "top-2"], 6)
    counts = [count_losses(lambda x: torch.tensor(x), sample, DecisionRule(size), losses)[0] for size in (1, 7, 200)]
    assert counts[0] == counts[1] == counts[2]
    assert len(counts[0].totals) == 2


def test_a_larger_tolerance_never_counts_less():
    logits, labels = logits_and_labels()
    for name in ("top-2", "margin:0.5", "brier"):
        totals = [total(name, logits, labels, tolerance) for tolerance in (0.0, 5e-5, 1e-4, 2e-4, 0.1)]
        assert totals == sorted(totals)


@pytest.fixture
def users(tmp_path, monkeypatch):
    (tmp_path / "my_losses.py").write_text(
        "import torch\n"
        "def half(logits, labels):\n    return torch.full((len(labels),), 0.5)\n"
        "def numpys(logits, labels):\n    return (logits.argmax(1) != labels).double().numpy()\n"
        "def above(logits, labels):\n    return torch.full((len(labels),), 1.0 + 1e-9, dtype=torch.float64)\n"
        "def below(logits, labels):\n    return -torch.ones(len(labels))\n"
        "def nan(logits, labels):\n    return torch.full((len(labels),), float('nan'))\n"
        "def scalar(logits, labels):\n    return 0.5\n"
        "def text(logits, labels):\n    return 'all right'\n"
        "def broken(logits, labels):\n    raise KeyError('no')\n"
        "def spoils(logits, labels):\n    logits.zero_()\n    return torch.zeros(len(labels))\n"
        "number = 3\n"
    )
    monkeypatch.chdir(tmp_path)
    yield
    sys.modules.pop("my_losses", None)


def test_a_users_loss_is_counted(users):
    logits, labels = logits_and_labels()
    per_example = math.ceil((0.5 + 1e-5) * LOSS_UNITS)
    assert total("my_losses:half", logits, labels) == 200 * per_example
    wrong = int((logits.argmax(1) != labels).sum())
    units = total("my_losses:numpys", logits, labels)
    assert wrong <= Fraction(units, LOSS_UNITS) <= wrong + 200 * 2e-5
    before = logits.clone()
    total("my_losses:spoils", logits, labels)
    assert (logits == before).all()


@pytest.mark.parametrize("name", ["above", "below", "nan", "scalar", "text", "broken"])
def test_a_users_loss_outside_the_unit_interval_is_refused(users, name):
    logits, labels = logits_and_labels()
    with pytest.raises(InputError, match=f"my_losses:{name}") as refusal:
        total(f"my_losses:{name}", logits, labels)
    assert len(str(refusal.value).splitlines()) == 1


@pytest.mark.parametrize(
    "name", ["top-0", "top-6", "top-", "top5", "Brier", "margin:", "margin:-1", "margin:nan", "", "x" * 300, "a b:c"]
)
def test_unknown_losses_are_refused(name):
    with pytest.raises(InputError):
        parse_loss(name, 6)


@pytest.mark.parametrize("name", ["my_losses:nothing", "my_losses:number", "no_such_module_here:f"])
def test_functions_that_are_not_there_are_refused(users, name):
    with pytest.raises(InputError, match=name):
        parse_loss(name, 6)


def test_the_zero_one_error_is_always_claimed_and_never_twice():
    assert parse_losses(["zero-one", "top-1"], 6) == ()
    assert [loss.name for loss in parse_losses(["zero-one", "brier"], 6)] == ["brier"]
    with pytest.raises(InputError, match="once"):
        parse_losses(["brier", "top-2", "brier"], 6)


def test_which_names_are_code():
    assert is_users("a.b:c")
    assert not any(map(is_users, ["brier", "top-5", "margin:1.5", "zero-one", "a:b c"]))
