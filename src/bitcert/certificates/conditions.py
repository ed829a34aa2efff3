"""What no file can show and a certificate rests on, in words: the same sentences for its maker and for its reviewer.

Each condition says whether ``self_contained`` needs it too. A condition that is known not to hold is named as such: the
features and settings of this program were compared on the built-in benchmarks, so a certificate on one of them is an
illustration (docs/theory.md section 2).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bitcert.data import Schema
from bitcert.decoder import Helper
from bitcert.decoder.description import SplitClaim, helper_contents
from bitcert.losses import is_users
from bitcert.network import OpaqueModel

NOT_MET = "NOT MET: "
"""Opens a condition that is known not to hold."""

HELPER_ONLY = "for `bound` only: "
"""Opens a condition that ``self_contained`` does without."""


@dataclass(frozen=True)
class Facts:
    """What the conditions of a certificate depend on.

    Args:
        samples: number of examples that errors are counted on.
        delta: failure probability.
        losses: names of the losses claimed beside the 0/1 error.
        helper: the helper string.
        helper_bits: length of its description; ``None`` where it could not be read.
        benchmark: name of the built-in benchmark that the data are, if they are one.
        prior: the declared split, or ``None``.
        original: the original network's unlabelled examples and the number of this look at them, or ``None``.
    """

    samples: int
    delta: float
    losses: Sequence[str]
    helper: Helper
    helper_bits: int | None
    benchmark: str | None = None
    prior: SplitClaim | None = None
    original: tuple[int, int] | None = None


def conditions(facts: Facts) -> tuple[str, ...]:
    """The conditions of a certificate, the general ones first."""
    found = [
        f"the {facts.samples:,} examples were drawn independently of each other, from the source of new ones",
        f"{_claims(facts)} chosen before the data were seen",
        *_helper(facts),
    ]
    if facts.prior is not None:
        fraction, seed = facts.prior.fraction, facts.prior.seed
        found.append(
            f"{HELPER_ONLY}the split (fraction {fraction:g}, seed {seed}) was declared before the data were seen, and "
            "the helper network was trained once and on the prior part alone"
        )
    if facts.original is not None:
        unlabelled, look = facts.original
        found.append(
            f"the {unlabelled:,} unlabelled examples were drawn independently of the training of both networks, from "
            "the same source"
        )
        found.append(
            f"this is certificate number {look} on these unlabelled examples, and what earlier ones said of them did "
            "not choose its network"
        )
    found += [f"the code of the loss {name} computes what it did here" for name in facts.losses if is_users(name)]
    if facts.benchmark is not None:
        found.append(
            f"{NOT_MET}the program was written without knowledge of these data: its features and settings were "
            f"compared on {facts.benchmark}, so this certificate is an illustration"
        )
    return tuple(found)


def _claims(facts: Facts) -> str:
    named = "".join(f", {name}" for name in facts.losses)
    return f"delta = {facts.delta:g} and the claims (0/1 error{named}) were"


def _table(schema: Schema) -> str:
    """Label and schema of a table; ``self_contained`` charges for both."""
    chosen = [f"the label {schema.label!r}"]
    if schema.classes:
        chosen.append(f"the names of its {len(schema.classes)} classes")
    if schema.columns:
        chosen.append(f"the schema (SHA-256 {schema.hash})")
    were = "was" if len(chosen) == 1 else "were"
    listed = " and ".join([", ".join(chosen[:-1]), chosen[-1]] if chosen[:-1] else chosen)
    return f"{HELPER_ONLY}{listed} {were} chosen before the data were seen"


def _helper(facts: Facts) -> list[str]:
    helper = facts.helper
    before = "before the data were seen" if facts.prior is None else "before the rest of the data was seen"
    size = "of unknown length" if facts.helper_bits is None else f"{facts.helper_bits:,} bits to describe"
    found = [
        f"{HELPER_ONLY}the helper ({helper_contents(helper)}; {size}) was fixed {before}",
        "the program's features and decoders were fixed before the data were seen and compute what they did here",
    ]
    if helper.table is not None:
        found.append(_table(helper.table.schema))
    if isinstance(helper.predictor, OpaqueModel):
        sources = helper.predictor.sources
        size = f"{sum(map(len, sources.values())):,} bytes of source" if sources else "whose source was not found"
        found.append(f"the network's own Python code {helper.predictor.factory!r} ({size}) reads nothing but its files")
    return found
