"""COMPARISON: every codec at several strengths on one network, theory beside practice; numbers, then words."""

from bitcert.comparison.conclusions import beaten, conclude, shortest_faithful
from bitcert.comparison.deviation import OutputDeviation, output_deviation
from bitcert.comparison.plan import CompareSettings, ComparisonPlan, plan_comparison
from bitcert.comparison.records import Comparison, ComparisonRow, Original
from bitcert.comparison.run import compare

__all__ = [
    "CompareSettings",
    "Comparison",
    "ComparisonPlan",
    "ComparisonRow",
    "Original",
    "OutputDeviation",
    "beaten",
    "compare",
    "conclude",
    "output_deviation",
    "plan_comparison",
    "shortest_faithful",
]
