"""bitcert: compress a trained classifier into a short binary message and certify how often it will be wrong.

The verbs, in the order of the work::

    network = capture(model, example)                    # what is understood of a network, or a refusal
    compressed = compress(sample, network, run=Run())    # -> message, ledger, helper
    certificate = certify(compressed, sample)            # -> the bound, with everything it rests on
    found = certify_best(CertifyRequest(sample))         # search for the best certificate in a given time
    verification = verify("out/certificate.json")        # a stranger's check from the files
    profile = measure(network, sample)                   # noise stability: why it could be compressed
    comparison = compare(network, sample)                # every codec at several strengths, theory beside practice
    table = bounds(network, sample)                      # every bound of the papers and their baselines, side by side
    page = render_report(certificate)                    # one self-contained HTML page

Samples come from ``load_sample`` or ``to_sample``. Verbs are functions; the subpackages hold the parts, in the order of
reading: ``data``, ``coding`` (integers and bits), ``proof`` (counts -> bounds), ``network`` (capture), ``linear``
(norms, spectra), ``decoder`` (bytes -> classifier), ``certificates``, ``stability`` (noise stability), ``theory`` (the
papers' bounds), ``codecs`` (the papers' compressions), ``search``, ``comparison``, ``report``, ``cli``.
"""

import importlib
from typing import TYPE_CHECKING, Any

from bitcert.certificates.certificate import Certificate
from bitcert.certificates.certification import certify
from bitcert.certificates.original import Original
from bitcert.certificates.verification import Status, Verification, verify
from bitcert.certificates.workload import WorkLimit
from bitcert.comparison import CompareSettings, Comparison, OutputDeviation, compare, output_deviation
from bitcert.counting import DecisionRule, ErrorCount, count_errors
from bitcert.data import PriorSplit, Role, Sample, load_sample, to_sample
from bitcert.decoder import Decoded, Helper, HelperWeights, Preprocessing, decode_message
from bitcert.errors import BitcertError
from bitcert.network import Network, capture
from bitcert.run import Candidate, Compressed, Run
from bitcert.search.compression import BestCertificate, certify_best, compress
from bitcert.search.request import CertifyRequest
from bitcert.stability import MeasureSettings, StabilityProfile, measure
from bitcert.stability.tracker import Tracker
from bitcert.theory.gathering import bounds
from bitcert.theory.settings import BoundSettings
from bitcert.theory.table import BoundTable

if TYPE_CHECKING:
    from bitcert.report import render_report

__version__ = "0.1.0"

__all__ = [
    "BestCertificate",
    "BitcertError",
    "BoundSettings",
    "BoundTable",
    "Candidate",
    "Certificate",
    "CertifyRequest",
    "CompareSettings",
    "Comparison",
    "Compressed",
    "DecisionRule",
    "Decoded",
    "ErrorCount",
    "Helper",
    "HelperWeights",
    "MeasureSettings",
    "Network",
    "Original",
    "OutputDeviation",
    "Preprocessing",
    "PriorSplit",
    "Role",
    "Run",
    "Sample",
    "StabilityProfile",
    "Status",
    "Tracker",
    "Verification",
    "WorkLimit",
    "bounds",
    "capture",
    "certify",
    "certify_best",
    "compare",
    "compress",
    "count_errors",
    "decode_message",
    "load_sample",
    "measure",
    "output_deviation",
    "render_report",
    "to_sample",
    "verify",
]


def __getattr__(name: str) -> Any:
    """Displays load when they are asked for: most verbs draw nothing."""
    if name not in ("report", "render_report"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    report = importlib.import_module("bitcert.report")
    return report if name == "report" else report.render_report
