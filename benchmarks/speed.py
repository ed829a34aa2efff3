"""Processor time of recounting the records, against an earlier commit: ``python benchmarks/speed.py EARLIER/src``.

``EARLIER`` is a work tree of the commit to compare with (``git worktree add EARLIER 7968cf0``). Each record is counted
at the two levels that ``bitcert verify`` counts at, by both programs in turn, each in a fresh process on one thread,
and one JSON line says the processor time an example took, the ratio and the target. Processor time leaves out what
other programs of the machine do, and the further gain of two cores. The counts of both programs are printed too.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
RECORDS = ("mnist", "fashion-mnist", "cifar10")
TARGET = 5.0
COUNT = """
import json, sys, time, torch
from bitcert.certificates.loading import load
from bitcert.counting import DecisionRule, Level, count_losses
from bitcert.data import Role, load_sample

torch.set_num_threads(1)
record, examples = sys.argv[1], int(sys.argv[2])
certified, sample = load(f"records/{record}"), load_sample(record, Role.TRAIN)
sample = sample.take(slice(0, examples or len(sample)))
classifier = getattr(certified, "classifier", None) or certified._classifier
rule, levels = DecisionRule(certified.helper.batch_size), (Level.LENIENT, Level.STRICT)
try:
    from bitcert.certificates.screening import screened_ways
    how = {"ways": screened_ways}
except ImportError:
    how = {}
started = time.process_time()
counts = count_losses(classifier, sample, rule, levels=levels, **how)
seconds = time.process_time() - started
print(json.dumps([1000 * seconds / len(sample), [[each.errors.errors, each.errors.near_ties] for each in counts]]))
"""


def measure(source: Path, record: str, examples: int) -> tuple[float, list[list[int]]]:
    """Milliseconds of processor time an example, and errors and near-ties at both levels, of one program."""
    env = os.environ | {"PYTHONPATH": str(source.resolve()), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", COUNT, record, str(examples)]
    done = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, check=True)
    milliseconds, counts = json.loads(done.stdout)
    return milliseconds, counts


def main() -> None:
    """Print a line for each record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("earlier", type=Path, help="the folder src of the earlier commit")
    parser.add_argument("--records", nargs="*", default=RECORDS)
    parser.add_argument("--examples", type=int, default=0, help="count only the first so many")
    given = parser.parse_args()
    for record in given.records:
        before, counts_before = measure(given.earlier, record, given.examples)
        after, counts_after = measure(ROOT / "src", record, given.examples)
        line = {
            "work": f"recount {record}",
            "before_ms": round(before, 3),
            "after_ms": round(after, 3),
            "ratio": round(before / after, 2),
            "target": TARGET,
            "met": before / after >= TARGET,
            "counts_before": counts_before,
            "counts_after": counts_after,
        }
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
