"""Codec family 1: helper features and an integer linear head.

``logits = features(x) @ W`` with ``W [features, classes]`` integer. A common scale of ``W`` changes no decision, so no
step is coded. Message: index of the feature settings (fixed width), then ``W`` row by row as one arithmetic section;
the zeros of the constant's row are counted apart.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from bitcert.coding import Ledger, MessageReader, MessageWriter
from bitcert.counting import FloatClassifier
from bitcert.decoder.features.edges import FEATURE_GRID, FeatureSettings, features, is_image, num_features
from bitcert.decoder.helper import Helper, read_classes, write_classes
from bitcert.errors import DecodeError

FAMILY = 1
MAX_WEIGHTS = 1 << 22
_SETTINGS_BITS = (len(FEATURE_GRID) - 1).bit_length()


@dataclass(frozen=True, eq=False)
class LinearHead(FloatClassifier):
    """The classifier: raw inputs ``[batch, ...]`` -> logits ``[batch, classes]``."""

    settings: FeatureSettings | None
    weights: NDArray[np.int64]
    helper: Helper

    def logits(self, inputs: NDArray[np.generic], dtype: torch.dtype) -> torch.Tensor:
        """Logits of one batch, computed in ``dtype``."""
        x = features(self.settings, self.helper.preprocessing(inputs, dtype))
        return x @ torch.from_numpy(self.weights).to(dtype)


def _contexts(shape: tuple[int, int]) -> NDArray[np.intp]:
    contexts = np.zeros(shape, dtype=np.intp)
    contexts[-1] = 1
    return contexts.ravel()


def available_settings(helper: Helper) -> tuple[FeatureSettings | None, ...]:
    """The settings this problem can use: the fixed grid for images, the inputs themselves otherwise."""
    if not is_image(helper.input_shape):
        return (None,)
    return tuple(s for s in FEATURE_GRID if s.grid <= min(helper.input_shape[1:]))


def write(settings: FeatureSettings | None, weights: NDArray[np.int64], helper: Helper) -> tuple[bytes, Ledger]:
    """The message of a head ``weights [features, classes]``."""
    writer = MessageWriter(FAMILY)
    write_classes(writer, helper)
    if is_image(helper.input_shape):
        assert settings is not None
        with writer.section("feature settings") as bits:
            bits.binary(FEATURE_GRID.index(settings), _SETTINGS_BITS)
    writer.integers("head weights", weights.astype(np.int64), _contexts(weights.shape))
    return writer.finish()


def read(reader: MessageReader, helper: Helper) -> tuple[LinearHead, str]:
    """Decode a head.

    Raises:
        DecodeError: when the settings do not fit the helper's input shape.
    """
    read_classes(reader, helper)
    settings = None
    if is_image(helper.input_shape):
        with reader.section("feature settings") as bits:
            index = bits.binary(_SETTINGS_BITS)
        settings = FEATURE_GRID[index] if index < len(FEATURE_GRID) else None
        if settings not in available_settings(helper):
            raise DecodeError("feature settings that fit the images", f"setting {index}", "ask for the file again")
    rows = num_features(settings, helper.input_shape)
    if rows * helper.num_classes > MAX_WEIGHTS:
        got = f"{rows} features and {helper.num_classes} classes"
        raise DecodeError(f"at most {MAX_WEIGHTS} weights", got, "certify a network of your own instead")
    shape = (rows, helper.num_classes)
    weights = reader.integers("head weights", rows * helper.num_classes, _contexts(shape)).reshape(shape)
    used = int((weights != 0).sum())
    name = "the inputs" if settings is None else f"{rows - 1} oriented edge features"
    description = f"integer linear head on {name}: {used} non-zero weights of {weights.size}"
    return LinearHead(settings, weights, helper), description
