"""Time and memory of every bound on real networks: ``python benchmarks/bounds.py [ROW ...] [--json]``.

Each row is measured in a fresh process, so that its peak memory is its own. Prints one JSON object a line: seconds (of
the clock, of all cores together, and by stage), peak memory in GiB, the targets, and how many bounds apply.
``lenet300-60000`` measures the stability profile too; ``lenet300-60000-profile`` is given one (its measurement is not
counted); ``resnet56-5000`` leaves the rows out that need one. Held-out labels come from the test set. ``--json``
appends the lines to docs/results-bounds.jsonl.
"""

from __future__ import annotations

import math
import resource
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from networks import trained_network
from processes import measure_rows

from bitcert import Role, load_sample
from bitcert.certificates.certification import versions
from bitcert.theory.gathering import bounds
from bitcert.theory.ingredients.stability import measured_profile
from bitcert.theory.settings import BoundSettings

RESULTS = Path(__file__).parent.parent / "docs" / "results-bounds.jsonl"


@dataclass(frozen=True)
class Row:
    """One measurement and what it may take."""

    network: str
    data: str
    images: int
    seconds: float
    gib: float = math.inf
    profile: str = "measured"
    held_out: int = 10_000


ROWS = {
    "lenet300-60000": Row("lenet300", "mnist", 60_000, seconds=360, gib=1.5),
    "lenet300-60000-profile": Row("lenet300", "mnist", 60_000, seconds=20, gib=1.5, profile="given"),
    "resnet56-5000": Row("resnet56", "cifar10", 5_000, seconds=60, profile="none", held_out=2_000),
}


def run(name: str) -> dict[str, object]:
    """Measure one row in this process."""
    row = ROWS[name]
    network, sample, process = trained_network(row.network, row.images)
    holdout = load_sample(row.data, Role.HOLDOUT, split="test").take(slice(0, row.held_out))
    settings = BoundSettings(profile=row.profile == "measured")
    profile = measured_profile(network, sample, settings, process) if row.profile == "given" else None
    start, busy = time.perf_counter(), time.process_time()
    table = bounds(network, sample, settings, preprocessing=process, profile=profile, holdout=holdout)
    seconds = time.perf_counter() - start
    busy = time.process_time() - busy
    return {
        "benchmark": "bounds",
        "name": name,
        "seed": 0,
        "images": len(sample),
        "held_out": len(holdout),
        "profile": row.profile,
        "seconds": round(seconds, 1),
        "core_seconds": round(busy, 1),
        "target_seconds": row.seconds,
        "stages": {stage: round(value, 1) for stage, value in table.seconds.items()},
        "peak_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
        "target_gib": None if math.isinf(row.gib) else row.gib,
        "gamma": table.gamma,
        "statuses": dict(Counter(found.status for found in table.rows)),
        "values": {found.name: found.log10 for found in table.rows if found.log10 is not None},
        "versions": versions(),
    }


if __name__ == "__main__":
    measure_rows(__file__, __doc__, ROWS, run, RESULTS)
