"""Does every claim hold as often as it says? ``python benchmarks/validity.py [NAME ...] [--draws N] [--keep]``.

Draws samples from worlds whose true error is known, lets an adversary choose after seeing them whatever the claim
allows to be chosen, and counts how often the certified bound lies below the truth. A claim at ``delta`` is wrong if the
exact 95 % confidence limit of that rate lies above ``delta``. Settings are nearly tight, so a claim that charges too
little fails: beside each claim runs a *broken twin*, the same with one thing left out, and it must be caught. One JSON
object a line; ``--keep`` writes them to docs/results-validity.jsonl. No data, no network, a minute.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from scipy.stats import beta, binom

from bitcert import Helper, Preprocessing
from bitcert.decoder.description import helper_ledger
from bitcert.proof import disagreement_bound, holdout_bound, occam_bound, self_contained_bound
from bitcert.proof.claims import LOSS_UNITS, bounded_loss_bound, delta_plan, zero_one_loss_bound

RESULTS = Path(__file__).resolve().parent.parent / "docs" / "results-validity.jsonl"
DELTA = 0.1
DRAWS = 4000
SAMPLES, ERROR = 5000, 0.02

Rng = np.random.Generator
Trial = Callable[[Rng], tuple[float, float]]
"""One draw of the world: the true value, and what the claim says of it at most."""


@dataclass(frozen=True)
class Claim:
    """A claim of the program, and what its adversary does.

    Args:
        says: in words, with the adversary.
        trial: the claim as the program makes it.
        twin: what is left out in the broken twin.
        broken: the broken twin.
        delta: what the claim may fail with.
    """

    says: str
    trial: Trial
    twin: str
    broken: Trial
    delta: float = DELTA


def luckiest(rng: Rng, hypotheses: float, samples: int, error: float) -> int:
    """Errors of the best of so many hypotheses, all of the same true error and independent of each other."""
    u = -np.expm1(np.log1p(-rng.random()) / hypotheses)  # the smallest of uniform numbers
    return int(binom.ppf(u, samples, error))


@cache
def occam(errors: int, samples: int, bits: int, delta: float) -> float:
    """The certified bound of a message."""
    return occam_bound(errors, samples, bits, delta).binomial


holdout = cache(holdout_bound)
charged = cache(self_contained_bound)


def compressed(bits: int, counted: int) -> Trial:
    """The best of ``2^bits`` messages; ``counted`` of their bits are charged."""

    def trial(rng: Rng) -> tuple[float, float]:
        return ERROR, occam(luckiest(rng, 2.0**bits, SAMPLES, ERROR), SAMPLES, counted, DELTA)

    return trial


def self_contained(helper_bits: int, bits: int, counted: int) -> Trial:
    """The best of ``2^helper_bits`` helpers with ``2^bits`` messages each, all chosen after the sample was seen."""

    def trial(rng: Rng) -> tuple[float, float]:
        errors = luckiest(rng, 2.0 ** (helper_bits + bits), SAMPLES, ERROR)
        return ERROR, charged(errors, SAMPLES, bits, counted, DELTA)

    return trial


def declared(helpers: int, bits: int, shared: bool) -> Trial:
    """The best of so many helpers, all declared beforehand, with ``2^bits`` messages each."""
    delta = delta_plan(DELTA, helpers=helpers if shared else 1)[0].amount

    def trial(rng: Rng) -> tuple[float, float]:
        return ERROR, occam(luckiest(rng, helpers * 2.0**bits, SAMPLES, ERROR), SAMPLES, bits, delta)

    return trial


@cache
def _scale_bits(scale: int) -> int:
    return helper_ledger(Helper((4,), 2, Preprocessing(float(scale)))).total_bits


def tuned_scale(count: bool) -> Trial:
    """The best of the scales 1 to 999, each another classifier, described by the program's own code."""
    bits = np.array([_scale_bits(scale) for scale in range(1, 1000)])

    def trial(rng: Rng) -> tuple[float, float]:
        errors = rng.binomial(SAMPLES, ERROR, 999)
        best = [int(errors[bits == size].min()) for size in np.unique(bits)]
        sizes = [int(size) if count else 0 for size in np.unique(bits)]
        return ERROR, min(charged(e, SAMPLES, 8, size, DELTA) for e, size in zip(best, sizes, strict=True))

    return trial


def original(division: bool) -> Trial:
    """A network that errs wherever its surrogate errs or disagrees; few bits, many labelled examples."""
    bits, labelled, unlabelled, wrong, apart = 6, 4_000_000, 2000, 1e-6, 0.03
    first, second = (entry.amount for entry in delta_plan(DELTA, look=1)) if division else (DELTA, DELTA / 0.4)

    def trial(rng: Rng) -> tuple[float, float]:
        errors = luckiest(rng, 2.0**bits, labelled, wrong)
        differ = int(rng.binomial(unlabelled, apart))
        return wrong + apart, disagreement_bound(occam(errors, labelled, bits, first), differ, unlabelled, second)

    return trial


def looks(count: int, counted: bool) -> Trial:
    """So many certificates on one unlabelled sample, the best of which is shown."""
    unlabelled, apart = 2000, 0.03

    def trial(rng: Rng) -> tuple[float, float]:
        differ = rng.binomial(unlabelled, apart, count)
        parts = [delta_plan(DELTA, look=k if counted else 1)[1].amount for k in range(1, count + 1)]
        return apart, min(holdout(int(a), unlabelled, part) for a, part in zip(differ, parts, strict=True))

    return trial


def zero_one_losses(division: bool) -> Trial:
    """The 0/1 error and two further losses with values 0 and 1, each of another rate; any of them may fail."""
    rates, names = (0.02, 0.01, 0.05), ["top-2", "margin:1"]
    parts = [entry.amount for entry in delta_plan(DELTA, names)] if division else [DELTA] * 3
    bound = cache(zero_one_loss_bound)

    def trial(rng: Rng) -> tuple[float, float]:
        margins = []
        for rate, part in zip(rates, parts, strict=True):
            total = luckiest(rng, 2.0**5, SAMPLES, rate)
            margins.append(bound(total, SAMPLES, 5, part) - rate)
        return 0.0, min(margins)

    return trial


def bounded_loss(rounding: bool) -> Trial:
    """A loss in [0, 1] that is 1 in one case of a hundred and next to nothing else; counted in units rounded up."""
    bound, tiny = cache(bounded_loss_bound), 0.4 / LOSS_UNITS
    rate = 0.01

    def trial(rng: Rng) -> tuple[float, float]:
        ones = int(rng.binomial(SAMPLES, rate))
        small = 1 if rounding else 0
        total = ones * LOSS_UNITS + (SAMPLES - ones) * small
        delta = DELTA if rounding else 8 * DELTA
        return rate + (1 - rate) * tiny, bound(total, SAMPLES, 0, delta)

    return trial


def held_out(honest: bool) -> Trial:
    """Labels never used, or (broken) the luckier half of them."""

    def trial(rng: Rng) -> tuple[float, float]:
        halves = [int(rng.binomial(SAMPLES // 2, ERROR)) for _ in range(2)]
        if honest:
            return ERROR, holdout(sum(halves), SAMPLES, DELTA)
        return ERROR, holdout(min(halves), SAMPLES // 2, DELTA)

    return trial


def prior(rest_only: bool) -> Trial:
    """The helper network is the best of 2^12 on the prior half; errors are counted on the rest, or (broken) on all."""

    def trial(rng: Rng) -> tuple[float, float]:
        half = SAMPLES // 2
        before = luckiest(rng, 2.0**12, half, ERROR)
        rest = int(rng.binomial(half, ERROR))
        errors, samples = (rest, half) if rest_only else (before + rest, SAMPLES)
        return ERROR, occam(errors, samples, 0, DELTA)

    return trial


def chosen_split(helper_charged: bool) -> Trial:
    """The best of 64 seeds of the split, for the bound that charges for the seed, and for the one that trusts it."""
    half, seeds, bits = SAMPLES // 2, 64, 6

    def trial(rng: Rng) -> tuple[float, float]:
        errors = int(rng.binomial(half, ERROR, seeds).min())
        return ERROR, charged(errors, half, 0, bits if helper_charged else 0, DELTA)

    return trial


CLAIMS = {
    "compressed": Claim("the best of 2^12 messages", compressed(12, 12), "two of twelve bits", compressed(12, 10)),
    "declared helpers": Claim(
        "the best of 48 declared helpers with 2^5 messages",
        declared(48, 5, True),
        "the division of delta",
        declared(48, 5, False),
    ),
    "self-contained": Claim(
        "the best of 2^9 helpers with 2^5 messages", self_contained(9, 5, 9), "the helper", self_contained(9, 5, 0)
    ),
    "self-contained, scale": Claim(
        "a scale tuned on the data, by the program's own description",
        tuned_scale(True),
        "the scale",
        tuned_scale(False),
    ),
    "original": Claim(
        "a network through its surrogate",
        original(True),
        "the division of delta, twice and a half of it",
        original(False),
    ),
    "looks": Claim("the best of 12 looks at one unlabelled sample", looks(12, True), "the count", looks(12, False)),
    "losses, 0 or 1": Claim(
        "three losses at once", zero_one_losses(True), "the division of delta", zero_one_losses(False)
    ),
    "losses, 0 to 1": Claim(
        "a bounded loss in rounded units",
        bounded_loss(True),
        "the rounding, and delta eight times",
        bounded_loss(False),
    ),
    "hold-out": Claim("labels never used", held_out(True), "the unlucky half of them", held_out(False)),
    "prior": Claim("a helper chosen on the prior part", prior(True), "the split: all are counted", prior(False)),
    "prior, seed": Claim("the best of 64 splits", chosen_split(True), "the seed", chosen_split(False)),
}


def limits(failures: int, draws: int) -> tuple[float, float]:
    """The exact 95 % confidence interval of a rate (Clopper & Pearson 1934), by scipy's beta distribution."""
    low = 0.0 if failures == 0 else float(beta.ppf(0.025, failures, draws - failures + 1))
    high = 1.0 if failures == draws else float(beta.ppf(0.975, failures + 1, draws - failures))
    return low, high


def failures(trial: Trial, draws: int, seed: int) -> int:
    """How often the bound lies below the truth."""
    rng = np.random.default_rng(seed)
    return sum(bound < truth for truth, bound in (trial(rng) for _ in range(draws)))


def line_of(name: str, draws: int, seed: int) -> dict[str, object]:
    """The claim and its broken twin."""
    claim = CLAIMS[name]
    found: dict[str, object] = {"name": name, "says": claim.says, "delta": claim.delta, "draws": draws, "seed": seed}
    for key, trial in (("claim", claim.trial), ("twin", claim.broken)):
        wrong = failures(trial, draws, seed)
        low, high = limits(wrong, draws)
        found |= {f"{key}_fails": wrong / draws, f"{key}_limits": [round(low, 4), round(high, 4)]}
        found[f"{key}_holds"] = low <= claim.delta
    found["left_out_in_the_twin"] = claim.twin
    found["command"] = f"python benchmarks/validity.py '{name}' --draws {draws} --seed {seed}"
    return found


def lines(names: list[str], draws: int, seed: int) -> Iterator[dict[str, object]]:
    """One line for each name."""
    for name in names:
        yield line_of(name, draws, seed)


def main() -> int:
    """Exit code 0 if every claim holds and every broken twin is caught."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help=f"claims among {', '.join(CLAIMS)}; all if none is named")
    parser.add_argument("--draws", type=int, default=DRAWS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", action="store_true", help=f"write the lines to docs/{RESULTS.name}")
    options = parser.parse_args()
    if unknown := set(options.names) - set(CLAIMS):
        parser.error(f"unknown claims: {', '.join(sorted(unknown))}; choose among {', '.join(CLAIMS)}")
    found = []
    for line in lines(options.names or list(CLAIMS), options.draws, options.seed):
        print(json.dumps(line), flush=True)
        found.append(line)
    if options.keep:
        RESULTS.write_text("".join(json.dumps(line) + "\n" for line in found))
    return 0 if all(line["claim_holds"] and not line["twin_holds"] for line in found) else 1


if __name__ == "__main__":
    sys.exit(main())
