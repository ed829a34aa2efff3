"""The numbers that the codecs are to reach: ``python benchmarks/codecs.py [row ...] [--json FILE]``.

Each row is a function that returns a :class:`codec_row.Row`; rows of other files are imported below. Prints name,
measured number and target; the exit status tells whether all were reached.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import codec_rows_low_rank
import codec_rows_projection
import codec_rows_sparse
import torch
from codec_row import Row
from rich.console import Console

from bitcert.certificates.certification import versions

ROWS: dict[str, Callable[[], Row]] = {
    "signs": codec_rows_projection.signs_row,
    "hadamard": codec_rows_projection.hadamard_row,
    "svd": codec_rows_low_rank.svd_row,
    "sparse": codec_rows_sparse.sparse_row,
    "sketch": codec_rows_sparse.sketch_row,
}


def main() -> int:
    """Run the rows that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", help=f"some of {', '.join(ROWS)}; all of them by default")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep the numbers there")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of torch and of the projections")
    arguments = parser.parse_args()
    unknown = set(arguments.rows) - set(ROWS)
    if unknown:
        parser.error(f"nothing named {', '.join(sorted(unknown))}")
    torch.set_num_threads(arguments.threads)
    console, found = Console(width=110), []
    for name in arguments.rows or ROWS:
        row = ROWS[name]()
        sign = "at least" if row.at_least else "at most"
        verdict = "reached" if row.reached else "NOT reached"
        console.print(f"{row.name}: {row.measured:.3g} {row.unit} ({sign} {row.target:g}: {verdict})", highlight=False)
        for key, value in row.details.items():
            console.print(f"    {key} {value}", highlight=False)
        found.append(row)
    if arguments.json:
        result = {"versions": versions(), "rows": [row.describe() for row in found]}
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")
    return 0 if all(row.reached for row in found) else 1


if __name__ == "__main__":
    raise SystemExit(main())
