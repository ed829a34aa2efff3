"""The bounds bitcert reaches on real data: ``python benchmarks/certificates.py [--quick] [NAME ...]``.

Prints one JSON object a line: ``name``, ``value`` (the bound, in %), ``target`` (at most, in %), ``seconds``, and what
the value rests on. Data-free helper, delta = 0.05, the whole message counted, errors on the training set as given.
``--quick`` runs the embedded digits only. Data that are not found are reported with ``value`` null.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
LENET = "lenet:lenet5"
TARGETS = {"digits": (37.0, 60), "fashion-mnist": (25.0, 300), "mnist": (7.0, 300), "lenet5-sparse": (42.0, 900)}
BUDGETS = {"digits": 45, "fashion-mnist": 255, "mnist": 255, "lenet5-sparse": 480}
VERIFY_TARGET_SECONDS = 15
MEMORY_TARGET_GIB = 3.0


def _arguments(name: str) -> list[str] | None:
    """Command-line arguments of one row, or ``None`` when its data are missing."""
    if name != "lenet5-sparse":
        return ["--data", name]
    weights = Path(os.environ.get("BITCERT_DATA", "."), "pretrained/lenet_mnist/lenet5_sparse.pt")
    return [LENET, "--weights", str(weights), "--data", "mnist"] if weights.exists() else None


def _bitcert(
    arguments: list[str], environment: dict[str, str]
) -> tuple[subprocess.CompletedProcess[str], float, float]:
    """Outcome, seconds and peak memory in GiB of one run of the program."""
    start = time.monotonic()
    code = (
        "import resource,sys;from bitcert.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "finally: print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,file=sys.stderr)"
    )
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=EXAMPLES, check=False)
    peak = float((done.stderr.split() or ["0"])[-1]) / 2**20
    return done, time.monotonic() - start, peak


def _print(name: str, value: float | None, target: float, seconds: float, **more: object) -> None:
    print(
        json.dumps({"name": name, "value": value, "target": target, "seconds": round(seconds, 2), **more}), flush=True
    )


def certificate_row(name: str, seed: int) -> None:
    """Certify, then verify in a fresh process, and print both rows."""
    target, target_seconds = TARGETS[name]
    arguments = _arguments(name)
    if arguments is None:
        _print(name, None, target, 0.0, why="weights not found: set BITCERT_DATA")
        return
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "out")
        options = ["--out", str(out), "--json", "--seed", str(seed), "--budget", str(BUDGETS[name])]
        done, seconds, peak = _bitcert(["certify", *arguments, *options], dict(os.environ))
        if done.returncode:
            lines = done.stderr.strip().splitlines()
            _print(name, None, target, seconds, why=lines[0] if lines else f"exit code {done.returncode}")
            return
        certificate = json.loads(done.stdout)
        rests_on = {key: certificate[key] for key in ("errors", "samples", "message_bits", "delta", "versions")}
        value = round(100 * certificate["bound"], 3)
        _print(
            name, value, target, seconds, target_seconds=target_seconds, seed=seed, peak_gib=round(peak, 2), **rests_on
        )
        done, seconds, _ = _bitcert(["verify", str(out / "certificate.json")], dict(os.environ))
        _print(f"verify {name}", round(seconds, 2), VERIFY_TARGET_SECONDS, seconds, exit_code=done.returncode)
        if name == "mnist":
            _print("peak memory mnist (GiB)", round(peak, 2), MEMORY_TARGET_GIB, seconds)


def main() -> None:
    """Run the rows asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=[], help=f"rows among {', '.join(TARGETS)}")
    parser.add_argument("--quick", action="store_true", help="digits only")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    unknown = set(options.names) - set(TARGETS)
    if unknown:
        parser.error(f"unknown rows: {', '.join(sorted(unknown))}; choose among {', '.join(TARGETS)}")
    for name in options.names or (["digits"] if options.quick else list(TARGETS)):
        certificate_row(name, options.seed)


if __name__ == "__main__":
    main()
