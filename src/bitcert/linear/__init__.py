"""Linear layers as maps: apply, transpose, norms, spectra, power-law tails, random sign
projections, and mixtures of linear regressions.

Measures, not guarantees: every number here describes a weight, none bounds a risk.
"""

from bitcert.linear.lanczos import OperatorNorm, operator_norm
from bitcert.linear.maps import LayerMap, Window
from bitcert.linear.norms import (
    LayerNorms,
    frobenius_norm,
    layer_norms,
    norm_1inf,
    norm_21,
    reshaped_spectral_norm,
)
from bitcert.linear.projection import matrix_project
from bitcert.linear.regressions import Mixture, choose_mixture, fit_mixture
from bitcert.linear.spectra import layer_spectra
from bitcert.linear.tails import TailResult, TailSummary, eigenvalue_tail, fit_tail, weight_tail

__all__ = [
    "LayerMap",
    "LayerNorms",
    "Mixture",
    "OperatorNorm",
    "TailResult",
    "TailSummary",
    "Window",
    "choose_mixture",
    "eigenvalue_tail",
    "fit_mixture",
    "fit_tail",
    "frobenius_norm",
    "layer_norms",
    "layer_spectra",
    "matrix_project",
    "norm_1inf",
    "norm_21",
    "operator_norm",
    "reshaped_spectral_norm",
    "weight_tail",
]
