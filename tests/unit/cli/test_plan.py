"""``bitcert plan``: what it measures and says, and its formula on whole numbers."""

import itertools
import json
import os
from functools import partial

import numpy as np
import pytest
import torch

from bitcert.cli import plan
from bitcert.cli.plan import Cost, PlanOptions

NET = """
import torch

def net():
    return torch.nn.Linear(2, 2)
"""


@pytest.fixture
def large(here, toy_data, monkeypatch):
    (here / "large_net.py").write_text(NET)
    # the processor's time advances by half a second whenever it is read
    monkeypatch.setattr(plan.clock, "processor_seconds", partial(next, itertools.count(0.0, 0.5)))
    return "large_net:net", "--data", toy_data


def test_a_plan_follows_from_the_measured_cost(bitcert, large):
    outcome = bitcert("plan", *large, "--examples", "1e6", "--measured", 50, "--workers", "1,10", "--json")
    found = json.loads(outcome.out)
    assert (found["examples"], found["data_bytes"]) == (1_000_000, 8_000_000)
    assert found["seconds_each"] == 0.5 / 50
    cost = Cost(**{name: found[name] for name in Cost.__dataclass_fields__})
    assert found["seconds"] == {"1": cost.seconds(1), "10": cost.seconds(10)}
    assert cost.seconds(1) == pytest.approx(cost.serial_seconds + 10_000)
    assert found["linear_until"] == cost.linear_until <= found["shards"] <= 256


def test_a_plan_for_tokens_in_words(bitcert, large):
    outcome = bitcert("plan", *large, "--tokens", 2e6, "--workers", "1,2")
    assert "Counting 1,000,000 examples like those of toy.npz" in outcome.out
    assert "Linear up to" in outcome.out


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--examples", 5, "--tokens", 5), "--examples or --tokens"),
        (("--examples", 0), "at least one example"),
        (("--examples", "nan"), "at least one example"),
        (("--tokens", "nan"), "at least one example"),
        (("--workers", "1,x"), "numbers of workers"),
        (("--workers", "0"), "numbers of workers"),
        (("--measured", 1), "at least 2 examples"),
    ],
)
def test_a_plan_that_cannot_be_is_refused(refused, large, options, says):
    refused("plan", *large, *options, says=says)


def test_a_plan_from_sorted_data_leaves_the_process_and_the_loading_alone(bitcert, large, toy_data, monkeypatch):
    with np.load(toy_data) as data:
        order = np.argsort(data["y"])
        arrays = {name: data[name][order] for name in ("x", "y")}
    np.savez(toy_data, **arrays)
    load = PlanOptions.load_sample
    monkeypatch.setattr(
        PlanOptions,
        "load_sample",
        lambda *given: [plan.clock.processor_seconds() for _ in range(2000)] and load(*given),
    )
    own = os.getpid()
    monkeypatch.setattr(torch, "set_num_threads", lambda count: pytest.fail(f"{count}") if os.getpid() == own else None)
    found = json.loads(bitcert("plan", *large, "--json").out)
    assert found["serial_seconds"] < 100  # of the clock, which loading moved on by 1,000


def test_workers_beyond_the_shards_gain_nothing():
    cost = Cost(1000, 1.0, 0.0, 10, 0, 0)
    assert [cost.seconds(workers) for workers in (1, 3, 10, 99)] == [1000.0, 400.0, 100.0, 100.0]
    assert cost.linear_until == 10
    assert Cost(1000, 1.0, 1e9, 10, 0, 0).linear_until == 1
