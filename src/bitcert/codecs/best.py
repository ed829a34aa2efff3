"""The best of several codecs on one network: encode with each, decode, count errors, keep the smallest bound.

Every message tried is a word of one prefix code, so choosing among them after seeing the errors costs nothing
(docs/theory.md section 2; the union bound is over all messages). Codecs that train share what is left of the time
budget. Not guaranteed: that any message found has a bound below one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from bitcert.codecs.base import Codec
from bitcert.coding import MessageReader
from bitcert.counting import DecisionRule, count_errors
from bitcert.data import Sample
from bitcert.decoder import Helper, decode_message, network_head
from bitcert.decoder.tensors import FAMILY, Base, read_codes
from bitcert.errors import BitcertError
from bitcert.network import Network
from bitcert.run import Candidate, Compressed, Run


def is_trained(codec: Codec | type[Codec]) -> bool:
    """Whether encoding trains on the sample for as long as its run allows."""
    return bool(getattr(codec, "trained", False))


def encode_best(codecs: Sequence[Codec], network: Network, sample: Sample, helper: Helper, run: Run) -> Compressed:
    """The message with the smallest bound among the codecs' messages; ``run.candidates`` lists all that were tried.

    Args:
        codecs: at least one; what a codec refuses for this network is skipped while another one works.
        network: captured, with its trained values.
        sample: the training sample, on which errors are counted.
        helper: fixed before the data were seen; public weights in it that the best message does not use are left out.
        run: seed, time budget for the codecs that train, delta, progress; its checkpoint is used by a lone codec.

    Raises:
        BitcertError: every codec refuses this network; the first refusal is told.
    """
    if len(codecs) == 1 and is_trained(codecs[0]):
        return without_unused_weights(codecs[0].encode(network, sample, helper=helper, run=run))
    best: tuple[float, int, Compressed] | None = None
    refusal: BitcertError | None = None
    ordered = sorted(codecs, key=is_trained)
    for k, codec in enumerate(ordered):
        run.progress("trying codecs", k / len(ordered))
        if run.stopped and best is not None:
            break
        try:
            compressed = codec.encode(network, sample, helper=helper, run=_share(run, len(ordered) - k))
            candidate = _book(codec, compressed, sample, run)
        except BitcertError as error:
            refusal = refusal or error
            continue
        if best is None or (candidate.bound, candidate.message_bits) < best[:2]:
            best = candidate.bound, candidate.message_bits, compressed
    if best is None:
        assert refusal is not None
        raise refusal
    return replace(without_unused_weights(best[2]), candidates=tuple(run.candidates))


def without_unused_weights(compressed: Compressed) -> Compressed:
    """The same message without public weights in the helper, if no tensor refers to them."""
    if compressed.helper.weights is None:
        return compressed
    reader = MessageReader(compressed.message)
    if reader.family == network_head.FAMILY:
        return compressed
    codes = read_codes(reader, compressed.helper).codes.values() if reader.family == FAMILY else ()
    if any(code.base is Base.FILE for code in codes):
        return compressed
    return replace(compressed, helper=replace(compressed.helper, weights=None))


def _share(run: Run, num_left: int) -> Run:
    """An equal share of the time that is left, without a checkpoint; it stops when ``run`` does."""
    return run.share(max(1.0, (run.budget_seconds - run.seconds) / num_left))


def _book(codec: Codec, compressed: Compressed, sample: Sample, run: Run) -> Candidate:
    decoded = decode_message(compressed.message, compressed.helper)
    rule = DecisionRule(compressed.helper.batch_size)
    count = count_errors(decoded.classifier, sample, rule, run.progress)
    return run.consider(codec.label, count.errors, len(sample), 8 * len(compressed.message))
