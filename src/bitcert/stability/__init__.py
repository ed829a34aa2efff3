"""Noise stability: why a network can be compressed, measured on a sample (Arora 2018; docs/theory.md section 3.1).

::

    profile = measure(network, sample)          # -> StabilityProfile: every quantity of docs/theory.md section 3.1
    plan_measure(network, sample, settings)     # time, memory, sizes, before any work
    figure, axes = report.plot_attenuation(profile)

Measures describe one network on one sample; they are never a guarantee.
"""

from bitcert.linear.tails import TailSummary
from bitcert.stability.layers import MeasuredLayer, Structure
from bitcert.stability.linearisation import Linearisation
from bitcert.stability.measurement import measure, network_hash
from bitcert.stability.planning import MeasurePlan, plan_measure
from bitcert.stability.profile import Hypothesis, LayerRow, LayerSpectrum, Reduced, StabilityProfile
from bitcert.stability.reduction import AttenuationCurve, Distribution, Histogram, SmoothnessSummary
from bitcert.stability.settings import QUANTITIES, BatchContext, MeasureSettings
from bitcert.stability.twin import initial_network, random_twin

__all__ = [
    "QUANTITIES",
    "AttenuationCurve",
    "BatchContext",
    "Distribution",
    "Histogram",
    "Hypothesis",
    "LayerRow",
    "LayerSpectrum",
    "Linearisation",
    "MeasurePlan",
    "MeasureSettings",
    "MeasuredLayer",
    "Reduced",
    "SmoothnessSummary",
    "StabilityProfile",
    "Structure",
    "TailSummary",
    "initial_network",
    "measure",
    "network_hash",
    "plan_measure",
    "random_twin",
]
