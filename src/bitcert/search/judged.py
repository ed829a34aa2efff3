"""The best message of a search that may be for a surrogate: then disagreements with the original count beside errors.

A search that only minimised its own certificate would end with a message that is too good for the first summand of the
bound and too bad for the second (:mod:`bitcert.search.judging`). Nothing here is evidence; the certificate counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from torch import Tensor

from bitcert.coding import Ledger
from bitcert.data import Sample
from bitcert.decoder import Decoded, Helper
from bitcert.run import Best, Candidate, Compressed, Run
from bitcert.search.judging import Judge, answers_in, errors_per_bit


class JudgedBest(Best):
    """As :class:`~bitcert.run.Best`, ranked by the bound of the original network where there is one.

    Args:
        sample: the training sample.
        helper: what the messages are decoded with.
        run: seed, budget, progress and checkpoint.
        judge: of the surrogates of an original network; ``None`` to rank by the message's own certificate.

    Attributes:
        worths: of the surrogates that were booked.
    """

    def __init__(self, sample: Sample, helper: Helper, run: Run, judge: Judge | None) -> None:
        super().__init__(sample, helper, run)
        self.judge = judge
        self.worths: dict[Candidate, Candidate] = {}

    def worth(self, logits: Tensor, labels: Tensor, targets_t: Tensor | None, bits: int) -> Candidate | None:
        """Of a surrogate with these logits ``[m, classes]``, whose original has the soft labels ``targets_t``."""
        if self.judge is None or targets_t is None:
            return None
        return self.judge.surrogate(logits, labels.numpy(), answers_in(targets_t, labels), bits)

    def consider(
        self,
        name: str,
        errors: int,
        message: bytes,
        ledger: Ledger,
        estimated: bool = False,
        worth: Candidate | None = None,
    ) -> Candidate:
        """Book a message with its errors; of a surrogate its ``worth`` decides whether it is the best one."""
        candidate = self.run.consider(name, errors, len(self.sample), 8 * len(message), estimated)
        if worth is not None:
            self.worths[candidate] = worth
        self.offer(candidate, Compressed(message, ledger, self.helper))
        return candidate

    def consider_majority(self, errors: int, message: bytes, ledger: Ledger) -> None:
        """Book the most frequent class; an original network is taken to answer otherwise where that class is wrong."""
        worth = None if self.judge is None else self.judge.worth(errors, 8 * len(message), errors)
        JudgedBest.consider(self, "majority class", errors, message, ledger, worth=worth)

    def rank(self, candidate: Candidate) -> tuple[float, ...]:
        """By the bound, of a surrogate by that of the original network."""
        return (self.worths.get(candidate, candidate).bound,)

    def price(self, candidate: Candidate) -> float:
        """Of a bit, on the 0/1 error."""
        if self.judge is not None and candidate in self.worths:
            return self.judge.price(self.worths[candidate])
        return errors_per_bit(candidate.errors / len(self.sample), candidate.bound)

    def write_checkpoint(self, **values: object) -> None:
        """As the base does, with the worth of the best message."""
        worth = None if self.best is None else self.worths.get(self.best.candidates[0])
        super().write_checkpoint(**values, worth=None if worth is None else asdict(worth))

    def read_checkpoint(self) -> tuple[Mapping[str, Any], Decoded] | None:
        """As the base does, with the worth of the best message."""
        state = super().read_checkpoint()
        if state is not None and state[0].get("worth") is not None and self.best is not None:
            self.worths[self.best.candidates[0]] = Candidate(**state[0]["worth"])
        return state
