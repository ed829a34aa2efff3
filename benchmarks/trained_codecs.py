"""Certificates of the codecs that train their message, LeNet-5 on MNIST.

``python benchmarks/trained_codecs.py [subspace] [mask] [--budget SECONDS] [--steps N] [--threads N] [--json FILE]``

Prints one JSON object a line: ``name``, ``value`` (the bound, in %), ``target`` (at most, in %), ``seconds``, message
bits, training errors, and the held-out error of the decoded network. delta = 0.05; every bit is counted; errors on the
60,000 training examples as given. Published for a random subspace: 11.6 % (Lotfi et al. 2022), with more training.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch
from networks import lenet5, preprocessing, train_sample

from bitcert import Role, Run, capture, certify, load_sample
from bitcert.certificates.certification import versions
from bitcert.codecs.mask import RandomNetworkMask
from bitcert.codecs.random_subspace import RandomSubspace

ROWS: dict[str, tuple[RandomSubspace | RandomNetworkMask, float, float]] = {
    "subspace": (RandomSubspace(), 14.0, 600.0),
    "mask": (RandomNetworkMask(), 30.0, 480.0),
}
"""Codec with its defaults, target in %, seconds."""


def row(name: str, budget: float | None, steps: int | None, seed: int) -> dict[str, object]:
    """Train, certify, and say what it rests on."""
    codec, target, seconds = ROWS[name]
    codec = replace(codec, num_steps=steps)
    sample, process = train_sample("mnist"), preprocessing("mnist")
    torch.manual_seed(seed)  # the values are not used: both codecs start from the helper's random numbers
    network = capture(lenet5(), process(sample.inputs[:2]))
    run = Run(seed=seed, budget_seconds=budget or seconds, progress=_progress)
    started, cpu = time.monotonic(), time.process_time()
    compressed = codec.encode(network, sample, run=run)
    elapsed, cpu = time.monotonic() - started, time.process_time() - cpu
    certificate = certify(compressed, sample, holdout=load_sample("mnist", Role.HOLDOUT, split="test"))
    holdout = certificate.holdout or {}
    return {
        "name": name,
        "codec": codec.label,
        "value": round(100 * certificate.bound, 3),
        "target": target,
        "seconds": round(elapsed, 1),
        "cpu_seconds": round(cpu, 1),
        "target_seconds": seconds,
        "message_bits": certificate.message_bits,
        "errors": certificate.errors,
        "samples": certificate.samples,
        "holdout": holdout,
        "sections": dict(compressed.ledger.sections),
        "candidates": [[c.name, c.errors, c.message_bits, round(c.bound, 4)] for c in compressed.candidates],
        "seed": seed,
        "threads": torch.get_num_threads(),
        "versions": versions(),
    }


def _progress(task: str, fraction: float) -> None:
    if sys.stderr.isatty():
        print(f"\r{task} {fraction:4.0%}   ", end="", file=sys.stderr, flush=True)


def main() -> None:
    """Run the rows asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=[], help=f"rows among {', '.join(ROWS)}")
    parser.add_argument("--budget", type=float, help="seconds, in place of each row's own")
    parser.add_argument("--steps", type=int, help="training steps, in place of the time (on a machine that is busy)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--json", type=Path, help="also write all rows to this file")
    options = parser.parse_args()
    unknown = set(options.names) - set(ROWS)
    if unknown:
        parser.error(f"unknown rows: {', '.join(sorted(unknown))}; choose among {', '.join(ROWS)}")
    if options.threads:
        torch.set_num_threads(options.threads)
    rows = []
    for name in options.names or list(ROWS):
        rows.append(row(name, options.budget, options.steps, options.seed))
        print(json.dumps(rows[-1]), flush=True)
    if options.json:
        options.json.write_text("".join(json.dumps(line) + "\n" for line in rows))


if __name__ == "__main__":
    main()
