"""``survey`` on small networks: entries against ``bounds``, what is left out and why, resumption, file and tables."""

import csv
import io
import json

import numpy as np
import pytest
import torch

from bitcert import Preprocessing, Role, Sample, survey
from bitcert.errors import DecodeError, InputError, SampleReuseError
from bitcert.theory import survey as survey_module
from bitcert.theory.gathering import bounds, gather
from bitcert.theory.ingredients.margin import NO_MARGIN
from bitcert.theory.registry import bound
from bitcert.theory.settings import BoundSettings
from bitcert.theory.survey_table import Survey
from bitcert.theory.value import BoundValue
from tests.unit.theory import nets

BARE = BoundSettings(profile=False, flatness=False)
NAMES = ("jiang2020-l2", "jiang2020-path-norm", "jiang2020-inverse-margin", "parameters")


@pytest.fixture(scope="module")
def networks():
    return {f"seed {seed}": nets.captured(nets.chain(seed=seed), 5) for seed in range(4)}


@pytest.fixture(scope="module")
def sample(networks):
    return nets.sample_of(networks["seed 0"])


@pytest.fixture(scope="module")
def holdout(networks):
    return nets.sample_of(networks["seed 0"], n=30, seed=2, name="held", wrong=3).with_role(Role.HOLDOUT)


@pytest.fixture(scope="module")
def found(networks, sample, holdout):
    grid = {name: {"seed": k, "even": k % 2 == 0} for k, name in enumerate(networks)}
    return survey(networks, sample, NAMES, holdout=holdout, hyperparameters=grid)


def test_every_entry_is_what_bounds_says_of_that_network(found, networks, sample, holdout):
    for row in found.rows:
        table = bounds(networks[row.name], sample, BARE, holdout=holdout)
        for name, reading in row.readings.items():
            alone = table.row(name)
            assert (reading.value, reading.log10, reading.status) == (alone.value, alone.log10, alone.status)
        assert row.gap == pytest.approx(table.gap)
        assert (row.errors, row.samples, row.num_parameters) == (table.sample["errors"], 40, 5 * 8 + 8 * 6 + 6 * 3)


def test_a_network_without_a_margin_loses_only_the_entries_that_need_one(found):
    with_errors = [row for row in found.rows if row.training_error > 0.05]
    assert len(with_errors) == 3
    for row in with_errors:
        assert row.gamma is None
        assert row.readings["jiang2020-inverse-margin"].why.startswith(NO_MARGIN)
        assert all(row.value(name) is not None for name in NAMES if name != "jiang2020-inverse-margin")
    assert found.rows[0].value("jiang2020-inverse-margin") == pytest.approx(1 / found.rows[0].gamma ** 2)


def test_correlations_are_of_the_networks_that_have_a_value(found):
    told = {each.measure: each for each in found.correlations()}
    assert told["jiang2020-l2"].networks == 4
    assert told["jiang2020-inverse-margin"].networks == 1
    assert told["jiang2020-inverse-margin"].kendall is None
    assert told["parameters"].kendall is None  # of all networks the same
    assert set(told["jiang2020-l2"].by_hyperparameter) == {"seed", "even"}
    assert next(iter(told)) in ("jiang2020-l2", "jiang2020-path-norm")
    assert found.distinct(["jiang2020-l2", "jiang2020-param-norm"][:1]) == ["jiang2020-l2"]


def test_the_file_comes_back_and_false_ones_do_not(found):
    text = found.to_json()
    assert Survey.from_json(text) == found
    content = json.loads(text)
    content["rows"][0]["errors"] = 41
    for wrong in ("{}", "[]", text.replace("bitcert-survey-1", "bitcert-survey-9"), json.dumps(content)):
        with pytest.raises(DecodeError):
            Survey.from_json(wrong)


def test_the_tables_hold_one_row_a_network(found):
    rows = list(csv.DictReader(io.StringIO(found.to_csv())))
    assert [row["network"] for row in rows] == [row.name for row in found.rows]
    assert [float(row["gap"]) for row in rows] == [row.gap for row in found.rows]
    assert rows[1]["jiang2020-inverse-margin"] == ""
    pandas = pytest.importorskip("pandas")
    frame = found.to_pandas()
    assert isinstance(frame, pandas.DataFrame)
    assert list(frame.columns) == found.table()[0]
    assert frame["jiang2020-l2"].tolist() == [row.value("jiang2020-l2") for row in found.rows]
    titles, told = found.correlation_table()
    assert len(told) == len(found.measured)
    assert all(len(row) == len(titles) for row in told)


def test_networks_may_be_modules_or_loaded_when_their_turn_comes_and_one_that_fails_costs_its_row(sample):
    def missing():
        raise InputError("a file", "none", "look for it")

    given = {
        "module": nets.chain(),
        "late": lambda: nets.captured(nets.chain(), 5),
        "late module": nets.chain,
        "missing": missing,
        "narrow": nets.captured(torch.nn.Linear(5, 2), 5),
    }
    found = survey(given, sample, ["jiang2020-l2"])
    assert [row.name for row in found.rows] == ["module", "late", "late module"]
    assert found.rows[0].readings == found.rows[1].readings == found.rows[2].readings
    assert set(found.refused) == {"missing", "narrow"}
    assert "expected a file" in found.refused["missing"]
    assert found.holdout is None
    assert found.rows[0].gap is None
    assert found.correlation("jiang2020-l2").networks == 0
    with pytest.raises(InputError, match="2 that cannot; of missing"):
        survey({"missing": missing, "narrow": given["narrow"]}, sample)


def test_what_a_named_measure_needs_is_measured_and_nothing_else(networks, sample, monkeypatch):
    asked = []

    def watched(network, data, settings, preprocessing, **given):
        asked.append((settings.profile, settings.flatness))
        return gather(network, data, settings, preprocessing, **given)

    monkeypatch.setattr(survey_module, "gather", watched)
    alone = [networks["seed 0"]]
    found = survey(alone, sample, ["arora2018-table1"])
    assert found.rows[0].name == "network 1"
    assert found.rows[0].value("arora2018-table1") is not None
    survey(alone, sample, ["parameters"])
    survey(alone, sample)
    assert asked == [(False, False), (True, False), (False, False), (False, False)]


def test_finished_networks_are_not_measured_again(networks, sample, holdout, tmp_path, monkeypatch):
    first = survey(networks, sample, NAMES, holdout=holdout, folder=tmp_path)

    def never(*given, **more):
        raise AssertionError("it was finished")

    with monkeypatch.context() as patched:
        patched.setattr(survey_module, "gather", never)
        assert survey(networks, sample, NAMES, holdout=holdout, folder=tmp_path) == first
    other = survey(
        networks, sample, NAMES, BoundSettings(margin_quantile=0.9, profile=False, flatness=False), folder=tmp_path
    )
    assert other.rows[0].gamma != first.rows[0].gamma


def test_measures_of_ones_own_and_distances_from_initial_weights(networks, sample):
    @bound("mine", "here", "the number of layers", "How deep it is.")
    def mine(inputs):
        """``d``."""
        return BoundValue(np.log(inputs.depth))

    starts = dict.fromkeys(networks, networks["seed 3"])
    found = survey(networks, sample, [mine, "jiang2020-l2-dist"], init=starts)
    assert [row.value("mine") for row in found.rows] == [pytest.approx(3.0)] * 4
    assert found.rows[3].value("jiang2020-l2-dist") == 0.0
    assert found.rows[3].readings["jiang2020-l2-dist"].order == -np.inf
    assert found.rows[0].value("jiang2020-l2-dist") > 0


def test_bad_input_is_refused_in_a_sentence(networks, sample, holdout):
    with pytest.raises(InputError, match="at least one network"):
        survey({}, sample)
    with pytest.raises(InputError, match="bound"):
        survey(networks, sample, ["jiang2020-l3"])
    with pytest.raises(InputError, match="none of 'seed 1'"):
        survey(networks, sample, NAMES, hyperparameters={"seed 0": {"a": 1}})
    with pytest.raises(InputError, match="the same hyperparameters"):
        survey(networks, sample, NAMES, hyperparameters={name: {name: 1} for name in networks})
    with pytest.raises(SampleReuseError):
        survey(networks, sample, NAMES, holdout=sample.with_role(Role.HOLDOUT))


def test_preprocessing_is_that_of_the_networks(networks, sample):
    scaled = Sample(sample.inputs * 4, sample.labels, 3, Role.TRAIN, "scaled")
    one = {"one": networks["seed 0"]}
    assert survey(one, scaled, NAMES, preprocessing=Preprocessing(4.0)).rows[0].errors == 0
