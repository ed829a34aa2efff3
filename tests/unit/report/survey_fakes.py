"""Surveys with made-up numbers, for pages and figures."""

import math

from bitcert.theory.survey_table import Reading, Survey, SurveyRow
from bitcert.theory.value import Status

NAMES = ("jiang2020-log-prod-of-fro", "bartlett2017-spec-l12-collection", "parameters", "jiang2020-inverse-margin")


def reading(log10, why="needs no condition"):
    """A value by its logarithm, or none."""
    if log10 is None:
        return Reading(None, None, str(Status.NEEDS), why)
    return Reading(10**log10 if log10 < 308 else None, log10, str(Status.HOLDS), why)


def make_row(k, holdout=True):
    """The k-th network; every third one has no margin."""
    values = {
        NAMES[0]: reading(math.sin(k) + 300 * (k % 2)),
        NAMES[1]: reading(0.3 * k),
        NAMES[2]: reading(3.0),
        NAMES[3]: reading(None, "needs a positive margin: the 5 % quantile is -1") if k % 3 == 0 else reading(-0.1 * k),
    }
    return SurveyRow(
        name=f"width={8 * k},depth={k % 2 + 1},rate=0.1",
        content_hash="ab" * 32,
        num_parameters=1000 * k,
        depth=2,
        width=8 * k,
        errors=5 * k,
        samples=600,
        holdout_errors=20 * k if holdout else None,
        holdout_samples=1000 if holdout else None,
        gamma=None if k % 3 == 0 else 0.25 * k,
        hyperparameters={"width": 8 * k, "depth": k % 2 + 1, "rate": 0.1},
        readings=values,
        seconds=1.0,
    )


def make_survey(networks=9, holdout=True):
    """A survey of so many networks."""
    return Survey(
        sample={"name": "leaves", "content_hash": "cd" * 32, "num_samples": 600},
        holdout={"name": "held", "num_samples": 1000} if holdout else None,
        measures=NAMES,
        rows=tuple(make_row(k, holdout) for k in range(1, networks + 1)),
        refused={"broken": "expected a file, got none; look for it"},
        settings={"delta": 0.05},
        versions={"bitcert": "0.1.0"},
    )
