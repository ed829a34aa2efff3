"""Certificates of tables: ``python benchmarks/tabular.py [NAME ...]``.

For each table one JSON object a line: ``name``, ``value`` (the bound in % that ``bitcert certify`` reaches with default
options on the training part), ``target`` (at most, in %), ``seconds``, errors and bits; then what a user could have had
instead, in the same units: ``tree`` (the best of scikit-learn's trees, every size tried, coded with our code: each
threshold is the shortest number that decides alike), ``head`` (with ``--head``: the integer head on the raw numbers
alone, in a minute) and ``guess`` (the majority class); and ``ratio`` (ours over the tree's). Seed 0, delta 0.05.
With ``--processor`` budgets and ``seconds`` are processor time, which a busy machine does not shorten.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from sklearn import datasets
from sklearn.tree import DecisionTreeClassifier

from bitcert import Helper, Role, Sample
from bitcert.coding.trees import Comparison, Leaf, Split, Subject, Tree
from bitcert.decoder.trees import answers, write
from bitcert.proof import occam_bound
from bitcert.search.tree_growth import tidy
from bitcert.search.tree_table import shortest_between

TARGETS = {"spam": 15.5, "diamonds": 29.5, "flights": 10.35, "churn": 12.5, "breast-cancer": 17.0, "wine": 30.0}
LEAVES = (2, 3, 4, 5, 6, 8, 10, 12, 16, 24, 32, 48, 64)
VERIFY_TARGET_SECONDS = 10.0


def load(name: str) -> tuple[np.ndarray, np.ndarray] | None:
    """Inputs and labels of a table, or ``None`` where it is not on this machine."""
    if name in ("breast-cancer", "wine"):
        bunch = datasets.load_wine() if name == "wine" else datasets.load_breast_cancer()
        return bunch.data.astype(np.float32), bunch.target
    path = Path(os.environ.get("BITCERT_DATA", "."), "tabular", name, "train.npz")
    if not path.exists():
        return None
    with np.load(path) as archive:
        return archive["x"].astype(np.float32), archive["y"]


def coded(model: DecisionTreeClassifier, x: np.ndarray) -> Tree:
    """A tree of scikit-learn with the shortest thresholds that decide alike on ``x``."""
    inner = model.tree_

    def convert(node: int) -> Tree:
        if inner.children_left[node] < 0:
            return Leaf(int(inner.value[node].argmax()))
        column, threshold = int(inner.feature[node]), inner.threshold[node]
        values = x[:, column].astype(np.float64)
        low, high = values[values <= threshold].max(), values[values > threshold].min()
        found, _ = shortest_between(np.array([low]), np.array([high]))
        children = convert(inner.children_left[node]), convert(inner.children_right[node])
        return Split(Comparison(Subject(column), float(found[0])), *children)

    return tidy(convert(0))


def best_tree(x: np.ndarray, y: np.ndarray) -> float:
    """The bound of the best coded tree, in %."""
    sample = Sample.from_arrays(x, y, Role.TRAIN, "table")
    helper, bounds = Helper.for_sample(sample), []
    for leaves in LEAVES:
        tree = coded(DecisionTreeClassifier(max_leaf_nodes=leaves, random_state=0).fit(x, y), x)
        message, _ = write(tree, helper)
        errors = int(np.count_nonzero(answers(tree, x) != y))
        bounds.append(occam_bound(errors, len(y), 8 * len(message), 0.05).binomial)
    return 100 * min(bounds)


def bitcert(processor: bool, *arguments: str) -> tuple[subprocess.CompletedProcess[str], float]:
    """One run of the program, and its seconds."""

    def seconds() -> float:
        return resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime if processor else time.monotonic()

    start, code = seconds(), "import sys; from bitcert.cli import main; main(sys.argv[1:])"
    if processor:
        code = f"import time, bitcert.clock; bitcert.clock.seconds = time.process_time; {code}"
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    return done, seconds() - start


def row(name: str, with_head: bool, processor: bool) -> dict[str, object]:
    """What the module says."""
    loaded, target = load(name), TARGETS[name]
    if loaded is None:
        return {"name": name, "value": None, "target": target, "why": "the table is not here: set BITCERT_DATA"}
    x, y = loaded
    with tempfile.TemporaryDirectory() as folder:
        data, out = str(Path(folder, f"{name}.npz")), Path(folder, "out")
        np.savez(data, x=x, y=y)
        done, seconds = bitcert(processor, "certify", "--data", data, "--out", str(out), "--json")
        if done.returncode:
            return {"name": name, "value": None, "target": target, "why": done.stderr[-500:]}
        certificate = json.loads(done.stdout)
        _, verify_seconds = bitcert(processor, "verify", str(out / "certificate.json"), "--data", data)
        only = ("--family", "head", "--budget", "60", "--json", "--out", str(Path(folder, "head")))
        head = bitcert(processor, "certify", "--data", data, *only)[0] if with_head else None
    value, tree = 100 * certificate["bound"], best_tree(x, y)
    return {
        "name": name,
        "value": round(value, 2),
        "target": target,
        "seconds": round(seconds, 1),
        "verify_seconds": round(verify_seconds, 1),
        "verify_target_seconds": VERIFY_TARGET_SECONDS,
        "errors": certificate["errors"],
        "samples": certificate["samples"],
        "bits": certificate["message_bits"],
        "tree": round(tree, 2),
        "head": None if head is None or head.returncode else round(100 * json.loads(head.stdout)["bound"], 2),
        "guess": round(100 * (1 - np.bincount(y).max() / len(y)), 2),
        "ratio": round(value / tree, 3),
    }


def main() -> None:
    """Print the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(TARGETS))
    parser.add_argument("--head", action="store_true", help="train the head alone, too")
    parser.add_argument("--processor", action="store_true", help="measure processor time")
    options = parser.parse_args()
    names = options.names or list(TARGETS)
    for name in names:
        if name not in TARGETS:
            parser.error(f"{name!r} is none of {', '.join(TARGETS)}")
    for name in names:
        print(json.dumps(row(name, options.head, options.processor)), flush=True)


if __name__ == "__main__":
    main()
