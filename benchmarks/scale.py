"""Workers and memory: ``python benchmarks/scale.py [--examples N N] [--out FOLDER] [--ray]``. JSON lines with targets.

A synthetic set (784 floats an example, ten classes, in ``x.npy`` and ``y.npy``) is written to a folder and certified
data are counted on it by a fixed two-layer network of random weights in both ways:

- *peak memory*: of a fresh process that loads, hashes and counts, for each number of examples; it should not grow.
- *workers*: wall-clock time of the count with one and with two processes. On a busy machine it says little.
- *counts*: the same for every executor.
- *verbs*: peak memory of ``certify`` (20 s), ``verify``, ``measure`` and ``bounds`` on both sets.
- *ray*: with ``--ray``, what a pass of a minute takes longer on a Ray cluster of this machine than in local processes,
  from passes that compute nothing. The first pass, in which Ray's workers load bitcert, is left out.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from bitcert.ray_cluster import RayCluster
from bitcert.shards import Executor, LocalWorkers, executing_on, in_shards

WIDTH, HIDDEN, CLASSES = 784, 256, 10
BLOCK = 10_000
MAX_GROWTH, LEAST_SPEEDUP = 1.1, 1.8
MAX_OVERHEAD, PASS_SECONDS = 0.1, 60.0
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


NETWORK = """
import torch


def two_layers():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(784, 16), torch.nn.ReLU(), torch.nn.Linear(16, 10))
"""
VERBS = {
    "certify": ("net:two_layers", "--budget", "20", "--out", "certified"),
    "verify": ("certified/certificate.json", "--workers", "1"),
    "measure": ("net:two_layers", "--quantities", "margin,layer_cushion", "--out", "measured"),
    "bounds": ("net:two_layers", "--profile-samples", "1000", "--out", "bounds"),
}
PEAK = """
import resource, subprocess, sys
subprocess.run([sys.executable, "-m", "bitcert", *sys.argv[1:]], check=True, stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024)
"""


def peaks(folder: Path) -> dict[str, float]:
    """Peak memory of each verb on a set, in MiB."""
    (folder / "net.py").write_text(NETWORK)
    found = {}
    for verb, options in VERBS.items():
        command = [sys.executable, "-c", PEAK, verb, *options, "--data", str(folder)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, cwd=folder.parent, env=with_path(folder))
        found[verb] = float(done.stdout)
    return found


def with_path(folder: Path) -> dict[str, str]:
    """The environment with a folder that modules are found in."""
    return os.environ | {"PYTHONPATH": os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])}


def ray_overhead() -> float:
    """Seconds that a pass of 250 shards takes longer on Ray than in two local processes, the better of three."""
    import ray

    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False)

    def nothing(start: int, stop: int) -> int:
        return stop - start

    def seconds(executor: Executor) -> float:
        started = time.perf_counter()
        in_shards(nothing, 250, 1, executor=executor)
        return time.perf_counter() - started

    with executing_on(cluster := RayCluster()):
        times = [seconds(cluster) for _ in range(4)]
    ray.shutdown()
    return min(times[1:]) - min(seconds(LocalWorkers(2)) for _ in range(3))


def main() -> None:
    """Print the lines."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, nargs=2, default=[100_000, 1_000_000], help="a small and a large set")
    parser.add_argument("--out", type=Path, help="folder for the sets; by default a temporary one")
    parser.add_argument("--ray", action="store_true", help="start a Ray cluster on this machine and measure it, too")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = (given.out or Path(temporary)).resolve()
        small, large = (write_set(folder / str(size), size) for size in given.examples)
        one, many = count(small, 0), count(large, 0)
        grown = many[3] / one[3]
        line = {"work": "peak memory", "examples": given.examples, "MiB": [round(one[3]), round(many[3])]}
        print(json.dumps({**line, "ratio": round(grown, 3), "target": MAX_GROWTH, "met": grown <= MAX_GROWTH}))
        single, double = count(small, 1), count(small, 2)
        gain = single[2] / double[2]
        line = {"work": "two workers", "seconds": [round(single[2], 2), round(double[2], 2)], "ratio": round(gain, 2)}
        print(json.dumps({**line, "target": LEAST_SPEEDUP, "met": gain >= LEAST_SPEEDUP}))
        before, after = peaks(small), peaks(large)
        for verb in VERBS:
            ratio = after[verb] / before[verb]
            line = {"work": f"peak memory of {verb}", "MiB": [round(before[verb]), round(after[verb])]}
            print(json.dumps({**line, "ratio": round(ratio, 3), "target": MAX_GROWTH, "met": ratio <= MAX_GROWTH}))
        if given.ray:
            part = ray_overhead() / PASS_SECONDS
            line = {"work": "Ray against local processes, a pass of a minute", "part": round(part, 3)}
            print(json.dumps({**line, "target": MAX_OVERHEAD, "met": part <= MAX_OVERHEAD}))
        same = one[:2] == single[:2] == double[:2]
        print(json.dumps({"work": "the same counts and hash", "errors": one[0], "met": same}))


if __name__ == "__main__":
    main()
