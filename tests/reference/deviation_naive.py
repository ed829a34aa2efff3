"""Output deviations and margin losses, one example and one logit at a time, in Python floats."""

import math


def deviations(f: list[list[float]], g: list[list[float]]) -> tuple[list[float], list[float], list[float]]:
    entrywise, l2, relative = [], [], []
    for first, second in zip(f, g, strict=True):
        largest, squares, size = 0.0, 0.0, 0.0
        for a, b in zip(first, second, strict=True):
            largest = max(largest, abs(a - b))
            squares += (a - b) ** 2
            size += a * a
        entrywise.append(largest)
        l2.append(math.sqrt(squares))
        relative.append(math.sqrt(squares / size) if size else math.nan)
    return entrywise, l2, relative


def margin_loss(logits: list[list[float]], labels: list[int], gamma: float) -> float:
    losses = 0
    for row, label in zip(logits, labels, strict=True):
        others = [value for index, value in enumerate(row) if index != label]
        if not row[label] - max(others) > gamma:
            losses += 1
    return losses / len(labels)


def order_statistic(values: list[float], fraction: float) -> float:
    return sorted(values)[max(math.ceil(fraction * len(values)), 1) - 1]
