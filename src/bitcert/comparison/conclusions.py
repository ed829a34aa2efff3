"""What a comparison says, in sentences that are computed from its rows.

They speak of these messages on these data: which bounds say anything, how they stand beside holding labels out, where
each codec keeps the training error, and the question Zhang 2020 leaves open (section 7): whether random projection is
better than dropping small singular values. No sentence claims more than that, and none ranks codecs in general.
"""

from __future__ import annotations

import math
from decimal import ROUND_CEILING, Decimal

from bitcert.comparison.records import Comparison, ComparisonRow, Measured
from bitcert.errors import listed

SVD = "svd"
"""Name of the codec that drops small singular values."""
PROJECTION = "matrix-project"
"""Name of the codec that projects layers on random directions."""
PROJECTION_SENTENCE = "Random projection against dropping small singular values"
"""How the sentence on the two begins."""
FAITHFUL = 0.01
"""A message keeps the network if it makes at most this share more training errors."""
MOST_NAMED = 8

Pair = tuple[ComparisonRow, Measured]


def conclude(comparison: Comparison) -> list[str]:
    """The sentences, the most important first."""
    sentences = [_telling(comparison)]
    sentences += _beside_holdout(comparison)
    sentences += _projection(comparison)
    sentences += [sentence for _, sentence in family_sentences(comparison)]
    refused = [row for row in comparison.rows if row.measured is None]
    if refused:
        names = listed(list(dict.fromkeys(row.codec for row in refused)), MOST_NAMED)
        sentences.append(f"{_count(len(refused), 'row')} without a message, each saying why: {names}.")
    return sentences


def _telling(comparison: Comparison) -> str:
    pairs, guessing = comparison.messages, comparison.guessing
    if not pairs:
        return "No codec made a message for this network."
    telling = sorted((pair for pair in pairs if pair[1].bound < guessing), key=_by_bound)
    between = sum(guessing <= measured.bound < 1.0 for _, measured in pairs)
    rest = len(pairs) - len(telling) - between
    parts = []
    if between:
        parts.append(f"{between} lie between that and 100 %")
    if rest:
        parts.append(f"{rest} are vacuous (100 %)")
    others = f" Of the others, {' and '.join(parts)}." if parts else ""
    chance = f"the {_percent(guessing)} errors of guessing a class"
    if not telling:
        shortest = min(pairs, key=lambda pair: pair[1].message_bits)
        others = others.replace("Of the others", "Of them")
        return (
            f"None of the {_count(len(pairs), 'message')} certifies less than {chance}: the shortest, "
            f"{shortest[0].label}, has {shortest[1].message_bits:,} bits and {_percent(shortest[1].rate)} training "
            f"errors.{others}"
        )
    named = listed([f"{row.label} {percent_up(measured.bound)}" for row, measured in telling], MOST_NAMED)
    verb = "certifies" if len(telling) == 1 else "certify"
    return f"{len(telling)} of {_count(len(pairs), 'message')} {verb} less than {chance}: {named}.{others}"


def _beside_holdout(comparison: Comparison) -> list[str]:
    held, best = comparison.original.holdout, comparison.best
    if held is None or held.bound is None or best is None or best.measured is None:
        return []
    bound = best.measured.bound
    word = "tighter" if held.bound < bound else "no tighter"
    return [
        f"Holding out {held.samples:,} labels says {percent_up(held.bound)} of the original network, which is {word} "
        f"than the best message's {percent_up(bound)} ({best.label})."
    ]


def _projection(comparison: Comparison) -> list[str]:
    """Whether random projection beats dropping singular values: by dominance, and the two closest in length."""
    dropped = [pair for pair in comparison.messages if pair[0].codec == SVD]
    projected = [pair for pair in comparison.messages if pair[0].codec == PROJECTION]
    if not dropped or not projected:
        return []
    wins, losses = beaten(comparison, SVD, PROJECTION), beaten(comparison, PROJECTION, SVD)
    names = ("random projection", "dropping singular values")
    if not wins and not losses:
        verdict = "neither is better: no message of use is both shorter and more exact than one of the other kind"
    elif wins and losses:
        verdict = f"neither is better throughout, {names[wins < losses]} more often" if wins != losses else "a draw"
    else:
        verdict = f"{names[not wins]} is better here"
    (row, own), (other_row, other) = min(
        ((one, two) for one in projected for two in dropped), key=lambda pairs: _length_ratio(*pairs)
    )
    useless = all(measured.bound >= comparison.guessing for _, measured in dropped + projected)
    only = " None of these messages certifies less than guessing." if useless else ""
    return [
        f"{PROJECTION_SENTENCE} (the question of Zhang 2020): {verdict}; {wins} of "
        f"{len(dropped)} svd messages are beaten by a projection with no more bits, no more training errors and "
        f"less than half of guessing's, {losses} of {len(projected)} projections by such an svd message. "
        f"Closest in length: {row.label} with "
        f"{own.message_bits:,} bits and {_percent(own.rate)} training errors, {other_row.label} with "
        f"{other.message_bits:,} bits and {_percent(other.rate)}.{only}"
    ]


def beaten(comparison: Comparison, codec: str, by: str) -> int:
    """How many messages of ``codec`` are beaten by one of ``by`` that errs less than half as often as guessing.

    One message beats another that is no shorter and no more exact, unless they are equal in both.
    """
    own, others = ([pair for pair in comparison.messages if pair[0].codec == name] for name in (codec, by))
    return _dominated(own, _of_use(others, comparison))


def shortest_faithful(comparison: Comparison, codec: str) -> int | None:
    """Bits of the codec's shortest message within 1 point of the original's training error; ``None`` for none."""
    allowed = comparison.original.rate + FAITHFUL
    bits = [own.message_bits for row, own in comparison.messages if row.codec == codec and own.rate <= allowed]
    return min(bits, default=None)


def _of_use(pairs: list[Pair], comparison: Comparison) -> list[Pair]:
    """Those that err less than half as often as guessing: that one message near guessing beats another says nothing."""
    return [pair for pair in pairs if pair[1].rate < 0.5 * comparison.guessing]


def _length_ratio(one: Pair, other: Pair) -> float:
    return abs(math.log(one[1].message_bits / other[1].message_bits))


def _dominated(pairs: list[Pair], by: list[Pair]) -> int:
    """How many of ``pairs`` are beaten: one of ``by`` is no longer and no less exact, and not equal in both."""
    return sum(
        any(
            other.message_bits <= own.message_bits
            and other.errors <= own.errors
            and (other.message_bits, other.errors) != (own.message_bits, own.errors)
            for _, other in by
        )
        for _, own in pairs
    )


def family_sentences(comparison: Comparison) -> list[tuple[str, str]]:
    """A sentence for each codec, by its name: its best bound, and its shortest message that keeps the network."""
    sentences = []
    for codec in dict.fromkeys(row.codec for row in comparison.rows):
        pairs = [pair for pair in comparison.messages if pair[0].codec == codec]
        if pairs:
            sentences.append((codec, _family(codec, pairs, comparison)))
        else:
            sentences.append((codec, f"{codec}: no message for this network."))
    return sentences


def _family(codec: str, pairs: list[Pair], comparison: Comparison) -> str:
    best_row, best = min(pairs, key=_by_bound)
    if best.bound >= comparison.guessing:
        bound = f"no bound below guessing's {_percent(comparison.guessing)} in {_count(len(pairs), 'message')}"
    else:
        bound = f"best bound {percent_up(best.bound)} ({best_row.label}, {best.message_bits:,} bits)"
    allowed = comparison.original.rate + FAITHFUL
    keeping = [pair for pair in pairs if pair[1].rate <= allowed]
    if not keeping:
        fewest = min(pairs, key=lambda pair: pair[1].errors)
        kept = f"none keeps the network within 1 point; the closest makes {_percent(fewest[1].rate)} training errors"
    else:
        row, short = min(keeping, key=lambda pair: pair[1].message_bits)
        kept = f"within 1 point of the original's training error at {short.message_bits:,} bits ({row.label})"
    return f"{codec}: {bound}; {kept}."


def _by_bound(pair: Pair) -> tuple[float, int]:
    return pair[1].bound, pair[1].message_bits


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def percent_up(bound: float) -> str:
    """A bound in percent, rounded up, so that what is printed is still a bound.

    >>> percent_up(0.24101)
    '24.11 %'
    """
    return f"{(100 * Decimal(repr(bound))).quantize(Decimal('0.01'), rounding=ROUND_CEILING)} %"


def _percent(rate: float) -> str:
    return f"{100 * rate:.2f} %"
