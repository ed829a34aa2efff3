"""The codecs that train nothing, one after the other at their usual strengths, as one contender.

Each message is counted on the whole sample; the next codec starts where the last share of time ended. Not guaranteed:
that there is time for all of them; the order is that of the registry.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from bitcert.codecs.base import Codec
from bitcert.counting import DecisionRule, count_errors
from bitcert.data import Sample
from bitcert.decoder import Helper, decode_message
from bitcert.errors import BitcertError
from bitcert.network import Network
from bitcert.run import Candidate, Compressed, Run


@dataclass(frozen=True, eq=False)
class PlainCodecs:
    """The compressor of a given network by these codecs; it continues from its checkpoint."""

    codecs: Sequence[Codec]
    network: Network

    def __call__(self, sample: Sample, helper: Helper, run: Run) -> Compressed:
        """The best message of as many codecs as there is time for, of one at least.

        Raises:
            BitcertError: all of them refuse this network; the first refusal is told.
        """
        best, first = _restore(run)
        refusal: BitcertError | None = None
        for k in range(first, len(self.codecs)):
            if best is not None and run.fraction >= 1.0:
                break
            run.progress("trying codecs", k / len(self.codecs))
            codec = self.codecs[k]
            try:
                compressed = codec.encode(self.network, sample, helper=helper, run=run.share(1e9))
            except BitcertError as error:
                refusal = refusal or error
            else:
                classifier = decode_message(compressed.message, helper).classifier
                errors = count_errors(classifier, sample, DecisionRule(helper.batch_size)).errors
                bits = 8 * len(compressed.message)
                candidate = run.consider(codec.label, errors, len(sample), bits)
                if best is None or (candidate.bound, errors, bits) < best[:3]:
                    best = candidate.bound, errors, bits, compressed.message
            _save(run, best, k + 1)
        if best is None:
            assert refusal is not None
            raise refusal
        return Compressed(best[3], decode_message(best[3], helper).ledger, helper, tuple(run.candidates))


_Best = tuple[float, int, int, bytes]


def _save(run: Run, best: _Best | None, done: int) -> None:
    if run.checkpoint is None or best is None:
        return
    values = {"done": done, "best": best[:3], "seconds": run.seconds, "candidates": [asdict(c) for c in run.candidates]}
    run.checkpoint.save(values, {"message": torch.from_numpy(np.frombuffer(best[3], dtype=np.uint8).copy())})


def _restore(run: Run) -> tuple[_Best | None, int]:
    loaded = run.checkpoint.load() if run.checkpoint is not None else None
    if loaded is None:
        return None, 0
    values: Any = loaded[0]
    run.spent_before(float(values["seconds"]))
    run.candidates[:] = [Candidate(**candidate) for candidate in values["candidates"]]
    bound, errors, bits = values["best"]
    return (float(bound), int(errors), int(bits), loaded[1]["message"].numpy().tobytes()), int(values["done"])
