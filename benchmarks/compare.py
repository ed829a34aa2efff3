"""Every codec on LeNet-300-100 and LeNet-5, dense and pruned: ``python benchmarks/compare.py [NETWORK ...] [options]``.

Runs ``bitcert.comparison.compare`` on MNIST's 60,000 training examples with its 10,000 test examples as held-out labels
(checkpoints found through BITCERT_DATA), prints a table a network, then what was reached beside what was aimed at, and
with ``--json`` writes docs/results-codecs.jsonl (or the file named): for each network one line of what all rows rest
on, and one line a row. Codecs whose message does not depend on the trained weights run on the dense networks only. An
interrupted run with ``--folder`` goes on from its rows. ``--stored`` runs nothing: it prints what a file's rows say of
random projection against dropping small singular values, which docs/codecs.md quotes::

    python benchmarks/compare.py --codecs svd,matrix-project --strengths 9 --json docs/results-projection.jsonl
    python benchmarks/compare.py --stored docs/results-projection.jsonl
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from networks import trained_network
from rich.console import Console

from bitcert import Helper, Role, Sample, load_sample
from bitcert.codecs.registry import CODECS
from bitcert.comparison import CompareSettings, Comparison, ComparisonRow, compare
from bitcert.comparison.conclusions import PROJECTION_SENTENCE
from bitcert.report import comparison_files, comparison_summary

RESULTS = Path(__file__).parents[1] / "docs" / "results-codecs.jsonl"
TARGET_SECONDS = 1800.0
BUDGETS = {"lenet300": 120.0, "lenet300_sparse": 50.0, "lenet5": 600.0, "lenet5_sparse": 60.0}
"""Seconds of training for each network."""
FROM_SCRATCH = ("subspace", "mask", "lottery")
"""Their messages begin from the helper's random weights, not from the trained ones."""


@dataclass(frozen=True)
class Target:
    """A bound to reach, in percent."""

    name: str
    networks: tuple[str, ...]
    codecs: tuple[str, ...]
    percent: float


TARGETS = (
    Target("pruned + quantised LeNet-5", ("lenet5_sparse",), ("tuned", "quantise", "prune"), 35.0),
    Target("pruned + quantised LeNet-300-100", ("lenet300_sparse",), ("tuned", "quantise", "prune"), 45.0),
    Target("masks over a random network", ("lenet300", "lenet5"), ("mask",), 30.0),
    Target("random subspace, LeNet-5", ("lenet5",), ("subspace",), 14.0),
)


def codecs_for(name: str) -> tuple[str, ...]:
    """The codecs that are compared on a network."""
    return tuple(codec for codec in CODECS if not (name.endswith("_sparse") and codec in FROM_SCRATCH))


def compare_network(name: str, arguments: argparse.Namespace, console: Console) -> Comparison:
    """One network on MNIST."""
    network, sample, preprocessing = trained_network(name, arguments.samples)
    budget = BUDGETS[name] if arguments.budget is None else arguments.budget
    settings = CompareSettings(seed=arguments.seed, budget_seconds=budget, most_strengths=arguments.strengths)
    names = tuple(arguments.codecs.split(",")) if arguments.codecs else codecs_for(name)
    last = [""]

    def progress(task: str, fraction: float) -> None:
        text = f"{name}: {task}"
        if text != last[0] and console.is_terminal:
            last[0] = text
            console.print(text, style="dim")

    return compare(
        network,
        sample,
        settings,
        codecs=names,
        holdout=_holdout(arguments.samples),
        helper=Helper.for_sample(sample, network.architecture, preprocessing),
        folder=None if arguments.folder is None else arguments.folder / name,
        progress=progress,
    ).named(name)


def _holdout(samples: int | None) -> Sample:
    held = load_sample("mnist", Role.HOLDOUT, split="test")
    return held if samples is None else held.take(slice(0, samples))


def lines_of(comparison: Comparison, seconds: float) -> Iterator[dict[str, object]]:
    """What is kept: the network first, then a line for each row."""
    original = comparison.original
    held = original.holdout
    yield {
        "benchmark": "compare",
        "network": comparison.network["name"],
        "samples": original.samples,
        "parameters": original.parameters,
        "nonzero": original.nonzero,
        "errors": original.errors,
        "holdout": None if held is None else [held.errors, held.samples, held.bound],
        "delta": comparison.delta,
        "settings": comparison.settings,
        "seconds": round(seconds, 1),
        "conclusions": comparison.conclusions,
        "versions": comparison.versions,
    }
    for row in comparison.rows:
        yield {"network": comparison.network["name"], **_row_line(row)}


def _row_line(row: ComparisonRow) -> dict[str, object]:
    theory, measured = row.theory, row.measured
    line: dict[str, object] = {"codec": row.codec, "label": row.label, "seconds": row.seconds}
    if row.trained:
        line["budget_seconds"] = round(row.budget_seconds, 1)
    if measured is None:
        return {**line, "refusal": row.refusal}
    deviation = measured.deviation
    line |= {
        "bits": measured.message_bits,
        "numbers": measured.parameters,
        "errors": measured.errors,
        "holdout_errors": None if measured.holdout is None else measured.holdout.errors,
        "bound": measured.bound,
        "entrywise": [deviation.entrywise.median, deviation.entrywise.upper, deviation.entrywise.maximum],
        "l2": [deviation.l2.median, deviation.l2.upper, deviation.l2.maximum],
        "disagreements": deviation.disagreements,
        "count_seconds": measured.count_seconds,
    }
    if theory is not None and not theory.problem:
        met = [condition.holds for condition in theory.conditions]
        line["theory"] = {"parameters": theory.parameters, "error": theory.error, "conditions": met}
    return line


def target_lines(comparisons: dict[str, Comparison]) -> Iterator[dict[str, object]]:
    """The best bound of each target's codecs, in percent, beside the target."""
    for target in TARGETS:
        pairs = [
            (measured.bound, row.label, name)
            for name, comparison in comparisons.items()
            for row, measured in comparison.messages
            if name in target.networks and row.codec in target.codecs
        ]
        bound, label, network = min(pairs, default=(None, None, None))
        value = None if bound is None else round(100 * bound, 3)
        yield {"benchmark": "compare", "name": target.name, "value": value, "target": target.percent, "by": label} | (
            {} if network is None else {"network": network}
        )


def print_stored(path: Path) -> None:
    """What the run that wrote the file concluded of random projection and of singular values, network by network."""
    for line in map(json.loads, path.read_text().splitlines()):
        for sentence in line.get("conclusions", ()):
            if sentence.startswith(PROJECTION_SENTENCE):
                print(f"{line['network']}: {sentence}")


def main() -> None:
    """Compare the networks asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", help=f"some of {', '.join(BUDGETS)}; all of them by default")
    parser.add_argument("--samples", type=int, help="the first examples only, for a trial")
    parser.add_argument("--budget", type=float, help="seconds of training for each network")
    parser.add_argument("--strengths", type=int, default=2, help="settings of one codec, at most")
    parser.add_argument("--codecs", default="", help="some codecs only, with commas")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="where finished rows and reports are kept")
    kept = {"nargs": "?", "const": RESULTS, "type": Path, "metavar": "FILE"}
    parser.add_argument("--json", **kept, help=f"write this file, docs/{RESULTS.name} by default")
    parser.add_argument("--stored", **kept, help="print what a file's rows say of projection against SVD, run nothing")
    arguments = parser.parse_args()
    if arguments.stored:
        print_stored(arguments.stored)
        return
    unknown = set(arguments.networks) - set(BUDGETS)
    if unknown:
        parser.error(f"nothing named {', '.join(sorted(unknown))}")
    console, lines, found = Console(width=120, highlight=False), [], {}
    begun = time.monotonic()
    for name in arguments.networks or BUDGETS:
        started = time.monotonic()
        found[name] = compare_network(name, arguments, console)
        lines += list(lines_of(found[name], time.monotonic() - started))
        console.print(comparison_summary(found[name]))
        _keep_report(arguments.folder, name, found[name])
    seconds = round(time.monotonic() - begun, 1)
    ends = [
        *target_lines(found),
        {"benchmark": "compare", "name": "seconds", "value": seconds, "target": TARGET_SECONDS},
    ]
    for line in ends:
        print(json.dumps(line), flush=True)
    if arguments.json:
        arguments.json.write_text("".join(json.dumps(line) + "\n" for line in [*lines, *ends]))


def _keep_report(folder: Path | None, name: str, comparison: Comparison) -> None:
    if folder is None:
        return
    for file, content in {"comparison.json": comparison.to_json().encode(), **comparison_files(comparison)}.items():
        (folder / name / file).write_bytes(content)


if __name__ == "__main__":
    main()
