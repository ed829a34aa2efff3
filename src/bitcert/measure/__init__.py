"""Noise stability: why a network can be compressed, measured on a sample (Arora 2018; THEORY section 3.1).

::

    profile = measure(network, sample)          # -> StabilityProfile: every quantity of THEORY section 3.1
    plan_measure(network, sample, settings)     # time, memory, sizes, before any work
    figure, axes = profile.plot_attenuation()

Measures describe one network on one sample; they are never a guarantee.
"""

from bitcert.measure.layers import MeasuredLayer, Structure
from bitcert.measure.linearisation import Linearisation
from bitcert.measure.measurement import measure, network_hash
from bitcert.measure.planning import MeasurePlan, plan_measure
from bitcert.measure.profile import Hypothesis, LayerRow, LayerSpectrum, Reduced, StabilityProfile, TailSummary
from bitcert.measure.reduction import AttenuationCurve, Distribution, Histogram, SmoothnessSummary
from bitcert.measure.settings import QUANTITIES, BatchContext, MeasureSettings
from bitcert.measure.store import Shard, merge
from bitcert.measure.twin import initial_network, random_twin

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
    "Shard",
    "SmoothnessSummary",
    "StabilityProfile",
    "Structure",
    "TailSummary",
    "initial_network",
    "measure",
    "merge",
    "network_hash",
    "plan_measure",
    "random_twin",
]
