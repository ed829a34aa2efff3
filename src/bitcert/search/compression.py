"""One entry to all compressors: which family a message will be of."""

from __future__ import annotations

from bitcert.codecs.tuned import compress_network
from bitcert.data import Sample
from bitcert.decoder import Helper, Preprocessing
from bitcert.decoder.helper import examples_at_a_time
from bitcert.errors import unknown_name
from bitcert.network import Network, estimate_plan
from bitcert.run import Compressed, Run
from bitcert.search.head import compress_head, head_memory_bytes

FAMILIES = {
    "head": compress_head,
}
"""The built-in families by the names that users give them."""


def compress(
    sample: Sample,
    network: Network | None = None,
    *,
    family: str = "head",
    preprocessing: Preprocessing | None = None,
    fine_tune: bool = True,
    run: Run | None = None,
) -> Compressed:
    """Compress a network, or train a built-in one for its certificate, on ``sample``.

    Args:
        sample: the training sample; the certificate will be about it.
        network: a captured network, or ``None`` to train a built-in family.
        family: ``"head"``: helper features and an integer head that selects from them.
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
    if family not in FAMILIES:
        raise unknown_name("family", family, FAMILIES)
    return FAMILIES[family](sample, helper, run)


def plan_memory_bytes(sample: Sample, network: Network | None = None) -> int | None:
    """What :func:`compress` will need beside the program: the data and the training state.

    ``None`` when it is not known (opaque modules).
    """
    if network is None:
        helper = Helper.for_sample(sample)
        return sample.inputs.nbytes + head_memory_bytes(helper, len(sample))
    batch_size = examples_at_a_time(network.architecture, sample.input_shape, sample.num_classes)
    plan = estimate_plan(network, len(sample), batch_size)
    return sample.inputs.nbytes + 8 * plan.parameter_bytes + max(plan.activation_bytes, plan.gradient_bytes // 8)
