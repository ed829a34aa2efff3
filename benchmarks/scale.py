"""Workers and memory: ``python benchmarks/scale.py [--examples N ...] [--out FOLDER]``. JSON lines with targets.

A synthetic set (784 floats an example, ten classes, in ``x.npy`` and ``y.npy``) is written to a folder and certified
data are counted on it by a fixed two-layer network of random weights in both ways:

- *peak memory*: of a fresh process that loads, hashes and counts, for each number of examples; it should not grow.
- *workers*: wall-clock time of the count with one and with two processes. On a busy machine it says little.
- *counts*: the same for every executor.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

WIDTH, HIDDEN, CLASSES = 784, 256, 10
BLOCK = 10_000
MAX_GROWTH, LEAST_SPEEDUP = 1.1, 1.8
COUNT = """
import json, resource, sys, time, torch
import numpy as np
from bitcert.counting import DecisionRule, FloatClassifier, count_losses
from bitcert.data import Role, load_sample
from bitcert.shards import Here, LocalWorkers, executing_on

torch.set_num_threads(1)


class Random(FloatClassifier):
    def __init__(self):
        rng = np.random.default_rng(1)
        self.weights = [torch.from_numpy(rng.standard_normal(s).astype(np.float32)) for s in ((784, 256), (256, 10))]

    def logits(self, inputs, dtype):
        first, second = (each.to(dtype) for each in self.weights)
        return torch.relu(torch.from_numpy(np.array(inputs)).to(dtype) @ first) @ second


workers = int(sys.argv[2])
sample = load_sample(sys.argv[1], Role.TRAIN)
digest = sample.content_hash
started = time.perf_counter()
with executing_on(LocalWorkers(workers) if workers else Here()):
    errors = count_losses(Random(), sample, DecisionRule())[0].errors.errors
seconds = time.perf_counter() - started
print(json.dumps([errors, digest, seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]))
"""


def write_set(folder: Path, examples: int) -> Path:
    """A synthetic set of so many examples, written block by block."""
    folder.mkdir(parents=True, exist_ok=True)
    inputs = np.lib.format.open_memmap(folder / "x.npy", "w+", np.float32, (examples, WIDTH))
    rng = np.random.default_rng(0)
    for start in range(0, examples, BLOCK):
        inputs[start : start + BLOCK] = rng.random((min(BLOCK, examples - start), WIDTH), dtype=np.float32)
    inputs.flush()
    np.save(folder / "y.npy", rng.integers(0, CLASSES, examples))
    return folder


def count(folder: Path, workers: int) -> tuple[int, str, float, float]:
    """Errors, hash, seconds of the count and peak memory in MiB of a fresh process."""
    command = [sys.executable, "-c", COUNT, str(folder), str(workers)]
    errors, digest, seconds, peak = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    return errors, digest, seconds, peak


def main() -> None:
    """Print the lines."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, nargs=2, default=[100_000, 1_000_000], help="a small and a large set")
    parser.add_argument("--out", type=Path, help="folder for the sets; by default a temporary one")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.out or Path(temporary)
        small, large = (write_set(folder / str(size), size) for size in given.examples)
        one, many = count(small, 0), count(large, 0)
        grown = many[3] / one[3]
        line = {"work": "peak memory", "examples": given.examples, "MiB": [round(one[3]), round(many[3])]}
        print(json.dumps({**line, "ratio": round(grown, 3), "target": MAX_GROWTH, "met": grown <= MAX_GROWTH}))
        single, double = count(small, 1), count(small, 2)
        gain = single[2] / double[2]
        line = {"work": "two workers", "seconds": [round(single[2], 2), round(double[2], 2)], "ratio": round(gain, 2)}
        print(json.dumps({**line, "target": LEAST_SPEEDUP, "met": gain >= LEAST_SPEEDUP}))
        same = one[:2] == single[:2] == double[:2]
        print(json.dumps({"work": "the same counts and hash", "errors": one[0], "met": same}))


if __name__ == "__main__":
    main()
