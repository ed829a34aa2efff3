"""Exact discrete descent on the head of a compact net, the body as it is.

The features of the whole sample are computed once; :mod:`bitcert.search.plain_descent` then changes pairs of
integers of the head, then single ones, while loss and price of the code fall. Not looked at: the body.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from bitcert.decoder import Helper
from bitcert.decoder.compact import BIAS_STEP, CompactSettings, body, split_weights
from bitcert.decoder.features.front import flipped
from bitcert.search.plain_descent import descend_pairs, descend_singles
from bitcert.search.plain_objective import HeadObjective

HEAD_RATES = (1.0, 3.0, 8.0)

Integers = NDArray[np.int64]


def head_features(
    settings: CompactSettings, helper: Helper, integers: Integers, maps: Iterator[torch.Tensor]
) -> torch.Tensor:
    """What enters the head, summed over the views, and the bias's constant: ``[width + 1, m]`` float32.

    Args:
        settings: the architecture.
        helper: of the problem.
        integers: all weights.
        maps: of the front end, batch by batch, float32.
    """
    tensors = split_weights(torch.from_numpy(integers).float(), settings, helper)
    parts = []
    for batch in maps:
        with torch.no_grad():
            part = body(settings, batch, tensors)
            if settings.mirrored:
                part = part + body(settings, flipped(batch, helper.input_shape[0], settings.rectified), tensors)
        parts.append(part)
    features = torch.cat(parts)
    constant = torch.full((len(features), 1), BIAS_STEP * (2 if settings.mirrored else 1))
    return torch.cat([features, constant], 1).T.contiguous()


def descend_head(
    features: torch.Tensor, labels: torch.Tensor, head: Integers, rate: float, stop: Callable[[], bool]
) -> Integers:
    """The head ``[classes * width + classes]`` (weights by class, biases) after the descent at a price of a bit.

    Args:
        features: of :func:`head_features`.
        labels: ``[m]`` int64.
        head: where to start.
        rate: price of a bit in ``ln 2`` nats of the total loss.
        stop: whether to end now.
    """
    width = len(features) - 1
    classes = len(head) // (width + 1)
    weights = np.concatenate([head[: classes * width].reshape(classes, width).T, head[None, classes * width :]])
    size = float((torch.from_numpy(weights).float().T @ features).std().clamp(min=1e-6))
    objective = HeadObjective(features, labels, weights.copy(), 1.0 / size, rate=rate)
    objective.fit_scale()
    descend_pairs(objective, stop)
    objective.fit_scale()
    descend_singles(objective, stop)
    return np.concatenate([objective.weights[:-1].T.ravel(), objective.weights[-1]])
