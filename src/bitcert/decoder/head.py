"""Codec family 2: a bank of helper features and an integer head that selects rows of it.

``logits = features(x) @ W`` with ``W [features, classes]`` integer and mostly unused rows. A common scale of ``W``
changes no decision, so no step is coded. Message: index of the bank (Elias gamma of index + 1, for images), then ``W``
as one section of the row code (:mod:`bitcert.coding.rows`) with the bank's parts as groups.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from bitcert.coding import Ledger, MessageReader, MessageWriter, RowModel
from bitcert.counting import SummingClassifier, TensorClassifier, Values
from bitcert.decoder.features.banks import BANKS, Bank, available_banks, bank_features, bank_groups
from bitcert.decoder.features.edges import exporting, is_image
from bitcert.decoder.helper import Helper, read_classes, write_classes
from bitcert.errors import DecodeError

FAMILY = 2
MAX_WEIGHTS = 1 << 22
_IMAGES_AT_A_TIME = 100
"""Maps of so many images stay in the cache; a divisor of 1000, so that whole batches are divided as their parts are."""


@dataclass(frozen=True, eq=False)
class BankHead(TensorClassifier, SummingClassifier):
    """The classifier: raw inputs ``[batch, ...]`` -> logits ``[batch, classes]``."""

    bank: Bank | None
    weights: NDArray[np.int64]
    helper: Helper

    @cached_property
    def tensors(self) -> Mapping[str, torch.Tensor]:
        """``features [used]``, the places of the features that are used, and their ``weights [used, classes]``."""
        return {"features": torch.from_numpy(self._used), "weights": torch.from_numpy(self.weights[self._used])}

    @cached_property
    def _used(self) -> NDArray[np.intp]:
        return np.flatnonzero((self.weights != 0).any(1))

    def compute(
        self, inputs: Values | torch.Tensor, tensors: Mapping[str, torch.Tensor], dtype: torch.dtype
    ) -> torch.Tensor:
        """Logits of one batch, computed in ``dtype``."""
        weights = tensors["weights"].to(dtype)
        return torch.cat([features @ weights for features in self._features(inputs, dtype)])

    def with_terms(self, inputs: Values) -> tuple[torch.Tensor, torch.Tensor]:
        """Float32 logits, and the largest sum of ``|weight * feature|`` of an example, ``[batch]``."""
        weights = self.tensors["weights"].float()
        parts = [(f @ weights, (f.abs() @ weights.abs()).amax(1)) for f in self._features(inputs, torch.float32)]
        logits, terms = zip(*parts, strict=True)
        return torch.cat(logits), torch.cat(terms)

    def _features(self, inputs: Values | torch.Tensor, dtype: torch.dtype) -> Iterator[torch.Tensor]:
        x = self.helper.preprocessing(inputs, dtype)
        for part in [x] if exporting() else torch.split(x, _IMAGES_AT_A_TIME):
            yield bank_features(self.bank, part, self._used)


def row_model(bank: Bank | None, helper: Helper) -> RowModel:
    """What both sides know of the weights."""
    return RowModel(bank_groups(bank, helper.input_shape), helper.num_classes)


def write(bank: Bank | None, weights: NDArray[np.int64], helper: Helper) -> tuple[bytes, Ledger]:
    """The message of a head ``weights [features, classes]``."""
    writer = MessageWriter(FAMILY)
    write_classes(writer, helper)
    if is_image(helper.input_shape):
        assert bank is not None
        with writer.section("feature bank") as bits:
            bits.elias_gamma(BANKS.index(bank) + 1)
    writer.rows("head weights", weights.astype(np.int64), row_model(bank, helper))
    return writer.finish()


def read(reader: MessageReader, helper: Helper) -> tuple[BankHead, str]:
    """Decode a head.

    Raises:
        DecodeError: for an unknown bank or more weights than are ever written.
    """
    read_classes(reader, helper)
    bank = None
    if is_image(helper.input_shape):
        with reader.section("feature bank") as bits:
            index = bits.elias_gamma() - 1
        if index >= len(BANKS) or BANKS[index] not in available_banks(helper.input_shape):
            raise DecodeError(f"one of {len(BANKS)} feature banks", f"bank {index}", "use a newer bitcert")
        bank = BANKS[index]
    model = row_model(bank, helper)
    size = len(model.groups) * helper.num_classes
    if size > MAX_WEIGHTS:
        got = f"{len(model.groups)} features and {helper.num_classes} classes"
        raise DecodeError(f"at most {MAX_WEIGHTS} weights", got, "certify a network of your own instead")
    weights = reader.rows("head weights", model)
    used = int((weights[:-1] != 0).any(1).sum())
    name = "inputs" if bank is None else "helper features" + (" of the upright image" if bank.upright else "")
    total = len(model.groups) - 1
    description = f"integer head on {used} of {total} {name}: {np.count_nonzero(weights)} non-zero weights"
    return BankHead(bank, weights, helper), description
