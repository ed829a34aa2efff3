"""Certificates for networks of users: ``python benchmarks/own_networks.py [--only NAME ...] [--quick] [--json]``.

Each row runs ``bitcert certify`` in a process of its own, verifies every certificate it made in a fresh process, and
prints one JSON object a line: what is certified, the bound and the target in %, the budget and the processor seconds
used. Rows with a target are those of published networks (found through BITCERT_DATA). The rest are a dozen
architectures of ``own_architectures.py`` on digits and on generated data, trained for a few epochs or as initialised:
of these every certificate must verify, and the best be no worse than the built-in classifier's.

Budgets are *processor seconds*: the program's clock is the processor's in these runs, so that a busy machine gives the
same result. ``--quick`` gives each row a thirtieth of its time, 4 seconds at least. ``--json`` appends the lines to
docs/results-own-networks.jsonl.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "results-own-networks.jsonl"
OPTIONS = ("", "-weights", "-architecture", "-built-in")
MNIST, CIFAR = ("--scale", "255"), ("--mean", "0.485,0.456,0.406", "--std", "0.229,0.224,0.225")
SUBSPACE = ("--codec", "subspace", "--option", "dimension=2000")
_PROGRAM = (
    "import time,bitcert.clock;bitcert.clock.seconds=time.process_time\nimport sys;from bitcert.cli import main;"
    "main(sys.argv[1:])"
)


@dataclass(frozen=True)
class Row:
    """A network, what is certified of it, and what is asked.

    Args:
        what: is certified, in words.
        factory: in ``own_architectures.py``.
        data: a name, or one of :data:`GENERATED`.
        seconds: of the processor, for the search.
        target: at most, in %, or ``None``.
        options: of ``bitcert certify``.
        original: the certificate is of the network itself, by the test inputs without their labels.
        trained: of a network without weights: whether it is trained first.
    """

    what: str
    factory: str
    data: str
    seconds: float
    target: float | None = None
    options: tuple[str, ...] = ()
    original: bool = False
    trained: bool = False


PUBLISHED = {
    "lenet5-architecture": Row("its architecture", "published_lenet5", "mnist", 900, 11.0, SUBSPACE),
    "lenet300-architecture": Row("its architecture", "published_lenet300", "mnist", 900, 16.0, SUBSPACE),
    "mnist8-weights": Row("its weights", "mnist8", "mnist", 600, 10.0, ("--scale", "1", "--codec", "tuned")),
    "fashion-architecture": Row("its architecture", "fashion_net", "fashion-mnist", 900, 32.0, SUBSPACE),
    "resnet20-architecture": Row("its architecture", "cifar_resnet20", "cifar10", 3600, 65.0, (*SUBSPACE, *CIFAR)),
    "lenet5-original": Row("the original", "published_lenet5", "mnist", 900, 6.2, (), True),
    "lenet300-original": Row("the original", "published_lenet300", "mnist", 900, 7.5, (), True),
    "mnist8-original": Row("the original", "mnist8", "mnist", 900, 6.5, ("--scale", "1"), True),
    "lenet5-original-minute": Row("the original", "published_lenet5", "mnist", 60, 9.0, (), True),
    "lenet300-original-minute": Row("the original", "published_lenet300", "mnist", 60, 9.0, (), True),
    "mnist8-original-minute": Row("the original", "mnist8", "mnist", 60, 9.0, ("--scale", "1"), True),
    "resnet20-original": Row("the original", "cifar_resnet20", "cifar10", 3600, 72.0, CIFAR, True),
    "resnet20-original-prior": Row(
        "the original, half as prior", "cifar_resnet20", "cifar10", 3600, 18.0, (*CIFAR, "--prior-split", "0.5"), True
    ),
    "lenet5-original-prior": Row(
        "the original, half as prior", "published_lenet5", "mnist", 1800, 1.7, ("--prior-split", "0.5"), True
    ),
    "fashion-prior": Row("half as prior", "", "fashion-mnist", 1800, 7.5, ("--prior-split", "0.5")),
    "cifar10-prior": Row("half as prior", "", "cifar10", 3600, 8.5, ("--prior-split", "0.5")),
}
"""The tables of targets."""

OWN = {
    name.replace("_", "-") + ("" if trained else "-untrained"): Row("the best option", name, data, 60, trained=trained)
    for name, data, trained in (
        ("small_mlp", "digits", True),
        ("small_mlp", "digits", False),
        ("viewing", "digits", True),
        ("separable", "digits", True),
        ("wide_convolutions", "digits", True),
        ("wide_convolutions", "digits", False),
        ("rows_linear", "rows", True),
        ("rows_norm", "rows", True),
        ("rows_gated", "rows", True),
        ("rows_deep", "rows", False),
        ("series_convolutions", "series", True),
        ("series_attention", "series", True),
        ("series_recurrent", "series", True),
        ("series_dense", "series", False),
    )
}
ROWS = PUBLISHED | OWN


def rows_of_a_table() -> tuple[np.ndarray, np.ndarray]:
    """4,000 rows of 12 numbers of unlike sizes; the class depends on a product and a threshold, 4 % are wrong."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(4_000, 12))
    y = np.where(x[:, 0] * x[:, 1] > 0.3, 2, (x[:, 2] + 0.5 * x[:, 3] > 0).astype(int))
    y = np.where(rng.random(4_000) < 0.04, rng.integers(0, 3, 4_000), y)
    return (x * 10.0 ** rng.integers(-2, 3, 12) + 5).astype(np.float32), y


def series() -> tuple[np.ndarray, np.ndarray]:
    """3,000 sequences of 24 times 3 numbers: noise with a bump, a step or a wave in one channel."""
    rng = np.random.default_rng(2)
    x, y = 0.5 * rng.normal(size=(3_000, 24, 3)), rng.integers(0, 3, 3_000)
    for each, label in zip(x, y, strict=True):
        place, channel, times = rng.integers(4, 18), rng.integers(0, 3), np.arange(24)
        shapes = (np.exp(-((times - place) ** 2) / 4.0), (times > place) * 1.0, np.sin(1.3 * (times - place)))
        each[:, channel] += 1.5 * shapes[label]
    return x.astype(np.float32), y


GENERATED = {"rows": (rows_of_a_table, ()), "series": (series, ("--shape", "24,3"))}


def bitcert(arguments: list[str]) -> tuple[subprocess.CompletedProcess[str], float]:
    """One run of the program in a fresh process, and the processor seconds it took."""
    paths = [str(ROOT / "examples"), str(ROOT / "benchmarks"), *filter(None, [os.environ.get("PYTHONPATH")])]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, *arguments],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
        check=False,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return done, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def data_arguments(row: Row, folder: Path) -> list[str]:
    """Of the data, which are written if they are generated."""
    if row.data not in GENERATED:
        return ["--data", row.data]
    make, options = GENERATED[row.data]
    x, y = make()
    np.savez(folder / "data.npz", x=x.reshape(len(x), -1), y=y)
    return ["--data", str(folder / "data.npz"), *options]


def trained_weights(row: Row, arguments: list[str], folder: Path) -> Path:
    """The network trained by Adam on the whole sample for 12 epochs, as users do, in a file."""
    import own_architectures
    import torch
    from safetensors.torch import save_file

    from bitcert import Preprocessing, Role, load_sample

    sample = load_sample(arguments[1], Role.TRAIN)
    torch.manual_seed(0)
    module = getattr(own_architectures, row.factory)()
    x = Preprocessing.usual(sample)(sample.inputs)
    x, y = x.reshape(len(x), 24, 3) if row.data == "series" else x, torch.tensor(sample.labels)
    optimiser = torch.optim.Adam(module.parameters(), lr=3e-3)
    for _ in range(12 if row.trained else 0):
        for chosen in torch.randperm(len(x)).split(64):
            optimiser.zero_grad()
            torch.nn.functional.cross_entropy(module(x[chosen]), y[chosen]).backward()
            optimiser.step()
    file = folder / "weights.safetensors"
    save_file({name: value.contiguous() for name, value in module.state_dict().items()}, file)
    return file


def line_of(name: str, quick: bool, seed: int) -> dict[str, object]:
    """Certify, verify every certificate, and say what came out."""
    row = ROWS[name]
    budget = max(4.0, row.seconds / 30) if quick else row.seconds
    line: dict[str, object] = {"name": name, "certified": row.what, "value": None, "target": row.target}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        data = data_arguments(row, folder)
        network = [f"own_architectures:{row.factory}"] if row.factory else []
        if name in OWN:
            network += ["--weights", str(trained_weights(row, data, folder))]
        unlabelled = ["--unlabelled", row.data] if row.original else []
        arguments = [*network, *data, *row.options, *unlabelled, "--budget", f"{budget:g}", "--seed", str(seed)]
        done, seconds = bitcert(["certify", *arguments, "--out", str(folder / "out")])
        line |= {"seconds": budget, "processor_seconds": round(seconds, 1), "seed": seed}
        if done.returncode:
            return line | {"why": done.stderr.strip().splitlines()[-1:], "verified": False}
        line |= dict(certificates(folder, data, network, row.original))
    return line


def certificates(folder: Path, data: list[str], network: list[str], original: bool) -> Iterator[tuple[str, object]]:
    """Bounds of all certificates of a run, and whether they verify in fresh processes."""
    verified = True
    for option in OPTIONS:
        file = folder / f"out{option}" / "certificate.json"
        if not file.exists():
            continue
        made = json.loads(file.read_text())
        if not option:
            yield "value", percent(made["bound"])
            yield "self_contained", percent(made["self_contained"])
            yield from ((key, made[key]) for key in ("errors", "samples", "message_bits", "description"))
            if made["original"] is not None:
                yield "disagreements", made["original"]["disagreements"]
                yield "abstains_within", made["decision_rule"].get("abstains_within", 0.0)
        else:
            yield option.removeprefix("-"), percent(made["bound"])
        arguments = data[:2] if data[1].endswith(".npz") else []
        arguments += ["--original", *network] if original else []
        # of a network that could not be captured the reviewer runs the code
        arguments += ["--model", network[0]] if made["helper"].get("factory") else []
        checked, _ = bitcert(["verify", str(file), *arguments])
        verified = verified and checked.returncode == 0
    yield "verified", verified


def percent(bound: float) -> float:
    """A bound in %, rounded up."""
    return math.ceil(1e5 * bound) / 1e3


def main() -> int:
    """Run the rows that were asked for; 1 if a certificate did not verify."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", metavar="NAME", default=list(ROWS), help=f"rows among {', '.join(ROWS)}")
    parser.add_argument("--quick", action="store_true", help="a thirtieth of the time")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help=f"append the lines to docs/{RESULTS.name}")
    options = parser.parse_args()
    if unknown := set(options.only) - set(ROWS):
        parser.error(f"unknown rows: {', '.join(sorted(unknown))}; choose among {', '.join(ROWS)}")
    sys.path.insert(0, str(ROOT / "benchmarks"))
    failed = False
    for name in options.only:
        line = line_of(name, options.quick, options.seed)
        failed = failed or not line["verified"]
        print(json.dumps(line), flush=True)
        if options.json:
            with RESULTS.open("a") as file:
                file.write(json.dumps(line) + "\n")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
