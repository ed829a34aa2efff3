"""docs/codecs.md quotes Shin's protocol from the stored study."""

from pathlib import Path

from bitcert.studies import StudyResult
from bitcert.studies.replacement import RULES

DOCS = Path(__file__).parents[3] / "docs"


def test_the_table_and_the_exponents_are_those_of_the_study():
    result = StudyResult.from_json((DOCS / "results-studies" / "shin2021.table1.json").read_text())
    page = (DOCS / "codecs.md").read_text().split("**Shin's protocol**")[1].split("**Linear separators**")[0]
    assert result.size == "default"
    names, exponents = ("ResNet-20", "ResNet-56"), []
    for name in names:
        rows = [row for row in result.outcome.rows if row.quantity.startswith(f"{name}: ")]
        ours = {row.quantity.removeprefix(f"{name}: "): row.ours for row in rows}
        paper = {row.quantity.removeprefix(f"{name}: "): row.paper for row in rows}
        spreads = [row.ours for row in rows if row.quantity.endswith("its deviation")]
        exponents.append(ours["exponent of the density"])
        for rule, spread in zip(RULES, spreads, strict=True):
            after, drop = ours[f"accuracy after, {rule}"], ours[f"drop, {rule}"]
            cells = f"| {ours['accuracy']:.2f} | {after:.2f} ± {spread:.2f} | {drop:.2f} | "
            assert f"{cells}{paper[f'drop, {rule}']:.2f} |" in page
    assert "are {:.2f} and {:.2f}, where".format(*exponents) in page
