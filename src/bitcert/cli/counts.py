"""``bitcert counts``: the bound from numbers of the user's own."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Annotated

from typer import Option

from bitcert.proof.counts import CountsBound, certify_counts
from bitcert.report.text import FORMS, percent_up, share, vacuous_word


@dataclass(frozen=True, kw_only=True)
class CountsOptions:
    """The options of the verb."""

    errors: Annotated[int, Option(help="Errors of the decoded classifier on the sample; ties are errors.")]
    samples: Annotated[int, Option(help="Examples in the sample.")]
    bits: Annotated[int, Option(help="Length of the message; 0: the classifier was fixed before the sample.")] = 0
    delta: Annotated[float, Option(help="Probability with which the bound may fail.")] = 0.05
    json_output: Annotated[bool, Option("--json", help="Print JSON only.")] = False


def print_bound(options: CountsOptions) -> None:
    """The bound alone, from your own numbers: errors, examples, bits of the message, delta."""
    found = certify_counts(options.errors, options.samples, options.bits, options.delta)
    print(json.dumps(asdict(found), indent=1, sort_keys=True) if options.json_output else _in_words(found))


def _in_words(found: CountsBound) -> str:
    bound = found.bound
    counted = f"{bound.num_errors:,} of {bound.num_samples:,}"
    limit = f"{percent_up(bound.binomial)}{vacuous_word(bound.binomial)}"
    lines = [
        f"error rate on new data at most {limit}, delta = {bound.delta:g}",
        f"  errors   {share(bound.num_errors, bound.num_samples)}  {counted}",
        f"  message  {bound.message_bits:,} bits",
        *(f"  {FORMS[name]}  {percent_up(getattr(bound, name))}" for name in FORMS),
        "Nothing was checked. It holds if",
        *(f"  - {condition}" for condition in found.conditions),
        found.theorem,
    ]
    return "\n".join(lines)
