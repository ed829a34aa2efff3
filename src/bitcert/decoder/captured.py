"""A user's model for a sample: captured with an example of it, whatever it is and whatever the sample holds.

Everything that takes a :class:`~bitcert.network.Network` takes a module too and calls :func:`as_network`. The example
is the first inputs of the sample after preprocessing; whole numbers are offered as tokens (int64) and as numbers
(float32), and the model says by running which of the two it reads.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from bitcert.data import Sample
from bitcert.decoder.helper import Preprocessing
from bitcert.errors import InputError
from bitcert.network import Model, Network, accepted_example, as_module, capture

__all__ = ["as_network", "example_for"]

EXAMPLES = 2


def example_for(model: Model, sample: Sample, preprocessing: Preprocessing | None = None, rows: int = EXAMPLES) -> Any:
    """The first inputs of the sample as the model reads them: float32 after preprocessing, or int64 tokens."""
    inputs = sample.inputs[:rows]
    numbers = (preprocessing or Preprocessing.usual(sample))(inputs)
    if not bool((inputs == np.trunc(inputs)).all()):
        return numbers
    tokens = torch.from_numpy(inputs.astype(np.int64))
    offered = (tokens, numbers) if sample.inputs.dtype == np.int32 else (numbers, tokens)
    return accepted_example(model, offered)


def as_network(model: object, sample: Sample, preprocessing: Preprocessing | None = None) -> Network:
    """A captured network as it is; anything else that can be captured, captured for the inputs of this sample.

    Args:
        model: a network, a torch module, an exported program, or a fitted classifier of scikit-learn.
        sample: whose first inputs are the example.
        preprocessing: from stored inputs to what the model sees; by default the usual one of the sample.

    Raises:
        InputError: it is none of these.
        CaptureError: it cannot be captured.
    """
    if isinstance(model, Network):
        return model
    if isinstance(model, str) or model is None:
        raise InputError("a network, a module or a fitted classifier", repr(model)[:100], "load it first")
    module = as_module(model)
    return capture(module, example_for(module, sample, preprocessing))
