"""docs/codecs.md quotes what the stored rows say of random projection against dropping singular values, and no more."""

import json
import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[3] / "docs"
NETWORKS = ("lenet300", "lenet300_sparse", "lenet5", "lenet5_sparse")


@pytest.fixture(scope="module")
def lines():
    return [json.loads(line) for line in (DOCS / "results-projection.jsonl").read_text().splitlines()]


def table():
    """Cells of the page's table, row by row."""
    text = (DOCS / "codecs.md").read_text()
    _, after = text.split("*Is random projection better than dropping small singular values?*")
    rows = [line for line in after.splitlines() if line.startswith("|")]
    return [[int(number.replace(",", "")) for number in re.findall(r"\d[\d,]*", row)] for row in rows[2:6]]


def messages(lines, network, codec):
    return [
        (row["bits"], row["errors"]) for row in lines if row.get("network") == network and row.get("codec") == codec
    ]


def beaten(own, others, samples):
    useful = [other for other in others if other[1] < 0.45 * samples]  # half of guessing among ten classes
    return sum(any(a <= bits and b <= errors and (a, b) != (bits, errors) for a, b in useful) for bits, errors in own)


def shortest(own, original, samples):
    return min(bits for bits, errors in own if errors <= original + 0.01 * samples)


@pytest.mark.parametrize("network", NETWORKS)
def test_the_table_is_counted_from_the_rows(lines, network):
    (head,) = [line for line in lines if line.get("benchmark") == "compare" and line.get("network") == network]
    samples, original = head["samples"], head["errors"]
    svd, projections = messages(lines, network, "svd"), messages(lines, network, "matrix-project")
    assert (samples, len(svd), len(projections)) == (60_000, 5, 5)
    wins, losses = beaten(svd, projections, samples), beaten(projections, svd, samples)
    expected = [wins, 5, losses, 5, shortest(svd, original, samples), shortest(projections, original, samples)]
    # a row may begin with the name of the network, which has numbers too
    assert table()[NETWORKS.index(network)][-6:] == expected
    (sentence,) = [text for text in head["conclusions"] if text.startswith("Random projection against")]
    assert f"{wins} of 5 svd messages are beaten" in sentence
    assert f"{losses} of 5 projections by such" in sentence
    draw = network == "lenet300"
    assert ("a draw" in sentence, "dropping singular values is better here" in sentence) == (draw, not draw)


def test_the_exact_messages_of_lenet_300(lines):
    """The one number of the text beside the table: 2 % shorter."""
    svd, projections = (messages(lines, "lenet300", codec) for codec in ("svd", "matrix-project"))
    exact, longest = max(projections), max(svd)
    assert exact[1] <= longest[1]
    assert round(100 * (1 - exact[0] / longest[0])) == 2
