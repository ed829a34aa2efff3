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

Samples come from ``load_sample`` or ``to_sample``. The subpackages hold the parts: ``certify`` (the theorems as pure
functions), ``coding`` (bits), ``network`` (capture), ``helper`` (decoders), ``codecs`` (compressions of the papers),
``compress`` (search), ``linear`` (norms, spectra), ``measure`` (noise stability), ``bounds`` (the papers' bounds).
"""

from bitcert.bounds.gathering import bounds as _bounds
from bitcert.bounds.settings import BoundSettings
from bitcert.bounds.table import BoundTable
from bitcert.certification import certify as _certify
from bitcert.certify.certificate import Certificate
from bitcert.comparison import CompareSettings, Comparison, compare
from bitcert.compress.run import Candidate, Compressed, Run
from bitcert.compression import compress as _compress
from bitcert.data import PriorSplit, Role, Sample, load_sample, to_sample
from bitcert.deviation import OutputDeviation, output_deviation
from bitcert.errors import BitcertError
from bitcert.evaluate import DecisionRule, ErrorCount, count_errors
from bitcert.helper import Decoded, Helper, HelperWeights, Preprocessing, decode_message
from bitcert.measure import MeasureSettings, StabilityProfile
from bitcert.measure import measure as _measure
from bitcert.measure.tracker import Tracker
from bitcert.network import Network, capture
from bitcert.original import Original
from bitcert.pipeline import BestCertificate, CertifyRequest, certify_best
from bitcert.report import render_report
from bitcert.verify import Status, Verification
from bitcert.verify import verify as _verify
from bitcert.workload import WorkLimit

# The verbs deliberately take the names of the subpackages that implement them.
bounds = _bounds
certify = _certify
compress = _compress
measure = _measure
verify = _verify

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
