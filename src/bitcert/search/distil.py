"""Soft labels from an original network, for a surrogate that is to agree with it.

``target = weight * softmax(logits / temperature) + (1 - weight) * label`` (Hinton et al. 2015). The certificate of the
original network is ``errors of the surrogate + disagreements on unlabelled data`` (docs/theory.md section 2). The
unlabelled examples may not be looked at while a surrogate is chosen, so it learns the network's answers on the training
sample. Not promised: that the two agree as often on new data.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from bitcert.counting import Classifier
from bitcert.data import Role, Sample
from bitcert.errors import InputError

BATCH_SIZE = 500


def _refuse_unlabelled(sample: Sample) -> None:
    if sample.role in (Role.UNLABELLED, Role.HOLDOUT):
        do = "estimate on the training sample, or on what the prior part left of it"
        raise InputError("examples that may be looked at while a surrogate is chosen", f"role {sample.role.value}", do)


def network_logits(network: Classifier, sample: Sample) -> NDArray[np.float32]:
    """Logits ``[m, outputs]`` of raw inputs, in batches.

    Raises:
        InputError: a sample that may not be looked at.
    """
    _refuse_unlabelled(sample)
    with torch.no_grad():
        parts = [network(inputs).detach().float().cpu().numpy() for inputs, _ in sample.batches(BATCH_SIZE)]
    return np.concatenate(parts)


def distillation_targets(
    logits: NDArray[np.float32], sample: Sample, temperature: float = 2.0, weight: float = 0.7
) -> NDArray[np.float32]:
    """Soft labels ``[m, classes]`` whose rows sum to 1.

    Args:
        logits: ``[m, classes]`` of the original network on the sample, see :func:`network_logits`.
        sample: labelled training examples.
        temperature: above 1 softens.
        weight: of the network's probabilities, the rest is the label's; 1 copies the network.

    Raises:
        InputError: settings out of range, or logits of another shape.
    """
    if not (np.isfinite(temperature) and temperature > 0 and 0 <= weight <= 1):
        got = f"temperature {temperature}, weight {weight}"
        raise InputError("a positive temperature and a weight in [0, 1]", got, "correct them")
    if logits.shape != (len(sample), sample.num_classes):
        got = f"shape {list(logits.shape)}"
        raise InputError(f"logits for {sample.num_classes} classes", got, "use the network of this problem")
    soft = torch.softmax(torch.from_numpy(logits).double() / temperature, 1).numpy()
    labels = np.eye(sample.num_classes)[sample.labels]
    return np.asarray(weight * soft + (1 - weight) * labels, dtype=np.float32)
