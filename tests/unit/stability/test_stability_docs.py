"""docs/stability.md quotes docs/stability.json, which ``benchmarks/stability.py --json`` writes."""

import json
from pathlib import Path

DOCS = Path(__file__).parents[3] / "docs"


def test_the_largest_contractions_are_those_of_the_stored_run():
    stored = json.loads((DOCS / "stability.json").read_text())
    (row,) = [line for line in (DOCS / "stability.md").read_text().splitlines() if "| largest contraction |" in line]
    cells = [cell.strip().replace("untrained ", "") for cell in row.strip("|").split("|")]
    claims = [stored[name]["claims"]["largest contraction"] for name in ("lenet300", "lenet5", "resnet20")]
    assert cells[1:] == [claim.replace("untrained ", "") for claim in claims]


def test_every_layer_has_the_contraction_of_what_feeds_it():
    stored = json.loads((DOCS / "stability.json").read_text())
    for name, depth in (("lenet300", 3), ("lenet5", 4), ("resnet20", 20)):
        for network in ("trained", "untrained"):
            found = stored[name][network]["distributions"]["contraction"]
            assert [own["place"] for own in found] == [f"layer {i}" for i in range(1, depth + 1)]
            assert (found[0]["minimum"], found[0]["maximum"]) == (1.0, 1.0)
            assert all(own["minimum"] >= 1 for own in found)
