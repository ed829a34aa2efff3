"""Mutation run: for every mutant of a module (see ``mutants.py``), does a test of the module fail?

    python benchmarks/mutation.py                 # every module of MODULES whose row is missing or out of date
    python benchmarks/mutation.py coding/rows     # these modules, whatever their rows say

A warm process collects the fast tests of a module, runs them once, and notes which test executes which line and how
many lines it takes. Each mutant then gets a fork of that process, in which the changed code object replaces the old
one and the tests that execute the line are run, quickest first, until one fails. What importing the module computes
(constants, defaults) is changed in a fork of a process that has not imported bitcert yet. A test is cut off by counts:
after :data:`PATIENCE` times the lines of the module it took before; computing time and memory are limited besides.

Every finished module is a row of ``docs/results-mutation.jsonl`` and lists its survivors; those that no test can tell
apart are explained in ``docs/mutation-equivalent.jsonl``, by content, so that an explanation survives edits elsewhere.
Mutants done so far are kept in ``out/mutation``, so that an interrupted run goes on. Why not mutmut or cosmic-ray: see
CONTRIBUTING.md.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mutants import Module, Mutant

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "bitcert"
RESULTS = ROOT / "docs" / "results-mutation.jsonl"
EXPLAINED = ROOT / "docs" / "mutation-equivalent.jsonl"
FOLDER = ROOT / "out" / "mutation"

GOLDEN = "tests/golden/test_golden.py"
CODERS = ("tests/unit/coding/test_enumerative.py", "tests/unit/coding/test_coders.py", GOLDEN)
UNIT = "tests/unit/decoder/test_"
FROZEN = f"{UNIT}frozen_features.py"
QUANTISED = tuple(
    f"tests/unit/search/test_quantise.py::test_{name}"
    for name in (
        "a_message_decodes_to_the_same_integers_and_bitwise_the_same_weights",
        "silent_units_are_paid_for_once_and_not_in_the_columns_that_read_them",
        "an_absurd_step_is_refused",
    )
)
COMPOSED = (f"{UNIT}composed.py", GOLDEN)
PROJECTIONS = (f"{UNIT}projection_transforms.py", *COMPOSED)
LOW_RANK = (f"{UNIT}low_rank_transforms.py", *COMPOSED)
LIMITS = f"{UNIT}transform_limits.py"
BASE = f"{UNIT}transform_base.py"
CLAIMS = "tests/unit/test_further_claims.py"
FORGED = "tests/attacks/test_further_claims_attacks.py"
SMUGGLED = "tests/attacks/test_smuggled_helper.py"
WHOLE = "tests/unit/test_verify_whole.py"
LINES = "tests/unit/test_verify_"
COUNTS = ("tests/unit/proof/test_holdout_budget.py", "tests/unit/proof/test_claims.py")
MODULES: dict[str, tuple[str, ...]] = {
    **{f"coding/{name}": (f"tests/unit/coding/test_{name}.py", GOLDEN) for name in ("arithmetic", "bitstream", "rows")},
    **{f"coding/{name}": (f"tests/unit/coding/test_{name}.py", GOLDEN) for name in ("steps", "tensors")},
    "coding/message": ("tests/unit/coding/test_message.py", "tests/unit/coding/test_rows.py", GOLDEN),
    **{f"coding/{name}": CODERS for name in ("codebook", "coders", "enumerative")},
    "coding/adaptive": ("tests/unit/coding/test_adaptive.py", GOLDEN),
    "coding/layouts": ("tests/unit/coding/test_layouts.py", GOLDEN),
    "coding/trees": ("tests/unit/coding/test_trees.py", GOLDEN),
    "decoder/trees": (f"{UNIT}trees.py", GOLDEN),
    "decoder/abstaining": (f"{UNIT}abstaining.py",),
    "decoder/votes": (f"{UNIT}votes.py", "tests/attacks/test_table_messages.py"),
    "proof/binomial": ("tests/unit/proof/test_binomial.py",),
    "proof/chernoff": ("tests/unit/proof/test_chernoff_hoeffding.py",),
    "proof/hoeffding_bound": ("tests/unit/proof/test_chernoff_hoeffding.py",),
    "proof/holdout": ("tests/unit/proof/test_binomial.py", *COUNTS),
    "proof/budget": COUNTS,
    "proof/claims": COUNTS,
    "proof/counts": ("tests/unit/proof/test_counts.py",),
    "proof/gaussian": ("tests/unit/proof/test_gaussian.py",),
    "decision": ("tests/unit/test_evaluate.py", "tests/unit/test_rounding.py", f"{UNIT}abstaining.py"),
    "data/apart": ("tests/unit/data/test_sample.py", "tests/unit/data/test_names.py"),
    "search/randomised": ("tests/unit/search/test_randomised.py",),
    "certificates/certificate": ("tests/unit/test_certification.py",),
    "data/split": ("tests/unit/data/test_split.py",),
    "random": ("tests/unit/test_random.py", "tests/unit/data/test_split.py", GOLDEN),
    "decoder/head": (f"{UNIT}bank_head.py", GOLDEN),
    "decoder/features/waves": (FROZEN, f"{UNIT}bank_waves.py", GOLDEN),
    "decoder/features/edges": (FROZEN, f"{UNIT}features.py", GOLDEN),
    "decoder/features/banks": (FROZEN, f"{UNIT}banks.py", f"{UNIT}bank_head.py", GOLDEN),
    "decoder/features/maps": (FROZEN, f"{UNIT}banks.py", f"{UNIT}bank_head.py", GOLDEN),
    "decoder/network_head": (f"{UNIT}network_head.py", GOLDEN),
    "decoder/features/network": (f"{UNIT}network_features.py", f"{UNIT}network_head.py", GOLDEN),
    "decoder/network": (f"{UNIT}quantised_network.py", *QUANTISED, GOLDEN),
    "decoder/tensors": (f"{UNIT}tensor_messages.py", *COMPOSED, "tests/attacks/test_costly_messages.py"),
    "decoder/weights": (f"{UNIT}helper_weights.py", f"{UNIT}network_head.py"),
    "decoder/transforms/normal": (f"{UNIT}heavy_tail.py", *PROJECTIONS),
    "decoder/helper": (f"{UNIT}problem.py",),
    "decoder/decode": (f"{UNIT}decode.py", GOLDEN),
    **{f"decoder/transforms/{name}": (BASE, *LOW_RANK) for name in ("base", "exact", "plain", "registry")},
    **{f"decoder/transforms/{name}": LOW_RANK for name in ("factors", "separator")},
    "decoder/transforms/filter_projection": (LIMITS, *PROJECTIONS),
    **{f"decoder/transforms/{name}": (LIMITS, f"{UNIT}{name}.py", *PROJECTIONS) for name in ("hadamard", "signs")},
    "decoder/transforms/heavy_tail": (LIMITS, f"{UNIT}heavy_tail.py", *COMPOSED),
    "decoder/transforms/mask": (LIMITS, f"{UNIT}subspace.py", *COMPOSED),
    "decoder/transforms/sketch": (LIMITS, f"{UNIT}sketch_exact.py", f"{UNIT}sketch.py", *COMPOSED),
    "decoder/transforms/subspace": (LIMITS, f"{UNIT}subspace.py", *COMPOSED),
    "decoder/features/front": (FROZEN, f"{UNIT}front.py", f"{UNIT}bank_waves.py", GOLDEN),
    "decoder/description": (f"{UNIT}description_bits.py", f"{UNIT}description.py", SMUGGLED),
    "decoder/commitment": (f"{UNIT}commitment.py",),
    "counting": ("tests/unit/test_evaluate.py", "tests/unit/test_rounding.py"),
    "losses": ("tests/unit/test_losses.py", "tests/unit/test_rounding.py", CLAIMS),
    "certificates/original": ("tests/unit/test_original.py", "tests/unit/test_rounding.py", CLAIMS),
    "certificates/conditions": ("tests/unit/test_conditions.py",),
    "certificates/looks": ("tests/unit/test_looks.py",),
    "certificates/certification": ("tests/unit/test_certification.py", "tests/unit/test_looks.py", CLAIMS),
    "certificates/reading": (WHOLE, f"{LINES}lines.py", f"{LINES}tables.py", SMUGGLED, CLAIMS, FORGED),
    "certificates/statements": (WHOLE, f"{LINES}lines.py", CLAIMS, FORGED),
    "certificates/screening": ("tests/unit/test_screening.py",),
    "certificates/workload": (WHOLE, "tests/attacks/test_resource_bombs.py"),
    "certificates/verification": (WHOLE, f"{LINES}lines.py", CLAIMS, FORGED),
}
"""Test files, folders and single tests that matter for a module; its own docstring examples always do."""


def source_of(name: str) -> Path:
    """The file of a module named like ``coding/rows``."""
    return SOURCE / f"{name}.py"


def tests_of(name: str) -> tuple[str, ...]:
    """What pytest is asked to collect."""
    return (*MODULES[name], str(source_of(name).relative_to(ROOT)))


def rows(path: Path) -> list[dict[str, Any]]:
    """The JSON lines of a file, none where it is missing."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def fingerprint(name: str) -> str:
    """Of the module, and of its tests: a row with another one is out of date."""
    source, tests = hashlib.sha256(source_of(name).read_bytes()), hashlib.sha256()
    files = {ROOT / test.split("::")[0] for test in MODULES[name]}
    for part in sorted(files | {ROOT / "tests" / "conftest.py"}):
        for file in sorted(part.rglob("*.py")) if part.is_dir() else [part]:
            tests.update(file.read_bytes())
    return f"{source.hexdigest()[:12]}-{tests.hexdigest()[:12]}"


def key_text(name: str, key: Sequence[object]) -> str:
    """A mutant's key as one text."""
    return json.dumps([name, *key])


def explanations() -> dict[str, str]:
    """Why a mutant is equivalent, by key."""
    return {
        key_text(row["module"], (row["function"], row["original"], row["mutated"], row.get("number", 0))): row["why"]
        for row in rows(EXPLAINED)
    }


def done_file(name: str) -> Path:
    """Outcomes of the module as it is, with the tests as they are."""
    return FOLDER / f"{name.replace('/', '-')}.{fingerprint(name)}.jsonl"


def keep_killed(name: str) -> None:
    """Take over what tests noticed of the same statements before; what is explained is not tried."""
    known = explanations()
    former = sorted(FOLDER.glob(f"{name.replace('/', '-')}.*.jsonl"), key=lambda path: path.stat().st_mtime)
    mutants = {json.dumps(m.key): m for m in Module(source_of(name).read_text(), str(source_of(name))).mutants}
    kept = {
        key: {"key": mutant.key, "outcome": "survived"}
        for key, mutant in mutants.items()
        if key_text(name, mutant.key) in known
    }
    for row in (row for path in former for row in rows(path)):
        if row["outcome"] != "survived" and json.dumps(row["key"]) in mutants:
            kept[json.dumps(row["key"])] = row
    done_file(name).write_text("".join(json.dumps(row) + "\n" for row in kept.values()))


def run(names: Sequence[str]) -> Iterator[dict[str, Any]]:
    """All mutants of modules that share a warm process; those a former, interrupted run has done are not done again."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    worker = [sys.executable, str(Path(__file__).with_name("mutation_worker.py"))]
    files = {name: done_file(name) for name in names}
    jobs = ["\t".join((str(source_of(name)), str(files[name]), ",".join(tests_of(name)))) for name in names]
    for kind in ("warm", "cold"):
        subprocess.run([*worker, kind, *jobs], cwd=ROOT, check=True)
    for name, file in files.items():
        yield summary(name, {tuple(row["key"]): row["outcome"] for row in rows(file)}, file)


def summary(name: str, outcomes: dict[tuple[object, ...], str], file: Path) -> dict[str, Any]:
    """The row of a module."""
    mutants, known = Module(source_of(name).read_text(), str(source_of(name))).mutants, explanations()
    lost = [mutant for mutant in mutants if outcomes[mutant.key] == "survived"]
    open_ones = [mutant for mutant in lost if key_text(name, mutant.key) not in known]
    return {
        "module": name,
        "fingerprint": file.stem.split(".")[1],
        "mutants": len(mutants),
        "killed": len(mutants) - len(lost),
        "how": dict(sorted(Counter(outcomes[mutant.key] for mutant in mutants).items())),
        "explained": len(lost) - len(open_ones),
        "survivors": [described(name, mutant) for mutant in open_ones],
    }


def described(name: str, mutant: Mutant) -> dict[str, object]:
    """A survivor as the row tells it, ready to be explained."""
    place = f"src/bitcert/{name}.py:{mutant.line}"
    names = {"function": mutant.function, "original": mutant.original, "mutated": mutant.mutated}
    return {"place": place, **names, "number": mutant.number}


def write(row: dict[str, Any]) -> None:
    """Put the row in its place in the results."""
    table = {old["module"]: old for old in rows(RESULTS)} | {row["module"]: row}
    RESULTS.write_text("".join(json.dumps(table[name], ensure_ascii=False) + "\n" for name in MODULES if name in table))


def stale(names: Sequence[str]) -> list[str]:
    """Explanations of mutants that these modules no longer have."""
    alive = {key_text(name, m.key) for name in names for m in Module(source_of(name).read_text(), name).mutants}
    return [key for key in explanations() if json.loads(key)[0] in names and key not in alive]


def main() -> int:
    """Returns how many modules have survivors that nothing explains."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("modules", nargs="*", metavar="MODULE", help="like coding/rows; those out of date by default")
    parser.add_argument(
        "--survivors", action="store_true", help="while writing tests: neither those noticed before nor those explained"
    )
    options = parser.parse_args()
    chosen = options.modules
    if unknown := set(chosen) - set(MODULES):
        parser.error(f"expected modules among {', '.join(MODULES)}; got {', '.join(sorted(unknown))}")
    current = {row["module"]: row["fingerprint"] for row in rows(RESULTS)}
    names = chosen or [name for name in MODULES if current.get(name) != fingerprint(name)]
    for name in names if options.survivors else ():
        keep_killed(name)
    bad = 0
    for row in run(names):
        write(row)
        print(
            f"{row['module']}: {row['mutants']} mutants, {row['killed']} killed, {row['explained']} explained, ", end=""
        )
        print(f"{len(row['survivors'])} survivors")
        for survivor in row["survivors"]:
            print(f"  {survivor['place']}  {survivor['original']}  ->  {survivor['mutated']}")
        bad += bool(row["survivors"])
    for key in stale(names):
        print(f"an explanation without its mutant: {key}")
    return bad


if __name__ == "__main__":
    sys.exit(min(main(), 1))
