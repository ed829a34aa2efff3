"""Check counts again with float64 only where float32 leaves a doubt: less than half the time of both ways.

The features of a built-in head are shallow and continuous, so its float32 and float64 logits differ by about ``1e-6``
of the sum of their terms' absolute values, which is computed, too (large terms may cancel). An example whose two
largest float32 logits are further apart than :data:`DOUBT` of the largest, and than ``1 / 256`` of that sum, would be
decided otherwise at the strictest level (:class:`bitcert.counting.Level`) only if the difference were beyond a 256th of
the gap. All other examples get both ways, and so does one in :data:`EVERY` of the clear ones: if a single one of these
contradicts, its whole batch is computed in both ways. A claim that this count contradicts is counted again in full
before it is refused, and makers of certificates always count in full.
"""

from __future__ import annotations

from collections.abc import Sequence

from bitcert.certificates.certificate import Certificate
from bitcert.counting import (
    Classifier,
    DecisionRule,
    Level,
    LossCount,
    Progress,
    SummingClassifier,
    TwoWays,
    Values,
    Ways,
    both_ways,
    check_logits,
    count_losses,
    second_way,
)
from bitcert.data import Sample
from bitcert.losses import Loss

LEVELS = (Level.LENIENT, Level.STRICT)
"""Between the counts at these a claimed count must lie."""

DOUBT = 0.05
CANCELLED = 1 / 256
EVERY = 16
SCREENING = (
    f"float64 for every example whose two largest float32 logits are within {DOUBT:g} of the largest, or within "
    f"1/256 of the terms that they sum, and for one in {EVERY} of the others; a batch in which one of these was not "
    "clear was counted in full"
)
"""What a reviewer is told of it."""


def screened_ways(classifier: Classifier, sample: Sample, double: bool) -> Ways:
    """Raw inputs of ``sample`` -> logits in two ways; of clear examples the second repeats the first."""
    assert isinstance(classifier, SummingClassifier)
    both = both_ways(classifier, sample, double)
    if not double:  # float32 in other batches says too little of the examples that are left out
        return both
    rule = DecisionRule()

    def evaluate(inputs: Values) -> TwoWays:
        logits, terms = classifier.with_terms(inputs)
        single = TwoWays.once(check_logits(logits, inputs, sample))
        gap = single.gaps[0]
        clear = single.finite & (gap > DOUBT * single.size) & (gap > CANCELLED * terms)
        chosen = ~clear
        chosen[::EVERY] = True
        rows = chosen.nonzero().flatten()
        chosen_inputs = inputs[rows.numpy()]
        second = check_logits(second_way(classifier, chosen_inputs, True), chosen_inputs, sample)
        looked = TwoWays(single.single[rows], second)
        seen = clear[rows]
        if bool((seen & ~looked.clear(rule, Level.STRICT)).any()):
            return both(inputs)
        return TwoWays(single.single, single.single.index_copy(0, rows, second))

    return evaluate


def count_again(
    certificate: Certificate,
    classifier: Classifier,
    sample: Sample,
    rule: DecisionRule,
    losses: Sequence[Loss],
    progress: Progress | None,
) -> tuple[tuple[LossCount, ...], bool]:
    """Errors and losses at each of :data:`LEVELS`, and whether they were screened: then they confirm the claim.

    Raises:
        InputError: as :func:`bitcert.counting.count_losses`.
    """
    if isinstance(classifier, SummingClassifier) and not losses:
        found = count_losses(classifier, sample, rule, (), LEVELS, progress, screened_ways)
        low, high = found
        errors = low.errors.errors <= certificate.errors <= high.errors.errors
        if errors and low.errors.near_ties <= certificate.near_ties <= high.errors.near_ties:
            return found, low.double
    return count_losses(classifier, sample, rule, losses, LEVELS, progress), False
