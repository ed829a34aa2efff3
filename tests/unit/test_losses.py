"""Losses beside the 0/1 error: their values against slow counts, ties, rounding upwards, and what is refused."""

import math
import sys
from fractions import Fraction

import numpy as np
import pytest
import torch

from bitcert import Role, Sample
from bitcert.counting import DecisionRule, ErrorCount, Level, TwoWays, count_errors, count_losses
from bitcert.errors import InputError
from bitcert.losses import Loss, is_users, parse_loss, parse_losses
from bitcert.proof.claims import LOSS_UNITS

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
    errors = count_errors(lambda x: torch.tensor(x), sample, DecisionRule(50, TOLERANCE)).errors
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


COARSE = DecisionRule(tolerance=0.25, rounding=3.0)


def pair(single, double):
    return TwoWays(torch.tensor(single, dtype=torch.float64), torch.tensor(double, dtype=torch.float64))


def test_a_total_as_a_mean_and_the_values_in_words():
    top, brier = parse_loss("top-2", 6), parse_loss("brier", 6)
    assert (top.values, brier.values) == ("0 or 1", "0 to 1")
    assert (top.mean(3, 4), top.mean(1, 1), top.mean(0, 0)) == (0.75, 1.0, 0.0)
    assert (brier.mean(LOSS_UNITS, 2), brier.mean(0, 0)) == (0.5, 0.0)


@pytest.mark.parametrize(
    ("zero_one", "level", "calls"),
    [
        (True, Level.LENIENT, [(4.0, 1.0), (3.0, 0.0)]),
        (True, Level.CERTIFIED, [(4.0, 3.0), (3.0, 3.0)]),
        (True, Level.STRICT, [(4.0, 48.0), (3.0, 48.0)]),
        (False, Level.LENIENT, [(4.0, 1.0)]),
        (False, Level.CERTIFIED, [(4.0, 3.0), (3.0, 3.0)]),
    ],
)
def test_each_level_asks_the_loss_with_its_slack(zero_one, level, calls):
    """Logits up to 8, a tolerance of a quarter; the ways differ by 1, which counts 3 and 48 times."""
    seen = []

    def evaluate(logits, labels, slack):
        seen.append((logits[0, 0].item(), slack.item()))
        return torch.zeros(1)

    Loss("mine", evaluate, zero_one).total(pair([[3.0, -8.0]], [[4.0, -8.0]]), torch.tensor([0]), COARSE, level)
    assert seen == calls


@pytest.mark.parametrize(
    ("level", "value"),
    [
        (Level.LENIENT, 0.25 + 0.5 * 0.025),
        (Level.CERTIFIED, 0.375 + 0.025 + 0.125 * 0.5),
        (Level.STRICT, 1.0),
    ],
)
def test_the_larger_way_counts_with_its_rounding(level, value):
    """A tenth of the tolerance is added, and the slope times the difference of the ways: 1/8 times 1 and 16."""
    values = Loss("mine", lambda logits, labels, slack: logits[:, 0], zero_one=False, slope=0.5)
    for single, double in [(0.375, 0.25), (0.25, 0.375)]:
        if level is Level.LENIENT and double > single:
            value += 0.125
        units = values.total(pair([[single, 0.0]], [[double, 0.0]]), torch.tensor([0]), COARSE, level)
        assert units == math.ceil(value * LOSS_UNITS)


@pytest.mark.parametrize(("level", "times"), [(Level.LENIENT, 0.5), (Level.CERTIFIED, 1), (Level.STRICT, 2)])
def test_a_tenth_of_the_tolerance_is_added_as_often_as_the_level_says(level, times):
    values = Loss("mine", lambda logits, labels, slack: logits[:, 0], zero_one=False, slope=0.5)
    units = values.total(pair([[0.25, 0.0]], [[0.25, 0.0]]), torch.tensor([0]), COARSE, level)
    assert units == math.ceil((0.25 + times * 0.025) * LOSS_UNITS)


@pytest.mark.parametrize(("level", "times"), [(Level.LENIENT, 0), (Level.CERTIFIED, 1), (Level.STRICT, 16)])
def test_rounding_of_the_logits_counts_as_often_as_the_level_says(level, times):
    values = Loss("mine", lambda logits, labels, slack: logits[:, 0], zero_one=False, slope=2.0**-10)
    rule = DecisionRule(tolerance=0.0)
    units = values.total(pair([[0.25, 0.0]], [[0.25, 0.125]]), torch.tensor([0]), rule, level)
    assert units == (0.25 + times * 2.0**-13) * LOSS_UNITS
    assert Loss("mine", values.evaluate, zero_one=False).slope == 0.0, "not known"


def test_brier_moves_no_more_than_the_logits():
    ways = pair([[1.0, 0.0]], [[1.0, 0.125]])
    exact = max((1 - 1 / (1 + math.exp(-gap))) ** 2 for gap in (1.0, 0.875))
    units = parse_loss("brier", 2).total(ways, torch.tensor([0]), DecisionRule(tolerance=0.0), Level.CERTIFIED)
    assert units == math.ceil((exact + 0.125) * LOSS_UNITS)


def test_a_loss_never_sees_a_logit_that_is_not_finite():
    def evaluate(logits, labels, slack):
        assert len(logits)
        assert torch.isfinite(logits).all()
        return torch.zeros(len(logits))

    loss, nan = Loss("mine", evaluate, zero_one=False), torch.nan
    rule, labels = DecisionRule(tolerance=0.0), torch.tensor([0, 0])
    assert loss.total(pair([[nan, 0.0], [nan, 0.0]], [[0.0, 0.0], [0.0, 0.0]]), labels, rule, Level.CERTIFIED) == (
        2 * LOSS_UNITS
    )
    assert loss.total(pair([[nan, 0.0], [1.0, 0.0]], [[0.0, 0.0], [1.0, 0.0]]), labels, rule, Level.CERTIFIED) == (
        LOSS_UNITS
    )


def test_one_value_outside_the_unit_interval_is_enough():
    loss = Loss("mine", lambda logits, labels, slack: torch.tensor([0.5, 1.5]), zero_one=False)
    with pytest.raises(InputError, match=r"got the value 1\.5"):
        loss.total(pair([[1.0, 0.0]] * 2, [[1.0, 0.0]] * 2), torch.tensor([0, 0]), COARSE, Level.CERTIFIED)


@pytest.mark.parametrize(("name", "label_logit"), [("top-1", 2.0), ("margin:1", 3.0)])
def test_a_gap_of_exactly_the_slack_is_an_error(name, label_logit):
    for gap, wrong in [(label_logit, 1), (label_logit + 0.001, 0)]:
        ways = pair([[8.0, 8.0 - gap]], [[8.0, 8.0 - gap]])
        assert parse_loss(name, 2).total(ways, torch.tensor([0]), COARSE, Level.CERTIFIED) == wrong


def test_what_breaks_in_a_users_loss_is_told(users):
    logits, labels = logits_and_labels()
    with pytest.raises(InputError, match="KeyError: 'no'; check it on a small batch"):
        total("my_losses:broken", logits, labels)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (7, "^expected the name of a loss"),
        (None, "^expected the name of a loss"),
        ("m:" + "f" * 199, "^expected the name of a loss"),
        ("m:" + "f" * 198, "^expected a loss function m:f"),
        ("top-x", "^expected a loss among .* top-5"),
        ("briers", "did you mean 'brier'"),
    ],
)
def test_why_a_name_is_no_loss(name, said):
    with pytest.raises(InputError, match=said):
        parse_loss(name, 6)


def test_who_is_never_wrong_loses_nothing():
    sample = Sample(9 * np.eye(6, dtype=np.float32), np.arange(6), 6, Role.TRAIN, "unit vectors")
    for size in (2, 6):
        found = count_losses(torch.tensor, sample, DecisionRule(size), parse_losses(["top-2", "margin:8"], 6))
        assert [(count.errors, count.totals) for count in found] == [(ErrorCount(0, 0, 6), (0, 0))]


def test_progress_is_the_part_that_was_counted():
    logits, labels = logits_and_labels()
    sample, told = Sample(logits.numpy(), labels.numpy(), 6, Role.TRAIN, "logits"), []
    count_losses(torch.tensor, sample, DecisionRule(150), progress=lambda what, part: told.append((what, part)))
    assert told == [("counting errors", 0.75), ("counting errors", 1.0)]
