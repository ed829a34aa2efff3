"""One entry to all compressors: which family a message will be of."""

from __future__ import annotations

import math

from bitcert.codecs.tuned import compress_network
from bitcert.data import Sample
from bitcert.decoder import Helper, Preprocessing
from bitcert.decoder.features.edges import is_image
from bitcert.decoder.helper import examples_at_a_time
from bitcert.errors import unknown_name
from bitcert.network import Network, estimate_plan
from bitcert.run import Compressed, Run
from bitcert.search.contenders import Given, contenders
from bitcert.search.halving import search
from bitcert.search.head import compress_head, head_memory_bytes
from bitcert.search.judging import Judge
from bitcert.search.trees import compress_trees, tree_memory_bytes


def compress_table(sample: Sample, helper: Helper, run: Run) -> Compressed:
    """The best message that the built-in families find in the run's time, a decision tree or a head."""
    tried = contenders(Given(sample, helper))
    found = search(tried, sample, Judge(sample, run.delta), run)
    if run.checkpoint is not None and not run.stopped:
        for contender in tried:
            run.checkpoint.part(contender.name).remove()
    return found


FAMILIES = {
    "head": compress_head,
    "tree": compress_trees,
    "table": compress_table,
}
"""The built-in families by the names that users give them; of a table all that can read one."""


def usual_family(sample: Sample) -> str:
    """What is trained where no family is named."""
    return "head" if is_image(sample.input_shape) else "table"


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
    family = family or usual_family(sample)
    if family not in FAMILIES:
        raise unknown_name("family", family, FAMILIES)
    return FAMILIES[family](sample, helper, run)


def plan_memory_bytes(sample: Sample, network: Network | None = None) -> int | None:
    """What :func:`compress` will need beside the program: the data and the training state.

    For the built-in families this is the largest one's. ``None`` when it is not known (opaque modules).
    """
    if network is None:
        helper = Helper.for_sample(sample)
        head, table = head_memory_bytes(helper, len(sample)), not is_image(sample.input_shape)
        tree = tree_memory_bytes(len(sample), math.prod(sample.input_shape)) if table else 0
        return sample.inputs.nbytes + max(head, tree)
    batch_size = examples_at_a_time(network.architecture, sample.input_shape, sample.num_classes)
    plan = estimate_plan(network, len(sample), batch_size)
    return sample.inputs.nbytes + 8 * plan.parameter_bytes + max(plan.activation_bytes, plan.gradient_bytes // 8)
