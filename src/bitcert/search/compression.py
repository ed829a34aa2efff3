"""One entry to all compressors: which family a message will be of."""

from __future__ import annotations

import math

from bitcert.codecs.tuned import compress_network
from bitcert.data import Sample
from bitcert.decoder import Helper, Preprocessing
from bitcert.decoder.helper import examples_at_a_time
from bitcert.errors import unknown_name
from bitcert.network import Network, estimate_plan
from bitcert.run import Compressed, Run
from bitcert.search.contenders import FAMILIES, Given, contenders, usual_family
from bitcert.search.halving import search
from bitcert.search.head_features import head_memory_bytes
from bitcert.search.judging import Judge
from bitcert.search.trees import tree_memory_bytes


def compress_built_in(sample: Sample, helper: Helper, run: Run, family: str) -> Compressed:
    """The best message of a built-in family that is found in the run's time.

    Raises:
        InputError: a sample that the family cannot use.
    """
    tried = contenders(Given(sample, helper, families=(family,)))
    if len(tried) == 1:
        return tried[0].compress(sample, helper, run)
    found = search(tried, sample, Judge(sample, run.delta), run)
    if run.checkpoint is not None and not run.stopped:
        for contender in tried:
            run.checkpoint.part(contender.name).remove()
    return found


def compress(
    sample: Sample,
    network: Network | None = None,
    *,
    family: str | None = None,
    preprocessing: Preprocessing | None = None,
    fine_tune: bool = True,
    run: Run | None = None,
) -> Compressed:
    """Compress a network, or train a built-in one for its certificate, on ``sample``.

    Args:
        sample: the training sample; the certificate will be about it.
        network: a captured network, or ``None`` to train a built-in family.
        family: ``"head"`` (helper features and an integer head that selects from them), ``"tree"`` (a decision tree)
            or ``"table"`` (the best of what reads tables). By default a head for images and ``"table"`` for
            everything else.
        preprocessing: fixed before the data were seen; the usual one of the sample if ``None``.
        fine_tune: whether a given network may be fine-tuned while it is quantised.
        run: seed, time budget, device, progress and checkpoint.

    Raises:
        InputError: for an unknown family or a sample the family cannot use.
    """
    run = run or Run()
    architecture = None if network is None else network.architecture
    helper = Helper.for_sample(sample, architecture, preprocessing)
    if network is not None:
        return compress_network(network, sample, helper, run, fine_tune=fine_tune)
    family = family or usual_family(sample.input_shape)
    if family not in FAMILIES:
        raise unknown_name("family", family, FAMILIES)
    return compress_built_in(sample, helper, run, family)


def plan_memory_bytes(sample: Sample, network: Network | None = None) -> int | None:
    """What :func:`compress` will need beside the program: the data and the training state.

    For the built-in families this is the largest one's. ``None`` when it is not known (opaque modules).
    """
    if network is None:
        helper = Helper.for_sample(sample)
        needed = head_memory_bytes(helper, len(sample))
        if usual_family(sample.input_shape) != "head":
            needed = max(needed, tree_memory_bytes(len(sample), math.prod(sample.input_shape)))
        return sample.inputs.nbytes + needed
    batch_size = examples_at_a_time(network.architecture, sample.input_shape, sample.num_classes)
    plan = estimate_plan(network, len(sample), batch_size)
    return sample.inputs.nbytes + 8 * plan.parameter_bytes + max(plan.activation_bytes, plan.gradient_bytes // 8)
