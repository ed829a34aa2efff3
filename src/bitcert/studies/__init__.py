"""STUDIES: every table and figure of the five papers, the paper's number beside ours; one module a paper.

A study trains what it needs, measures it with the library's verbs, and reports what it found. It never asserts that a
claim of a paper holds: what is proved stands in a certificate, and what is observed is an observation. Formulas of a
study's own are a defect: a number comes from ``measure``, ``bounds``, ``certify_best``, ``compare`` or a ``Tracker``.
"""

from bitcert.studies.context import Context
from bitcert.studies.registry import STUDIES, find_studies
from bitcert.studies.result import Curve, Field, Figure, Outcome, Panel, Row, Size, StudyResult, Trained
from bitcert.studies.running import run_study
from bitcert.studies.study import Cost, Study
from bitcert.studies.training import Recipe, TrainedNetwork, train

__all__ = [
    "STUDIES",
    "Context",
    "Cost",
    "Curve",
    "Field",
    "Figure",
    "Outcome",
    "Panel",
    "Recipe",
    "Row",
    "Size",
    "Study",
    "StudyResult",
    "Trained",
    "TrainedNetwork",
    "find_studies",
    "run_study",
    "train",
]
