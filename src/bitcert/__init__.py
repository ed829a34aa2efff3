"""bitcert: compress a trained classifier into a short binary message and certify how often it will be wrong.

The verbs, in the order of the work::

    network = capture(model, example)                    # what is understood of a network, or a refusal
    compressed = compress(sample, network, run=Run())    # -> message, ledger, helper
    certificate = certify(compressed, sample)            # -> the bound, with everything it rests on
    found = certify_best(CertifyRequest(sample))         # search for the best certificate in a given time
    verification = verify("out/certificate.json")        # a stranger's check from the files
    certified = load("out/")                             # the certified classifier, a torch module
    export(certified, "classifier.onnx")                 # in another format, with the certificate in it
    numbers = certify_counts(26, 1797, 504)              # the bound alone, for code of your own
    profile = measure(network, sample)                   # noise stability: why it could be compressed
    comparison = compare(network, sample)                # every codec at several strengths, theory beside practice
    table = bounds(network, sample)                      # every bound of the papers and their baselines, side by side
    found = survey(networks, sample, holdout=test)       # which measure orders networks by their generalization gap
    page = render_report(certificate)                    # one self-contained HTML page

Samples come from ``load_sample`` or ``to_sample``. Verbs are functions; the subpackages hold the parts, in the order of
reading: ``data``, ``coding`` (integers and bits), ``proof`` (counts -> bounds), ``network`` (capture), ``linear``
(norms, spectra), ``decoder`` (bytes -> classifier), ``certificates``, ``stability`` (noise stability), ``theory`` (the
papers' bounds), ``codecs`` (the papers' compressions), ``search``, ``comparison``, ``studies`` (the papers' tables),
``report``, ``exports``, ``cli``.
"""

import importlib
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bitcert.certificates.certificate import Certificate
    from bitcert.certificates.certification import certify
    from bitcert.certificates.loading import Certified, load
    from bitcert.certificates.original import Original
    from bitcert.certificates.verification import Status, Verification, verify
    from bitcert.certificates.workload import WorkLimit
    from bitcert.comparison import CompareSettings, Comparison, OutputDeviation, compare, output_deviation
    from bitcert.counting import DecisionRule, ErrorCount, count_errors
    from bitcert.data import PriorSplit, Role, Sample, load_sample, to_sample
    from bitcert.decoder import Decoded, Helper, HelperWeights, Preprocessing, decode_message
    from bitcert.errors import BitcertError
    from bitcert.exports import Export, export, is_export, model_card, push_to_hub, save_pretrained
    from bitcert.network import Network, capture
    from bitcert.proof.counts import CountsBound, certify_counts
    from bitcert.report import render_report
    from bitcert.run import Candidate, Compressed, Run
    from bitcert.search.compression import BestCertificate, certify_best, compress
    from bitcert.search.estimator import CertifiedClassifier
    from bitcert.search.request import CertifyRequest
    from bitcert.stability import MeasureSettings, StabilityProfile, measure
    from bitcert.stability.tracker import Tracker
    from bitcert.theory.gathering import bounds
    from bitcert.theory.settings import BoundSettings
    from bitcert.theory.survey import survey
    from bitcert.theory.survey_table import Survey
    from bitcert.theory.table import BoundTable

__version__ = "0.1.0"

__all__ = [
    "BestCertificate",
    "BitcertError",
    "BoundSettings",
    "BoundTable",
    "Candidate",
    "Certificate",
    "Certified",
    "CertifiedClassifier",
    "CertifyRequest",
    "CompareSettings",
    "Comparison",
    "Compressed",
    "CountsBound",
    "DecisionRule",
    "Decoded",
    "ErrorCount",
    "Export",
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
    "Survey",
    "Tracker",
    "Verification",
    "WorkLimit",
    "bounds",
    "capture",
    "certify",
    "certify_best",
    "certify_counts",
    "compare",
    "compress",
    "count_errors",
    "decode_message",
    "export",
    "is_export",
    "load",
    "load_sample",
    "measure",
    "model_card",
    "output_deviation",
    "push_to_hub",
    "render_report",
    "save_pretrained",
    "survey",
    "to_sample",
    "verify",
]

_MODULES = {
    "certificates.certificate": "Certificate",
    "certificates.certification": "certify",
    "certificates.loading": "Certified load",
    "certificates.original": "Original",
    "certificates.verification": "Status Verification verify",
    "certificates.workload": "WorkLimit",
    "comparison": "CompareSettings Comparison OutputDeviation compare output_deviation",
    "counting": "DecisionRule ErrorCount count_errors",
    "data": "PriorSplit Role Sample load_sample to_sample",
    "decoder": "Decoded Helper HelperWeights Preprocessing decode_message",
    "errors": "BitcertError",
    "exports": "Export export is_export model_card push_to_hub save_pretrained",
    "network": "Network capture",
    "proof.counts": "CountsBound certify_counts",
    "report": "render_report",
    "run": "Candidate Compressed Run",
    "search.compression": "BestCertificate certify_best compress",
    "search.estimator": "CertifiedClassifier",
    "search.request": "CertifyRequest",
    "stability": "MeasureSettings StabilityProfile measure",
    "stability.tracker": "Tracker",
    "theory.gathering": "bounds",
    "theory.settings": "BoundSettings",
    "theory.survey": "survey",
    "theory.survey_table": "Survey",
    "theory.table": "BoundTable",
}
_HOMES = {name: f"bitcert.{module}" for module, names in _MODULES.items() for name in names.split()}
"""Where each public name is defined."""


def __getattr__(name: str) -> Any:
    """Modules load when something of theirs is asked for: ``import bitcert`` alone loads no torch."""
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    if name.startswith("_") or find_spec(f"bitcert.{name}") is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return importlib.import_module(f"bitcert.{name}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
