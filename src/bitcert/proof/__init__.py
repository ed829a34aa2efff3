"""CERTIFY: (errors, samples, bits, delta) -> number. Guarantees only; float64, log space, rounded outward, no torch.

What is here holds with probability at least ``1 - delta`` over the draw of the sample, with every constant present.
It does NOT look at networks or data: counting errors and bits honestly is the business of the other packages.
"""

from bitcert.proof.binomial import binomial_tail_inverse, log_binomial_cdf
from bitcert.proof.budget import ConfidenceBudget, Withdrawal, complexity_nats
from bitcert.proof.chernoff import binary_kl, kl_chernoff, pac_bayes_kl, pac_bayes_sampled
from bitcert.proof.gaussian import gaussian_kl
from bitcert.proof.hoeffding_bound import hoeffding
from bitcert.proof.holdout import (
    CITATION_BINOMIAL_TAIL,
    CITATION_HOLDOUT,
    CITATION_OCCAM,
    OccamBound,
    disagreement_bound,
    holdout_bound,
    occam_bound,
    self_contained_bound,
    trials_apart,
)

__all__ = [
    "CITATION_BINOMIAL_TAIL",
    "CITATION_HOLDOUT",
    "CITATION_OCCAM",
    "ConfidenceBudget",
    "OccamBound",
    "Withdrawal",
    "binary_kl",
    "binomial_tail_inverse",
    "complexity_nats",
    "disagreement_bound",
    "gaussian_kl",
    "hoeffding",
    "holdout_bound",
    "kl_chernoff",
    "log_binomial_cdf",
    "occam_bound",
    "pac_bayes_kl",
    "pac_bayes_sampled",
    "self_contained_bound",
    "trials_apart",
]
