"""Rows of a benchmark, each measured in a process of its own, so that its peak memory is its own."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path


def measure_rows(
    program: str, description: str | None, rows: Iterable[str], run: Callable[[str], object], results: Path
) -> None:
    """Measure the rows named on the command line of a ``program`` and print a line of JSON for each.

    ``run`` measures one row in its process; ``--json`` appends the lines to ``results``.
    """
    rows = list(rows)
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", help=f"some of {', '.join(rows)}; all of them by default")
    parser.add_argument("--json", action="store_true", help=f"append the lines to docs/{results.name}")
    parser.add_argument("--here", action="store_true", help="measure in this process")
    arguments = parser.parse_args()
    unknown = set(arguments.rows) - set(rows)
    if unknown:
        parser.error(f"nothing named {', '.join(sorted(unknown))}")
    for name in arguments.rows or rows:
        if arguments.here:
            print(json.dumps(run(name)), flush=True)
            continue
        done = subprocess.run([sys.executable, program, name, "--here"], capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"{name}: {done.stderr.strip().splitlines()[-1]}")
        line = done.stdout.strip().splitlines()[-1]
        print(line, flush=True)
        if arguments.json:
            with open(results, "a") as file:
                file.write(line + "\n")
