"""What no file can show and a certificate rests on, in words: the same sentences for its maker and for its reviewer.

Each condition says whether ``self_contained`` needs it too. A condition that is known not to hold is named as such: the
features and settings of this program were compared on the built-in benchmarks, so a certificate on one of them is an
illustration (docs/theory.md section 2).
"""

from __future__ import annotations

from bitcert.certificates.certificate import Certificate
from bitcert.data import Schema
from bitcert.decoder import Helper
from bitcert.decoder.description import helper_contents
from bitcert.losses import is_users
from bitcert.network import OpaqueModel

NOT_MET = "NOT MET: "
"""Opens a condition that is known not to hold."""

HELPER_ONLY = "for `bound` only: "
"""Opens a condition that ``self_contained`` does without."""


def conditions(certificate: Certificate, helper: Helper) -> tuple[str, ...]:
    """The conditions of such a certificate (whatever it states of them itself), the general ones first."""
    prior, original, names = certificate.prior, certificate.original, [each["name"] for each in certificate.losses]
    found = [
        f"the {certificate.samples:,} examples were drawn independently of each other, from the source of new ones",
        f"delta = {certificate.delta:g} and the claims ({', '.join(['0/1 error', *names])}) were chosen before the "
        "data were seen",
        *_helper(certificate, helper),
    ]
    if prior is not None:
        found.append(
            f"{HELPER_ONLY}the split (fraction {prior['fraction']:g}, seed {prior['seed']}) was declared before the "
            "data were seen, and the helper network was trained once and on the prior part alone"
        )
    if original is not None:
        found.append(
            f"the {original['unlabelled']['samples']:,} unlabelled examples were drawn independently of the training "
            "of both networks, from the same source"
        )
        found.append(
            f"this is certificate number {original['look']} on these unlabelled examples, and what earlier ones said "
            "of them did not choose its network"
        )
    found += [f"the code of the loss {name} computes what it did here" for name in names if is_users(name)]
    benchmark = certificate.data["benchmark"]
    if benchmark is not None:
        found.append(
            f"{NOT_MET}the program was written without knowledge of these data: its features and settings were "
            f"compared on {benchmark}, so this certificate is an illustration"
        )
    return tuple(found)


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


def _helper(certificate: Certificate, helper: Helper) -> list[str]:
    before = "before the data were seen" if certificate.prior is None else "before the rest of the data was seen"
    bits = certificate.helper_bits
    size = "of unknown length" if bits is None else f"{bits:,} bits to describe"
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
