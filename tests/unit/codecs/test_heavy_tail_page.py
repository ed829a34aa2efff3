"""docs/codecs.md quotes Shin's protocol from the stored rows."""

import json
from pathlib import Path

DOCS = Path(__file__).parents[3] / "docs"


def test_the_table_and_the_exponents_are_those_of_the_rows():
    rows = [json.loads(line) for line in (DOCS / "results-heavy-tail.jsonl").read_text().splitlines()]
    page = (DOCS / "codecs.md").read_text().split("**Shin's protocol**")[1].split("**Linear separators**")[0]
    for row in rows:
        cells = f"| {row['before']} | {row['after']:.2f} ± {row['after_std']:.2f} | {row['drop']:.2f} | "
        assert f"{cells}{row['paper_drop']:.2f} |" in page
    ours = [next(row for row in rows if row["name"] == name) for name in ("resnet20", "resnet56")]
    exponents = [row["layer"]["density exponent"] for row in ours]
    assert "are {:.2f} and {:.2f}, where".format(*exponents) in page
    # one convention: the paper's are what the package powerlaw returns
    assert [row["paper"]["density exponent"] for row in ours] == [3.22, 3.02]
    assert "checkpoints have 3.22 and 3.02." in page
    assert all("alpha" not in row["layer"] and "alpha" not in row["paper"] for row in rows)
