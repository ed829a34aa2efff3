"""Time and memory of full profiles on real networks: ``python benchmarks/profiles.py [ROW ...] [--json]``.

Each row is measured in a fresh process, so that its peak memory is its own. Prints one JSON object a line with
seconds, peak memory in GiB, the targets, and the reached root-mean-square relative standard error of the estimated
Jacobian norms. ``--json`` appends the lines to docs/results-measure.jsonl.
"""

from __future__ import annotations

import math
import resource
import time
from dataclasses import dataclass

from jacobians import RESULTS
from networks import preprocessing, train_sample, trained_network, vgg19
from processes import measure_rows

from bitcert import Network, Preprocessing, Sample, capture
from bitcert.certificates.certification import versions
from bitcert.stability import MeasureSettings, measure


@dataclass(frozen=True)
class Row:
    """One measurement and what it may take."""

    network: str
    images: int
    tolerance: float = 0.01
    minutes: float = math.inf
    gib: float = math.inf


ROWS = {
    "lenet300-6000": Row("lenet300", 6_000, gib=1.5),
    "lenet300-60000": Row("lenet300", 60_000, minutes=5, gib=1.5),
    "resnet20-2000": Row("resnet20", 2_000, minutes=10, gib=4),
    "vgg19-200": Row("vgg19", 200, tolerance=0.02, minutes=15, gib=6),
}


def load(row: Row) -> tuple[Network, Sample, Preprocessing]:
    """The network, its sample and their preprocessing."""
    if row.network == "vgg19":
        sample, process = train_sample("cifar10", row.images), preprocessing("cifar10")
        return capture(vgg19(), process(sample.inputs[:2])), sample, process
    return trained_network(row.network, row.images)


def run(name: str) -> dict[str, object]:
    """Measure one row in this process."""
    row = ROWS[name]
    network, sample, process = load(row)
    start = time.perf_counter()
    profile = measure(network, sample, MeasureSettings(tolerance=row.tolerance), preprocessing=process)
    seconds = time.perf_counter() - start
    return {
        "benchmark": "profiles",
        "name": name,
        "seed": 0,
        "images": len(sample),
        "seconds": round(seconds, 1),
        "target_seconds": None if math.isinf(row.minutes) else 60 * row.minutes,
        "peak_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
        "target_gib": row.gib,
        "tolerance": row.tolerance,
        "notes": list(profile.notes),
        "versions": versions(),
    }


if __name__ == "__main__":
    measure_rows(__file__, __doc__, ROWS, run, RESULTS)
