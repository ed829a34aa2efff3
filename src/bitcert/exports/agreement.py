"""Does an exported classifier decide as the certified one? Compared on a batch, which is a test and NOT a proof.

The rule: of each example, no logit may differ by more than half the certificate's tolerance times the largest
``|logit|``. Where the two largest logits are farther apart than the tolerance, the class is then the same; where they
are not, the certificate counts an error whichever class is answered. So an export that followed the rule on all inputs
would be covered by the bound.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from bitcert.certificates.loading import Certified
from bitcert.counting import DecisionRule
from bitcert.decoder.trees import TreeClassifier
from bitcert.errors import InputError

EXAMPLES = 64
MOST_EXAMPLES = 1000
_SEED = 0


@dataclass(frozen=True)
class Agreement:
    """On how many examples an export was compared, and how far its logits were off.

    ``deviation`` is the largest difference of a logit, relative to the largest ``|logit|`` of its example.
    """

    examples: int
    deviation: float
    allowed: float


def random_inputs(certified: Certified, count: int = EXAMPLES) -> Tensor:
    """Raw inputs ``[count, ...]``, always the same: uniform and normal numbers of the size that is divided by.

    For a tree half of all numbers are thresholds, where its tests are closest; for tokens any that the tables have.
    """
    shape, generator = (count, *certified.like.input_shape), torch.Generator().manual_seed(_SEED)
    predictor = certified.helper.predictor
    if certified.input_dtype == torch.int64:
        tables = [spec.shape[0] for spec in getattr(predictor, "parameters", ()) if spec.kind == "table"]
        return torch.randint(0, min(tables, default=2), shape, generator=generator)
    uniform, normal = torch.rand(shape, generator=generator), torch.randn(shape, generator=generator)
    inputs = torch.where(torch.arange(count).reshape(-1, *(1,) * (len(shape) - 1)) % 2 == 0, uniform, normal)
    inputs = inputs * certified.helper.preprocessing.scale
    if isinstance(certified.decoded.classifier, TreeClassifier):
        thresholds = certified.decoded.classifier.tensors["value"].float()
        chosen = thresholds[torch.randint(0, len(thresholds), shape, generator=generator)]
        inputs = torch.where(torch.rand(shape, generator=generator) < 0.5, chosen, inputs)
    return inputs


def compare(certified: Certified, exported: Callable[[Tensor], Tensor], inputs: Tensor) -> Agreement:
    """Compare on ``inputs [batch, ...]``, whole and the first one alone.

    Raises:
        InputError: the exported one breaks the rule, or fails.
    """
    allowed = DecisionRule().tolerance / 2
    worst, what = 0.0, "logits as the certified classifier's"
    for batch in (inputs, inputs[:1]):
        with torch.no_grad():
            expected = certified(batch)
            try:
                found = exported(batch)
            except Exception as error:  # of whatever runs it
                line = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
                raise InputError(what, f"an exported one that fails ({line})", "choose another format") from error
        if found.shape != expected.shape:
            raise InputError(what, f"a shape of {list(found.shape)}", "choose another format")
        size = expected.abs().amax(1).clamp_min(torch.finfo(torch.float32).tiny)
        off = ((found - expected).abs().amax(1) / size).nan_to_num(nan=torch.inf)
        worst = max(worst, float(off.max()))
    if worst > allowed:
        got = f"a difference of {worst:.2g} of the largest"
        raise InputError(f"{what}, within {allowed:.2g} of the largest", got, "choose another format")
    return Agreement(len(inputs), worst, allowed)
